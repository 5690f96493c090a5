"""A finished run on disk, without pickle.

    RUN/model.safetensors        weights of the best epoch
    RUN/config.json              recipe, classes, thresholds, standardization, identity of the data; `task`: what is
                                 learned, where it is not tagging
    RUN/metrics.json             figures per split, history; written last: its presence = finished
    RUN/checkpoint.safetensors   the state after the last epoch or step: the same command goes on from there
    RUN/.lock                    held while a process trains here (train/runs/folder.py)
    RUN/tensorboard/             curves
    RUN/pictures/                what train.evaluate draws, a folder per split and dataset version

Every file is whole or not there. A config may come from a stranger: it is read typed, and no larger than its weights.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tutti.datasets.bounded import parse_json, read_bounded
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import write_file
from tutti.datasets.manifest import Manifest, file_sha256
from tutti.datasets.typed_json import object_of, read_as
from tutti.train.features import Standardization
from tutti.train.fitting.checkpoints import SCHEMA_VERSION, Progress, encode_tensors
from tutti.train.model import Listener
from tutti.train.recipe import recipe_from_json, recipe_to_json
from tutti.train.tagger import without_weights
from tutti.train.tagging_recipe import TaggingRecipe
from tutti.train.task import AnyTask
from tutti.train.tasks.listing import task_of

MODEL, CONFIG, METRICS = "model.safetensors", "config.json", "metrics.json"
TENSORBOARD, PICTURES = "tensorboard", "pictures"

CONFIG_BYTES = 1 << 24  # largest config.json that is read


@dataclass(frozen=True)
class DataIdentity:
    """Identity of the data that a run learned from."""

    dataset: str
    version: str
    root_digest: str
    instruments: tuple[str, ...]  # the classes of the run


@dataclass(frozen=True)
class SavedRun:
    """A finished run, loaded for inference."""

    task: AnyTask
    data: DataIdentity
    thresholds: Any  # of the task
    tagger: Any  # of the task

    @property
    def recipe(self) -> Any:
        """The recipe it was trained by."""
        return self.task.recipe


def data_identity(manifest: Manifest, instruments: tuple[str, ...]) -> DataIdentity:
    """Note what a run learns from."""
    dataset = str(manifest.content.get("dataset", ""))
    return DataIdentity(dataset, manifest.version, manifest.root_digest, instruments)


def identity_of(task: AnyTask, data: DataIdentity) -> dict[str, Any]:
    """Name what must be equal for a run to be the same run: recipe, contents of the data, classes."""
    return {
        **_task_of_config(task),
        "recipe": recipe_to_json(task.recipe),
        "root_digest": data.root_digest,
        "instruments": list(data.instruments),
    }


def _task_of_config(task: AnyTask) -> dict[str, str]:
    """Name the task where it is not tagging: runs of tagging are older than tasks."""
    return {} if task.recipe.task == TaggingRecipe.task else {"task": task.recipe.task}


def write_json(path: Path, content: Any) -> None:
    """Write indented, sorted JSON, atomically."""
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    write_file(path, text.encode() + b"\n")


def save_run(
    folder: Path,
    task: AnyTask,
    data: DataIdentity,
    statistics: Standardization | None,
    thresholds: Any,
    weights: Mapping[str, Tensor],
) -> None:
    """Write weights, then the config that vouches for them."""
    encoded = encode_tensors(weights)
    write_file(folder / MODEL, encoded)
    mean, std = task.statistics_names
    config = {
        "schema_version": SCHEMA_VERSION,
        **_task_of_config(task),
        "recipe": recipe_to_json(task.recipe),
        "instruments": list(data.instruments),
        "sample_rate": task.recipe.sample_rate,
        "data": {"dataset": data.dataset, "version": data.version, "root_digest": data.root_digest},
        "standardization": None if statistics is None else {mean: [*statistics.mean], std: [*statistics.std]},
        "thresholds": task.thresholds_to_json(thresholds),
        "model_sha256": hashlib.sha256(encoded).hexdigest(),
        "torch": torch.__version__,
    }
    write_json(folder / CONFIG, config)


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


def load_run(folder: Path, device: torch.device) -> SavedRun:
    """Load a finished run; needs nothing but its folder.

    Raises:
        UsageError: no finished run there.
        IntegrityError: it is damaged, or of another schema version.
    """
    with finished_config(folder) as written:
        config = _upgraded(written)
        if config["schema_version"] != SCHEMA_VERSION:
            found = config["schema_version"]
            raise IntegrityError(
                f"{folder / CONFIG}: schema version {found}, this code reads {SCHEMA_VERSION}; train again"
            )
        recipe = recipe_from_json(config["recipe"], config.get("task", TaggingRecipe.task))
        data, digest = _data_of(config), read_as(str, config["model_sha256"], "model_sha256")
        own = task_of(without_weights(recipe), data.instruments)  # the run holds its own
        thresholds = own.thresholds_from_json(config["thresholds"])
        statistics = None
        if config["standardization"] is not None:
            statistics = _statistics_of(config, *own.statistics_names)
        _check_weights(folder, digest)
        _check_network(own, (folder / MODEL).stat().st_size)
        tagger = own.build(statistics)
    _load_weights(tagger, folder, digest)
    return SavedRun(task_of(recipe, data.instruments), data, thresholds, tagger.to(device).eval())


def _upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Convert the config of a run on notes that is older than tasks to today's form."""
    if config.get("task") != "frames" or config["schema_version"] != 1:
        return config
    fresh = {"shuffle_clips": 4096, "train_share": 1.0, "unfreeze": ""}  # what did not exist
    recipe = {**fresh, **object_of(config["recipe"], "recipe")}
    compute = {"precision": recipe.pop("precision")}
    return config | {"schema_version": SCHEMA_VERSION, "task": "notes", "recipe": recipe | {"compute": compute}}


