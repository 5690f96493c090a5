"""Run a command: its arguments, its end, its signals; `streams.py` prepares its streams.

    def main(argv: Sequence[str] | None = None) -> int:
        return run_command(_command, argv)

However a command ends, it says so in one line on stderr and by an exit code: 0 done, 1 internal error, 2 usage,
3 integrity, 4 drift, 5 yield, 74 disk, memory or network, 75 try later, 130 Ctrl-C, 143 SIGTERM. Nothing that comes
from data, files or servers acts on the terminal, and no address is shown with its password. TUTTI_DEBUG=1 shows
tracebacks.
"""

import argparse
import atexit
import contextlib
import errno
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, NoReturn, cast

from tutti import IN_CHECKOUT, as_typed
from tutti.datasets import streams
from tutti.datasets.addresses import without_secrets
from tutti.datasets.errors import Stopped, StorageError, TuttiError, UsageError
from tutti.datasets.machine import machine_reason
from tutti.datasets.os_errors import storage_error
from tutti.datasets.printable import printable
from tutti.datasets.processor_time import TimeUp, told_when_it_is_up
from tutti.datasets.settings import nearest
from tutti.datasets.streams import is_unread, open_all, read_by_nobody, shielded_streams

VERSION = "0.1.0"  # what pyproject.toml says
AGAIN = "then run it again"
_ended_with: list[int] = []  # exit codes of commands of this process that an error ended
_TRACEBACK = "Traceback (most recent call last)"
_THIS = (__file__, streams.__file__)  # no place where an error is looked for


