"""What a model is to training, and the registry: every file in `models/` is one model.

A model is a module with

    Config                              frozen dataclass: its sizes
    build(config, n_mels, num_classes)  an nn.Module: log-mel (B, F, n_mels) -> logits (B, C)

B windows, F frames, C classes. Weights are drawn from torch's global generator, which the
caller seeds; nothing else in a model may be random except dropout.
"""

import importlib
import pkgutil
from typing import Any, Protocol, cast

from torch import nn

from datasets.errors import UsageError
from datasets.settings import nearest
from train import models


class ModelModule(Protocol):
    """The interface of a module in `models/`."""

    Config: type[Any]

    def build(self, config: Any, n_mels: int, num_classes: int) -> nn.Module:
        """A freshly initialized model."""
        ...


def model_names() -> list[str]:
    """Names of all models: the listing of the `models` folder."""
    return sorted(module.name for module in pkgutil.iter_modules(models.__path__))


def load_model(name: str) -> ModelModule:
    """The module of a model.

    Raises:
        UsageError: no such model; the message names the nearest one and those that exist.
    """
    if name not in model_names():
        raise UsageError(f"unknown model {name!r}{nearest(name, model_names())}; known: {', '.join(model_names())}")
    return cast(ModelModule, importlib.import_module(f"train.models.{name}"))


def count_parameters(model: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
