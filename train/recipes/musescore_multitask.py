"""MuseScore multitask paper (Hung, Chen, Yang 2019): a U-net hears instruments, pitches and both together.

python -m pipelines.build --dataset musescore
python -m train.run --data build/musescore --recipe musescore_multitask --set loss.roll_weight=0
"""

from tutti.train.fitting.optimize import OptimizeConfig
from tutti.train.notes.recipe import MUSESCORE_NINE, NotesRecipe


def musescore_multitask() -> NotesRecipe:
    """Make the recipe; requirement ids: D24 F8 B6 O7 T3 E5 K1."""
    return NotesRecipe(
        name="musescore_multitask",
        instruments=MUSESCORE_NINE,
        # T3: SGD at .005; the rest is its code's, whose factor at the drop is the usual tenth.
        optimize=OptimizeConfig(
            optimizer="sgd",
            learning_rate=0.005,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="step",
            drop_epochs=70,
            drop_factor=0.1,
            max_gradient_norm=None,
        ),
    )
