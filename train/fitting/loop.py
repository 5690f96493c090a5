"""The training loop: steps on augmented windows, validation after each epoch, the best one kept.

A step depends on (seed, epoch, number of the step) and the state before it alone, so that a run
which was stopped after any step and resumed equals the uninterrupted one bit for bit (on CPU).
Shapes: B examples of a batch, C classes, K chunks.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from augment.batch import batch_of
from augment.draw import generator_for
from datasets.errors import TuttiError
from train.chunking import Chunking, plan_chunks
from train.clips import AnyClips, Batch
from train.fitting import distributed
from train.fitting.augmentation import Augmentation, vary
from train.fitting.losses import (
    LUMEN_FAMILIES,
    Loss,
    LossFunction,
    families_of,
    masked_bce,
    positive_weights,
)
from train.fitting.optimize import (
    MovingAverage,
    ParameterGroups,
    clip_gradients,
    freeze,
    parameter_groups,
    schedule,
    set_learning_rates,
)
from train.front_end import clips_to_learn_from, groups_per_block, length_in
from train.inference import Tagger, chunk_logits, pool_logits
from train.reading.order import Draws, Reading, epoch_draws, in_sequence
from train.reading.sampler import clip_weights
from train.recipe import TrainRecipe
from train.saved import Progress
from train.scoring.metrics import best_threshold, likeliest, predict, predominant_accuracy, summary_of
from train.scoring.report import rounded

_WEIGHTS, _DROPOUT = 2, 3  # random streams of torch; the order of an epoch has its own

Done: TypeAlias = Callable[[Progress], None]
Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingData:
    """The clips that a run trains on, and those that it is chosen by."""

    train: AnyClips
    validation: AnyClips
    augmentation: Augmentation


def torch_seed(*numbers: int) -> int:
    """A seed for torch's generator from numbers such as (seed, epoch, stream)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_weights(seed: int) -> None:
    """Seed torch for the initial weights."""
    torch.manual_seed(torch_seed(seed, 0, _WEIGHTS))


def groups_of(network: nn.Module, recipe: TrainRecipe) -> ParameterGroups:
    """Head, backbone that is trained, backbone that never is, batch norms (Lumen 2023)."""
    prefixes = tuple(part.strip() for part in recipe.unfreeze.split(","))
    return parameter_groups(network, backbone=prefixes)


def make_loss(recipe: TrainRecipe, presence_NC: Tensor, instruments: tuple[str, ...]) -> LossFunction:
    """The recipe's loss, with the weights that belong to the data.

    Raises:
        UsageError: an instrument without a family, or settings that exclude each other.
    """
    weights = positive_weights(presence_NC, recipe.max_pos_weight) if recipe.pos_weight else None
    families = None
    if recipe.loss.family_weight > 0:
        families = families_of(instruments, LUMEN_FAMILIES if recipe.families == "lumen" else None)
    return recipe.loss.build(weights, families)


def examples(clips: AnyClips, chosen: Indices, recipe: TrainRecipe, epoch: int) -> Draws:
    """The windows of an epoch in order, in batches nearly equal in size; a function of (seed, epoch) alone."""
    length = length_in(clips.unit, recipe, recipe.window_s)
    lengths = clips.lengths.cpu().numpy()
    windows, first = chosen, None
    if recipe.windows == "all":
        plan = plan_chunks(lengths[chosen], Chunking(length, last=recipe.last))
        windows, first = chosen[plan.clips], plan.first
    weights = None
    if recipe.sampling != "uniform":
        weight_of_clip = np.zeros(len(clips))
        weight_of_clip[chosen] = clip_weights(clips.known_labels[chosen], recipe.sampling)
        weights = weight_of_clip[windows]
    return epoch_draws(
        Reading(length, recipe.batch_size, seed=recipe.seed, random_windows=recipe.windows == "random"),
        epoch,
        lengths,
        windows,
        first=first,
        weights=weights,
        group_of_clip=clips.row_groups,
        groups_per_block=1 if clips.row_groups is None else groups_per_block(clips.row_groups, recipe),
    )


