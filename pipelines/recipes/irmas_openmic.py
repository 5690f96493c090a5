"""Boosted IRMAS and OpenMIC, two-valued labels: data of the Lumen paper's best run by Hamming score, .9014.

Half of the IRMAS test songs validates, as in `boosted_irmas`; OpenMIC's test tests, and its guitars get a kind, as in
`lumen`. IRMAS train alone with OpenMIC, as its text has it: --set split.rules.irmas/test=validation
"""

from tutti.pipelines.recipe import Recipe, with_sources
from tutti.pipelines.recipes.lumen import lumen


def irmas_openmic() -> Recipe:
    """Make the recipe."""
    return with_sources(lumen(), "irmas_openmic", ("irmas", "openmic2018"))
