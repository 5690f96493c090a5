"""Recipes of models that tag mixtures of stems, made while training: `MixturesRecipe`."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from tutti.train.stems.config import MixingConfig
from tutti.train.tagging_recipe import TaggingRecipe

FINE_TUNING_RATE = 1e-4  # of a pre-trained backbone; the musical-mixtures paper


@dataclass(frozen=True, kw_only=True)
class MixturesRecipe(TaggingRecipe):
    """Everything that decides what a run learns of mixtures; an epoch has `mixing.mixes_per_epoch` of them.

    The paper's three forms of transfer: the backbone is trained from random weights; or that of an earlier run stays as
    it is, statistics of its batch norms included; or it is trained on, at a rate of its own.
    """

    task: ClassVar[str] = "mixtures"

    mixing: MixingConfig = field(default_factory=MixingConfig)
    transfer: Literal["scratch", "frozen", "fine_tuned"] = "scratch"

    def __post_init__(self) -> None:
        """Choose the paper's rate for a backbone that is fine-tuned, where none is set."""
        super().__post_init__()
        if self.transfer == "fine_tuned" and self.optimize.backbone_learning_rate is None:
            fine = replace(self.optimize, backbone_learning_rate=FINE_TUNING_RATE)
            object.__setattr__(self, "optimize", fine)
