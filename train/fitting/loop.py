"""The training loop: steps on windows, validation after each epoch, the best one kept; the same for every task.

A step depends on (seed, epoch, number of the step) and the state before it alone, so that a run
which was stopped after any step and resumed equals the uninterrupted one bit for bit (on CPU).
Shapes: N clips of a split.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tutti.datasets.errors import TuttiError
from tutti.train.chunking import Chunking, plan_chunks
from tutti.train.clips import AnyClips
from tutti.train.fitting import distributed
from tutti.train.fitting.checkpoints import Progress
from tutti.train.fitting.optimize import (
    MovingAverage,
    ParameterGroups,
    clip_gradients,
    freeze,
    parameter_groups,
    schedule,
    set_learning_rates,
)
from tutti.train.model import Listener
from tutti.train.reading.order import Draws, Indices, Reading, epoch_draws, groups_per_block
from tutti.train.reading.sampler import clip_weights
from tutti.train.run_recipe import RunRecipe
from tutti.train.scoring.report import rounded
from tutti.train.stems.clips import Mixtures
from tutti.train.task import AnyTask, Figures, Material, Step

_WEIGHTS = 2  # random stream of torch; the order of an epoch has its own, and so has a step of tagging

Done: TypeAlias = Callable[[Progress], None]
Batch = TypeVar("Batch")


def torch_seed(*numbers: int) -> int:
    """Make a seed for torch's generator from numbers such as (seed, epoch, stream)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_weights(seed: int) -> None:
    """Set torch's seed for the initial weights."""
    torch.manual_seed(torch_seed(seed, 0, _WEIGHTS))


def groups_of(network: nn.Module, recipe: RunRecipe) -> ParameterGroups:
    """Divide weights into head, backbone that is trained, backbone that never is, batch norms (Lumen 2023)."""
    prefixes = tuple(part.strip() for part in recipe.unfreeze.split(","))
    return parameter_groups(network, backbone=prefixes)


def examples(clips: AnyClips | Mixtures, chosen: Indices, recipe: RunRecipe, epoch: int) -> Draws:
    """Draw the windows of an epoch, in batches nearly equal in size: a function of (seed, epoch) alone."""
    if isinstance(clips, Mixtures):
        return clips.draws(epoch, recipe.batch_size)
    length = recipe.length_in(clips.unit, recipe.window_s)
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
        groups_per_block=1 if clips.row_groups is None else groups_per_block(clips.row_groups, recipe.shuffle_clips),
    )


def fit(
    task: AnyTask,
    tagger: Listener,
    optimizer: torch.optim.Optimizer | None,
    material: Material[Any],
    progress: Progress,
    epoch_done: Done,
    step_done: Done | None = None,
) -> float | None:
    """Train what is left.

    Args:
        task: what is learned, and by which recipe.
        tagger: changed in place.
        optimizer: of the tagger's network; None: it has a method `fit` instead.
        material: training and validation split.
        progress: changed in place: where to go on from, and what was best.
        epoch_done: called after every epoch.
        step_done: called after every step but an epoch's last.

    Returns:
        The share of the steps' time that went into waiting for their data; None where there was no step.

    Raises:
        TuttiError: the loss is not finite.
    """
    if optimizer is None:
        if progress.finished_epochs == 0:
            task.fit_at_once(tagger, material)
            figures = task.figures(task.score_split(tagger, material.validation))
            remember(progress, {"epoch": 1, "train_loss": None} | figures, task, tagger)
            epoch_done(progress)
        return None
    loop = Loop(task, tagger, optimizer, material, progress)
    for epoch in range(progress.finished_epochs, task.recipe.epochs):
        loop.train_epoch(epoch, step_done)
        loop.validate_epoch(epoch)
        epoch_done(progress)
    return loop.watch.share_waited()


