"""A run on disk, without pickle.

    RUN/model.safetensors        weights of the best epoch
    RUN/config.json              recipe, classes, thresholds, standardization, identity of the data
    RUN/metrics.json             figures per split, history; written last: its presence = finished
    RUN/checkpoint.safetensors   the state after the last epoch, for --resume
    RUN/tensorboard/             curves

Every file is whole or not there.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from datasets.errors import IntegrityError, UsageError
from datasets.files import write_file
from datasets.manifest import file_sha256
from train.features import Standardization
from train.inference import Tagger
from train.model import load_model
from train.recipe import TrainRecipe, recipe_from_json, recipe_to_json

SCHEMA_VERSION = 1

MODEL, CONFIG, METRICS, CHECKPOINT = "model.safetensors", "config.json", "metrics.json", "checkpoint.safetensors"
TENSORBOARD = "tensorboard"

_STATE = "state"  # the one metadata key: with two, their order in the file would be random


@dataclass(frozen=True)
class DataIdentity:
    """What a run learned from."""

    dataset: str
    version: str
    root_digest: str
    instruments: tuple[str, ...]


@dataclass(frozen=True)
class SavedRun:
    """A finished run, ready to listen."""

    recipe: TrainRecipe
    data: DataIdentity
    thresholds: tuple[float, ...]  # one per instrument
    tagger: Tagger


def write_json(path: Path, content: Any) -> None:
    """Indented, sorted JSON, atomically."""
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    write_file(path, text.encode() + b"\n")


def encode_tensors(tensors: Mapping[str, Tensor], state: Any = None) -> bytes:
    """A safetensors file that depends on the values only."""
    metadata = None if state is None else {_STATE: json.dumps(state, sort_keys=True, allow_nan=False)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain, metadata=metadata)


def save_run(
    folder: Path,
    recipe: TrainRecipe,
    data: DataIdentity,
    statistics: Standardization,
    thresholds: tuple[float, ...],
    weights: Mapping[str, Tensor],
) -> None:
    """Write weights, then the config that vouches for them."""
    encoded = encode_tensors(weights)
    write_file(folder / MODEL, encoded)
    config = {
        "schema_version": SCHEMA_VERSION,
        "recipe": recipe_to_json(recipe),
        "instruments": list(data.instruments),
        "sample_rate": recipe.features.sample_rate,
        "data": {"dataset": data.dataset, "version": data.version, "root_digest": data.root_digest},
        "standardization": {"mean_db": list(statistics.mean), "std_db": list(statistics.std)},
        "thresholds": dict(zip(data.instruments, thresholds, strict=True)),
        "model_sha256": hashlib.sha256(encoded).hexdigest(),
        "torch": torch.__version__,
    }
    write_json(folder / CONFIG, config)


def load_run(folder: Path, device: torch.device) -> SavedRun:
    """Load a finished run.

    Raises:
        UsageError: no finished run there.
        IntegrityError: it is damaged, or of another schema version.
    """
    path = folder / CONFIG
    if not (folder / METRICS).is_file() or not path.is_file():
        raise UsageError(f"{folder}: no finished run here (no {METRICS}); train one with train.run --output {folder}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["schema_version"] != SCHEMA_VERSION:
            raise IntegrityError(f"{path}: schema version {config['schema_version']}, this code reads {SCHEMA_VERSION}")
        recipe = recipe_from_json(config["recipe"])
        instruments = tuple(config["instruments"])
        data = DataIdentity(instruments=instruments, **config["data"])
        thresholds = tuple(float(config["thresholds"][name]) for name in instruments)
        standardized = config["standardization"]
        statistics = Standardization(tuple(standardized["mean_db"]), tuple(standardized["std_db"]))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path}: not a run's config ({error!r}); train again") from error
    if not (folder / MODEL).is_file() or file_sha256(folder / MODEL) != config["model_sha256"]:
        raise IntegrityError(f"{folder / MODEL}: not the weights that {CONFIG} names; train again")
    network = build_network(recipe, len(instruments))
    try:
        network.load_state_dict(safetensors.torch.load_file(folder / MODEL))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise IntegrityError(f"{folder / MODEL}: weights do not fit model {recipe.model!r} ({error})") from error
    return SavedRun(recipe, data, thresholds, Tagger(network, statistics).to(device).eval())


def build_network(recipe: TrainRecipe, num_classes: int) -> nn.Module:
    """A freshly initialized network; the caller seeds torch.

    Raises:
        UsageError: the recipe's sizes do not fit together.
    """
    try:
        network = load_model(recipe.model).build(recipe.model_config, recipe.features.n_mels, num_classes)
        with torch.inference_mode():  # one window through it: too short a one fails here, not after the first epoch
            network.eval()(torch.zeros(1, recipe.window_frames, recipe.features.n_mels))
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"recipe {recipe.name}: model {recipe.model} cannot take windows of {recipe.window_frames} frames x "
            f"{recipe.features.n_mels} mel bands ({error})"
        ) from error
    return network


@dataclass
class Progress:
    """What a run has done so far; changed by the training loop, epoch after epoch."""

    finished_epochs: int = 0
    best_epoch: int = 0  # counted from 1
    best_score: float | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def identity_of(recipe: TrainRecipe, data: DataIdentity) -> dict[str, Any]:
    """What must be equal for a run to be the same run: recipe, contents of the data, classes."""
    return {
        "recipe": recipe_to_json(recipe),
        "root_digest": data.root_digest,
        "instruments": list(data.instruments),
    }


def save_checkpoint(
    folder: Path,
    identity: Mapping[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write all that the next epoch depends on, as one file."""
    tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best_weights.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
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
    """The JSON part of a checkpoint; None where there is none.

    Raises:
        IntegrityError: it is damaged, or of another schema version.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state: dict[str, Any] = json.loads((file.metadata() or {})[_STATE])
        version = state["schema_version"]
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{path}: not a checkpoint ({error!r}); remove it and train again") from error
    if version != SCHEMA_VERSION:
        raise IntegrityError(f"{path}: schema version {version}, this code reads {SCHEMA_VERSION}")
    return state


def load_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put network and optimizer into the state after the last finished epoch.

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
        _load_optimizer(optimizer, _with_prefix(tensors, "optimizer."))
        return Progress(
            finished_epochs=state["finished_epochs"],
            best_epoch=state["best_epoch"],
            best_score=state["best_score"],
            best_weights=_with_prefix(tensors, "best."),
            history=state["history"],
        )
    except (safetensors.SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path}: does not fit the recipe's model ({error}); remove it and train again") from error


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
