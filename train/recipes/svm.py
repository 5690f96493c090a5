"""One support vector machine per class on 28 classical features (Lumen 2023): F1 .19, its best of four.

The others by --set model_config.FIELD=VALUE: kernel linear with regularization 1; with scaled=off
regularization 10,000 (rbf) or 1,000 (linear).
"""

from tutti.train.models.multilabel_svm import Config
from tutti.train.scoring.thresholds import ThresholdSearch
from tutti.train.tagging_recipe import TaggingRecipe


def svm() -> TaggingRecipe:
    """Make the recipe. Requirement ids: B15 (model), K1, E6. Fitted at once: no epochs, no augmentation."""
    return TaggingRecipe(
        name="svm",
        model="multilabel_svm",
        model_config=Config(kernel="rbf", regularization=250.0, scaled=True),
        window_s=3.0,
        epochs=1,
        thresholds=ThresholdSearch(method="fixed", threshold=0.5),  # decision value 0
    )
