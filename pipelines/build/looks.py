"""Looks of a build's inputs, taken before they are read, and again when the build is done.

A look holds names, sizes, times and inodes of all files, and the contents of small tables (labels, checksums). Links
are followed, each folder once. What a build itself writes, where its output or cache lies within an input, is left out.

A file that changed at the very moment of the look may change again without a trace: times advance in ticks. So a look
is settled only when every file is older than one freshly written; `settled_looks` waits for that tick.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tutti.datasets.copies import fresh_status
from tutti.datasets.manifest import digest_of, version_folder
from tutti.datasets.printable import in_unicode

MAX_TABLE_BYTES = 4 << 20  # larger ones are told by their times alone
TICK_NS = 20_000_000  # 10 ms are the coarsest tick of Linux's clock (HZ=100); twice that
COARSE_TICK_NS = 2_000_000_000  # of file systems that keep no fractions: FAT counts by two seconds
MAX_WAIT_S = 2.5  # for the coarse tick; what is newer then bears a time of the future
ABSENT = "absent"
SHOWN = 3  # changed files that are named

# What builds write into an output root, and into a cache.
OUTPUT = (
    "versions", "current", ".current.new", ".building", ".progress", ".lock", "run.log", ".unchanged.json",
    "last-failed",
)  # fmt: skip
CACHE = ("blobs", "stages", "incoming", "quarantine", "locks", "ledger", "budget", "sample", "hot", ".lock")
# What no reader of ours opens: logs, halves of downloads, what editors leave.
NOISE_SUFFIXES = (".log", ".out", ".err", ".tmp", ".part", ".crdownload", ".swp", ".swo", ".lock", ".pid", "~", "#")

Stamp = tuple[str, int, int, int, str]  # name, size in bytes, mtime and ctime in ns, digest of a table


@dataclass(frozen=True)
class Input:
    """Something outside the cache that a build reads."""

    kind: Literal["files", "version", "web"]
    path: str  # of a file or folder; a version also by its output root; address of a mirror

    def __str__(self) -> str:
        return "the mirror" if self.kind == "web" else self.path  # an address may hold a password


@dataclass(frozen=True)
class Look:
    """The look of an input: digests and stamps, not contents."""

    digest: str | None  # of all there is to see; None: it could not be looked at
    folders: Mapping[str, str] = field(default_factory=dict)  # path below the input -> digest of what builds read there
    newest_ns: int = 0  # latest time of change of an inode


@dataclass(frozen=True)
class Looks:
    """The looks of all inputs before a build read them."""

    of: Mapping[Input, Look]
    begun_ns: int  # time of a file written just before
    settled: bool  # whether any later change of a file must show


LookAt = Callable[[Input], Look]
Own = Mapping[tuple[int, int], tuple[str, ...]]  # device and inode of a folder -> names in it that are not looked at


def own_names(outputs: Iterable[Path], cache: Path) -> Own:
    """Find what builds write, wherever it lies within an input.

    Args:
        outputs: roots; those that are not there yet hold nothing.
        cache: its root.
    """
    named = [*((root, OUTPUT) for root in outputs), (cache, CACHE)]
    found = [(_identity(str(root)), names) for root, names in named]
    own: dict[tuple[int, int], tuple[str, ...]] = {}
    for identity, names in found:
        if identity is not None:
            own[identity] = own.get(identity, ()) + names
    return own


def look_at(wanted: Input, own: Own) -> Look:
    """Digest how a file, a folder or a version looks now.

    Args:
        wanted: no web address.
        own: what is left out.
    """
    if wanted.kind == "version":
        try:
            folder = str(version_folder(Path(wanted.path)))
        except Exception:  # none, or none any more: whoever needs it says more
            return Look(ABSENT)
        seen = _look_below(os.path.join(folder, "manifest"), {})  # no more of it is read; an output may lie beside
        return Look(digest_of([in_unicode(folder), seen.digest]), seen.folders, seen.newest_ns)
    return _look_below(wanted.path, own)


def _look_below(top: str, own: Own) -> Look:
    try:
        status = os.stat(top)
    except OSError:
        return Look(ABSENT)
    if not stat.S_ISDIR(status.st_mode):
        if not stat.S_ISREG(status.st_mode):
            return Look(None)  # a pipe, `--exclude <(...)`: what it gave cannot be looked at again
        stamp = _stamp(top, in_unicode(os.path.basename(top)), status, table=True)
        folders = {"": digest_of(stamp)}
        return Look(digest_of([in_unicode(os.path.realpath(top)), status.st_ino, stamp]), folders, status.st_ctime_ns)
    everything: list[object] = [in_unicode(os.path.realpath(top))]
    folders, newest_ns = {}, 0
    for below, stamps, inodes in _walk(top, own):
        read = [stamp for stamp in stamps if not _is_noise(stamp[0])]
        if read:
            folders[below] = digest_of(read)
        if stamps:
            everything.append([in_unicode(below), digest_of([stamps, inodes])])
        newest_ns = max([newest_ns, *(stamp[3] for stamp in read)])
    return Look(digest_of(everything), folders, newest_ns)


def _walk(top: str, own: Own) -> Iterator[tuple[str, list[Stamp], list[int]]]:
    """Yield path below the top, stamps of the files and their inodes, of each folder once; links are followed."""
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = os.path.join(top, below)
        try:
            identity = _identity(folder)
            if identity is None or identity in seen:
                continue
            seen.add(identity)
            with os.scandir(folder) as listing:
                names = sorted(entry.name for entry in listing)
        except OSError as error:
            yield below, [("", 0, 0, 0, str(error.errno))], []
            continue
        if identity in own:
            names = [name for name in names if name not in own[identity] and not name.endswith(".tmp")]
        stamps: list[Stamp] = []
        inodes: list[int] = []
        for name in names:
            place = os.path.join(folder, name)
            try:
                status = os.stat(place)
            except OSError as error:  # a link to nowhere, or to itself; a file that has just gone
                stamps.append((in_unicode(name), 0, 0, 0, str(error.errno)))
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append(os.path.join(below, name))
            else:
                stamps.append(_stamp(place, in_unicode(name), status))
                inodes.append(status.st_ino)
        yield below, stamps, inodes


def _stamp(place: str, name: str, status: os.stat_result, *, table: bool = False) -> Stamp:
    if not stat.S_ISREG(status.st_mode):
        return name, 0, 0, 0, "no file"  # nobody opens it
    content = ""
    is_table = table or name.endswith(".csv") or name == "SHA256SUMS"
    if is_table and status.st_size <= MAX_TABLE_BYTES:
        try:
            content = hashlib.sha256(Path(place).read_bytes()).hexdigest()
        except OSError as error:
            content = str(error.errno)
    # The time of the inode too: the other can be set, and archives set it to 1970.
    return name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, content


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_noise(name: str) -> bool:
    return name.startswith((".", "#")) or name.endswith(NOISE_SUFFIXES) or name == "nohup.out"


# --- before and after


def settled_looks(inputs: Callable[[], Iterable[Input]], look: LookAt, places: Sequence[Path]) -> Looks:
    """Record the look of all inputs, again after a moment where one has only just changed.

    Args:
        inputs: names them; what one says of others is read after it was looked at.
        look: at one.
        places: folders to write a file into and read its time; where their clocks differ, the earliest counts.
    """
    deadline_s = time.monotonic() + MAX_WAIT_S
    while True:
        now_ns = min(filter(None, map(_fresh_time_ns, places)), default=0)
        seen = {wanted: look(wanted) for wanted in inputs()}
        late_ns = max((_settled_at_ns(found.newest_ns) - now_ns for found in seen.values()), default=0)
        if late_ns <= 0 or now_ns == 0 or time.monotonic() + late_ns / 1e9 > deadline_s:
            return Looks(seen, now_ns, settled=late_ns <= 0)
        time.sleep(late_ns / 1e9)


def _settled_at_ns(changed_ns: int) -> int:
    """Compute the time from which on a change of a file gets another time than the last one."""
    return changed_ns + (TICK_NS if changed_ns % 1_000_000_000 else COARSE_TICK_NS)


def _fresh_time_ns(folder: Path) -> int | None:
    """Read the time of a file written now, by the clock of its file system; None where none can be written."""
    place = next((place for place in (folder, *folder.parents) if place.is_dir()), folder)
    try:
        return fresh_status(place).st_ctime_ns
    except OSError:
        return None


def changed_inputs(before: Looks, look: LookAt) -> list[str]:
    """List what looks otherwise than before the build, as paths for people; noise beside the inputs does not count."""
    changed: list[str] = []
    for wanted, then in before.of.items():
        now = look(wanted)
        if then.digest is None or now.digest is None or then.digest == now.digest:
            continue
        if wanted.kind != "files" or ABSENT in (then.digest, now.digest):
            changed.append(str(wanted))
            continue
        for below in sorted(then.folders.keys() | now.folders.keys()):
            if then.folders.get(below) != now.folders.get(below):
                changed += _newer_files(os.path.join(wanted.path, below), before.begun_ns)
    return sorted(set(changed))


def _newer_files(folder: str, since_ns: int) -> list[str]:
    """List the files of a folder that changed since a time; the folder itself where none did: one is gone."""
    found = []
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # it is gone, or may not be read any more
        names = []
    for name in names:
        place = os.path.join(folder, name)
        try:
            status = os.stat(place)
        except OSError:
            continue
        if (
            not stat.S_ISDIR(status.st_mode)
            and status.st_ctime_ns >= since_ns
            and name not in OUTPUT
            and not _is_noise(name)
        ):
            found.append(place)
    return found or [folder.rstrip("/")]


def shown(paths: Sequence[str]) -> str:
    """Format the first of some paths, and how many there are."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
