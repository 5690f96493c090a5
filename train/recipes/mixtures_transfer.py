"""Musical-mixtures paper (S2): fifteen outputs of mixtures that are made while training, in three forms of transfer.

    python -m pipelines.build --dataset mtg_jamendo
    python -m train.run --data build/mtg_jamendo --recipe jamendo_pretrain --output RUN
    python -m pipelines.build --dataset multitrack
    python -m train.run --data build/multitrack --recipe mixtures_transfer
    python -m train.run --data build/multitrack --recipe mixtures_transfer --weights RUN --set transfer=frozen
    python -m train.run --data build/multitrack --recipe mixtures_transfer --weights RUN --set transfer=fine_tuned

    python -m train.ablate transfer --data build/multitrack --weights RUN --seeds 3         its table 1
    python -m train.ablate p_musical --data build/multitrack --weights RUN --seeds 4        its figure 2

Published, on its test mixtures: ROC-AUC .8488, .8908, .9429; PR-AUC .6812, .7623, .8334; loss .4459, .4160, .3618.
"""

from tutti.train.features import LogMelConfig
from tutti.train.fitting.optimize import OptimizeConfig
from tutti.train.mixtures_recipe import MixturesRecipe
from tutti.train.models.vgg7 import Config
from tutti.train.scoring.thresholds import ThresholdSearch

# F7: 128 mel bands, window 512, hop 256. The sample rate is open: ours, 16 kHz, as that of Won et al. 2020.
MEL_128 = LogMelConfig(n_fft=512, hop_length=256, n_mels=128, min_frequency_hz=0.0, mel_scale="slaney")


def mixtures_transfer() -> MixturesRecipe:
    """Make the recipe. Requirement ids: F7, B7 (model), M2 M3 M4, A8 A17, O2, T4, T9, E4, K1."""
    return MixturesRecipe(
        name="mixtures_transfer",
        model="vgg7",
        model_config=Config(),
        features=MEL_128,
        window_s=4.0,  # K1
        epochs=100,  # open in the paper: five steps of its schedule
        batch_size=64,  # open in the paper
        # T4: Adam, .01 for the dense layers and, from scratch, the backbone; a constant factor every 20 epochs (open)
        optimize=OptimizeConfig(
            optimizer="adam",
            learning_rate=0.01,
            weight_decay=0.0,
            schedule="step",
            drop_epochs=20,
            drop_factor=0.5,
            max_gradient_norm=None,
        ),
        select_by="map",
        thresholds=ThresholdSearch(scope="per_class"),  # open in the paper, whose F1 is of each class
    )
