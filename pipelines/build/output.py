"""The output folder: one build at a time, versions that never change, a pointer swapped last.

Below the output root (build/ultimate):

    .lock                  held while a build runs; names its holder
    .building/             what is not finished yet; never read by anybody
    run.log                what Beam printed during the last build
    versions/<version>/    immutable
    current                symbolic link to a version, replaced atomically
    last-failed/           manifest and rows of the last build, where it was refused
"""

import contextlib
import filecmp
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tutti.datasets.errors import IntegrityError, StorageError, TryLaterError, TuttiError, UsageError
from tutti.datasets.files import crash_point, sync_folder
from tutti.datasets.locks import LockedError, lock
from tutti.datasets.manifest import Manifest, manifest_path, read_manifest
from tutti.datasets.os_errors import remedy, words
from tutti.datasets.printable import printable
from tutti.pipelines.verify.check import verify

REMOVALS = 20  # of a folder; others write into it once a second
LAST_FAILED = "last-failed"
RUN = re.compile(r"[\w.-]+-\d+")  # name of a build's folder of progress


@dataclass(frozen=True)
class Output:
    """An output root."""

    root: Path
    run: str = field(default_factory=lambda: f"{os.getpid()}-{time.monotonic_ns()}")  # names its progress only

    @property
    def staging(self) -> Path:
        """Folder into which a build writes; it becomes a version by one rename."""
        return self.root / ".building"

    @property
    def progress(self) -> Path:
        """Folder in which the workers of a build tell how far they are."""
        return self.root / ".progress" / self.run

    @property
    def log(self) -> Path:
        """Output of Beam and its workers during the last build; holds times, unlike everything else."""
        return self.root / "run.log"

    def current(self) -> str | None:
        """Return the version that `current` points to, if it points to one that is there."""
        name, problem = self.pointed_at()
        return None if problem else name

    def pointed_at(self) -> tuple[str | None, str]:
        """Return the name of the version that `current` points to, and what is wrong with the pointer, if anything."""
        link = self.root / "current"
        try:
            target = link.readlink()
        except OSError:  # none, or no link: `check` says more
            return None, ""
        folder = link.parent / target
        try:
            inside = folder.parent.resolve() == (self.root / "versions").resolve() and not folder.is_symlink()
        except (OSError, RuntimeError):  # links in a circle
            inside = False
        if not inside:
            return None, f"`current` points to {target}, which is no version here"
        return folder.name, "" if manifest_path(folder).is_file() else f"version {folder.name} is gone"

    def check(self) -> None:
        """Refuse to write where files that no build made have the names of ours.

        Raises:
            UsageError: names the file or folder.
        """
        if manifest_path(self.root).exists():
            raise UsageError(f"{self.root}: is a version folder, which never changes; name an output root")
        for name, is_ours in OURS.items():
            path = self.root / name
            if os.path.lexists(path) and not _readable(is_ours, path):
                raise UsageError(f"{path}: was not made by a build; move it away, or choose another output folder")
        known_here = any(os.path.lexists(self.root / name) for name in (".lock", "current", "versions"))
        if not known_here and os.path.lexists(self.root / "run.log"):
            raise UsageError(f"{self.root / 'run.log'}: would be overwritten; move it away, or choose another output")

    @contextlib.contextmanager
    def held(self, wait_s: float) -> Iterator[None]:
        """Lock the output against others; the lock ends with the process, however it ends.

        Raises:
            UsageError: see `check`.
            TryLaterError: another build holds it after `wait_s` seconds; the message names it.
            StorageError: the folder cannot be made or written.
        """
        self.check()
        with contextlib.ExitStack() as stack:
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
                stack.enter_context(lock(self.root / ".lock", wait_s=wait_s, flags=flags))
            except LockedError as error:
                holder = printable(error.holder)
                raise TryLaterError(f"{self.root} is being built by {holder}; try later or use --wait") from error
            except OSError as error:
                raise StorageError(
                    f"cannot write to {self.root} ({error.strerror}); choose another --output"
                ) from error
            self.check()  # while it was waited for
            yield

    @contextlib.contextmanager
    def locked(self, wait_s: float) -> Iterator[None]:
        """Hold the output for one build, with empty folders for what is not finished; see `held`."""
        with self.held(wait_s):
            self._remove_leftovers()
            self.staging.mkdir()
            self.progress.mkdir(parents=True)
            try:
                yield
            finally:
                self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for folder in (self.staging, self.progress.parent):
            for _ in range(REMOVALS):  # a worker on another machine may write into it until it is gone
                shutil.rmtree(folder, ignore_errors=True)
                if not os.path.lexists(folder):
                    break

    def publish(self) -> Manifest:
        """Make the staged version a visible one and point `current` to it; a damaged folder of its name is replaced."""
        staged = read_manifest(self.staging)
        version = staged.version
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
        self.point_to(version)
        return Manifest(target, staged.content)

    def point_to(self, version: str) -> None:
        """Make a version the current one, at once."""
        link = self.root / ".current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("versions") / version)
        crash_point("synced", self.root / "current")
        link.replace(self.root / "current")
        crash_point("renamed", self.root / "current")


