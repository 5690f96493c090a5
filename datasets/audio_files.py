"""Names of audio files: the one list of suffixes, of what the pinned decoders read (datasets/decoding/formats.py)."""

from pathlib import PurePath

from tutti.datasets.litter import is_litter

# In the order in which a mirror is asked for a video: what YouTube gives first. A test decodes one file of each.
AUDIO_SUFFIXES = (
    ".webm", ".m4a", ".opus", ".ogg", ".mp3", ".flac", ".wav", ".mp4", ".mka", ".mkv", ".oga", ".mp2", ".aif", ".aiff",
    ".aifc", ".au", ".caf", ".w64", ".aac", ".mov", ".3gp", ".tta", ".wma",
)  # fmt: skip
_KNOWN = frozenset(AUDIO_SUFFIXES)


def is_audio_name(name: str | PurePath) -> bool:
    """Whether a file, by its name, may hold audio that can be decoded: `._x.wav` is what macOS writes beside x.wav."""
    path = PurePath(name)
    return path.suffix.lower() in _KNOWN and not is_litter(path.name)