@contextlib.contextmanager
def finished_config(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the config of a finished run, to be taken apart within the block.

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


def _data_of(config: Mapping[str, Any]) -> DataIdentity:
    names = read_as(tuple[str, ...], config["instruments"], "instruments")
    if not names or len(set(names)) < len(names):
        raise ValueError("instruments: expected names, each once")
    facts = read_as(Mapping[str, str], config["data"], "data")
    return DataIdentity(facts["dataset"], facts["version"], facts["root_digest"], names)


def _statistics_of(config: Mapping[str, Any], mean: str, std: str) -> Standardization:
    found = read_as(Mapping[str, tuple[float, ...]], config["standardization"], "standardization")
    means, deviations = (tuple(map(float, found[name])) for name in (mean, std))
    if len(means) != len(deviations) or not all(value > 0 for value in deviations):
        raise ValueError("standardization: expected as many deviations above 0 as means")
    return Standardization(means, deviations)


def _check_network(task: AnyTask, num_bytes: int) -> None:
    """Refuse a config that describes a network far larger than its weights: it would take memory before they fail."""
    try:
        with torch.device("meta"):  # sizes only
            network: nn.Module = task.network()
    except (TypeError, RuntimeError, NotImplementedError):  # it computes some of its weights: of windows, of filters
        return
    described = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if described > 2 * num_bytes + (1 << 24):
        raise ValueError(f"describes a network of {described:,} bytes, its weights have {num_bytes:,}")


def _check_weights(folder: Path, sha256: str) -> None:
    """Compare the weights of a run with their digest.

    Raises:
        IntegrityError: they are not those with this digest.
    """
    if not (folder / MODEL).is_file() or file_sha256(folder / MODEL) != sha256:
        raise IntegrityError(f"{folder / MODEL}: not the weights that {CONFIG} names; train again")


def _load_weights(tagger: Listener, folder: Path, sha256: str) -> None:
    """Load the weights of a run into its network.

    Raises:
        IntegrityError: they are not those with this digest, or of another network.
    """
    _check_weights(folder, sha256)
    try:
        tagger.network.load_state_dict(safetensors.torch.load_file(folder / MODEL))
    except (RuntimeError, safetensors.SafetensorError) as error:
        words = " ".join(str(error).split())[:200]
        raise IntegrityError(
            f"{folder / MODEL}: weights do not fit the recipe's model ({words}); train again"
        ) from error
