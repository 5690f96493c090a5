"""Mixing Secrets: stems and mixes of the songs that you have, `--data-from DIR`, once or more.

Zips of the library, unpacked folders, or the Medley format of Gururani and Lerch. Songs are divided at random,
65 / 17.5 / 17.5, as in the musical mixing paper (P6); by artist with `--set split.group_by=artist`.
"""

from tutti.datasets.sources import mixing_secrets as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.embed import EmbedConfig
from tutti.pipelines.stages.split import SplitConfig, grouped
from tutti.pipelines.stages.write import WriteConfig


def mixing_secrets() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="mixing_secrets",
        sources={"mixing_secrets": source.Config()},
        split=SplitConfig(rules=grouped(65, 17.5, 17.5)),
        curate=CurateConfig(drop="none"),
        embed=EmbedConfig(embedder="logmel"),  # finds copies of songs; no label goes for a doubt
        write=WriteConfig(rows_per_shard=64, rows_per_group=2),  # a stem has minutes
    )
