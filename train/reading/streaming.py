"""A split that does not fit in memory: row groups read in sequence, shuffled in blocks, decoded ahead.

    decoding = Decoding(table, Streaming(num_threads=8))
    for draws_of_step, windows in decoding.steps(draws, decode_one): ...         `train.clips.StreamedClips` does so

One thread reads a block of row groups while the block before it is in use; others decode clips of the
next batches; the device takes them as int16, from pinned memory, while the host goes on.
Held in memory: the encoded audio of two blocks, of three for moments, and the windows of a few batches.

A window that is shorter than its clip is decoded alone: less than half the work for three seconds of ten.
Only in a first pass whole clips are decoded and checked against their digests. Several processes on a machine
read all row groups each (from the disk: once).
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutti.train.reading.order import Draws, Fill, Indices
from tutti.train.reading.shards import SplitTable, in_order, read_audio

Block: TypeAlias = dict[int, Any]  # clip -> its audio file
GetBlock: TypeAlias = Callable[[], Block]
Result = TypeVar("Result")

_PART_CLIPS = 8  # of a batch that one thread decodes together: 10 to 20 ms of work


@dataclass(frozen=True)
class Streaming:
    """Sizes and threads of streaming; none of them changes a sample."""

    # Row groups that are shuffled together; 16 rows each, 0.2 MB of FLAC per ten seconds: 100 MB, 512 clips.
    groups_per_block: int = 32
    num_threads: int = 2  # that decode; 0: each batch is decoded when it is taken
    batches_ahead: int = 4  # decoded before they are taken

    def __post_init__(self) -> None:
        """Refuse numbers that read nothing."""
        if self.groups_per_block < 1 or self.batches_ahead < 1 or self.num_threads < 0:
            raise ValueError("groups_per_block and batches_ahead are at least 1, num_threads is at least 0")


@dataclass(frozen=True)
class _Work(Generic[Result]):
    """Some draws of a step, for one thread."""

    step: int
    last: bool  # of its step
    draws: range
    blocks: dict[int, GetBlock]
    decoded: list[Result]


@dataclass(frozen=True)
class Decoding:
    """Clips of a split, decoded ahead in the order in which they are drawn."""

    table: SplitTable
    streaming: Streaming

    def steps(
        self,
        draws: Draws,
        decode: Callable[[int, Any], Result],
        *,
        start_step: int = 0,
        share: Callable[[int], slice] | None = None,
    ) -> Iterator[tuple[slice, list[Result]]]:
        """Decode the draws of each step, in order.

        Args:
            draws: what to read; steps take the blocks of their clips in rising order.
            decode: from the number of a draw and its clip's audio file to a result; called in threads.
            start_step: nothing of earlier steps is read.
            share: from a step to its draws, where they are others than `draws.step`.

        Yields:
            The draws of a step, as a slice, and their results.
        """
        config = self.streaming
        share = share or draws.step
        with ExitStack() as stack:
            loader: ThreadPoolExecutor | None = None
            if config.num_threads:
                loader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="read"))
                stack.callback(loader.shutdown, wait=False, cancel_futures=True)  # when the loop ends early
            largest = max((len(_range(share(step))) for step in range(start_step, draws.num_steps)), default=0)
            finished = in_order(
                lambda work: self._decode(work, draws, decode),
                self._work(draws, start_step, share, loader),
                num_threads=config.num_threads,
                ahead=config.batches_ahead * -(-largest // _PART_CLIPS),
            )
            stack.callback(finished.close)  # type: ignore[attr-defined]  # a generator: its threads end first
            decoded: list[Result] = []
            for work in finished:
                decoded += work.decoded
                if work.last:
                    yield share(work.step), decoded
                    decoded = []

    def window(self, clip: int, first: int, length: int, fill: Fill, audio: Any, *, whole: bool) -> NDArray[np.int16]:
        """Decode the window (T,) int16 that begins at sample `first` of a clip.

        Args:
            clip: its number in the split.
            first: below the clip's number of samples.
            length: T.
            fill: what follows the clip's end.
            audio: the clip's file.
            whole: decode all of the clip and compare it with its digest.

        Raises:
            IntegrityError: the clip is not what its row says; the message names shard and clip.
        """
        size = int(self.table.sizes[clip])
        count = min(length, size - first)
        repeated = count < length and fill == "repeat"
        window_T = np.zeros(length, np.int16)
        if whole or (repeated and first > 0):
            samples = self.whole(clip, audio)
            window_T[:count] = samples[first : first + count]
        else:
            samples = window_T[:count]
            self.table.decode_part(self._path(clip), clip, audio, first, samples)
        if repeated:
            window_T[count:] = np.resize(samples, length - count)
        return window_T

    def whole(self, clip: int, audio: Any) -> NDArray[np.int16]:
        """Decode all samples (T,) int16 of a clip and compare them with its digest.

        Raises:
            IntegrityError: the clip is not what its row says; the message names shard and clip.
        """
        return self.table.decode(self._path(clip), clip, audio)

    def _path(self, clip: int) -> Path:
        group = int(self.table.group_of_clip[clip])
        return self.table.groups[group].path

    def _work(
        self, draws: Draws, start_step: int, share: Callable[[int], slice], loader: ThreadPoolExecutor | None
    ) -> Iterator[_Work[Any]]:
        """Divide all steps into parts for threads, in order; each block is read ahead when the one before is needed."""
        block_N = np.zeros(len(self.table), np.int64) if draws.block_of_clip is None else draws.block_of_clip
        blocks = _Blocks(self.table, block_N, _needed(draws, start_step, share), self.table.group_of_clip, loader)
        for step in range(start_step, draws.num_steps):
            numbers = _range(share(step))
            for begin in range(numbers.start, numbers.stop, _PART_CLIPS):
                part = range(begin, min(begin + _PART_CLIPS, numbers.stop))
                getters = blocks.get(np.unique(block_N[draws.clips[part.start : part.stop]]).tolist())
                yield _Work(step, part.stop == numbers.stop, part, getters, [])

    def _decode(self, work: _Work[Result], draws: Draws, decode: Callable[[int, Any], Result]) -> _Work[Result]:
        audio: Block = {}
        for get in work.blocks.values():
            audio |= get()
        work.decoded.extend(decode(number, audio[int(draws.clips[number])]) for number in work.draws)
        return work


def to_device(rows: list[NDArray[np.int16]], device: torch.device) -> Tensor:
    """Stack windows of one length into a tensor (B, T) int16; the copy to a GPU does not block the host."""
    pcm_BT = torch.from_numpy(np.stack(rows))
    return pcm_BT if device.type == "cpu" else pcm_BT.pin_memory().to(device, non_blocking=True)


def _range(share: slice) -> range:
    return range(share.start, share.stop)


def _needed(draws: Draws, start_step: int, share: Callable[[int], slice]) -> Indices:
    """List the clips that the steps from `start_step` on read, ascending."""
    shares = [draws.clips[share(step)] for step in range(start_step, draws.num_steps)]
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
        """Read blocks by name (ascending), begin the next one, and let go of those before them."""
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
