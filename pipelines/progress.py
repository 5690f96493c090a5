"""What a build has done so far, counted by the workers and read by the one who waits.

No Beam runner reports metrics while it runs, and some report none at all. So every worker
process keeps one small file of tallies, and the driver adds them up.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLUSH_S = 0.5


@dataclass
class Tally:
    """Counts of one stage: rows seen, clips rejected by reason, busy seconds."""

    done: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    computed: int = 0  # results that were not known from an earlier build

    def add(self, other: "Tally") -> None:
        """Sum in place."""
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


class Reporter:
    """The tallies and transfers of this process; written to `folder/<pid>.json` now and then."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}.json"
        self._tallies: dict[str, Tally] = {}
        self._transfers: dict[str, Transfer] = {}
        self._begun: dict[str, tuple[float, int]] = {}  # transfer -> when it began here, and with how many bytes
        self._written_s = time.monotonic()
        self._longest = 0  # bytes, of what was written: less leaves a rest

    @contextmanager
    def measure(self, stage: str) -> Iterator[Tally]:
        """The stage's tally; the time within the block counts as its busy time."""
        tally = self._tallies.setdefault(stage, Tally())
        start = time.perf_counter()
        try:
            yield tally
        finally:
            tally.seconds += time.perf_counter() - start
            if time.monotonic() - self._written_s > FLUSH_S:
                self.flush()

    def transfer(self, name: str, done: int, total: int | None) -> None:
        """Say how many bytes of a file have come; it is forgotten once all have."""
        now = time.monotonic()
        since_s, before = self._begun.setdefault(name, (now, done))
        self._transfers[name] = Transfer(done, total, (done - before) / (now - since_s) if now > since_s else 0.0)
        if done == total:
            del self._transfers[name], self._begun[name]
        if done == total or now - self._written_s > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        content = {
            "stages": {name: [t.done, t.rejected, t.seconds, t.computed] for name, t in self._tallies.items()},
            "transfers": {name: [t.done, t.total, t.bytes_per_s] for name, t in self._transfers.items()},
        }
        # In place: replacing a file makes ext4 write it to the disk, which took 3 % of a worker's time. One who reads
        # half of it tries again later.
        line = json.dumps(content).encode()
        self._longest = max(self._longest, len(line))
        with suppress(OSError):  # of a full disk the stage's own files tell
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(descriptor, line.ljust(self._longest), 0)
            finally:
                os.close(descriptor)
        self._written_s = time.monotonic()


_reporters: dict[str, Reporter] = {}


def reporter(folder: Path) -> Reporter:
    """The one reporter of this process for a folder."""
    key = str(folder)
    if key not in _reporters:
        _reporters[key] = Reporter(folder)
    return _reporters[key]


def read_tallies(folder: Path) -> dict[str, Tally]:
    """Sum over all processes; stages in the order in which they first had something to say."""
    total: dict[str, Tally] = {}
    for content in _contents(folder):
        for name, (done, rejected, *rest) in content["stages"].items():
            total.setdefault(name, Tally()).add(Tally(done, Counter(rejected), *rest))
    return total


def read_transfers(folder: Path) -> dict[str, Transfer]:
    """Files on their way, of all processes."""
    return {name: Transfer(*values) for content in _contents(folder) for name, values in content["transfers"].items()}


def _contents(folder: Path) -> Iterator[Any]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            continue


def progress_line(
    tallies: Mapping[str, Tally], elapsed_s: float, transfers: Mapping[str, Transfer] | None = None
) -> str:
    """One line for a terminal: clips per stage, rate of the busiest stage, files on their way, rejects by reason."""
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
