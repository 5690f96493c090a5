"""Run a pipeline on any Beam runner, and stay in charge while it runs.

Beam's local runners swallow Ctrl-C, hang for ever when a worker dies, and wrap every error. So
the pipeline runs in a daemon thread: this one polls progress, answers signals, notices dead
workers, and gives back our own errors.
"""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from datasets import errors
from datasets.errors import TuttiError, UsageError
from datasets.os_errors import storage_error
from datasets.settings import nearest
from pipelines.arguments import flag_names

POLL_S = 0.1
OUR_ERROR = re.compile(r"(?:datasets\.errors\.)?(\w*Error): (.*?)(?: \[while running .*)?$", re.MULTILINE)
WHILE_RUNNING = re.compile(r" \[while running .*?\]$")


class Interrupted(BaseException):
    """A signal asked the build to stop; `exit_code` is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def pipeline_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam options from the flags that are not ours, the runner pinned.

    DirectRunner switches between implementations at run time; FnApiRunner is the one that all
    digests were checked on.

    Raises:
        UsageError: Beam does not know a flag either, or not its value.
    """
    normalized = [_underscored(flag) for flag in flags]
    if any("dask" in flag.lower() for flag in normalized):
        _import_dask_options()
    _refuse_unknown(normalized)
    try:
        options = PipelineOptions(normalized)
        chosen = options.get_all_options().get("runner")
    except (SystemExit, ValueError) as error:  # argparse has explained it on stderr
        raise UsageError(f"a Beam flag has a wrong value: {' '.join(flags)}") from error
    if chosen is None or chosen.lower() in ("direct", "directrunner"):  # Beam ignores case and "Runner"
        options.view_as(StandardOptions).runner = "FnApiRunner"
    return options


def _underscored(flag: str) -> str:
    name, equals, value = flag.partition("=")
    return (name.replace("-", "_").replace("__", "--", 1) if name.startswith("--") else name) + equals + value


def _import_dask_options() -> None:
    try:
        import apache_beam.runners.dask.dask_runner  # noqa: F401  (registers its options)
    except ImportError as error:
        raise UsageError(f"the Dask runner is not installed ({error}); pip install 'apache-beam[dask]'") from error


def _refuse_unknown(flags: Sequence[str]) -> None:
    parser = beam.options.pipeline_options._BeamArgumentParser(allow_abbrev=False, add_help=False)
    for options in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in options.__dict__:
            options._add_argparse_args(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    for flag in flags:
        name = flag.partition("=")[0]
        if name.startswith("-") and name not in known:
            raise UsageError(f"unknown flag {name}{nearest(name, [*flag_names(), *known])}; see --help")
        if not name.startswith("-") and not _follows_flag(flags, flag):
            raise UsageError(f"unexpected argument {flag!r}; see --help")


def _follows_flag(flags: Sequence[str], value: str) -> bool:
    position = list(flags).index(value)
    return position > 0 and flags[position - 1].startswith("--") and "=" not in flags[position - 1]


def run(
    construct: Callable[[beam.Pipeline], object],
    options: PipelineOptions,
    log: Path,
    on_poll: Callable[[IO[str]], None],
) -> dict[str, float]:
    """Build and run a pipeline to its end.

    Args:
        construct: applies the stages to an empty pipeline.
        options: of the runner.
        log: takes what Beam, its workers and C libraries print on stderr.
        on_poll: called about ten times a second while it runs, with the real stderr.

    Returns:
        Seconds by phase: "construct" and "run".

    Raises:
        TuttiError: one that a stage raised, whatever the runner made of it.
        Interrupted: by SIGINT, SIGTERM or SIGHUP.
    """
    seconds: dict[str, float] = {}
    failure: list[BaseException] = []

    def work() -> None:
        try:
            start = time.perf_counter()
            pipeline = beam.Pipeline(options=options)
            construct(pipeline)
            seconds["construct"] = time.perf_counter() - start
            pipeline.run().wait_until_finish()
            seconds["run"] = time.perf_counter() - start - seconds["construct"]
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="beam", daemon=True)
    with _dead_workers() as dead, _stderr_to(log) as terminal:
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_S)
                on_poll(terminal)
                if dead:
                    raise TuttiError(f"a worker process died: {dead[0]}; run the build again, it goes on where it was")
        except BaseException:
            _kill_children()
            raise
    if failure:
        raise translate(failure[0]) from failure[0]
    return seconds


@contextmanager
def _stderr_to(log: Path) -> Iterator[IO[str]]:
    """Send file descriptor 2 to a log within the block; workers inherit it. Yields the real one."""
    sys.stderr.flush()
    saved = os.dup(2)
    with log.open("w") as target, os.fdopen(os.dup(saved), "w") as terminal:
        os.dup2(target.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def _dead_workers() -> Iterator[list[str]]:
    """Collects what Beam's threads say of workers that died; without it the driver waits for ever."""
    dead: list[str] = []
    previous = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if "Worker subprocess exited" in str(args.exc_value):
            dead.append(str(args.exc_value))
        else:
            previous(args)

    threading.excepthook = hook
    try:
        yield dead
    finally:
        threading.excepthook = previous


def _kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals raise `Interrupted` in the main thread within the block."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def translate(error: BaseException) -> BaseException:
    """Our own error out of a runner's wrapping, told by the last lines of the traceback text."""
    if isinstance(error, TuttiError):
        return type(error)(WHILE_RUNNING.sub("", str(error)))
    for name, message in reversed(OUR_ERROR.findall(str(error))):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, TuttiError):
            return kind(message)
    if isinstance(error, OSError):
        return storage_error(error)
    return error


def leave(exit_code: int) -> None:
    """End the process at once: Beam's daemon threads would block a normal exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
