"""The files of an AST model: found in a folder or on the hub, checked, hashed, and loaded without trusting them.

Only `config.json`, `preprocessor_config.json` and `model.safetensors` are read: none of them can hold code.
"""

import re
from pathlib import Path

import torch

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import file_sha256
from tutti.train.features.fbank import SAMPLE_RATE, FbankConfig
from tutti.train.pretrained import Wanted, from_pretrained, read_config, transformers

DEFAULT_MODEL = "MIT/ast-finetuned-audioset-10-10-0.4593"
FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
MODEL_TYPE = "audio-spectrogram-transformer"


def wanted(model: str) -> Wanted:
    """Describe a model by its folder, hub name, or `name@revision`."""
    then = "pass --embedder DIR, or pass --embedder logmel, which needs no weights"
    return Wanted(model, FILES, ("preprocessor_config.json",), "embedder", DEFAULT_MODEL, then)


def read_front_end(folder: Path) -> FbankConfig:
    """Read the model's front end; AudioSet's values where the folder has no preprocessor_config.json.

    Raises:
        UsageError: the model is no AST, or its two files contradict each other.
        IntegrityError: a file is no JSON.
    """
    config = read_config(folder / "config.json")
    if config.get("model_type") != MODEL_TYPE:
        raise UsageError(
            f"{folder / 'config.json'}: model_type is {config.get('model_type')!r}, expected {MODEL_TYPE!r}; "
            f"{wanted(str(folder)).remedy}"
        )
    frames, mels = config.get("max_length", 1024), config.get("num_mel_bins", 128)
    path = folder / "preprocessor_config.json"
    values = read_config(path) if path.is_file() else {}
    for key, expected in (("sampling_rate", SAMPLE_RATE), ("max_length", frames), ("num_mel_bins", mels)):
        if values.get(key, expected) != expected:
            raise UsageError(
                f"{path}: {key} is {values[key]}, but the model hears {expected}; take both files from one model"
            )
    default = FbankConfig()
    return FbankConfig(
        num_mels=mels,
        max_frames=frames,
        normalize=values.get("do_normalize", default.normalize),
        mean=values.get("mean", default.mean),
        std=values.get("std", default.std),
    )


def weights_sha256(path: Path) -> str:
    """Hash the weights; a file of the hub's cache must have the sha256 that the hub published as its name.

    Raises:
        IntegrityError: they differ.
    """
    found = file_sha256(path)
    published = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", published) and published != found:
        raise IntegrityError(
            f"{path.resolve()}: sha256 is {found}, the hub published {published}; delete the file and run again"
        )
    return found


def load_weights(folder: Path) -> torch.nn.Module:
    """Load the model on CPU in float32 and evaluation mode: no dropout.

    Raises:
        IntegrityError: the weights are damaged, incomplete, or do not fit the configuration.
    """
    model_class = transformers().ASTModel
    try:
        model: torch.nn.Module = from_pretrained(
            model_class, wanted(str(folder)), dtype=torch.float32, attn_implementation="sdpa"
        )
    except UsageError as error:  # the folder is there, and says that it holds an AST
        raise IntegrityError(
            f"{error}; take config.json and model.safetensors from one model: {wanted(str(folder)).remedy}"
        ) from error
    return model.eval()
