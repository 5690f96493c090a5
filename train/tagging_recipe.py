"""Recipes of models that tag clips: `TaggingRecipe`, as most files of recipes/ return it."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from tutti.datasets.record import Seconds
from tutti.train.features import ImageConfig, LogMelConfig
from tutti.train.fitting.losses import Loss
from tutti.train.run_recipe import RunRecipe
from tutti.train.scoring.thresholds import ThresholdSearch


@dataclass(frozen=True, kw_only=True)
class TaggingRecipe(RunRecipe):
    """Everything that decides what a run learns of the instruments in clips."""

    task: ClassVar[str] = "tagging"
    rate_field: ClassVar[str] = "features.sample_rate"

    model: str  # a file of models/; its INPUT decides what it hears
    model_config: Any  # that file's Config
    features: LogMelConfig = field(default_factory=LogMelConfig)  # its sample rate is that of every input
    # Of log-mel, before the network: each band by the training split, or all by AudioSet's two numbers (AST's weights).
    standardize: Literal["data", "audioset"] = "data"
    image: ImageConfig = field(default_factory=ImageConfig)  # of models that see images
    vggish: str = ""  # folder with OpenMIC's npz and label CSV, for models that hear VGGish embeddings
    window_s: Seconds = 3.0  # of a training example and of a chunk in evaluation; Lumen 2023
    chunk_s: Seconds | None = None  # of a chunk in evaluation; none: as window_s
    hop_s: Seconds | None = None  # from chunk to chunk; none: no overlap
    last: Literal["repeat", "zero", "drop"] = "repeat"  # what fills the last chunk, see train/chunking.py
    windows: Literal["random", "all", "first"] = "random"  # of a clip in an epoch: one, each in turn, its first
    # Chunks to clip. max: union of the chunks' predictions (Lumen 2023), but it grows with a clip's
    # length, so that one threshold does not fit 3 s and 20 s; mean: of probabilities, the NSynth
    # paper's code; mean_logits: its text.
    pooling: Literal["max", "mean", "mean_logits"] = "mean"
    # Clips are drawn with these weights and replacement (Lumen 2023: median of its classes' weights, its code: max).
    sampling: Literal["uniform", "median", "max"] = "uniform"
    augment: str = ""  # see train/fitting/augmentation.py; empty: none
    noises: str = ""  # folder of recordings for background noise, or a dataset of them (`esc50`)
    epochs: int = 20
    batch_size: int = 16  # Lumen 2023: the best F1 among 4, 6 and 16
    loss: Loss = field(default_factory=Loss)
    families: Literal["taxonomy", "lumen"] = "taxonomy"  # of the family loss
    pos_weight: bool = False  # weight of present labels = known absent / known present, per class; Lumen 2023
    max_pos_weight: float = 3.0  # and at least its inverse; uncapped ratios (8 and more) cost F1 on the sample
    select_by: Literal["map", "f1", "last"] = "f1"  # which epoch is kept, by validation; f1: mean of micro and macro
    thresholds: ThresholdSearch = field(default_factory=ThresholdSearch)  # fixed on validation
    # strong_sum: validation clips summed to 4 to 6 at a time (Lumen 2023), as real mixes are.
    thresholds_on: Literal["validation", "strong_sum"] = "validation"

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        super().__post_init__()
        self.check_above_zero("chunk_s", "hop_s")
        if self.max_pos_weight < 1:
            raise ValueError(f"max_pos_weight must be at least 1, got {self.max_pos_weight}")
        if self.standardize == "audioset" and (self.features.kind, self.features.n_mels) != ("kaldi", 128):
            raise ValueError("standardize=audioset are the statistics of Kaldi's 128 bands: set features.kind=kaldi")

    @property
    def frames(self) -> LogMelConfig:
        """Sizes of log-mel frames."""
        return self.features
