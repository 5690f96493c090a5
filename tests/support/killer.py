"""Builds that are killed: in a process group of their own, at an instant or at a named point."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from conftest import ROOT

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.decoding import sandbox
from tutti.pipelines.verify.check import verify


def start(arguments: list[str], **env: str) -> subprocess.Popen[str]:
    """`python -m pipelines.build` in a session of its own; its stderr can be read."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.build", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill_after(process: subprocess.Popen[str], seconds: float, number: int = signal.SIGKILL) -> int:
    """Send a signal to the whole group unless it ends before; answers the exit status."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)
    process.communicate(timeout=60)
    return process.returncode


def wait_for_lock(process: subprocess.Popen[str], output: Path) -> None:
    """Until the build has done with its imports and holds its output."""
    holder = f"pid {process.pid} "
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if (output / ".lock").read_text().startswith(holder):
                return
        time.sleep(0.002)


@contextlib.contextmanager
def no_decoder_lives() -> Iterator[None]:
    """Kill every decoder of this process as soon as it is seen, as a system without memory does."""
    over = threading.Event()

    def hunt() -> None:
        while not over.wait(0.01):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if "tutti.pipelines.decoding.child" in child.cmdline():
                        child.kill()

    sandbox.close()  # what is warm might be done before it is seen
    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield
    finally:
        over.set()
        hunter.join()


def visible_version(output: Path) -> str | None:
    """The version that a reader sees, checked down to the last byte; None where there is none yet."""
    if not (output / "current").exists():
        assert not (output / "current").is_symlink(), "current points nowhere"
        return None
    manifest = read_manifest(output)
    assert list(verify(manifest)) == []
    return manifest.version


def leftovers(*folders: Path) -> list[str]:
    """Files of unfinished work; what can be resumed is none."""
    return [
        str(path.relative_to(folder))
        for folder in folders
        for path in folder.rglob("*")
        if path.name.endswith(".tmp") or path.name in (".building", ".progress", ".current.new")
    ]


def stopwatch() -> float:
    """Seconds of a clock that only goes forwards."""
    return time.monotonic()
