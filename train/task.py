"""The interface of a task: all that depends on what a run learns. train/tasks/ holds one file per task.

    task = task_for(recipe, data)                       train/tasks/listing.py
    material = task.load(data)                          the splits that are learned from and chosen by
    tagger = task.build(material.statistics)            a fresh network
    step = task.step(tagger, tagger, material)          the loss of a batch, for train/fitting/loop.py
    outputs = task.score_split(tagger, material.validation)  one pass over a split; every figure comes from it
    thresholds = task.thresholds(tagger, data, outputs)
    report = task.report(outputs, thresholds)

Everything else, from the order of clips to the files of a run, is the same for all tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

from torch import Tensor, nn

from tutti.datasets.audibility import Downmix
from tutti.datasets.errors import TuttiError, UsageError
from tutti.datasets.targets import IsOurs
from tutti.train.clips import AnyClips
from tutti.train.data import Data
from tutti.train.features import Standardization
from tutti.train.model import Listener
from tutti.train.reading.order import Draws, Indices
from tutti.train.scoring.bootstrap import Interval

Split = TypeVar("Split")  # what is read of a split
Outputs = TypeVar("Outputs")  # what a network says of a split, and what is true
Thresholds = TypeVar("Thresholds")
Tagger = TypeVar("Tagger", bound=Listener)

Figures: TypeAlias = dict[str, Any]  # name -> number, or None where nothing is known
Report: TypeAlias = dict[str, Any]  # `model` and `constant` hold figures
Step: TypeAlias = Callable[[Any, int, int], Tensor]  # batch, epoch, number of the step -> loss with a graph


class NothingToScoreError(UsageError):
    """A split holds nothing of what the task learns."""


@dataclass(frozen=True)
class Material(Generic[Split]):
    """The splits that a run trains on and is chosen by."""

    train: Split
    validation: Split
    chosen: Indices  # clips of `train` that are learned from
    statistics: Standardization | None  # of the frames of `train`; None: nothing is standardized


@dataclass(frozen=True)
class Task(ABC, Generic[Split, Outputs, Thresholds, Tagger]):
    """A recipe's task, for some classes."""

    recipe: Any  # of the task's own kind
    instruments: tuple[str, ...]

    # names of mean and deviation in config.json
    statistics_names: ClassVar[tuple[str, str]] = ("mean", "std")
    compared: ClassVar[tuple[str, ...]]  # figures of `model` that tell variants of a recipe apart
    shown: ClassVar[Mapping[str, str]]  # words -> figure of an epoch, for its line
    pictures: ClassVar[Mapping[str, IsOurs]]  # suffix of what is drawn of a file -> how one of ours is told

    # --- data. Whatever reads raises UsageError where recipe and data do not go together, IntegrityError where they
    # are damaged.

    @classmethod
    @abstractmethod
    def of(cls, recipe: Any, data: Data) -> Self:
        """Take the classes of the data, as the recipe wants them."""

    @abstractmethod
    def load(self, data: Data) -> Material[Split]:
        """Read what is learned from and chosen by."""

    @abstractmethod
    def load_split(self, data: Data, split: str) -> Split:
        """Read a split to be scored; NothingToScoreError: it holds nothing of what is learned."""

    @abstractmethod
    def clips(self, split: Split) -> AnyClips:
        """Select the audio of a split."""

    @abstractmethod
    def chosen(self, split: Split) -> Indices:
        """Select the clips that are learned from."""

    @abstractmethod
    def batches(self, split: Split, draws: Draws, start_step: int = 0) -> Iterator[Any]:
        """Read the training windows of each step from `start_step` on, and what is known of them."""

    # --- network; the caller seeds torch

    @abstractmethod
    def network(self) -> nn.Module:
        """Build the part with weights."""

    @abstractmethod
    def build(self, statistics: Standardization | None) -> Tagger:
        """Build a fresh network behind its front end."""

    @abstractmethod
    def step(self, tagger: Tagger, module: nn.Module, material: Material[Split]) -> Step:
        """Prepare training steps; `module` is the tagger, as it is, compiled, or joined over several processes."""

    def fit_at_once(self, tagger: Tagger, material: Material[Split]) -> None:
        """Fit a network that has a method `fit` and knows no steps."""
        raise TuttiError(f"recipe {self.recipe.name}: {type(tagger.network).__name__} cannot be fitted at once")

    # --- figures

    @abstractmethod
    def score_split(self, tagger: Tagger, split: Split) -> Outputs:
        """Run the network over every clip of a split once, in eval mode."""

    @abstractmethod
    def figures(self, outputs: Outputs) -> Figures:
        """Score an epoch on the validation split, at the thresholds that suit it best."""

    @abstractmethod
    def score(self, figures: Figures) -> float | None:
        """Score an epoch by its figures; None: too little is known, or the last one is wanted."""

    @abstractmethod
    def thresholds(self, tagger: Tagger, data: Data, outputs: Outputs) -> Thresholds:
        """Choose thresholds on the validation split, which `outputs` is of, and on nothing else."""

    @abstractmethod
    def report(self, outputs: Outputs, thresholds: Thresholds) -> Report:
        """Score a split."""

    @abstractmethod
    def intervals(self, outputs: Outputs, thresholds: Thresholds, num_resamples: int) -> dict[str, Interval]:
        """Compute intervals of the figures over resampled songs."""

    def draw(self, outputs: Outputs, thresholds: Thresholds, report: Report, folder: Path, title: str) -> list[Path]:
        """Write pictures of a report; answer their paths."""
        return []

    def headline(self, report: Report) -> Report:
        """Select what a summary shows of a split: the model beside a constant predictor."""
        return {who: report[who] for who in ("model", "constant")}

    @abstractmethod
    def table(self, report: Report, title: str) -> str:
        """Write a report as plain text."""

    # --- runs and files

    @abstractmethod
    def thresholds_to_json(self, thresholds: Thresholds) -> dict[str, Any]:
        """Write thresholds by name."""

    @abstractmethod
    def thresholds_from_json(self, content: Any) -> Thresholds:
        """Read what `thresholds_to_json` wrote; KeyError, TypeError or ValueError: it did not."""

    @abstractmethod
    def refusal(self, csv: Path | None) -> str | None:
        """Explain why files cannot be predicted, or no table written of them, and what to do; None: they can."""

    @abstractmethod
    def predict(
        self,
        tagger: Tagger,
        thresholds: Thresholds,
        path: Path,
        base: Path | None = None,
        downmix: Downmix = "mean",
    ) -> dict[str, Any]:
        """Name what plays in one file; with `base` also write pictures, named BASE and a suffix."""

    @abstractmethod
    def text(self, result: dict[str, Any]) -> str:
        """Write a prediction as plain text."""

    def csv(self, results: Sequence[dict[str, Any]], thresholds: Thresholds) -> str:
        """Write predictions as one table."""
        raise UsageError(f"recipe {self.recipe.name}: its predictions are no table")


AnyTask: TypeAlias = Task[Any, Any, Any, Any]
