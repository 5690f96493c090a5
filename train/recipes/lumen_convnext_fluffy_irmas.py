"""Lumen 2023's second: as its best, trained on IRMAS alone (--dataset irmas), F1 .4112."""

from dataclasses import replace

from tutti.train.recipes.lumen_convnext_fluffy import lumen_convnext_fluffy
from tutti.train.tagging_recipe import TaggingRecipe


def lumen_convnext_fluffy_irmas() -> TaggingRecipe:
    """Make the recipe: only the data differ from the best run."""
    best = lumen_convnext_fluffy()
    return replace(best, name="lumen_convnext_fluffy_irmas")
