"""IRMAS alone, by the protocol of the NSynth pre-training paper (2023).

15 % of the train songs validate, the whole of IRMAS test tests (requirements P2, E1).
"""

from tutti.datasets.sources import irmas as source
from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig


def irmas() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="irmas",
        sources={"irmas": source.Config(others="absent")},  # the paper trains binary cross-entropy on one-hot labels
        instruments=IRMAS_INSTRUMENTS,
        split=SplitConfig(rules={"irmas/train": {"train": 0.85, "validation": 0.15}, "irmas/test": "test"}),
    )
