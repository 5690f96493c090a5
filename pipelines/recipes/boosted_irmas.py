"""Boosted IRMAS: IRMAS train and half of the IRMAS test songs train, as in the Lumen paper; two-valued labels.

The other half of the songs validates (requirement P3), and there is no test: figures of the paper are those of
validation, and are no other's (X8): recipe `irmas` keeps the whole of IRMAS test for the test. Data of Lumen's second
to fifth best runs by F1. IRMAS train alone, as its text has it of them: --set split.rules.irmas/test=validation
"""

from tutti.pipelines.recipe import Recipe, with_sources
from tutti.pipelines.recipes.lumen import lumen


def boosted_irmas() -> Recipe:
    """Make the recipe."""
    return with_sources(lumen(), "boosted_irmas", ("irmas",))
