"""What shards say of a split's clips, and their audio: checked against the manifest and the rows.

    table = split_table(manifest, "train")          everything but the audio, a few hundred bytes a clip
    for group in table.groups: audio = read_audio(group)
    samples = table.decode(clip, audio[n])          int16, checked against the row's digest

Shapes: N clips, C classes, T samples.
"""

import contextlib
import functools
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from numpy.typing import NDArray

from datasets.audio import pcm_sha256
from datasets.errors import IntegrityError
from datasets.manifest import Manifest
from datasets.record import ABSENT, PRESENT, UNKNOWN, Decibels, Lufs
from datasets.shard import ShardInfo, open_shard, shard_metadata

Item = TypeVar("Item")
Result = TypeVar("Result")

_COLUMNS = ["id", "group", "sample_rate", "num_samples", "presence", "loudness_lufs", "gain_db", "audio_sha256"]


def remaining_gain_db(
    loudness_lufs_N: NDArray[np.float32],
    gain_db_N: NDArray[np.float32],
    target_lufs: Lufs,
    max_gain_db: Decibels,
) -> NDArray[np.float32]:
    """(N,): what the build's true-peak guard held back, for training to apply in float.

    Build and training together stay within `max_gain_db`; 0 where loudness is not known.
    """
    wanted = np.minimum(target_lufs - loudness_lufs_N, max_gain_db - gain_db_N)
    gain: NDArray[np.float32] = np.nan_to_num(np.maximum(wanted, 0), nan=0.0).astype(np.float32)
    return gain


@dataclass(frozen=True)
class RowGroup:
    """Rows of a shard that are read together."""

    path: Path
    index: int  # within the shard
    shard: int  # within the split
    first: int  # clip of its first row, counted over the split
    size: int  # rows


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
        """(N,): see `remaining_gain_db` of this module."""
        return remaining_gain_db(self.loudness_lufs, self.gain_db, target_lufs, max_gain_db)

    def decode(self, path: Path, clip: int, audio: Any) -> NDArray[np.int16]:
        """All samples of a clip, from its audio file.

        Raises:
            IntegrityError: the audio is not what the clip's row says; the message names shard and clip.
        """
        where = f"{path}: clip {self.ids[clip]}"
        samples, sample_rate = _read(where, audio)
        if not samples.size:
            raise IntegrityError(f"{where}: holds no samples; run pipelines.verify")
        if samples.shape != (self.sizes[clip],) or sample_rate != self.sample_rate:
            raise IntegrityError(
                f"{where}: audio of shape {samples.shape} at {sample_rate} Hz, its row says "
                f"{self.sizes[clip]} samples at {self.sample_rate} Hz; run pipelines.verify"
            )
        if pcm_sha256(samples) != self.audio_sha256[clip]:
            raise IntegrityError(f"{where}: samples differ from audio_sha256; run pipelines.verify")
        return samples

    def decode_part(self, path: Path, clip: int, audio: Any, first: int, part: NDArray[np.int16]) -> None:
        """Fill `part` with a clip's samples from `first` on.

        The rest is not decoded, and nothing compared with the digest: FLAC's own checks remain.

        Raises:
            IntegrityError: the audio is damaged or ends too early; the message names shard and clip.
        """
        where = f"{path}: clip {self.ids[clip]}"
        samples, _ = _read(where, audio, first, part)
        if samples.shape != part.shape:
            raise IntegrityError(f"{where}: ends before sample {first + len(part)}; run pipelines.verify")


def _read(
    where: str, audio: Any, first: int = 0, out: NDArray[np.int16] | None = None
) -> tuple[NDArray[np.int16], int]:
    try:
        samples, sample_rate = soundfile.read(io.BytesIO(audio), start=first, dtype="int16", out=out)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise IntegrityError(f"{where}: audio cannot be decoded ({error}); run pipelines.verify") from error
    return samples, int(sample_rate)


def read_audio(group: RowGroup) -> list[Any]:
    """The audio files of a row group, one buffer per row (none where a row has no audio)."""
    with open_shard(group.path) as shard:
        try:
            table = shard.read_row_group(group.index, columns=["audio.bytes"], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(
                f"{group.path}: row group {group.index} cannot be read ({error}); run pipelines.verify"
            ) from error
    column = table.column("audio").combine_chunks().field("bytes")
    return [value.as_buffer() if value.is_valid else None for value in column]


def split_table(manifest: Manifest, split: str) -> SplitTable:
    """Read what exactly the shards that the manifest lists say of a split.

    Raises:
        UsageError: the dataset has no such split.
        IntegrityError: a shard is not what the manifest says, or its rows contradict each other.
    """
    manifest.shard_paths(split)  # raises for an unknown split
    infos = manifest.shards(split)
    tables: list[pa.Table] = []
    groups: list[RowGroup] = []
    first = 0
    for number, info in enumerate(infos):
        path = manifest.shard_file(info)
        with _checked_shard(manifest, info) as shard:
            for index in range(shard.num_row_groups):
                size = shard.metadata.row_group(index).num_rows
                groups.append(RowGroup(path, index, number, first, size))
                first += size
            try:
                table = shard.read(columns=_COLUMNS, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise IntegrityError(f"{path}: its rows cannot be read ({error}); run pipelines.verify") from error
        _check_rows(path, table)
        tables.append(table.replace_schema_metadata(None))
    whole = pa.concat_tables(tables)
    sample_rates = sorted(set(whole.column("sample_rate").to_pylist()))
    if len(sample_rates) > 1:
        raise IntegrityError(f"{manifest.folder}: split {split!r} mixes sample rates {sample_rates}")
    return SplitTable(
        ids=tuple(whole.column("id").to_pylist()),
        songs=tuple(map(str, whole.column("group").to_pylist())),
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


def _checked_shard(manifest: Manifest, info: ShardInfo) -> pq.ParquetFile:
    path = manifest.shard_file(info)
    shard = open_shard(path)
    if shard.metadata.num_rows != info.num_rows:
        raise IntegrityError(
            f"{path}: {shard.metadata.num_rows} rows, the manifest says {info.num_rows}; run pipelines.verify"
        )
    instruments = shard_metadata(shard.schema_arrow)["instruments"]
    if instruments != manifest.instruments:
        raise IntegrityError(f"{path}: labels {instruments}, the manifest {manifest.instruments}; run pipelines.verify")
    return shard


def _check_rows(path: Path, table: pa.Table) -> None:
    for row, size in enumerate(table.column("num_samples").to_pylist()):
        if size is None or size < 1:
            raise IntegrityError(f"{path}: clip {table['id'][row]}: holds no samples; run pipelines.verify")
    known = {PRESENT, ABSENT, UNKNOWN}
    values = set(table.column("presence").combine_chunks().flatten().unique().to_pylist())
    if values - known:
        row = next(n for n, labels in enumerate(table["presence"].to_pylist()) if set(labels) - known)
        strange = sorted(set(table["presence"][row].as_py()) - known, key=str)
        raise IntegrityError(
            f"{path}: clip {table['id'][row]}: presence {strange}, expected 1, 0 or -1; run pipelines.verify"
        )


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int, ahead: int
) -> Iterator[Result]:
    """Results in the order of the items; threads work on at most `ahead` more than were taken.

    No thread: each result is made when it is asked for. An error stands where its result would;
    whoever stops early waits only for what has begun.
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
