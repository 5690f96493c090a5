"""Looks at inputs: whatever a build could read differently is seen, whatever a build writes itself is not."""

import os
import time
from pathlib import Path

import pytest
from own_songs import keep_time

from tutti.pipelines.build.looks import Input, Look, changed_inputs, look_at, own_names, settled_looks


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two songs and their labels, one song in a folder that lies elsewhere and is linked."""
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere" / "deep"
    folder.mkdir()
    elsewhere.mkdir(parents=True)
    (folder / "one.wav").write_bytes(b"one")
    (elsewhere / "two.wav").write_bytes(b"two")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "labels.csv").write_text("path\none.wav\n")
    return folder


def looks(folder: Path, *outputs: Path, cache: Path = Path("/nowhere")):
    wanted = Input("files", str(folder))
    return settled_looks(lambda: [wanted], lambda one: look_at(one, own_names(outputs, cache)), [folder])


def changed(before, *outputs: Path, cache: Path = Path("/nowhere")) -> list[str]:
    return changed_inputs(before, lambda one: look_at(one, own_names(outputs, cache)))


def test_what_nobody_touched_looks_the_same(data):
    before = looks(data)
    assert (before.settled, changed(before)) == (True, [])
    assert looks(data).of == before.of


def _replace(path: Path) -> None:
    path.with_name("new").write_bytes(b"eno")
    path.with_name("new").replace(path)


EDITS = {
    "same size": lambda d: (d / "one.wav").write_bytes(b"eno"),
    "same size and time": lambda d: keep_time(d / "one.wav", lambda: (d / "one.wav").write_bytes(b"eno")),
    "another file of the same size and time": lambda d: keep_time(d / "one.wav", lambda: _replace(d / "one.wav")),
    "labels": lambda d: keep_time(d / "labels.csv", lambda: (d / "labels.csv").write_text("path\ntwo.wav\n")),
    "in a linked folder": lambda d: (d / "linked" / "deep" / "two.wav").write_bytes(b"owt"),
    "one more in a linked folder": lambda d: (d / "linked" / "deep" / "three.wav").write_bytes(b"3"),
    "gone": lambda d: (d / "one.wav").unlink(),
    "renamed": lambda d: (d / "one.wav").rename(d / "other.wav"),
    "a link instead": lambda d: ((d / "one.wav").unlink(), (d / "one.wav").symlink_to("linked/deep/two.wav")),
    "a link to nowhere": lambda d: (d / "three.wav").symlink_to("nowhere.wav"),
    "a name that is no Unicode": lambda d: (Path(f"{d}/B\udcfcss.wav")).touch(),
    "the folder gone": lambda d: d.rename(d.with_name("moved")),
}


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_shows(data, edit):
    before = looks(data)
    EDITS[edit](data)

    assert changed(before) != []
    assert look_at(next(iter(before.of)), {}) != before.of[next(iter(before.of))]


@pytest.mark.parametrize(
    ("edit", "named"),
    [("labels", "labels.csv"), ("in a linked folder", "linked/deep/two.wav"), ("same size", "one.wav")],
)
def test_the_changed_file_is_named(data, edit, named):
    before = looks(data)
    EDITS[edit](data)

    assert changed(before) == [str(data / named)]


def test_a_change_within_the_tick_of_the_clock_in_which_a_file_was_written_shows(data):
    for number in range(30):  # each right after the other: the clock's tick is 4 ms, writing takes microseconds
        (data / "one.wav").write_bytes(b"a%02d" % number)
        before = looks(data)
        (data / "one.wav").write_bytes(b"b%02d" % number)
        assert (before.settled, changed(before)) == (True, [str(data / "one.wav")])


def test_a_file_of_whole_seconds_is_waited_for_and_one_of_the_future_leaves_the_look_unsettled(data):
    wanted = Input("files", str(data))
    now_ns = time.time_ns()
    begin_s = time.monotonic()
    coarse = settled_looks(lambda: [wanted], lambda _: Look("x", {}, now_ns // 10**9 * 10**9), [data])
    assert (coarse.settled, time.monotonic() - begin_s > 0.9) == (True, True)

    begin_s = time.monotonic()
    future = settled_looks(lambda: [wanted], lambda _: Look("x", {}, now_ns + 3_600 * 10**9), [data])
    assert (future.settled, time.monotonic() - begin_s < 0.5) == (False, True)


def test_links_in_a_circle_and_pipes_hold_nobody_up(data):
    (data / "linked" / "deep" / "up").symlink_to(data)
    (data / "itself").symlink_to("itself")
    os.mkfifo(data / "pipe.wav")
    before = looks(data)
    (data / "linked" / "deep" / "two.wav").write_bytes(b"owt")

    assert changed(before) == [str(data / "linked" / "deep" / "two.wav")]


def test_what_came_through_a_pipe_is_neither_changed_nor_remembered(data):
    reading, writing = os.pipe()
    os.write(writing, b"folder/one.wav*")
    before = looks(Path(f"/dev/fd/{reading}"))
    os.read(reading, 100)
    os.close(writing)

    assert [seen.digest for seen in before.of.values()] == [None]
    assert changed(before) == []
    os.close(reading)


def test_a_table_written_through_a_mapping_that_was_dirty_before_shows(data):
    import mmap

    path = data / "labels.csv"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[5:8] = b"ONE"  # the page is dirty now: what is written later leaves no time
        before = looks(data)
        mapped[5:8] = b"TWO"

        assert changed(before) != []


# --- an output, or a cache, within an input


@pytest.mark.parametrize("below", [".", "build/mine"])
def test_what_a_build_writes_into_an_input_does_not_count_but_what_lies_beside_it_does(data, below):
    output, cache = data / below, data / "cache"
    before = looks(data, output, cache=cache)
    for path in (
        output / "versions" / "0" / "data" / "a.parquet", output / ".building" / "b", output / ".lock",
        output / "run.log", output / ".unchanged.json", output / "current", cache / "blobs" / "00" / "c",
        cache / "stages" / "d",
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")

    assert changed(before, output, cache=cache) == []
    assert looks(data, output, cache=cache).of == before.of
    (output / "mine.wav").write_text("x")
    assert changed(before, output, cache=cache) == [str(output / "mine.wav")]


def test_a_log_beside_the_audio_is_no_change_of_the_input_but_the_build_is_not_remembered(data):
    before = looks(data)
    (data / "build.log").write_text("the build's own stderr")

    assert changed(before) == []
    assert looks(data).of != before.of


# --- versions


def test_a_version_named_by_its_output_root_is_another_one_once_current_points_elsewhere(tmp_path):
    for name in ("a", "b"):
        manifest = tmp_path / "versions" / name / "manifest" / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}")
    (tmp_path / "current").symlink_to("versions/a")
    wanted = Input("version", str(tmp_path))
    first = look_at(wanted, {})
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("versions/b")

    assert look_at(wanted, {}).digest != first.digest
