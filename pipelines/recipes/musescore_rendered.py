"""MIDI files rendered here: for the MuseScore corpus without its audio, or any folder of scores (D25).

    python -m pipelines.build --dataset musescore_rendered --data-from FOLDER_WITH_mid

Each score as it stands, and twice with other programs of the same classes, key, tempo and room (future work of
Zhong 2023 and Hung 2019). Needs FluidSynth and a soundfont: apt install fluidsynth fluid-soundfont-gm.
"""

from tutti.datasets.sources import rendered as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.split import SplitConfig, grouped


def musescore_rendered() -> Recipe:
    """Make the recipe."""
    return Recipe(
        name="musescore_rendered",
        sources={"rendered": source.Config(variants=3)},
        split=SplitConfig(rules=grouped(80, 10, 10)),
    )
