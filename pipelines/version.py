"""The output folder: one build at a time, versions that never change, a pointer swapped last.

Below the output root (build/ultimate):

    .lock                  held while a build runs; names its holder
    .building/             what is not finished yet; never read by anybody
    run.log                what Beam printed during the last build
    versions/<version>/    immutable
    current                symbolic link to a version, replaced atomically
"""

import contextlib
import fcntl
import filecmp
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datasets.errors import IntegrityError, StorageError, TryLaterError
from datasets.files import crash_point, sync_folder
from datasets.manifest import Manifest, read_manifest
from pipelines.verify import verify

LOCK_POLL_S = 0.2


@dataclass(frozen=True)
class Output:
    """An output root."""

    root: Path
    run: str = field(default_factory=lambda: f"{os.getpid()}-{time.monotonic_ns()}")  # names its progress only

    @property
    def staging(self) -> Path:
        """Where a build writes; becomes a version folder by one rename."""
        return self.root / ".building"

    @property
    def progress(self) -> Path:
        """Where the workers of a build tell how far they are."""
        return self.root / ".progress" / self.run

    @property
    def log(self) -> Path:
        """What Beam and its workers said during the last build; holds times, unlike everything else."""
        return self.root / "run.log"

    def current(self) -> str | None:
        """The version that `current` points to, if any."""
        link = self.root / "current"
        return link.readlink().name if link.is_symlink() else None

    @contextlib.contextmanager
    def locked(self, wait_s: float) -> Iterator[None]:
        """Hold the output for one build; the lock ends with the process, however it ends.

        Raises:
            TryLaterError: another build holds it after `wait_s` seconds; the message names it.
            StorageError: the folder cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("a+")
        except OSError as error:
            raise StorageError(f"cannot write to {self.root} ({error.strerror}); choose another --output") from error
        with lock:
            deadline_s = time.monotonic() + wait_s
            while not _try_lock(lock.fileno()):
                if time.monotonic() >= deadline_s:
                    lock.seek(0)
                    raise TryLaterError(f"{self.root} is being built by {lock.read().strip()}; try later or use --wait")
                time.sleep(LOCK_POLL_S)
            lock.seek(0)
            lock.truncate()
            lock.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
            self._remove_leftovers()
            self.staging.mkdir()
            self.progress.mkdir(parents=True)
            try:
                yield
            finally:
                self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for folder in (self.staging, self.progress.parent):
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self) -> Manifest:
        """Make the staged version a visible one and point `current` to it; a damaged folder of its name is replaced."""
        version = read_manifest(self.staging).version
        target = self.root / "versions" / version
        damaged = target.with_name(f".damaged-{version}")
        if target.is_dir() and not _holds(target, self.staging):
            shutil.rmtree(damaged, ignore_errors=True)
            target.rename(damaged)
        if not target.is_dir():
            target.parent.mkdir(exist_ok=True)
            sync_folder(self.staging)  # all at once: the first sync writes most of what the others wait for
            crash_point("synced", target)
            self.staging.rename(target)
        crash_point("renamed", target)
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.rmtree(self.staging, ignore_errors=True)  # the version was there
        link = self.root / ".current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("versions") / version)
        crash_point("synced", self.root / "current")
        link.replace(self.root / "current")
        crash_point("renamed", self.root / "current")
        return read_manifest(target)


def _holds(folder: Path, wanted: Path) -> bool:
    """Whether a version folder has every file of another, with the same bytes."""
    names = [path.relative_to(wanted) for path in wanted.rglob("*") if path.is_file()]
    return all((folder / name).is_file() and filecmp.cmp(folder / name, wanted / name, shallow=False) for name in names)


def publish_to(target: Path, manifest: Manifest) -> None:
    """Copy a verified version to another output root and swap its `current`; readers never see a half.

    Raises:
        IntegrityError: the version is damaged; nothing was published.
        TryLaterError: somebody else publishes there.
        StorageError: the folder cannot be written.
    """
    for problem in verify(manifest):
        raise IntegrityError(f"{problem}; nothing was published")
    there = Output(target)
    if there.current() == manifest.version:
        return
    with there.locked(wait_s=0.0):
        shutil.copytree(manifest.folder, there.staging, dirs_exist_ok=True)
        for problem in verify(read_manifest(there.staging)):
            raise IntegrityError(f"{problem}; the copy was thrown away: check the disk of {target}")
        there.publish()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
