"""NSynth as the NSynth pre-training paper (2023) takes it: 1,006 instruments to be distinguished.

    python -m pipelines.build --dataset nsynth --set nsynth.labels=families
    python -m pipelines.build --dataset nsynth --set nsynth.split=official
    python -m pipelines.build --dataset nsynth --set select.exclude= --set clean.min_mean_amplitude=0

Upstream keeps the instruments of train out of valid and test. Whoever is to name all 1,006 has to hear
them all, so train and valid become one, of which 4 % validate, note by note (D21, P1): a figure on
validation tells how well known instruments are recognized at other pitches and velocities, nothing of
unknown ones. With split=official validation and test hold no instrument of train: for the eleven
families, as no model can name an instrument that it was not trained on. Test stays test in both.

Near-silent notes go by the paper's rule, its code's value (C3). The Lumen paper's, by the share of silent
samples, is off: a short marimba note in four seconds has four fifths of silence and is none the worse.
Levels are normalized to -12 LUFS as everywhere; the paper's code does that to IRMAS, and to NSynth where
two notes are mixed. Labels are the library makers' own: nothing is curated, and similar notes of one
instrument stay apart.

A row names the one instrument that plays and none of the 1,005 others, some 17 kB: training with
cross_entropy takes them as absent. A loss for single labels needs them: --set nsynth.others=absent.
"""

from tutti.datasets.sources import nsynth as source
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.clean import CleanConfig
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.select import SelectConfig
from tutti.pipelines.stages.split import Rule, SplitConfig

CARVED: Rule = {"train": 0.96, "validation": 0.04}  # P1


def nsynth() -> Recipe:
    """Make the recipe."""
    defects = tuple(sorted(pattern for patterns in source.KNOWN_DEFECTS.values() for pattern in patterns))
    return Recipe(
        name="nsynth",
        sources={"nsynth": source.Config(labels="instruments", others="unknown")},
        select=SelectConfig(exclude=defects),
        clean=CleanConfig(max_silence_share=1.0, min_mean_amplitude=5e-4),
        curate=CurateConfig(drop="none", pool=False, guitars=False, near_duplicates=False),
        split=SplitConfig(
            rules={
                "nsynth/merged": CARVED,
                "nsynth/train": "train",
                "nsynth/valid": "validation",
                "nsynth/test": "test",
            }
        ),
    )
