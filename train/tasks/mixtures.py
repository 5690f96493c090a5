"""Mixtures of stems, tagged: fresh ones in training, and fixed musical ones of other songs to be scored on.

Shapes: B mixtures of a batch, C classes.
"""

from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np

from tutti.datasets.errors import UsageError
from tutti.train.clips import AnyClips
from tutti.train.data import Data, open_table
from tutti.train.features import Standardization, standardization
from tutti.train.front_end import evaluation_unit, make_front_end
from tutti.train.mixtures_recipe import MixturesRecipe
from tutti.train.reading.order import Indices
from tutti.train.stems.clips import Mixtures, fixed_clips, open_fixed, open_mixtures
from tutti.train.stems.songs import has_tracks
from tutti.train.tagger import Tagger
from tutti.train.task import Material
from tutti.train.tasks.areas import Areas


@dataclass(frozen=True)
class MixturesTagging(Areas):
    """Names of the instruments in mixtures of stems."""

    recipe: MixturesRecipe

    @classmethod
    def of(cls, recipe: Any, data: Data) -> Self:
        """Take all classes of the data.

        Raises:
            UsageError: the form of transfer and the weights do not go together.
        """
        weights = getattr(recipe.model_config, "weights", "")
        if recipe.transfer != "scratch" and not weights:
            raise UsageError(
                f"recipe {recipe.name}: transfer={recipe.transfer} takes a backbone that was trained before; give "
                "--weights RUN, as of jamendo_pretrain"
            )
        if recipe.transfer == "scratch" and weights:
            raise UsageError(
                f"recipe {recipe.name}: transfer=scratch begins with random weights, not {weights}; "
                "--set transfer=fine_tuned or frozen, or leave out the weights"
            )
        return super().of(recipe, data)

    def load(self, data: Data) -> Material[AnyClips]:
        """Open the stems that are mixed, and make the mixtures that are validated on."""
        recipe = self.recipe
        table = open_table(data, "train", recipe)
        train = open_mixtures(data, "train", table, recipe, recipe.mixing, seed=recipe.seed)
        statistics: Standardization | None = None
        if evaluation_unit(recipe) == "frames" and (front_end := make_front_end(recipe)):
            statistics = standardization(train.frames(front_end.to(data.device)))
        validation = self.load_split(data, "validation")
        # An epoch is read as clips are, which mixtures stand for wherever they are asked.
        return Material(cast(AnyClips, train), validation, np.arange(len(train)), statistics)

    def load_split(self, data: Data, split: str) -> AnyClips:
        """Make the musical mixtures of a split that are scored; clips as they are where the data hold no stems."""
        self.check_classes(data)
        recipe, unit = self.recipe, evaluation_unit(self.recipe)
        table = open_table(data, split, recipe)
        if not has_tracks(table):
            return super().load_split(data, split)
        num_mixes = recipe.mixing.num_test if split == "test" else recipe.mixing.num_validation
        mixtures = open_fixed(data, split, table, recipe, recipe.mixing, num_mixes)
        front_end = make_front_end(recipe) if unit == "frames" else None
        return fixed_clips(
            mixtures, unit, None if front_end is None else front_end.to(data.device), recipe.frames.silence
        )

    def chosen(self, split: AnyClips) -> Indices:
        """Select all mixtures of an epoch, or the clips of which a label is known."""
        return np.arange(len(split)) if isinstance(split, Mixtures) else super().chosen(split)

    def build(self, statistics: Standardization | None) -> Tagger:
        """Build a fresh network; a frozen backbone is never trained, and its batch norms keep their statistics."""
        tagger = super().build(statistics)
        if self.recipe.transfer == "frozen":
            tagger.freeze_backbone()
        return tagger

    def fit_at_once(self, tagger: Tagger, material: Material[AnyClips]) -> None:
        """Refuse what is fitted at once: mixtures have no end."""
        raise UsageError(f"recipe {self.recipe.name}: {self.recipe.model} is fitted at once, and mixtures have no end")
