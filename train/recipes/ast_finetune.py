"""AST fine-tuned with three clips joined to nine seconds (Lumen 2023).

Its input is that of the published weights: Kaldi's filter banks, normalized by AudioSet's statistics.
"""

from tutti.train.features import KALDI
from tutti.train.fitting.losses import Loss
from tutti.train.fitting.optimize import OptimizeConfig
from tutti.train.models.ast import Config
from tutti.train.scoring.thresholds import ThresholdSearch
from tutti.train.tagging_recipe import TaggingRecipe


def ast_finetune() -> TaggingRecipe:
    """Make the recipe. Requirement ids: B12 (model), A4 (concat-N), K4, T6 T7 T8; AST's rates are open there."""
    return TaggingRecipe(
        name="ast_finetune",
        model="ast",
        model_config=Config(mode="fine_tune", weights="MIT/ast-finetuned-audioset-10-10-0.4593"),
        features=KALDI,
        standardize="audioset",
        window_s=3.0,
        chunk_s=9.0,  # as long as three joined clips
        augment="concat_n(num=3)",  # A4
        pooling="max",  # K4
        epochs=10,  # T6
        batch_size=16,
        # Gong et al. 2021 fine-tune at 1e-5; the new head learns ten times as fast
        optimize=OptimizeConfig(
            optimizer="adamw",
            learning_rate=1e-4,
            backbone_learning_rate=1e-5,
            weight_decay=1e-2,
            schedule="one_cycle",
            head_epochs=2,
        ),
        loss=Loss(unknown_weight=1.0),  # D13, D14: what is not labeled counts as absent
        thresholds=ThresholdSearch(method="lumen_grid"),  # E7
    )
