"""The Lumen paper's own data: the corpora and split of `ultimate`, its two-valued labels.

What is not annotated counts as absent; OpenMIC is present above 0.8 (requirement D13), and only
clips with at least one of the eleven instruments present stay (D14).
"""

from dataclasses import replace

from tutti.datasets.sources import audioset, irmas, openmic2018
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.pipelines.curation.pseudo_label import GuitarConfig
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.recipes.ultimate import ultimate
from tutti.pipelines.stages.select import SelectConfig


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
        outliers=OutlierConfig(mode="fixed"),
        pseudo_label=GuitarConfig(mode="hard"),
    )
