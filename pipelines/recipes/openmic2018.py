"""OpenMIC-2018 alone with its twenty classes: official test, 15 % of train as validation (P5)."""

from tutti.datasets.sources import openmic2018 as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig


def openmic2018() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="openmic2018",
        sources={"openmic2018": source.Config()},
        split=SplitConfig(rules={"openmic2018/train": {"train": 0.85, "validation": 0.15}, "openmic2018/test": "test"}),
    )
