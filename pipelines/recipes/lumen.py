"""The Lumen paper's own data: the corpora of `ultimate`, two-valued labels, and its code's decisions.

What is not annotated counts as absent; OpenMIC is present above 0.8 (requirement D13), and only clips with at
least one of the eleven instruments present stay (D14). A guitar of OpenMIC gets the likelier kind (L6); where no
kind can be had, a clip with nothing else of the eleven goes, and in another both kinds stay unknown. IRMAS and
AudioSet are cleaned, each with a model of its own (C5); the paper's two cutoffs may be swapped (X1):

    --set outliers.fixed_cutoffs=irmas:0.13,audioset:0.11

Songs are split by scikit-multilearn (P3).
"""

from dataclasses import replace

from tutti.datasets.sources import audioset, irmas, openmic2018
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.pipelines.curation.pseudo_label import GuitarConfig
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.recipes.ultimate import LUMEN_SPLIT, ultimate
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.select import SelectConfig
from tutti.pipelines.stages.split import SplitConfig


def lumen() -> Recipe:
    """Make the recipe."""
    return replace(
        ultimate(),
        name="lumen",
        sources={
            "irmas": irmas.Config(others="absent"),
            "openmic2018": openmic2018.Config(mode="lumen"),
            "audioset": audioset.Config(selection="single", others="absent"),
        },
        select=SelectConfig(keep="present", keep_sources=("openmic2018",)),
        curate=CurateConfig(drop_sources=("irmas", "audioset"), pool=False),
        outliers=OutlierConfig(mode="fixed"),
        pseudo_label=GuitarConfig(mode="hard"),
        split=SplitConfig(rules=LUMEN_SPLIT, splitter="skmultilearn"),
    )
