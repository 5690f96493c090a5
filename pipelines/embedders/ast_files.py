"""The files of an AST model: found in a folder or on the hub, checked, hashed, and loaded without trusting them.

Only `config.json`, `preprocessor_config.json` and `model.safetensors` are read: none of them can hold code.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from datasets.addresses import without_secrets
from datasets.errors import IntegrityError, TryLaterError, UsageError
from datasets.manifest import file_sha256
from pipelines.embedders import _torchaudio
from train.features.fbank import SAMPLE_RATE, FbankConfig

DEFAULT_MODEL = "MIT/ast-finetuned-audioset-10-10-0.4593"
FILES = ("config.json", "preprocessor_config.json", "model.safetensors")  # the second is optional
MODEL_TYPE = "audio-spectrogram-transformer"


def model_folder(model: str, local_only: bool) -> Path:
    """Find the folder of a model's files, fetched from the hub if need be.

    Args:
        model: folder, hub name, or `name@revision`.
        local_only: of the hub only its cache on this machine.

    Raises:
        UsageError: the files are not to be had; says how to get them.
        TryLaterError: the hub fails.
    """
    local = Path(model).expanduser()
    if local.is_dir():
        folder = local
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?", model):
        folder = _from_hub(model, local_only)
    else:
        raise UsageError(f"embedder {model!r}: is neither a folder nor a model of the hub; {_remedy(DEFAULT_MODEL)}")
    missing = [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]
    if "model.safetensors" in missing and (pickled := sorted(folder.glob("*.bin"))):
        raise UsageError(
            f"{pickled[0]}: weights in this format can run code when they are opened, so they are not; "
            f"put a model.safetensors beside it: {_remedy(model)}"
        )
    if missing:
        raise UsageError(f"{folder}: lacks {' and '.join(missing)}; {_remedy(model)}")
    return folder


def _remedy(model: str) -> str:
    name, _, revision = (DEFAULT_MODEL if Path(model).expanduser().is_dir() else model).partition("@")
    pinned = f" --revision {revision}" if revision else ""
    return (
        f"fetch the weights where there is a network with `hf download {name} {' '.join(FILES)}{pinned} "
        "--local-dir DIR` and pass --embedder DIR, or pass --embedder logmel, which needs no weights"
    )


def _from_hub(model: str, local_only: bool) -> Path:
    errors = _library("huggingface_hub.errors")
    name, _, revision = model.partition("@")
    try:
        return Path(
            _library("huggingface_hub").snapshot_download(
                name, revision=revision or None, allow_patterns=list(FILES), local_files_only=local_only
            )
        )
    except errors.LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):  # it answered, but not with the file
            raise _hub_fails(model, error.__cause__) from error
        why = "TUTTI_OFFLINE is set and" if local_only else "the hub cannot be reached and"
        raise UsageError(f"embedder {model}: {why} its weights are not in the hub's cache; {_remedy(model)}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UsageError(
            f"embedder {model}: the hub has no such model or revision, or not for us; {_remedy(DEFAULT_MODEL)}"
        ) from error
    except errors.HTTPError as error:
        raise _hub_fails(model, error) from error


def _hub_fails(model: str, error: BaseException) -> TryLaterError:
    reason = without_secrets(str(error).partition("\n")[0])
    return TryLaterError(f"embedder {model}: the hub fails ({reason}); run it again later, or {_remedy(model)}")


def read_front_end(folder: Path) -> FbankConfig:
    """Read the model's front end; AudioSet's values where the folder has no preprocessor_config.json.

    Raises:
        UsageError: the model is no AST, or its two files contradict each other.
        IntegrityError: a file is no JSON.
    """
    config = _json(folder / "config.json")
    if config.get("model_type") != MODEL_TYPE:
        raise UsageError(
            f"{folder / 'config.json'}: model_type is {config.get('model_type')!r}, expected {MODEL_TYPE!r}; "
            f"{_remedy(str(folder))}"
        )
    frames, mels = config.get("max_length", 1024), config.get("num_mel_bins", 128)
    path = folder / "preprocessor_config.json"
    values = _json(path) if path.is_file() else {}
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


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path}: is no JSON ({error}); fetch it again") from error
    if not isinstance(values, dict):
        raise IntegrityError(f"{path}: expected a JSON object; fetch it again")
    return values


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
    _torchaudio.make_importable()
    transformers, safetensors = _library("transformers"), _library("safetensors")
    path = folder / "model.safetensors"
    try:
        with safetensors.safe_open(path, framework="pt") as weights:
            weights.keys()
    except safetensors.SafetensorError as error:
        raise IntegrityError(f"{path}: is not a whole safetensors file ({error}); fetch it again") from error
    try:
        with _quiet(transformers):
            model, info = transformers.ASTModel.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except (RuntimeError, ValueError, TypeError, _library("huggingface_hub.errors").StrictDataclassError) as error:
        raise IntegrityError(f"{folder}: config.json and model.safetensors do not fit together ({error})") from error
    if wrong := sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])}):
        # transformers would go on with random numbers in their place.
        raise IntegrityError(
            f"{path}: lacks {len(wrong)} of the model's weights, the first is {wrong[0]}; "
            f"take config.json and model.safetensors from one model: {_remedy(str(folder))}"
        )
    return model.eval()  # type: ignore[no-any-return]


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silence progress bars, and the report on the classifier's weights, which an embedding does not use."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


def _library(name: str) -> Any:
    """Import late: transformers takes seconds, and only builds that use this embedder need it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"embedder ast: the package {error.name} is not installed; run `make setup`, or pass --embedder logmel"
        ) from error
