"""One training step of tagging: a batch varied, heard, named, and its loss.

Shapes: B examples of a batch, C classes, N clips.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutti.augment.batch import batch_of
from tutti.augment.draw import generator_for
from tutti.train.clips import Batch
from tutti.train.fitting import distributed
from tutti.train.fitting.augmentation import Augmentation, vary
from tutti.train.fitting.loop import torch_seed
from tutti.train.fitting.losses import LUMEN_FAMILIES, LossFunction, families_of, positive_weights
from tutti.train.tagger import Tagger
from tutti.train.tagging_recipe import TaggingRecipe

_DROPOUT = 3  # random stream of torch; 2 is that of the initial weights


def make_loss(recipe: TaggingRecipe, presence_NC: Tensor, instruments: tuple[str, ...]) -> LossFunction:
    """Make the recipe's loss, with the weights that belong to the data.

    Raises:
        UsageError: an instrument without a family, or settings that exclude each other.
    """
    weights = positive_weights(presence_NC, recipe.max_pos_weight) if recipe.pos_weight else None
    families = None
    if recipe.loss.family_weight > 0:
        families = families_of(instruments, LUMEN_FAMILIES if recipe.families == "lumen" else None)
    return recipe.loss.build(weights, families)


@dataclass(frozen=True)
class TaggingStep:
    """Everything that one step needs but the state that it changes."""

    tagger: Tagger
    module: nn.Module  # the tagger, as it is or wrapped for several processes
    presence: Tensor  # (N, C) of the training split
    augmentation: Augmentation
    recipe: TaggingRecipe
    loss: LossFunction

    def __call__(self, batch: Batch, epoch: int, number: int) -> Tensor:
        """Compute the loss of a batch, with a graph."""
        recipe, augmentation = self.recipe, self.augmentation
        torch.manual_seed(torch_seed(recipe.seed, epoch, _DROPOUT, number, distributed.rank()))
        clips, window = batch
        presence_BC = clips if clips.ndim == 2 else self.presence[clips]  # mixtures bring labels of their own
        rows = distributed.own_rows(len(clips))
        if augmentation == Augmentation() and rows is None:
            logits_BC: Tensor = self.module(self.tagger.featurize(window))
            return self.loss(logits_BC, presence_BC)
        generator = generator_for(recipe.seed, epoch, number)
        varied = batch_of(window, presence_BC, sample_rate=recipe.sample_rate)
        if augmentation.spectrogram is None:  # the front end for the own rows only
            varied = vary(augmentation.waveform, varied, rows, generator)
            varied = varied.with_signal(self.tagger.featurize(varied.signal))
        else:
            varied = vary(augmentation.waveform, varied, None, generator)
            varied = vary(
                augmentation.spectrogram, varied.with_signal(self.tagger.featurize(varied.signal)), rows, generator
            )
        logits_BC = self.module(varied.signal)
        return self.loss(logits_BC, varied.targets.target, varied.targets.mask) * self._share(varied.targets.mask)

    def _share(self, mask_BC: Tensor) -> Tensor | float:
        """Divide our part of the known labels by an equal part: the mean over processes is then that of the batch."""
        if distributed.world_size() == 1:
            return 1.0
        own = mask_BC.sum().float() + self.recipe.loss.unknown_weight * (~mask_BC).sum()
        total = own.clone()
        torch.distributed.all_reduce(total)
        return own * distributed.world_size() / total.clamp(min=1)
