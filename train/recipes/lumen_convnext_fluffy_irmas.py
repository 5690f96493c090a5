"""Lumen 2023's second: as its best, trained on IRMAS alone (--dataset boosted_irmas), F1 .4112.

Its F1 is of validation, the half of the IRMAS test songs that does not train: no figure of --dataset irmas, whose test
is all of them, compares with it (requirement X8).
"""

from dataclasses import replace

from tutti.train.recipes.lumen_convnext_fluffy import lumen_convnext_fluffy
from tutti.train.tagging_recipe import TaggingRecipe


def lumen_convnext_fluffy_irmas() -> TaggingRecipe:
    """Make the recipe: only the data differ from the best run."""
    best = lumen_convnext_fluffy()
    return replace(best, name="lumen_convnext_fluffy_irmas")
