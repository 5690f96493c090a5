"""Published weights: found in a folder, a run, or on the hub, and put into a model's backbone.

    weights="facebook/convnext-small-224"     the hub, name or name@revision; from its cache when offline
    weights="/data/convnext-small-224"        a folder with model.safetensors (a run of ours is one)
    weights=""                                none: random weights, nothing is fetched

Only safetensors files are read: they cannot hold code. TUTTI_OFFLINE=1 or HF_HUB_OFFLINE=1 forbid to ask the hub.
"""

import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import safetensors
import safetensors.torch
from torch import Tensor, nn

from datasets.addresses import without_secrets
from datasets.environment import switch
from datasets.errors import IntegrityError, UsageError

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_BACKBONE = "backbone."  # what a backbone's weights are called in a run of ours


def is_offline() -> bool:
    """Whether the user forbids requests to the hub."""
    return switch("TUTTI_OFFLINE") or switch(_HUB_OFFLINE)


_HUB_OFFLINE = "HF_HUB_OFFLINE"


def weights_folder(weights: str, files: tuple[str, ...] = (WEIGHTS,)) -> Path:
    """Find the folder of these weights; fetch it from the hub if need be.

    Args:
        weights: folder, hub name, or name@revision.
        files: what must be in it; nothing else is fetched.

    Raises:
        UsageError: they are not to be had; says how to get them.
    """
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?", weights):
            raise UsageError(f"weights {weights!r}: neither a folder nor a name of the hub, such as someone/model")
        folder = _from_hub(weights, files)
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"weights {weights}: {folder} lacks {' and '.join(missing)}; {_remedy(weights, files)}")
    return folder


def _from_hub(weights: str, files: tuple[str, ...]) -> Path:
    hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    name, _, revision = weights.partition("@")
    offline = is_offline()
    try:
        return Path(
            hub.snapshot_download(name, revision=revision or None, allow_patterns=[*files], local_files_only=offline)
        )
    except errors.LocalEntryNotFoundError as error:
        why = "offline is asked for" if offline else "the hub cannot be reached"
        raise UsageError(
            f"weights {weights}: {why}, and they are not in the hub's cache; {_remedy(weights, files)}"
        ) from error
    except (errors.HfHubHTTPError, errors.HTTPError) as error:
        reason = without_secrets(str(error).partition("\n")[0])
        raise UsageError(
            f"weights {weights}: the hub does not give them ({reason}); {_remedy(weights, files)}"
        ) from error


def _remedy(weights: str, files: tuple[str, ...]) -> str:
    name, _, revision = weights.partition("@")
    pinned = f" --revision {revision}" if revision else ""
    source = "NAME" if Path(weights).expanduser().is_dir() else name
    return (
        f"fetch them where there is a network with `hf download {source} {' '.join(files)}{pinned} --local-dir DIR` "
        "and set weights=DIR, or set weights= for random ones"
    )


def transformers() -> Any:
    """Import the transformers package, also beside a CPU build of torch.

    Its models import an installed torchaudio, whose 2.11 wheel is linked against CUDA and fails to load beside
    such a torch. Nothing of ours needs torchaudio's compiled part, so a stand-in takes its place there.
    """
    if "torchaudio" not in sys.modules and find_spec("torchaudio") is not None:
        try:
            import_module("torchaudio")
        except OSError:
            for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
                del sys.modules[name]  # what the failed import left behind
            extension: Any = ModuleType("torchaudio._extension", "Stand-in: the compiled part does not load here.")
            extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
            extension._check_cuda_version = lambda: None
            extension.fail_if_no_align = _unavailable
            sys.modules[extension.__name__] = extension
            import_module("torchaudio")
    return import_module("transformers")


def _unavailable(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    def fail(*arguments: Any, **options: Any) -> NoReturn:
        raise RuntimeError(f"torchaudio: {function.__name__} needs its compiled part, which does not load here")

    return fail


def from_pretrained(model_class: Any, weights: str, **options: Any) -> Any:
    """Make a model of transformers with its published weights.

    Args:
        model_class: one of transformers' model classes.
        weights: folder or hub name.
        options: replace fields of its config.json.

    Raises:
        UsageError: the weights are not to be had, or belong to another kind of model.
        IntegrityError: they are damaged.
    """
    folder = weights_folder(weights, (CONFIG, WEIGHTS))
    try:
        # Which weights were found is checked here: transformers draws missing ones at random, with a warning.
        model, report = model_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise IntegrityError(f"weights {weights}: {WEIGHTS} is damaged ({error}); fetch it again") from error
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"weights {weights}: not a {model_class.__name__} ({error})") from error
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lacking:
        raise UsageError(
            f"weights {weights}: not those of a {model_class.__name__}: {len(lacking)} weights are missing or of "
            f"another size, the first is {lacking[0]}"
        )
    return model


def load_backbone(backbone: nn.Module, weights: str) -> None:
    """Put weights into a backbone of plain torch: those of a run of ours, or a file in timm's names.

    What the file holds beyond them (its classifier, counters of batch norm) is left out. A first layer for
    three channels becomes one for a single channel by summing over them: the same result as repeating the image.

    Raises:
        UsageError: the weights are not to be had, or belong to another model.
        IntegrityError: they are damaged.
    """
    path = weights_folder(weights) / WEIGHTS
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise IntegrityError(f"{path}: damaged ({error}); fetch it again") from error
    if any(name.startswith(_BACKBONE) for name in tensors):
        tensors = {name.removeprefix(_BACKBONE): value for name, value in tensors.items() if name.startswith(_BACKBONE)}
    wanted = backbone.state_dict()
    chosen = {name: _for_channels(tensors[name], value) for name, value in wanted.items() if name in tensors}
    for name, value in wanted.items():
        if name.endswith("num_batches_tracked"):
            chosen.setdefault(name, value)
    _check_names(path, chosen, wanted)
    backbone.load_state_dict(chosen)


def _for_channels(tensor: Tensor, like: Tensor) -> Tensor:
    if tensor.dim() == 4 and tensor.shape[1] == 3 and like.shape[1:2] == (1,):
        return tensor.sum(dim=1, keepdim=True)
    return tensor


def _check_names(path: Path, chosen: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    misfits = [
        f"{name} {tuple(value.shape)}"
        for name, value in wanted.items()
        if name not in chosen or chosen[name].shape != value.shape
    ]
    if misfits:
        raise UsageError(
            f"{path}: weights of another model: {len(misfits)} of {len(wanted)} are missing or of another size, the "
            f"first is {misfits[0]}; choose weights of the same architecture and size"
        )
