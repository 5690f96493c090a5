"""What a model hears of the clips of a split, resident on one device.

    clips = load_clips(manifest, "train", recipe, device, unit="samples")
    window = clips.windows(clips_B, first_B, length)

| INPUT of the model | unit of training                         | unit of evaluation |
|--------------------|------------------------------------------|--------------------|
| logmel, image      | frames; samples where waveforms are varied | frames           |
| waveform, features | samples                                  | samples            |
| vggish             | seconds                                  | seconds            |

Frames are computed once; of samples every batch is one gather from 16-bit audio.
Shapes: N clips, C classes, T units of all clips, L units of a window, B windows.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.errors import UsageError
from datasets.manifest import Manifest
from datasets.record import UNKNOWN, Seconds
from datasets.shard import read_shard
from train.chunking import Chunking
from train.data import AudioSplit, logmel_split, read_split
from train.features import CLASSICAL_FEATURES, ClassicalConfig, ClassicalFeatures, LogMel
from train.model import Input, input_of
from train.reading.vggish import NUM_FEATURES, NUM_SECONDS, VggishClips, read_openmic
from train.recipe import TrainRecipe, chunking_of

Unit: TypeAlias = Literal["samples", "frames", "seconds"]

IMAGE_CHANNELS = 3  # the same picture in each: Lumen 2023's best, and what published weights expect
_OPENMIC = "openmic2018/"
_NPZ, _LABELS = "openmic-2018.npz", "openmic-2018-aggregated-labels.csv"


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of a split end to end, and their labels; tensors on one device."""

    values: Tensor  # (T,) int16 samples; (T, M) float16 dB; (T, D) float32 embeddings
    starts: Tensor  # (N,) int64: first unit of each clip
    lengths: Tensor  # (N,) int64: units of each clip, at least 1
    presence: Tensor  # (N, C) int8
    groups: tuple[str, ...]  # (N,): the song of each clip
    unit: Unit
    gains: Tensor | None = None  # (N,) float32: samples to full scale 1, at the recipe's loudness
    fill: float = 0.0  # silence: 0 in samples, the floor in dB

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.values.device

    @property
    def known_labels(self) -> NDArray[np.int8]:
        """Presence (N, C) for the metrics."""
        presence: NDArray[np.int8] = self.presence.cpu().numpy()
        return presence

    def windows(self, clips_B: Tensor, first_B: Tensor, length: int, last: str = "repeat") -> Tensor:
        """Windows (B, L, ...) float32 that begin at unit `first` of their clips.

        What lies beyond the end is the clip from its start (Lumen 2023), or with last=zero silence.
        """
        units_BL = first_B[:, None] + torch.arange(length, device=self.device)
        lengths_B1 = self.lengths[clips_B][:, None]
        window = self.values[self.starts[clips_B][:, None] + units_BL % lengths_B1].float()
        if self.gains is not None:
            window = window * self.gains[clips_B][:, None]
        if last != "zero":
            return window
        outside = (units_BL >= lengths_B1).reshape(*units_BL.shape, *[1] * (window.ndim - 2))
        return torch.where(outside, self.fill, window)


def training_unit(recipe: TrainRecipe, *, varies_waveforms: bool) -> Unit:
    """What windows are cut from in training."""
    return "samples" if varies_waveforms and input_of(recipe.model) != "vggish" else evaluation_unit(recipe)


def evaluation_unit(recipe: TrainRecipe) -> Unit:
    """What chunks are cut from in evaluation."""
    units: dict[Input, Unit] = {"logmel": "frames", "image": "frames", "vggish": "seconds"}
    return units.get(input_of(recipe.model), "samples")


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
    if kind in ("logmel", "image"):
        return _logmel(recipe)
    if kind == "features":
        return ClassicalFeatures(_classical(recipe))
    return None


def _logmel(recipe: TrainRecipe) -> LogMel:
    try:
        return LogMel(recipe.features)
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


