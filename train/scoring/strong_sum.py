"""A validation set like real mixes: 4 to 6 clips summed at a time, to fix thresholds on (Lumen 2023).

Trained on clips of one instrument, a model is surer of itself than it will be in a mix of many.
"""

import numpy as np
import torch

from tutti.augment.batch import batch_of
from tutti.augment.chain import Chain, Effect
from tutti.augment.draw import generator_for
from tutti.augment.transforms.sum_with_n import SumWithN
from tutti.train.chunking import probabilities
from tutti.train.clips import AnyClips
from tutti.train.reading.order import in_sequence
from tutti.train.scoring.metrics import Floats, Presence
from tutti.train.tagger import Tagger
from tutti.train.tagging_recipe import TaggingRecipe

COUNTS = (4, 5, 6)  # clips in a sum; Lumen 2023
_EPOCH = 2**31  # a random stream that no epoch of training has
_AT_ONCE = 64  # clips that are summed among each other


def strong_sum(tagger: Tagger, clips: AnyClips, recipe: TaggingRecipe) -> tuple[Presence, Floats]:
    """Compute labels and probabilities (N, C) of as many sums as there are clips, each of a first window.

    Args:
        tagger: takes waveforms, or log-mel of them.
        clips: of the validation split, in samples.
        recipe: length of a window and seed.
    """
    chain = Chain(tuple(Effect(SumWithN(num=count)) for count in COUNTS), order="one_of")
    length = recipe.length_in("samples", recipe.chunk_s or recipe.window_s)
    order = torch.randperm(len(clips), generator=generator_for(recipe.seed, _EPOCH, 0)).numpy()
    draws = in_sequence(order, np.zeros_like(order), _AT_ONCE)
    presence, probability = [], []
    tagger.eval()
    for index, (clips_B, window) in enumerate(clips.batches(draws, length, recipe.last)):
        batch = batch_of(window, clips.presence[clips_B], sample_rate=recipe.sample_rate)
        with torch.inference_mode():
            summed = chain(batch, generator_for(recipe.seed, _EPOCH, index + 1))
            probability.append(torch.from_numpy(probabilities(tagger(tagger.featurize(summed.signal)))))
        presence.append(summed.presence.cpu())
    return torch.cat(presence).numpy(), torch.cat(probability).numpy()
