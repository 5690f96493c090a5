"""The door of every command: its streams, its arguments, its end.

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
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import IO, Any, NoReturn, cast

from datasets.addresses import without_secrets
from datasets.errors import Stopped, StorageError, TuttiError, UsageError
from datasets.machine import machine_reason
from datasets.os_errors import storage_error
from datasets.printable import printable
from datasets.processor_time import TimeUp, told_when_it_is_up

AGAIN = "then run it again"
_CLEAR_LINE = "\r\x1b[K"
_ended_with: list[int] = []  # exit codes of commands of this process that an error ended
_TRACEBACK = "Traceback (most recent call last)"


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse for whatever it cannot read."""
        raise UsageError(f"{message}; see {self.prog} --help")


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
        unread: what to say, with exit code 74, where nobody reads stdout; None: nothing, it is as good as done.
    """
    with _streams(), _terminable():
        try:
            with told_when_it_is_up():
                code = command(_checked(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()  # what fails here would be told by Python itself, in its own words
        except SystemExit as ended:  # argparse's --help
            return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BrokenPipeError as error:
            if not _unread(1):
                return told(error, then=then) if not _unread(2) else StorageError.exit_code
            _read_by_nobody(1)
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
    """Say what ended a command, in one line on stderr; its exit code."""
    if debugging():
        import traceback  # rarely needed

        traceback.print_exception(error)
    message, code = _verdict(_stop_in(error) or error, then)
    _tell(message, *(f"  {line}" for line in getattr(error, "listing", ())))
    if isinstance(error, OSError):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            return code
        _read_by_nobody(1)  # stdout itself is what cannot be written
    return code


def _stop_in(error: BaseException | None) -> Stopped | KeyboardInterrupt | None:
    """What asked a command to end, where a library made another error of it, as Python does in class bodies."""
    while error is not None and not isinstance(error, (Stopped, KeyboardInterrupt)):
        error = error.__cause__ or error.__context__
    return error


def debugging() -> bool:
    """Whether TUTTI_DEBUG asks for tracebacks."""
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
        return f"error: {error}; install what is missing with `make setup`, {then}", TuttiError.exit_code
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
    """` (datasets/record.py:12)`: the last of our own lines."""
    root, found = os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ""
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path.startswith(root) and "site-packages" not in path and path != __file__:
            found = f" ({os.path.relpath(path, root)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _tell(*lines: str) -> None:
    text = "\n".join(printable(without_secrets(line)) for line in lines)
    with contextlib.suppress(OSError, ValueError):  # nobody reads stderr either: the exit code is left
        print(text, file=sys.stderr, flush=True)
        return
    _read_by_nobody(2)


# --- arguments


def _checked(arguments: Sequence[str]) -> Sequence[str]:
    for argument in arguments:
        if "\0" in argument:
            raise UsageError(f"argument {argument!r}: holds a NUL character, which no file or name can; leave it out")
    return arguments


# --- streams


class Shielded:
    """A text stream whose reader is a terminal perhaps: control characters are written out, passwords left out."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Line breaks and tabs stay what they are."""
        self.stream.write(shield(text))
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Like `write`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's."""
        return getattr(self.stream, name)


_ACTS = re.compile(r"[^\n\t]+")


def shield_stderr() -> None:
    """Shield what a process says that is no command: a worker, whose words go into the run's log."""
    if sys.stderr is not None and not isinstance(sys.stderr, Shielded):
        sys.stderr = cast("Any", Shielded(sys.stderr))


def shield(text: str) -> str:
    """Text as a stream shows it; see `Shielded`."""
    if text.isascii() and text.isprintable() and ":/" not in text:
        return text
    return _ACTS.sub(lambda found: printable(without_secrets(found[0])), text)


def overwrite(line: str, stream: IO[str] | None = None) -> None:
    """Show a line of progress in place of the one before; for terminals."""
    target = sys.stderr if stream is None else stream
    if isinstance(target, Shielded):
        target = target.stream
    with contextlib.suppress(OSError, ValueError):
        print(f"{_CLEAR_LINE}{printable(without_secrets(line))[:200]}", end="", file=target, flush=True)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Streams that are open, encode every name, and are shielded."""
    _open_all()
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (
        stream if isinstance(stream, Shielded) else cast("Any", Shielded(stream)) for stream in before
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_all() -> None:
    """Open what the caller closed (`>&-`): else the next file opened would be taken for stdout or stderr."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _unread(descriptor: int) -> bool:
    """Whether the other end of a pipe is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _read_by_nobody(descriptor: int) -> None:
    """Lead a stream nowhere, else Python complains once more at its end."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


# --- signals


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises `Stopped`, so that what is half done is cleared away; another one ends the process at once."""
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
    """Let `python -m pipelines.X` end in one line, too, while it is still importing; called by our packages.

    Of other programs that import us, nothing is changed.
    """
    if sys.argv[:1] == ["-m"] and "pipelines.sandboxed" not in sys.orig_argv:  # so runpy calls it, while it searches
        _open_all()
        sys.excepthook = _on_import
        atexit.register(_end)


def _on_import(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    os._exit(told(error))  # nothing is begun yet, and Python's own code would be 1


def _end() -> None:
    """End a process whose command was ended by an error; the last thing that Python does of itself.

    An error may come anywhere, also between two steps of a library of C++, which then aborts the process as it clears
    up: another exit code, and a line that nobody understands.
    """
    if _ended_with:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(_ended_with[-1])
