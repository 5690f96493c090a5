"""Music without input: 200 pieces composed from seed 0, each rendered twice; exact notes and labels.

    python -m pipelines.build --dataset composed
    python -m pipelines.build --dataset composed --set rendered.scores=10000 --set rendered.seed=1

Needs FluidSynth and a soundfont: apt install fluidsynth fluid-soundfont-gm; others by $TUTTI_SOUNDFONTS.
"""

from tutti.datasets.sources import rendered as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig, grouped


def composed() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="composed",
        sources={"rendered": source.Config(scores=200, variants=2)},
        split=SplitConfig(rules=grouped(80, 10, 10)),
    )
