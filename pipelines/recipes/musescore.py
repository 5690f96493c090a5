"""MuseScore pairs on your disk: `--dataset musescore --data-from DIR`, where DIR holds `mid/` and `mp3/`.

Ten-second clips with the notes of their scores, for frame-level training (Hung 2019). Divided by score,
65 / 17.5 / 17.5 (P6). Labels follow from the notes, so nothing doubts them: outliers stay.
"""

from tutti.datasets.sources import musescore as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.split import SplitConfig, grouped


def musescore() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="musescore",
        sources={"musescore": source.Config()},
        split=SplitConfig(rules=grouped(65, 17.5, 17.5)),
        curate=CurateConfig(drop="none", guitars=False),
    )
