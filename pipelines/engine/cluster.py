"""Watch a Dask cluster from the driver: a scheduler that is gone, workers that are gone or are not the same code.

Beam's Dask runner only waits for its results; where no worker is left to compute them, it waits for ever.
"""

import contextlib
import importlib.metadata
import platform
import threading
import time
from collections.abc import Iterable
from typing import Any

from tutti.datasets.errors import TryLaterError, TuttiError, UsageError
from tutti.datasets.printable import printable
from tutti.pipelines.engine.code import code_digest

POLL_S = 1.0
ANSWER_S = 10.0  # for one question to the scheduler
ALONE_S = 10.0  # without any worker, after there was one: a supervisor has started another one by then
BUSY_PERCENT = 10.0  # of a processor; an idle worker takes 2 to 4
LIBRARIES = ("apache-beam", "cloudpickle", "dask", "distributed", "numpy", "pyarrow")
AGAIN = "run the same command again, it goes on where it was"


def versions() -> dict[str, str]:
    """Describe what must be the same on the driver and all workers."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "tutti": code_digest()[:12], **libraries}


class DaskMonitor:
    """Asks the scheduler once a second, in a thread of its own: it may not answer."""

    def __init__(self) -> None:
        self._problem: TuttiError | None = None
        self._workers: int | None = None  # connected; None: not known yet
        self._most = 0
        self._busy = False
        self._address = "the scheduler"
        self._silent_since_s: float | None = None
        self._alone_since_s: float | None = None
        self._checked: set[str] = set()
        self._checking: threading.Thread | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dask monitor", daemon=True)

    def start(self) -> None:
        """Begin to poll, as soon as the runner has a client."""
        self._thread.start()

    def close(self) -> None:
        """Stop polling, and disconnect: workers started by the client end."""
        self._ended.set()
        if (client := _client()) is not None:
            with contextlib.suppress(Exception):
                client.close(timeout=ANSWER_S)

    def problem(self) -> TuttiError | None:
        """Return why nothing more will come, if so."""
        return self._problem

    def is_busy(self) -> bool:
        """Whether workers take processor time."""
        return self._busy

    def words(self) -> str:
        """Describe the cluster."""
        if self._silent_since_s is not None:
            return f"Dask: {self._address} has not answered for {time.monotonic() - self._silent_since_s:,.0f} s"
        if self._workers is None:
            return "Dask: no scheduler has answered yet"
        return f"Dask: {self._address} has {self._workers} workers"

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            if (client := _client()) is None:
                continue
            try:
                info = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_S)
            except Exception:  # whatever it is, there was no answer
                self._busy = False
                self._silent_since_s = self._silent_since_s or time.monotonic()
                continue
            self._silent_since_s = None
            with contextlib.suppress(Exception):  # an answer of another version
                self._look_at(info)
                self._check_new(client, info["workers"])

    def _look_at(self, info: Any) -> None:
        workers = info["workers"]
        self._address, self._workers = info["address"], len(workers)
        self._most = max(self._most, len(workers))
        self._busy = any(worker["metrics"].get("cpu", 0.0) > BUSY_PERCENT for worker in workers.values())
        if workers or not self._most:
            self._alone_since_s = None
            return
        now_s = time.monotonic()
        self._alone_since_s = self._alone_since_s or now_s
        if now_s - self._alone_since_s >= ALONE_S and self._problem is None:
            self._problem = TryLaterError(
                f"no Dask worker is left at {self._address} (there were {self._most}): start workers, then {AGAIN}"
            )

    def _check_new(self, client: Any, addresses: Iterable[str]) -> None:
        """Compare workers that have joined with this process; in another thread, as a worker may not answer."""
        new = [address for address in addresses if address not in self._checked]
        if new and (self._checking is None or not self._checking.is_alive()):
            self._checked.update(new)
            self._checking = threading.Thread(target=self._compare, args=(client, new), daemon=True)
            self._checking.start()

    def _compare(self, client: Any, workers: list[str]) -> None:
        try:
            found = client.run(versions, workers=workers, on_error="return")
        except Exception:  # the scheduler, or the worker, is gone again
            return
        mine = versions()
        for address, theirs in found.items():
            if isinstance(theirs, ImportError):
                self._refuse(f"Dask worker {address} cannot import our packages ({theirs})")
            elif isinstance(theirs, dict) and theirs != mine:
                names = [name for name in mine if theirs.get(name) != mine[name]]
                other = ", ".join(f"{name} {theirs.get(name)} instead of {mine[name]}" for name in names)
                self._refuse(f"Dask worker {address} has {other}")

    def _refuse(self, what: str) -> None:
        remedy = "start scheduler and workers in this folder (PYTHONPATH=.), from the environment of the build"
        self._problem = self._problem or UsageError(printable(f"{what}: {remedy}"))


def _client() -> Any | None:
    from distributed import default_client

    try:
        return default_client()  # type: ignore[no-untyped-call]
    except ValueError:
        return None
