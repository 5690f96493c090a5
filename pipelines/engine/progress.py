"""Progress of a build, counted by the workers and read by the process that waits.

No Beam runner reports metrics while it runs, and some report none at all. So every worker
process keeps one small file of tallies, and the driver adds them up.
"""

import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutti.datasets.heartbeat import beats, is_pausing, show_holding, wait_of

FLUSH_S = 0.5
PULSE_S = 1.0
QUIET_PULSES = 10  # without a row: the thread ends
HOST = socket.gethostname()


@dataclass
class Tally:
    """Counts of one stage: rows seen, clips rejected by reason, busy seconds."""

    done: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    computed: int = 0  # results that were not known from an earlier build

    def add(self, other: "Tally") -> None:
        """Add another tally in place."""
        self.done += other.done
        self.rejected += other.rejected
        self.seconds += other.seconds
        self.computed += other.computed


@dataclass(frozen=True)
class Transfer:
    """A file on its way."""

    done: int  # bytes
    total: int | None  # bytes; None: the server does not say
    bytes_per_s: float


@dataclass(frozen=True)
class RowInWork:
    """A row that a process is busy with."""

    stage: str
    item: str | None  # id of its clip, or of its first one
    seconds: float  # so far
    wait: str | None  # what it waits for, where it says so


@dataclass(frozen=True)
class Beat:
    """The last sign of life of a process."""

    host: str
    pid: int
    steps: int  # grows with everything that gets on
    cpu_s: float
    rows: tuple[RowInWork, ...]


class Reporter:
    """The tallies, transfers and signs of life of this process; written to `folder/<host>-<pid>.json` now and then.

    While a row is worked on, a thread writes once a second, so that a row that takes long is no silence.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{HOST}-{os.getpid()}.json"
        self._tallies: dict[str, Tally] = {}
        self._transfers: dict[str, Transfer] = {}
        self._begun: dict[str, tuple[float, int]] = {}  # transfer -> when it began here, and with how many bytes
        self._rows: dict[int, tuple[str, object, float]] = {}  # thread -> stage, row, when it began
        self._steps = 0  # rows begun and ended, parts of files that came
        self._pulse: threading.Thread | None = None
        self._writing = threading.Lock()
        self._written_s = time.monotonic()
        self._longest = 0  # bytes, of what was written: less leaves a rest

    @contextmanager
    def measure(self, stage: str, row: object = None) -> Iterator[Tally]:
        """Yield a stage's tally; the time within the block counts as its busy time, spent on the row."""
        tally = self._tallies.setdefault(stage, Tally())
        start, thread = time.perf_counter(), threading.get_ident()
        self._rows[thread] = (stage, row, start)
        self._steps += 1
        if self._pulse is None:
            self._start_pulse()
        if time.monotonic() - self._written_s > FLUSH_S:  # not at a row's end: the next one is on its way
            self.flush()
        try:
            yield tally
        finally:
            self._rows.pop(thread, None)
            self._steps += 1
            tally.seconds += time.perf_counter() - start

    def add(self, stage: str, done: int) -> None:
        """Count clips of a row in work that are done before the row is."""
        self._tallies.setdefault(stage, Tally()).done += done
        self._steps += 1

    def _start_pulse(self) -> None:
        self._pulse = threading.Thread(target=self._beat, name="pulse", daemon=True)
        with suppress(RuntimeError):  # no thread to be had: rows that end write as well
            self._pulse.start()

    def _beat(self) -> None:
        """Write until no row has been worked on for a while, or there is no reader any more."""
        quiet, shown, clock = 0, -1, threading.Event()
        while quiet < QUIET_PULSES:
            clock.wait(PULSE_S)
            self._steps += is_pausing()
            if (steps := self._steps + beats()) != shown:
                shown = steps
                show_holding()
            quiet = 0 if self._rows else quiet + 1
            if self._rows and time.monotonic() - self._written_s > PULSE_S / 2 and not self.flush():
                break
        self._pulse = None  # the next row starts another one
        if quiet == QUIET_PULSES and self._rows:  # it began just now
            self._start_pulse()

    def transfer(self, name: str, done: int, total: int | None) -> None:
        """Report how many bytes of a file have come; it is forgotten once all have."""
        now = time.monotonic()
        since_s, before = self._begun.setdefault(name, (now, done))
        self._steps += 1
        self._transfers[name] = Transfer(done, total, (done - before) / (now - since_s) if now > since_s else 0.0)
        if done == total:
            del self._transfers[name], self._begun[name]
        if done == total or now - self._written_s > FLUSH_S:
            self.flush()

    def flush(self) -> bool:
        """Write what there is; False where it cannot be written, as after the end of the build."""
        with self._writing:  # else the older of two contents might be the last
            line = json.dumps(self._content()).encode()
            self._longest = max(self._longest, len(line))
            self._written_s = time.monotonic()
            # In place: replacing a file makes ext4 write it to the disk, which took 3 % of a worker's time. One who
            # reads half of it tries again later. The folder is the build's to make: after its end nobody does.
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
                try:
                    os.pwrite(descriptor, line.ljust(self._longest), 0)
                finally:
                    os.close(descriptor)
            except OSError:  # of a full disk the stage's own files tell
                return False
        return True

    def _content(self) -> dict[str, Any]:
        now = time.perf_counter()
        return {
            "stages": {name: [t.done, t.rejected, t.seconds, t.computed] for name, t in list(self._tallies.items())},
            "transfers": {name: [t.done, t.total, t.bytes_per_s] for name, t in list(self._transfers.items())},
            "beat": {
                "host": HOST,
                "pid": os.getpid(),
                "steps": self._steps + beats(),
                "cpu_s": time.process_time(),
                "rows": [
                    [stage, _name_of(row), now - start, wait_of(thread)]
                    for thread, (stage, row, start) in list(self._rows.items())
                ],
            },
        }


