"""The folder of a run: what it holds already, who trains in it now, and how to begin anew in it.

    with opened(folder, identity, restart=False) as done:
        if done is not None: ...      # this very run, finished: there is nothing to do

The same command goes on where it was stopped and leaves a finished run alone. `.lock` is held while a run trains and
names its process; it stays, as a sign that the folder is a run's. Files that no run wrote are never removed or
replaced.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.datasets.bounded import read_bounded
from tutti.datasets.errors import IntegrityError, StorageError, TryLaterError, UsageError
from tutti.datasets.locks import UNLOCKABLE, LockedError, lock
from tutti.datasets.manifest import file_sha256
from tutti.train.fitting import checkpoints, distributed
from tutti.train.runs import saved

LOCK = ".lock"
EVENTS = {"filename_suffix": ".tutti"}  # of our files of curves: TensorBoard reads them, and others' are told apart
FILES = (saved.METRICS, saved.CONFIG, saved.MODEL, checkpoints.CHECKPOINT)  # in the order in which they are removed
PICTURE_NAMES = ("instruments.png", "roc.png", "f1_per_clip.png", "confusion.png")  # what train.evaluate draws

_HOLDER = re.compile(rb"(pid \d+ on \S*\n)?")  # the whole contents of a lock file; empty: killed while it was made
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Finished:
    """A run that is complete, as its files say."""

    config: Mapping[str, Any]
    metrics: Mapping[str, Any]


@contextlib.contextmanager
def opened(folder: Path, identity: Mapping[str, Any], *, restart: bool) -> Iterator[Finished | None]:
    """Hold a folder for a run; of several processes the first one holds it for all.

    Args:
        folder: of the run; made where it is missing.
        identity: recipe and data, as `saved.identity_of` names them.
        restart: whatever a run left there may go; nothing goes before `clear_folder`.

    Yields:
        The run where it is finished already, and not to begin anew; the folder is not held then. None: train.

    Raises:
        UsageError: the folder holds another run, or files that no run wrote.
        IntegrityError: its checkpoint is damaged.
        TryLaterError: another process trains in it.
    """
    with contextlib.ExitStack() as stack:

        def look() -> Finished | None:
            if not restart and (done := finished_run(folder, identity)):
                return done
            check_folder(folder, identity, restart=restart)
            stack.enter_context(held(folder))
            if not restart:  # somebody may have trained meanwhile
                check_folder(folder, identity, restart=False)
                return finished_run(folder, identity)
            return None

        yield distributed.from_first(look)


def finished_run(folder: Path, identity: Mapping[str, Any]) -> Finished | None:
    """Find the run of this identity, where it is finished and its files are whole.

    One that is damaged is none: its checkpoint finishes it anew.
    """
    try:
        config, metrics = (json.loads(_bounded(folder / name)) for name in (saved.CONFIG, saved.METRICS))
        found = {"recipe": config["recipe"], "root_digest": config["data"]["root_digest"]}
        found |= {name: config[name] for name in ("task", "instruments") if name in config}
        same = found == _plain(identity) and {"splits", "best_epoch", "history"} <= metrics.keys()
        if same and file_sha256(folder / saved.MODEL) == config["model_sha256"]:
            return Finished(config, metrics)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, IntegrityError):
        return None
    return None


def _bounded(path: Path) -> bytes:
    """Read a file of JSON in a folder of unknown origin: a regular one, and no larger than a run writes."""
    return read_bounded(path, saved.CONFIG_BYTES)


def check_folder(folder: Path, identity: Mapping[str, Any], *, restart: bool) -> None:
    """Make sure that the folder holds this run or none, or with `restart` any run or none.

    Raises:
        UsageError: it holds another, and the message says what differs; or a file of a run's name that no run wrote.
        IntegrityError: the checkpoint is damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; choose another --output")
    of_a_run = _is_of_a_run(folder)
    state = None if restart and of_a_run else checkpoints.checkpoint_state(folder)
    if state is None and not of_a_run and (names := _of_runs(folder)):
        raise UsageError(f"{folder}: {names[0]} is there, and no run wrote it; choose another --output")
    if restart:
        return
    if state is None and (folder / saved.CONFIG).exists():
        raise UsageError(f"{folder}: holds a run without its checkpoint; choose another --output, or --restart")
    if state is not None and state["identity"] != _plain(identity):
        differing = ", ".join(_differences(state["identity"], _plain(identity)))
        raise UsageError(
            f"{folder}: holds a run with other {differing}; choose another --output, "
            "or --restart, which removes that run"
        )


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Convert to what is read back: a tuple is a list."""
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _of_runs(folder: Path) -> list[str]:
    """List what is there under the name of a file or folder that runs write."""
    return [name for name in (*FILES, saved.TENSORBOARD, saved.PICTURES) if os.path.lexists(folder / name)]


def _is_of_a_run(folder: Path) -> bool:
    """Whether a run began here: its lock file or its config says so."""
    path = folder / LOCK
    if path.is_file() and not path.is_symlink() and _HOLDER.fullmatch(_head(path)):
        return True
    try:
        config = json.loads(_bounded(folder / saved.CONFIG))
        return bool({"recipe", "model_sha256", "thresholds"} <= config.keys())
    except (OSError, ValueError, AttributeError, RecursionError, IntegrityError):
        return False


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4096)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder against a second process; the lock ends with its holder, however that ends.

    A folder in which nothing was written is removed again.

    Raises:
        TryLaterError: another process holds it; the message names it.
        UsageError: `.lock` is no lock file.
        StorageError: the folder cannot be written.
    """
    made = not folder.exists()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(folder / LOCK)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            descriptor = stack.enter_context(lock(folder / LOCK, wait_s=0, unless=UNLOCKABLE, flags=flags))
        except LockedError as error:
            told = f"{folder}: {error.holder} trains here; try later, or choose another --output"
            raise TryLaterError(told) from error
        except OSError as error:
            raise StorageError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error
        if descriptor < 0:
            print(f"note: {folder}: its disk has no locks; see to it that nobody else trains here", file=sys.stderr)
        try:
            for name in FILES:  # what was being written when a run was killed
                for leftover in folder.glob(f".{name}.*.tmp"):
                    leftover.unlink(missing_ok=True)
            yield
        finally:
            with contextlib.suppress(OSError):  # whoever waits for the lock looks whether its file is still there
                if not _of_runs(folder):
                    (folder / LOCK).unlink()
                    if made:
                        folder.rmdir()


def _refuse_foreign(path: Path) -> None:
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file() or not _HOLDER.fullmatch(_head(path))):
        raise UsageError(f"{path}: is no lock file of a run; choose another --output")


def clear_folder(folder: Path) -> None:
    """Remove what runs wrote there, and nothing else."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for events in (folder / saved.TENSORBOARD).glob(f"events.out.tfevents.*{EVENTS['filename_suffix']}"):
        events.unlink(missing_ok=True)
    for pictures in (folder / saved.PICTURES).glob("*"):
        for name in PICTURE_NAMES:
            (pictures / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it
            pictures.rmdir()
    for name in (saved.TENSORBOARD, saved.PICTURES):
        with contextlib.suppress(OSError):
            (folder / name).rmdir()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} ({_shown(before)} there, {_shown(after)} here)"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
