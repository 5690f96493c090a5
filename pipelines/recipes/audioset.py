"""AudioSet clips of exactly one of the eleven IRMAS classes; eval tests, 10 % of train validates."""

from tutti.datasets.sources import audioset as source
from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig

TRAIN = {"train": 0.9, "validation": 0.1}


def audioset() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="audioset",
        sources={"audioset": source.Config()},
        instruments=IRMAS_INSTRUMENTS,
        split=SplitConfig(
            rules={
                "audioset/balanced_train": TRAIN,
                "audioset/unbalanced_train": TRAIN,
                "audioset/eval": "test",
            }
        ),
    )
