"""Run a pipeline on any Beam runner, and stay in charge while it runs.

Beam's local runners swallow Ctrl-C, hang for ever when a worker dies, and wrap every error. So
the pipeline runs in a daemon thread: this one polls progress, answers signals, notices dead
workers, and gives back our own errors.
"""

import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import create_runner

from tutti.datasets.errors import Stopped, TryLaterError, TuttiError, UsageError
from tutti.datasets.settings import nearest
from tutti.datasets.streams import shield
from tutti.pipelines.engine.beam_flags import refuse_unknown
from tutti.pipelines.engine.runner_errors import AGAIN, dead_thread, dead_worker, scarcity, unwrap_runner_error
from tutti.pipelines.engine.stall import StallWatch

POLL_S = 0.1
DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
GRPC_THREADS = 24  # of the driver, before any worker runs
EXIT_CODE = re.compile(r"Worker subprocess exited with return code (-?\d+)")


class Interrupted(Stopped):
    """A signal asked the build to stop while it ran."""


def pipeline_options(flags: Sequence[str], ours: Sequence[str] = ()) -> PipelineOptions:
    """Parse Beam options from the flags that are not ours, the runner pinned.

    DirectRunner switches between implementations at run time; FnApiRunner is the one that all
    digests were checked on.

    Args:
        flags: what our parser passes on.
        ours: names of our own flags, which may be meant.

    Raises:
        UsageError: Beam does not know a flag either, or not its value.
    """
    normalized = refuse_unknown(flags, ours)
    try:
        options = PipelineOptions(normalized)
        chosen = options.get_all_options().get("runner")
    except (SystemExit, ValueError) as error:  # argparse has explained it on stderr
        raise UsageError(f"a Beam flag has a wrong value: {' '.join(flags)}") from error
    if chosen is None or chosen.lower() in ("direct", "directrunner"):  # Beam ignores case and "Runner"
        options.view_as(StandardOptions).runner = "FnApiRunner"
    else:
        options.view_as(StandardOptions).runner = runner_name(chosen)
    return options


def runner_name(chosen: str) -> str:
    """Resolve the name of a runner to one that Beam knows.

    Raises:
        UsageError: there is none of this name; the message names the nearest.
    """
    if chosen.lower() in ("dask", "daskrunner"):  # Beam wants its module too
        chosen = DASK
    try:
        create_runner(chosen)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        known = sorted({path.rpartition(".")[2] for path in (*StandardOptions.ALL_KNOWN_RUNNERS, DASK)})
        raise UsageError(f"unknown runner {chosen!r}{nearest(chosen, known)}; known: {', '.join(known)}") from error
    return chosen


def run(
    construct: Callable[[beam.Pipeline], object],
    options: PipelineOptions,
    log: Path,
    on_poll: Callable[[IO[str]], None],
    watch: StallWatch,
) -> dict[str, float]:
    """Build and run a pipeline to its end.

    Args:
        construct: applies the stages to an empty pipeline.
        options: of the runner.
        log: takes what Beam, its workers and C libraries print on stderr.
        on_poll: called about ten times a second while it runs, with the real stderr.
        watch: looks whether the build gets on; temporary files go below its folder.

    Returns:
        Seconds by phase: "construct" and "run".

    Raises:
        TuttiError: one that a stage raised, whatever the runner made of it.
        TryLaterError: workers died, or nothing moved for too long.
        Interrupted: by SIGINT, SIGTERM or SIGHUP.
    """
    seconds: dict[str, float] = {}
    failure: list[BaseException] = []

    def work() -> None:
        try:
            _run_to_end(construct, options, seconds)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="beam", daemon=True)
    with _dead_threads(watch, log) as dead, _temporary_files_in(watch.folder / "tmp"), _stderr_to(log) as terminal:
        try:
            with _monitored(watch, options):
                if options.view_as(DirectOptions).direct_running_mode.startswith("multi_"):
                    _require_threads(GRPC_THREADS)
                thread.start()
                while thread.is_alive():
                    thread.join(POLL_S)
                    on_poll(terminal)
                    watch.look(partial(_say, terminal), partial(scarcity, log))
                    if dead:
                        raise dead[0]
        except BaseException as error:
            _kill_children()
            _left_behind.append(thread)
            if (ours := unwrap_runner_error(error)) is not error:
                raise ours from error
            raise
    if failure:
        if (ours := unwrap_runner_error(failure[0])) is failure[0]:
            raise ours
        raise ours from failure[0]
    return seconds


