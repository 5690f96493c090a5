"""AST without training: AudioSet's own classifier scored on a dataset's classes, which are mapped by name.

    task = zero_shot("MIT/ast-finetuned-audioset-10-10-0.4593", instruments)
    outputs = task.score_split(task.load_model(device), task.load_split(data, "test"))

The model takes what transformers' feature extractor makes of a clip: filter banks of at most 10.24 s, zeros behind a
shorter one; a longer clip is cut in pieces of that length, whose probabilities are averaged. A class of the dataset for
which AudioSet has several takes the greatest logit; one for which it has none is unknown, and has no figures.
Shapes: K pieces, N clips, C classes, F frames, M mel bands, T samples.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutti.datasets.errors import UsageError
from tutti.datasets.record import UNKNOWN
from tutti.train.chunking import Chunking, clip_probabilities, plan_chunks
from tutti.train.clips import AnyClips
from tutti.train.data import Data
from tutti.train.features import KALDI
from tutti.train.features.fbank import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, FbankConfig, features
from tutti.train.fitting.losses import masked_bce
from tutti.train.front_end import load_clips
from tutti.train.models import ast
from tutti.train.models._audioset import audioset_classes
from tutti.train.pretrained import CONFIG, WEIGHTS, Wanted, read_config, weights_folder
from tutti.train.reading.order import in_sequence
from tutti.train.scoring.thresholds import ThresholdSearch
from tutti.train.tagging_recipe import TaggingRecipe
from tutti.train.tasks.tagging import Tagging, Tags

PREPROCESSOR = "preprocessor_config.json"
PUBLISHED = "MIT/ast-finetuned-audioset-10-10-0.4593"

_PIECES_AT_ONCE = 16
_NEVER = -100.0  # the logit of a class that the model does not know


@dataclass(frozen=True)
class AudioSetModel:
    """A model of AudioSet's classes, and what it takes."""

    network: nn.Module  # (B, F, M) -> logits (B, known classes)
    front_end: FbankConfig
    device: torch.device

    @property
    def num_samples(self) -> int:
        """Samples that its longest input is made of."""
        return FRAME_SAMPLES + (self.front_end.max_frames - 1) * HOP_SAMPLES

    def logits(self, waveforms: list[Tensor]) -> Tensor:
        """Compute logits (K, known classes) of pieces of audio (T,) at 16 kHz, none longer than the model takes."""
        given = [waveform.cpu().numpy() for waveform in waveforms]
        frames = self.front_end.max_frames
        with torch.inference_mode():
            result: Tensor = self.network(features(given, self.front_end, frames=frames, device=self.device)).float()
        return result


