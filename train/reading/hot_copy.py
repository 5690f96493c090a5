"""The hot copy: a split's samples decoded once into one int16 file that is mapped, not read.

    split = hot_copy(read_manifest(folder), "train", cache_folder)      an AudioSplit over a np.memmap

    hot/<key>.int16     all clips end to end, little endian
    hot/<key>.json      its parts, one per shard, each with its digest; renamed into place last

A file is named by the contents of its shards, so that every version with the same shards shares it,
and a version that shares some of them copies those parts instead of decoding. Labels and loudness are
always the shards' own. Each part is hashed before it is handed out; a damaged one is decoded again.
Several processes may ask at once: one of them writes, the others wait. Files that are mapped
may be replaced or removed at any time: those who hold them keep what they have.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from datasets.errors import StorageError
from datasets.files import atomic_file, exclusive, sweep, write_file
from datasets.manifest import Manifest, canonical_json, digest_of
from datasets.os_errors import remedy, words
from train.data import AudioSplit, audio_split
from train.reading.shards import RowGroup, SplitTable, in_order, read_audio, split_table

FORMAT = 1  # of the files; another number gives other names
PCM = np.dtype("<i2")

_COPY_BYTES = 1 << 22  # at once, from one hot copy to another
_GROUPS_AHEAD = 4  # decoded row groups that wait to be written: 20 MiB of ten-second clips


@dataclass(frozen=True)
class Part:
    """One shard's samples within a hot copy."""

    key: str  # digest of the shard's content digest, sample rate and clips' own digests
    first: int  # sample at which it begins
    num_samples: int
    sha256: str  # of its bytes

    def holds(self, samples: NDArray[np.int16]) -> bool:
        """Whether a hot copy's samples are what they were when it was written."""
        part = samples[self.first : self.first + self.num_samples]
        return hashlib.sha256(part.data).hexdigest() == self.sha256


def hot_copy(
    manifest: Manifest,
    split: str,
    cache_folder: Path,
    *,
    num_threads: int | None = None,
    verify: bool = True,
    table: SplitTable | None = None,
) -> AudioSplit:
    """Decode a split once, keep it, and map it from then on.

    Args:
        manifest: of the version to read.
        split: its split.
        cache_folder: any folder on a local disk; copies of all data sets may share it.
        num_threads: that decode and hash; default: one per processor, at most eight.
        verify: hash what is there already (1 to 2 GB/s per thread); False checks sizes only.
        table: of the split, where it has been read.

    Returns:
        The split; `samples` is a read-only np.memmap (an ordinary array where there are no samples).

    Raises:
        UsageError: the dataset has no such split.
        IntegrityError: a shard or clip is not what the manifest or its own row says.
        StorageError: the disk is full, or the folder cannot be written.
    """
    threads = min(os.cpu_count() or 1, 8) if num_threads is None else num_threads
    table = split_table(manifest, split) if table is None else table
    if not table.sizes.sum():
        return audio_split(table, np.empty(0, PCM))
    keys = part_keys(table)
    path = hot_path(cache_folder, table)
    samples = _intact(path, keys, table, threads, verify)
    if samples is None:
        try:
            with exclusive(path.with_name(f"{path.name}.lock")):
                samples = _intact(path, keys, table, threads, verify)  # another process may have been first
                if samples is None:
                    sweep(path.parent)
                    _write(path, keys, table, threads)
                    samples = np.memmap(path, PCM, "r")
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be written ({words(error)}); {remedy(error, path)}, or choose another cache folder"
            ) from error
    _touch(path)
    return audio_split(table, samples)


def _touch(path: Path) -> None:
    """Note that it was used: `python -m pipelines.cache gc` counts its grace from then."""
    for used in (path, path.with_suffix(".json")):
        with contextlib.suppress(OSError):  # somebody else's cache, or gone meanwhile
            os.utime(used)


