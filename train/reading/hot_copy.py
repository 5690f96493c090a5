"""The hot copy: a split's samples decoded once into one int16 file that is mapped, not read.

    split = hot_copy(read_manifest(folder), "train", cache_folder)      an AudioSplit over a np.memmap

    hot/<key>.int16     all clips end to end, little endian
    hot/<key>.json      its parts, one per shard; renamed into place last, and as young as the last use
    hot/checked/        which copies, of these files and of shards, were hashed already (datasets/copies.py)

A file is named by the contents of its shards, so that every version with the same shards shares it,
and a version that shares some of them copies those parts instead of decoding. Labels and loudness are
always the shards' own. Nothing here is believed: every clip is hashed once per copy and compared with the
digest that its shard states; what is damaged is decoded again.
Several processes may ask at once: one of them writes, the others wait. Files that are mapped
may be replaced or removed at any time: those who hold them keep what they have.
"""

import contextlib
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.copies import Copy, Memory, copy_of
from tutti.datasets.errors import StorageError
from tutti.datasets.files import atomic_file, sweep, write_file
from tutti.datasets.locks import READ_ONLY, lock
from tutti.datasets.manifest import Manifest, canonical_json, digest_of
from tutti.datasets.os_errors import remedy, words
from tutti.train.reading.shards import RowGroup, SplitTable, in_order, read_audio, split_table
from tutti.train.reading.split import AudioSplit

FORMAT = 1  # of the files; another number gives other names
PCM = np.dtype("<i2")
CHECKED = Path("hot") / "checked"
MAX_THREADS = 8  # that decode and hash: 1 to 2 GB/s each

_CLIPS_AT_ONCE = 64  # that one thread hashes
_LISTING_BYTES = 1 << 24
_GROUPS_AHEAD = 4  # decoded row groups that wait to be written: 20 MiB of ten-second clips


@dataclass(frozen=True)
class Part:
    """One shard's samples within a hot copy."""

    key: str  # digest of the shard's content digest, sample rate and clips' own digests
    first: int  # sample at which it begins
    num_samples: int


def checked_folder(cache_folder: Path | None) -> Path | None:
    """Name the folder in which checked copies are noted; None: no cache, so none are."""
    return None if cache_folder is None else cache_folder / CHECKED


def hot_copy(manifest: Manifest, split: str, cache_folder: Path, *, table: SplitTable | None = None) -> AudioSplit:
    """Decode a split once, keep it, and map it from then on.

    Args:
        manifest: of the version to read.
        split: its split.
        cache_folder: any folder on a local disk; copies of all data sets may share it.
        table: of the split, where it has been read already.

    Returns:
        The split; `samples` is a read-only np.memmap (an ordinary array where there are no samples).

    Raises:
        UsageError: the dataset has no such split.
        IntegrityError: a shard or clip is not what the manifest or its own row says.
        StorageError: the disk is full, or the folder cannot be written.
    """
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    table = split_table(manifest, split, checked_folder(cache_folder)) if table is None else table
    if not table.sizes.sum():
        return AudioSplit(table, np.empty(0, PCM))
    parts = _parts(table)
    path = _path(cache_folder, [part.key for part in parts])
    checked = cache_folder / CHECKED
    samples = _intact(path, parts, table, threads, checked)
    if samples is None:
        try:
            with lock(path.with_name(f"{path.name}.lock"), unless=READ_ONLY):
                samples = _intact(path, parts, table, threads, checked)  # another process may have been first
                if samples is None:
                    sweep(path.parent)
                    _write(path, parts, table, threads)
                    samples = np.memmap(path, PCM, "r")
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be written ({words(error)}); {remedy(error, path)}, or choose another cache folder"
            ) from error
    with contextlib.suppress(OSError):  # somebody else's cache, or gone meanwhile
        os.utime(path.with_suffix(".json"))  # `python -m pipelines.cache gc` counts its grace from then
    return AudioSplit(table, samples)


def _path(cache_folder: Path, keys: list[str]) -> Path:
    return cache_folder / "hot" / f"{digest_of([FORMAT, keys])}.int16"


def part_keys(table: SplitTable) -> list[str]:
    """Digest all that each shard's samples depend on, in order; its labels' order and gains do not count.

    The clips' own digests are in it, so that a content digest that lies cannot pass off other samples.
    """
    bounds = _clip_bounds(table)
    return [
        digest_of([info.content_sha256, table.sample_rate, list(table.audio_sha256[first:stop])])
        for info, (first, stop) in zip(table.shards, bounds, strict=True)
    ]


def _clip_bounds(table: SplitTable) -> list[tuple[int, int]]:
    stops = np.cumsum([info.num_rows for info in table.shards]).tolist()
    return list(zip([0, *stops[:-1]], stops, strict=True))


def _parts(table: SplitTable) -> list[Part]:
    """List the parts of a split's hot copy, one per shard."""
    offsets = table.offsets.tolist()
    return [
        Part(key, offsets[first], offsets[stop] - offsets[first])
        for key, (first, stop) in zip(part_keys(table), _clip_bounds(table), strict=True)
    ]


