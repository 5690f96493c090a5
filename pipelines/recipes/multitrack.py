"""Stems and mixes of three corpora of songs: MedleyDB, Mixing Secrets, Slakh.

The corpora of "Musical mixtures and transfer learning for multi-instrument classification" (S2): songs are divided
65 / 17.5 / 17.5, here by artist; `--set split.group_by=song` divides as the paper does, and the certificate says what
either leaks. Stems are whole, and nothing is dropped for a doubt: `train.run --recipe mixtures_transfer` mixes them.

    python -m pipelines.build --dataset multitrack --data-from ~/MedleyDB --data-from ~/MixingSecrets
"""

from dataclasses import replace

from tutti.datasets.sources import medleydb, mixing_secrets, slakh
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.embed import EmbedConfig
from tutti.pipelines.stages.select import SelectConfig
from tutti.pipelines.stages.split import SplitConfig, grouped
from tutti.pipelines.stages.write import WriteConfig


def multitrack() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="multitrack",
        sources={
            "medleydb": medleydb.Config(),
            "mixing_secrets": mixing_secrets.Config(),
            "slakh": slakh.Config(),
        },
        split=replace(SplitConfig(grouped(65, 17.5, 17.5)), group_by="artist"),
        select=SelectConfig(labels="hierarchy15"),
        curate=CurateConfig(drop="none", near_duplicates_except=("slakh",)),
        write=WriteConfig(rows_per_shard=64, rows_per_group=2),  # a stem has minutes
        embed=EmbedConfig(embedder="logmel"),  # copies of songs are found; weights judge no labels here
    )
