"""The first model: a small CNN on three-second log-mel windows. Minutes on two CPU cores."""

from train.models.logmel_cnn import Config
from train.recipe import TrainRecipe


def logmel_cnn() -> TrainRecipe:
    """Masked BCE with balanced classes; three-second chunks, as in Lumen 2023."""
    return TrainRecipe(name="logmel_cnn", model="logmel_cnn", model_config=Config())
