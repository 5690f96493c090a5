"""Environment variables: switches, numbers and folders, and errors about values that are none."""

import os
from pathlib import Path

from tutti.datasets.errors import UsageError

_ON, _OFF = ("1", "true", "on", "yes"), ("", "0", "false", "off", "no")


def switch(name: str) -> bool:
    """Whether a variable is switched on; unset is off.

    Raises:
        UsageError: it says neither: a switch that forbids something should not be guessed.
    """
    value = os.environ.get(name, "").strip().lower()
    if value not in _ON + _OFF:
        raise UsageError(f"{name}={os.environ[name]!r}: expected 1 or 0")
    return value in _ON


def whole_number(name: str, default: int) -> int:
    """Read a count from an environment variable.

    Raises:
        UsageError: it is no whole number from 0 on.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    if not (value.isascii() and value.isdecimal()):
        raise UsageError(f"{name}={value!r}: expected a whole number")
    return int(value)


def named_folder(name: str) -> Path | None:
    """Read a folder, which may not exist yet, from an environment variable; None where it is not set.

    Raises:
        UsageError: it cannot be a folder.
    """
    value = os.environ.get(name)
    if not value:
        return None
    try:
        folder = Path(value).expanduser()
        nearest = next((place for place in (folder, *folder.parents) if place.exists()), Path())
        is_one = nearest.is_dir()
    except (OSError, RuntimeError):  # a name too long, links in a circle, ~somebody who is not here
        is_one = False
    if not is_one:
        raise UsageError(f"{name}={value!r}: is no folder and cannot become one; name another, or unset it")
    return folder


def default_cache_folder() -> Path:
    """Choose the cache folder: `$TUTTI_CACHE_DIR`, else the XDG cache folder.

    Raises:
        UsageError: the variable names no folder, or it is not set and there is no home.
    """
    if (folder := named_folder("TUTTI_CACHE_DIR")) is not None:
        return folder
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutti"
    except RuntimeError:
        raise UsageError("this user has no home folder; set TUTTI_CACHE_DIR to a folder for the cache") from None
