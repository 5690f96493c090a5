"""The input of a tagging model: which unit of a clip, through which front end; and the clips of a split as such.

    clips = load_clips(data, "train", recipe, unit="samples")
    for clips_B, window in clips.batches(draws, length): ...

| INPUT of the model | unit of training                         | unit of evaluation |
|--------------------|------------------------------------------|--------------------|
| logmel, image      | frames; samples where waveforms are varied | frames           |
| image of rgb       | samples                                  | samples            |
| waveform, features | samples                                  | samples            |
| vggish             | seconds                                  | seconds            |
"""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tutti.datasets.errors import UsageError
from tutti.datasets.record import ABSENT, UNKNOWN
from tutti.train.chunking import Chunking
from tutti.train.clips import AnyClips, Clips, Unit, one_present
from tutti.train.data import Data, open_clips, open_table, share_of_songs
from tutti.train.features import (
    CLASSICAL_FEATURES,
    ClassicalConfig,
    ClassicalFeatures,
    KaldiFbank,
    LogMel,
    ThreeChannels,
    ThreeChannelsConfig,
)
from tutti.train.model import Input, input_kind
from tutti.train.reading.shards import SplitTable
from tutti.train.reading.vggish import NUM_FEATURES, NUM_SECONDS, VggishClips, read_openmic
from tutti.train.tagging_recipe import TaggingRecipe

IMAGE_CHANNELS = 3  # the same picture in each: Lumen 2023's best, and what published weights expect
_OPENMIC = "openmic2018/"
_NPZ, _LABELS = "openmic-2018.npz", "openmic-2018-aggregated-labels.csv"


def training_unit(recipe: TaggingRecipe, *, varies_waveforms: bool) -> Unit:
    """Choose what windows are cut from in training."""
    return "samples" if varies_waveforms and input_kind(recipe.model) != "vggish" else evaluation_unit(recipe)


def evaluation_unit(recipe: TaggingRecipe) -> Unit:
    """Choose what chunks are cut from in evaluation."""
    units: dict[Input, Unit] = {"logmel": "frames", "image": "frames", "vggish": "seconds"}
    return "samples" if sees_rgb(recipe) else units.get(input_kind(recipe.model), "samples")


def sees_rgb(recipe: TaggingRecipe) -> bool:
    """Whether the model sees images of three views, which come from waveforms and not from log-mel."""
    return input_kind(recipe.model) == "image" and recipe.image.channels == "rgb"


def units_per_s(unit: Unit, recipe: TaggingRecipe) -> float:
    """Compute the number of units in a second."""
    sizes = {"samples": 1, "frames": recipe.features.hop_length, "seconds": recipe.sample_rate}
    return recipe.sample_rate / sizes[unit]


def evaluation_chunking(recipe: TaggingRecipe) -> Chunking:
    """Choose how clips are cut in evaluation."""
    unit = evaluation_unit(recipe)
    hop = None if recipe.hop_s is None else recipe.length_in(unit, recipe.hop_s)
    length = recipe.length_in(unit, recipe.chunk_s or recipe.window_s)
    return Chunking(length, hop, recipe.last, first_only=recipe.windows == "first")


def input_size(recipe: TaggingRecipe) -> int:
    """Compute the size of the input, for `build` of the model."""
    sizes: dict[Input, int] = {
        "logmel": recipe.features.n_mels,
        "waveform": recipe.sample_rate,
        "image": IMAGE_CHANNELS,
        "vggish": NUM_FEATURES,
        "features": len(CLASSICAL_FEATURES),
    }
    return sizes[input_kind(recipe.model)]


def make_front_end(recipe: TaggingRecipe) -> nn.Module | None:
    """Make what turns waveforms (B, T) into the model's input; None: its input are waveforms, or embeddings.

    Raises:
        UsageError: sizes that do not fit together.
    """
    kind = input_kind(recipe.model)
    if sees_rgb(recipe):
        return _three_channels(recipe)
    if kind in ("logmel", "image"):
        return _logmel(recipe)
    if kind == "features":
        classical = ClassicalConfig()
        _check_rate(recipe, "the classical features are", classical.sample_rate)
        return ClassicalFeatures(classical)
    return None


