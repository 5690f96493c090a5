"""OpenMIC BiLSTM with attention on VGGish embeddings, partial labels masked (2020).

Needs OpenMIC's arrays: --set vggish=FOLDER with openmic-2018.npz and openmic-2018-aggregated-labels.csv, and
data of --dataset openmic2018. ATT, its baseline: --set model=att.
"""

from tutti.train.fitting.losses import OPENMIC_FOCAL
from tutti.train.fitting.optimize import OptimizeConfig
from tutti.train.models.bilstm_attention import Config
from tutti.train.scoring.thresholds import ThresholdSearch
from tutti.train.tagging_recipe import TaggingRecipe


def openmic_bilstm() -> TaggingRecipe:
    """Make the recipe. Requirement ids: B8 (model), O4 O5, A7 (mixup; how often is open), T5, E6 E8."""
    return TaggingRecipe(
        name="openmic_bilstm",
        model="bilstm_attention",
        model_config=Config(),
        window_s=10.0,  # OpenMIC's clips, whole
        augment="openmic_bilstm",  # A7; A6 is its concat_n, which comes first: "concat_n(num=2) openmic_bilstm"
        epochs=200,  # T5
        batch_size=32,  # T5
        # T5: Adam at a constant rate; the paper says nothing of decay or clipping
        optimize=OptimizeConfig(
            optimizer="adam", learning_rate=5e-4, weight_decay=0.0, schedule="constant", max_gradient_norm=None
        ),
        loss=OPENMIC_FOCAL,  # O4: alpha .75, gamma 2; unknown masked: O5
        thresholds=ThresholdSearch(method="fixed", threshold=0.5),  # E6
    )
