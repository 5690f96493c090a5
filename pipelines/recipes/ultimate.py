"""IRMAS + OpenMIC-2018 + AudioSet, split as the Lumen paper does, labels three-valued.

Lumen 2023, "Ultimate dataset": train = IRMAS train, half of the IRMAS test songs, OpenMIC train,
AudioSet balanced and unbalanced; validation = the other half of the IRMAS test songs; test =
OpenMIC test, AudioSet eval. AudioSet gives clips with exactly one of the eleven classes.
Unlike there, what is not annotated stays unknown, and OpenMIC clips without a class of ours stay.
"""

from tutti.datasets.sources import audioset, irmas, openmic2018
from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.embed import EmbedConfig
from tutti.pipelines.stages.split import Rule, SplitConfig

LUMEN_SPLIT: dict[str, Rule] = {
    "irmas/train": "train",
    "irmas/test": {"train": 0.5, "validation": 0.5},
    "openmic2018/train": "train",
    "openmic2018/test": "test",
    "audioset/balanced_train": "train",
    "audioset/unbalanced_train": "train",
    "audioset/eval": "test",
}


def ultimate() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="ultimate",
        sources={
            "irmas": irmas.Config(others="unknown"),
            "openmic2018": openmic2018.Config(mode="ternary"),
            "audioset": audioset.Config(selection="single", others="unknown"),
        },
        instruments=IRMAS_INSTRUMENTS,
        split=SplitConfig(rules=LUMEN_SPLIT),
        embed=EmbedConfig(embedder="ast"),
    )
