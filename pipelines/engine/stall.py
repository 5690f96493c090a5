"""Notice that a build stands still: say what waits for how long, and end it after a settable time.

A build gets on while rows begin or end, bytes come, or steps of long computations are counted, in any of its
processes (`progress.Beat`). A process that has done none of this counts as standing still; one that takes processor
time meanwhile is given four times as long. Announced pauses (budgets, rate limits) and waits for a lock whose holder
gets on are no standstill. Time in which this process did not run either (a laptop asleep, SIGSTOP) does not count.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from tutti.datasets.errors import TryLaterError, TuttiError
from tutti.datasets.machine import MACHINE_REASONS
from tutti.datasets.printable import printable
from tutti.pipelines.engine.progress import HOST, Beat, RowInWork, read_beats

DEFAULT_TIMEOUT_S = 1800.0
FIRST_WORD_S = 300.0  # or a third of the time-out, but not before
WORD_S = 3.0
START_S = 120.0  # before any row: imports from a cold disk, on a machine that is busy with other workers
SCARCE_S = 30.0  # quiet for so long after the runner could not have threads or memory: it waits for those
SUSPECT_S = 10.0  # quiet for so long after a thread of the runner died: nothing will come
BUSY_SHARE = 0.05  # of a processor; what only waits takes a hundredth
BUSY_FACTOR = 4.0
SILENT_S = 10.0  # a process with a row in work is heard of once a second
SHOWN = 3  # rows in a message
STATES = {
    psutil.STATUS_STOPPED: "is stopped",
    psutil.STATUS_TRACING_STOP: "is stopped by a debugger",
    psutil.STATUS_DISK_SLEEP: "waits for a disk",
    psutil.STATUS_ZOMBIE: "has ended",
}
ROLES = {"sdk_worker_main": "worker", "tutti.pipelines.decoding.child": "decoder"}  # part of the command line -> name


class Cluster(Protocol):
    """The interface of a monitor of other machines."""

    def problem(self) -> TuttiError | None:
        """Return why nothing more will come, if so."""

    def is_busy(self) -> bool:
        """Whether workers take processor time."""

    def words(self) -> str:
        """Describe the cluster: workers, scheduler."""


@dataclass
class Clock:
    """The time for which something has stood still."""

    steps: object = None
    idle_s: float = 0.0

    def tick(self, steps: object, elapsed_s: float, *, busy: bool) -> None:
        """Count the time since the last look, or start anew where steps were taken."""
        self.idle_s = 0.0 if steps != self.steps else self.idle_s + elapsed_s / (BUSY_FACTOR if busy else 1.0)
        self.steps = steps


@dataclass
class StallWatch:
    """Looks at a build now and then, in the process that drives it."""

    folder: Path  # of the build's progress
    timeout_s: float = DEFAULT_TIMEOUT_S  # 0: never
    cluster: Cluster | None = None
    _build: Clock = field(default_factory=Clock)
    _processes: dict[str, Clock] = field(default_factory=dict)
    _heard: dict[str, tuple[Beat, float]] = field(default_factory=dict)  # last beat, seconds since it came
    _cpu_s: dict[int, float] = field(default_factory=dict)  # of each process of this machine
    _looked_s: float = field(default_factory=time.monotonic)
    _told_s: float = 0.0
    _suspicion: TuttiError | None = None

    @property
    def every_s(self) -> float:
        """Seconds between two looks."""
        return min(5.0, max(1.0, self.timeout_s / 20)) if self.timeout_s else 5.0

    def suspect(self, error: TuttiError) -> None:
        """Note a possible cause of a stall: it is raised once nothing moves any more."""
        self._suspicion = self._suspicion or error

    def look(self, say: Callable[[str], None], scarcity: Callable[[], str | None] = lambda: None) -> None:
        """Check for progress, if it is time to.

        Args:
            say: takes a line for the user.
            scarcity: tells which of `MACHINE_REASONS` the log of the build speaks of.

        Raises:
            TryLaterError: the build has stood still for too long.
            TuttiError: it cannot go on, as somebody else has found.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s < self.every_s:
            return
        elapsed_s = min(now_s - self._looked_s, 2 * self.every_s)  # more: we did not run ourselves
        self._looked_s = now_s
        if self.cluster is not None and (problem := self.cluster.problem()) is not None:
            raise problem
        beats = read_beats(self.folder)
        self._tick(beats, elapsed_s)
        idle_s = max([self._build.idle_s, *(clock.idle_s for clock in self._processes.values())])
        if self._suspicion is not None and self._build.idle_s >= SUSPECT_S:
            raise self._suspicion
        if self._build.idle_s >= SCARCE_S and (reason := scarcity()) is not None:
            raise TryLaterError(
                f"nothing has moved for {self._build.idle_s:,.0f} s, and the log of the build speaks of a lack: "
                f"{MACHINE_REASONS[reason]}, then run the same command again, it goes on where it was"
            )
        limit_s = self.timeout_s if beats else max(self.timeout_s, START_S)
        if self.timeout_s and idle_s >= limit_s:
            raise TryLaterError(
                f"the build has stood still for {idle_s:,.0f} s: {self.situation()}; what is done is kept: run the "
                "same command again, it goes on where it was; --stall-timeout S sets how long to wait, 0: for ever"
            )
        first_s = min(FIRST_WORD_S, max(WORD_S, limit_s / 3)) if self.timeout_s else FIRST_WORD_S
        if idle_s < first_s:
            self._told_s = 0.0
        elif idle_s >= 2 * self._told_s:
            self._told_s = idle_s
            ends = f"; the build ends after {limit_s:,.0f} s of this (--stall-timeout)" if self.timeout_s else ""
            say(f"nothing has moved for {idle_s:,.0f} s: {self.situation()}{ends}")

    def _tick(self, beats: Mapping[str, Beat], elapsed_s: float) -> None:
        steps = {key: beat.steps for key, beat in beats.items()}
        quiet = steps == self._build.steps or any(
            beat.rows and key in self._processes and self._processes[key].steps == beat.steps
            for key, beat in beats.items()
        )
        busy = self._busy_processes(elapsed_s) if quiet else set()
        busy |= {beat.pid for key, beat in beats.items() if self._takes_time(key, beat, elapsed_s)}
        away = self.cluster is not None and self.cluster.is_busy()
        self._build.tick(steps, elapsed_s, busy=bool(busy) or away)
        for key, beat in beats.items():
            # Of processes elsewhere their cluster takes care: it gives the rows of a dead one to others.
            is_ours = beat.host == HOST and (beat.pid in self._cpu_s or beat.pid == os.getpid())
            clock = self._processes.setdefault(key, Clock(beat.steps))
            clock.tick(beat.steps if beat.rows and is_ours else None, elapsed_s, busy=beat.pid in busy)
            if clock.steps is None:
                self._processes[key] = Clock(beat.steps)
            before, since_s = self._heard.get(key, (None, 0.0))
            self._heard[key] = (beat, since_s + elapsed_s if beat == before else 0.0)
        if not quiet:
            self._cpu_s = {}

    def _takes_time(self, key: str, beat: Beat, elapsed_s: float) -> bool:
        return key in self._heard and beat.cpu_s - self._heard[key][0].cpu_s > BUSY_SHARE * elapsed_s

    def _busy_processes(self, elapsed_s: float) -> set[int]:
        """List ids of our processes that take processor time, or whose children do."""
        # This thread only looks.
        cpu_s, parents = {os.getpid(): time.process_time() - time.thread_time()}, dict[int, int]()
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times, parents[process.pid] = process.cpu_times(), process.ppid()
                cpu_s[process.pid] = times.user + times.system
        before, self._cpu_s = self._cpu_s, cpu_s
        active = [pid for pid, now_s in cpu_s.items() if now_s - before.get(pid, now_s) > BUSY_SHARE * elapsed_s]
        return {ancestor for pid in active for ancestor in _with_ancestors(pid, parents)}

    def situation(self) -> str:
        """Describe what waits, where and since when."""
        working = [_row_words(beat, row, since_s) for beat, since_s in self._heard.values() for row in beat.rows]
        rest = len(working) - SHOWN
        parts = [*working[:SHOWN], *([f"{rest} more rows"] if rest > 0 else [])] or ["no row is being worked on"]
        parts += stopped_processes()
        if self.cluster is not None:
            parts.append(self.cluster.words())
        return printable("; ".join(parts))


def _with_ancestors(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    yield pid
    while (pid := parents.get(pid, 0)) != 0:
        yield pid


def _row_words(beat: Beat, row: RowInWork, since_s: float) -> str:
    item = "" if row.item is None else f" of {row.item}"
    place = f"pid {beat.pid}" if beat.host == HOST else f"pid {beat.pid} on {beat.host}"
    silent = f", of which nothing was heard for {since_s:,.0f} s" if since_s >= SILENT_S else ""
    wait = "" if row.wait is None else f", waiting for {row.wait}"
    return f"{row.stage}{item} for {row.seconds + since_s:,.0f} s in {place}{silent}{wait}"


def stopped_processes() -> list[str]:
    """Describe the processes that this one started and that do not run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if (state := STATES.get(process.status())) is not None:
                command = " ".join(process.cmdline())
                role = next((name for part, name in ROLES.items() if part in command), process.name())
                found.append(f"{role} pid {process.pid} {state}")
    return found
