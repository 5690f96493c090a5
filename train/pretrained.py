"""Published weights: found in a folder, a run, or on the hub, and put into a model's backbone.

    weights="facebook/convnext-small-224"     the hub, name or name@revision; from its cache when offline
    weights="/data/convnext-small-224"        a folder with model.safetensors (a run of ours is one)
    weights=""                                none: random weights, nothing is fetched

Only safetensors files are read: they cannot hold code. TUTTI_OFFLINE=1 or HF_HUB_OFFLINE=1 forbid to ask the hub.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from tutti.datasets.addresses import without_secrets
from tutti.datasets.bounded import parse_json, read_bounded
from tutti.datasets.environment import switch
from tutti.datasets.errors import IntegrityError, TryLaterError, UsageError
from tutti.train.features.torchaudio_import import torchaudio

WEIGHTS, CONFIG = "model.safetensors", "config.json"
CONFIG_BYTES = 1 << 24  # most that is read of a configuration; that of AudioSet's AST has 26 kB

_BACKBONE = "backbone."  # what a backbone's weights are called in a run of ours


def is_offline() -> bool:
    """Whether the user forbids requests to the hub."""
    return switch("TUTTI_OFFLINE") or switch(_HUB_OFFLINE)


_HUB_OFFLINE = "HF_HUB_OFFLINE"


@dataclass(frozen=True)
class Wanted:
    """A model by the word that the user gave, and what to say where it is not to be had."""

    name: str  # folder, hub name, or name@revision
    files: tuple[str, ...] = (WEIGHTS,)  # nothing else is fetched
    optional: tuple[str, ...] = ()  # of the files
    what: str = "weights"  # takes the word: "weights", "embedder"
    instead: str = "NAME"  # hub name in the remedy where the word is a folder
    then: str = "set weights=DIR, or set weights= for random ones"  # once they were fetched by hand

    @property
    def remedy(self) -> str:
        """Words on getting the files by hand."""
        name, _, revision = (self.instead if Path(self.name).expanduser().is_dir() else self.name).partition("@")
        pinned = f" --revision {revision}" if revision else ""
        return (
            f"fetch the weights where there is a network with `hf download {name} {' '.join(self.files)}{pinned} "
            f"--local-dir DIR` and {self.then}"
        )


def weights_folder(wanted: Wanted, *, offline: bool | None = None) -> Path:
    """Find the folder that holds a model's files; those of the hub are fetched.

    Args:
        wanted: the model.
        offline: of the hub only its cache on this machine; None: as the user says.

    Raises:
        UsageError: they are not to be had; says how to get them.
        TryLaterError: the hub fails.
    """
    folder = Path(wanted.name).expanduser()
    if not folder.is_dir():
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?", wanted.name):
            known = replace(wanted, name=wanted.instead).remedy
            raise UsageError(f"{wanted.what} {wanted.name!r}: neither a folder nor a name of the hub; {known}")
        folder = _from_hub(wanted, is_offline() if offline is None else offline)
    missing = [name for name in wanted.files if name not in wanted.optional and not (folder / name).is_file()]
    if WEIGHTS in missing and (pickled := sorted(folder.glob("*.bin"))):
        raise UsageError(
            f"{pickled[0]}: weights in this format can run code when they are opened, so they are not; "
            f"put a {WEIGHTS} beside it: {wanted.remedy}"
        )
    if missing:
        raise UsageError(f"{folder}: lacks {' and '.join(missing)}; {wanted.remedy}")
    return folder


def _from_hub(wanted: Wanted, offline: bool) -> Path:
    hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    name, _, revision = wanted.name.partition("@")
    label = f"{wanted.what} {wanted.name}"
    try:
        return Path(
            hub.snapshot_download(
                name, revision=revision or None, allow_patterns=[*wanted.files], local_files_only=offline
            )
        )
    except errors.LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):  # it answered, but not with the file
            raise _hub_fails(label, wanted, error.__cause__) from error
        why = "offline is asked for" if offline else "the hub cannot be reached"
        raise UsageError(f"{label}: {why}, and its weights are not in the hub's cache; {wanted.remedy}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        known = replace(wanted, name=wanted.instead).remedy
        raise UsageError(f"{label}: the hub has no such model or revision, or not for us; {known}") from error
    except errors.HTTPError as error:
        raise _hub_fails(label, wanted, error) from error


def _hub_fails(label: str, wanted: Wanted, error: BaseException) -> TryLaterError:
    reason = without_secrets(str(error).partition("\n")[0])
    return TryLaterError(f"{label}: the hub fails ({reason}); run it again later, or {wanted.remedy}")


def transformers() -> Any:
    """Import the transformers package, also beside a CPU build of torch: its audio models import torchaudio."""
    torchaudio()
    return import_module("transformers")


def from_pretrained(model_class: Any, wanted: Wanted, *, offline: bool | None = None, **options: Any) -> Any:
    """Make a model of transformers with its published weights.

    Args:
        model_class: one of transformers' model classes.
        wanted: the model; its files are found by `weights_folder`.
        offline: of the hub only its cache.
        options: replace fields of its config.json, or are the class's own.

    Raises:
        UsageError: the weights are not to be had, or belong to another kind of model.
        IntegrityError: they are damaged.
        TryLaterError: the hub fails.
    """
    files = wanted.files if CONFIG in wanted.files else (CONFIG, *wanted.files)
    folder = weights_folder(replace(wanted, files=files), offline=offline)
    label = f"{wanted.what} {wanted.name}"
    misfit = import_module("huggingface_hub.errors").StrictDataclassError
    try:
        with safetensors.safe_open(folder / WEIGHTS, framework="pt") as weights:
            weights.keys()
        # Which weights were found is checked here: transformers draws missing ones at random, with a warning.
        with _quiet():
            model, report = model_class.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
            )
    except safetensors.SafetensorError as error:
        raise IntegrityError(f"{label}: {WEIGHTS} is damaged ({error}); fetch it again") from error
    except (OSError, RuntimeError, ValueError, TypeError, misfit) as error:
        raise UsageError(f"{label}: {CONFIG} and {WEIGHTS} are not of one {model_class.__name__} ({error})") from error
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lacking:
        raise UsageError(
            f"{label}: not those of a {model_class.__name__}: {len(lacking)} weights are missing or of another size, "
            f"the first is {lacking[0]}"
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars, and the report on weights that the model does without."""
    logging = transformers().utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


def load_backbone(backbone: nn.Module, weights: str) -> None:
    """Put weights into a backbone of plain torch: those of a run of ours, or a file in timm's names.

    What the file holds beyond them (its classifier, counters of batch norm) is left out. A first layer for
    three channels becomes one for a single channel by summing over them: the same result as repeating the image.

    Raises:
        UsageError: the weights are not to be had, or belong to another model.
        IntegrityError: they are damaged.
    """
    path = weights_folder(Wanted(weights)) / WEIGHTS
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


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model's folder.

    Raises:
        IntegrityError: it is none.
    """
    try:
        values = parse_json(read_bounded(path, CONFIG_BYTES))
    except ValueError as error:
        raise IntegrityError(f"{path}: is no JSON ({error}); fetch it again") from error
    if not isinstance(values, dict):
        raise IntegrityError(f"{path}: expected a JSON object; fetch it again")
    return values
