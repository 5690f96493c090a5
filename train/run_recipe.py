"""Fields of every recipe, whatever it learns; train/tagging_recipe.py and train/notes/recipe.py add their own."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from tutti.datasets.record import Decibels, Lufs, Seconds
from tutti.train.features import LogMelConfig
from tutti.train.features.cqt import CqtConfig
from tutti.train.fitting.optimize import OptimizeConfig

_MAX_WINDOW_S = 3600.0


@dataclass(frozen=True)
class ComputeConfig:
    """Switches for speed: they change the last digits, not what is learned."""

    precision: Literal["float32", "bf16"] = "float32"  # bf16: autocast of the network, not of the front end
    channels_last: bool = False  # the memory order of convolutions; most image models have it already
    compile: bool = False  # torch.compile of the network
    # Processor threads of an operation; 0: a thread per core. One where the network is small or the cores are shared:
    # threads that wait for each other then cost several times what they save.
    threads: int = 0
    # resident: in memory; streaming: epoch by epoch from the shards; auto: what train/reading/tiers.py says.
    reading: Literal["auto", "resident", "streaming"] = "auto"

    def __post_init__(self) -> None:
        """Refuse fewer threads than none."""
        if self.threads < 0:
            raise ValueError(f"threads must be at least 0, got {self.threads}")


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """Everything that decides what a run learns, except the data; the part that all tasks share."""

    task: ClassVar[str]
    rate_field: ClassVar[str]  # what `--set` calls the sample rate

    name: str
    model_config: Any
    target_lufs: Lufs = -12.0  # loudness of what the model hears; as the build's
    max_gain_db: Decibels = 30.0  # of build and training together; as the build's
    window_s: Seconds  # of a training example
    # Clips that are shuffled together. Streaming holds two to three times as many in memory: 2.5 GB of FLAC of ten
    # seconds each. Fewer clips than this are shuffled altogether.
    shuffle_clips: int = 4096
    train_share: float = 1.0  # of the training songs that are learned from (NSynth pre-training: .1 to 1)
    seed: int = 0
    epochs: int
    batch_size: int
    optimize: OptimizeConfig = field(default_factory=OptimizeConfig)
    unfreeze: str = ""  # prefixes of backbone weights that are trained after head_epochs; empty: all
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        """Refuse numbers that nothing could be trained with."""
        for name, least in {"epochs": 1, "batch_size": 1, "seed": 0, "shuffle_clips": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        self.check_above_zero("window_s", "train_share")
        if self.train_share > 1:
            raise ValueError(f"train_share must be at most 1, got {self.train_share}")

    def check_above_zero(self, *names: str) -> None:
        """Refuse durations and shares that are not above 0, or beyond an hour; None passes.

        Raises:
            ValueError: as said.
        """
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
            if value is not None and value > _MAX_WINDOW_S:
                raise ValueError(f"{name} must be at most {_MAX_WINDOW_S:g}, got {value}")

    @property
    def frames(self) -> LogMelConfig | CqtConfig:
        """Sizes of the frames that the model hears, or would hear: its sample rate is that of every input."""
        raise NotImplementedError

    @property
    def sample_rate(self) -> int:
        """The rate of the model's input, Hz."""
        return self.frames.sample_rate

    # Tagging lets its recipes choose these three.
    @property
    def windows(self) -> Literal["random", "all", "first"]:
        """Windows of a clip in an epoch: a random one."""
        return "random"

    @property
    def sampling(self) -> Literal["uniform", "median", "max"]:
        """The weights with which clips are drawn: all alike."""
        return "uniform"

    @property
    def last(self) -> Literal["repeat", "zero", "drop"]:
        """The continuation of a clip in a window that passes its end: silence."""
        return "zero"

    def num_samples(self, duration_s: Seconds) -> int:
        """Count the samples of a duration, at least one."""
        return max(1, round(duration_s * self.sample_rate))

    def length_in(self, unit: Literal["samples", "frames", "seconds"], duration_s: Seconds) -> int:
        """Convert a duration to units that windows are cut from, at least one."""
        if unit == "seconds":
            return max(1, round(duration_s))
        num_samples = self.num_samples(duration_s)
        return num_samples if unit == "samples" else self.frames.num_frames(num_samples)

    @property
    def window_frames(self) -> int:
        """Length of a window in frames."""
        return self.length_in("frames", self.window_s)
