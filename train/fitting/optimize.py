"""Optimizers, learning-rate schedules, freezing, gradient clipping, moving average of the weights.

    groups = parameter_groups(network, head=("head.",), backbone=("",))
    optimizer = make_optimizer(network, groups, config)
    factor = schedule(config, num_steps, steps_per_epoch)
    every epoch:  freeze(network, groups, epoch < config.head_epochs)
    every step:   set_learning_rates(optimizer, factor(step)); ...; clip_gradients(...); optimizer.step()

A schedule is a pure function from the step to a factor of the peak rate: resuming needs no state.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from tutti.datasets.errors import UsageError

Schedule: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class OptimizeConfig:
    """Settings of the optimizer. The defaults are Lumen 2023's for its convolutional networks."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-4  # peak
    backbone_learning_rate: float | None = None  # peak of a pre-trained part; none: the same
    weight_decay: float = 1e-2
    momentum: float = 0.9  # sgd; the MuseScore paper's code
    schedule: Literal["constant", "warmup_cosine", "one_cycle", "step"] = "one_cycle"
    warmup_share: float = 0.3  # of all steps; torch's default for one_cycle
    initial_division: float = 25.0  # one_cycle: the peak over the first rate; torch's default
    final_division: float = 1e4  # one_cycle: the first over the last rate; torch's default
    three_phases: bool = False  # one_cycle: down as fast as up, then a final phase (Smith 2018)
    drop_epochs: int = 20  # step: epochs between drops; the musical-mixtures paper
    drop_factor: float = 0.5  # step: that paper says "a constant factor" and not which
    max_gradient_norm: float | None = 5.0  # over all weights; none: no clipping
    head_epochs: int = 0  # epochs in which the backbone is frozen; Lumen 2023 unfreezes it in the third: 2
    ema_decay: float | None = None  # of the weights' moving average per step; none: off

    def __post_init__(self) -> None:
        positive = ("learning_rate", "initial_division", "final_division", "drop_factor", "drop_epochs")
        for name in (*positive, "backbone_learning_rate", "max_gradient_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name in ("weight_decay", "head_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("warmup_share", "momentum", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value}")


def warmup_cosine(step: int, num_steps: int, warmup_steps: float) -> float:
    """Rise linearly to 1, then fall along half a cosine (NSynth pre-training: three epochs, five in fine-tuning)."""
    if step < warmup_steps:
        return (step + 1) / (math.floor(warmup_steps) + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (num_steps - warmup_steps)))


def one_cycle(
    step: int,
    num_steps: int,
    warmup_share: float = 0.3,
    initial_division: float = 25.0,
    final_division: float = 1e4,
    three_phases: bool = False,
) -> float:
    """Rise and fall once (Smith 2018), along cosines; torch's OneCycleLR over its peak."""
    first, last = 1 / initial_division, 1 / (initial_division * final_division)
    up = warmup_share * num_steps - 1
    if three_phases:
        ends = [(up, first, 1.0), (2 * up, 1.0, first), (num_steps - 1, first, last)]
    else:
        ends = [(up, first, 1.0), (num_steps - 1, 1.0, last)]
    begin = 0.0
    for end, low, high in ends:
        if step <= end or end == num_steps - 1:
            share = (step - begin) / (end - begin) if end > begin else 1.0
            return high + (low - high) / 2 * (1 + math.cos(math.pi * share))
        begin = end
    raise AssertionError("the last phase ends with the last step")  # pragma: no cover


