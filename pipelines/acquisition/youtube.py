"""One video's audio through yt-dlp as a library, or the true reason why it could not be had.

    download_video("https://www.youtube.com/watch?v=...", folder, Access())  ->  Downloaded | Failure

By default the whole audio comes over plain http(s): yt-dlp's own downloader then sees every status
code. Only what is longer than `Access.section_above_s` is fetched by section, through ffmpeg, which
hides them; so there the address is probed first and the length of the result is checked.

Nothing of a user's yt-dlp configuration is read, but plugins are honored (token providers need it).
"""

import hashlib
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from yt_dlp.globals import supported_js_runtimes

from tutti.datasets.errors import TuttiError
from tutti.datasets.files import temporary_folder
from tutti.datasets.record import Seconds
from tutti.pipelines.acquisition.http_answers import check_allowed
from tutti.pipelines.acquisition.reasons import Failure, classify
from tutti.pipelines.acquisition.youtube_media import Downloaded, format_of, kind_of
from tutti.pipelines.acquisition.youtube_section import can_use_proxy, fetch_section, find_ffmpeg
from tutti.pipelines.acquisition.youtube_session import (
    MAX_FILE_BYTES,
    Access,
    Log,
    Session,
    is_allowed,
    parameters,
    read_cookies,
    runtimes,
)

__all__ = ["Access", "Downloaded", "Failure", "download_video", "is_allowed", "preflight"]

WATCH_URL = "https://www.youtube.com/watch?v="


def download_video(
    url: str, folder: Path, access: Access, span: tuple[Seconds, Seconds] | None = None
) -> Downloaded | Failure:
    """Fetch the audio of one video into `folder`; a failure leaves the folder as it was.

    Args:
        url: the full watch URL, so that no id is ever mistaken for an option or another site.
        folder: where the result goes, named by the URL and the span.
        access: see `Access`.
        span: start and end of what is needed; only a video above `access.section_above_s` is cut to it.

    Raises:
        UsageError: offline; or the cookies file or ffmpeg is missing.
        StorageError: the local disk failed.
    """
    if not url.startswith(WATCH_URL):
        raise ValueError(f"{url}: expected a full watch URL, {WATCH_URL}<id>")
    check_allowed(url)
    with temporary_folder(folder, "video") as temporary:
        log = Log()
        params = parameters(access, temporary, log)
        try:
            with Session(params, access.media_hosts) as session:
                found = _find(session, url)
                if isinstance(found, Failure):
                    return found
                result = _fetch(session, found, temporary, access, span)
        except TuttiError:
            raise
        except Exception as error:
            return classify(error, log.warnings)
        if isinstance(result, Failure):
            return result
        target = folder / (_stem(url, span if result.method == "section" else None) + result.path.suffix)
        result.path.replace(target)
        return Downloaded(target, result.method, result.offset_s, result.duration_s, result.format)


def preflight(access: Access) -> list[str]:
    """List what yt-dlp lacks on this machine, one message each.

    Raises:
        UsageError: what was asked for cannot work: no ffmpeg for sections, no readable cookies file.
    """
    if access.section_above_s is not None:
        find_ffmpeg()
    if access.cookies is not None:
        read_cookies(access.cookies)
    messages = []
    if not runtimes(os.environ.get("PATH", "")) and "js_runtimes" not in dict(access.options):
        least = ", ".join(
            f"{name} {'.'.join(map(str, runtime.MIN_SUPPORTED_VERSION))}"
            for name, runtime in supported_js_runtimes.value.items()
        )
        messages.append(
            f"YouTube: no JavaScript runtime on PATH that yt-dlp can use (at least {least}); install one of them, "
            "or most videos will fail as extractor_setup"
        )
    if find_spec("yt_dlp_ejs") is None:
        messages.append(
            "YouTube: the package yt-dlp-ejs is missing, without which yt-dlp solves no JavaScript challenge; "
            "install yt-dlp[default], or videos will fail as extractor_setup"
        )
    return messages


# --- pure parts


def _stem(url: str, span: tuple[Seconds, Seconds] | None) -> str:
    # Ids differ in case only and begin with "-": no file system sees one.
    return hashlib.sha256(json.dumps([url, span]).encode()).hexdigest()[:32]


def _not_playable(found: dict[str, Any] | None, video: str) -> Failure | None:
    """Check an extractor's answer before any format is chosen; None: it is playable."""
    if found is None:
        return Failure("extractor_bug", "the extractor returned nothing")
    kind = found.get("_type", "video")
    if kind in ("playlist", "multi_video"):
        return Failure("extractor_bug", "the site answered with a playlist instead of a video")
    if kind != "video" or found.get("id") != video:
        return Failure("no_formats", "the site leads to another video, such as a trailer")
    if found.get("live_status") in ("is_live", "is_upcoming", "post_live"):
        return Failure("no_formats", f"not a finished recording: {found['live_status']}")
    return None


def _find(session: Session, url: str) -> dict[str, Any] | Failure:
    """Extract a video's unprocessed metadata: no format chosen, no media requested."""
    session.get_info_extractor("Youtube")  # registers it, or the plugin's that replaces it
    found = cast("dict[str, Any] | None", session.extract_info(url, ie_key="Youtube", process=False))
    return _not_playable(found, url.removeprefix(WATCH_URL)) or cast("dict[str, Any]", found)


def _fetch(
    session: Session, found: dict[str, Any], temporary: Path, access: Access, span: tuple[Seconds, Seconds] | None
) -> Downloaded | Failure:
    duration_s = None if found.get("duration") is None else float(found["duration"])
    above_s = access.section_above_s
    is_long = above_s is not None and duration_s is not None and duration_s > above_s
    if is_long and span is not None and duration_s is not None and can_use_proxy(access.proxy):
        return fetch_section(session, found, temporary, span, duration_s, access.proxy)
    return _fetch_full(session, found, temporary, duration_s)


def _fetch_full(
    session: Session, found: dict[str, Any], temporary: Path, duration_s: Seconds | None
) -> Downloaded | Failure:
    info = session.process_ie_result(found, download=True)
    path = next((file for file in temporary.glob("media.*") if file.suffix != ".part"), None)
    if path is None:  # yt-dlp only prints it where Content-Length is above max_filesize
        return Failure("no_formats", f"nothing was written; the file may be larger than {MAX_FILE_BYTES} bytes")
    size, promised = path.stat().st_size, info.get("filesize")
    if promised is not None and size < promised:
        return Failure("timeout", f"the body broke off: {size} of {promised} bytes")
    with path.open("rb") as stream:
        kind = kind_of(stream.read(16))
    if kind is None:
        return Failure("no_formats", "the media server sent something that is not audio")
    named = path.rename(path.with_suffix(f".{kind[0]}"))
    return Downloaded(named, "full", 0.0, duration_s, format_of(info))
