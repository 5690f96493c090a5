"""Locks of the fetcher over all processes: how many use a host at once, and who writes a file.

They are flocks, so they end with their holder, however that ends: no stale lock, no manual step.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import sleep
from typing import IO

from tutti.datasets.heartbeat import beat, holding, waiting
from tutti.datasets.locks import POLL_S, lock, release, try_lock

_held = threading.local()  # .paths: locks of this thread, which may ask for them again


@contextlib.contextmanager
def host_slot(folder: Path, host: str, per_host: int) -> Iterator[None]:
    """Hold one of a host's slots; waits while other threads or processes hold them all.

    Args:
        folder: of the lock files, shared by all processes that are to be counted together.
        host: name, with a port where it is not the scheme's own.
        per_host: number of slots.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9.-]", "_", host.lower())
    paths = [folder / f"{name}.{number}" for number in range(per_host)]
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(path.open("ab")) for path in paths]
        with waiting(f"one of the {per_host} downloads at once from {host}"):
            seen = _times(streams)
            while (mine := next((stream for stream in streams if try_lock(stream.fileno())), None)) is None:
                sleep(POLL_S)  # no call waits for the first of several locks
                if (now := _times(streams)) != seen:  # those before us get on
                    seen = now
                    beat()
        try:
            with holding(mine.fileno()):
                yield
        finally:
            for stream in streams:
                release(stream.fileno())


def _times(streams: Sequence[IO[bytes]]) -> list[int]:
    return [os.fstat(stream.fileno()).st_mtime_ns for stream in streams]


@contextlib.contextmanager
def one_writer(path: Path) -> Iterator[None]:
    """Hold a file (by `path` + ".lock") against other threads and processes; waits while another holds it.

    The thread that holds it may ask for it again. Who had to wait should look whether the file, or
    what was made of it, is there by now. The lock file goes away with its last holder.
    """
    held: set[Path] = _held.__dict__.setdefault("paths", set())
    if path in held:
        yield
        return
    with lock(path.with_name(f"{path.name}.lock"), vanishes=True):
        held.add(path)
        try:
            yield
        finally:
            held.discard(path)
