"""NSynth pre-training paper (Zhong 2023), first part: SincNet + ResNet34 + LDE names the instrument of single notes.

    python -m pipelines.build --dataset nsynth
    python -m train.run --data build/nsynth --recipe nsynth_pretrain --output RUN
    python -m train.run --data build/irmas --recipe irmas_finetune --set model_config.weights=RUN

The paper trains on two GPUs with synchronized batch norm: 64 notes each. Its scripts mix with alpha .4:
--set "augment=nsynth_pretraining(mixup.alpha=0.4)". The figure that counts is `predominant_accuracy`.
"""

from tutti.train.fitting.losses import NSYNTH_CROSS_ENTROPY
from tutti.train.fitting.optimize import OptimizeConfig
from tutti.train.models.sincnet_resnet import Config
from tutti.train.scoring.thresholds import ThresholdSearch
from tutti.train.tagging_recipe import TaggingRecipe


def nsynth_pretrain() -> TaggingRecipe:
    """Make the recipe. Requirement ids: B1 B2 B3 B5 (model), K1 K6 (windows), A5 A7 A9, O1, T1, E9."""
    return TaggingRecipe(
        name="nsynth_pretrain",
        model="sincnet_resnet",
        model_config=Config(head="pretrain"),  # B5: softmax over all classes, its logits
        window_s=1.0,  # K1
        windows="first",  # K6: always the first second, longer was worse; validation too
        augment="nsynth_pretraining",  # A5 A9 A7: concatenation p .5, effects on .3, mixup p .5 with alpha .3
        epochs=30,  # T1
        batch_size=128,  # T1
        loss=NSYNTH_CROSS_ENTROPY,  # O1
        # T1: Adam, three of 30 epochs of warm-up, cosine to 0; it clips no gradients
        optimize=OptimizeConfig(
            optimizer="adam",
            learning_rate=1e-3,
            weight_decay=5e-4,
            schedule="warmup_cosine",
            warmup_share=0.1,
            max_gradient_norm=None,
        ),
        select_by="last",  # T1
        # No figure of the paper: it names the likeliest class, and so does our report.
        thresholds=ThresholdSearch(method="lumen_grid"),
    )
