"""What the config.json of a run says, which may come from a stranger: typed, and no larger than its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from datasets.typed_json import read_as
from train.features import Standardization
from train.front_end import input_size
from train.model import load_model
from train.recipe import TrainRecipe


@dataclass(frozen=True)
class DataIdentity:
    """What a run learned from."""

    dataset: str
    version: str
    root_digest: str
    instruments: tuple[str, ...]


def data_of(config: Mapping[str, Any]) -> DataIdentity:
    """What a config says of the data.

    Raises:
        KeyError, ValueError: it does not.
    """
    names = read_as(tuple[str, ...], config["instruments"], "instruments")
    if not names or len(set(names)) < len(names):
        raise ValueError("instruments: expected names, each once")
    facts = read_as(Mapping[str, str], config["data"], "data")
    return DataIdentity(facts["dataset"], facts["version"], facts["root_digest"], names)


def digest_of_weights(config: Mapping[str, Any]) -> str:
    """The digest that a config names.

    Raises:
        KeyError, ValueError: it does not.
    """
    digest: str = read_as(str, config["model_sha256"], "model_sha256")
    return digest


def statistics_of(config: Mapping[str, Any], mean: str, std: str) -> Standardization:
    """Mean and deviation in a config, under these names.

    Raises:
        KeyError, ValueError: there are none, or none that anything could be divided by.
    """
    found = read_as(Mapping[str, tuple[float, ...]], config["standardization"], "standardization")
    means, deviations = (tuple(map(float, found[name])) for name in (mean, std))
    if len(means) != len(deviations) or not all(value > 0 for value in deviations):
        raise ValueError("standardization: expected as many deviations above 0 as means")
    return Standardization(means, deviations)


def check_network(recipe: TrainRecipe, num_classes: int, num_bytes: int) -> None:
    """Refuse a config that describes a network far larger than its weights: it would take memory before they fail.

    Raises:
        ValueError: as said.
    """
    try:
        with torch.device("meta"):  # sizes only
            network = load_model(recipe.model).build(recipe.model_config, input_size(recipe), num_classes)
    except (TypeError, RuntimeError, NotImplementedError):  # it computes some of its weights: of windows, of filters
        return
    described = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if described > 2 * num_bytes + (1 << 24):
        raise ValueError(f"describes a network of {described:,} bytes, its weights have {num_bytes:,}")
