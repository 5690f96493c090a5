"""The training loop of the frame-level system: steps on windows, validation after each epoch, the best one kept.

A step depends on (seed, epoch, number of the step) and the state before it alone, so that a run
which was stopped after any step and resumed equals the uninterrupted one bit for bit (on CPU).
Shapes: N clips, B windows of a batch, W frames of a window, I instruments.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.errors import TuttiError
from datasets.record import PRESENT
from train.chunking import Chunking, plan_chunks
from train.data import num_batches
from train.fitting.optimize import (
    clip_gradients,
    make_optimizer,
    parameter_groups,
    schedule,
    set_learning_rates,
)
from train.frames.data import FrameClips
from train.frames.losses import FrameLogits, class_weights
from train.frames.recipe import FramesRecipe
from train.frames.rolls import Rolls
from train.frames.scores import Tally, Thresholds, best_thresholds, frames_report
from train.frames.unet import FrameTagger
from train.saved import Progress
from train.scoring.report import rounded

Done: TypeAlias = Callable[[Progress], None]
Indices: TypeAlias = NDArray[np.int64]

_ORDER, _WINDOWS = 0, 1  # random streams of an epoch


def plan_epoch(lengths_N: Indices, recipe: FramesRecipe, epoch: int) -> list[tuple[Indices, Indices]]:
    """Batches (clips, first frames) of an epoch, one random window of every clip: a function of (seed, epoch).

    Batches are nearly equal in size, so that no small last one upsets the batch norm.
    """
    order_rng, window_rng = (np.random.default_rng([recipe.seed, epoch, stream]) for stream in (_ORDER, _WINDOWS))
    order = order_rng.permutation(len(lengths_N))
    room_N = (lengths_N - recipe.window_frames).clip(min=0) + 1  # a short clip begins at its start
    first = (window_rng.random(len(lengths_N)) * room_N).astype(np.int64)[order]
    count = num_batches(len(order), recipe.batch_size)
    return list(zip(np.array_split(order, count), np.array_split(first, count), strict=True))


def optimizer_of(tagger: FrameTagger, recipe: FramesRecipe) -> torch.optim.Optimizer:
    """The recipe's optimizer of all weights."""
    return make_optimizer(tagger.network, parameter_groups(tagger.network), recipe.optimize)


def weights_of(clips: FrameClips, recipe: FramesRecipe) -> Tensor:
    """Weights (I,) of the instruments by how often they sound in the clips."""
    sounding = torch.zeros(clips.notes.num_instruments, dtype=torch.int64, device=clips.device)
    if recipe.loss.class_power:
        for clip in range(len(clips)):  # one at a time: a whole song may be long
            clips_1 = torch.tensor([clip], device=clips.device)
            rolls = clips.rolls(clips_1, torch.zeros_like(clips_1), int(clips.lengths[clip]))
            sounding += (rolls.instrument[0] == PRESENT).sum(dim=1)
    return class_weights(sounding.tolist(), recipe.loss.class_power).to(clips.device)


