"""What a model hears of the clips of a split, and how they are opened.

    clips = load_clips(manifest, "train", recipe, device, unit="samples")
    for clips_B, window in clips.batches(draws, length): ...

| INPUT of the model | unit of training                         | unit of evaluation |
|--------------------|------------------------------------------|--------------------|
| logmel, image      | frames; samples where waveforms are varied | frames           |
| image of rgb       | samples                                  | samples            |
| waveform, features | samples                                  | samples            |
| vggish             | seconds                                  | seconds            |

What fits in memory is resident: frames computed once, samples as 16 bits. What does not is streamed
(train/clips.py).
"""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datasets.errors import UsageError
from datasets.manifest import Manifest
from datasets.record import UNKNOWN, Seconds
from train.chunking import Chunking
from train.clips import AnyClips, Clips, StreamedClips, Unit, one_present
from train.data import AudioSplit, logmel_split, read_table
from train.features import (
    CLASSICAL_FEATURES,
    ClassicalConfig,
    ClassicalFeatures,
    KaldiFbank,
    LogMel,
    ThreeChannels,
    ThreeChannelsConfig,
)
from train.model import Input, input_of
from train.reading.hot_copy import checked_folder, hot_copy
from train.reading.resident import linear, on_device
from train.reading.shards import SplitTable, split_table
from train.reading.streaming import Streaming
from train.reading.tiers import Tier, choose_tier, free_bytes
from train.reading.vggish import NUM_FEATURES, NUM_SECONDS, VggishClips, read_openmic
from train.recipe import TrainRecipe, chunking_of

IMAGE_CHANNELS = 3  # the same picture in each: Lumen 2023's best, and what published weights expect
MAX_THREADS = 8  # that decode: one process per GPU, and the machine has others
_OPENMIC = "openmic2018/"
_NPZ, _LABELS = "openmic-2018.npz", "openmic-2018-aggregated-labels.csv"


def training_unit(recipe: TrainRecipe, *, varies_waveforms: bool) -> Unit:
    """What windows are cut from in training."""
    return "samples" if varies_waveforms and input_of(recipe.model) != "vggish" else evaluation_unit(recipe)


def evaluation_unit(recipe: TrainRecipe) -> Unit:
    """What chunks are cut from in evaluation."""
    units: dict[Input, Unit] = {"logmel": "frames", "image": "frames", "vggish": "seconds"}
    return "samples" if sees_rgb(recipe) else units.get(input_of(recipe.model), "samples")


def sees_rgb(recipe: TrainRecipe) -> bool:
    """Whether the model sees images of three views, which come from waveforms and not from log-mel."""
    return input_of(recipe.model) == "image" and recipe.image.channels == "rgb"


def length_in(unit: Unit, recipe: TrainRecipe, duration_s: Seconds) -> int:
    """A duration in units, at least one."""
    if unit == "seconds":
        return max(1, round(duration_s))
    num_samples = recipe.num_samples(duration_s)
    return num_samples if unit == "samples" else recipe.features.num_frames(num_samples)


def units_per_s(unit: Unit, recipe: TrainRecipe) -> float:
    """Units in a second."""
    sizes = {"samples": 1, "frames": recipe.features.hop_length, "seconds": recipe.sample_rate}
    return recipe.sample_rate / sizes[unit]


def evaluation_chunking(recipe: TrainRecipe) -> Chunking:
    """How clips are cut in evaluation."""
    unit = evaluation_unit(recipe)
    hop = None if recipe.hop_s is None else length_in(unit, recipe, recipe.hop_s)
    return chunking_of(recipe, length_in(unit, recipe, recipe.chunk_s or recipe.window_s), hop)


def input_size(recipe: TrainRecipe) -> int:
    """What `build` of the model is told about its input."""
    sizes: dict[Input, int] = {
        "logmel": recipe.features.n_mels,
        "waveform": recipe.sample_rate,
        "image": IMAGE_CHANNELS,
        "vggish": NUM_FEATURES,
        "features": len(CLASSICAL_FEATURES),
    }
    return sizes[input_of(recipe.model)]


def make_front_end(recipe: TrainRecipe) -> nn.Module | None:
    """From waveforms (B, T) to what the model hears; None: it hears waveforms, or embeddings.

    Raises:
        UsageError: sizes that do not fit together.
    """
    kind = input_of(recipe.model)
    if sees_rgb(recipe):
        return _three_channels(recipe)
    if kind in ("logmel", "image"):
        return _logmel(recipe)
    if kind == "features":
        return ClassicalFeatures(_classical(recipe))
    return None


