"""Clips of a split as a model hears them, in one of two tiers that hand out the same windows; train/data.py opens them.

    Clips            resident: samples or frames of all clips in one tensor on the device, a window is a gather
    StreamedClips    streamed: read from the shards in the order of the draws, decoded ahead

    for clips_B, window in clips.batches(draws, length): ...

Training does not depend on the tier: the order comes from train/reading/order.py, the windows are equal bit for
bit on a CPU. On a GPU log-mel frames may differ in their last bit, for a tier computes them in batches of its own.

Shapes: N clips, C classes, T units of all clips, L units of a window, B windows, F frames, M mel bands.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutti.datasets.errors import UsageError
from tutti.datasets.record import ABSENT, PRESENT
from tutti.train.reading.order import PCM_SCALE, Draws, Fill, Indices
from tutti.train.reading.resident import gather
from tutti.train.reading.shards import SplitTable
from tutti.train.reading.streaming import Decoding, Streaming, to_device

Unit: TypeAlias = Literal["samples", "frames", "seconds"]
Batch: TypeAlias = tuple[Tensor, Tensor]  # clips (B,) int64, windows (B, L, ...) float32


def fill_of(last: str) -> Fill:
    """Choose what follows a clip's end in a window; `drop` never reads beyond it."""
    return "zero" if last == "zero" else "repeat"


def one_present(presence_NC: NDArray[np.int8], ids: Sequence[str]) -> NDArray[np.int8]:
    """Label clips in which exactly one class is present: what is unknown is absent.

    So a dataset of 1,006 classes need not write out 1,005 absent ones per clip.

    Raises:
        UsageError: a clip has none or several; the message names the first.
    """
    num_present_N = np.count_nonzero(presence_NC == PRESENT, axis=1)
    wrong = np.flatnonzero(num_present_N != 1)
    if len(wrong):
        raise UsageError(
            f"{ids[wrong[0]]}: {num_present_N[wrong[0]]} classes are known to be present, and cross_entropy needs "
            f"exactly one ({len(wrong)} such clips); train on data with one label a clip, or --set loss.kind=bce"
        )
    known_NC: NDArray[np.int8] = np.maximum(presence_NC, np.int8(ABSENT))  # unknown is less than absent
    return known_NC


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of a split end to end, and their labels; tensors on one device."""

    values: Tensor  # (T,) int16 samples; (T, M) float16 dB; (T, D) float32 embeddings
    starts: Tensor  # (N,) int64: first unit of each clip
    lengths: Tensor  # (N,) int64: units of each clip; 0: it is never drawn
    presence: Tensor  # (N, C) int8
    groups: tuple[str, ...]  # (N,): the song of each clip
    unit: Unit
    gains: Tensor | None = None  # (N,) float32: of int16 samples, to the recipe's loudness; then 1 is full scale
    fill: float = 0.0  # silence: 0 in samples, the floor in dB
    row_groups: Indices | None = None  # (N,): which rows are read together; None: all

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def device(self) -> torch.device:
        """The device on which windows appear."""
        return self.presence.device

    @property
    def known_labels(self) -> NDArray[np.int8]:
        """Presence (N, C) for the metrics."""
        presence: NDArray[np.int8] = self.presence.cpu().numpy()
        return presence

    @functools.cached_property
    def _offsets(self) -> Tensor:
        return torch.cat([self.starts, (self.starts + self.lengths)[-1:]])

    def windows(self, clips_B: Tensor, first_B: Tensor, length: int, last: str = "repeat") -> Tensor:
        """Gather windows (B, L, ...) float32 that begin at unit `first` of their clips.

        What lies beyond the end is the clip from its start (Lumen 2023), or with last=zero silence.
        """
        if self.gains is not None:  # 16-bit samples
            fill = fill_of(last)
            return gather(self.values, self._offsets, clips_B, first_B, length, fill=fill, scale_B=self.gains[clips_B])
        units_BL = first_B[:, None] + torch.arange(length, device=self.device)
        lengths_B1 = self.lengths[clips_B][:, None]
        window = self.values[self.starts[clips_B][:, None] + units_BL % lengths_B1].float()
        if last != "zero":
            return window
        outside = (units_BL >= lengths_B1).reshape(*units_BL.shape, *[1] * (window.ndim - 2))
        return torch.where(outside, self.fill, window)

    def batches(self, draws: Draws, length: int, last: str = "repeat", *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the windows of each step, from `start_step` on."""
        clips_K, first_K = (torch.from_numpy(part).to(self.device) for part in (draws.clips, draws.first))
        for step in range(start_step, draws.num_steps):
            share = draws.step(step)
            yield clips_K[share], self.windows(clips_K[share], first_K[share], length, last)

    def frames(self, front_end: nn.Module) -> Iterator[Tensor]:
        """Compute the frames (F, M) float16 of every clip that is ever drawn, in order."""
        if self.unit == "frames":
            yield from torch.split(self.values, [length for length in self.lengths.tolist() if length])
            return
        for start, length, gain in zip(
            self.starts.tolist(), self.lengths.tolist(), self._scales().tolist(), strict=True
        ):
            yield frames_of_clip(front_end, self.values[start : start + length], gain)

    def _scales(self) -> Tensor:
        gains = torch.ones(len(self)) / PCM_SCALE if self.gains is None else self.gains
        return gains.cpu() * PCM_SCALE


