"""Lumen 2023's best run: ConvNeXt-small with Fluffy heads, F1 .4435 trained on IRMAS and AudioSet.

    python -m train.run --data build/irmas_audioset --recipe lumen_convnext_fluffy

Its ImageNet weights come from the hub, or from a folder: --set model_config.weights=FOLDER. Without
any, unfreeze at once: --set model_config.weights= --set head_epochs=0.
"""

from tutti.train.features import LUMEN_DB, ImageConfig
from tutti.train.fitting.losses import Loss
from tutti.train.fitting.optimize import OptimizeConfig
from tutti.train.models.convnext import Config
from tutti.train.scoring.thresholds import ThresholdSearch
from tutti.train.tagging_recipe import TaggingRecipe


def lumen_convnext_fluffy() -> TaggingRecipe:
    """Make the recipe. Requirement ids: B9 B11 (model), A1 A15 A22, K1 K4, T6 T7 T8, E7."""
    return TaggingRecipe(
        name="lumen_convnext_fluffy",
        model="convnext",
        model_config=Config(size="small", head="fluffy", weights="facebook/convnext-small-224"),
        features=LUMEN_DB,
        image=ImageConfig(sizing="chunks", height=384, width=384),  # B9: its best run
        window_s=3.0,  # K1
        pooling="max",  # K4: union of the chunks
        augment="lumen_best",  # A22: sum with 2 and time shift
        epochs=10,  # T6
        batch_size=16,  # T6: the best F1
        # T6, T7: AdamW, one cycle; T8: the backbone is unfrozen in the third epoch
        optimize=OptimizeConfig(
            optimizer="adamw", learning_rate=1e-4, weight_decay=1e-2, schedule="one_cycle", head_epochs=2
        ),
        loss=Loss(unknown_weight=1.0),  # D13, D14: what nobody labeled counts as absent
        thresholds=ThresholdSearch(method="lumen_grid"),  # E7
        thresholds_on="strong_sum",  # E7
    )