def load_audio(manifest: Manifest, split: str, recipe: TrainRecipe) -> AudioSplit:
    """The decoded clips of a split.

    Raises:
        UsageError: no such split, an empty one, or another sample rate than the recipe's.
        IntegrityError: the data are damaged.
    """
    audio = read_split(manifest, split)
    if not len(audio):
        raise UsageError(f"{manifest.folder}: split {split!r} is empty; build with more data or another split recipe")
    if audio.sample_rate != recipe.sample_rate:
        raise UsageError(
            f"{manifest.folder}: clips at {audio.sample_rate} Hz, the recipe expects {recipe.sample_rate}; "
            f"train with --set features.sample_rate={audio.sample_rate}"
        )
    return audio


def load_clips(
    manifest: Manifest,
    split: str,
    recipe: TrainRecipe,
    device: torch.device,
    *,
    unit: Unit,
    audio: AudioSplit | None = None,
) -> Clips:
    """What a recipe's model hears of a split, on a device.

    Args:
        manifest: of the dataset version.
        split: its name.
        recipe: how loud, and which front end.
        device: where to.
        unit: what windows are to be cut from.
        audio: the split if it has been read.

    Raises:
        UsageError: no such split, an empty one, or data that do not suit the recipe.
        IntegrityError: the data are damaged.
    """
    audio = audio or load_audio(manifest, split, recipe)
    groups = tuple(
        str(row["group"])
        for info in manifest.shards(split)
        for row in read_shard(manifest.folder / info.path, ["group"])
    )
    presence = torch.from_numpy(audio.presence).to(device)
    if unit == "frames":
        loudness = {"target_lufs": recipe.target_lufs, "max_gain_db": recipe.max_gain_db}
        made = logmel_split(audio, _logmel(recipe), device, **loudness)
        return Clips(made.frames, made.starts, made.lengths, presence, groups, unit, fill=silence_db(recipe))
    if unit == "seconds":
        values = torch.from_numpy(_embeddings(recipe, audio)).to(device)
        starts = torch.arange(len(audio), device=device) * NUM_SECONDS
        return Clips(values, starts, torch.full_like(starts, NUM_SECONDS), presence, groups, unit)
    gains = 10 ** (audio.remaining_gain_db(recipe.target_lufs, recipe.max_gain_db).astype(np.float64) / 20) / 32768
    return Clips(
        torch.from_numpy(audio.samples).to(device),
        torch.from_numpy(audio.offsets[:-1]).to(device),
        torch.from_numpy(np.diff(audio.offsets)).to(device),
        presence,
        groups,
        unit,
        gains=torch.from_numpy(gains).float().to(device),
    )


def silence_db(recipe: TrainRecipe) -> float:
    """What the front end answers to digital silence."""
    return recipe.features.floor_db if recipe.features.scale == "db" else 0.0


def _embeddings(recipe: TrainRecipe, audio: AudioSplit) -> NDArray[np.float32]:
    """VGGish embeddings (N x 10, 128) of OpenMIC's clips."""
    if not recipe.vggish:
        raise UsageError(f"recipe {recipe.name}: hears VGGish embeddings; --set vggish=FOLDER, which holds {_NPZ}")
    foreign = next((clip_id for clip_id in audio.ids if not clip_id.startswith(_OPENMIC)), None)
    if foreign is not None:
        raise UsageError(f"{foreign}: no clip of OpenMIC, so it has no embeddings; build --dataset openmic2018")
    keys = [clip_id.removeprefix(_OPENMIC).rpartition("@")[0] for clip_id in audio.ids]
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


def clips_to_learn_from(clips: Clips, recipe: TrainRecipe) -> NDArray[np.int64]:
    """Clips with a known label, or all of them where unknown counts; of a share of the songs."""
    known = (clips.known_labels != UNKNOWN).any(axis=1) | (recipe.loss.unknown_weight > 0)
    return share_of_songs(np.flatnonzero(known), clips.groups, recipe.train_share, recipe.seed)
