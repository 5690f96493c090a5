"""MedleyDB: stems and mixes of the songs that you have, `--data-from DIR`, once or more.

Songs are divided at random, 65 / 17.5 / 17.5, as in the musical mixing paper (P6).
"""

from tutti.datasets.sources import medleydb as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig, grouped


def medleydb() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="medleydb",
        sources={"medleydb": source.Config()},
        split=SplitConfig(rules=grouped(65, 17.5, 17.5)),
    )
