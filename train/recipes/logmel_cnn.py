"""The first model: a small CNN on three-second log-mel windows. Minutes on two CPU cores."""

from tutti.train.fitting.optimize import OptimizeConfig
from tutti.train.models.logmel_cnn import Config
from tutti.train.tagging_recipe import TaggingRecipe


def logmel_cnn() -> TaggingRecipe:
    """Make the recipe: masked BCE with balanced classes; three-second chunks, as in Lumen 2023."""
    return TaggingRecipe(
        name="logmel_cnn",
        model="logmel_cnn",
        model_config=Config(),
        pos_weight=True,
        optimize=OptimizeConfig(
            learning_rate=2e-3, weight_decay=0.05, schedule="warmup_cosine", warmup_share=0.2, max_gradient_norm=5.0
        ),
    )
