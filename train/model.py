"""The interface of a model, and the registry: every file in `models/` is one model.

A model is a module with

    INPUT                                    the kind of input, see below
    Config                                   frozen dataclass: its sizes, and `weights` where some are published
    TINY                                     a Config that a test trains in a second
    build(config, input_size, num_classes)   an nn.Module: its input -> logits (B, C)

| INPUT    | input                                                            | input_size            |
|----------|------------------------------------------------------------------|-----------------------|
| logmel   | (B, F, M) log-mel, standardized                                  | M mel bands           |
| waveform | (B, T) samples in [-1, 1]                                        | sample rate, Hz       |
| image    | (B, I, H, W) spectrograms; H frequency, W time                   | I channels, 1 or 3    |
| vggish   | (B, F, 128) VGGish embeddings, one a second; 10 in OpenMIC       | 128                   |
| features | (B, N) numbers of the clip as a whole                            | N features            |

B windows, F frames, C classes. A module without INPUT takes log-mel; one without TINY is small by default.

Weights are drawn from torch's global generator, which the caller seeds; nothing else in a model may be random
except dropout. With `weights` set they are read from a folder or the hub (train/pretrained.py) or from a run of ours
(train/backbone.py, for every model), the head's never.

Names of parameters tell the head from the backbone: `head.` and everything else (`parameter_groups` in
train/fitting/optimize.py sorts them).
A model with a method `fit(features, presence)` is fitted by it and not by gradients.
"""

import importlib
import pkgutil
from typing import Any, Literal, Protocol, Self, TypeAlias, cast

import torch
from torch import Tensor, nn

from tutti.datasets.errors import UsageError
from tutti.datasets.settings import nearest
from tutti.train import models
from tutti.train.features import Standardization

Input: TypeAlias = Literal["logmel", "waveform", "image", "vggish", "features"]


class ModelModule(Protocol):
    """The interface of a module in `models/`."""

    Config: type[Any]

    def build(self, config: Any, input_size: int, num_classes: int, /) -> nn.Module:
        """Make a freshly initialized model."""
        ...


def model_names() -> list[str]:
    """List the names of all models: the files of the `models` folder, without helpers (`_name`)."""
    return sorted(module.name for module in pkgutil.iter_modules(models.__path__) if not module.name.startswith("_"))


def load_model(name: str) -> ModelModule:
    """Import the module of a model.

    Raises:
        UsageError: no such model; the message names the nearest one and those that exist.
    """
    if name not in model_names():
        raise UsageError(f"unknown model {name!r}{nearest(name, model_names())}; known: {', '.join(model_names())}")
    return cast(ModelModule, importlib.import_module(f"tutti.train.models.{name}"))


def input_kind(name: str) -> Input:
    """Name the kind of input that a model takes."""
    return cast(Input, getattr(load_model(name), "INPUT", "logmel"))


def tiny_config(name: str) -> Any:
    """Make a model's smallest useful Config."""
    module = load_model(name)
    return getattr(module, "TINY", None) or module.Config()


class Listener(nn.Module):
    """A network behind standardization: what is trained, and what a run keeps.

    Statistics are of the training split; they belong to the run's config, not to the weights.

    Args:
        network: the part that has weights.
        statistics: mean and deviation of what it hears.
        bf16: run the network under autocast.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, statistics: Standardization, *, bf16: bool) -> None:
        super().__init__()
        self.network, self.bf16, self.statistics = network, bf16, statistics
        self.register_buffer("mean", torch.tensor(statistics.mean), persistent=False)
        self.register_buffer("std", torch.tensor(statistics.std), persistent=False)

        self._backbone_frozen = False

    @property
    def device(self) -> torch.device:
        """The device on which it runs."""
        return self.mean.device

    def freeze_backbone(self) -> None:
        """Train nothing but the head from now on; dropout and statistics of batch norms rest, too."""
        self._backbone_frozen = True
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith("head."))
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Choose between training and evaluation; a frozen backbone is always in evaluation."""
        super().train(mode)
        if self._backbone_frozen:
            for name, part in self.network.named_children():
                part.train(mode and name == "head")
        return self


def count_parameters(model: nn.Module) -> int:
    """Count the trainable weights."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