@dataclass(frozen=True)
class Step:
    """Everything that one step needs but the state that it changes."""

    tagger: Tagger
    module: nn.Module  # the tagger, as it is or wrapped for several processes
    material: TrainingData
    recipe: TrainRecipe
    loss: LossFunction

    def __call__(self, batch: Batch, epoch: int, number: int) -> Tensor:
        """The loss of a batch, with a graph."""
        recipe, augmentation = self.recipe, self.material.augmentation
        torch.manual_seed(torch_seed(recipe.seed, epoch, _DROPOUT, number, distributed.rank()))
        clips_B, window = batch
        presence_BC = self.material.train.presence[clips_B]
        rows = distributed.own_rows(len(clips_B))
        if augmentation == Augmentation() and rows is None:
            logits_BC: Tensor = self.module(self.tagger.hear(window))
            return self.loss(logits_BC, presence_BC)
        generator = generator_for(recipe.seed, epoch, number)
        varied = batch_of(window, presence_BC, sample_rate=recipe.sample_rate)
        if augmentation.spectrogram is None:  # the front end for the own rows only
            varied = vary(augmentation.waveform, varied, rows, generator)
            varied = varied.with_signal(self.tagger.hear(varied.signal))
        else:
            varied = vary(augmentation.waveform, varied, None, generator)
            varied = vary(
                augmentation.spectrogram, varied.with_signal(self.tagger.hear(varied.signal)), rows, generator
            )
        logits_BC = self.module(varied.signal)
        return self.loss(logits_BC, varied.targets.target, varied.targets.mask) * self._share(varied.targets.mask)

    def _share(self, mask_BC: Tensor) -> Tensor | float:
        """Our part of the known labels over an equal part: the mean over processes is then that of the batch."""
        if distributed.world_size() == 1:
            return 1.0
        own = mask_BC.sum().float() + self.recipe.loss.unknown_weight * (~mask_BC).sum()
        total = own.clone()
        torch.distributed.all_reduce(total)
        return own * distributed.world_size() / total.clamp(min=1)


def fit(
    tagger: Tagger,
    optimizer: torch.optim.Optimizer | None,
    material: TrainingData,
    recipe: TrainRecipe,
    instruments: tuple[str, ...],
    progress: Progress,
    epoch_done: Done,
    step_done: Done | None = None,
) -> float | None:
    """Train what is left.

    Args:
        tagger: changed in place.
        optimizer: of the tagger's network; None: it has a method `fit` instead.
        material: training and validation split.
        recipe: all that decides.
        instruments: names of the classes.
        progress: changed in place: where to go on from, and what was best.
        epoch_done: called after every epoch.
        step_done: called after every step but an epoch's last.

    Returns:
        The share of the steps' time that went into waiting for their data; None where there was no step.

    Raises:
        TuttiError: the loss is not finite.
    """
    clips = clips_to_learn_from(material.train, recipe)
    if optimizer is None:
        if progress.finished_epochs == 0:
            fit_at_once(tagger, material, clips, recipe)
            _remember(progress, {"epoch": 1, "train_loss": None} | validate(tagger, material, recipe), tagger, recipe)
            epoch_done(progress)
        return None
    groups = groups_of(tagger.network, recipe)
    compiled = torch.compile(tagger) if recipe.compute.compile else tagger
    loss = make_loss(recipe, material.train.presence[torch.from_numpy(clips).to(tagger.device)], instruments)
    average = _moving_average(tagger.network, recipe, progress)
    steps_per_epoch = examples(material.train, clips, recipe, 0).num_steps
    length, watch = length_in(material.train.unit, recipe, recipe.window_s), Stopwatch()
    factor = schedule(recipe.optimize, recipe.epochs * steps_per_epoch, steps_per_epoch)
    wrapped_for = None
    for epoch in range(progress.finished_epochs, recipe.epochs):
        frozen = epoch < recipe.optimize.head_epochs
        freeze(tagger.network, groups, frozen)
        if wrapped_for != frozen:  # which weights take part is fixed when processes are joined
            step = Step(tagger, _joined(compiled), material, recipe, loss)
            wrapped_for = frozen
        tagger.train()
        done = len(progress.step_losses)
        draws = examples(material.train, clips, recipe, epoch)
        read = material.train.batches(draws, length, recipe.last, start_step=done)
        for number, batch in enumerate(watch.waiting_for(read), done):
            set_learning_rates(optimizer, factor(epoch * steps_per_epoch + number))
            value = step(batch, epoch, number)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            clip_gradients(tagger.network.parameters(), recipe.optimize.max_gradient_norm)
            optimizer.step()
            if average is not None:
                average.update(tagger.network)
            progress.step_losses.append(_of_whole_batch(value.detach()))
            if step_done is not None and number + 1 < draws.num_steps:
                step_done(progress)
        train_loss = float(torch.stack(progress.step_losses).double().mean())
        rate = float(optimizer.param_groups[0]["lr"])
        if not math.isfinite(train_loss):
            raise TuttiError(f"epoch {epoch + 1}: the loss is not finite; try --set learning_rate={rate / 10:.2g}")
        progress.step_losses.clear()
        figures = {"epoch": epoch + 1, "train_loss": train_loss, "learning_rate": rate}
        with averaged(tagger.network, progress.average):
            _remember(progress, figures | validate(tagger, material, recipe), tagger, recipe)
        epoch_done(progress)
    return watch.share_waited()


