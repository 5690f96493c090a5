"""Lumen 2023's color images: mel in red, chroma in green, scalogram in blue. There, mel in all three was better."""

from dataclasses import replace

from tutti.train.recipes.lumen_convnext_fluffy import lumen_convnext_fluffy
from tutti.train.tagging_recipe import TaggingRecipe


def lumen_convnext_rgb() -> TaggingRecipe:
    """Make the recipe: F13 for B9 and B11; everything else as in its best run."""
    best = lumen_convnext_fluffy()
    return replace(best, name="lumen_convnext_rgb", image=replace(best.image, channels="rgb"))
