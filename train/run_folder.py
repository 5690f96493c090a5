"""The folder of a run before training: whether it is free for this run, and how to start over in it."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets.errors import UsageError
from train import saved


def check_folder(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make sure that the folder holds this run or none.

    Args:
        folder: of the run.
        identity: recipe and data, as `saved.save_checkpoint` keeps them.

    Raises:
        UsageError: it holds another; the message says what differs.
    """
    state = saved.checkpoint_state(folder)
    if state is None and (folder / saved.CONFIG).exists():
        raise UsageError(f"{folder}: holds a run without its checkpoint; choose another --output")
    if state is not None and state["identity"] != identity:
        differing = ", ".join(_differences(state["identity"], identity))
        raise UsageError(f"{folder}: holds a run with other {differing}; choose another --output")


def clear_folder(folder: Path) -> None:
    """Start over: remove what an earlier run of the same recipe and data wrote."""
    stale = [folder / name for name in (saved.METRICS, saved.CONFIG, saved.MODEL, saved.CHECKPOINT)]
    for path in [*stale, *(folder / saved.TENSORBOARD).glob("events.out.tfevents.*")]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / saved.PICTURES, ignore_errors=True)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name}"
