"""Builds that something happens to: in processes and folders of their own, where whatever they leave is seen."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from conftest import ROOT
from killer import leftovers

from tutti.pipelines.build.__main__ import main

TWO_WORKERS = ("--direct-running-mode=multi_processing", "--direct-num-workers=2")
DASK = "--runner=apache_beam.runners.dask.dask_runner.DaskRunner"


@dataclass(frozen=True)
class Place:
    """Where a build of a few clips works."""

    root: Path
    mirror: Path

    @property
    def arguments(self) -> list[str]:
        """Of the build."""
        output, cache = str(self.root / "out"), str(self.root / "cache")
        return [
            "--dataset", "irmas", "--limit", "12", "--mirror", str(self.mirror), "--output", output,
            "--cache-dir", cache,
        ]  # fmt: skip

    def start(self, *flags: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """`python -m pipelines.build`, in a working directory and with temporary files of its own."""
        for folder in (self.root / "temporary", self.root / "here"):
            folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [*before, sys.executable, "-m", "pipelines.build", *self.arguments, *flags],
            cwd=self.root / "here",
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.root / "temporary")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_prepared_clips(self, count: int = 2) -> None:
        """Until the build is in the middle of its work."""
        deadline = time.monotonic() + 120
        while len(list(self.root.glob("cache/stages/prepare/*/*.json"))) < count:
            assert time.monotonic() < deadline, "the build did not get to work"
            time.sleep(0.005)

    def left(self) -> list[str]:
        """What lies in the temporary folder, in the working directory, and of unfinished work."""
        own = [path.name for name in ("temporary", "here") for path in (self.root / name).iterdir()]
        return own + leftovers(self.root / "out", self.root / "cache")

    def run_again(self) -> int:
        """The same command without the fault, here; its exit code."""
        return main(self.arguments)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Beam's worker processes of a build."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [
        child for child in children if "sdk_worker_main" in " ".join(child.cmdline()) and "-c" not in child.cmdline()
    ]


def one_error(stderr: str) -> str:
    """The line that ended the build; there is one, and no traceback."""
    errors = [line for line in stderr.splitlines() if "error: " in line]
    assert len(errors) == 1, stderr
    assert "Traceback" not in stderr
    return errors[0]


def ended(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return not psutil.wait_procs(processes, timeout=10)[1]


class Cluster:
    """A Dask scheduler and workers, as `dask scheduler` and `dask worker` start them."""

    def __init__(self, folder: Path, num_workers: int) -> None:
        self._env: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._folder, file = folder, folder / "scheduler.json"
        self.scheduler = self._start(
            "dask_scheduler", "--port=0", "--host=127.0.0.1", "--no-dashboard", f"--scheduler-file={file}"
        )
        self.workers = [
            self._start("dask_worker", f"--scheduler-file={file}", "--nthreads=1", "--no-nanny", "--no-dashboard")
            for _ in range(num_workers)
        ]
        self.flags = (DASK, f"--dask_scheduler_file={file}", "--dask_npartitions=8")
        self._wait(file, num_workers)

    def _start(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{name}", *flags]
        return subprocess.Popen(
            command, cwd=self._folder, env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _wait(self, file: Path, num_workers: int) -> None:
        from distributed import Client

        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, "no scheduler"
            time.sleep(0.05)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(num_workers, timeout=60)

    def close(self) -> None:
        """End all, also what is stopped."""
        for process in (*self.workers, self.scheduler):
            process.send_signal(signal.SIGKILL)
            process.wait()
