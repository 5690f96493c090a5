"""What is remembered of files that were checked: once per copy, and never anybody else's word."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from dataset_fixture import learnable_dataset

from tutti.datasets.copies import Copy, Memory, copy_of, file_digest
from tutti.datasets.errors import IntegrityError

CLAIM = "shard " + "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that was written a while before anybody looks at it."""
    path = tmp_path / "file"
    path.write_bytes(b"a" * 1_000)
    time.sleep(0.02)  # more than a tick of the file system's clock
    return path


def now(path: Path) -> Copy:
    return copy_of(path.stat())


def believed(folder: Path, path: Path, claim: str = CLAIM) -> bool:
    """What another process believes: it has no memory but the folder's."""
    script = (
        "import sys, os, pathlib\nfrom tutti.datasets.copies import Memory, copy_of\n"
        "print(Memory(pathlib.Path(sys.argv[1])).holds(copy_of(os.stat(sys.argv[2])), sys.argv[3]))"
    )
    done = subprocess.run([sys.executable, "-c", script, folder, path, claim], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout == "True\n"


def noted(folder: Path, path: Path) -> None:
    memory = Memory(folder)
    start = memory.start()
    memory.note(now(path), CLAIM, start)


def test_a_copy_that_was_checked_is_known_to_the_next_process(file: Path, tmp_path: Path) -> None:
    noted(tmp_path / "memory", file)

    assert believed(tmp_path / "memory", file)
    assert not believed(tmp_path / "memory", file, "shard " + "cd" * 32)
    assert not believed(tmp_path / "another", file)


@pytest.mark.parametrize("change", ["one byte, times set back", "replaced by a copy", "touched", "made longer"])
def test_a_file_that_was_touched_is_another_copy(file: Path, tmp_path: Path, change: str) -> None:
    noted(tmp_path / "memory", file)
    before = file.stat()
    if change.startswith("one byte"):
        with file.open("r+b") as stream:
            stream.write(b"b")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "replaced by a copy":
        (tmp_path / "new").write_bytes(file.read_bytes())
        os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
        (tmp_path / "new").replace(file)
    elif change == "touched":
        os.utime(file)
    else:
        with file.open("ab") as stream:
            stream.write(b"b")

    assert not believed(tmp_path / "memory", file)
    assert not Memory(tmp_path / "memory").holds(now(file), CLAIM)


def test_a_file_that_changed_in_the_tick_of_the_check_is_not_remembered(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    start = memory.start()
    (tmp_path / "file").write_bytes(b"a")  # as young as the check, so that a later change might not show

    memory.note(now(tmp_path / "file"), CLAIM, start)

    assert not memory.holds(now(tmp_path / "file"), CLAIM)
    assert not list((tmp_path / "memory").iterdir())


def test_times_of_the_future_are_not_remembered(file: Path, tmp_path: Path) -> None:
    tomorrow = time.time() + 86_400
    os.utime(file, (tomorrow, tomorrow))

    noted(tmp_path / "memory", file)

    assert not Memory(tmp_path / "memory").holds(now(file), CLAIM)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry: entry.chmod(0o666),
        lambda entry: entry.chmod(0o620),
        lambda entry: os.chown(entry, 12_345, -1),
        lambda entry: entry.write_bytes(b"shard\n"),
        lambda entry: entry.write_bytes(entry.read_bytes() + b"x" * 10_000),
        lambda entry: (entry.rename(entry.with_name("moved")), entry.symlink_to("moved")),
        lambda entry: (entry.unlink(), os.mkfifo(entry)),
        lambda entry: (entry.unlink(), entry.mkdir()),
    ],
    ids=["for all to write", "for the group", "somebody else's", "other words", "longer", "link", "pipe", "folder"],
)
def test_an_entry_that_others_could_have_written_is_not_believed(
    file: Path, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    noted(tmp_path / "memory", file)
    (entry,) = (tmp_path / "memory").iterdir()
    try:
        spoil(entry)
    except PermissionError:
        pytest.skip("only root gives files away")

    assert not believed(tmp_path / "memory", file)


def test_an_entry_of_another_copy_under_this_ones_name_is_not_believed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"b" * 1_000)
    time.sleep(0.02)
    for each in (file, tmp_path / "other"):
        noted(tmp_path / f"memory of {each.name}", each)
    (entry,) = (tmp_path / "memory of file").iterdir()
    (other,) = (tmp_path / "memory of other").iterdir()
    entry.write_bytes(other.read_bytes())

    assert not believed(tmp_path / "memory of file", file)


def test_a_folder_that_cannot_be_written_costs_another_look_and_no_error(file: Path, tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("a file where the folder should be")

    noted(tmp_path / "memory", file)

    assert not believed(tmp_path / "memory", file)


def test_never_more_is_read_than_the_manifest_promises(file: Path) -> None:
    copy, digest = file_digest(file, 1_000)
    assert copy == now(file)
    assert digest == "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"
    with pytest.raises(IntegrityError, match="has 1,000 bytes, the manifest says 999"):
        file_digest(file, 999)


SCRIPT = """
import hashlib, sys
from pathlib import Path
import tutti.datasets.copies as copies
from tutti.datasets.manifest import read_manifest
from tutti.train.reading.hot_copy import hot_copy
hashed = []
original = hashlib.sha256
class Counting:
    def __init__(self, *content):
        self.inner = original(*content)
        hashed.extend(memoryview(part).nbytes for part in content)
    def update(self, content): hashed.append(len(content)); self.inner.update(content)
    def digest(self): return self.inner.digest()
    def hexdigest(self): return self.inner.hexdigest()
hashlib.sha256 = Counting
split = hot_copy(read_manifest(Path(sys.argv[1])), "train", Path(sys.argv[2]))
print(sum(hashed) >= split.samples.nbytes, len(split.table))
"""


def test_shards_and_hot_copies_are_hashed_once_per_copy_over_processes(tmp_path: Path) -> None:
    learnable_dataset(tmp_path / "data", num_train=16, num_others=1)
    time.sleep(0.02)

    def hashed_much() -> str:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, tmp_path / "data", tmp_path / "cache"],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout or done.stderr

    assert hashed_much() == "True 16\n"  # decoded
    assert hashed_much() == "True 16\n"  # the hot copy, for the first time
    assert hashed_much() == "False 16\n"  # nothing
    (samples,) = (tmp_path / "cache" / "hot").glob("*.int16")
    content = bytearray(samples.read_bytes())
    content[1_000] ^= 1
    samples.write_bytes(content)
    assert hashed_much() == "True 16\n"  # decoded again
