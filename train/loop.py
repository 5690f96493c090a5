"""The training loop: epochs of masked BCE, validation after each, the best one kept.

A step depends on (seed, epoch) and the weights alone, so that a run which was stopped after any
epoch and resumed equals the uninterrupted one bit for bit (on CPU).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datasets.errors import TuttiError
from train.data import LogMelSplit, labelled_clips, num_batches, training_batches
from train.inference import Tagger, chunk_logits, pool_chunks, probabilities
from train.losses import masked_bce, positive_weights
from train.metrics import Presence, best_threshold, summary
from train.recipe import TrainRecipe
from train.report import rounded
from train.saved import Progress

_WEIGHTS, _DROPOUT = 2, 3  # random streams; data.py has 0 and 1

EpochDone: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True)
class Material:
    """What a run trains on and chooses by."""

    train: LogMelSplit
    validation: LogMelSplit

    @property
    def validation_presence(self) -> Presence:
        """Labels of the validation split."""
        presence: Presence = self.validation.presence.cpu().numpy()
        return presence


def torch_seed(seed: int, epoch: int, stream: int) -> int:
    """A seed for torch's generator from (seed, epoch, stream)."""
    return int(np.random.SeedSequence([seed, epoch, stream]).generate_state(1)[0])


def seed_weights(seed: int) -> None:
    """Seed torch for the initial weights."""
    torch.manual_seed(torch_seed(seed, 0, _WEIGHTS))


def make_optimizer(network: nn.Module, recipe: TrainRecipe) -> torch.optim.AdamW:
    """AdamW (Lumen 2023); the learning rate is set step by step."""
    return torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def learning_rate(step: int, num_steps: int, recipe: TrainRecipe) -> float:
    """Linear warm-up to the peak, then half a cosine to zero (one cycle, Smith 2018)."""
    warmup = recipe.warmup_share * num_steps
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (math.floor(warmup) + 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))


def clips_to_learn_from(presence: Presence, recipe: TrainRecipe) -> NDArray[np.int64]:
    """Clips with a known label; all of them where unknown counts."""
    return np.arange(len(presence)) if recipe.unknown_weight > 0 else labelled_clips(presence)


def fit(
    tagger: Tagger,
    optimizer: torch.optim.Optimizer,
    material: Material,
    recipe: TrainRecipe,
    progress: Progress,
    epoch_done: EpochDone,
) -> None:
    """Train the epochs that are left.

    Args:
        tagger: changed in place.
        optimizer: of the tagger's network.
        material: training and validation split.
        recipe: all that decides.
        progress: changed in place: where to go on from, and what was best.
        epoch_done: called after every epoch.

    Raises:
        TuttiError: the loss is not finite.
    """
    clips = clips_to_learn_from(material.train.presence.cpu().numpy(), recipe)
    weights = positive_weights(material.train.presence, recipe.max_pos_weight) if recipe.pos_weight else None
    steps_per_epoch = num_batches(len(clips), recipe.batch_size)
    for epoch in range(progress.finished_epochs, recipe.epochs):
        torch.manual_seed(torch_seed(recipe.seed, epoch, _DROPOUT))
        tagger.train()
        batches = training_batches(
            material.train,
            clips,
            window_frames=recipe.window_frames,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
        )
        losses = []
        for index, (logmel, presence) in enumerate(batches):
            rate = learning_rate(epoch * steps_per_epoch + index, recipe.epochs * steps_per_epoch, recipe)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = masked_bce(tagger(logmel), presence, weights, recipe.unknown_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(tagger.parameters(), recipe.max_gradient_norm)
            optimizer.step()
            losses.append(loss.detach())
        train_loss = float(torch.stack(losses).double().mean())
        if not math.isfinite(train_loss):
            raise TuttiError(f"epoch {epoch + 1}: the loss is not finite; try --set learning_rate={rate / 10:.2g}")
        figures = {"epoch": epoch + 1, "train_loss": train_loss, "learning_rate": rate}
        _remember(progress, figures | validate(tagger, material, recipe), tagger.network, recipe)
        epoch_done(progress)


def validate(tagger: Tagger, material: Material, recipe: TrainRecipe) -> dict[str, Any]:
    """Figures of the validation split, at the global threshold that suits it best."""
    presence = material.validation_presence
    logits, clips = chunk_logits(tagger, material.validation, recipe.window_frames)
    probability = pool_chunks(probabilities(logits), clips, recipe.pooling)
    threshold = best_threshold(presence, probability)
    scores = summary(presence, probability, np.full(presence.shape[1], threshold))
    chunk_presence = material.validation.presence[torch.from_numpy(clips).to(logits.device)]
    return {
        "validation_loss": float(masked_bce(logits, chunk_presence)),
        "threshold": threshold,
        **{name: scores[name] for name in ("map", "micro_f1", "macro_f1", "lrap", "hamming_score")},
    }


def selection_score(figures: dict[str, Any], select_by: str) -> float | None:
    """What an epoch is judged by; None where validation knows too little."""
    if select_by == "map":
        return None if figures["map"] is None else float(figures["map"])
    micro, macro = figures["micro_f1"], figures["macro_f1"]
    return None if micro is None or macro is None else (micro + macro) / 2


def _remember(progress: Progress, figures: dict[str, Any], network: nn.Module, recipe: TrainRecipe) -> None:
    score = selection_score(figures, recipe.select_by)
    # Of equals the later, longer trained one; without a score the last one.
    if score is None or progress.best_score is None or score >= progress.best_score:
        progress.best_score, progress.best_epoch = score, figures["epoch"]
        progress.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    progress.history.append(rounded(figures))
    progress.finished_epochs = figures["epoch"]
