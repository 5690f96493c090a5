"""Contents of a cache, and what of it is still needed: planned here, removed by the command.

Needed is what any result of a stage names, what the availability ledger names, what a source
pins, and what the manifests of kept builds name. Names are sha256 digests, found in the bytes of
results and ledgers wherever they stand: new fields need no new code here, and a damaged file still
protects what it names.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutti.datasets.clip_line import DIGEST_DIGITS, unpack
from tutti.datasets.errors import UsageError
from tutti.datasets.files import read_plain
from tutti.datasets.manifest import manifest_path
from tutti.datasets.record import Seconds
from tutti.datasets.source import load_source, source_names
from tutti.pipelines.cache.results import MAX_BYTES
from tutti.pipelines.cache.store import Cache

MAX_LEDGER_BYTES = 1 << 30  # of a journal, a manifest or a file of its rows: a million attempts have 0.2 GB
# What is no file: it names nothing.
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO)
KINDS = {
    "upstream": "archives, label files and videos",
    "audio": "prepared clips",
    "stray": "files among the blobs that no digest names",
    "derived": "plain tars of gzipped archives",
    "result": "results of stages",
    "part": "downloads that are not whole yet",
    "quarantine": "files that were whole but wrong",
    "sample": "generated sample mirrors",
    "hot": "decoded splits, for training",
    "ledger": "which videos were to be had",
    "other": "locks, budgets",
}

_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_STORED = re.compile(rb'"blob":"([0-9a-f]{64})"')  # of a result of prepare
_PCM = re.compile(rb'"pcm_sha256":"([0-9a-f]{64})"')  # of a result of prepare, and of a manifest's row
_DIGEST_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache, or a folder that counts as one."""

    kind: str
    path: str
    num_bytes: int
    modified_s: Seconds  # since the epoch

    @property
    def stem(self) -> str:
        """Its name without what follows the first dot: the digest, where it has one."""
        return os.path.basename(self.path).partition(".")[0]


@dataclass(frozen=True)
class Needed:
    """Files that must stay; digests as their first 16 bytes: there may be millions, and a row has no more."""

    digests: frozenset[bytes]
    prepared: frozenset[bytes]  # blobs that are prepared clips
    stale: frozenset[str] = frozenset()  # keys of results of prepare that no kept build uses
    sample: str = ""  # key of the sample mirror in use


def is_garbage(entry: Entry, needed: Needed, now_s: Seconds, grace_s: Seconds) -> bool:
    """Whether a file can go: older than the grace, and nothing names it. Ledger and locks stay for ever."""
    if now_s - entry.modified_s < grace_s:
        return False
    if entry.kind in ("upstream", "audio", "derived"):
        return _short(entry.stem) not in needed.digests
    if entry.kind == "result":
        is_gunzip = f"{os.sep}stages{os.sep}gunzip{os.sep}" in entry.path
        return entry.stem in needed.stale or (is_gunzip and _short(entry.stem) not in needed.digests)
    if entry.kind in ("part", "hot"):  # a hot copy is as young as its last use
        return not entry.path.endswith(".lock")
    if entry.kind == "sample":
        return entry.stem != needed.sample
    return entry.kind in ("stray", "quarantine")


def needed_of(
    cache: Cache, builds: Sequence[Path] = (), stale_before_s: Seconds | None = None, sample: str = ""
) -> Needed:
    """Read what results, ledger, sources and kept builds name.

    Args:
        cache: read whole.
        builds: output roots or version folders to keep.
        stale_before_s: results of prepare that are older and in no kept build name nothing; None: all do.
        sample: key of the sample mirror in use.

    Raises:
        UsageError: there is no dataset in one of the builds.
    """
    digests = set(_pinned())
    kept_pcm: set[bytes] = set()
    for manifest in _manifests(builds):
        digests.update(map(_packed, _DIGEST.findall(read_or_empty(str(manifest_path(manifest)), MAX_LEDGER_BYTES))))
        for source, pcm in _named_by_rows(manifest):
            digests.add(source)
            kept_pcm.add(pcm)
    prepared: set[bytes] = set()
    stale: set[str] = set()
    for entry in results(cache):
        content = read_or_empty(entry.path)
        stored = set(map(_packed, _STORED.findall(content)))
        prepared |= stored
        old = stale_before_s is not None and entry.modified_s < stale_before_s
        if old and stored and kept_pcm.isdisjoint(map(_packed, _PCM.findall(content))):
            stale.add(entry.stem)
        else:
            digests.update(map(_packed, _DIGEST.findall(content)))
    for entry in _files(cache.root / "ledger", "ledger"):
        digests.update(map(_packed, _DIGEST.findall(read_or_empty(entry.path, MAX_LEDGER_BYTES))))
    return Needed(frozenset(digests), frozenset(prepared), frozenset(stale), sample)


def _packed(digest: bytes) -> bytes:
    return _short(digest.decode())


def _short(digest: str) -> bytes:
    return bytes.fromhex(digest[:DIGEST_DIGITS])


def _pinned() -> Iterator[bytes]:
    for name in source_names():
        yield from (_short(remote.sha256) for remote in load_source(name).REMOTES if remote.sha256)