class Parser(argparse.ArgumentParser):
    """Reads the arguments of a command or a sub-command; raises UsageError, of one line, where they cannot be read.

    `-` and `_` in the names of flags are the same, and none is abbreviated. Of an unknown flag, command or choice the
    nearest one is named. `description`, often a module docstring, is printed as it stands.

    Args:
        prog: what is typed before the arguments: `python -m pipelines.verify`.
        passes_on: unknown flags are for somebody else: `parse_known_args` answers them.
    """

    def __init__(
        self, prog: str, description: str | None = None, epilog: str | None = None, *, passes_on: bool = False
    ) -> None:
        super().__init__(
            prog=as_typed(prog),
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._passes_on = passes_on
        self.add_argument("--version", action="version", version=f"tutti {VERSION}", help="print it and stop")

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Read all arguments; `parse_args` and sub-commands come by here.

        Raises:
            UsageError: an unknown flag, a missing argument, or a wrong value.
        """
        given = list(sys.argv[1:] if args is None else args)
        end = given.index("--") if "--" in given else len(given)
        given[:end] = [self._with_dashes(argument) for argument in given[:end]]
        if self._passes_on:
            return super().parse_known_args(given, namespace)
        self._refuse_unknown(given[:end])
        found, rest = super().parse_known_args(given, namespace)
        if rest:
            first = next((argument for argument in rest if argument != "--"), "--")
            self._refuse_unknown([first])
            self.error(f"unexpected argument {first!r}")
        return found, rest

    def flags(self) -> list[str]:
        """List the names of all flags, without those of sub-commands."""
        return [flag for action in self._actions for flag in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print before it exits."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print --help and --version; argparse itself would not say that it cannot."""
        try:
            print(as_typed(message), end="", file=file or sys.stdout, flush=True)
        except BrokenPipeError:
            read_by_nobody(1)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            said = f"invalid choice: {str(value)!r}{nearest(str(value), names)}; choose from {', '.join(names)}"
            raise argparse.ArgumentError(action, said)

    def _commands(self) -> dict[str, "Parser"]:
        found = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return cast("dict[str, Parser]", next(found, {}))

    def _with_dashes(self, argument: str) -> str:
        name, equals, value = argument.partition("=")
        dashed = name.replace("_", "-")
        return dashed + equals + value if name.startswith("--") and dashed in self.flags() else argument

    def _refuse_unknown(self, arguments: Sequence[str]) -> None:
        commands = self._commands()
        if commands:  # what comes after a command is for it to read
            arguments = list(itertools.takewhile(lambda argument: argument.startswith("-"), arguments))
        for name in (argument.partition("=")[0] for argument in arguments if _is_flag(argument)):
            if name not in self.flags():
                raise UsageError(f"{self._unknown(name, commands)}; see {self.prog} --help")

    def _unknown(self, name: str, commands: "dict[str, Parser]") -> str:
        dashed = name.replace("_", "-")
        later = [flag for command in commands.values() for flag in command.flags()]
        if dashed in later:
            return f"{name} stands before the command; write it after"
        return f"unknown flag {name}{nearest(dashed, [flag for flag in (*self.flags(), *later) if flag[:2] == '--'])}"


_NEGATIVE_NUMBER = re.compile(r"-\d+|-\d*\.\d+")


def _is_flag(argument: str) -> bool:
    """Whether argparse takes it for a flag, known or not."""
    is_value = " " in argument or _NEGATIVE_NUMBER.fullmatch(argument)
    return argument.startswith("-") and argument != "-" and not is_value


def run_command(
    command: Callable[[Sequence[str]], int],
    arguments: Sequence[str] | None,
    *,
    then: str = AGAIN,
    unread: str | None = None,
) -> int:
    """Run a command; whatever ends it becomes one line on stderr and an exit code.

    Args:
        command: takes the arguments, answers the exit code.
        arguments: None: those of the process.
        then: what to do after the remedy of an error of the system.
        unread: what to say, with exit code 74, where stdout has no reader; None: nothing, it is as good as done.
    """
    with shielded_streams(), _terminable():
        try:
            with told_when_it_is_up():
                code = command(_checked(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()  # what fails here would be told by Python itself, in its own words
        except SystemExit as ended:  # --help, --version
            return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BrokenPipeError as error:
            if not is_unread(1):
                return told(error, then=then) if not is_unread(2) else StorageError.exit_code
            read_by_nobody(1)
            if unread is None:
                return 0
            _tell(f"error: {unread}")
            return StorageError.exit_code
        except (Exception, KeyboardInterrupt, Stopped) as error:
            code = told(error, then=then)
            _ended_with.append(code)
            return code
        return code


def told(error: BaseException, *, then: str = AGAIN) -> int:
    """Print what ended a command, in one line on stderr; return its exit code."""
    if debugging():
        import traceback  # rarely needed

        traceback.print_exception(error)
    message, code = _verdict(_stop_in(error) or error, then)
    _tell(message, *(f"  {line}" for line in getattr(error, "listing", ())))
    if isinstance(error, OSError):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            return code
        read_by_nobody(1)  # stdout itself is what cannot be written
    return code


def _stop_in(error: BaseException | None) -> Stopped | KeyboardInterrupt | None:
    """Find the signal or Ctrl-C among an error's causes: libraries and class bodies wrap it in other errors."""
    seen: list[BaseException] = []
    while error is not None and not isinstance(error, (Stopped, KeyboardInterrupt)):
        seen.append(error)
        error = error.__cause__ or error.__context__
        if any(error is one for one in seen):  # an error may be its own cause: the search would have no end
            return None
    return error


def debugging() -> bool:
    """Whether TUTTI_DEBUG requests tracebacks."""
    return os.environ.get("TUTTI_DEBUG", "0") not in ("", "0")


def _verdict(error: BaseException, then: str) -> tuple[str, int]:
    if isinstance(error, TuttiError):
        return f"error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, TimeUp):
        return f"error: {error}", error.exit_code
    if isinstance(error, Stopped):
        return f"stopped by {error}", error.exit_code
    if machine_reason(error) == "out_of_memory":
        return f"error: not enough memory; free memory or raise `ulimit -v`, {then}", StorageError.exit_code
    if isinstance(error, OSError):
        return f"error: {storage_error(error, then=then)}", StorageError.exit_code
    if isinstance(error, UnicodeEncodeError):
        text = error.object[error.start : error.end]
        if "surrogates" in error.reason:
            remedy = "a name holds bytes that are not UTF-8; rename it"
        else:
            remedy = f"names are written as {error.encoding} here; set LC_ALL=C.UTF-8"
        return f"error: {text!r}: {remedy}, {then}", UsageError.exit_code
    if isinstance(error, ImportError) and os.strerror(errno.EMFILE) in str(error):
        return f"error: {storage_error(OSError(errno.EMFILE, str(error)), then=then)}", StorageError.exit_code
    if isinstance(error, ImportError):
        return (
            f"error: {error}; install what is missing{' with `make setup`' if IN_CHECKOUT else ''}, {then}",
            TuttiError.exit_code,
        )
    said = str(error)
    if _TRACEBACK in said:  # of a worker, which hands on its own as text
        said = next((line for line in reversed(said.splitlines()) if line and not line[0].isspace()), "")
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return (
        f"internal error: {what[:500]}{_where(error.__traceback__)}; please report it with the traceback that "
        "TUTTI_DEBUG=1 shows",
        TuttiError.exit_code,
    )


def _where(trace: TracebackType | None) -> str:
    """Format the last of our own lines in a traceback: ` (datasets/record.py:12)`; empty where there is none."""
    root, found = os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ""
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path.startswith(root) and "site-packages" not in path[len(root) :] and path not in _THIS:
            found = f" ({os.path.relpath(path, root)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _tell(*lines: str) -> None:
    text = "\n".join(as_typed(printable(without_secrets(line))) for line in lines)
    with contextlib.suppress(OSError, ValueError):  # stderr has no reader either: the exit code is left
        print(text, file=sys.stderr, flush=True)
        return
    read_by_nobody(2)


# --- arguments


def _checked(arguments: Sequence[str]) -> Sequence[str]:
    for argument in arguments:
        if "\0" in argument:
            raise UsageError(f"argument {argument!r}: holds a NUL character, which no file or name can; leave it out")
    return arguments


# --- signals


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Raise `Stopped` on SIGTERM, so that unfinished work is cleared away; a second one ends the process at once."""
    process = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # a forked child took this over; it is ended as ever
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    try:
        before = signal.signal(signal.SIGTERM, stop) if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL else None
    except ValueError:  # not the main thread: signals are somebody else's
        before = None
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGTERM, before)


# --- imports: they take seconds, and come before any command


def guard_imports() -> None:
    """Report errors in one line also while `python -m pipelines.X` is importing.

    `tutti` calls it where runpy is searching (`sys.argv` is `["-m"]`): of other programs that import us, nothing is
    changed.
    """
    if "tutti.pipelines.decoding.child" not in sys.orig_argv:
        open_all()
        sys.excepthook = _on_import
        atexit.register(_end)


def _on_import(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    os._exit(told(error))  # nothing is begun yet, and Python's own code would be 1


def _end() -> None:
    """End a process whose command ended with an error, as the last act of Python itself.

    An error may come anywhere, also between two steps of a library of C++, which then aborts the process as it clears
    up: another exit code, and a line that explains nothing.
    """
    if _ended_with:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(_ended_with[-1])
