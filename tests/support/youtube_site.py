"""A scripted YouTube: a plugin in place of yt-dlp's extractor, and media on a loopback server.

    site = Site(folder, server)
    site.video("AAAAAAAAAAA", media=webm(sine(1.0)))           # one that works
    site.fails("BBBBBBBBBBB", "Private video")                 # one that does not
    site.every("C.{10}", fails("Video unavailable"), plays(server.url + "/all.webm"))  # thousands, by pattern

    site.enter(monkeypatch)                                    # for this process
    subprocess.run(..., env={**os.environ, **site.environment()})  # for another one

Each call for a video takes the next of its answers; the last one stays. `site.calls()` lists the calls
of all processes. Nothing of the code under test knows of it.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yt_dlp.plugins
from server import Answer, Server

PLUGINS = Path(__file__).resolve().parent / "fake_youtube"
Reply = dict[str, Any]


def watch_url(video: str) -> str:
    """The full watch URL."""
    return f"https://www.youtube.com/watch?v={video}"


def fails(message: str, *, error: str = "no_formats", **more: Any) -> Reply:
    """An answer that raises: as the player's words (no_formats), "geo", "crash", or a class of yt_dlp.utils."""
    return {"error": error, "message": message, **more}


def audio_format(url: str, **more: Any) -> dict[str, Any]:
    """One audio format as the YouTube extractor lists it."""
    is_m4a = url.endswith(".m4a")
    base = {
        "format_id": "140" if is_m4a else "251",
        "ext": "m4a" if is_m4a else "webm",
        "acodec": "mp4a.40.2" if is_m4a else "opus",
        "vcodec": "none",
        "abr": 128,
        "url": url,
    }
    return {**base, **more}


def plays(*urls: str, duration: float | None = None, warnings: tuple[str, ...] = (), **more: Any) -> Reply:
    """An answer with one audio format per address; "{id}" in it stands for the video's id."""
    return {
        "formats": [audio_format(url, **more) for url in urls],
        "duration": duration,
        "warnings": list(warnings),
    }


class Site:
    """The script of a fake YouTube, kept in a folder so that other processes see it."""

    def __init__(self, folder: Path, server: Server, *, counts: bool = True) -> None:
        """`counts` False: log calls only where the number of a call matters (thousands of videos)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.log = folder / "youtube.json", folder / "youtube-calls.txt"
        self.server = server
        self._script: dict[str, Any] = {"log": str(self.log), "counts": counts, "videos": {}, "rules": []}
        self._write()

    def answers(self, video: str, *replies: Reply) -> None:
        """What one video answers."""
        self._script["videos"][video] = list(replies)
        self._write()

    def every(self, pattern: str, *replies: Reply) -> None:
        """What all videos whose id matches a regular expression answer."""
        self._script["rules"].append([pattern, list(replies)])
        self._write()

    def fails(self, video: str, message: str, **more: Any) -> None:
        """A video that cannot be had."""
        self.answers(video, fails(message, **more))

    def video(self, video: str, *, media: bytes, extension: str = "webm", duration: float | None = None) -> str:
        """A video that can be had; its media's path on the server."""
        path = f"/videoplayback/{video}.{extension}"
        self.server.script(path, Answer(body=media))
        self.answers(video, plays(self.server.url + path, duration=duration))
        return path

    def calls(self) -> Counter[str]:
        """How often each video was asked for, over all processes."""
        return Counter(self.log.read_text().splitlines() if self.log.exists() else [])

    def environment(self) -> dict[str, str]:
        """Environment variables for a process that shall see this site."""
        inherited = os.environ.get("PYTHONPATH")
        return {
            "FAKE_YOUTUBE": str(self.path),
            "PYTHONPATH": f"{PLUGINS}{os.pathsep}{inherited}" if inherited else str(PLUGINS),
            "NO_PROXY": "127.0.0.1",
        }

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Show this site to the running process; the plugin stays in it, for real pages are never wanted."""
        monkeypatch.setenv("FAKE_YOUTUBE", str(self.path))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        if str(PLUGINS) not in sys.path:
            sys.path.append(str(PLUGINS))
            yt_dlp.plugins.load_all_plugins()

    def _write(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._script))
        temporary.replace(self.path)
