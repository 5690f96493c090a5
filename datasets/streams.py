"""Streams of a command: open, shielded from what acts on a terminal, and redirected once their reader is gone."""

import contextlib
import os
import re
import select
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any, cast

from tutti.datasets.addresses import without_secrets
from tutti.datasets.printable import printable

_CLEAR_LINE = "\r\x1b[K"


class Shielded:
    """A text stream whose reader is a terminal perhaps: control characters are written out, passwords left out."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text with control characters and secrets replaced; line breaks and tabs stay."""
        self.stream.write(shield(text))
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write several texts, see `write`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Return the stream's own attribute."""
        return getattr(self.stream, name)


_ACTS = re.compile(r"[^\n\t]+")


def shield_stderr() -> None:
    """Shield what a process says that is no command: a worker, whose words go into the run's log."""
    if sys.stderr is not None and not isinstance(sys.stderr, Shielded):
        sys.stderr = cast("Any", Shielded(sys.stderr))


def shield(text: str) -> str:
    """Replace control characters and secrets in text; see `Shielded`."""
    if text.isascii() and text.isprintable() and ":/" not in text:
        return text
    return _ACTS.sub(lambda found: printable(without_secrets(found[0])), text)


def note(message: str) -> None:
    """Print a word to the user on stderr, if it can be printed."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"note: {message}", file=sys.stderr, flush=True)


def overwrite(line: str, stream: IO[str] | None = None) -> None:
    """Show a line of progress in place of the one before; for terminals."""
    target = sys.stderr if stream is None else stream
    if isinstance(target, Shielded):
        target = target.stream
    with contextlib.suppress(OSError, ValueError):
        print(f"{_CLEAR_LINE}{printable(without_secrets(line))[:200]}", end="", file=target, flush=True)


@contextlib.contextmanager
def shielded_streams() -> Iterator[None]:
    """Open closed standard streams, let them encode every name, and shield them, for the block."""
    open_all()
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


def open_all() -> None:
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


def is_unread(descriptor: int) -> bool:
    """Whether the other end of a pipe is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def read_by_nobody(descriptor: int) -> None:
    """Redirect a descriptor to /dev/null once its reader is gone, else Python complains once more at its end."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