def _holds(folder: Path, wanted: Path) -> bool:
    """Whether a version folder has every file of another, with the same bytes."""
    names = [path.relative_to(wanted) for path in wanted.rglob("*") if path.is_file()]
    return all((folder / name).is_file() and filecmp.cmp(folder / name, wanted / name, shallow=False) for name in names)


def publish_to(target: Path, manifest: Manifest) -> None:
    """Copy a verified version to another output root and swap its `current`; readers never see a half.

    Raises:
        IntegrityError: the version is damaged; nothing was published.
        TryLaterError: somebody else publishes there, or the version is incomplete.
        StorageError: the folder cannot be written.
    """
    here = f"the version is in {manifest.folder}"
    if lost := manifest.content.get("incomplete"):
        raise TryLaterError(f"{target}: nothing was published, for {here} but incomplete ({', '.join(sorted(lost))})")
    for problem in verify(manifest):
        raise IntegrityError(f"{problem}; nothing was published")
    there = Output(target)
    try:
        if there.current() == manifest.version and _is_sound(target):
            return
        with there.locked(wait_s=0.0):
            shutil.copytree(manifest.folder, there.staging, dirs_exist_ok=True)
            for problem in verify(read_manifest(there.staging)):
                raise IntegrityError(f"{problem}; the copy was thrown away: check the disk of {target}")
            there.publish()
    except TuttiError as error:
        raise type(error)(f"--publish {target}: {error}; {here}") from error
    except OSError as error:  # of copytree: a list of all that failed
        many = isinstance(error, shutil.Error)
        said = f"{error.args[0][0][2]}; look at the disk" if many else f"{words(error)}; {remedy(error, target)}"
        raise StorageError(f"--publish {target}: {said}, then run it again; {here}") from error


def _is_sound(root: Path) -> bool:
    try:
        return not verify(read_manifest(root))
    except (TuttiError, OSError):
        return False


# --- what is ours in an output root

STAGED = ("manifest", "data", "report", "README.md", "croissant.json")  # of a version


def _is_link(path: Path) -> bool:
    return path.is_symlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir()  # also one that lies elsewhere: versions on a larger disk


def _is_staging(path: Path) -> bool:
    if path.is_symlink():
        return False
    beside = path.with_name(".progress")  # there as long as a killed build's folder is
    of_a_build = beside.is_dir() and _is_progress(beside) and any(beside.iterdir())
    return of_a_build or all(name in STAGED or name.endswith(".tmp") for name in os.listdir(path))


def _is_progress(path: Path) -> bool:
    return not path.is_symlink() and all(RUN.fullmatch(name) for name in os.listdir(path))


def _is_failed(path: Path) -> bool:
    return not path.is_symlink() and os.listdir(path) in ([], ["manifest"])


def _is_lock(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4)
    return head in (b"", b"pid ")


def _is_file(path: Path) -> bool:
    return path.is_file()


OURS: Mapping[str, Callable[[Path], bool]] = {
    "current": _is_link,
    ".current.new": _is_link,
    "versions": _is_folder,
    ".building": _is_staging,
    ".progress": _is_progress,
    LAST_FAILED: _is_failed,
    ".lock": _is_lock,
    "run.log": _is_file,
    ".unchanged.json": _is_file,
}


def _readable(is_ours: Callable[[Path], bool], path: Path) -> bool:
    try:
        return is_ours(path)
    except NotADirectoryError:
        return False
    except OSError:  # not readable: the build says so where it needs it
        return True
