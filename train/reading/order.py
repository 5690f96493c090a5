"""What the three ways to read a split have in common: the order of an epoch, and its batches.

    reading = Reading(window_samples=48_000, batch_size=64, seed=0)
    reader = ResidentReader(hot_copy(manifest, "train", cache), reading, device=device)   fits in memory
    reader = StreamingReader(manifest, "train", reading, device=device)                   does not
    for batch in reader.batches(epoch=3, start_step=120): model(batch.waveform), batch.presence
    loader = DataLoader(ClipDataset(split, 48_000), batch_sampler=EpochBatches(split, reading))   others' code

An epoch is a list of draws (clip, first sample), a function of (seed, epoch) alone. A step is a part
of that list and a process takes its share of each step: steps are the same for any number of
processes, threads and workers, and starting at any step costs no more than starting at the first.

Shapes: N clips of the split, K draws of an epoch, B clips of a batch, T samples, C classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datasets.errors import UsageError
from train.reading.sampler import weighted_draws

Fill: TypeAlias = Literal["repeat", "zero"]
Indices: TypeAlias = NDArray[np.int64]

PCM_SCALE = 1 / 32768  # int16 to [-1, 1)

_ORDER, _WINDOWS, _BLOCKS = 0, 1, 2  # random streams of an epoch; 3 is train.reading.sampler's


@dataclass(frozen=True)
class Reading:
    """What an epoch reads; everything but the clips themselves."""

    window_samples: int
    batch_size: int  # at most, clips of a step over all processes together
    seed: int = 0
    # After a clip's end: the clip again from its start (Lumen 2023), or silence (its earlier variant).
    fill: Fill = "repeat"
    shuffle: bool = True
    random_windows: bool = True  # False: every window begins at its clip's start
    # Steps of exactly `batch_size`: the rest of an epoch is left out. False: nearly equal steps,
    # so that no small last one upsets the batch norm.
    drop_rest: bool = False
    rank: int = 0  # of this process
    world_size: int = 1  # processes

    def __post_init__(self) -> None:
        if self.window_samples < 1 or self.batch_size < 1:
            raise ValueError(
                f"window_samples and batch_size are at least 1, got {self.window_samples} and {self.batch_size}"
            )
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} is not one of {self.world_size} processes")
        if self.fill not in ("repeat", "zero"):
            raise ValueError(f"unknown fill {self.fill!r}; it is 'repeat' or 'zero'")


@dataclass(frozen=True)
class AudioBatch:
    """Clips of one step, of this process; all tensors on one device."""

    waveform: Tensor  # (B, T) float32 in [-1, 1]; may exceed 1 after gain
    presence: Tensor  # (B, C) int8: 1 present, 0 absent, -1 unknown
    clips: Tensor  # (B,) int64: index in the split

    def __len__(self) -> int:
        return len(self.clips)


class Reader(Protocol):
    """A split, read epoch by epoch."""

    def num_steps(self) -> int:
        """Steps of an epoch, the same in every process."""

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[AudioBatch]:
        """This process's share of each step from `start_step` on."""


@dataclass(frozen=True)
class Draws:
    """What an epoch reads, in order, over all processes."""

    clips: Indices  # (K,)
    first: Indices  # (K,): first sample (or frame) of the window
    num_steps: int
    block_of_clip: Indices | None = None  # (N,): in which block each clip of the split is read, rising over the draws

    def step(self, step: int) -> slice:
        """Draws of one step."""
        return slice(*_part(0, len(self.clips), step, self.num_steps))

    def share(self, step: int, reading: Reading) -> slice:
        """Draws of one step that are this process's."""
        start, stop = self.step(step).start, self.step(step).stop
        return slice(*_part(start, stop, reading.rank, reading.world_size))


def _part(start: int, stop: int, index: int, count: int) -> tuple[int, int]:
    """Bounds of one of `count` nearly equal parts of a range; the first parts are the longer ones."""
    size, longer = divmod(stop - start, count)
    first = start + index * size + min(index, longer)
    return first, first + size + (index < longer)


def in_sequence(clips: Indices, first: Indices, batch_size: int) -> Draws:
    """Windows as they are listed, in steps of at most so many."""
    return Draws(clips, first, math.ceil(len(clips) / batch_size))


def num_steps(num_clips: int, reading: Reading) -> int:
    """Steps of an epoch of so many draws.

    Raises:
        UsageError: a step would leave a process without a clip.
    """
    if reading.drop_rest:
        steps, smallest = num_clips // reading.batch_size, reading.batch_size
    else:
        steps = math.ceil(num_clips / reading.batch_size)
        smallest = num_clips // steps if steps else reading.world_size
    if smallest < reading.world_size:
        raise UsageError(
            f"{num_clips} clips in batches of {reading.batch_size} leave some of {reading.world_size} processes "
            "without one: make batches larger or processes fewer"
        )
    return steps


def epoch_draws(
    reading: Reading,
    epoch: int,
    sizes_N: Indices,
    clips: Indices,
    *,
    first: Indices | None = None,
    weights: NDArray[np.float64] | None = None,
    group_of_clip: Indices | None = None,
    groups_per_block: int = 1,
) -> Draws:
    """The draws of an epoch: every chosen clip once, or as many with replacement.

    Args:
        reading: seed, window and shuffling.
        epoch: its number.
        sizes_N: samples of each clip of the split.
        clips: indices of the chosen clips; with `first` a clip may be there more than once.
        first: of each chosen clip, where its window begins; None: as `reading` says.
        weights: of each chosen clip, to draw with replacement (`train.reading.sampler`).
        group_of_clip: (N,), to shuffle groups, and clips within blocks of groups: for what is read in
            sequence. None, or a block of all groups: clips are shuffled over the whole split.
        groups_per_block: groups that are in memory together.
    """
    drawn, begin = clips, first
    if weights is not None:
        chosen = weighted_draws(weights, len(clips), seed=reading.seed, epoch=epoch)
        drawn, begin = clips[chosen], None if first is None else first[chosen]
    key_K = np.arange(len(drawn))
    if reading.shuffle:
        key_K = _generator(reading, epoch, _ORDER).permutation(len(drawn))
    block_N = None
    if group_of_clip is not None:
        block_N = block_of_clip(reading, epoch, group_of_clip, groups_per_block)
    order = np.lexsort((key_K, np.zeros(len(drawn), np.int64) if block_N is None else block_N[drawn]))
    steps = num_steps(len(drawn), reading)
    if reading.drop_rest:
        order = order[: steps * reading.batch_size]
    drawn = drawn[order]
    if begin is not None:
        return Draws(drawn, begin[order], steps, block_N)
    first = np.zeros(len(drawn), np.int64)
    if reading.random_windows:
        room_K = (sizes_N[drawn] - reading.window_samples).clip(min=0) + 1  # a short clip begins at its start
        first = (_generator(reading, epoch, _WINDOWS).random(len(drawn)) * room_K).astype(np.int64)
    return Draws(drawn, first, steps, block_N)


def block_of_clip(reading: Reading, epoch: int, group_of_clip: Indices, groups_per_block: int) -> Indices:
    """(N,): the block of groups that each clip of the split is read in."""
    num_groups = int(group_of_clip.max(initial=-1)) + 1
    rank_of_group = np.arange(num_groups)
    if reading.shuffle:
        rank_of_group = _generator(reading, epoch, _BLOCKS).permutation(num_groups)
    return rank_of_group[group_of_clip] // groups_per_block


def _generator(reading: Reading, epoch: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([reading.seed, epoch, stream])
