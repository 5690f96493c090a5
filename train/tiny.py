"""The small form of recipes, `--tiny`: the same path through the code in seconds, to see that everything runs."""

import math
from dataclasses import replace
from typing import TypeVar

from tutti.train.mixtures_recipe import MixturesRecipe
from tutti.train.model import input_kind, tiny_config
from tutti.train.notes.recipe import NotesRecipe
from tutti.train.recipes.musescore_multitask_small import musescore_multitask_small
from tutti.train.run_recipe import RunRecipe
from tutti.train.tagging_recipe import TaggingRecipe
from tutti.train.tags_recipe import TagsRecipe

Tagging = TypeVar("Tagging", bound=TaggingRecipe)

# Enough for a toy to be learned, little enough for seconds on one core.
_EPOCHS, _BATCH, _RATE, _PIXELS, _WINDOW_S = 10, 8, 1e-2, 64, 0.8
# A recipe that begins with published weights fine-tunes them in a few epochs; from scratch it takes more, at a lower
# rate, and with less weight on labels that only count as absent: on the built-in sample's test split the macro F1 of
# lumen_convnext is .42 with the rate and the weight of all others, and .74 to .78 over three seeds with these.
_EPOCHS_FROM_SCRATCH, _RATE_FROM_SCRATCH, _UNKNOWN_WEIGHT = 30, 3e-3, 0.1
_NOTES_EPOCHS = 8  # enough to see that something is learned
# Mixtures are longer than other windows: in a second of a song often one instrument plays. Few of their stems change
# key or tempo, which costs more than all the rest. A handful of songs for validation says nothing of single classes:
# there is one threshold for all of them.
_MIXES, _SCORED_MIXES, _MIXTURE_S, _MOVING_SHARE, _MIXTURE_EPOCHS = 240, 96, 1.6, 0.1, 24
_TAGS_EPOCHS = 150  # of a dozen tracks, each of which gives one window an epoch


def tiny_form(recipe: RunRecipe) -> RunRecipe:
    """Make the small form of a recipe of either task."""
    if isinstance(recipe, NotesRecipe):
        return replace(musescore_multitask_small(), name=recipe.name, epochs=_NOTES_EPOCHS)
    if isinstance(recipe, MixturesRecipe):
        mixing = replace(
            recipe.mixing,
            mixes_per_epoch=_MIXES,
            num_validation=_SCORED_MIXES,
            num_test=_SCORED_MIXES,
            p_pitch_shift=_MOVING_SHARE,
            p_time_stretch=_MOVING_SHARE,
        )
        thresholds = replace(recipe.thresholds, scope="global")
        form = replace(_tiny_tagging(recipe), mixing=mixing, window_s=_MIXTURE_S, thresholds=thresholds)
        return replace(form, epochs=min(recipe.epochs, _MIXTURE_EPOCHS))
    if isinstance(recipe, TagsRecipe):
        return replace(_tiny_tagging(recipe), epochs=_TAGS_EPOCHS)
    return _tiny_tagging(recipe) if isinstance(recipe, TaggingRecipe) else recipe


def _tiny_tagging(recipe: Tagging) -> Tagging:
    """Take a toy of the model, random weights, short windows, a few epochs.

    Head, kind of loss, augmentation, pooling, optimizer and schedule stay; thresholds are fixed on single clips. One
    processor thread, so that a toy is the same on any number of cores.
    """
    config = tiny_config(recipe.model)
    kept = {name: getattr(recipe.model_config, name) for name in ("head", "mode") if hasattr(config, name)}
    longest = _WINDOW_S if input_kind(recipe.model) != "vggish" else recipe.window_s
    shorter = min(1.0, longest / recipe.window_s)
    published = bool(getattr(recipe.model_config, "weights", ""))
    rate, most_unknown = (_RATE_FROM_SCRATCH, _UNKNOWN_WEIGHT) if published else (_RATE, math.inf)
    return replace(
        recipe,
        model_config=replace(config, **kept),
        image=replace(recipe.image, height=_PIXELS, width=_PIXELS),
        window_s=recipe.window_s * shorter,
        chunk_s=None if recipe.chunk_s is None else recipe.chunk_s * shorter,
        hop_s=None if recipe.hop_s is None else recipe.hop_s * shorter,
        epochs=_EPOCHS_FROM_SCRATCH if published else min(recipe.epochs, _EPOCHS),
        batch_size=min(recipe.batch_size, _BATCH),
        thresholds_on="validation",  # in sums of what it hardly knows a toy finds no threshold
        # Random weights: nothing to keep the backbone frozen for.
        optimize=replace(recipe.optimize, learning_rate=rate, backbone_learning_rate=None, head_epochs=0),
        loss=replace(recipe.loss, unknown_weight=min(recipe.loss.unknown_weight, most_unknown)),
        compute=replace(recipe.compute, threads=1),
    )
