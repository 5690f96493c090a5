"""An index of the user's folders (`--data-from DIR`), made once per process."""

import functools
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tutti.datasets.audio_files import is_audio_name
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import UNREACHABLE, is_file_entry, is_folder_entry
from tutti.datasets.litter import is_litter
from tutti.datasets.user_text import decode_text, nfc

_TIME = r"\d{1,9}(?:\.\d{1,9})?"
# No name fits twice: after a leading Y there are either 11 characters of the id, or 10.
_NAME = re.compile(
    rf"Y?(?P<id>[A-Za-z0-9_-]{{11}})(?:_(?P<start>{_TIME})(?:_(?P<end>{_TIME}))?)?\.[A-Za-z0-9]{{2,4}}",
    re.ASCII,
)
_TITLED = re.compile(r".* \[(?P<id>[A-Za-z0-9_-]{11})\]\.[A-Za-z0-9]{2,4}", re.ASCII | re.DOTALL)  # yt-dlp's own names
MAX_SUMS_BYTES = 64 << 20  # 500,000 files
MAX_SUMS_LINES = 1_000_000
MAX_PATH_CHARS = 4096  # PATH_MAX of Linux
SHOWN_CHARS = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SUMS_LINE = re.compile(r"([0-9a-f]{64}) [ *]?(?:\./)?(.+)")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Named:
    """The parsed claim of a file name."""

    video_id: str
    start: str | None = None  # as written: seconds or milliseconds
    end: str | None = None


@dataclass(frozen=True)
class Index:
    """All files below the user's folders, as strings: about 90 bytes of memory each, for there may be millions."""

    folders: tuple[tuple[str, str], ...]  # (root, path below it), in the order of the search
    videos: tuple[str, ...]  # "<video id>/<number of folder>/<name>", sorted
    others: tuple[str, ...]  # "<number of folder>/<name>", in the order of the search
    strays: tuple[str, ...] = ()  # names of audio files that hold no id, in the order of the search


def parse_name(name: str) -> Named | None:
    """Parse the claim of a file name; None for a name that is no scheme of ours or no audio."""
    if not is_audio_name(name):
        return None
    if (match := _NAME.fullmatch(name)) is not None:
        return Named(match["id"], match["start"], match["end"])
    titled = _TITLED.fullmatch(name)
    return None if titled is None or is_litter(name) else Named(titled["id"])


def parse_sums(content: bytes, name: str) -> dict[str, str]:
    """Parse a SHA256SUMS: path -> digest; a byte order mark, comments and blank lines at the end are passed over.

    Raises:
        IntegrityError: it is UTF-16, a line is not `<64 hex digits>  <path>` with a path below the folder, or a path
            has two digests.
    """
    sums: dict[str, str] = {}
    if content.count(b"\n") > MAX_SUMS_LINES:
        raise IntegrityError(f"{name}: more than {MAX_SUMS_LINES:,} lines; is this the file that is meant?")
    text = decode_text(content, name, bytes_pass=True, error=IntegrityError).rstrip("\r\n")
    ends = "\n" if "\n" in text else "\r"  # a name may hold anything but the end of a line
    for number, line in enumerate(text.split(ends) if text else [], start=1):
        line = line.removesuffix("\r")
        if line.startswith("#"):
            continue
        match = _SUMS_LINE.fullmatch(line)
        if match is None or len(match[2]) > MAX_PATH_CHARS:
            raise IntegrityError(f"{name}:{number}: expected '<sha256>  <path>', got {line[:SHOWN_CHARS]!r}")
        path = match[2]
        if path.startswith("/") or ".." in path.split("/") or _CONTROL.search(path):
            raise IntegrityError(f"{name}:{number}: expected a path below the folder, got {path[:SHOWN_CHARS]!r}")
        if sums.setdefault(path, match[1]) != match[1]:
            raise IntegrityError(f"{name}:{number}: {path[:SHOWN_CHARS]!r} has another digest further up")
    return sums


@functools.lru_cache(maxsize=64)
def sums_of(root: str) -> dict[str, str]:
    """Read the SHA256SUMS at the top of a folder, path -> digest; empty without one."""
    content = read_sums(Path(root))
    return {} if content is None else parse_sums(content, str(Path(root) / "SHA256SUMS"))


def listed_sum(root: str, path: str) -> str | None:
    """Find a file in the SHA256SUMS at the top of its folder: by its name as it stands, then in any Unicode form."""
    sums = sums_of(root)
    if path in sums or path.isascii():
        return sums.get(path)
    found = {digest for listed, digest in sums.items() if not listed.isascii() and nfc(listed) == nfc(path)}
    return found.pop() if len(found) == 1 else None


def read_sums(folder: Path) -> bytes | None:
    """Read the bytes of a folder's SHA256SUMS; None where it has none.

    Raises:
        IntegrityError: it is far too large.
    """
    path = folder / "SHA256SUMS"
    if not path.is_file():  # not a pipe or a device, which would have no end
        return None
    with path.open("rb") as stream:
        content = stream.read(MAX_SUMS_BYTES + 1)
    if len(content) > MAX_SUMS_BYTES:
        raise IntegrityError(f"{path}: larger than {MAX_SUMS_BYTES:,} bytes; is this the file that is meant?")
    return content


@functools.lru_cache(maxsize=4)
def index_of(roots: tuple[str, ...]) -> Index:
    """List the files below the user's folders; looked up once per process.

    Links are followed: it is the user's own disk. Names are those of the directory entries, so
    ids that differ in case only stay apart on any file system.

    Raises:
        UsageError: a root is no folder.
    """
    folders: list[tuple[str, str]] = []
    videos: list[str] = []
    others: list[str] = []
    strays: list[str] = []
    seen: set[tuple[int, int]] = set()  # a link may lead to a folder above
    for root in roots:
        if not os.path.isdir(root):
            raise UsageError(f"--data-from {root}: no such folder; pass the folder that holds your audio or archives")
        for below, names in _walk(root, seen):
            for name in names:
                named = parse_name(name)
                if named is not None:
                    videos.append(f"{named.video_id}/{len(folders)}/{name}")
                elif not is_audio_name(name):
                    others.append(f"{len(folders)}/{name}")
                elif not is_litter(name):
                    strays.append(name)
            folders.append((root, below))
    return Index(tuple(folders), tuple(sorted(videos)), tuple(others), tuple(strays))


def _walk(root: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, list[str]]]:
    """Yield (path below the root, sorted names of its files) of every folder, those near the root first."""
    level = [""]
    while level:
        deeper: list[str] = []
        for below in level:
            folder = os.path.join(root, below)
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as listing:
                    # Not a pipe or a device, which would block its reader, nor a link to nowhere.
                    kinds = ((e.name, is_folder_entry(e), is_file_entry(e)) for e in listing)
                    entries = sorted((name, is_folder) for name, is_folder, is_file in kinds if is_folder or is_file)
            except OSError as error:  # lost+found; a folder removed meanwhile
                if error.errno not in UNREACHABLE:
                    raise
                _log.warning("--data-from: %s is left out: %s", folder, error.strerror)
                continue
            yield below, [name for name, is_folder in entries if not is_folder]
            deeper += [os.path.join(below, name) for name, is_folder in entries if is_folder]
        level = deeper