class Stopwatch:
    """Time that steps take, and the part of it that they wait for data; wall time of this process."""

    def __init__(self) -> None:
        self._waited_s = self._total_s = 0.0

    def waiting_for(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the same batches; the caller's time between two of them counts as work."""
        asked_s = time.perf_counter()
        for batch in batches:
            got_s = time.perf_counter()
            yield batch
            self._waited_s += got_s - asked_s
            self._total_s += time.perf_counter() - asked_s
            asked_s = time.perf_counter()

    def share_waited(self) -> float | None:
        """Divide waiting by all time; None where there was no step."""
        return self._waited_s / self._total_s if self._total_s else None


@dataclass
class Loop:
    """A run while it trains step by step."""

    task: AnyTask
    tagger: Listener
    optimizer: torch.optim.Optimizer
    material: Material[Any]
    progress: Progress
    watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        """Prepare what no epoch changes."""
        recipe = self.recipe = self.task.recipe
        self.clips, self.chosen = self.task.clips(self.material.train), self.material.chosen
        self.groups = groups_of(self.tagger.network, recipe)
        self.module = torch.compile(self.tagger) if recipe.compute.compile else self.tagger
        self.average = _moving_average(self.tagger.network, recipe, self.progress)
        self.steps_per_epoch = examples(self.clips, self.chosen, recipe, 0).num_steps
        self.factor = schedule(recipe.optimize, recipe.epochs * self.steps_per_epoch, self.steps_per_epoch)
        self._step: Step | None = None
        self._was_frozen: bool | None = None

    def train_epoch(self, epoch: int, step_done: Done | None) -> None:
        """Take the steps of an epoch that have not been taken."""
        step, losses = self._step_of(epoch), self.progress.step_losses
        self.tagger.train()
        draws = examples(self.clips, self.chosen, self.recipe, epoch)
        batches = self.task.batches(self.material.train, draws, start_step=len(losses))
        for number, batch in enumerate(self.watch.waiting_for(batches), len(losses)):
            set_learning_rates(self.optimizer, self.factor(epoch * self.steps_per_epoch + number))
            value = step(batch, epoch, number)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            clip_gradients(self.tagger.network.parameters(), self.recipe.optimize.max_gradient_norm)
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.tagger.network)
            losses.append(_of_whole_batch(value.detach()))
            if step_done is not None and number + 1 < draws.num_steps:
                step_done(self.progress)

    def _step_of(self, epoch: int) -> Step:
        """Freeze what this epoch does not train, and make steps for the rest."""
        frozen = epoch < self.recipe.optimize.head_epochs
        freeze(self.tagger.network, self.groups, frozen)
        if self._step is None or self._was_frozen != frozen:  # which weights take part is fixed for joined processes
            self._step, self._was_frozen = self.task.step(self.tagger, _joined(self.module), self.material), frozen
        return self._step

    def validate_epoch(self, epoch: int) -> None:
        """Score an epoch whose steps are done, and keep it where none was better.

        Raises:
            TuttiError: its loss is not finite.
        """
        train_loss = float(torch.stack(self.progress.step_losses).double().mean())
        rate = float(self.optimizer.param_groups[0]["lr"])
        if not math.isfinite(train_loss):
            raise TuttiError(f"epoch {epoch + 1}: the loss is not finite; try --set learning_rate={rate / 10:.2g}")
        self.progress.step_losses.clear()
        figures = {"epoch": epoch + 1, "train_loss": train_loss, "learning_rate": rate}
        with averaged(self.tagger.network, self.progress.average):
            figures |= self.task.figures(self.task.score_split(self.tagger, self.material.validation))
            remember(self.progress, figures, self.task, self.tagger)


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


def _moving_average(network: nn.Module, recipe: RunRecipe, progress: Progress) -> MovingAverage | None:
    if recipe.optimize.ema_decay is None:
        return None
    average = MovingAverage(network, recipe.optimize.ema_decay)
    if progress.average:
        average.load(progress.average)
    progress.average = average.weights  # the same tensors from now on
    return average


@contextmanager
def averaged(network: nn.Module, average: Mapping[str, Tensor]) -> Iterator[None]:
    """Load averaged weights into the network within the block; its own where there are none."""
    own = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()} if average else {}
    if average:
        network.load_state_dict(average)
    try:
        yield
    finally:
        if average:
            network.load_state_dict(own)


def remember(progress: Progress, figures: Figures, task: AnyTask, tagger: Listener) -> None:
    """Note the figures of an epoch, and its weights where no epoch was better."""
    score = task.score(figures)
    # Of equals the later, longer trained one; without a score the last one.
    if score is None or progress.best_score is None or score >= progress.best_score:
        progress.best_score, progress.best_epoch = score, figures["epoch"]
        state = tagger.network.state_dict()
        progress.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    progress.history.append(rounded(figures))
    progress.finished_epochs = figures["epoch"]