def _three_channels(recipe: TrainRecipe) -> ThreeChannels:
    config = ThreeChannelsConfig()
    if recipe.sample_rate != config.logmel.sample_rate:
        raise UsageError(
            f"recipe {recipe.name}: image.channels=rgb is made for {config.logmel.sample_rate} Hz, not "
            f"{recipe.sample_rate}; build the data at that rate"
        )
    # Weights of a front end would not be in the run: the wavelets stay as they are.
    return ThreeChannels(replace(config, scalogram=replace(config.scalogram, trainable=False)))


def _logmel(recipe: TrainRecipe) -> LogMel | KaldiFbank:
    try:
        return KaldiFbank(recipe.features) if recipe.features.kind == "kaldi" else LogMel(recipe.features)
    except ValueError as error:
        raise UsageError(f"recipe {recipe.name}: {error}") from error


def _classical(recipe: TrainRecipe) -> ClassicalConfig:
    config = ClassicalConfig()
    if recipe.sample_rate != config.sample_rate:
        raise UsageError(
            f"recipe {recipe.name}: the classical features are made for {config.sample_rate} Hz, not "
            f"{recipe.sample_rate}; build the data at that rate"
        )
    return config


def open_table(manifest: Manifest, split: str, recipe: TrainRecipe, hot_copies: Path | None = None) -> SplitTable:
    """What the shards say of a split, without its audio; copies that were checked are noted beside hot copies.

    Raises:
        UsageError: no such split, an empty one, or another sample rate than the recipe's.
        IntegrityError: the data are damaged.
    """
    table = split_table(manifest, split, checked_folder(hot_copies))
    if not len(table):
        raise UsageError(f"{manifest.folder}: split {split!r} is empty; build with more data or another split recipe")
    if table.sample_rate != recipe.sample_rate:
        raise UsageError(
            f"{manifest.folder}: clips at {table.sample_rate} Hz, the recipe expects {recipe.sample_rate}; "
            f"train with --set features.sample_rate={table.sample_rate}"
        )
    return table


def bytes_of(table: SplitTable, unit: Unit, recipe: TrainRecipe) -> int:
    """Memory that a split takes where it is resident: 16-bit samples, or frames of as many bits per band."""
    if unit == "frames":
        return 2 * recipe.features.n_mels * sum(recipe.features.num_frames(int(size)) for size in table.sizes)
    return 2 * int(table.sizes.sum())


def tier_of(table: SplitTable, unit: Unit, recipe: TrainRecipe, device: torch.device, hot_copies: Path | None) -> Tier:
    """Where a split is kept. Without a hot copy, which is only mapped, the host must hold its samples, too."""
    if unit == "seconds":  # ten short vectors a clip
        return "resident"
    tier = choose_tier(recipe.compute.reading, bytes_of(table, unit, recipe), free_bytes(device))
    if tier == "streaming" or hot_copies is not None:
        return tier
    return choose_tier(recipe.compute.reading, bytes_of(table, "samples", recipe), free_bytes(torch.device("cpu")))