class Stopwatch:
    """How long steps take, and how much of it they wait for their data; wall time of this process."""

    def __init__(self) -> None:
        self._waited_s = self._total_s = 0.0

    def waiting_for(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; the caller's time between two of them counts as work."""
        asked_s = time.perf_counter()
        for batch in batches:
            got_s = time.perf_counter()
            yield batch
            self._waited_s += got_s - asked_s
            self._total_s += time.perf_counter() - asked_s
            asked_s = time.perf_counter()

    def share_waited(self) -> float | None:
        """Of all time; None where there was no step."""
        return self._waited_s / self._total_s if self._total_s else None


def _joined(module: Any) -> nn.Module:
    if distributed.world_size() == 1:
        return cast(nn.Module, module)
    # Buffers (batch norm's statistics) are the first process's; weights without a gradient are none of its business.
    return DistributedDataParallel(module)


def _of_whole_batch(loss: Tensor) -> Tensor:
    if distributed.world_size() > 1:
        torch.distributed.all_reduce(loss)
        loss = loss / distributed.world_size()
    return loss


def _moving_average(network: nn.Module, recipe: TrainRecipe, progress: Progress) -> MovingAverage | None:
    if recipe.optimize.ema_decay is None:
        return None
    average = MovingAverage(network, recipe.optimize.ema_decay)
    if progress.average:
        average.load(progress.average)
    progress.average = average.weights  # the same tensors from now on
    return average


@contextmanager
def averaged(network: nn.Module, average: Mapping[str, Tensor]) -> Iterator[None]:
    """The network with averaged weights, as long as it is looked at; as it is where there are none."""
    own = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()} if average else {}
    if average:
        network.load_state_dict(average)
    try:
        yield
    finally:
        if average:
            network.load_state_dict(own)


def fit_at_once(tagger: Tagger, material: TrainingData, clips: Indices, recipe: TrainRecipe) -> None:
    """Fit a model that is fitted by its own method, on every chunk of the clips.

    Raises:
        TuttiError: the recipe asks to vary what such a model hears.
    """
    if material.augmentation != Augmentation():
        raise TuttiError(f"recipe {recipe.name}: {recipe.model} is fitted at once, on clips as they are; set augment=")
    data = material.train
    length = length_in(data.unit, recipe, recipe.window_s)
    plan = plan_chunks(data.lengths.cpu().numpy()[clips], Chunking(length))
    draws = in_sequence(clips[plan.clips], plan.first, 64)
    with torch.inference_mode():
        heard = [tagger.hear(window).cpu().numpy() for _, window in data.batches(draws, length, recipe.last)]
    cast(Any, tagger.network).fit(np.concatenate(heard), data.known_labels[clips[plan.clips]])


def validate(tagger: Tagger, material: TrainingData, recipe: TrainRecipe) -> dict[str, Any]:
    """Figures of the validation split, at the global threshold that suits it best.

    With cross_entropy there is no threshold: the likeliest class is predicted, and its accuracy is a figure.
    """
    presence = material.validation.known_labels
    logits, plan = chunk_logits(tagger, material.validation, recipe)
    probability = pool_logits(logits, plan.clips, recipe.pooling)
    threshold, accuracy = None, {}
    if recipe.loss.kind == "cross_entropy":
        predicted = likeliest(probability)
        accuracy = {"predominant_accuracy": predominant_accuracy(presence, probability)}
    else:
        threshold = best_threshold(presence, probability)
        predicted = predict(probability, np.full(presence.shape[1], threshold))
    scores = summary_of(presence, probability, predicted)
    chunk_presence = material.validation.presence[torch.from_numpy(plan.clips).to(logits.device)]
    return {
        "validation_loss": chunk_loss(logits, chunk_presence, recipe),
        "threshold": threshold,
        **{name: scores[name] for name in ("map", "micro_f1", "macro_f1", "lrap", "hamming_score")},
        **accuracy,
    }


def chunk_loss(logits_KC: Tensor, presence_KC: Tensor, recipe: TrainRecipe) -> float:
    """Cross-entropy of chunks, of the softmax or of each class by itself; without smoothing and weights."""
    if recipe.loss.kind == "cross_entropy":
        return float(Loss(kind="cross_entropy").build()(logits_KC, presence_KC))
    return float(masked_bce(logits_KC, presence_KC))


def selection_score(figures: dict[str, Any], select_by: str) -> float | None:
    """What an epoch is judged by; None where validation knows too little, or the last one is wanted.

    With cross_entropy f1 means single-label accuracy, which is the micro F1 of one prediction a clip.
    """
    if select_by == "last":
        return None
    if select_by == "map":
        return None if figures["map"] is None else float(figures["map"])
    if "predominant_accuracy" in figures:
        return None if figures["predominant_accuracy"] is None else float(figures["predominant_accuracy"])
    micro, macro = figures["micro_f1"], figures["macro_f1"]
    return None if micro is None or macro is None else (micro + macro) / 2


def _remember(progress: Progress, figures: dict[str, Any], tagger: Tagger, recipe: TrainRecipe) -> None:
    score = selection_score(figures, recipe.select_by)
    # Of equals the later, longer trained one; without a score the last one.
    if score is None or progress.best_score is None or score >= progress.best_score:
        progress.best_score, progress.best_epoch = score, figures["epoch"]
        state = tagger.network.state_dict()
        progress.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    progress.history.append(rounded(figures))
    progress.finished_epochs = figures["epoch"]
