"""How the frame-level system is trained: the paper's preset and one for a laptop.

    recipe = load_frames_recipe("musescore_multitask", ["loss.roll_weight=0"])

`--set` replaces fields as in every recipe: `epochs=3`, `loss.present_weight=10`, `first_channels=16`.
`small` is the recipe `musescore_multitask_small`, and what `--tiny` makes of either.
"""

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from datasets.errors import UsageError
from datasets.record import Decibels, Lufs, Seconds
from datasets.settings import nearest, with_field
from datasets.typed_json import object_of, read_as
from train.features.cqt import CqtConfig
from train.fitting.optimize import OptimizeConfig
from train.frames.decode import DecodeConfig
from train.frames.losses import FramesLoss
from train.frames.unet import UnetConfig

# The nine instruments of the paper's experiment: eight named in its text, the bass in its code.
MUSESCORE_NINE = (
    "acoustic_guitar", "bass", "cello", "electric_guitar", "flute", "piano", "saxophone", "trumpet", "violin",
)  # fmt: skip


@dataclass(frozen=True)
class FramesRecipe:
    """Everything that decides what a frame-level run learns, except the data."""

    task: ClassVar[str] = "frames"  # tells its runs from those of clip-level recipes
    name: str
    instruments: tuple[str, ...] = ()  # the classes; empty: all that play in the training split
    cqt: CqtConfig = field(default_factory=CqtConfig)
    model_config: UnetConfig = field(default_factory=UnetConfig)
    target_lufs: Lufs = -12.0  # loudness of what the model hears; as the build's
    max_gain_db: Decibels = 30.0  # of build and training together; as the build's
    window_s: Seconds = 10.0  # of a training example, and of a chunk in evaluation: the paper's
    seed: int = 0
    epochs: int = 100  # the paper's code
    batch_size: int = 8  # the paper's code
    optimize: OptimizeConfig = field(default_factory=OptimizeConfig)
    loss: FramesLoss = field(default_factory=FramesLoss)
    # Which epoch is kept, by validation. tasks: mean of the figures of what is learned: accuracy of
    # pianoroll and pitches, macro F1 of instruments.
    select_by: Literal["tasks", "last"] = "tasks"
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    precision: Literal["float32", "bf16"] = "float32"  # bf16: autocast of the network, not of the front end

    def __post_init__(self) -> None:
        for name, least in {"epochs": 1, "batch_size": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.window_s > 0:
            raise ValueError(f"window_s must be above 0, got {self.window_s}")

    @property
    def sample_rate(self) -> int:
        """Of what the model hears, Hz."""
        return self.cqt.sample_rate

    @property
    def window_frames(self) -> int:
        """Frames of a window."""
        return self.cqt.num_frames(max(1, round(self.window_s * self.sample_rate)))


def musescore_multitask() -> FramesRecipe:
    """As the MuseScore paper trains; requirement ids: D24 F8 B6 O7 T3 E5 K1."""
    return FramesRecipe(
        name="musescore_multitask",
        instruments=MUSESCORE_NINE,
        # T3: SGD at .005; the rest is its code's, whose factor at the drop is the usual tenth.
        optimize=OptimizeConfig(
            optimizer="sgd",
            learning_rate=0.005,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="step",
            drop_epochs=70,
            drop_factor=0.1,
            max_gradient_norm=None,
        ),
    )


def musescore_multitask_small() -> FramesRecipe:
    """The same path with a quarter of the channels: learns in minutes on two CPU cores.

    Decibels, noisy-or instead of scaled sums, AdamW. Of a hundred cells of a pianoroll one sounds, of
    an instrument roll half: as plain means the three losses would leave the notes to the end, so they
    are weighed up. On melodies of two made-up instruments, 120 steps, accuracy of the pianoroll rose
    from .18 to .80 by it.
    """
    return FramesRecipe(
        name="musescore_multitask_small",
        cqt=CqtConfig(scale="db"),
        model_config=UnetConfig(first_channels=8, summing="noisy_or"),
        epochs=20,
        loss=FramesLoss(roll_weight=30.0, pitch_weight=10.0),
        optimize=OptimizeConfig(
            optimizer="adamw", learning_rate=1e-2, weight_decay=1e-4, schedule="one_cycle", max_gradient_norm=5.0
        ),
    )


RECIPES = {make.__name__: make for make in (musescore_multitask, musescore_multitask_small)}

_TINY_EPOCHS = 8  # enough to see that everything runs, and that something is learned


def is_frames_recipe(name: str) -> bool:
    """Whether a name, with `-` or `_`, is of a recipe of this kind."""
    return name.replace("-", "_") in RECIPES


def load_frames_recipe(name: str, overrides: Sequence[str] = (), *, tiny: bool = False) -> FramesRecipe:
    """A recipe by name, with `field=value` overrides applied in order.

    Args:
        name: one of RECIPES.
        overrides: the last word.
        tiny: the small preset, for a few epochs.

    Raises:
        UsageError: unknown recipe or field (the message names the nearest), or a value that does not fit.
    """
    spelled = name.replace("-", "_")
    if spelled not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}{nearest(spelled, RECIPES)}; known: {', '.join(RECIPES)}")
    recipe = RECIPES[spelled]()
    if tiny:
        recipe = replace(musescore_multitask_small(), name=recipe.name, epochs=_TINY_EPOCHS)
    for override in overrides:
        recipe = with_field(recipe, override, own_fields=("model_config",))
    return recipe


def recipe_to_json(recipe: FramesRecipe) -> dict[str, Any]:
    """All fields, nested ones as objects."""
    return dataclasses.asdict(recipe) | {"instruments": list(recipe.instruments)}


def recipe_from_json(content: Any) -> FramesRecipe:
    """The inverse of `recipe_to_json`.

    Raises:
        TypeError, ValueError, KeyError: fields are missing, unknown or out of range.
    """
    values = dict(object_of(content, "recipe"))
    for name, kind in typing.get_type_hints(FramesRecipe).items():
        if name in values:
            values[name] = read_as(kind, values[name], name)
    return FramesRecipe(**values)
