"""A split that does not fit in memory: row groups read in sequence, shuffled in blocks, decoded ahead.

    reader = StreamingReader(manifest, "train", reading, device=device, num_threads=8)
    for batch in reader.batches(epoch, start_step): ...

One thread reads a block of row groups while the block before it is in use; others decode clips of the
next batches; the device takes them as int16, from pinned memory, while the host goes on.
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
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.manifest import Manifest
from train.reading.order import PCM_SCALE, AudioBatch, Draws, Fill, Indices, Reading, epoch_draws, num_steps
from train.reading.resident import linear
from train.reading.shards import SplitTable, in_order, read_audio, split_table

Block: TypeAlias = dict[int, Any]  # clip -> its audio file
GetBlock: TypeAlias = Callable[[], Block]
Result = TypeVar("Result")

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
        """What `decode` makes of the draws of each step, in order.

        Args:
            draws: what to read; steps take the blocks of their clips in rising order.
            decode: from the number of a draw and its audio file to whatever is wanted; called in threads.
            start_step: nothing of earlier steps is read.
            share: the draws of a step; default: all of them.
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
        """A window (T,) that begins at sample `first` of a clip.

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
        """All samples of a clip, compared with its digest.

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
        """The parts of all steps, in order; reading of the next block begins when a block is first needed."""
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
    """Windows of one length as one tensor (B, T); on its way to a GPU while the host goes on."""
    pcm_BT = torch.from_numpy(np.stack(rows))
    return pcm_BT if device.type == "cpu" else pcm_BT.pin_memory().to(device, non_blocking=True)


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
        reading, config = self._reading, self._streaming
        draws = epoch_draws(
            reading,
            epoch,
            self.table.sizes,
            self._clips,
            weights=self._weights,
            group_of_clip=self.table.group_of_clip,
            groups_per_block=config.groups_per_block,
        )
        decoding, whole = Decoding(self.table, config), epoch < config.verified_epochs

        def window(number: int, audio: Any) -> NDArray[np.int16]:
            clip, first = int(draws.clips[number]), int(draws.first[number])
            return decoding.window(clip, first, reading.window_samples, reading.fill, audio, whole=whole)

        for share, rows in decoding.steps(
            draws, window, start_step=start_step, share=lambda step: draws.share(step, reading)
        ):
            yield self._batch(draws.clips[share], to_device(rows, self._device))

    def _batch(self, clips: Indices, pcm_BT: Tensor) -> AudioBatch:
        clips_B = torch.from_numpy(clips)
        factors_B1 = self._factors[clips_B].to(self._device, non_blocking=True)[:, None]
        presence_BC = torch.from_numpy(self.table.presence[clips]).to(self._device, non_blocking=True)
        return AudioBatch(pcm_BT.float().mul_(factors_B1), presence_BC, clips_B.to(self._device, non_blocking=True))


def _range(share: slice) -> range:
    return range(share.start, share.stop)


def _needed(draws: Draws, start_step: int, share: Callable[[int], slice]) -> Indices:
    """Clips that will be read."""
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
