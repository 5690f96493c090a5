"""Boosted IRMAS and AudioSet, two-valued labels: data of the Lumen paper's best run by F1, .4435.

Half of the IRMAS test songs validates, as in `boosted_irmas`; AudioSet's eval tests. IRMAS train alone with
AudioSet, as its text has it: --set split.rules.irmas/test=validation
"""

from tutti.pipelines.recipe import Recipe, with_sources
from tutti.pipelines.recipes.lumen import lumen


def irmas_audioset() -> Recipe:
    """Make the recipe."""
    return with_sources(lumen(), "irmas_audioset", ("irmas", "audioset"))