def _three_channels(recipe: TaggingRecipe) -> ThreeChannels:
    config = ThreeChannelsConfig()
    _check_rate(recipe, "image.channels=rgb is", config.logmel.sample_rate)
    # Weights of a front end would not be in the run: the wavelets stay as they are.
    return ThreeChannels(replace(config, scalogram=replace(config.scalogram, trainable=False)))


def _logmel(recipe: TaggingRecipe) -> LogMel | KaldiFbank:
    try:
        return KaldiFbank(recipe.features) if recipe.features.kind == "kaldi" else LogMel(recipe.features)
    except ValueError as error:
        raise UsageError(f"recipe {recipe.name}: {error}") from error


def _check_rate(recipe: TaggingRecipe, what: str, sample_rate: int) -> None:
    if recipe.sample_rate != sample_rate:
        raise UsageError(
            f"recipe {recipe.name}: {what} made for {sample_rate} Hz, not {recipe.sample_rate}; "
            "build the data at that rate"
        )


def load_clips(data: Data, split: str, recipe: TaggingRecipe, *, unit: Unit, closed: bool = False) -> AnyClips:
    """Open the clips of a split as the recipe's model hears them.

    Args:
        data: the dataset version.
        split: its name.
        recipe: how loud, which front end, and in which tier.
        unit: what windows are to be cut from.
        closed: what is unknown is absent in clips of which something is known.

    Raises:
        UsageError: no such split, an empty one, or data that do not suit the recipe.
        IntegrityError: the data are damaged.
        StorageError: the hot copy cannot be written.
    """
    front_end = _logmel(recipe) if unit == "frames" else None
    table = open_table(data, split, recipe)
    if recipe.loss.kind == "cross_entropy":
        table = replace(table, presence=one_present(table.presence, table.ids))
    if closed:
        known_N1 = (table.presence != UNKNOWN).any(axis=1, keepdims=True)
        table = replace(table, presence=np.where(known_N1, np.maximum(table.presence, ABSENT), table.presence))
    if unit == "seconds":
        return _embedded(data, table, recipe)
    return open_clips(data, split, table, recipe, unit, front_end)


def _embedded(data: Data, table: SplitTable, recipe: TaggingRecipe) -> Clips:
    """Collect the embeddings of OpenMIC's clips: ten short vectors each."""
    presence, values = (torch.from_numpy(part).to(data.device) for part in (table.presence, _embeddings(recipe, table)))
    starts = torch.arange(len(table), device=data.device) * NUM_SECONDS
    return Clips(values, starts, torch.full_like(starts, NUM_SECONDS), presence, table.songs, "seconds")


def _embeddings(recipe: TaggingRecipe, table: SplitTable) -> NDArray[np.float32]:
    """Read VGGish embeddings (N x 10, 128) of OpenMIC's clips."""
    if not recipe.vggish:
        raise UsageError(f"recipe {recipe.name}: hears VGGish embeddings; --set vggish=FOLDER, which holds {_NPZ}")
    foreign = next((clip_id for clip_id in table.ids if not clip_id.startswith(_OPENMIC)), None)
    if foreign is not None:
        raise UsageError(f"{foreign}: no clip of OpenMIC, so it has no embeddings; build --dataset openmic2018")
    keys = [clip_id.removeprefix(_OPENMIC).rpartition("@")[0] for clip_id in table.ids]
    return _read_once(recipe.vggish).features(keys).reshape(-1, NUM_FEATURES)


@functools.lru_cache(maxsize=1)
def _read_once(folder: str) -> VggishClips:
    return read_openmic(Path(folder) / _NPZ, Path(folder) / _LABELS)


def clips_to_learn_from(clips: AnyClips, recipe: TaggingRecipe) -> NDArray[np.int64]:
    """Choose clips with a known label, or all of them where unknown counts; of a share of the songs."""
    known = (clips.known_labels != UNKNOWN).any(axis=1) | (recipe.loss.unknown_weight > 0)
    return share_of_songs(np.flatnonzero(known), clips.groups, recipe.train_share, recipe.seed)
