"""Slakh2100 alone: stems and mixes of 1,710 songs, redux's own splits.

    python -m pipelines.build --dataset slakh --set slakh.archive=baby
    python -m pipelines.build --dataset slakh --set slakh.splits=split2
    python -m pipelines.build --dataset slakh --set split.rules=slakh/*:train:65,validation:17.5,test:17.5

The last divides at random by MIDI file, as "Musical mixtures and transfer learning" does by song; with
slakh.splits=orig these are all 2,100 tracks. The original division (slakh.splits=orig alone) has 146 MIDI files in two
splits: they stay there, for the sake of published figures, and the certificate names them.

Labels come from the patches that were played: nothing is curated. Two renderings of a MIDI file are no
near-duplicates, and stems of one sampler share notes: what is the same song is known by its MIDI file.
"""

from tutti.datasets.sources import slakh as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.embed import EmbedConfig
from tutti.pipelines.stages.split import SplitConfig
from tutti.pipelines.stages.write import WriteConfig


def slakh() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="slakh",
        sources={"slakh": source.Config()},
        embed=EmbedConfig(embedder="none"),
        write=WriteConfig(rows_per_shard=64, rows_per_group=2),  # a stem has minutes
        split=SplitConfig(
            rules={
                "slakh/train": "train",
                "slakh/validation": "validation",
                "slakh/test": "test",
                "slakh/omitted": "train",  # not with splits=redux, which rejects them
            },
            shared_groups=("slakh",),
        ),
    )