@dataclass(frozen=True)
class ZeroShot(Tagging):
    """Tagging by a model that is not trained here."""

    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # known instrument -> AudioSet's names

    @property
    def unknown(self) -> tuple[str, ...]:
        """Classes of the dataset for which AudioSet has none."""
        return tuple(name for name in self.instruments if name not in self.classes)

    def load_model(self, device: torch.device) -> AudioSetModel:
        """Load the published model, with its own classifier.

        Raises:
            UsageError: it is not to be had, or has other classes than AudioSet's.
            IntegrityError: a file is damaged.
            TryLaterError: the hub fails.
        """
        config = replace(self.recipe.model_config, instruments=",".join(self.classes))
        front_end = _front_end(config.weights)
        try:
            network = ast.build(config, front_end.num_mels, len(self.classes))
        except ValueError as error:
            raise UsageError(f"weights {config.weights}: {error}") from error
        return AudioSetModel(network.to(device).eval(), front_end, device)

    def load_split(self, data: Data, split: str) -> AnyClips:
        """Open the clips of a split as samples.

        Raises:
            UsageError: no such split, an empty one, or another sample rate than the model's.
        """
        return load_clips(data, split, self.recipe, unit="samples")

    def score_split(self, model: AudioSetModel, split: AnyClips) -> Tags:  # type: ignore[override]
        """Compute the probability of every class in every clip; of an unknown class nothing is known."""
        plan = plan_chunks(split.lengths.cpu().numpy(), Chunking(model.num_samples, last="zero"))
        draws = in_sequence(plan.clips, plan.first, _PIECES_AT_ONCE)
        columns = [self.instruments.index(name) for name in self.classes]
        logits_KC = torch.full((len(plan), len(self.instruments)), _NEVER)
        batches = split.batches(draws, model.num_samples, "zero")
        for step, (_, window_BT) in enumerate(batches):
            share = draws.step(step)
            ends_B = np.minimum(plan.lengths[draws.clips[share]] - draws.first[share], model.num_samples)
            pieces = [row_T[: max(FRAME_SAMPLES, end)] for row_T, end in zip(window_BT, ends_B.tolist(), strict=True)]
            logits_KC[share, columns] = model.logits(pieces).cpu()
        presence_NC = split.known_labels.copy()
        presence_NC[:, [self.instruments.index(name) for name in self.unknown]] = UNKNOWN
        loss = float(masked_bce(logits_KC, torch.from_numpy(presence_NC)[torch.from_numpy(plan.clips)]))
        return Tags(presence_NC, clip_probabilities(logits_KC, plan.clips, "mean"), split.groups, loss)

    def facts(self) -> dict[str, Any]:
        """Describe for a report what was scored: weights, AudioSet's classes for each of ours, and who has none."""
        shown = {name: list(names) for name, names in self.classes.items()}
        return {"weights": self.recipe.model_config.weights, "classes": shown, "unknown": list(self.unknown)}


def zero_shot(weights: str, instruments: tuple[str, ...], *, added: bool = False) -> ZeroShot:
    """Map classes of a dataset to AudioSet's by name.

    Args:
        weights: hub name, `name@revision`, or folder of a published AST.
        instruments: classes of the dataset.
        added: also AudioSet's neighboring classes, some of them ambiguous.

    Raises:
        UsageError: AudioSet has none of the classes.
    """
    found = {name: audioset_classes(name, added=added) for name in instruments}
    classes = {name: names for name, names in found.items() if names}
    if not classes:
        raise UsageError(f"AudioSet has none of the classes {', '.join(instruments)}: there is nothing to score")
    recipe = TaggingRecipe(
        name="ast_zero_shot",
        model="ast",
        model_config=ast.Config(mode="zero_shot", weights=weights, added_mids=added),
        features=KALDI,
        standardize="audioset",
        window_s=10.0,
        last="zero",
        thresholds=ThresholdSearch(method="lumen_grid"),
    )
    return ZeroShot(recipe, instruments, classes)


def _front_end(weights: str) -> FbankConfig:
    """Read what the model takes; AudioSet's values where there is no preprocessor_config.json."""
    files = (CONFIG, PREPROCESSOR, WEIGHTS)
    folder = weights_folder(Wanted(weights, files, optional=(PREPROCESSOR,), instead=PUBLISHED))
    default, path = FbankConfig(), folder / PREPROCESSOR
    model = read_config(folder / CONFIG)
    if model.get("model_type") != "audio-spectrogram-transformer":
        raise UsageError(f"{folder / CONFIG}: model_type is {json.dumps(model.get('model_type'))}, and no AST's")
    values = read_config(path) if path.is_file() else {}
    mels, frames = model.get("num_mel_bins", default.num_mels), model.get("max_length", default.max_frames)
    for key, expected in (("sampling_rate", SAMPLE_RATE), ("max_length", frames), ("num_mel_bins", mels)):
        if values.get(key, expected) != expected:
            raise UsageError(
                f"{path}: {key} is {values[key]}, but the model takes {expected}; take both from one model"
            )
    normalize, mean = values.get("do_normalize", default.normalize), values.get("mean", default.mean)
    return FbankConfig(mels, frames, normalize, mean, values.get("std", default.std))
