"""Lumen 2023's fifth: ConvNeXt-base with Fluffy heads on 224 x 224 pixels, sum with 2, F1 .4076.

Its data are those of --dataset boosted_irmas.
"""

from dataclasses import replace

from tutti.train.recipes.lumen_convnext_fluffy import lumen_convnext_fluffy
from tutti.train.tagging_recipe import TaggingRecipe


def lumen_convnext_base() -> TaggingRecipe:
    """Make the recipe: B9, B11, A1; 224 is what the weights were trained on."""
    best = lumen_convnext_fluffy()
    return replace(
        best,
        name="lumen_convnext_base",
        model_config=replace(best.model_config, size="base", weights="facebook/convnext-base-224"),
        image=replace(best.image, height=224, width=224),
        augment="sum_with_n(num=2) renormalize",
    )