def _run_to_end(
    construct: Callable[[beam.Pipeline], object], options: PipelineOptions, seconds: dict[str, float]
) -> None:
    start_s = time.perf_counter()
    pipeline = beam.Pipeline(options=options)
    construct(pipeline)
    seconds["construct"] = time.perf_counter() - start_s
    result = pipeline.run()
    result.wait_until_finish()
    _require_results(result)
    seconds["run"] = time.perf_counter() - start_s - seconds["construct"]


def _require_results(result: object) -> None:
    """Refuse the end of a pipeline on Dask whose results were cancelled: the runner takes that for done.

    Raises:
        TryLaterError: the scheduler is gone, or somebody cancelled the work.
    """
    if unfinished := {future.status for future in getattr(result, "futures", ())} - {"finished"}:
        states = ", ".join(sorted(unfinished))
        raise TryLaterError(f"the connection to the Dask scheduler is lost (results are {states}); {AGAIN}")


def _require_threads(count: int) -> None:
    """Start so many threads at once, for a moment: where gRPC cannot have them, it aborts the process without a word.

    Raises:
        RuntimeError: there are not so many.
    """
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
    finally:
        end.set()


_left_behind: list[threading.Thread] = []  # threads of pipelines that were given up


def must_leave() -> bool:
    """Whether a pipeline that was given up still runs in a thread: a normal exit might wait for it."""
    return any(thread.is_alive() for thread in _left_behind)


def _say(terminal: IO[str], message: str) -> None:
    start = "\r\x1b[K" if terminal.isatty() else ""  # over the line of progress
    with suppress(OSError):  # nobody reads it
        print(f"{start}note: {shield(message)}", file=terminal, flush=True)


@contextmanager
def _monitored(watch: StallWatch, options: PipelineOptions) -> Iterator[None]:
    """Watch the Dask cluster within the block, if the pipeline runs on one."""
    if "dask" not in str(options.get_all_options().get("runner")).lower():
        yield
        return
    from tutti.pipelines.engine.cluster import DaskMonitor  # it takes half a second

    monitor = DaskMonitor()
    watch.cluster = monitor
    monitor.start()
    yield
    monitor.close()


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Put temporary files and folders of Beam, Dask and all workers into a folder that goes away with the build."""
    folder.mkdir(parents=True)
    before, environment = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if environment is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = environment


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
def _dead_threads(watch: StallWatch, log: Path) -> Iterator[list[TuttiError]]:
    """Collect what Beam's threads say of workers that died; without it the driver waits for ever.

    What else ends a thread of Beam's or gRPC's is a suspicion for `watch`: most likely somebody waits for it now.
    """
    dead: list[TuttiError] = []
    previous = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if (code := EXIT_CODE.search(str(args.exc_value))) is not None:
            dead.append(dead_worker(int(code[1]), log))
            return
        if args.exc_value is not None:
            watch.suspect(dead_thread("" if args.thread is None else args.thread.name, args.exc_value))
        previous(args)

    threading.excepthook = hook
    try:
        yield dead
    finally:
        threading.excepthook = previous


def _kill_children() -> None:
    for _ in range(3):  # the runner may be starting some just now
        children = _children()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        if not children:
            return
        psutil.wait_procs(children, timeout=1)


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if not _ends_itself(child)]


def _ends_itself(process: psutil.Process) -> bool:
    """Whether it is the process that removes others' semaphores after their end: it ends with the last of them."""
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return True


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the main thread on signals within the block; a second one ends the process at once."""
    interrupted: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if interrupted:
            for child in _children():
                with suppress(psutil.Error):
                    child.kill()
            os._exit(128 + number)
        interrupted.append(number)
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        if not interrupted:  # else the process is about to end
            for number, handler in zip(numbers, previous, strict=True):
                signal.signal(number, handler)


def exit_now(exit_code: int) -> None:
    """End the process at once: Beam's daemon threads would block a normal exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
