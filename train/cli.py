"""What the three commands share: flags, nearest names, errors to exit codes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from datasets.errors import StorageError, TuttiError, UsageError
from datasets.settings import nearest


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


def run_command(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None) -> int:
    """Run a command; its errors become one line on stderr and an exit code.

    Args:
        command: takes the arguments, answers the exit code.
        arguments: None: those of the process.
    """
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except TuttiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}; free space or permissions?", file=sys.stderr)
        return StorageError.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
