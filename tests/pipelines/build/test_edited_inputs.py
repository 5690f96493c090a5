"""Inputs that change while a build runs: it says so and marks its version; the next one is as if nothing had been."""

import json
from pathlib import Path

import pytest
from own_songs import Mine, keep_time

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.build.__main__ import main
from tutti.pipelines.build.unchanged import STATE
from tutti.pipelines.verify.check import verify


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    songs = Mine(tmp_path / "mine", tmp_path, songs=8)
    (tmp_path / "corrections.csv").write_text("id,instrument,presence\nfolder/song01.wav@0,cello,1\n")
    return songs


def relabel(mine: Mine) -> None:
    mine.rows["song00.wav"] = ("song00", 1, 1)
    mine.label()


def flip(path: Path, old: str, new: str) -> None:
    keep_time(path, lambda: path.write_text(path.read_text().replace(old, new)))


# edit, flags, the file that is named
EDITS = {
    "labels, same size and time": (
        lambda m: keep_time(m.folder / "labels.csv", lambda: relabel(m)), (), "mine/labels.csv",
    ),
    "one class more": (lambda m: m.label("oboe"), (), "mine/labels.csv"),
    "audio": (lambda m: keep_time(m.folder / "song05.wav", lambda: m.add("song05", 99)), (), "mine/song05.wav"),
    "corrections": (
        lambda m: flip(m.tmp_path / "corrections.csv", "cello", "flute"),
        ("--overrides", "{0}/corrections.csv"), "corrections.csv",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edited", EDITS)
def test_a_build_that_was_overtaken_by_an_edit_says_so_and_one_more_gives_what_an_undisturbed_one_does(mine, edited):
    edit, flags, named = EDITS[edited]
    flags = tuple(flag.format(mine.tmp_path) for flag in flags)
    with mine.meanwhile(lambda: edit(mine)):
        first = mine.build(*flags)
    again = mine.build(*flags, *(["--replace"] if edited == "one class more" else []))
    undisturbed = mine.build(*flags, output="other")

    assert f"{mine.tmp_path / named}: changed while the build ran" in first["notes"]
    assert first["complete"] is False
    assert (again["root_digest"], again["version"]) == (undisturbed["root_digest"], undisturbed["version"])
    assert "complete" not in again
    assert mine.build(*flags)["changed"] is False


def labels_in(output: Path) -> object:
    return read_manifest(output).content["sources"]["folder"]["inputs"]


def test_labels_are_read_once_so_that_what_is_published_is_of_one_state(mine):
    before = mine.build(output="other")
    with mine.meanwhile(lambda: mine.label("oboe")):  # after the classes were asked for, before the rows are
        first = mine.build()

    assert first["root_digest"] == before["root_digest"]
    assert labels_in(mine.tmp_path / "out") == labels_in(mine.tmp_path / "other")
    assert read_manifest(mine.tmp_path / "out").content["incomplete"] == {"input_changed": 1}
    assert verify(read_manifest(mine.tmp_path / "out")) == []


def test_an_edit_that_changes_nothing_that_was_built_gives_the_version_that_is_there(mine):
    first = mine.build()
    (mine.tmp_path / "out" / STATE).unlink()
    with mine.meanwhile(lambda: (mine.folder / "unused.wav").write_bytes(b"listed nowhere")):
        again = mine.build()

    assert (again["version"], "complete" in again) == (first["version"], False)
    assert "unused.wav: changed while the build ran" in again["notes"]
    assert "prepare" in mine.build()["seconds"]  # not remembered


def test_a_version_of_changing_inputs_is_no_parent_and_is_not_published_elsewhere(mine):
    first = mine.build()
    with mine.meanwhile(lambda: relabel(mine)):
        code, _, noted = mine.run("--set", "write.rows_per_group=4", "--publish", str(mine.tmp_path / "shelf"))
    overtaken = read_manifest(mine.tmp_path / "out")
    again = mine.build("--set", "write.rows_per_group=4")

    assert (code, "nothing was published, for the version is in" in noted) == (75, True)
    assert not (mine.tmp_path / "shelf" / "current").exists()
    assert overtaken.content["parent"]["version"] == first["version"]
    assert read_manifest(mine.tmp_path / "out").content["parent"]["version"] == first["version"]
    assert f"is incomplete; splits hold from version {first['version']}" in again["notes"]
    code, _, said = mine.run("--parent", str(overtaken.folder))
    assert (code, "this version is incomplete (input_changed); name a complete one" in said) == (2, True)


def test_a_folder_that_is_a_link_is_looked_into(mine):
    link = mine.tmp_path / "link"
    link.symlink_to(mine.folder)
    mine.folder = link
    first = mine.build()
    keep_time(link / "song00.wav", lambda: mine.add("song00", 77))

    assert mine.build()["version"] != first["version"]


def test_an_output_within_the_input_leaves_the_build_unchanged(mine):
    places = ("--output", str(mine.folder / "build" / "mine"), "--cache-dir", str(mine.folder / "cache"))
    flags = ["--dataset", "folder", "--data-from", str(mine.folder), *places]
    assert main(flags) == 0
    manifest = read_manifest(mine.folder / "build" / "mine")
    state = json.loads((mine.folder / "build" / "mine" / STATE).read_bytes())

    assert "incomplete" not in manifest.content
    assert state["summary"]["version"] == manifest.version
    assert main(flags) == 0
    assert read_manifest(mine.folder / "build" / "mine").version == manifest.version
