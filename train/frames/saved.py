"""A frame-level run on disk: the files of train/saved.py, and `"task": "frames"` in config.json."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets.bounded import parse_json, read_bounded
from datasets.errors import IntegrityError
from datasets.files import write_file
from datasets.manifest import Manifest
from datasets.typed_json import object_of, read_as
from train.features import Standardization
from train.frames.recipe import FramesRecipe, recipe_from_json, recipe_to_json
from train.frames.rolls import UNPITCHED
from train.frames.scores import Thresholds
from train.frames.unet import FrameTagger
from train.run_config import data_of, digest_of_weights, statistics_of
from train.saved import (
    CONFIG,
    CONFIG_BYTES,
    MODEL,
    DataIdentity,
    check_weights,
    encode_tensors,
    finished_config,
    load_weights,
    write_json,
)

SCHEMA_VERSION = 1  # of the config of frame-level runs


@dataclass(frozen=True)
class FramesRun:
    """A finished run, ready to listen."""

    recipe: FramesRecipe
    data: DataIdentity  # its instruments are the run's classes
    thresholds: Thresholds
    tagger: FrameTagger


def build_tagger(recipe: FramesRecipe, instruments: tuple[str, ...], statistics: Standardization) -> FrameTagger:
    """A fresh network; the caller seeds torch."""
    pitched = torch.tensor([name not in UNPITCHED for name in instruments])
    return FrameTagger(recipe.model_config, pitched, *statistics.tensors(torch.device("cpu"))).eval()


def identity_of(recipe: FramesRecipe, manifest: Manifest, instruments: tuple[str, ...]) -> dict[str, Any]:
    """What must be equal for a run to be the same run: recipe, contents of the data, classes."""
    return {
        "task": FramesRecipe.task,
        "recipe": recipe_to_json(recipe),
        "root_digest": manifest.root_digest,
        "instruments": list(instruments),
    }


def save_frames_run(
    folder: Path,
    recipe: FramesRecipe,
    data: DataIdentity,
    statistics: Standardization,
    thresholds: Thresholds,
    weights: Mapping[str, Tensor],
) -> None:
    """Write weights, then the config that vouches for them."""
    encoded = encode_tensors(weights)
    write_file(folder / MODEL, encoded)
    by_instrument = dict(zip(data.instruments, thresholds.instrument, strict=True))
    config = {
        "schema_version": SCHEMA_VERSION,
        "task": FramesRecipe.task,
        "recipe": recipe_to_json(recipe),
        "instruments": list(data.instruments),
        "sample_rate": recipe.sample_rate,
        "data": {"dataset": data.dataset, "version": data.version, "root_digest": data.root_digest},
        "standardization": {"mean": [*statistics.mean], "std": [*statistics.std]},
        "thresholds": asdict(thresholds) | {"instrument": by_instrument},
        "model_sha256": hashlib.sha256(encoded).hexdigest(),
        "torch": torch.__version__,
    }
    write_json(folder / CONFIG, config)


def is_frames_run(folder: Path) -> bool:
    """Whether a folder holds a run of this kind; False for anything that cannot be read."""
    try:
        config = parse_json(read_bounded(folder / CONFIG, CONFIG_BYTES))
    except (OSError, ValueError, IntegrityError):
        return False
    return isinstance(config, dict) and config.get("task") == FramesRecipe.task


def load_frames_run(folder: Path, device: torch.device) -> FramesRun:
    """Load a finished run; needs nothing but its folder.

    Raises:
        UsageError: no finished run there.
        IntegrityError: it is damaged, or of another schema version.
    """
    with finished_config(folder) as config:
        if config["task"] != FramesRecipe.task or config["schema_version"] != SCHEMA_VERSION:
            raise IntegrityError(
                f"{folder / CONFIG}: not a frame-level run of schema version {SCHEMA_VERSION}; train again"
            )
        recipe = recipe_from_json(config["recipe"])
        data, digest = data_of(config), digest_of_weights(config)
        found = object_of(config["thresholds"], "thresholds")
        by_name = read_as(Mapping[str, float], found["instrument"], "thresholds.instrument")
        by_instrument = tuple(float(by_name[name]) for name in data.instruments)
        roll, pitch = (float(read_as(float, found[name], f"thresholds.{name}")) for name in ("roll", "pitch"))
        statistics = statistics_of(config, "mean", "std")
        check_weights(folder, digest)
        tagger = build_tagger(recipe, data.instruments, statistics)
    load_weights(tagger.network, folder, digest)
    return FramesRun(recipe, data, Thresholds(roll, pitch, by_instrument), tagger.to(device).eval())
