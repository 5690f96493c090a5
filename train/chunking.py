"""Long clips as chunks of one length, and chunks' outputs as a clip's: pure functions of indices.

    plan = plan_chunks(lengths, Chunking(48_000))        Lumen 2023: 3 s, the last repeats the start
    plan = plan_chunks(lengths, Chunking(16_000, hop=8_000))     the NSynth paper's test protocol
    windows = clips.windows(plan.clips, plan.first, length)

Units are samples or frames, whatever the caller cuts. A clip's chunks stand together, in order.
Shapes: N clips, K chunks of all clips, L units of a chunk, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutti.datasets.record import Seconds
from tutti.train.scoring.metrics import Floats

Indices: TypeAlias = NDArray[np.int64]
ClipPooling: TypeAlias = Literal["max", "mean", "mean_logits"]


@dataclass(frozen=True)
class Chunking:
    """Starts of chunks, and what follows a clip's end."""

    length: int  # units of a chunk
    hop: int | None = None  # units from chunk to chunk; none: the length, no overlap
    # repeat: the clip again from its start (Lumen 2023); zero: silence, or black in a spectrogram
    # (its earlier variant); drop: no chunk there,
    # unless the clip has no other.
    last: Literal["repeat", "zero", "drop"] = "repeat"
    first_only: bool = False  # only a clip's first chunk (NSynth pre-training: the first second)

    def __post_init__(self) -> None:
        if self.length < 1 or (self.hop is not None and self.hop < 1):
            raise ValueError(f"length and hop must be at least 1, got {self.length} and {self.hop}")

    @property
    def step(self) -> int:
        """Units from chunk to chunk."""
        return self.length if self.hop is None else self.hop


@dataclass(frozen=True)
class ChunkPlan:
    """All chunks of some clips."""

    chunking: Chunking
    lengths: Indices  # (N,): units of each clip
    clips: Indices  # (K,): the clip that each chunk is of: the group index of a batch
    first: Indices  # (K,): its first unit

    def __len__(self) -> int:
        return len(self.clips)

    def spans_s(self, units_per_s: float) -> list[tuple[Seconds, Seconds]]:
        """List start and end of every chunk in its clip, in seconds; fillings do not count."""
        ends_K = np.minimum(self.first + self.chunking.length, self.lengths[self.clips])
        starts_s, ends_s = (self.first / units_per_s).tolist(), (ends_K / units_per_s).tolist()
        return list(zip(starts_s, ends_s, strict=True))


def num_chunks(length: int, chunking: Chunking) -> int:
    """Count the chunks of a clip, at least one: so many that its last unit is in one, or that none is filled."""
    if chunking.first_only:
        return 1
    beyond = max(0, length - chunking.length)
    return 1 + (beyond // chunking.step if chunking.last == "drop" else -(-beyond // chunking.step))


def plan_chunks(lengths_N: Sequence[int] | Indices, chunking: Chunking) -> ChunkPlan:
    """Plan the chunks of clips of these lengths.

    Raises:
        ValueError: an empty clip.
    """
    lengths = np.asarray(lengths_N, np.int64)
    if lengths.size and lengths.min() < 1:
        raise ValueError(f"clip {int(np.argmin(lengths))} is empty; leave it out")
    counts = np.array([num_chunks(int(length), chunking) for length in lengths], np.int64)
    clips_K = np.repeat(np.arange(len(lengths)), counts)
    index_within_K = np.arange(len(clips_K)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ChunkPlan(chunking, lengths, clips_K, index_within_K * chunking.step)


def probabilities(logits_KC: Tensor) -> Floats:
    """Take the sigmoid in float64, so that no two different logits fall together near 0 or 1."""
    values: Floats = torch.sigmoid(logits_KC.double()).cpu().numpy()
    return values


def _by_clip(ufunc: np.ufunc, values_KC: Floats, clips_K: Indices) -> tuple[Floats, Indices]:
    starts_N = np.flatnonzero(np.diff(clips_K, prepend=-1))
    reduced: Floats = ufunc.reduceat(values_KC, starts_N, axis=0)
    return reduced, np.diff(starts_N, append=len(clips_K))


def clip_probabilities(logits_KC: Tensor, clips_K: Indices, pooling: ClipPooling) -> Floats:
    """Pool each clip's probability (N, C) from its chunks' logits, every clip having at least one chunk.

    max: greatest; at one threshold the union of the chunks' predictions (Lumen 2023). mean_logits: sigmoid of
    the mean (the NSynth paper's text). mean: mean of the sigmoids (its code).
    """
    if pooling == "mean_logits":
        logits: Floats = logits_KC.double().cpu().numpy()
        total_NC, counts_N = _by_clip(np.add, logits, clips_K)
        return probabilities(torch.from_numpy(total_NC / counts_N[:, None]))
    if pooling == "max":
        return _by_clip(np.maximum, probabilities(logits_KC), clips_K)[0]
    total_NC, counts_N = _by_clip(np.add, probabilities(logits_KC), clips_K)
    mean: Floats = total_NC / counts_N[:, None]
    return mean
