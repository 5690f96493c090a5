"""Checkpoints: all that the next step of a run depends on, as one file without pickle.

save_checkpoint(folder, identity, network, optimizer, progress)
progress = load_checkpoint(folder, network, optimizer)              both put into the state that was written last
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tutti.datasets.bounded import parse_json
from tutti.datasets.errors import IntegrityError
from tutti.datasets.files import write_file
from tutti.datasets.typed_json import object_of, read_as

SCHEMA_VERSION = 2  # of everything that a run writes; 2: recipes with groups
CHECKPOINT = "checkpoint.safetensors"

_STATE = "state"  # the one metadata key: with two, their order in the file would be random


@dataclass
class Progress:
    """Progress of a run so far; changed by the training loop, epoch after epoch."""

    finished_epochs: int = 0
    best_epoch: int = 0  # counted from 1
    best_score: float | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    step_losses: list[Tensor] = field(default_factory=list)  # of the epoch that has begun: as many as steps done
    average: dict[str, Tensor] = field(default_factory=dict)  # moving average of the weights; empty: off
    history: list[dict[str, Any]] = field(default_factory=list)


def encode_tensors(tensors: Mapping[str, Tensor], state: Any = None) -> bytes:
    """Encode a safetensors file that depends on the values only."""
    metadata = None if state is None else {_STATE: json.dumps(state, sort_keys=True, allow_nan=False)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain, metadata=metadata)


def save_checkpoint(
    folder: Path,
    identity: Mapping[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    progress: Progress,
) -> None:
    """Write all that the next step depends on, as one file."""
    tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best_weights.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in progress.average.items()}
    if progress.step_losses:
        tensors["step_losses"] = torch.stack(progress.step_losses)
    states = {} if optimizer is None else optimizer.state_dict()["state"]
    for index, state in states.items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items() if value is not None}
    state = {
        "schema_version": SCHEMA_VERSION,
        "identity": identity,
        "finished_epochs": progress.finished_epochs,
        "best_epoch": progress.best_epoch,
        "best_score": progress.best_score,
        "history": progress.history,
    }
    write_file(folder / CHECKPOINT, encode_tensors(tensors, state))


def checkpoint_state(folder: Path) -> dict[str, Any] | None:
    """Read the JSON part of a checkpoint; None where there is none.

    Raises:
        IntegrityError: it is damaged, or of another schema version.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state: dict[str, Any] = parse_json((file.metadata() or {})[_STATE].encode())
        version = state["schema_version"]
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path}: not a checkpoint ({error!r}); remove it and train again") from error
    if version != SCHEMA_VERSION:
        raise IntegrityError(f"{path}: schema version {version}, this code reads {SCHEMA_VERSION}")
    return state


def load_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer | None) -> Progress:
    """Put network and optimizer into the state that was written last.

    Raises:
        IntegrityError: the checkpoint is damaged or does not fit.
    """
    state = checkpoint_state(folder)
    if state is None:
        return Progress()
    path = folder / CHECKPOINT
    try:
        tensors = safetensors.torch.load_file(path)
        network.load_state_dict(_with_prefix(tensors, "model."))
        if optimizer is not None:
            _load_optimizer(optimizer, _with_prefix(tensors, "optimizer."))
        return Progress(
            finished_epochs=read_as(int, state["finished_epochs"], "finished_epochs"),
            best_epoch=read_as(int, state["best_epoch"], "best_epoch"),
            best_score=read_as(float | None, state["best_score"], "best_score"),
            best_weights=_with_prefix(tensors, "best."),
            step_losses=list(tensors["step_losses"].unbind()) if "step_losses" in tensors else [],
            average=_with_prefix(tensors, "average."),
            history=[dict(object_of(entry, "history")) for entry in state["history"]],
        )
    except (safetensors.SafetensorError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        words = " ".join(str(error).split())[:200]
        raise IntegrityError(f"{path}: does not fit the recipe's model ({words}); remove it and train again") from error


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        # The strides of the parameter again (channels last): the same memory order, the same sums.
        states.setdefault(int(index), {})[key] = (
            torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
        )
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
