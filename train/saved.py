"""A run on disk, without pickle.

    RUN/model.safetensors        weights of the best epoch
    RUN/config.json              recipe, classes, thresholds, standardization, identity of the data
    RUN/metrics.json             figures per split, history; written last: its presence = finished
    RUN/checkpoint.safetensors   the state after the last epoch or step: the same command goes on from there
    RUN/.lock                    held while a process trains here (train/run_folder.py)
    RUN/tensorboard/             curves
    RUN/pictures/                what train.evaluate draws, a folder per split and dataset version

Every file is whole or not there.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from datasets.bounded import parse_json, read_bounded
from datasets.errors import IntegrityError, UsageError
from datasets.files import write_file
from datasets.manifest import file_sha256
from datasets.typed_json import object_of, read_as
from train.features import Standardization
from train.front_end import evaluation_unit, input_size, length_in
from train.inference import Tagger, make_tagger
from train.model import load_model
from train.reading.vggish import NUM_FEATURES
from train.recipe import TrainRecipe, recipe_from_json, recipe_to_json
from train.run_config import DataIdentity as DataIdentity
from train.run_config import check_network, data_of, digest_of_weights, statistics_of

SCHEMA_VERSION = 2  # 2: recipes with groups

MODEL, CONFIG, METRICS, CHECKPOINT = "model.safetensors", "config.json", "metrics.json", "checkpoint.safetensors"
TENSORBOARD, PICTURES = "tensorboard", "pictures"

CONFIG_BYTES = 1 << 24  # largest config.json that is read
_STATE = "state"  # the one metadata key: with two, their order in the file would be random


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
    statistics: Standardization | None,
    thresholds: tuple[float, ...],
    weights: Mapping[str, Tensor],
) -> None:
    """Write weights, then the config that vouches for them."""
    encoded = encode_tensors(weights)
    write_file(folder / MODEL, encoded)
    standardized = None if statistics is None else {"mean_db": [*statistics.mean], "std_db": [*statistics.std]}
    config = {
        "schema_version": SCHEMA_VERSION,
        "recipe": recipe_to_json(recipe),
        "instruments": list(data.instruments),
        "sample_rate": recipe.sample_rate,
        "data": {"dataset": data.dataset, "version": data.version, "root_digest": data.root_digest},
        "standardization": standardized,
        "thresholds": dict(zip(data.instruments, thresholds, strict=True)),
        "model_sha256": hashlib.sha256(encoded).hexdigest(),
        "torch": torch.__version__,
    }
    write_json(folder / CONFIG, config)


def load_run(folder: Path, device: torch.device) -> SavedRun:
    """Load a finished run; needs nothing but its folder.

    Raises:
        UsageError: no finished run there.
        IntegrityError: it is damaged, or of another schema version.
    """
    with finished_config(folder) as config:
        if config["schema_version"] != SCHEMA_VERSION:
            found = config["schema_version"]
            raise IntegrityError(f"{folder / CONFIG}: schema version {found}, this code reads {SCHEMA_VERSION}")
        recipe = recipe_from_json(config["recipe"])
        own = without_weights(recipe)  # the run holds its own
        data, digest = data_of(config), digest_of_weights(config)
        found = read_as(Mapping[str, float], config["thresholds"], "thresholds")
        thresholds = tuple(float(found[name]) for name in data.instruments)
        statistics = None
        if config["standardization"] is not None:
            statistics = statistics_of(config, "mean_db", "std_db")
        check_weights(folder, digest)
        check_network(own, len(data.instruments), (folder / MODEL).stat().st_size)
        tagger = build_tagger(own, len(data.instruments), statistics)
    load_weights(tagger.network, folder, digest)
    return SavedRun(recipe, data, thresholds, tagger.to(device).eval())


@contextlib.contextmanager
def finished_config(folder: Path) -> Iterator[dict[str, Any]]:
    """The config of a finished run, to be taken apart within the block.

    Raises:
        UsageError: no finished run there.
        IntegrityError: it is damaged, or the block finds something missing or of a wrong type.
    """
    path = folder / CONFIG
    if not (folder / METRICS).is_file() or not path.is_file():
        raise UsageError(f"{folder}: no finished run here (no {METRICS}); train one with train.run --output {folder}")
    try:
        yield parse_json(read_bounded(path, CONFIG_BYTES))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise IntegrityError(f"{path}: not a run's config ({words}); train again") from error


def load_weights(network: nn.Module, folder: Path, sha256: str) -> None:
    """Give a network the weights of a run.

    Raises:
        IntegrityError: they are not those with this digest, or of another network.
    """
    check_weights(folder, sha256)
    try:
        network.load_state_dict(safetensors.torch.load_file(folder / MODEL))
    except (RuntimeError, safetensors.SafetensorError) as error:
        words = " ".join(str(error).split())[:200]
        raise IntegrityError(
            f"{folder / MODEL}: weights do not fit the recipe's model ({words}); train again"
        ) from error


def check_weights(folder: Path, sha256: str) -> None:
    """Compare the weights of a run with their digest.

    Raises:
        IntegrityError: they are not those with this digest.
    """
    if not (folder / MODEL).is_file() or file_sha256(folder / MODEL) != sha256:
        raise IntegrityError(f"{folder / MODEL}: not the weights that {CONFIG} names; train again")


def without_weights(recipe: TrainRecipe) -> TrainRecipe:
    """The same network with random weights: nothing published is asked for."""
    if not getattr(recipe.model_config, "weights", ""):
        return recipe
    return replace(recipe, model_config=replace(recipe.model_config, weights=""))


def build_tagger(recipe: TrainRecipe, num_classes: int, statistics: Standardization | None) -> Tagger:
    """A fresh network behind its front end; the caller seeds torch.

    Raises:
        UsageError: the recipe's sizes do not fit together, or its published weights are not to be had.
    """
    module = load_model(recipe.model)
    try:
        network = module.build(recipe.model_config, input_size(recipe), num_classes)
        if recipe.compute.channels_last:
            network = cast(Any, network).to(memory_format=torch.channels_last)
        tagger = make_tagger(recipe, network, statistics).eval()
        for duration_s in {recipe.window_s, recipe.chunk_s or recipe.window_s}:
            _try_one_window(tagger, recipe, duration_s)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"recipe {recipe.name}: model {recipe.model} cannot take windows of {recipe.window_frames} frames x "
            f"{recipe.features.n_mels} mel bands, {recipe.window_s:g} s ({error})"
        ) from error
    plain = without_weights(recipe)
    if plain is not recipe:
        with torch.random.fork_rng(devices=[]):
            same_sizes = module.build(plain.model_config, input_size(recipe), num_classes)
        _check_sizes(network, same_sizes, recipe)
    return tagger


def _try_one_window(tagger: Tagger, recipe: TrainRecipe, duration_s: float) -> None:
    """Too short a window fails here, not after the first epoch."""
    unit = evaluation_unit(recipe)
    sizes = {"samples": (), "frames": (recipe.features.n_mels,), "seconds": (NUM_FEATURES,)}[unit]
    with torch.inference_mode():
        tagger(tagger.hear(torch.zeros(1, length_in(unit, recipe, duration_s), *sizes)))


def _check_sizes(published: nn.Module, plain: nn.Module, recipe: TrainRecipe) -> None:
    """A run is loaded without the published files: the config alone must say how large the network is."""
    sizes = [{name: value.shape for name, value in network.state_dict().items()} for network in (published, plain)]
    wrong = [name for name in sizes[0].keys() | sizes[1].keys() if sizes[0].get(name) != sizes[1].get(name)]
    if wrong:
        raise UsageError(
            f"recipe {recipe.name}: weights {recipe.model_config.weights} have other sizes than model_config says, "
            f"such as {min(wrong)}; --set model_config.FIELD to theirs, or the run could not be loaded"
        )


@dataclass
class Progress:
    """What a run has done so far; changed by the training loop, epoch after epoch."""

    finished_epochs: int = 0
    best_epoch: int = 0  # counted from 1
    best_score: float | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    step_losses: list[Tensor] = field(default_factory=list)  # of the epoch that has begun: as many as steps done
    average: dict[str, Tensor] = field(default_factory=dict)  # moving average of the weights; empty: off
    history: list[dict[str, Any]] = field(default_factory=list)


def identity_of(recipe: TrainRecipe, data: DataIdentity) -> dict[str, Any]:
    """What must be equal for a run to be the same run: recipe, contents of the data, classes."""
    return {
        "recipe": recipe_to_json(recipe),
        "root_digest": data.root_digest,
        "instruments": list(data.instruments),
    }


def write_metrics(folder: Path, progress: Progress, reports: Mapping[str, Any], num_parameters: int) -> None:
    """Write the figures of every split, last of all: with them a run is finished."""
    metrics = {
        "schema_version": SCHEMA_VERSION,
        "best_epoch": progress.best_epoch,
        "splits": reports,
        "history": progress.history,
        "parameters": num_parameters,
    }
    write_json(folder / METRICS, metrics)


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
    """The JSON part of a checkpoint; None where there is none.

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
