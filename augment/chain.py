"""Several transforms, each for some examples only, in an order of each example's own.

    Chain((Effect(Gain(), 0.5), Effect(PitchShift(), 0.2)), order="random")

A chain is a transform itself: chains nest. Only the examples that an effect was drawn for are worked on.
All parameters are drawn first, from the labels as they came in, and mixing takes its partners from the
batch as it came in.

Shapes: B examples, E effects.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from tutti.augment.batch import Batch
from tutti.augment.labels import Targets
from tutti.augment.transform import Domain, Parameters, Transform, parameter_rows


@dataclass(frozen=True)
class Effect:
    """A transform and how often it is applied."""

    transform: Transform
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"{type(self.transform).__name__}: probability {self.probability} is not in [0, 1]")
        if self.probability < 1 and not self.transform.keeps_length:
            raise ValueError(f"{type(self.transform).__name__} changes the length: its probability must be 1")


@dataclass(frozen=True)
class Chain(Transform):
    """Effects one after the other; `one_of`: a single one, each equally likely, then by its probability."""

    effects: tuple[Effect, ...]
    order: Literal["fixed", "random", "one_of"] = "fixed"

    domain: ClassVar[Domain] = "any"  # each effect checks for itself

    def __post_init__(self) -> None:
        if self.order != "fixed" and not self.keeps_length:
            raise ValueError("a transform that changes the length needs a chain of fixed order")

    @property
    def keeps_length(self) -> bool:  # type: ignore[override]  # a class's fact elsewhere, here the effects'
        """Whether all effects do."""
        return all(effect.transform.keeps_length for effect in self.effects)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw step (B, E), when each effect has its turn (-1: never), and each effect's own, as "0.gain_db"."""
        count = len(self.effects)
        keys_BE = torch.rand(len(batch), count, generator=generator)
        chance_E = torch.tensor([effect.probability for effect in self.effects])
        on_BE = torch.rand(len(batch), count, generator=generator) < chance_E
        turn_BE = torch.arange(count).expand(len(batch), count)
        if self.order != "fixed":
            turn_BE = keys_BE.argsort(dim=1).argsort(dim=1)
        if self.order == "one_of":
            on_BE &= turn_BE == 0
        parameters = {"step": torch.where(on_BE, turn_BE, -1)}
        for number, effect in enumerate(self.effects):
            for name, value in effect.transform.draw(batch, generator).items():
                parameters[f"{number}.{name}"] = value
        return parameters

    def run(self, batch: Batch, parameters: Parameters) -> Batch:
        """Apply the effects; the parameters stay on the CPU, where the rows of each effect are selected."""
        return self.apply(batch, parameters)

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Apply all effects.

        Raises:
            ValueError: an effect does not understand this kind of signal.
        """
        step_BE = parameters["step"].cpu()
        varied = _Buffer(replace(batch, pool=batch.source))
        for step in range(len(self.effects)):
            for number, effect in enumerate(self.effects):
                rows = (step_BE[:, number] == step).nonzero()[:, 0]
                if len(rows):
                    varied.vary(effect.transform, rows, _own(parameters, number))
        return replace(varied.batch, pool=batch.pool)


def _own(parameters: Parameters, number: int) -> Parameters:
    """Select the parameters of one effect."""
    prefix = f"{number}."
    return {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}


class _Buffer:
    """A batch whose rows are replaced in place, once it is a copy of what was passed."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._is_ours = False

    def vary(self, transform: Transform, rows: Tensor, parameters: Parameters) -> None:
        """Replace some rows by what a transform makes of them."""
        if len(rows) == len(self.batch):
            self.batch = transform.run(self.batch, parameters)
            self._is_ours = False  # a transform may answer what it was given
            return
        part = transform.run(self.batch.rows(rows), parameter_rows(parameters, rows))
        if not self._is_ours:
            targets = Targets(self.batch.targets.target.clone(), self.batch.targets.mask.clone())
            self.batch = replace(self.batch, signal=self.batch.signal.clone(), targets=targets)
            self._is_ours = True
        index = rows.to(self.batch.device)
        self.batch.signal.index_copy_(0, index, part.signal)
        self.batch.targets.target.index_copy_(0, index, part.targets.target)
        self.batch.targets.mask.index_copy_(0, index, part.targets.mask)
