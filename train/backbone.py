"""The backbone of a finished run of ours, as the beginning of another: `--weights RUN`, for every model of models/.

    folder = run_folder(config.weights)         None: published weights, which a model reads itself
    load_run_backbone(network, folder, "convnext", config)

All weights are taken but the head's, whose classes may be others.
"""

import dataclasses
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import file_sha256
from tutti.train.pretrained import CONFIG, WEIGHTS, read_config

_HEAD = "head."
_METRICS, _CHECKPOINT = "metrics.json", "checkpoint.safetensors"  # of a run: written last, and after every epoch


def run_folder(weights: str) -> Path | None:
    """Find the run of ours that `weights` names; None: it names nothing, or weights of others.

    Raises:
        UsageError: the run is not finished.
        IntegrityError: its config is no JSON.
    """
    folder = Path(weights).expanduser()
    if not weights or not folder.is_dir():
        return None
    begun = (folder / _CHECKPOINT).is_file()
    if (folder / CONFIG).is_file() and {"recipe", "model_sha256"} <= read_config(folder / CONFIG).keys():
        begun = True
    elif not begun:
        return None
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS, _METRICS)):
        raise UsageError(f"weights {folder}: this run is not finished; finish it with the command that began it")
    return folder


def load_run_backbone(network: nn.Module, folder: Path, model: str, config: Any) -> None:
    """Put all weights of a run but the head's into a network of the same model.

    Args:
        network: whose head stays as it is.
        folder: of the run.
        model: name of the network's model.
        config: of the network, for words on what differs.

    Raises:
        UsageError: the run is of another model, or of another size.
        IntegrityError: its weights are damaged.
    """
    content = read_config(folder / CONFIG)
    recipe = content["recipe"] if isinstance(content["recipe"], dict) else {}
    if recipe.get("model") != model:
        found = f"of model {recipe['model']}" if "model" in recipe else "that learned notes"
        raise UsageError(f"weights {folder}: a run {found}, and this recipe trains {model}; choose a run of {model}")
    if file_sha256(folder / WEIGHTS) != content["model_sha256"]:
        raise IntegrityError(f"{folder / WEIGHTS}: not the weights that {CONFIG} names; train again")
    try:
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
    except (safetensors.SafetensorError, OSError) as error:
        raise IntegrityError(f"{folder / WEIGHTS}: damaged ({error}); train again") from error
    wanted = network.state_dict()
    backbone = {name for name in wanted if not name.startswith(_HEAD)}
    given = {name for name in tensors if not name.startswith(_HEAD)}
    misfits = sorted(backbone ^ given | {n for n in backbone & given if tensors[n].shape != wanted[n].shape})
    if misfits:
        raise UsageError(
            f"weights {folder}: a {model} of another size: {len(misfits)} of {len(backbone)} weights differ, the first "
            f"is {misfits[0]}{_differences(recipe.get('model_config'), config)}"
        )
    network.load_state_dict({name: tensors[name] if name in backbone else value for name, value in wanted.items()})


def _differences(theirs: Any, config: Any) -> str:
    """Explain which sizes of the config to set so that it fits."""
    own = dataclasses.asdict(config)
    other = theirs if isinstance(theirs, dict) else {}
    changed = [
        f"model_config.{name}={str(other[name])[:60]}"
        for name, value in own.items()
        if name in other and other[name] != value and name != "weights" and "dropout" not in name
    ]
    return f"; set {' '.join(changed)}, as there" if changed else "; train on as many classes, or another run"
