"""Errors of runners and workers, as errors of ours: which exit code, and what to do.

What ends processes from outside, or for want of something, is a bad day of the machine: try later (75). A crash of a
worker's own is an internal error (1).
"""

import re
import signal
from pathlib import Path

from tutti.datasets import errors
from tutti.datasets.errors import Stopped, TryLaterError, TuttiError
from tutti.datasets.machine import MACHINE_REASONS, machine_reason, scarcity_in
from tutti.datasets.os_errors import storage_error

AGAIN = "run the build again, it goes on where it was"
OUR_ERROR = re.compile(r"(?:datasets\.errors\.)?(\w*Error): (.*?)(?: \[while running .*)?$", re.MULTILINE)
WHILE_RUNNING = re.compile(r" \[while running .*?\]$")
KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGXCPU, signal.SIGPIPE)
# Kinds of errors of Dask (by name, as Dask need not be installed) -> what happened.
DASK = {
    "FutureCancelledError": "the connection to the Dask scheduler is lost",
    "CancelledError": "the connection to the Dask scheduler is lost",
    "CommClosedError": "the connection to the Dask scheduler is lost",
    "KilledWorker": "several Dask workers died of the same task, most likely for want of memory",
}
LOG_BYTES = 64 << 10  # of its end


def unwrap_runner_error(error: BaseException) -> BaseException:
    """Find our own error in a runner's, by the last lines of the traceback text; else return it as it is."""
    if isinstance(error, (Stopped, KeyboardInterrupt)):
        return error
    if isinstance(error, TuttiError):
        return type(error)(WHILE_RUNNING.sub("", str(error)))
    for name, message in reversed(OUR_ERROR.findall(str(error))):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, TuttiError):
            return kind(message)
    if (what := DASK.get(type(error).__name__)) is not None:
        return TryLaterError(f"{what} ({error}); {AGAIN}")
    if isinstance(error, OSError) and "trying to connect to" in str(error):  # of Dask's client
        return TryLaterError(
            f"the Dask scheduler cannot be reached ({error}); start it or correct its address, {AGAIN}"
        )
    if (reason := machine_reason(error) or scarcity_in(str(error))) is not None and not isinstance(error, OSError):
        return TryLaterError(f"the runner stopped ({_last_line(error)}); {MACHINE_REASONS[reason]}, then {AGAIN}")
    if isinstance(error, OSError):
        return storage_error(error)
    return error


def dead_worker(code: int, log: Path) -> TuttiError:
    """Make the error for a worker process that ended with an exit code, or as `-signal` or `128 + signal`.

    Args:
        code: what the runner says.
        log: of the build; its end may tell why.
    """
    number = -code if code < 0 else max(0, code - 128)
    how = signal.Signals(number).name if number in set(signal.Signals) else f"exit code {code}"
    if number in KILLED:
        cause = ": free memory or use fewer workers, should the system have run out of it" if number == 9 else ""
        return TryLaterError(f"a worker process died ({how}){cause}; {AGAIN}")
    if (reason := scarcity(log)) is not None:
        return TryLaterError(f"a worker process died ({how}); {MACHINE_REASONS[reason]}, then {AGAIN}")
    return TuttiError(f"a worker process died ({how}); {log} says why; {AGAIN}")


def dead_thread(name: str, error: BaseException) -> TuttiError:
    """Make the error for a thread of the runner that an exception ended, raised if nothing moves after it."""
    what = f"the thread {name} of the runner died ({type(error).__name__}: {error})"
    if (reason := machine_reason(error)) is not None:
        return TryLaterError(f"{what}; {MACHINE_REASONS[reason]}, then {AGAIN}")
    return TuttiError(f"{what}; {AGAIN}")


def scarcity(log: Path) -> str | None:
    """Find one of `MACHINE_REASONS` in the end of a log; None: there is none."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - LOG_BYTES))
        return scarcity_in(stream.read().decode(errors="replace"))


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return WHILE_RUNNING.sub("", lines[-1]) or type(error).__name__