def batch_loss(
    tagger: FrameTagger, clips: FrameClips, batch: tuple[Indices, Indices], recipe: FramesRecipe, weights_I: Tensor
) -> Tensor:
    """The loss of a batch, with a graph."""
    clips_B, first_B = (torch.from_numpy(part).to(clips.device) for part in batch)
    window = clips.windows(clips_B, first_B, recipe.window_frames)
    rolls = clips.rolls(clips_B, first_B, recipe.window_frames)
    with torch.autocast(window.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = tagger(window)
    return recipe.loss(logits, rolls, weights_I)


def fit(
    tagger: FrameTagger,
    optimizer: torch.optim.Optimizer,
    train: FrameClips,
    validation: FrameClips,
    recipe: FramesRecipe,
    progress: Progress,
    epoch_done: Done,
    step_done: Done | None = None,
) -> None:
    """Train what is left.

    Args:
        tagger: changed in place.
        optimizer: of the tagger's network.
        train: clips to learn from.
        validation: clips to choose by.
        recipe: all that decides.
        progress: changed in place: where to go on from, and what was best.
        epoch_done: called after every epoch.
        step_done: called after every step but an epoch's last.

    Raises:
        TuttiError: the loss is not finite.
    """
    lengths_N = train.lengths.cpu().numpy()
    weights_I = weights_of(train, recipe)
    steps_per_epoch = num_batches(len(train), recipe.batch_size)
    factor = schedule(recipe.optimize, recipe.epochs * steps_per_epoch, steps_per_epoch)
    for epoch in range(progress.finished_epochs, recipe.epochs):
        tagger.train()
        plan = plan_epoch(lengths_N, recipe, epoch)
        for number in range(len(progress.step_losses), len(plan)):
            set_learning_rates(optimizer, factor(epoch * steps_per_epoch + number))
            value = batch_loss(tagger, train, plan[number], recipe, weights_I)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            clip_gradients(tagger.network.parameters(), recipe.optimize.max_gradient_norm)
            optimizer.step()
            progress.step_losses.append(value.detach())
            if step_done is not None and number + 1 < len(plan):
                step_done(progress)
        train_loss = float(torch.stack(progress.step_losses).double().mean())
        rate = float(optimizer.param_groups[0]["lr"])
        if not math.isfinite(train_loss):
            raise TuttiError(f"epoch {epoch + 1}: the loss is not finite; try --set learning_rate={rate / 10:.2g}")
        progress.step_losses.clear()
        figures = {"epoch": epoch + 1, "train_loss": train_loss, "learning_rate": rate}
        tally = evaluated(tagger, validation, recipe)
        report = frames_report(tally, best_thresholds(tally), [str(n) for n in range(validation.notes.num_instruments)])
        _remember(progress, figures | report["model"], tagger, recipe)
        epoch_done(progress)


def task_score(figures: dict[str, Any], recipe: FramesRecipe) -> float | None:
    """What an epoch is judged by: the mean over the tasks that are learned; None where the last one is wanted."""
    if recipe.select_by == "last":
        return None
    names = {"roll": "roll_accuracy", "pitch": "pitch_accuracy", "instrument": "instrument_macro_f1"}
    values = [figures[names[task]] for task in recipe.loss.tasks]
    return None if None in values else sum(values) / len(values)


def _remember(progress: Progress, figures: dict[str, Any], tagger: FrameTagger, recipe: FramesRecipe) -> None:
    score = task_score(figures, recipe)
    # Of equals the later, longer trained one; without a score the last one.
    if score is None or progress.best_score is None or score >= progress.best_score:
        progress.best_score, progress.best_epoch = score, figures["epoch"]
        state = tagger.network.state_dict()
        progress.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    progress.history.append(rounded(figures))
    progress.finished_epochs = figures["epoch"]


def probabilities(tagger: FrameTagger, window_BWQ: Tensor, recipe: FramesRecipe) -> FrameLogits:
    """Of every cell, in eval mode."""
    tagger.eval()
    with (
        torch.inference_mode(),
        torch.autocast(window_BWQ.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"),
    ):
        logits: FrameLogits = tagger(window_BWQ)
        return FrameLogits(*(value.sigmoid() for value in (logits.roll, logits.instrument, logits.pitch)))


def evaluated(tagger: FrameTagger, clips: FrameClips, recipe: FramesRecipe) -> Tally:
    """What the network says of whole clips, window by window, against their notes."""
    lengths = clips.lengths.cpu()
    plan = plan_chunks(lengths.numpy(), Chunking(recipe.window_frames, last="zero"))
    tally = Tally((lengths * clips.hop_s).tolist(), clips.notes.num_instruments, clips.device)
    within_W = torch.arange(recipe.window_frames, device=clips.device)
    for begin in range(0, len(plan), recipe.batch_size):
        part = slice(begin, begin + recipe.batch_size)
        clips_B, first_B = (torch.from_numpy(values[part]).to(clips.device) for values in (plan.clips, plan.first))
        heard = probabilities(tagger, clips.windows(clips_B, first_B, recipe.window_frames), recipe)
        rolls: Rolls = clips.rolls(clips_B, first_B, recipe.window_frames)
        valid_BW = first_B[:, None] + within_W < clips.lengths[clips_B][:, None]
        tally.add(heard, rolls, valid_BW, clips_B, first_B, clips.hop_s)
    return tally


def scored(
    tagger: FrameTagger,
    clips: FrameClips,
    recipe: FramesRecipe,
    thresholds: Thresholds | None,
    instruments: tuple[str, ...],
) -> tuple[dict[str, Any], Thresholds]:
    """The report of a split; without thresholds those that suit it best are found on it, for validation only."""
    tally = evaluated(tagger, clips, recipe)
    chosen = thresholds or best_thresholds(tally)
    return frames_report(tally, chosen, instruments), chosen
