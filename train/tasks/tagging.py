"""Tagging: which instruments are in a clip. One probability per clip and class, from chunks of a length.

Shapes: B examples of a batch, C classes, N clips, K chunks.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from tutti.datasets.audibility import Downmix
from tutti.datasets.errors import TuttiError, UsageError
from tutti.datasets.record import ABSENT, PRESENT
from tutti.datasets.targets import IsOurs, is_our_picture
from tutti.datasets.typed_json import read_as
from tutti.train import timeline
from tutti.train.chunking import Chunking, clip_probabilities, plan_chunks
from tutti.train.clips import AnyClips, Batch
from tutti.train.data import Data
from tutti.train.features import AUDIOSET_STATISTICS, Standardization, standardization
from tutti.train.fitting import distributed
from tutti.train.fitting.augmentation import Augmentation, make_augmentation
from tutti.train.fitting.losses import Loss, masked_bce
from tutti.train.front_end import (
    clips_to_learn_from,
    evaluation_chunking,
    evaluation_unit,
    load_clips,
    make_front_end,
    sees_rgb,
    training_unit,
)
from tutti.train.model import input_kind
from tutti.train.reading.order import Draws, Indices, in_sequence
from tutti.train.scoring.bootstrap import Interval, metric_intervals
from tutti.train.scoring.metrics import (
    Floats,
    Presence,
    best_threshold,
    likeliest,
    predict,
    predominant_accuracy,
    summary_of,
)
from tutti.train.scoring.report import evaluation_report, headline, table
from tutti.train.scoring.strong_sum import strong_sum
from tutti.train.scoring.thresholds import choose_thresholds
from tutti.train.tagger import Tagger, build_network, build_tagger, chunk_logits
from tutti.train.tagging_recipe import TaggingRecipe
from tutti.train.task import Figures, Material, Report, Task
from tutti.train.tasks.tagging_step import TaggingStep, make_loss

Thresholds: TypeAlias = tuple[float, ...]  # one per class


@dataclass(frozen=True)
class Tags:
    """Probabilities of the clips of a split, and their labels."""

    presence: Presence  # (N, C)
    probability: Floats  # (N, C)
    groups: tuple[str, ...]  # (N,): the song of each clip
    loss: float  # cross-entropy of the chunks


@dataclass(frozen=True)
class Tagging(Task[AnyClips, Tags, Thresholds, Tagger]):
    """Names of the instruments in clips."""

    recipe: TaggingRecipe
    instruments: tuple[str, ...]

    statistics_names: ClassVar[tuple[str, str]] = ("mean_db", "std_db")
    compared: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1", "map", "lrap", "hamming_score")
    shown: ClassVar[dict[str, str]] = {
        "loss": "train_loss",
        "validation loss": "validation_loss",
        "mAP": "map",
        "micro F1": "micro_f1",
        "macro F1": "macro_f1",
        "accuracy": "predominant_accuracy",
    }
    pictures: ClassVar[dict[str, IsOurs]] = {".png": is_our_picture}

    # --- data

    @classmethod
    def of(cls, recipe: TaggingRecipe, data: Data) -> Self:
        """Take all classes of the data.

        Raises:
            UsageError: the recipe's model learns nothing.
        """
        if getattr(recipe.model_config, "mode", "") == "zero_shot":
            raise UsageError(
                f"recipe {recipe.name}: mode=zero_shot learns nothing; score it with "
                f"`python -m train.evaluate --zero-shot {recipe.model_config.weights or 'WEIGHTS'} --data DIR`"
            )
        return cls(recipe, tuple(data.manifest.instruments))

    @functools.cached_property
    def augmentation(self) -> Augmentation:
        """Chains that vary training windows.

        Raises:
            UsageError: the recipe's text cannot be read, or does not suit its model.
        """
        recipe = self.recipe
        augmentation = make_augmentation(
            recipe.augment,
            sample_rate=recipe.sample_rate,
            num_samples=recipe.num_samples(recipe.window_s),
            noises=recipe.noises,
            has_waveform=input_kind(recipe.model) != "vggish",
        )
        if augmentation.spectrogram is not None and sees_rgb(recipe):
            raise UsageError(
                f"recipe {recipe.name}: augment={recipe.augment} changes log-mel, and image.channels=rgb has none; "
                "leave out what changes spectrograms, or --set image.channels=logmel"
            )
        return augmentation

    def load_training(self, data: Data) -> tuple[AnyClips, Standardization | None]:
        """Open the training split as the recipe's model hears it, and take statistics of its log-mel."""
        recipe = self.recipe
        unit = training_unit(recipe, varies_waveforms=self.augmentation.waveform is not None)
        train = load_clips(data, "train", recipe, unit=unit)
        statistics = AUDIOSET_STATISTICS if recipe.standardize == "audioset" else None
        if statistics is None and evaluation_unit(recipe) == "frames" and (front_end := make_front_end(recipe)):
            statistics = standardization(train.frames(front_end.to(data.device)))
        return train, statistics

    def load(self, data: Data) -> Material[AnyClips]:
        """Open the training and the validation split; warn of classes of which little can be learned."""
        train, statistics = self.load_training(data)
        validation = self.load_split(data, "validation")
        chosen = self.chosen(train)
        if not len(chosen):
            raise UsageError(f"{data.manifest.folder}: no clip of split 'train' has a known label; nothing to learn")
        self._warn_of_one_sided_classes(train)
        return Material(train, validation, chosen, statistics)

    def _warn_of_one_sided_classes(self, train: AnyClips) -> None:
        one_sided = (train.presence == PRESENT).any(dim=0) & ~(train.presence == ABSENT).any(dim=0)
        names = [self.instruments[index] for index in torch.nonzero(one_sided).flatten().tolist()]
        if names and self.recipe.loss.unknown_weight == 0:
            distributed.say(
                f"warning: {', '.join(names)}: never known to be absent in split 'train', so the model can only learn "
                "to say present; build with labels that state absence, or --set unknown_weight=0.1"
            )

    def load_split(self, data: Data, split: str) -> AnyClips:
        """Open a split as it is evaluated; its classes must be the task's."""
        self.check_classes(data)
        return load_clips(data, split, self.recipe, unit=evaluation_unit(self.recipe))

    def check_classes(self, data: Data) -> None:
        """Refuse data of other classes than the task's.

        Raises:
            UsageError: as said; the message lists both.
        """
        if tuple(data.manifest.instruments) != self.instruments:
            raise UsageError(
                f"{data.manifest.folder}: classes {', '.join(data.manifest.instruments)}; "
                f"the run was trained for {', '.join(self.instruments)}: evaluate on data with these"
            )

    def clips(self, split: AnyClips) -> AnyClips:
        """Return the clips themselves."""
        return split

    def chosen(self, split: AnyClips) -> Indices:
        """Select the clips that are learned from."""
        return clips_to_learn_from(split, self.recipe)

    def batches(self, split: AnyClips, draws: Draws, start_step: int = 0) -> Iterator[Batch]:
        """Read the windows of each step, from `start_step` on."""
        length = self.recipe.length_in(split.unit, self.recipe.window_s)
        return split.batches(draws, length, self.recipe.last, start_step=start_step)

    # --- network

    def network(self) -> nn.Module:
        """Build the part with weights; the caller seeds torch."""
        return build_network(self.recipe, len(self.instruments))

    def build(self, statistics: Standardization | None) -> Tagger:
        """Build a fresh network behind its front end, and try it; the caller seeds torch."""
        return build_tagger(self.recipe, len(self.instruments), statistics)

    def step(self, tagger: Tagger, module: nn.Module, material: Material[AnyClips]) -> TaggingStep:
        """Prepare training steps."""
        presence = material.train.presence
        learned = presence[torch.from_numpy(material.chosen).to(presence.device)]
        loss = make_loss(self.recipe, learned, self.instruments)
        return TaggingStep(tagger, module, presence, self.augmentation, self.recipe, loss)

    def fit_at_once(self, tagger: Tagger, material: Material[AnyClips]) -> None:
        """Fit a model that has a method `fit`, on every chunk of the clips that are learned from."""
        recipe, train, clips = self.recipe, material.train, material.chosen
        if self.augmentation != Augmentation():
            raise TuttiError(
                f"recipe {recipe.name}: {recipe.model} is fitted at once, on clips as they are; set augment="
            )
        length = recipe.length_in(train.unit, recipe.window_s)
        plan = plan_chunks(train.lengths.cpu().numpy()[clips], Chunking(length))
        draws = in_sequence(clips[plan.clips], plan.first, 64)
        with torch.inference_mode():
            features = [
                tagger.featurize(window).cpu().numpy() for _, window in train.batches(draws, length, recipe.last)
            ]
        cast(Any, tagger.network).fit(np.concatenate(features), train.known_labels[clips[plan.clips]])

    # --- figures

    @functools.cached_property
    def _chunking(self) -> Chunking:
        return evaluation_chunking(self.recipe)

    def score_split(self, tagger: Tagger, split: AnyClips) -> Tags:
        """Compute the probability of every instrument in every clip."""
        logits_KC, plan = chunk_logits(tagger, split, self._chunking)
        presence_KC = split.presence[torch.from_numpy(plan.clips).to(logits_KC.device)]
        probability = clip_probabilities(logits_KC, plan.clips, self.recipe.pooling)
        return Tags(split.known_labels, probability, split.groups, self._chunk_loss(logits_KC, presence_KC))

    @property
    def _one_of_all(self) -> bool:
        """Whether each clip has exactly one class: the likeliest is predicted, and there is no threshold."""
        return self.recipe.loss.kind == "cross_entropy"

    def _chunk_loss(self, logits_KC: Tensor, presence_KC: Tensor) -> float:
        """Take the cross-entropy of the softmax, or of each class by itself; without smoothing and weights."""
        if self._one_of_all:
            return float(Loss(kind="cross_entropy").build()(logits_KC, presence_KC))
        return float(masked_bce(logits_KC, presence_KC))

    def figures(self, outputs: Tags) -> Figures:
        """Score an epoch at the global threshold that suits it best, or the likeliest class of each clip."""
        presence, probability = outputs.presence, outputs.probability
        threshold, accuracy = None, {}
        if self._one_of_all:
            predicted = likeliest(probability)
            accuracy = {"predominant_accuracy": predominant_accuracy(presence, probability)}
        else:
            threshold = best_threshold(presence, probability)
            predicted = predict(probability, np.full(presence.shape[1], threshold))
        scores = summary_of(presence, probability, predicted)
        return {
            "validation_loss": outputs.loss,
            "threshold": threshold,
            **{name: scores[name] for name in ("map", "micro_f1", "macro_f1", "lrap", "hamming_score")},
            **accuracy,
        }

    def score(self, figures: Figures) -> float | None:
        """Score an epoch by its figures; None where validation knows too little, or the last one is wanted.

        With cross_entropy f1 means single-label accuracy, which is the micro F1 of one prediction a clip.
        """
        if self.recipe.select_by == "last":
            return None
        if self.recipe.select_by == "map":
            return None if figures["map"] is None else float(figures["map"])
        if "predominant_accuracy" in figures:
            return None if figures["predominant_accuracy"] is None else float(figures["predominant_accuracy"])
        micro, macro = figures["micro_f1"], figures["macro_f1"]
        return None if micro is None or macro is None else (micro + macro) / 2

    def thresholds(self, tagger: Tagger, data: Data, outputs: Tags) -> Thresholds:
        """Choose thresholds on the validation split, or on sums of its clips."""
        recipe, presence, probability = self.recipe, outputs.presence, outputs.probability
        if recipe.thresholds_on == "strong_sum":
            if input_kind(recipe.model) == "vggish":
                raise UsageError(f"recipe {recipe.name}: embeddings cannot be summed; set thresholds_on=validation")
            samples = load_clips(data, "validation", recipe, unit="samples")
            presence, probability = strong_sum(tagger, samples, recipe)
        return choose_thresholds(recipe.thresholds, presence, probability, split="validation")

    def report(self, outputs: Tags, thresholds: Thresholds) -> Report:
        """Score a split."""
        presence, probability = outputs.presence, outputs.probability
        return evaluation_report(
            presence, probability, thresholds, self.instruments, outputs.loss, one_of_all=self._one_of_all
        )

    def intervals(self, outputs: Tags, thresholds: Thresholds, num_resamples: int) -> dict[str, Interval]:
        """Compute intervals of the figures over resampled songs."""
        generator, cut = np.random.default_rng(0), np.asarray(thresholds)
        return metric_intervals(
            outputs.presence, outputs.probability, cut, outputs.groups, generator, num_resamples=num_resamples
        )

    def draw(self, outputs: Tags, thresholds: Thresholds, report: Report, folder: Path, title: str) -> list[Path]:
        """Draw figures per instrument, ROC curves, F1 per clip and confusions."""
        from tutti.train.scoring.pictures import evaluation_pictures  # matplotlib takes a second to load

        return evaluation_pictures(
            folder, report, outputs.presence, outputs.probability, thresholds, self.instruments, title
        )

    def headline(self, report: Report) -> Report:
        """Select the figures that a summary shows."""
        return headline(report)

    def table(self, report: Report, title: str) -> str:
        """Write two tables: model against the best constant, and the classes."""
        return table(report, title)

    # --- runs and files

    def thresholds_to_json(self, thresholds: Thresholds) -> dict[str, float]:
        """Write the threshold of each class by its name."""
        return dict(zip(self.instruments, thresholds, strict=True))

    def thresholds_from_json(self, content: Any) -> Thresholds:
        """Read what `thresholds_to_json` wrote."""
        found = read_as(Mapping[str, float], content, "thresholds")
        return tuple(float(found[name]) for name in self.instruments)

    def refusal(self, csv: Path | None) -> str | None:
        """Explain why files cannot be predicted; None: they can."""
        if input_kind(self.recipe.model) != "vggish":
            return None
        return (
            "its model hears the VGGish embeddings that OpenMIC ships, and there is no VGGish here to "
            "make them of your audio (its weights are published for TensorFlow only); train a recipe that hears audio, "
            "such as logmel_cnn or lumen_convnext_fluffy, on the same data, or score this run on OpenMIC's clips with "
            "train.evaluate"
        )

    def predict(
        self,
        tagger: Tagger,
        thresholds: Thresholds,
        path: Path,
        base: Path | None = None,
        downmix: Downmix = "mean",
    ) -> dict[str, Any]:
        """Name the instruments of one file, and when they play; with `base` also as BASE.png."""
        by_name = self.thresholds_to_json(thresholds)
        result = timeline.timeline_of(path, tagger, self.recipe, by_name, downmix)
        if base is not None:
            timeline.draw(result, by_name, base.with_name(f"{base.name}.png"))
        return result

    def text(self, result: dict[str, Any]) -> str:
        """Write a file's instruments, most probable first."""
        return timeline.as_text(result)

    def csv(self, results: Sequence[dict[str, Any]], thresholds: Thresholds) -> str:
        """Write the time line of all files as one table."""
        return timeline.as_csv(results, self.thresholds_to_json(thresholds))
