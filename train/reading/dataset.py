"""A split as a map-style PyTorch dataset, for code that is not ours.

    dataset = ClipDataset(hot_copy(manifest, "train", cache), window_samples=48_000)
    dataset[7]                      {"id": str, "waveform": (T,) float32, "presence": (C,) int8}
    sampler = EpochBatches(split, Reading(window_samples=48_000, batch_size=64))
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=2)
    sampler.set_epoch(3)            the same batches for any number of workers

Presence is 1, 0, or -1 for unknown: a loss must leave out the -1. Shapes: N clips, T samples, C classes.
"""

import mmap
from collections.abc import Iterator
from typing import Any, TypeAlias, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from datasets.errors import UsageError
from train.data import AudioSplit
from train.reading.order import PCM_SCALE, Fill, Indices, Reading, epoch_draws, num_steps
from train.reading.resident import fill_row, linear

Draw: TypeAlias = tuple[int, int]  # clip, first sample of its window


class Example(TypedDict):
    """One item."""

    id: str
    waveform: Tensor  # (T,) float32 in [-1, 1]; may exceed 1 after gain
    presence: Tensor  # (C,) int8: 1 present, 0 absent, -1 unknown


class ClipDataset(Dataset[Example]):
    """Clips of a split by index, or windows of them by (index, first sample)."""

    def __init__(
        self,
        split: AudioSplit,
        window_samples: int | None = None,
        *,
        fill: Fill = "repeat",
        gain_db: NDArray[np.float32] | None = None,
    ) -> None:
        """Wrap a split.

        Args:
            split: from `hot_copy` or `read_split`.
            window_samples: T; None hands out whole clips, which default collation cannot stack.
            fill: what follows a clip's end.
            gain_db: (N,), applied in float; default: none (`AudioSplit.remaining_gain_db`).
        """
        self._split, self._window, self._fill = split, window_samples, fill
        self._factors = np.full(len(split), PCM_SCALE, np.float32)
        if gain_db is not None:
            self._factors *= linear(gain_db)

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int | Draw) -> Example:
        number, first = index if isinstance(index, tuple) else (int(index), 0)
        if not -len(self) <= number < len(self):
            raise IndexError(f"clip {number}: the split has {len(self)}")
        number %= len(self)
        clip = self._split.clip(number)
        waveform = torch.empty(len(clip) if self._window is None else self._window)
        fill_row(waveform.numpy(), clip, first, self._fill, self._factors[number])
        return {
            "id": self._split.ids[number],
            "waveform": waveform,
            "presence": torch.from_numpy(self._split.presence[number].copy()),
        }

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        samples = self._split.samples
        base: object = samples.base
        if isinstance(samples, np.memmap) and isinstance(base, mmap.mmap):  # a whole file, not a part of one
            # A worker that is not forked maps the file again; otherwise every one gets a copy of it all.
            state["_split"] = (_without_samples(self._split), str(samples.filename), len(samples))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(state["_split"], tuple):
            split, path, num_samples = state["_split"]
            samples = np.memmap(path, np.int16, "r", shape=(num_samples,))
            self._split = AudioSplit(**{**split, "samples": samples})


def _without_samples(split: AudioSplit) -> dict[str, Any]:
    return {name: value for name, value in vars(split).items() if name != "samples"}


class EpochBatches(Sampler[list[Draw]]):
    """The draws of each step of an epoch, for `DataLoader(batch_sampler=...)`: those of `ResidentReader`."""

    def __init__(
        self,
        split: AudioSplit,
        reading: Reading,
        *,
        clips: Indices | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Plan the epochs of a split.

        Args:
            split: what is read.
            reading: what an epoch reads; this process's share where there are several.
            clips: indices of the chosen clips; default: all.
            weights: one per chosen clip, to draw with replacement (`train.reading.sampler.clip_weights`).

        Raises:
            UsageError: a step would leave a process without a clip.
        """
        self._sizes = np.diff(split.offsets)
        self._reading, self._weights = reading, weights
        self._clips = np.arange(len(split)) if clips is None else clips
        self._epoch, self._start_step = 0, 0
        self._num_steps = num_steps(len(self._clips), reading)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Which epoch comes next, and where in it to begin; without a call, the first is repeated."""
        if not 0 <= start_step <= self._num_steps:
            raise UsageError(f"step {start_step}: an epoch has {self._num_steps}")
        self._epoch, self._start_step = epoch, start_step

    def __len__(self) -> int:
        return self._num_steps - self._start_step

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = epoch_draws(self._reading, self._epoch, self._sizes, self._clips, weights=self._weights)
        for step in range(self._start_step, draws.num_steps):
            share = draws.share(step, self._reading)
            yield list(zip(draws.clips[share].tolist(), draws.first[share].tolist(), strict=True))
