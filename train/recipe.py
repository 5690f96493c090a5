"""How a model is trained, and the registry: every file in `recipes/` is one recipe.

A recipe file holds a function of its own name that answers a `TrainRecipe`. `--set` replaces
single fields by name, nested ones with a dot: `epochs=3`, `features.n_mels=96`.
"""

import dataclasses
import importlib
import pkgutil
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets.errors import UsageError
from datasets.record import Decibels, Lufs, Seconds
from datasets.settings import nearest, parse_value
from train import recipes
from train.features import LogMelConfig
from train.model import load_model


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides what a training run learns, except the data."""

    name: str
    model: str  # a file of models/
    model_config: Any  # that file's Config
    features: LogMelConfig = field(default_factory=LogMelConfig)
    target_lufs: Lufs = -12.0  # loudness of what the model hears; as the build's
    max_gain_db: Decibels = 30.0  # of build and training together; as the build's
    window_s: Seconds = 3.0  # of a training example and of a chunk in evaluation; Lumen 2023
    # Chunks to clip. max: union of the chunks' predictions (Lumen 2023), but it grows with a clip's
    # length, so that one threshold does not fit 3 s and 20 s; mean: the NSynth paper's code.
    pooling: Literal["max", "mean"] = "mean"
    seed: int = 0
    epochs: int = 20
    batch_size: int = 16  # Lumen 2023: the best F1 among 4, 6 and 16
    learning_rate: float = 2e-3  # peak
    warmup_share: float = 0.2  # of all steps: linear to the peak; then half a cosine to zero
    weight_decay: float = 0.05  # AdamW
    max_gradient_norm: float = 5.0
    pos_weight: bool = True  # weight of present labels = known absent / known present, per class; Lumen 2023
    max_pos_weight: float = 3.0  # and at least its inverse; uncapped ratios (8 and more) cost F1 on the sample
    unknown_weight: float = 0.0  # 0: unknown never counts; above: unknown counts as absent, this much
    select_by: Literal["map", "f1"] = "f1"  # which epoch is kept, by validation; f1: mean of micro and macro
    thresholds: Literal["global", "per_class"] = "global"  # fixed on validation

    def __post_init__(self) -> None:
        minima = {"epochs": 1, "batch_size": 1, "seed": 0, "max_pos_weight": 1}
        for name, least in minima.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("window_s", "learning_rate", "max_gradient_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("warmup_share", "unknown_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")

    @property
    def window_frames(self) -> int:
        """Length of a window in log-mel frames."""
        return self.features.num_frames(round(self.window_s * self.features.sample_rate))


def recipe_names() -> list[str]:
    """Names of all recipes: the listing of the `recipes` folder."""
    return sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> TrainRecipe:
    """A recipe by name, with `field=value` overrides applied in order.

    Raises:
        UsageError: unknown recipe or field (the message names the nearest), or a value that does
            not fit.
    """
    spelled = name.replace("-", "_")
    if spelled not in recipe_names():
        hint = nearest(spelled, recipe_names())
        raise UsageError(f"unknown recipe {name!r}{hint}; known: {', '.join(recipe_names())}")
    module = importlib.import_module(f"train.recipes.{spelled}")
    recipe: TrainRecipe = getattr(module, spelled)()
    for override in overrides:
        recipe = with_override(recipe, override)
    return recipe


def with_override(recipe: TrainRecipe, override: str) -> TrainRecipe:
    """One `field=value` applied; another `model` brings its own default `model_config`.

    Raises:
        UsageError: no such field, or a value that does not fit; the message quotes the override.
    """
    path, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"--set {override}: expected field=value, as in --set epochs=3")
    names = path.strip().replace("-", "_").split(".")
    try:
        changed: TrainRecipe = _replaced(recipe, names, text.strip())
        if names == ["model"]:
            changed = dataclasses.replace(changed, model_config=load_model(changed.model).Config())
    except ValueError as error:
        raise UsageError(f"--set {override}: {error}") from error
    return changed


def _replaced(config: Any, names: Sequence[str], text: str) -> Any:
    name, *rest = names
    fields = [item.name for item in dataclasses.fields(config) if item.name != "name"]
    if name not in fields:
        raise ValueError(f"no field {name!r}{nearest(name, fields)}; fields: {', '.join(fields)}")
    value = getattr(config, name)
    if rest:
        if not dataclasses.is_dataclass(value):
            raise ValueError(f"{name!r} has no fields of its own")
        return dataclasses.replace(config, **{name: _replaced(value, rest, text)})
    if dataclasses.is_dataclass(value):
        inner = ", ".join(f"{name}.{item.name}" for item in dataclasses.fields(value))
        raise ValueError(f"{name!r} is a group; set one of {inner}")
    kind = typing.get_type_hints(type(config))[name]
    return dataclasses.replace(config, **{name: parse_value(text, kind)})


def recipe_to_json(recipe: TrainRecipe) -> dict[str, Any]:
    """All fields, nested ones as objects."""
    return dataclasses.asdict(recipe)


def recipe_from_json(content: Mapping[str, Any]) -> TrainRecipe:
    """The inverse of `recipe_to_json`.

    Raises:
        UsageError: the model exists no longer.
        TypeError, ValueError: fields are missing, unknown or out of range.
    """
    values = dict(content)
    values["model_config"] = load_model(values["model"]).Config(**values["model_config"])
    values["features"] = LogMelConfig(**values["features"])
    return TrainRecipe(**values)
