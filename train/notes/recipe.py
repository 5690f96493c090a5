"""Recipes of models that find notes: `NotesRecipe`, as recipes/musescore_*.py return it."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tutti.datasets.record import Seconds
from tutti.train.features.cqt import CqtConfig
from tutti.train.notes.decode import DecodeConfig
from tutti.train.notes.losses import NotesLoss
from tutti.train.notes.unet import UnetConfig
from tutti.train.run_recipe import RunRecipe

# The nine instruments of the paper's experiment: eight named in its text, the bass in its code.
MUSESCORE_NINE = (
    "acoustic_guitar", "bass", "cello", "electric_guitar", "flute", "piano", "saxophone", "trumpet", "violin",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NotesRecipe(RunRecipe):
    """Everything that decides what a run learns of which notes sound when, and who plays them."""

    task: ClassVar[str] = "notes"
    rate_field: ClassVar[str] = "cqt.sample_rate"

    instruments: tuple[str, ...] = ()  # the classes; empty: all that play in the training split
    cqt: CqtConfig = field(default_factory=CqtConfig)
    model_config: UnetConfig = field(default_factory=UnetConfig)
    window_s: Seconds = 10.0  # of a training example, and of a chunk in evaluation: the paper's
    epochs: int = 100  # the paper's code
    batch_size: int = 8  # the paper's code
    loss: NotesLoss = field(default_factory=NotesLoss)
    # Which epoch is kept, by validation. tasks: mean of the figures of what is learned: accuracy of
    # pianoroll and pitches, macro F1 of instruments.
    select_by: Literal["tasks", "last"] = "tasks"
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    @property
    def frames(self) -> CqtConfig:
        """Sizes of CQT frames."""
        return self.cqt
