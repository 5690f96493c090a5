"""Musical-mixtures paper (S2), first part: the same network learns the instrument tags of MTG-Jamendo.

    python -m pipelines.build --dataset mtg_jamendo
    python -m train.run --data build/mtg_jamendo --recipe jamendo_pretrain --output RUN
    python -m train.run --data build/multitrack --recipe mixtures_transfer --weights RUN --set transfer=fine_tuned

A tag that is missing says little: its owner named what came to mind. With only what is known (`--set unknown_weight=0`)
the network would learn to say present always, for no class is ever known to be absent; so what is not tagged counts a
tenth as absent while training. Figures take it as absent, as those that others publish of MTG-Jamendo do.
"""

from tutti.train.fitting.losses import Loss
from tutti.train.fitting.optimize import OptimizeConfig
from tutti.train.models.vgg7 import Config
from tutti.train.recipes.mixtures_transfer import MEL_128
from tutti.train.scoring.thresholds import ThresholdSearch
from tutti.train.tags_recipe import TagsRecipe


def jamendo_pretrain() -> TagsRecipe:
    """Make the recipe. Requirement ids: D27, F7, B7, O2, T4; the paper says no more of its pre-training."""
    return TagsRecipe(
        name="jamendo_pretrain",
        model="vgg7",
        model_config=Config(),
        features=MEL_128,
        window_s=4.0,  # K1: a random window of a whole track
        pooling="mean",
        epochs=60,  # open in the paper
        batch_size=64,  # open in the paper
        loss=Loss(unknown_weight=0.1),
        optimize=OptimizeConfig(  # open in the paper: as on mixtures, at Adam's usual rate
            optimizer="adam",
            learning_rate=1e-3,
            weight_decay=0.0,
            schedule="step",
            drop_epochs=20,
            drop_factor=0.5,
            max_gradient_norm=None,
        ),
        select_by="map",
        thresholds=ThresholdSearch(scope="per_class"),  # open in the paper, whose F1 is of each class
    )
