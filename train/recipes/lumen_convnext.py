"""Lumen 2023's third: ConvNeXt-small with one head for all classes, F1 .4095 (--dataset boosted_irmas)."""

from dataclasses import replace

from tutti.train.recipes.lumen_convnext_fluffy import lumen_convnext_fluffy
from tutti.train.tagging_recipe import TaggingRecipe


def lumen_convnext() -> TaggingRecipe:
    """Make the recipe: B10 in place of B11."""
    best = lumen_convnext_fluffy()
    return replace(best, name="lumen_convnext", model_config=replace(best.model_config, head="deep"))
