"""The interface of a transform, and the registry: every file in `transforms/` is one transform.

A transform is a frozen dataclass of its settings, named as its file in CamelCase (`time_shift.py`:
`TimeShift`). It draws parameters on the CPU, for every example its own, and applies them, which is pure:
row i of the result depends on row i, on its parameters and on the pool, never on its neighbors.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

from torch import Generator, Tensor

from tutti.augment import transforms
from tutti.augment.batch import Batch
from tutti.datasets.errors import UsageError
from tutti.datasets.settings import nearest

Parameters: TypeAlias = Mapping[str, Tensor]  # name -> (B, ...): row i belongs to example i
Domain: TypeAlias = Literal["waveform", "spectrogram", "any"]


class Transform(ABC):
    """Settings that draw and apply parameters."""

    domain: ClassVar[Domain] = "waveform"  # which signals it understands
    keeps_length: ClassVar[bool] = True  # the result is as long as the input

    @abstractmethod
    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw parameters of every example, on the CPU; of the batch, only sizes and labels are read."""

    @abstractmethod
    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Vary the batch without changing what was passed; parameters are on the batch's device."""

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Draw and apply.

        Raises:
            ValueError: the transform does not understand this kind of signal.
        """
        return self.run(batch, self.draw(batch, generator))

    def run(self, batch: Batch, parameters: Parameters) -> Batch:
        """Apply parameters that are still on the CPU.

        Raises:
            ValueError: the transform does not understand this kind of signal.
        """
        check_domain(self, batch)
        return self.apply(batch, on_device(parameters, batch))


def check_domain(transform: Transform, batch: Batch) -> None:
    """Refuse a waveform where a spectrogram is needed, and the reverse.

    Raises:
        ValueError: the message names the transform and the shapes.
    """
    expected = {"waveform": (2,), "spectrogram": (3,), "any": (2, 3)}[transform.domain]
    if batch.signal.ndim not in expected:
        raise ValueError(
            f"{type(transform).__name__}: expected a {transform.domain} "
            f"({'B, T' if expected == (2,) else 'B, F, M'}), got shape {tuple(batch.signal.shape)}"
        )


def on_device(parameters: Parameters, batch: Batch) -> Parameters:
    """Move parameters to the batch's device."""
    return {name: value.to(batch.device, non_blocking=True) for name, value in parameters.items()}


def parameter_rows(parameters: Parameters, index: Tensor) -> Parameters:
    """Select the parameters of some examples."""
    return {name: value[index] for name, value in parameters.items()}


def transform_names() -> list[str]:
    """List the names of all transforms: the files of the `transforms` folder."""
    return sorted(module.name for module in pkgutil.iter_modules(transforms.__path__))


def load_transform(name: str) -> type[Transform]:
    """Import the class of a transform.

    Raises:
        UsageError: no such transform; the message names the nearest one and those that exist.
    """
    if name not in transform_names():
        hint = nearest(name, transform_names())
        raise UsageError(f"unknown transform {name!r}{hint}; known: {', '.join(transform_names())}")
    module = importlib.import_module(f"tutti.augment.transforms.{name}")
    loaded: type[Transform] = getattr(module, "".join(part.capitalize() for part in name.split("_")))
    return loaded
