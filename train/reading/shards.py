"""Tables of a split's clips, and their audio: checked against the manifest and the rows.

    table = split_table(manifest, "train")          everything but the audio, a few hundred bytes a clip
    for group in table.groups: audio = read_audio(group)
    samples = table.decode(clip, audio[n])          int16, checked against the row's digest

Shapes: N clips, C classes, T samples.
"""

import contextlib
import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tutti.datasets.errors import IntegrityError
from tutti.datasets.manifest import Manifest
from tutti.datasets.record import Decibels, Lufs
from tutti.datasets.shard import shard_table
from tutti.datasets.shard_audio import decode_into, verified_audio
from tutti.datasets.shard_info import ShardInfo
from tutti.train.reading.checked import CheckedShard, check_shards

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 8  # that hash: more do not make one disk faster

_COLUMNS = ["id", "group", "sample_rate", "num_samples", "presence", "loudness_lufs", "gain_db", "audio_sha256"]


@dataclass(frozen=True)
class RowGroup:
    """Rows of a shard that are read together."""

    file: CheckedShard
    index: int  # within the shard
    shard: int  # within the split
    first: int  # clip of its first row, counted over the split
    size: int  # rows

    @property
    def path(self) -> Path:
        """The path of the shard."""
        return self.file.path


@dataclass(frozen=True)
class SplitTable:
    """The clips of a split without their audio, in the order of the shards."""

    ids: tuple[str, ...]
    songs: tuple[str, ...]  # (N,): the group that never leaves its split
    sample_rate: int
    sizes: NDArray[np.int64]  # (N,), samples
    presence: NDArray[np.int8]  # (N, C)
    loudness_lufs: NDArray[np.float32]  # (N,), as stored; NaN: not measurable
    gain_db: NDArray[np.float32]  # (N,), applied by the build
    audio_sha256: tuple[str, ...]  # of each clip's samples
    shards: tuple[ShardInfo, ...]
    groups: tuple[RowGroup, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(N + 1,): where clips begin when they lie end to end."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)]).astype(np.int64)

    @functools.cached_property
    def group_of_clip(self) -> NDArray[np.int64]:
        """(N,): index into `groups`."""
        return np.repeat(np.arange(len(self.groups)), [group.size for group in self.groups])

    def remaining_gain_db(self, target_lufs: Lufs, max_gain_db: Decibels) -> NDArray[np.float32]:
        """Compute the gain (N,) in dB that the build's true-peak guard left out, to apply in float.

        Build and training together stay within `max_gain_db`; 0 where loudness is not known.
        """
        wanted = np.minimum(target_lufs - self.loudness_lufs, max_gain_db - self.gain_db)
        gain: NDArray[np.float32] = np.nan_to_num(np.maximum(wanted, 0), nan=0.0).astype(np.float32)
        return gain

    def decode(self, path: Path, clip: int, audio: Any) -> NDArray[np.int16]:
        """Decode all samples (T,) int16 of a clip and compare them with its digest.

        Raises:
            IntegrityError: the audio is not what the clip's row says; the message names shard and clip.
        """
        where = f"{path}: clip {self.ids[clip]}"
        return verified_audio(where, audio, self.sample_rate, int(self.sizes[clip]), self.audio_sha256[clip])

    def decode_part(self, path: Path, clip: int, audio: Any, first: int, part: NDArray[np.int16]) -> None:
        """Fill `part` with a clip's samples from `first` on.

        The rest is not decoded, and nothing compared with the digest: FLAC's own checks remain.

        Raises:
            IntegrityError: the audio is damaged or ends too early; the message names shard and clip.
        """
        where = f"{path}: clip {self.ids[clip]}"
        decode_into(where, audio, self.sample_rate, int(self.sizes[clip]), first, part)


def read_audio(group: RowGroup) -> list[Any]:
    """Read the audio files of a row group, one buffer per row (None where a row has no audio).

    Raises:
        IntegrityError: they cannot be read, or the shard is no longer what it was.
    """
    with group.file.open() as shard:
        table = shard_table(shard, group.path, ["audio.bytes"], group=group.index)
    column = table.column("audio").combine_chunks().field("bytes")
    return [value.as_buffer() if value.is_valid else None for value in column]


def split_table(manifest: Manifest, split: str, checked: Path | None = None) -> SplitTable:
    """Read what exactly the shards that the manifest lists say of a split; each is checked against its digest.

    Args:
        manifest: of the version.
        split: its split.
        checked: folder in which is noted which copies have been checked; None: all are, in every process.

    Raises:
        UsageError: the dataset has no such split.
        IntegrityError: a shard is not what the manifest says, or its rows contradict each other.
    """
    manifest.shard_paths(split)  # raises for an unknown split
    infos = manifest.shards(split)
    files = check_shards(manifest, infos, checked, num_threads=min(os.cpu_count() or 1, MAX_THREADS))
    tables: list[pa.Table] = []
    groups: list[RowGroup] = []
    first = 0
    for number, file in enumerate(files):
        with file.open() as shard:
            for index in range(shard.num_row_groups):
                size = shard.metadata.row_group(index).num_rows
                groups.append(RowGroup(file, index, number, first, size))
                first += size
            tables.append(shard_table(shard, file.path, _COLUMNS).replace_schema_metadata(None))
    whole = pa.concat_tables(tables)
    sample_rates = sorted(set(whole.column("sample_rate").to_pylist()))
    if len(sample_rates) > 1:
        raise IntegrityError(f"{manifest.folder}: split {split!r} mixes sample rates {sample_rates}")
    ids = tuple(whole.column("id").to_pylist())
    if len(set(ids)) < len(ids):
        twice = next(one for one, other in itertools.pairwise(sorted(ids)) if one == other)
        raise IntegrityError(f"{manifest.folder}: clip {twice} is in split {split!r} twice; run pipelines.verify")
    return SplitTable(
        ids=ids,
        songs=tuple(whole.column("group").to_pylist()),
        sample_rate=sample_rates[0] if sample_rates else 0,
        sizes=whole.column("num_samples").to_numpy().astype(np.int64),
        presence=_presence(whole, len(manifest.instruments)),
        loudness_lufs=whole.column("loudness_lufs").to_numpy().astype(np.float32),  # null becomes NaN
        gain_db=whole.column("gain_db").to_numpy().astype(np.float32),
        audio_sha256=tuple(whole.column("audio_sha256").to_pylist()),
        shards=tuple(infos),
        groups=tuple(groups),
    )


def _presence(table: pa.Table, num_classes: int) -> NDArray[np.int8]:
    values = table.column("presence").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    presence: NDArray[np.int8] = values.astype(np.int8).reshape(len(table), num_classes)
    return presence


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int, ahead: int
) -> Iterator[Result]:
    """Yield results in the order of the items; threads work on at most `ahead` more than were taken.

    No thread: each result is made when it is taken. An error stands where its result would; whoever stops early waits
    only for what has begun.
    """
    if num_threads == 0:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(num_threads, thread_name_prefix="decode"))
        stack.callback(lambda: [future.cancel() for future in pending])  # before the pool waits
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
