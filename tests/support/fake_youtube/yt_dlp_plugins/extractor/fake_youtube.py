"""A yt-dlp plugin that replaces the YouTube extractor by a script; see tests/support/youtube_site.py.

yt-dlp finds it where `tests/support/fake_youtube` is on PYTHONPATH or sys.path. Everything but the site's
pages stays real: choice of formats, requests, downloaders, the way errors are raised and wrapped.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from yt_dlp import utils
from yt_dlp.extractor.youtube import YoutubeIE

_scripts: dict[tuple[str, int], Any] = {}


def _script() -> Any:
    path = os.environ["FAKE_YOUTUBE"]
    key = (path, os.stat(path).st_mtime_ns)
    if key not in _scripts:
        _scripts.clear()
        _scripts[key] = json.loads(Path(path).read_text())
    return _scripts[key]


def _answers(script: Any, video: str) -> list[dict[str, Any]]:
    if video in script["videos"]:
        return script["videos"][video]
    for pattern, answers in script["rules"]:
        if re.fullmatch(pattern, video):
            return answers
    return [{"error": "ExtractorError", "message": "Video unavailable", "expected": True}]


def _number_of_this_call(log: str, video: str) -> int:
    """0 for the first call for this video in any process; each call appends one line."""
    path = Path(log)
    earlier = path.read_text().splitlines().count(video) if path.exists() else 0
    with path.open("a") as stream:
        stream.write(f"{video}\n")
    return earlier


class _FakeYoutubeIE(YoutubeIE, plugin_name="tutti-fake"):
    def _real_initialize(self) -> None:
        """Ask no page for consent or preferences."""

    def _real_extract(self, url: str) -> dict[str, Any]:
        video = self._match_id(url)
        script = _script()
        answers = _answers(script, video)
        number = _number_of_this_call(script["log"], video) if len(answers) > 1 or script["counts"] else 0
        answer = answers[min(number, len(answers) - 1)]
        for warning in answer.get("warnings", ()):
            self.report_warning(warning)
        if "page" in answer:  # a real request while the page is read
            self._download_webpage(answer["page"], video)
        if "error" in answer:
            self._fail(answer, video)
        if "result" in answer:  # as it stands: playlists, references to other videos
            return answer["result"]
        formats = json.loads(json.dumps(answer["formats"]).replace("{id}", video))
        return {
            "id": video,
            "title": f"Video {video}",
            "duration": answer.get("duration"),
            "live_status": answer.get("live_status", "not_live"),
            "formats": formats,
        }

    def _fail(self, answer: dict[str, Any], video: str) -> None:
        kind, message = answer["error"], answer.get("message", "")
        if kind == "no_formats":  # how the YouTube extractor reports what the player says
            self.raise_no_formats(message, expected=True, video_id=video)
        if kind == "geo":
            self.raise_geo_restricted(message, answer.get("countries"), metadata_available=True)
        if kind == "crash":
            raise TypeError(message)
        if kind == "ExtractorError":
            raise utils.ExtractorError(message, expected=answer.get("expected", False), video_id=video)
        raise getattr(utils, kind)(message)
