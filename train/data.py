"""A dataset version as a run reads it, and its splits, opened in the tier that memory allows.

    data = Data(read_manifest(folder), device, hot_copies)
    table = open_table(data, "train", recipe)
    clips = open_clips(data, table, recipe, "samples")          Clips or StreamedClips, see train/clips.py
    clips = open_clips(data, table, recipe, "frames", front_end)

What fits in memory is resident: frames computed once, samples as 16 bits. What does not is streamed.
Shapes: N clips, C classes, T frames of all clips, M numbers of a frame.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import Manifest
from tutti.train.clips import AnyClips, Clips, StreamedClips, Unit
from tutti.train.reading.hot_copy import checked_folder, hot_copy
from tutti.train.reading.order import PCM_SCALE, Indices, groups_per_block
from tutti.train.reading.resident import linear, on_device
from tutti.train.reading.shards import SplitTable, split_table
from tutti.train.reading.split import AudioSplit, read_table
from tutti.train.reading.streaming import Streaming
from tutti.train.reading.tiers import Tier, choose_tier, free_bytes
from tutti.train.run_recipe import RunRecipe

MAX_THREADS = 8  # that decode: one process per GPU, and the machine has others
_SAMPLES_AT_ONCE = 1 << 22  # of audio in one front-end batch: 16 MiB of float32


@dataclass(frozen=True)
class Data:
    """A dataset version, and where a run keeps what it reads of it."""

    manifest: Manifest
    device: torch.device  # where windows appear
    hot_copies: Path | None = None  # folder in which decoded splits are kept and found again; None: nowhere

    @property
    def checked(self) -> Path | None:
        """The folder in which shards that were checked are noted; None: there is none."""
        return checked_folder(self.hot_copies)


def default_device() -> torch.device:
    """Choose the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_table(data: Data, split: str, recipe: RunRecipe) -> SplitTable:
    """Read what the shards say of a split, without its audio.

    Raises:
        UsageError: no such split, an empty one, or another sample rate than the recipe's.
        IntegrityError: the data are damaged.
    """
    folder, table = data.manifest.folder, split_table(data.manifest, split, data.checked)
    if not len(table):
        raise UsageError(f"{folder}: split {split!r} is empty; build with more data or another split recipe")
    if table.sample_rate != recipe.sample_rate:
        raise UsageError(
            f"{folder}: clips at {table.sample_rate} Hz, the recipe expects {recipe.sample_rate}; "
            f"train with --set {recipe.rate_field}={table.sample_rate}"
        )
    return table


def open_clips(
    data: Data,
    split: str,
    table: SplitTable,
    recipe: RunRecipe,
    unit: Unit,
    front_end: nn.Module | None = None,
    chosen: NDArray[np.bool_] | None = None,
) -> AnyClips:
    """Open the clips of a split, in memory or streamed.

    Args:
        data: of which version.
        split: its name.
        table: what the shards say of it, with the labels that count.
        recipe: how loud, in which tier, and what frames are.
        unit: what windows are to be cut from: samples or frames.
        front_end: from waveforms (B, T) to frames (B, F, M); only for frames.
        chosen: (N,) clips that are ever drawn; the others have no frames. None: all.

    Raises:
        IntegrityError: the data are damaged.
        StorageError: the hot copy cannot be written.
    """
    presence = torch.from_numpy(table.presence).to(data.device)
    gains = torch.from_numpy(linear(table.remaining_gain_db(recipe.target_lufs, recipe.max_gain_db)))
    lengths = _lengths(table, unit, recipe, chosen)
    if tier_of(table, unit, recipe, data) == "streaming":
        front_end = None if front_end is None else front_end.to(data.device)
        lengths_N = torch.from_numpy(lengths).to(data.device)
        fill = recipe.frames.silence if unit == "frames" else 0.0
        return StreamedClips(table, lengths_N, presence, unit, gains, front_end, fill, streaming_of(table, recipe))
    audio = (
        read_table(table) if data.hot_copies is None else hot_copy(data.manifest, split, data.hot_copies, table=table)
    )
    if front_end is None:
        samples = on_device(audio.samples, data.device)
        return _resident(samples, lengths, table, presence, "samples", gains=gains.to(data.device))
    frames = frames_of(audio, front_end.to(data.device), lengths, gains, recipe.frames.num_bins, data.device)
    return _resident(frames, lengths, table, presence, "frames", fill=recipe.frames.silence)


