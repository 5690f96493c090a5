"""A downloaded file: what it is by its first bytes, and what the site said about it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.datasets.record import Seconds

# First bytes -> extension, and the demuxer that ffmpeg is bound to. Nothing else counts as audio:
# a playlist or a page in place of it would make a player ask for what it names.
_KINDS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1a\x45\xdf\xa3", "webm", "matroska"),
    (4, b"ftyp", "m4a", "mov"),
    (0, b"OggS", "ogg", "ogg"),
    (0, b"fLaC", "flac", "flac"),
    (0, b"RIFF", "wav", "wav"),
    (0, b"ID3", "mp3", "mp3"),
    (0, b"\xff\xfb", "mp3", "mp3"),
)


@dataclass(frozen=True)
class Downloaded:
    """A file with the audio of one video, or with a section of it."""

    path: Path
    method: str  # "full" or "section"
    offset_s: Seconds  # where in the video the file begins
    duration_s: Seconds | None  # of the whole video, as the site says
    format: str  # "251/webm/opus": the site's number, container and codec


def kind_of(head: bytes) -> tuple[str, str] | None:
    """Detect extension and demuxer of a file by its first bytes; None: no audio that YouTube serves."""
    for offset, magic, extension, demuxer in _KINDS:
        if head[offset : offset + len(magic)] == magic:
            return extension, demuxer
    return None


def format_of(info: dict[str, Any]) -> str:
    """Format the site's number of the chosen format, its container and codec: `251/webm/opus`."""
    parts = (str(info.get(key) or "unknown") for key in ("format_id", "ext", "acodec"))
    return "/".join(re.sub(r"[^\w.+-]", "", part)[:32] for part in parts)
