"""Temporary files and folders: what a living process holds stays, what a dead one left goes, in whatever container."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from tutti.datasets.files import atomic_file, atomic_folder, sweep, temporary_file, temporary_folder, temporary_path

DAY_S = 86_400

WRITER = """
import sys
from pathlib import Path
from tutti.datasets.files import atomic_file, temporary_folder
folder = Path(sys.argv[1])
with temporary_folder(folder) as made, atomic_file(folder / "target") as stream:
    (made / "part").write_bytes(b"half")
    stream.write(b"half")
    stream.flush()
    print("writing", flush=True)
    sys.stdin.readline()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def writing(folder, *around):
    """A process that holds a temporary file and a temporary folder."""
    command = [*around, sys.executable, "-c", WRITER, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def other_container():
    """What starts a process in namespaces of its own: other process numbers, another host name."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--uts", "--mount-proc"]
    allowed = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    if not allowed:
        pytest.skip("needs the right to make namespaces")
    return [*command, "sh", "-c", 'hostname "$0" && exec "$@"', "the-other-host"]


@pytest.mark.parametrize("container", [False, True], ids=["same numbers", "numbers of its own"])
def test_what_a_living_process_writes_stays_and_what_it_leaves_when_killed_goes(tmp_path, container):
    with writing(tmp_path, *(other_container() if container else ())):
        before = names(tmp_path)
        sweep(tmp_path)
        assert (len(before), names(tmp_path)) == (2, before)

    deadline_s = time.monotonic() + 10  # the kernel takes a moment to end all of a container
    while names(tmp_path) and time.monotonic() < deadline_s:
        sweep(tmp_path)

    assert names(tmp_path) == []


def test_what_a_living_process_wrote_under_way_is_published_whole_whatever_others_sweep(tmp_path):
    with writing(tmp_path, *other_container()) as process:
        sweep(tmp_path)
        process.communicate("go on\n", timeout=60)

    assert (names(tmp_path), (tmp_path / "target").read_bytes()) == (["target"], b"half")


def by_another_machine(path):
    """The same file under the name that a machine with another kernel would have given it."""
    stem, _, token, suffix = path.name.rsplit(".", 3)
    return path.with_name(f"{stem}.00000000.{token}.{suffix}")


@pytest.mark.parametrize("name", ["file", "folder"])
def test_what_another_machine_left_goes_when_nobody_touched_it_for_a_day(tmp_path, name):
    path = by_another_machine(temporary_path(tmp_path, "x"))
    if name == "folder":
        path.mkdir()
        (path / "part").touch()
    else:
        path.touch()

    sweep(tmp_path)
    assert names(tmp_path) == [path.name]

    then_s = time.time() - DAY_S - 60
    for old in (*path.glob("*"), path):
        os.utime(old, (then_s, then_s))
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_of_another_machine_is_as_young_as_the_youngest_file_in_it(tmp_path):
    path = by_another_machine(temporary_path(tmp_path, "x"))
    path.mkdir()
    (path / "growing.part").touch()
    os.utime(path, (0, 0))

    sweep(tmp_path)

    assert names(path) == ["growing.part"]


def test_what_another_machine_still_holds_by_a_lock_stays_however_old_it_is(tmp_path):
    with temporary_file(tmp_path, "x", what="x") as (path, _):
        held = path.rename(by_another_machine(path))
        os.utime(held, (0, 0))
        sweep(tmp_path)
        assert names(tmp_path) == [held.name]


def test_a_name_of_an_older_version_of_tutti_goes_by_age(tmp_path):
    old = tmp_path / ".x.host.123-456.tmp"
    old.touch()

    sweep(tmp_path)
    assert names(tmp_path) == [old.name]
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_link_among_the_temporary_files_never_leads_a_sweep_elsewhere(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "mine.wav").touch()
    link = temporary_path(inside, "x")
    link.symlink_to(outside)
    os.utime(link, (0, 0), follow_symlinks=False)

    sweep(inside)

    assert (names(inside), names(outside)) == ([], ["mine.wav"])


def test_two_writers_of_one_file_never_share_a_temporary_one(tmp_path):
    with atomic_file(tmp_path / "x") as first, atomic_file(tmp_path / "x") as second:
        assert len(names(tmp_path)) == 2
        first.write(b"first")
        second.write(b"second")

    assert (names(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"first")


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path):
    name = "é" * 127
    with atomic_file(tmp_path / name) as stream:
        stream.write(b"abc")

    assert names(tmp_path) == [name]


@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_appears_whole_or_not_at_all(tmp_path, fails):
    with contextlib.suppress(KeyError), atomic_folder(tmp_path / "made") as folder:
        (folder / "a").touch()
        if fails:
            raise KeyError

    assert names(tmp_path) == ([] if fails else ["made"])


def test_a_temporary_folder_is_gone_with_its_block(tmp_path):
    with temporary_folder(tmp_path) as folder:
        (folder / "a").touch()

    assert names(tmp_path) == []
