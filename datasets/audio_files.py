"""Names of audio files: the one list of suffixes, of what the pinned decoders read (datasets/decoder.py)."""

from pathlib import PurePath

# In the order in which a mirror is asked for a video: what YouTube gives first. A test decodes one file of each.
AUDIO_SUFFIXES = (
    ".webm", ".m4a", ".opus", ".ogg", ".mp3", ".flac", ".wav", ".mp4", ".mka", ".mkv", ".oga", ".mp2", ".aif", ".aiff",
    ".aifc", ".au", ".caf",
)  # fmt: skip
_KNOWN = frozenset(AUDIO_SUFFIXES)


def is_audio_name(name: str | PurePath) -> bool:
    """Whether a file, by its suffix, may hold audio that can be decoded."""
    return PurePath(name).suffix.lower() in _KNOWN