def frames_of_clip(front_end: nn.Module, samples_T: Tensor, scale: float) -> Tensor:
    """Compute the frames (F, M) float16 of a clip's samples times a factor, as both tiers store them."""
    with torch.inference_mode():
        frames_FM: Tensor = front_end((samples_T.float() * scale)[None])[0].half()
    return frames_FM


@dataclass(eq=False)
class StreamedClips:
    """Clips of a split that stay in their shards, and their labels; see `Clips`.

    Samples are decoded window by window, after a first pass that decodes whole clips and compares them with
    their digests. For frames whole clips are decoded, because a frame may depend on all of its clip.
    """

    table: SplitTable
    lengths: Tensor  # (N,) int64: units of each clip; 0: it is never drawn
    presence: Tensor  # (N, C) int8
    unit: Unit  # samples or frames
    gains: Tensor  # (N,) float32 on the CPU: to the recipe's loudness
    front_end: nn.Module | None = None  # from samples to frames, on the device
    fill: float = 0.0
    streaming: Streaming = field(default_factory=Streaming)
    _verified: bool = False

    def __len__(self) -> int:
        return len(self.table)

    @property
    def groups(self) -> tuple[str, ...]:
        """(N,): the song of each clip."""
        return self.table.songs

    @property
    def row_groups(self) -> Indices | None:
        """(N,): which rows are read together."""
        return self.table.group_of_clip

    @property
    def device(self) -> torch.device:
        """The device on which windows appear."""
        return self.presence.device

    @property
    def known_labels(self) -> NDArray[np.int8]:
        """Presence (N, C) for the metrics."""
        return self.table.presence

    def batches(self, draws: Draws, length: int, last: str = "repeat", *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the windows of each step, from `start_step` on.

        Raises:
            IntegrityError: a clip is not what its row says; the message names shard and clip.
        """
        draws = self._in_blocks(draws)
        if self.unit == "frames":
            return self._frame_batches(draws, length, last, start_step)
        return self._sample_batches(draws, length, fill_of(last), start_step)

    def _in_blocks(self, draws: Draws) -> Draws:
        """Assign draws in the order of the shards to blocks; draws in no order are read as one block."""
        if draws.block_of_clip is not None or (np.diff(draws.clips) < 0).any():
            return draws
        block_N = self.table.group_of_clip // self.streaming.groups_per_block
        return Draws(draws.clips, draws.first, draws.num_steps, block_N)

    def _sample_batches(self, draws: Draws, length: int, fill: Fill, start_step: int) -> Iterator[Batch]:
        decoding, whole = Decoding(self.table, self.streaming), not self._verified
        self._verified = True

        def window(number: int, audio: Any) -> NDArray[np.int16]:
            clip, first = int(draws.clips[number]), int(draws.first[number])
            return decoding.window(clip, first, length, fill, audio, whole=whole)

        scales = self.gains * PCM_SCALE
        for share, rows in decoding.steps(draws, window, start_step=start_step):
            clips_B = torch.from_numpy(draws.clips[share])
            scale_B1 = scales[clips_B].to(self.device, non_blocking=True)[:, None]
            window_BT = to_device(rows, self.device).float() * scale_B1
            yield clips_B.to(self.device, non_blocking=True), window_BT

    def _frame_batches(self, draws: Draws, length: int, last: str, start_step: int) -> Iterator[Batch]:
        for share, frames in self._whole_frames(draws, start_step):
            clips_B, rows = draws.clips[share], []
            for clip, first in zip(clips_B.tolist(), draws.first[share].tolist(), strict=True):
                units_L = first + torch.arange(length, device=self.device)
                row_LM = frames[clip][units_L % len(frames[clip])].float()
                if last == "zero":
                    row_LM[units_L >= len(frames[clip])] = self.fill
                rows.append(row_LM)
            yield torch.from_numpy(clips_B).to(self.device), torch.stack(rows)

    def _whole_frames(self, draws: Draws, start_step: int) -> Iterator[tuple[slice, dict[int, Tensor]]]:
        """Yield the draws of each step and the frames of its clips, each clip decoded once."""
        front_end = self.front_end
        if front_end is None:
            raise ValueError("frames need a front end; streamed samples have none")
        decoding, scales = Decoding(self.table, self.streaming), (self.gains * PCM_SCALE).tolist()
        clips_of = [np.unique(draws.clips[draws.step(step)]) for step in range(draws.num_steps)]
        bounds = np.cumsum([0, *map(len, clips_of)]).tolist()
        once = np.concatenate([*clips_of, np.empty(0, np.int64)])
        block_N = draws.block_of_clip
        if block_N is not None:  # the blocks of a step in order
            once = np.concatenate(
                [*(part[np.argsort(block_N[part], kind="stable")] for part in clips_of), np.empty(0, np.int64)]
            )
        unique = Draws(once.astype(np.int64), np.zeros(len(once), np.int64), draws.num_steps, block_N)

        def whole(number: int, audio: Any) -> tuple[int, NDArray[np.int16]]:
            clip = int(unique.clips[number])
            return clip, decoding.whole(clip, audio)

        steps = decoding.steps(
            unique, whole, start_step=start_step, share=lambda step: slice(bounds[step], bounds[step + 1])
        )
        for step, (_, decoded) in enumerate(steps, start_step):
            yield (
                draws.step(step),
                {
                    clip: frames_of_clip(front_end, to_device([pcm], self.device)[0], scales[clip])
                    for clip, pcm in decoded
                },
            )

    def frames(self, front_end: nn.Module) -> Iterator[Tensor]:
        """Compute the frames (F, M) float16 of every clip that is ever drawn, in order."""
        clips = np.flatnonzero(self.lengths.cpu().numpy())
        each = Draws(clips, np.zeros_like(clips), -(-len(clips) // _CLIPS_AT_ONCE))
        streamed = (
            self
            if self.unit == "frames"
            else StreamedClips(
                self.table, self.lengths, self.presence, "frames", self.gains, front_end, streaming=self.streaming
            )
        )
        for share, frames in streamed._whole_frames(streamed._in_blocks(each), 0):
            yield from (frames[clip] for clip in clips[share].tolist())
        self._verified = True


_CLIPS_AT_ONCE = 16

AnyClips: TypeAlias = Clips | StreamedClips
