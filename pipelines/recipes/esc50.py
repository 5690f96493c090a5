"""ESC-50 as noises behind music (D29, A10): 2,000 environmental sounds, decoded and resampled once.

    python -m pipelines.build --dataset esc50
    python -m train.run --set noises=build/esc50 --set augment=background_noise ...

All of it is for training, as noise is not evaluated. Silence is no fault here: a dog's bark is followed by upstream's
zeros. Nothing is curated, for nothing is labelled but that no instrument plays.
"""

from tutti.datasets.sources import esc50 as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.clean import CleanConfig
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.split import SplitConfig


def esc50() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="esc50",
        sources={"esc50": source.Config()},
        clean=CleanConfig(max_silence_share=1.0, max_crest_db=100.0),
        curate=CurateConfig(drop="none", pool=False, guitars=False, near_duplicates=False),
        split=SplitConfig(rules={"esc50/*": "train"}),
    )
