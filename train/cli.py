"""What the commands share: flags, nearest names."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from datasets.door import run_command
from datasets.errors import UsageError
from datasets.files import default_cache_folder
from datasets.settings import nearest

__all__ = ["Parser", "add_hot_copy", "hot_copy_folder", "run_command"]


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError; `-` and `_` in flags are the same; no abbreviations.

    `description`, a module docstring, is printed as it stands.
    """

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise UsageError(f"{message}; see python -m {self.prog} --help")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse all arguments.

        Raises:
            UsageError: an unknown flag (the message names the nearest one), or a wrong value.
        """
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        spelled = [_with_dashes(argument) for argument in arguments]
        names = [argument.partition("=")[0] for argument in spelled[: _end_of_flags(spelled)]]
        for name in names:
            if name.startswith("--") and name not in flags:
                raise UsageError(f"unknown flag {name}{nearest(name, flags)}; see python -m {self.prog} --help")
        return self.parse_args(spelled)


def _end_of_flags(arguments: Sequence[str]) -> int:
    return arguments.index("--") if "--" in arguments else len(arguments)


def _with_dashes(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def add_hot_copy(parser: argparse.ArgumentParser) -> None:
    """The flag that says where decoded splits are kept."""
    parser.add_argument(
        "--hot-copy", metavar="DIR|off", help="decoded splits for the next run (default: in the cache; off: none)"
    )


def hot_copy_folder(given: str | None) -> Path | None:
    """Where decoded splits are kept: what the flag says, or the cache where it can be written."""
    if given is not None:
        return None if given == "off" else Path(given)
    try:
        folder = default_cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except UsageError:  # training does without; who builds is told that this is no folder
        folder, writable = Path(os.environ.get("TUTTI_CACHE_DIR", "~")), False
    except OSError:
        writable = False
    if not writable:
        print(f"{folder}: cannot be written, so audio is decoded anew in every run (--hot-copy DIR)", file=sys.stderr)
    return folder if writable else None