def _lengths(table: SplitTable, unit: Unit, recipe: RunRecipe, chosen: NDArray[np.bool_] | None) -> Indices:
    """Count the units of each clip (N,); 0 of those that are never drawn."""
    lengths = table.sizes
    if unit == "frames":
        lengths = np.array([recipe.frames.num_frames(size) for size in table.sizes.tolist()], np.int64)
    return lengths if chosen is None else np.where(chosen, lengths, 0)


def _resident(
    values: Tensor,
    lengths: Indices,
    table: SplitTable,
    presence: Tensor,
    unit: Unit,
    *,
    gains: Tensor | None = None,
    fill: float = 0.0,
) -> Clips:
    starts = np.cumsum(lengths) - lengths
    starts_N, lengths_N = (torch.from_numpy(part).to(values.device) for part in (starts, lengths))
    return Clips(values, starts_N, lengths_N, presence, table.songs, unit, gains, fill, table.group_of_clip)


def frames_of(
    audio: AudioSplit, front_end: nn.Module, lengths: Indices, gains: Tensor, num_bins: int, device: torch.device
) -> Tensor:
    """Compute the frames (T, M) float16 of every clip, once; clips of one size share a batch.

    Args:
        audio: the clips.
        front_end: on the device.
        lengths: (N,) frames of each clip; none are computed of clips without.
        gains: (N,) to the recipe's loudness.
        num_bins: M.
        device: where to.
    """
    starts = np.cumsum(lengths) - lengths
    frames = torch.empty((int(lengths.sum()), num_bins), dtype=torch.float16, device=device)
    scales = gains * PCM_SCALE
    for clips in _batches_of_one_size(audio.table.sizes, np.flatnonzero(lengths)):
        waveform_BT = torch.from_numpy(np.stack([audio.clip(clip) for clip in clips])).to(device)
        with torch.inference_mode():
            frames_BFM = front_end(waveform_BT.float() * scales[clips].to(device)[:, None])
        for clip, row in zip(clips, frames_BFM, strict=True):
            frames[starts[clip] : starts[clip] + len(row)] = row.half()
    return frames


def _batches_of_one_size(sizes: Indices, chosen: Indices) -> Iterator[list[int]]:
    clips_of: dict[int, list[int]] = defaultdict(list)
    for clip in chosen.tolist():
        clips_of[int(sizes[clip])].append(clip)
    for size, clips in clips_of.items():
        step = max(1, _SAMPLES_AT_ONCE // max(size, 1))
        for first in range(0, len(clips), step):
            yield clips[first : first + step]


def bytes_of(table: SplitTable, unit: Unit, recipe: RunRecipe) -> int:
    """Sum up the memory of a resident split: 16-bit samples, or frames of as many bits per number."""
    if unit == "frames":
        return 2 * recipe.frames.num_bins * int(_lengths(table, unit, recipe, None).sum())
    return 2 * int(table.sizes.sum())


def tier_of(table: SplitTable, unit: Unit, recipe: RunRecipe, data: Data) -> Tier:
    """Choose where a split is kept. Without a hot copy, which is only mapped, the host must hold its samples, too."""
    wanted, free = recipe.compute.reading, free_bytes(data.device)
    tier = choose_tier(wanted, bytes_of(table, unit, recipe), free)
    if tier == "streaming" or data.hot_copies is not None:
        return tier
    return choose_tier(wanted, bytes_of(table, "samples", recipe), free_bytes(torch.device("cpu")))


def streaming_of(table: SplitTable, recipe: RunRecipe) -> Streaming:
    """Choose blocks and threads of streaming: blocks as the epochs' order has them."""
    threads = min(torch.get_num_threads(), MAX_THREADS)
    return Streaming(groups_per_block(table.group_of_clip, recipe.shuffle_clips), num_threads=threads)


def share_of_songs(clips: Indices, groups: tuple[str, ...], share: float, seed: int) -> Indices:
    """Choose clips of a share of the songs, at least one; of a greater share the same ones and more.

    The NSynth paper's curve over the amount of data to fine-tune on.
    """
    if share >= 1 or not len(clips):
        return clips
    songs = np.unique(np.array([groups[clip] for clip in clips]))
    drawn = np.random.default_rng([seed, 7]).permutation(songs)[: max(1, round(share * len(songs)))]
    chosen = set(drawn.tolist())
    return np.array([clip for clip in clips if groups[clip] in chosen], np.int64)