def step_decay(step: int, steps_per_drop: int, drop_factor: float) -> float:
    """Reduce by a constant factor every so many steps."""
    return float(drop_factor ** (step // steps_per_drop))


def schedule(config: OptimizeConfig, num_steps: int, steps_per_epoch: int) -> Schedule:
    """Make a function from a step, 0 to num_steps - 1, to a factor of the peak learning rate.

    Raises:
        UsageError: fewer steps than a one-cycle's rise needs.
    """
    if config.schedule == "warmup_cosine":
        return lambda step: warmup_cosine(step, num_steps, config.warmup_share * num_steps)
    if config.schedule == "step":
        return lambda step: step_decay(step, config.drop_epochs * steps_per_epoch, config.drop_factor)
    if config.schedule == "one_cycle":
        if config.three_phases and 2 * (config.warmup_share * num_steps - 1) >= num_steps - 1:
            raise UsageError(
                f"warmup_share {config.warmup_share}: up and down take all steps; three_phases needs less than 0.5"
            )
        return lambda step: one_cycle(
            step,
            num_steps,
            config.warmup_share,
            config.initial_division,
            config.final_division,
            config.three_phases,
        )
    return lambda step: 1.0


@dataclass(frozen=True)
class ParameterGroups:
    """Names of a network's parameters, each in one group."""

    head: tuple[str, ...]  # always trained
    backbone: tuple[str, ...]  # trained after `head_epochs`
    frozen: tuple[str, ...]  # never trained
    norms: tuple[str, ...]  # batch norms of backbone and frozen part: always trained (Lumen 2023)


def parameter_groups(
    network: nn.Module, head: Sequence[str] = ("head.",), backbone: Sequence[str] = ("",)
) -> ParameterGroups:
    """Divide by prefixes of the names, as Lumen 2023 does: head before backbone; in neither: frozen.

    What takes no gradient already (single heads of a Fluffy, say) counts as frozen and stays so.

    Raises:
        UsageError: no parameter is the head's.
    """
    norm_parameters = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for parameter in module.parameters(recurse=False)
    }
    found: dict[str, list[str]] = {"head": [], "backbone": [], "frozen": [], "norms": []}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            found["frozen"].append(name)
        elif name.startswith(tuple(head)):
            found["head"].append(name)
        elif id(parameter) in norm_parameters:
            found["norms"].append(name)
        else:
            found["backbone" if name.startswith(tuple(backbone)) else "frozen"].append(name)
    if not found["head"]:
        first = next((name for name, _ in network.named_parameters()), "none")
        raise UsageError(f"no parameter begins with {' or '.join(head)}; the first is {first}")
    return ParameterGroups(**{group: tuple(names) for group, names in found.items()})


def freeze(network: nn.Module, groups: ParameterGroups, backbone_frozen: bool) -> None:
    """Choose which parameters take a gradient from now on. A frozen one keeps its value: it has none."""
    trained = {*groups.head, *groups.norms} | (set() if backbone_frozen else set(groups.backbone))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
        if name not in trained:
            parameter.grad = None


def make_optimizer(network: nn.Module, groups: ParameterGroups, config: OptimizeConfig) -> torch.optim.Optimizer:
    """Make an optimizer of two groups, head and backbone, each with its peak rate in `peak_lr`; none is frozen."""
    parameters = dict(network.named_parameters())
    rates = {"head": config.learning_rate, "backbone": config.backbone_learning_rate or config.learning_rate}
    names = {"head": groups.head, "backbone": (*groups.backbone, *groups.norms)}
    listed: list[dict[str, Any]] = [
        {"params": [parameters[name] for name in names[group]], "lr": rate, "peak_lr": rate, "name": group}
        for group, rate in rates.items()
        if names[group]
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            listed, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    on_gpu = all(parameter.is_cuda for parameter in network.parameters())
    # One kernel for all weights; on CPU it would change the last bit and save nothing that counts.
    return kind(listed, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True if on_gpu else None)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply every group's peak rate by the factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def clip_gradients(parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
    """Scale all gradients so that their common L2 norm is at most `max_norm`; answers the norm before."""
    return nn.utils.clip_grad_norm_(parameters, math.inf if max_norm is None else max_norm)


class MovingAverage:
    """Exponential moving average of a network's weights: `decay` old, the rest new, at every step.

    Buffers that are no averages themselves (counters) are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Average the weights in, after an optimizer's step."""
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor, 1 - self.decay)
            else:
                self.weights[name].copy_(tensor)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Load saved `weights`, to go on from them.

        Raises:
            KeyError: one is missing.
        """
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])
