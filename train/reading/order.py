"""The order of an epoch and its batches, the same for both tiers of `train/clips.py`.

    draws = epoch_draws(Reading(48_000, batch_size=64, seed=0), epoch, lengths, chosen)
    for clips_B, window in clips.batches(draws, 48_000, start_step=120): ...

An epoch is a list of draws (clip, first unit), a function of (seed, epoch) alone. A step is a part of that list:
steps are the same for any number of threads, and starting at any step costs no more than starting at the first.

Shapes: N clips of the split, K draws of an epoch.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tutti.train.reading.sampler import weighted_draws

Fill: TypeAlias = Literal["repeat", "zero"]  # after a clip's end: the clip again from its start, or silence
Indices: TypeAlias = NDArray[np.int64]

PCM_SCALE = 1 / 32768  # int16 to [-1, 1)

_ORDER, _WINDOWS, _BLOCKS = 0, 1, 2  # random streams of an epoch; 3 is train.reading.sampler's


@dataclass(frozen=True)
class Reading:
    """Parameters of an epoch; everything but the clips themselves."""

    length: int  # of a window, in samples or frames
    batch_size: int  # at most; steps are nearly equal, so that no small last one upsets the batch norm
    seed: int = 0
    random_windows: bool = True  # False: every window begins at its clip's start

    def __post_init__(self) -> None:
        """Refuse windows and batches of nothing."""
        if self.length < 1 or self.batch_size < 1:
            raise ValueError(f"length and batch_size are at least 1, got {self.length} and {self.batch_size}")


@dataclass(frozen=True)
class Draws:
    """The windows that an epoch reads, in order."""

    clips: Indices  # (K,)
    first: Indices  # (K,): first sample (or frame) of the window
    num_steps: int
    block_of_clip: Indices | None = None  # (N,): in which block each clip of the split is read, rising over the draws

    def step(self, step: int) -> slice:
        """Select the draws of one step: one of nearly equal parts, of which the first are the longer ones."""
        size, longer = divmod(len(self.clips), self.num_steps)
        start = step * size + min(step, longer)
        return slice(start, start + size + (step < longer))


def in_sequence(clips: Indices, first: Indices, batch_size: int) -> Draws:
    """Draw windows as they are listed, in steps of at most `batch_size`."""
    return Draws(clips, first, math.ceil(len(clips) / batch_size))


def epoch_draws(
    reading: Reading,
    epoch: int,
    lengths_N: Indices,
    clips: Indices,
    *,
    first: Indices | None = None,
    weights: NDArray[np.float64] | None = None,
    group_of_clip: Indices | None = None,
    groups_per_block: int = 1,
) -> Draws:
    """Draw the windows of an epoch: one of every chosen clip, or as many with replacement.

    Args:
        reading: seed, window and batch size.
        epoch: its number.
        lengths_N: samples (or frames) of each clip of the split.
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
    key_K = _generator(reading, epoch, _ORDER).permutation(len(drawn))
    block_N = None if group_of_clip is None else _block_of_clip(reading, epoch, group_of_clip, groups_per_block)
    order = np.lexsort((key_K, np.zeros(len(drawn), np.int64) if block_N is None else block_N[drawn]))
    num_steps, drawn = math.ceil(len(drawn) / reading.batch_size), drawn[order]
    if begin is not None:
        return Draws(drawn, begin[order], num_steps, block_N)
    first = np.zeros(len(drawn), np.int64)
    if reading.random_windows:
        room_K = (lengths_N[drawn] - reading.length).clip(min=0) + 1  # a short clip begins at its start
        first = (_generator(reading, epoch, _WINDOWS).random(len(drawn)) * room_K).astype(np.int64)
    return Draws(drawn, first, num_steps, block_N)


def groups_per_block(group_of_clip: Indices, shuffle_clips: int) -> int:
    """Count the groups whose clips are shuffled together: about `shuffle_clips` clips."""
    return max(1, shuffle_clips // int(np.bincount(group_of_clip).max(initial=1)))


def _block_of_clip(reading: Reading, epoch: int, group_of_clip: Indices, groups_per_block: int) -> Indices:
    """Assign each clip of the split (N,) to the block of shuffled groups that it is read in."""
    num_groups = int(group_of_clip.max(initial=-1)) + 1
    rank_of_group = _generator(reading, epoch, _BLOCKS).permutation(num_groups)
    return rank_of_group[group_of_clip] // groups_per_block


def _generator(reading: Reading, epoch: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([reading.seed, epoch, stream])
