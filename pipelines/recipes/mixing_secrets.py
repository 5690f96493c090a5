"""Mixing Secrets: stems and mixes of the songs that you have, `--data-from DIR`, once or more.

Zips of the library, unpacked folders, or the Medley format of Gururani and Lerch. Songs are divided at random,
65 / 17.5 / 17.5, as in the musical mixing paper (P6).
"""

from tutti.datasets.sources import mixing_secrets as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig, grouped


def mixing_secrets() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="mixing_secrets",
        sources={"mixing_secrets": source.Config()},
        split=SplitConfig(rules=grouped(65, 17.5, 17.5)),
    )