def _manifests(builds: Iterable[Path]) -> Iterator[Path]:
    for build in builds:
        found = (build, *sorted(build.glob("versions/[!.]*")))  # what is hidden is on its way out
        versions = [folder for folder in found if manifest_path(folder).is_file()]
        if not versions:
            raise UsageError(f"--keep-builds {build}: no dataset here; pass an output root (build/NAME) or a version")
        yield from versions


def _named_by_rows(version: Path) -> Iterator[tuple[bytes, bytes]]:
    """List digests of upstream file and samples of rows with audio; damaged lines are verify's business."""
    for path in sorted(version.glob("manifest/clips/*.jsonl")):
        for line in read_or_empty(str(path), MAX_LEDGER_BYTES).split(b"\n"):
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                audio = unpack(line)["audio"]
                yield _short(audio["source_sha256"]), _short(audio["pcm_sha256"])


def entries(cache: Cache, prepared: frozenset[bytes]) -> Iterator[Entry]:
    """List everything in the cache, one file at a time.

    Args:
        cache: its files may come and go meanwhile.
        prepared: blobs that are prepared clips, from `needed_of`.
    """
    for entry in blobs(cache):
        is_audio = entry.kind == "upstream" and _short(entry.stem) in prepared
        yield Entry("audio", entry.path, entry.num_bytes, entry.modified_s) if is_audio else entry
    yield from derived_files(cache)
    yield from results(cache)
    yield from _whole(cache.incoming, "part")
    yield from _whole(cache.root / "quarantine", "quarantine")
    yield from _whole(cache.root / "sample", "sample")
    yield from hot_copies(cache)
    yield from _files(cache.root / "ledger", "ledger")
    known = {"blobs", "stages", "incoming", "quarantine", "sample", "hot", "ledger"}
    for found in _listing(cache.root):
        if found.name not in known:
            yield from _files(Path(found.path), "other") if found.is_dir() else _entry(found, "other")


def hot_copies(cache: Cache) -> Iterator[Entry]:
    """List hot copies, as young as their lists, which every use touches, and notes of checked files."""
    entries = {entry.path: entry for entry in _files(cache.root / "hot", "hot")}
    for path, entry in entries.items():
        used = entries.get(f"{path.removesuffix('.int16')}.json", entry)
        yield Entry(entry.kind, path, entry.num_bytes, max(entry.modified_s, used.modified_s))


def blobs(cache: Cache) -> Iterator[Entry]:
    """List blobs as "upstream", and what is no blob as "stray"."""
    for entry in _files(cache.root / "blobs", "upstream"):
        name = os.path.basename(entry.path)
        sound = _DIGEST_NAME.fullmatch(name) and entry.path == str(cache.blob_path(name))
        yield entry if sound else Entry("stray", entry.path, entry.num_bytes, entry.modified_s)


def derived_files(cache: Cache) -> Iterator[Entry]:
    """List large files that a stage made of a blob."""
    for stage in _listing(cache.root / "stages"):
        for found in _listing(Path(stage.path)) if stage.is_dir() else ():
            if found.name.endswith(".tar") and _DIGEST_NAME.fullmatch(found.name[:-4]):
                yield from _entry(found, "derived")


def results(cache: Cache) -> Iterator[Entry]:
    """List results of all stages."""
    for entry in _files(cache.root / "stages", "result"):
        if entry.path.endswith(".json"):
            yield entry


def read_or_empty(path: str, most_bytes: int = MAX_BYTES) -> bytes:
    """Read a file's bytes; none where it has just gone, is no file, or is too long to be one of ours.

    Raises:
        OSError: it cannot be read, so what it names is unknown.
    """
    try:
        content = read_plain(Path(path), most_bytes)
    except OSError as error:
        if error.errno in NO_FILE:
            return b""
        raise
    return b"" if len(content) > most_bytes else content


def _files(folder: Path, kind: str) -> Iterator[Entry]:
    """List all files below a folder."""
    for found in _listing(folder):
        # A folder where a file should be is damage, and counts as that file.
        if found.is_dir(follow_symlinks=False) and not (
            _DIGEST_NAME.fullmatch(found.name) or found.name.endswith(".json")
        ):
            yield from _files(Path(found.path), kind)
        else:
            yield from _entry(found, kind)


def _whole(folder: Path, kind: str) -> Iterator[Entry]:
    """List what lies in a folder, each folder in it as one entry that is as young as its youngest file."""
    for found in _listing(folder):
        if not found.is_dir(follow_symlinks=False):
            yield from _entry(found, kind)
            continue
        inside = list(_files(Path(found.path), kind))
        own_s = os.stat(found.path).st_mtime
        youngest_s = max((entry.modified_s for entry in inside), default=own_s)
        yield Entry(kind, found.path, sum(entry.num_bytes for entry in inside), max(own_s, youngest_s))


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder, sorted; no folder stays open while its files are read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _entry(found: os.DirEntry[str], kind: str) -> Iterator[Entry]:
    try:
        status = found.stat(follow_symlinks=False)
    except FileNotFoundError:  # gone meanwhile
        return
    yield Entry(kind, found.path, status.st_size, status.st_mtime)
