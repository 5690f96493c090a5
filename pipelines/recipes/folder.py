"""Your own audio: `--dataset folder --data-from DIR`, where DIR holds `labels.csv`.

Rows with a `split` go there; the others are divided by group, 65 / 17.5 / 17.5 (P6).
"""

from tutti.datasets.sources import folder as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig, grouped


def folder() -> Recipe:
    """Make the recipe."""
    own = {f"folder/{split}": split for split in ("train", "validation", "test")}
    return Recipe(
        name="folder",
        sources={"folder": source.Config()},
        split=SplitConfig(rules={**own, **grouped(65, 17.5, 17.5)}),
    )