def hot_path(cache_folder: Path, table: SplitTable) -> Path:
    """Where the hot copy of a split lies, or would lie."""
    return cache_folder / "hot" / f"{digest_of([FORMAT, part_keys(table)])}.int16"


def part_keys(table: SplitTable) -> list[str]:
    """What each shard's samples depend on, in order; its labels' order and gains do not count.

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


def _intact(path: Path, keys: list[str], table: SplitTable, num_threads: int, verify: bool) -> NDArray[np.int16] | None:
    parts = _read_parts(path)
    if parts is None or [part.key for part in parts] != keys:
        return None
    try:
        samples: NDArray[np.int16] = np.memmap(path, PCM, "r")
    except (OSError, ValueError):  # gone, empty, or not whole samples
        return None
    if len(samples) != table.sizes.sum():
        return None
    if verify:
        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            if not all(pool.map(lambda part: part.holds(samples), parts)):
                return None
    return samples


def _read_parts(path: Path) -> list[Part] | None:
    """Parts of a hot copy; none where it is not there, or its list is damaged."""
    try:
        return [Part(**part) for part in json.loads(path.with_suffix(".json").read_text("utf-8"))["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, keys: list[str], table: SplitTable, num_threads: int) -> None:
    sources = _sources(path.parent)
    parts: list[Part] = []
    with atomic_file(path, durable=False) as stream:  # digests guard it, and it can be made again
        for number, (key, (first, stop)) in enumerate(zip(keys, _clip_bounds(table), strict=True)):
            start, num_samples = stream.tell(), int(table.sizes[first:stop].sum())
            digest = None
            for source, part in sources.get(key, ()):
                if part.num_samples == num_samples and (digest := _copy(source, part, stream)) is not None:
                    break
                stream.seek(start)
                stream.truncate()
            if digest is None:
                groups = [group for group in table.groups if group.shard == number]
                digest = _decode(table, groups, stream, num_threads)
            parts.append(Part(key, start // PCM.itemsize, num_samples, digest))
    content = {"format": FORMAT, "sample_rate": table.sample_rate, "parts": [asdict(part) for part in parts]}
    write_file(path.with_suffix(".json"), canonical_json(content).encode(), durable=False)


def _sources(folder: Path) -> dict[str, list[tuple[Path, Part]]]:
    """Where parts can be copied from, by key."""
    sources: dict[str, list[tuple[Path, Part]]] = {}
    for listing in sorted(folder.glob("*.json")):
        path = listing.with_suffix(".int16")
        for part in _read_parts(path) or ():
            sources.setdefault(part.key, []).append((path, part))
    return sources


def _copy(source: Path, part: Part, target: IO[bytes]) -> str | None:
    """Copy a part; none where it is damaged or gone."""
    digest = hashlib.sha256()
    try:
        with source.open("rb") as stream:
            stream.seek(part.first * PCM.itemsize)
            left = part.num_samples * PCM.itemsize
            while left and (block := stream.read(min(left, _COPY_BYTES))):
                digest.update(block)
                target.write(block)
                left -= len(block)
    except FileNotFoundError:
        return None
    return part.sha256 if digest.hexdigest() == part.sha256 else None


def _decode(table: SplitTable, groups: list[RowGroup], target: IO[bytes], num_threads: int) -> str:
    def decoded(group_and_row: tuple[RowGroup, int, object]) -> NDArray[np.int16]:
        group, row, audio = group_and_row
        return table.decode(group.path, group.first + row, audio)

    rows: Iterator[tuple[RowGroup, int, object]] = (
        (group, row, audio) for group in groups for row, audio in enumerate(read_audio(group))
    )
    digest = hashlib.sha256()
    ahead = _GROUPS_AHEAD * max((group.size for group in groups), default=1)
    for samples in in_order(decoded, rows, num_threads=num_threads, ahead=ahead):
        content = samples.astype(PCM, copy=False).tobytes()
        digest.update(content)
        target.write(content)
    return digest.hexdigest()
