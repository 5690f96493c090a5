"""Lumen 2023's fourth: sum with 2, no time shift, one head for all classes, F1 .4084 (--dataset boosted_irmas)."""

from dataclasses import replace

from tutti.train.recipes.lumen_convnext_fluffy import lumen_convnext_fluffy
from tutti.train.tagging_recipe import TaggingRecipe


def lumen_convnext_sum2() -> TaggingRecipe:
    """Make the recipe: A1 alone; the old loudness after it (A18)."""
    best = lumen_convnext_fluffy()
    return replace(
        best,
        name="lumen_convnext_sum2",
        model_config=replace(best.model_config, head="deep"),
        augment="sum_with_n(num=2) renormalize",
    )
