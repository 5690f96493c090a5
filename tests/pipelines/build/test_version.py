"""The output folder: one build at a time, immutable versions, a pointer that is never missing."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT
from whole_manifest import manifest_content

from tutti.datasets.errors import StorageError, TryLaterError
from tutti.datasets.manifest import canonical_json, manifest_path
from tutti.pipelines.build.output import Output

HOLDER = """
import sys, time
from pathlib import Path
from tutti.pipelines.build.output import Output
output = Output(Path(sys.argv[1]))
with output.locked(0):
    (output.staging / "half").write_text("half")
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def output(tmp_path):
    return Output(tmp_path / "build" / "ultimate")


@contextlib.contextmanager
def another_build(output, hold_s=60.0):
    """A process that holds the output for some seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(output.root), str(hold_s)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def stage_version(output, dataset):
    """Put a small finished version where a build writes; answers its name."""
    path = manifest_path(output.staging)
    path.parent.mkdir(parents=True)
    path.write_text(canonical_json(manifest_content(dataset=dataset)) + "\n")
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- the lock


def test_a_second_build_is_told_to_try_later_and_who_holds_the_output(output):
    with another_build(output) as holder:
        with pytest.raises(TryLaterError) as caught, output.locked(0):
            pytest.fail("two builds at once")

        assert str(caught.value) == (
            f"{output.root} is being built by pid {holder.pid} on {socket.gethostname()}; try later or use --wait"
        )
        assert caught.value.exit_code == 75
        assert (output.staging / "half").exists()  # the first one's work is untouched


def test_a_build_waits_for_another_as_long_as_it_was_told(output):
    with another_build(output, hold_s=0.5), output.locked(30):
        assert names(output.staging) == []


def test_waiting_ends_when_its_time_is_over(output):
    with another_build(output):
        start = time.monotonic()
        with pytest.raises(TryLaterError), output.locked(0.3):
            pytest.fail("two builds at once")
        assert 0.3 <= time.monotonic() - start < 5


def test_the_lock_of_a_build_that_was_killed_is_free_at_once(output):
    with another_build(output) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()

        with output.locked(0):
            assert names(output.staging) == []  # what it left is gone


def test_the_lock_names_its_holder(output):
    with output.locked(0):
        assert (output.root / ".lock").read_text() == f"pid {os.getpid()} on {socket.gethostname()}\n"


@pytest.mark.parametrize("error", [None, ValueError])
def test_nothing_unfinished_is_left_however_a_build_ends(output, error):
    expected = pytest.raises(error) if error else contextlib.nullcontext()
    with expected, output.locked(0):
        (output.staging / "half").write_text("half")
        (output.progress / "1.json").write_text("{}")
        if error:
            raise error

    assert names(output.root) == [".lock"]


def test_an_output_can_be_locked_again_and_again(output):
    for _ in range(3):
        with output.locked(0):
            pass


def test_two_outputs_can_be_built_at_once(output, tmp_path):
    with output.locked(0), Output(tmp_path / "other").locked(0):
        pass


def test_a_file_where_the_output_should_be_is_a_storage_error_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")

    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match=r"cannot write to .*; choose another --output"), Output(root).locked(0):
            pytest.fail("built into a file")


# --- versions


def test_before_the_first_build_there_is_no_version(output):
    assert output.current() is None


def test_publishing_moves_the_staged_version_and_points_current_to_it(output):
    with output.locked(0):
        stage_version(output, "ultimate")
        manifest = output.publish()

    assert output.current() == manifest.version
    assert names(output.root) == [".lock", "current", "versions"]
    assert os.readlink(output.root / "current") == f"versions/{manifest.version}"  # relative: the folder can move
    assert manifest.content["dataset"] == "ultimate"
    assert manifest.folder == output.root / "versions" / manifest.version


def test_publishing_the_same_content_again_changes_nothing(output):
    versions = []
    for _ in range(2):
        with output.locked(0):
            stage_version(output, "ultimate")
            versions.append(output.publish().version)

    assert versions[0] == versions[1]
    assert names(output.root / "versions") == [versions[0]]


def test_an_older_version_stays_beside_the_new_one(output):
    versions = []
    for dataset in ("old", "new"):
        with output.locked(0):
            stage_version(output, dataset)
            versions.append(output.publish().version)

    assert names(output.root / "versions") == sorted(versions)
    assert output.current() == versions[1]


def test_a_build_that_fails_leaves_the_old_version(output):
    with output.locked(0):
        stage_version(output, "old")
        old = output.publish().version

    def fail():
        with output.locked(0):
            stage_version(output, "new")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()

    assert output.current() == old
    assert names(output.root) == [".lock", "current", "versions"]


def test_a_build_that_is_killed_leaves_the_old_version(output):
    with output.locked(0):
        stage_version(output, "old")
        old = output.publish().version

    with another_build(output):
        pass

    assert output.current() == old
    assert manifest_path(output.root / "current").is_file()


def test_the_pointer_is_replaced_although_an_earlier_swap_was_interrupted(output):
    output.root.mkdir(parents=True)
    (output.root / ".current.new").symlink_to("versions/nowhere")

    with output.locked(0):
        stage_version(output, "ultimate")
        version = output.publish().version

    assert output.current() == version
    assert not (output.root / ".current.new").is_symlink()


def test_readers_find_a_whole_version_at_any_moment(output):
    with output.locked(0):
        stage_version(output, "number-0")
        output.publish()
    problems, reads, done = [], [], threading.Event()

    def read():
        while not done.is_set():
            try:
                reads.append(manifest_path(output.root / "current").read_text())
            except OSError as error:
                problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        with output.locked(0):
            stage_version(output, f"number-{number % 3}")
            output.publish()
    done.set()
    reader.join()

    assert problems == []
    assert len(set(reads)) > 1
    assert set(reads) <= {canonical_json(manifest_content(dataset=f"number-{n}")) + "\n" for n in range(3)}


def test_an_output_folder_can_be_moved(output, tmp_path):
    with output.locked(0):
        stage_version(output, "ultimate")
        version = output.publish().version

    shutil.move(output.root, tmp_path / "moved")

    assert Output(tmp_path / "moved").current() == version
    assert manifest_path(tmp_path / "moved" / "current").is_file()
