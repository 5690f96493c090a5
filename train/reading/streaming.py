"""A split that does not fit in memory: row groups read in sequence, shuffled in blocks, decoded ahead.

    reader = StreamingReader(manifest, "train", reading, device=device, num_threads=8)
    for batch in reader.batches(epoch, start_step): ...

One thread reads a block of row groups while the block before it is in use; others decode clips of the
next batches into pinned buffers, from where the device takes them as int16 while the host goes on.
Held in memory: the encoded audio of two blocks, of three for moments, and the windows of a few batches.

A window that is shorter than its clip is decoded alone: less than half the work for three seconds of ten.
Only in the first epochs whole clips are decoded and checked against their digests. Several
processes on a machine all read all row groups (from the disk: once) and decode their own clips only.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.manifest import Manifest
from train.reading.order import PCM_SCALE, AudioBatch, Draws, Indices, Reading, block_of_clip, epoch_draws, num_steps
from train.reading.resident import linear
from train.reading.shards import SplitTable, in_order, read_audio, split_table

Block: TypeAlias = dict[int, Any]  # clip -> its audio file
GetBlock: TypeAlias = Callable[[], Block]

_CPU = torch.device("cpu")
_PART_CLIPS = 8  # of a batch that one thread decodes together: 10 to 20 ms of work


@dataclass(frozen=True)
class Streaming:
    """How a split is streamed; none of it changes a sample."""

    # Row groups that are shuffled together; 16 rows each, 0.2 MB of FLAC per ten seconds: 100 MB, 512 clips.
    groups_per_block: int = 32
    num_threads: int = 2  # that decode; 0: everything happens when it is asked for
    batches_ahead: int = 4  # decoded before they are asked for
    verified_epochs: int = 1  # epochs before this one decode whole clips and check their digests

    def __post_init__(self) -> None:
        if self.groups_per_block < 1 or self.batches_ahead < 1 or self.num_threads < 0:
            raise ValueError("groups_per_block and batches_ahead are at least 1, num_threads is at least 0")


@dataclass
class _Buffer:
    """int16 windows of a batch on the host; free again when the device has them."""

    pcm: Tensor  # (B, T)
    copied: torch.cuda.Event | None = None


@dataclass(frozen=True)
class _Work:
    """Some clips of a batch, for one thread."""

    step: int
    last: bool  # of its step
    buffer: _Buffer
    rows: slice  # of the buffer
    draws: slice  # of the epoch
    blocks: dict[int, GetBlock]


class StreamingReader:
    """A `train.reading.order.Reader` over the shards themselves."""

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        reading: Reading,
        streaming: Streaming | None = None,
        *,
        device: torch.device = _CPU,
        clips: Indices | None = None,
        weights: NDArray[np.float64] | None = None,
        gain_db: NDArray[np.float32] | None = None,
    ) -> None:
        """Read everything but the audio.

        Args:
            manifest: of the version to read.
            split: its split.
            reading: what an epoch reads.
            streaming: how.
            device: where batches appear.
            clips: indices of the chosen clips; default: all.
            weights: one per chosen clip, to draw with replacement; draws of one clip fall into one block.
            gain_db: (N,), applied in float; default: none (`table.remaining_gain_db`).

        Raises:
            UsageError: no such split, or a step would leave a process without a clip.
            IntegrityError: a shard is not what the manifest says.
        """
        self.table: SplitTable = split_table(manifest, split)
        self._reading, self._streaming, self._device = reading, streaming or Streaming(), device
        self._clips = np.arange(len(self.table)) if clips is None else clips
        self._weights = weights
        self._group_of_clip = self.table.group_of_clip
        gain = np.ones(len(self.table), np.float32) if gain_db is None else linear(gain_db)
        self._factors = torch.from_numpy(gain * np.float32(PCM_SCALE))
        num_steps(len(self._clips), reading)

    def num_steps(self) -> int:
        """Steps of an epoch, the same in every process."""
        return num_steps(len(self._clips), self._reading)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[AudioBatch]:
        """This process's share of each step from `start_step` on; only its own row groups are read.

        Raises:
            IntegrityError: a clip is not what its row says; the message names shard and clip.
        """
        config = self._streaming
        draws = epoch_draws(
            self._reading,
            epoch,
            self.table.sizes,
            self._clips,
            weights=self._weights,
            group_of_clip=self._group_of_clip,
            groups_per_block=config.groups_per_block,
        )
        whole = epoch < config.verified_epochs
        parts_of_batch = -(-self._reading.batch_size // (_PART_CLIPS * self._reading.world_size))
        free: list[_Buffer] = []
        with ExitStack() as stack:
            loader: ThreadPoolExecutor | None = None
            if config.num_threads:
                loader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="read"))
                stack.callback(loader.shutdown, wait=False, cancel_futures=True)  # when the loop ends early
            finished = in_order(
                lambda work: self._decode(work, draws, whole),
                self._work(draws, epoch, start_step, free, loader),
                num_threads=config.num_threads,
                ahead=config.batches_ahead * parts_of_batch,
            )
            stack.callback(finished.close)  # type: ignore[attr-defined]  # a generator: its threads end first
            for work in finished:
                if work.last:
                    yield self._batch(work, draws)
                    free.append(work.buffer)

    def _work(
        self, draws: Draws, epoch: int, start_step: int, free: list[_Buffer], loader: ThreadPoolExecutor | None
    ) -> Iterator[_Work]:
        """The parts of all steps, in order; reading of the next block begins when a block is first needed."""
        block_N = block_of_clip(self._reading, epoch, self._group_of_clip, self._streaming.groups_per_block)
        needed = _needed(draws, start_step, self._reading)
        blocks = _Blocks(self.table, block_N, needed, self._group_of_clip, loader)
        for step in range(start_step, draws.num_steps):
            share = draws.share(step, self._reading)
            size = share.stop - share.start
            buffer = self._buffer(free)
            for row in range(0, size, _PART_CLIPS):
                rows = slice(row, min(row + _PART_CLIPS, size))
                part = slice(share.start + rows.start, share.start + rows.stop)
                getters = blocks.get(np.unique(block_N[draws.clips[part]]).tolist())
                yield _Work(step, rows.stop == size, buffer, rows, part, getters)

    def _buffer(self, free: list[_Buffer]) -> _Buffer:
        if not free:
            rows = -(-self._reading.batch_size // self._reading.world_size)
            shape = (rows, self._reading.window_samples)
            return _Buffer(torch.empty(shape, dtype=torch.int16, pin_memory=self._device.type == "cuda"))
        buffer = free.pop()
        if buffer.copied is not None:
            buffer.copied.synchronize()
        return buffer

    def _decode(self, work: _Work, draws: Draws, whole: bool) -> _Work:
        audio: Block = {}
        for get in work.blocks.values():
            audio |= get()
        pcm_BT = work.buffer.pcm[work.rows].numpy()
        for row_T, clip, first in zip(pcm_BT, draws.clips[work.draws], draws.first[work.draws], strict=True):
            self._window(row_T, int(clip), int(first), audio[int(clip)], whole)
        return work

    def _window(self, row_T: NDArray[np.int16], clip: int, first: int, audio: Any, whole: bool) -> None:
        path = self.table.groups[self._group_of_clip[clip]].path
        length, size = len(row_T), int(self.table.sizes[clip])
        start = row_T[:size]
        if whole:
            start[:] = self.table.decode(path, clip, audio)[first : first + length]
        else:
            self.table.decode_part(path, clip, audio, first, start)
        if size < length:  # then the window begins at the clip's start
            row_T[size:] = 0 if self._reading.fill == "zero" else np.resize(start, length - size)

    def _batch(self, work: _Work, draws: Draws) -> AudioBatch:
        clips = draws.clips[work.draws.stop - work.rows.stop : work.draws.stop]
        pcm_BT = work.buffer.pcm[: len(clips)].to(self._device, non_blocking=True)
        clips_B = torch.from_numpy(clips)
        factors_B1 = self._factors[clips_B].to(self._device, non_blocking=True)[:, None]
        presence_BC = torch.from_numpy(self.table.presence[clips]).to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            work.buffer.copied = torch.cuda.current_stream(self._device).record_event()
        return AudioBatch(pcm_BT.float().mul_(factors_B1), presence_BC, clips_B.to(self._device, non_blocking=True))


def _needed(draws: Draws, start_step: int, reading: Reading) -> Indices:
    """Clips that this process will read."""
    shares = [draws.clips[draws.share(step, reading)] for step in range(start_step, draws.num_steps)]
    return np.unique(np.concatenate(shares)) if shares else np.empty(0, np.int64)


class _Blocks:
    """Blocks of encoded audio: the one in use and the one after it."""

    def __init__(
        self,
        table: SplitTable,
        block_N: Indices,
        needed: Indices,
        group_of_clip: Indices,
        loader: ThreadPoolExecutor | None,
    ) -> None:
        self._table, self._loader, self._group_of_clip = table, loader, group_of_clip
        names = np.unique(block_N[needed]).tolist()
        self._clips = {name: needed[block_N[needed] == name] for name in names}
        self._next = dict(itertools.pairwise(names))
        self._open: dict[int, GetBlock] = {}

    def get(self, names: list[int]) -> dict[int, GetBlock]:
        """Blocks by name, ascending; those before them are let go."""
        for name in list(self._open):
            if name < names[0]:
                del self._open[name]
        for name in names:
            self._begin(name)
            if self._loader is not None and name in self._next:
                self._begin(self._next[name])
        return {name: self._open[name] for name in names}

    def _begin(self, name: int) -> None:
        if name in self._open:
            return
        if self._loader is not None:
            future: Future[Block] = self._loader.submit(self._read, name)
            self._open[name] = future.result
        else:
            block = self._read(name)
            self._open[name] = lambda: block

    def _read(self, name: int) -> Block:
        clips = self._clips[name]
        block: Block = {}
        for group_index in np.unique(self._group_of_clip[clips]).tolist():  # ascending: as they lie on the disk
            group = self._table.groups[group_index]
            audio = read_audio(group)
            wanted = clips[self._group_of_clip[clips] == group_index].tolist()
            if len(wanted) == group.size:
                block |= {clip: audio[clip - group.first] for clip in wanted}
            else:  # a view would keep the other rows in memory
                block |= {clip: _own(audio[clip - group.first]) for clip in wanted}
        return block


def _own(audio: Any) -> bytes | None:
    return None if audio is None else bytes(audio)
