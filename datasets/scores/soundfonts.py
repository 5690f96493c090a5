"""Soundfonts on this machine: where they lie, and the digests that name them wherever they lie.

A rendering depends on its soundfont as a photograph on its lens, so keys and manifests name the digest.
Looked for: the files and folders in `$TUTTI_SOUNDFONTS` (separated as in PATH); without it the usual places.
"""

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import file_sha256

VARIABLE = "TUTTI_SOUNDFONTS"
INSTALL = "apt install fluidsynth fluid-soundfont-gm"
USUAL_PLACES = (
    Path("/usr/share/sounds/sf2"),  # Debian, Ubuntu
    Path("/usr/share/sounds/sf3"),
    Path("/usr/share/soundfonts"),  # Fedora, Arch
    Path("/usr/local/share/soundfonts"),  # FreeBSD, from source
    Path("/opt/homebrew/share/soundfonts"),  # macOS
)
FAVORITE = "FluidR3_GM.sf2"  # MIT, in every distribution: taken where nothing else is asked for
SHORT = 12  # hexadecimal digits that name a soundfont in keys

_RIFF, _KIND = b"RIFF", b"sfbk"  # SoundFont 2.04, section 4


@dataclass(frozen=True)
class Soundfont:
    """A file, the sha256 of its bytes, and their number."""

    path: Path
    sha256: str
    num_bytes: int = 0

    @property
    def key(self) -> str:
        """The digest's first digits."""
        return self.sha256[:SHORT]


def find_soundfonts() -> tuple[Soundfont, ...]:
    """Find the soundfonts of `$TUTTI_SOUNDFONTS`, else the favorite of the usual places, else the first there.

    Raises:
        UsageError: there is none, or a file is none; the message says what to install.
    """
    if named := os.environ.get(VARIABLE):
        if not (paths := [Path(text).expanduser() for text in named.split(os.pathsep) if text]):
            raise UsageError(f"{VARIABLE}={named!r}: names no file and no folder; correct or unset it")
        return open_soundfonts(paths)
    found = [path for place in USUAL_PLACES if place.is_dir() for path in _files_in(place)]
    if not found:
        raise UsageError(f"no soundfont in {USUAL_PLACES[0]} or the other usual places; {INSTALL}, or set ${VARIABLE}")
    return (open_soundfont(min(found, key=lambda path: path.name != FAVORITE)),)


def open_soundfonts(paths: Iterable[Path]) -> tuple[Soundfont, ...]:
    """Open files, and all soundfonts of folders, sorted by digest.

    Raises:
        UsageError: a file is missing or no soundfont, or a folder holds none.
    """
    fonts: dict[str, Soundfont] = {}
    for path in paths:
        files = _files_in(path) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"soundfonts: {path} holds no .sf2 or .sf3; {INSTALL}")
        for file in files:
            font = open_soundfont(file)
            fonts[font.sha256] = font
    return tuple(font for _, font in sorted(fonts.items()))


def open_soundfont(path: Path) -> Soundfont:
    """Open and hash one soundfont.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
        status = path.stat()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"soundfont {path}: {reason}; name a .sf2 or .sf3 file, or {INSTALL}") from error
    if head[:4] != _RIFF or head[8:] != _KIND:
        raise UsageError(f"soundfont {path}: is no SoundFont 2 file; name another, or {INSTALL}")
    digest = _sha256(path.absolute(), status.st_size, status.st_mtime_ns)
    return Soundfont(path.absolute(), digest, status.st_size)


def by_key(key: str, fonts: Sequence[Soundfont]) -> Soundfont:
    """Find the soundfont of a key.

    Raises:
        UsageError: it is not among them.
    """
    for font in fonts:
        if font.key == key:
            return font
    raise UsageError(f"soundfont {key}... is not on this machine; add its file to ${VARIABLE}")


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, num_bytes: int, modified_ns: int) -> str:
    del num_bytes, modified_ns  # of the key only: another file of this name is hashed again
    return file_sha256(path)


def _files_in(folder: Path) -> list[Path]:
    kinds = (".sf2", ".sf3")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in kinds and not path.is_symlink())