def _intact(
    path: Path, parts: list[Part], table: SplitTable, num_threads: int, checked: Path
) -> NDArray[np.int16] | None:
    """Map the samples of a hot copy whose clips hash to the table's digests; each copy is hashed once."""
    if _read_parts(path) != parts:
        return None
    memory, claim = Memory(checked), f"hot {digest_of([[part.key for part in parts], table.sizes.tolist()])}"
    start = memory.start()
    try:
        copy = _regular(path)
        samples: NDArray[np.int16] = np.memmap(path, PCM, "r")
        if copy is None or copy != _regular(path):  # replaced meanwhile
            return None
    except (OSError, ValueError):  # gone, empty, or not whole samples
        return None
    if len(samples) != table.offsets[-1]:
        return None
    if memory.holds(copy, claim):
        return samples
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        starts = range(0, len(table), _CLIPS_AT_ONCE)
        if not all(pool.map(lambda first: _are_sound(samples, table, first), starts)):
            return None
    memory.note(copy, claim, start)
    return samples


def _are_sound(samples: NDArray[np.int16], table: SplitTable, first: int) -> bool:
    """Whether _CLIPS_AT_ONCE clips, from `first` on, hash to their digests."""
    bounds = table.offsets[first : first + _CLIPS_AT_ONCE + 1].tolist()
    return all(
        hashlib.sha256(samples[begin:end].data).hexdigest() == digest
        for (begin, end), digest in zip(itertools.pairwise(bounds), table.audio_sha256[first:], strict=False)
    )


def _regular(path: Path) -> Copy | None:
    """Identify a file's copy (size, times, inode); None where it is no regular file."""
    status = path.stat()
    return copy_of(status) if stat.S_ISREG(status.st_mode) else None


def _read_parts(path: Path) -> list[Part] | None:
    """Read the list of parts of a hot copy; None where it is missing or damaged."""
    listing = path.with_suffix(".json")
    try:
        copy = _regular(listing)
        if copy is None or copy.num_bytes > _LISTING_BYTES:
            return None
        return [_part(entry) for entry in json.loads(listing.read_bytes())["parts"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _part(entry: dict[str, Any]) -> Part:
    part = Part(entry["key"], entry["first"], entry["num_samples"])
    if not isinstance(part.key, str) or type(part.first) is not int or type(part.num_samples) is not int:
        raise TypeError("not a part")
    if part.first < 0 or part.num_samples < 0:
        raise ValueError("not a part")
    return part


def _write(path: Path, parts: list[Part], table: SplitTable, num_threads: int) -> None:
    sources = _sources(path.parent)
    with atomic_file(path, durable=False) as stream:  # digests guard it, and it can be made again
        for number, (part, (first, stop)) in enumerate(zip(parts, _clip_bounds(table), strict=True)):
            copied = False
            for source, found in sources.get(part.key, ()):
                if copied := _copy(source, found, table, range(first, stop), stream):
                    break
                stream.seek(part.first * PCM.itemsize)
                stream.truncate()
            if not copied:
                groups = [group for group in table.groups if group.shard == number]
                _decode(table, groups, stream, num_threads)
    content = {"format": FORMAT, "sample_rate": table.sample_rate, "parts": [asdict(part) for part in parts]}
    write_file(path.with_suffix(".json"), canonical_json(content).encode(), durable=False)


def _sources(folder: Path) -> dict[str, list[tuple[Path, Part]]]:
    """Find the hot copies from which parts can be copied, by the parts' keys."""
    sources: dict[str, list[tuple[Path, Part]]] = {}
    for listing in sorted(folder.glob("*.json")):
        path = listing.with_suffix(".int16")
        for part in _read_parts(path) or ():
            sources.setdefault(part.key, []).append((path, part))
    return sources


def _copy(source: Path, part: Part, table: SplitTable, clips: range, target: IO[bytes]) -> bool:
    """Copy the samples of some clips, each compared with its digest; return whether all were sound."""
    try:
        if _regular(source) is None:
            return False
        with source.open("rb") as stream:
            stream.seek(part.first * PCM.itemsize)
            for clip in clips:
                content = stream.read(int(table.sizes[clip]) * PCM.itemsize)
                if hashlib.sha256(content).hexdigest() != table.audio_sha256[clip]:
                    return False
                target.write(content)
    except (FileNotFoundError, PermissionError):
        return False
    return True


def _decode(table: SplitTable, groups: list[RowGroup], target: IO[bytes], num_threads: int) -> None:
    def decoded(group_and_row: tuple[RowGroup, int, object]) -> NDArray[np.int16]:
        group, row, audio = group_and_row
        return table.decode(group.path, group.first + row, audio)

    rows: Iterator[tuple[RowGroup, int, object]] = (
        (group, row, audio) for group in groups for row, audio in enumerate(read_audio(group))
    )
    ahead = _GROUPS_AHEAD * max((group.size for group in groups), default=1)
    for samples in in_order(decoded, rows, num_threads=num_threads, ahead=ahead):
        target.write(samples.astype(PCM, copy=False).tobytes())
