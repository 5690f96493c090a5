"""How a model is trained, and the registry: every file in `recipes/` is one recipe.

A recipe file holds a function of its own name that answers a `TrainRecipe`. `--set` replaces
single fields by name, nested ones with a dot: `epochs=3`, `optimize.weight_decay=0.1`; a group's
name may be left out where one group alone has the field: `learning_rate=1e-3`, `gamma=0.3`.
`--tiny` makes of any recipe one that learns in seconds, to see that everything runs.
"""

import dataclasses
import importlib
import math
import pkgutil
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from datasets.errors import UsageError
from datasets.record import Decibels, Lufs, Seconds
from datasets.settings import nearest, with_field
from datasets.typed_json import object_of, read_as
from train import recipes
from train.chunking import Chunking
from train.features import ImageConfig, LogMelConfig
from train.fitting.losses import Loss
from train.fitting.optimize import OptimizeConfig
from train.model import input_of, load_model, tiny_config
from train.scoring.thresholds import ThresholdSearch

_MAX_SIZE = 1 << 20  # of a number in a model's settings, in a recipe that was read from a file
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
        if self.threads < 0:
            raise ValueError(f"threads must be at least 0, got {self.threads}")


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides what a training run learns, except the data."""

    name: str
    model: str  # a file of models/; its INPUT decides what it hears
    model_config: Any  # that file's Config
    features: LogMelConfig = field(default_factory=LogMelConfig)  # its sample rate is that of every input
    # Of log-mel, before the network: each band by the training split, or all by AudioSet's two numbers (AST's weights).
    standardize: Literal["data", "audioset"] = "data"
    image: ImageConfig = field(default_factory=ImageConfig)  # of models that see images
    vggish: str = ""  # folder with OpenMIC's npz and label CSV, for models that hear VGGish embeddings
    target_lufs: Lufs = -12.0  # loudness of what the model hears; as the build's
    max_gain_db: Decibels = 30.0  # of build and training together; as the build's
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
    # Clips that are shuffled together. Streaming holds two to three times as many in memory: 2.5 GB of FLAC of ten
    # seconds each. Fewer clips than this are shuffled altogether.
    shuffle_clips: int = 4096
    augment: str = ""  # see train/fitting/augmentation.py; empty: none
    noises: str = ""  # folder of recordings for background noise
    train_share: float = 1.0  # of the training songs that are learned from (NSynth pre-training: .1 to 1)
    seed: int = 0
    epochs: int = 20
    batch_size: int = 16  # Lumen 2023: the best F1 among 4, 6 and 16
    optimize: OptimizeConfig = field(default_factory=OptimizeConfig)
    unfreeze: str = ""  # prefixes of backbone weights that are trained after head_epochs; empty: all
    loss: Loss = field(default_factory=Loss)
    families: Literal["taxonomy", "lumen"] = "taxonomy"  # of the family loss
    pos_weight: bool = False  # weight of present labels = known absent / known present, per class; Lumen 2023
    max_pos_weight: float = 3.0  # and at least its inverse; uncapped ratios (8 and more) cost F1 on the sample
    select_by: Literal["map", "f1", "last"] = "f1"  # which epoch is kept, by validation; f1: mean of micro and macro
    thresholds: ThresholdSearch = field(default_factory=ThresholdSearch)  # fixed on validation
    # strong_sum: validation clips summed to 4 to 6 at a time (Lumen 2023), as real mixes are.
    thresholds_on: Literal["validation", "strong_sum"] = "validation"
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        minima = {"epochs": 1, "batch_size": 1, "seed": 0, "max_pos_weight": 1, "shuffle_clips": 1}
        for name, least in minima.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("window_s", "chunk_s", "hop_s", "train_share"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
            if value is not None and value > _MAX_WINDOW_S:
                raise ValueError(f"{name} must be at most {_MAX_WINDOW_S:g}, got {value}")
        if self.standardize == "audioset" and (self.features.kind, self.features.n_mels) != ("kaldi", 128):
            raise ValueError("standardize=audioset are the statistics of Kaldi's 128 bands: set features.kind=kaldi")
        if self.train_share > 1:
            raise ValueError(f"train_share must be at most 1, got {self.train_share}")

    @property
    def sample_rate(self) -> int:
        """Of what the model hears, Hz."""
        return self.features.sample_rate

    def num_samples(self, duration_s: Seconds) -> int:
        """Samples of a duration, at least one."""
        return max(1, round(duration_s * self.sample_rate))

    @property
    def window_frames(self) -> int:
        """Length of a window in log-mel frames."""
        return self.features.num_frames(self.num_samples(self.window_s))


def recipe_names() -> list[str]:
    """Names of all recipes: the listing of the `recipes` folder, without helpers (`_name`)."""
    names = (module.name for module in pkgutil.iter_modules(recipes.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def load_recipe(name: str, overrides: Sequence[str] = (), *, tiny: bool = False) -> TrainRecipe:
    """A recipe by name, with `field=value` overrides applied in order.

    Args:
        name: a file of recipes/.
        overrides: the last word.
        tiny: the small form.

    Raises:
        UsageError: unknown recipe or field (the message names the nearest), or a value that does
            not fit.
    """
    spelled = name.replace("-", "_")
    if spelled not in recipe_names():
        from train.frames.recipe import RECIPES  # it builds on this module

        known = sorted([*recipe_names(), *RECIPES])
        raise UsageError(f"unknown recipe {name!r}{nearest(spelled, known)}; known: {', '.join(known)}")
    module = importlib.import_module(f"train.recipes.{spelled}")
    recipe: TrainRecipe = getattr(module, spelled)()
    if tiny:
        recipe = tiny_form(recipe)
    for override in overrides:
        recipe = with_override(recipe, override)
    return recipe


# Enough for a toy to be learned, little enough for seconds on one core.
_TINY_EPOCHS, _TINY_BATCH, _TINY_RATE, _TINY_PIXELS, _TINY_WINDOW_S = 10, 8, 1e-2, 64, 0.8
# A recipe that begins with published weights fine-tunes them in a few epochs; from scratch it takes more, at a lower
# rate, and with less weight on labels that only count as absent: on the built-in sample's test split the macro F1 of
# lumen_convnext is .42 with the rate and the weight of all others, and .74 to .78 over three seeds with these.
_TINY_EPOCHS_FROM_SCRATCH, _TINY_RATE_FROM_SCRATCH, _TINY_UNKNOWN_WEIGHT = 30, 3e-3, 0.1


def tiny_form(recipe: TrainRecipe) -> TrainRecipe:
    """The same path through the code with a toy of the model, random weights, short windows, a few epochs.

    Head, kind of loss, augmentation, pooling, optimizer and schedule stay; thresholds are fixed on single clips. One
    processor thread, so that a toy is the same on any number of cores.
    """
    config = tiny_config(recipe.model)
    kept = {name: getattr(recipe.model_config, name) for name in ("head", "mode") if hasattr(config, name)}
    longest = _TINY_WINDOW_S if input_of(recipe.model) != "vggish" else recipe.window_s
    shorter = min(1.0, longest / recipe.window_s)
    published = bool(getattr(recipe.model_config, "weights", ""))
    rate, most_unknown = (_TINY_RATE_FROM_SCRATCH, _TINY_UNKNOWN_WEIGHT) if published else (_TINY_RATE, math.inf)
    return replace(
        recipe,
        model_config=replace(config, **kept),
        image=replace(recipe.image, height=_TINY_PIXELS, width=_TINY_PIXELS),
        window_s=recipe.window_s * shorter,
        chunk_s=None if recipe.chunk_s is None else recipe.chunk_s * shorter,
        hop_s=None if recipe.hop_s is None else recipe.hop_s * shorter,
        epochs=_TINY_EPOCHS_FROM_SCRATCH if published else min(recipe.epochs, _TINY_EPOCHS),
        batch_size=min(recipe.batch_size, _TINY_BATCH),
        thresholds_on="validation",  # in sums of what it hardly knows a toy finds no threshold
        # Random weights: nothing to keep the backbone frozen for.
        optimize=replace(recipe.optimize, learning_rate=rate, backbone_learning_rate=None, head_epochs=0),
        loss=replace(recipe.loss, unknown_weight=min(recipe.loss.unknown_weight, most_unknown)),
        compute=replace(recipe.compute, threads=1),
    )


def with_override(recipe: TrainRecipe, override: str) -> TrainRecipe:
    """One `field=value` applied; another `model` brings its own default `model_config`.

    Raises:
        UsageError: no such field, or a value that does not fit; the message quotes the override.
    """
    changed = with_field(recipe, override, own_fields=("model_config",))
    try:
        if changed.model != recipe.model or override.partition("=")[0].strip() == "model":
            changed = replace(changed, model_config=load_model(changed.model).Config())
    except ValueError as error:
        raise UsageError(f"--set {override}: {error}") from error
    return changed


def recipe_to_json(recipe: TrainRecipe) -> dict[str, Any]:
    """All fields, nested ones as objects."""
    return dataclasses.asdict(recipe)


def recipe_from_json(content: Any) -> TrainRecipe:
    """The inverse of `recipe_to_json`.

    Raises:
        UsageError: the model exists no longer.
        KeyError, TypeError, ValueError: fields are missing, unknown, of another type or out of range.
    """
    values = dict(object_of(content, "recipe"))
    model = read_as(str, values["model"], "model")
    values["model_config"] = read_as(load_model(model).Config, values["model_config"], "model_config")
    _check_sizes(values["model_config"])
    for name, kind in typing.get_type_hints(TrainRecipe).items():
        if name != "model_config":
            values[name] = read_as(kind, values[name], name)
    return TrainRecipe(**values)


def _check_sizes(config: Any) -> None:
    """A stranger's network may be small or large, but not so that only its construction takes for ever."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) > _MAX_SIZE or any(type(number) is int and abs(number) > _MAX_SIZE for number in numbers):
            raise ValueError(f"model_config.{item.name}: at most {_MAX_SIZE:,}, found {str(value)[:60]}")


def chunking_of(recipe: TrainRecipe, length: int, hop: int | None) -> Chunking:
    """How clips are cut in evaluation, in the units of `length` and `hop`."""
    return Chunking(length, hop, recipe.last, first_only=recipe.windows == "first")