def load_clips(
    manifest: Manifest,
    split: str,
    recipe: TrainRecipe,
    device: torch.device,
    *,
    unit: Unit,
    hot_copies: Path | None = None,
) -> AnyClips:
    """What a recipe's model hears of a split, on a device.

    Args:
        manifest: of the dataset version.
        split: its name.
        recipe: how loud, which front end, and in which tier.
        device: where to.
        unit: what windows are to be cut from.
        hot_copies: folder in which decoded samples are kept and found again; None: nowhere.

    Raises:
        UsageError: no such split, an empty one, or data that do not suit the recipe.
        IntegrityError: the data are damaged.
        StorageError: the hot copy cannot be written.
    """
    table = open_table(manifest, split, recipe, hot_copies)
    if recipe.loss.kind == "cross_entropy":
        table = replace(table, presence=one_present(table.presence, table.ids))
    presence = torch.from_numpy(table.presence).to(device)
    if unit == "seconds":
        values = torch.from_numpy(_embeddings(recipe, table.ids)).to(device)
        starts = torch.arange(len(table), device=device) * NUM_SECONDS
        return Clips(values, starts, torch.full_like(starts, NUM_SECONDS), presence, table.songs, unit)
    gains = torch.from_numpy(linear(table.remaining_gain_db(recipe.target_lufs, recipe.max_gain_db)))
    if tier_of(table, unit, recipe, device, hot_copies) == "streaming":
        sizes = table.sizes.tolist()
        lengths = sizes if unit == "samples" else [recipe.features.num_frames(size) for size in sizes]
        front_end = None if unit == "samples" else _logmel(recipe).to(device)
        fill = 0.0 if unit == "samples" else recipe.features.silence
        return StreamedClips(
            table,
            torch.tensor(lengths, device=device),
            presence,
            unit,
            gains,
            front_end,
            fill,
            streaming_of(table, recipe),
        )
    audio = _resident_audio(manifest, split, table, hot_copies)
    if unit == "frames":
        loudness = {"target_lufs": recipe.target_lufs, "max_gain_db": recipe.max_gain_db}
        made = logmel_split(audio, _logmel(recipe), device, **loudness)
        return Clips(
            made.frames,
            made.starts,
            made.lengths,
            presence,
            table.songs,
            unit,
            None,
            recipe.features.silence,
            table.group_of_clip,
        )
    return Clips(
        on_device(audio.samples, device),
        torch.from_numpy(audio.offsets[:-1]).to(device),
        torch.from_numpy(table.sizes).to(device),
        presence,
        table.songs,
        unit,
        gains.to(device),
        row_groups=table.group_of_clip,
    )


def streaming_of(table: SplitTable, recipe: TrainRecipe) -> Streaming:
    """How a split is streamed: blocks as the epochs' order has them."""
    threads = min(torch.get_num_threads(), MAX_THREADS)
    return Streaming(groups_per_block=groups_per_block(table.group_of_clip, recipe), num_threads=threads)


def groups_per_block(row_groups: NDArray[np.int64], recipe: TrainRecipe) -> int:
    """Row groups whose clips are shuffled together: about `shuffle_clips` clips."""
    return max(1, recipe.shuffle_clips // int(np.bincount(row_groups).max(initial=1)))


def _resident_audio(manifest: Manifest, split: str, table: SplitTable, hot_copies: Path | None) -> AudioSplit:
    return read_table(table) if hot_copies is None else hot_copy(manifest, split, hot_copies, table=table)


def _embeddings(recipe: TrainRecipe, ids: tuple[str, ...]) -> NDArray[np.float32]:
    """VGGish embeddings (N x 10, 128) of OpenMIC's clips."""
    if not recipe.vggish:
        raise UsageError(f"recipe {recipe.name}: hears VGGish embeddings; --set vggish=FOLDER, which holds {_NPZ}")
    foreign = next((clip_id for clip_id in ids if not clip_id.startswith(_OPENMIC)), None)
    if foreign is not None:
        raise UsageError(f"{foreign}: no clip of OpenMIC, so it has no embeddings; build --dataset openmic2018")
    keys = [clip_id.removeprefix(_OPENMIC).rpartition("@")[0] for clip_id in ids]
    return _read_once(recipe.vggish).features(keys).reshape(-1, NUM_FEATURES)


@functools.lru_cache(maxsize=1)
def _read_once(folder: str) -> VggishClips:
    return read_openmic(Path(folder) / _NPZ, Path(folder) / _LABELS)


def share_of_songs(clips: NDArray[np.int64], groups: tuple[str, ...], share: float, seed: int) -> NDArray[np.int64]:
    """Clips of a share of the songs, at least one; of a greater share the same ones and more.

    The NSynth paper's curve over the amount of data to fine-tune on.
    """
    if share >= 1 or not len(clips):
        return clips
    songs = np.unique(np.array([groups[clip] for clip in clips]))
    drawn = np.random.default_rng([seed, 7]).permutation(songs)[: max(1, round(share * len(songs)))]
    chosen = set(drawn.tolist())
    return np.array([clip for clip in clips if groups[clip] in chosen], np.int64)


def clips_to_learn_from(clips: AnyClips, recipe: TrainRecipe) -> NDArray[np.int64]:
    """Clips with a known label, or all of them where unknown counts; of a share of the songs."""
    known = (clips.known_labels != UNKNOWN).any(axis=1) | (recipe.loss.unknown_weight > 0)
    return share_of_songs(np.flatnonzero(known), clips.groups, recipe.train_share, recipe.seed)
