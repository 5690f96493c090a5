"""MTG-Jamendo's instrument subset by its official splits: tags of uploaders, what is not named is unknown.

    python -m pipelines.build --dataset mtg_jamendo --set mtg_jamendo.split=3
    python -m pipelines.build --dataset mtg_jamendo --set mtg_jamendo.split=none    divided by artist, 65/17.5/17.5
    python -m pipelines.build --dataset mtg_jamendo --set mtg_jamendo.clip_s=10 --set mtg_jamendo.max_clips=3
    python -m pipelines.build --dataset mtg_jamendo --limit 500    only the tars that hold these tracks are read

Shards hold few rows: a track has minutes. Tags are too incomplete to be judged by a model that believes them, so
nothing is curated.
"""

from tutti.datasets.sources import mtg_jamendo as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.split import SplitConfig, grouped
from tutti.pipelines.stages.write import WriteConfig


def mtg_jamendo() -> Recipe:
    """Make the recipe."""
    official = {f"mtg_jamendo/{part}": part for part in source.PARTS}
    return Recipe(
        name="mtg_jamendo",
        sources={"mtg_jamendo": source.Config()},
        curate=CurateConfig(drop="none", guitars=False),
        split=SplitConfig(rules={**official, "mtg_jamendo/all": grouped(65, 17.5, 17.5)["*"]}),
        write=WriteConfig(rows_per_shard=64),
    )