def _name_of(row: object) -> str | None:
    """Find the id of a clip, or of the first of a recording; a short text itself."""
    clips = getattr(row, "clips", None) or (row,)
    name = getattr(clips[0], "id", row)
    return name[:200] if isinstance(name, str) else None


_reporters: dict[tuple[str, int], Reporter] = {}


def reporter(folder: Path) -> Reporter:
    """Return the one reporter of this process for a folder."""
    key = str(folder), os.getpid()  # a forked process has its own
    if key not in _reporters:
        _reporters[key] = Reporter(folder)
    return _reporters[key]


def read_tallies(folder: Path) -> dict[str, Tally]:
    """Sum tallies over all processes; stages in the order in which they first reported."""
    total: dict[str, Tally] = {}
    for content in _contents(folder):
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # of another version of this code
            for name, (done, rejected, *rest) in content["stages"].items():
                total.setdefault(name, Tally()).add(Tally(done, Counter(rejected), *rest))
    return total


def read_transfers(folder: Path) -> dict[str, Transfer]:
    """Read the files on their way, of all processes."""
    return {name: Transfer(*values) for content in _contents(folder) for name, values in content["transfers"].items()}


def read_beats(folder: Path) -> dict[str, Beat]:
    """Read signs of life by process: host and pid."""
    found = {}
    for content in _contents(folder):
        with suppress(KeyError, TypeError):  # of another version of this code
            beat = Beat(**{**content["beat"], "rows": tuple(RowInWork(*row) for row in content["beat"]["rows"])})
            found[f"{beat.host}-{beat.pid}"] = beat
    return found


def _contents(folder: Path) -> Iterator[Any]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue


def progress_line(
    tallies: Mapping[str, Tally], elapsed_s: float, transfers: Mapping[str, Transfer] | None = None
) -> str:
    """Format a line for a terminal: clips per stage, busiest rate, files on their way, rejects by reason."""
    shown = [f"{name} {tally.done}" for name, tally in tallies.items()]
    rejected: Counter[str] = sum((tally.rejected for tally in tallies.values()), Counter())
    prepared = tallies.get("prepare", Tally()).done
    rate = f" | {prepared / elapsed_s:.0f} clips/s" if prepared and elapsed_s > 0 else ""
    arriving = "".join(f" | {name} {_described(transfer)}" for name, transfer in sorted((transfers or {}).items()))
    rejects = " | rejected " + ", ".join(f"{n} {reason}" for reason, n in rejected.most_common()) if rejected else ""
    return f"{elapsed_s:5.0f} s | {' > '.join(shown) or 'starting'}{rate}{arriving}{rejects}"


def _described(transfer: Transfer) -> str:
    speed = f"{transfer.bytes_per_s / 1e6:.1f} MB/s"
    if transfer.total is None:
        return f"{transfer.done / 1e6:.0f} MB, {speed}"
    left = f", {(transfer.total - transfer.done) / transfer.bytes_per_s:.0f} s left" if transfer.bytes_per_s > 0 else ""
    return f"{transfer.done / 1e6:.0f} of {transfer.total / 1e6:.0f} MB, {speed}{left}"
