"""Rebuilds: what has not changed is not done again, what has changed is done once, and songs keep their split."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from own_songs import Mine

from tutti.datasets.errors import IntegrityError
from tutti.datasets.files import write_file
from tutti.datasets.manifest import Manifest, canonical_json, read_manifest
from tutti.pipelines.build.__main__ import main
from tutti.pipelines.build.output import publish_to
from tutti.pipelines.build.unchanged import STATE
from tutti.pipelines.lineage import lineage, next_release
from tutti.pipelines.versions import main as versions


@pytest.fixture
def mine(tmp_path):
    """Thirty songs of one's own, with a command that builds them."""
    return Mine(tmp_path / "mine", tmp_path)


# --- nothing has changed


def test_an_unchanged_build_is_answered_without_beam(mine, monkeypatch):
    first = mine.build()
    again = mine.build()

    assert (first["changed"], again["changed"], again["version"]) == (True, False, first["version"])
    assert set(again["seconds"]) == {"total"}  # no stage ran
    assert again["work"]["prepare"] == {"reused": 30, "computed": 0}
    assert {name: again[name] for name in ("clips", "splits", "sources")} == {
        name: first[name] for name in ("clips", "splits", "sources")
    }


def test_a_build_that_found_everything_in_the_caches_is_answered_next_time_too(mine):
    flags = ("--direct-running-mode", "in_memory", "--direct_num_workers=1")
    mine.build(*flags)
    (mine.tmp_path / "out" / STATE).unlink()
    through_beam = mine.build(*flags)
    again = mine.build(*flags)

    assert "prepare" in through_beam["seconds"]
    assert set(again["seconds"]) == {"total"}


@pytest.mark.parametrize("what", ["input", "output", "flags", "labels"])
def test_whatever_changes_the_build_runs(mine, what):
    first = mine.build()
    flags = ()
    if what == "input":
        mine.add("song00", 99)
    elif what == "output":
        (mine.tmp_path / "out" / "current" / "README.md").unlink()
    elif what == "flags":
        flags = ("--set", "clean.min_duration_s=0.5")
    else:
        mine.rows["song00.wav"] = ("song00", 1, 1)
        mine.label()
    again = mine.build(*flags)

    assert "prepare" in again["seconds"]
    assert again["changed"] is (what != "output")
    assert first["version"] != again["version"] or what == "output"
    assert run_verify(mine.tmp_path / "out").returncode == 0  # what was lost is there again


def test_a_file_replaced_under_the_same_size_and_time_is_noticed(mine):
    first = mine.build()
    path = mine.folder / "song00.wav"
    before = path.stat()
    mine.add("song00", 99)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert path.stat().st_size == before.st_size
    assert mine.build()["version"] != first["version"]


# --- one thing has changed


def test_one_changed_clip_computes_one_clip_and_one_shard(mine):
    mine.build("--set", "write.rows_per_shard=4")
    mine.add("song07", 99)
    again = mine.build("--set", "write.rows_per_shard=4")

    assert again["work"]["prepare"] == {"reused": 29, "computed": 1}
    assert again["work"]["write"]["computed"] == 1
    assert again["work"]["write"]["reused"] >= 7


def test_another_late_setting_redoes_no_early_stage(mine):
    mine.build()
    again = mine.build("--set", "write.rows_per_group=4")

    assert again["work"]["prepare"] == {"reused": 30, "computed": 0}
    assert again["work"]["write"]["computed"] == 3


def test_a_shard_that_rotted_on_disk_is_written_anew_not_linked(mine):
    first = mine.build()
    flip_a_bit(mine.tmp_path / "out")
    mine.rows["song00.wav"] = ("song00", 1, 1)
    mine.label()
    again = mine.build()

    assert again["version"] != first["version"]
    assert run_verify(mine.tmp_path / "out").returncode == 0


def run_verify(folder):
    command = [sys.executable, "-m", "pipelines.verify", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


# --- songs keep their split


def test_songs_keep_their_split_when_others_come_and_go(mine):
    mine.build()
    before = mine.splits()
    for number in range(30, 50):
        mine.add(f"song{number}", number)
    for name in ("song03", "song11"):
        (mine.folder / f"{name}.wav").unlink()
        del mine.rows[f"{name}.wav"]
    mine.label()
    mine.build()
    after = mine.splits()

    assert {name: after[name] for name in before if name in after} == {
        name: split for name, split in before.items() if name in after
    }
    assert len(after) == 48
    shares = [sum(split == name for split in after.values()) / 48 for name in ("train", "validation", "test")]
    assert shares == pytest.approx([0.65, 0.175, 0.175], abs=0.05)


def test_without_a_parent_songs_are_dealt_anew(mine):
    mine.build()
    before = mine.splits()
    for number in range(30, 60):
        mine.add(f"song{number}", number)
    mine.label()
    mine.build("--parent", "none")
    after = mine.splits()

    assert any(after[name] != split for name, split in before.items())


def test_other_split_rules_do_not_stick_to_the_current_version(mine):
    mine.build("--seed", "0")
    first = mine.splits()
    mine.build("--seed", "1")

    assert mine.splits() != first


def test_a_new_clip_of_a_known_song_joins_it(mine):
    mine.build()
    song, split = next((name, split) for name, split in mine.splits().items() if split == "test")
    mine.add("encore", 77, group=mine.rows[song][0])
    mine.label()
    mine.build()

    assert mine.splits()["encore.wav"] == split


def test_a_duplicate_that_links_songs_across_splits_costs_itself_and_no_clip_of_its_song(mine):
    mine.build()
    before = mine.splits()
    train = next(name for name, split in before.items() if split == "train")
    tests = [name for name, split in before.items() if split == "test"]
    test = next(name for name in tests if mine.rows[name][1:] == mine.rows[train][1:])
    # A song that is two: one clip equals a test clip, and its group holds a training clip.
    shutil.copy(mine.folder / test, mine.folder / "copy.wav")
    mine.rows["copy.wav"] = (mine.rows[train][0], *mine.rows[test][1:])
    mine.label()
    mine.build()
    rows = {row["recording"].rpartition("/")[2]: row for row in read_manifest(mine.tmp_path / "out").clip_rows()}

    assert rows[test]["split"] == "test"
    assert rows[train]["split"] == "train"
    assert (rows["copy.wav"]["status"], rows["copy.wav"]["reason"]) == ("rejected", "duplicate")
    assert rows["copy.wav"]["detail"] == f"same audio as folder/{test}@0"


def test_of_equal_clips_the_one_that_was_kept_stays_though_a_lower_name_comes(mine):
    mine.build()
    name, split = next((name, split) for name, split in mine.splits().items() if split == "validation")
    shutil.copy(mine.folder / name, mine.folder / "a_copy.wav")
    mine.rows["a_copy.wav"] = ("a copy", *mine.rows[name][1:])
    mine.label()
    mine.build()

    assert (mine.splits()[name], mine.splits()["a_copy.wav"]) == (split, None)
    (mine.tmp_path / "out" / STATE).unlink()
    assert mine.build()["changed"] is False


# --- releases


def parent_version(folder):
    content = {
        "schema_version": 2, "instruments": ["a"], "clips": [], "root_digest": "1", "tools": {},
        "release": "1.2.3", "parent": None,
    }  # fmt: skip
    write_file(folder / "manifest" / "manifest.json", canonical_json(content).encode())
    return Manifest(folder, content)


@pytest.mark.parametrize(
    ("change", "release"),
    [
        ({}, "1.2.3"),
        ({"root_digest": "2"}, "2.0.0"),
        ({"clips": [{"path": "x"}]}, "1.3.0"),
        ({"tools": {"pyarrow": "99"}}, "1.2.4"),
    ],
)
def test_the_release_says_what_kind_of_change_it_is(change, release, tmp_path):
    parent = parent_version(tmp_path)
    content = {name: value for name, value in parent.content.items() if name not in ("release", "parent")}

    assert lineage({**content, **change}, parent)["release"] == release


def test_a_first_version_has_no_parent():
    assert lineage({"root_digest": "1"}, None) == {"release": "1.0.0", "parent": None}
    assert next_release("1.9.9", 1) == "1.10.0"


# --- publishing


def test_a_version_is_published_by_a_verified_copy_and_a_swapped_pointer(mine):
    shelf = mine.tmp_path / "shelf"
    version = mine.build("--publish", str(shelf))["version"]

    assert (shelf / "current").readlink().name == version
    assert read_manifest(shelf).version == version
    assert run_verify(shelf).returncode == 0
    assert mine.build("--publish", str(shelf))["version"] == version


def flip_a_bit(root):
    shard = next((root / "current" / "data").glob("train-*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def test_a_damaged_version_is_not_published(mine):
    mine.build()
    flip_a_bit(mine.tmp_path / "out")
    shelf = mine.tmp_path / "shelf"

    with pytest.raises(IntegrityError, match="nothing was published"):
        publish_to(shelf, read_manifest(mine.tmp_path / "out"))
    assert not (shelf / "current").exists()


def test_a_rebuild_replaces_a_damaged_version_of_the_same_name(mine):
    first = mine.build()
    flip_a_bit(mine.tmp_path / "out")
    again = mine.build()

    assert (again["version"], again["work"]["write"]) == (first["version"], {"reused": 2, "computed": 1})
    assert run_verify(mine.tmp_path / "out").returncode == 0


# --- drift


def test_a_version_that_lost_too_much_is_not_published(mine, capsys):
    first = mine.build()
    for name in list(mine.rows)[:6]:
        (mine.folder / name).unlink()
        del mine.rows[name]
    mine.label()
    places = ("--output", str(mine.tmp_path / "out"), "--cache-dir", str(mine.tmp_path / "cache"))
    limits = ("--set", "drift.gone=0.1", "--set", "drift.added=0")
    assert main(["--dataset", "folder", "--data-from", str(mine.folder), *places, *limits]) == 4

    assert "gone 20.00% (at most 10.00%); nothing was published" in capsys.readouterr().err
    assert read_manifest(mine.tmp_path / "out").version == first["version"]
    assert mine.build("--set", "drift.gone=0.2")["clips"]["kept"] == 24


# --- old versions


def test_old_versions_go_but_not_the_current_its_parent_the_newest_or_the_young(mine, capsys):
    root = mine.tmp_path / "out"
    names = [mine.build("--set", f"write.rows_per_group={rows}")["version"] for rows in (2, 4, 8, 16)]
    for age, name in enumerate(reversed(names)):
        os.utime(root / "versions" / name / "manifest" / "manifest.json", (1_700_000_000 - age, 1_700_000_000 - age))
    versions(["gc", str(root), "--keep", "1", "--dry-run"])
    assert len(list((root / "versions").iterdir())) == 4

    capsys.readouterr()
    assert versions(["gc", str(root), "--keep", "1", "--json"]) == 0
    assert {entry["version"] for entry in json.loads(capsys.readouterr().out)["removed"]} == set(names[:2])
    assert {folder.name for folder in (root / "versions").iterdir()} == set(names[2:])
    assert run_verify(root).returncode == 0  # linked shards live on
    os.utime(root / "versions" / names[2] / "manifest" / "manifest.json")
    assert versions(["gc", str(root), "--keep", "1"]) == 0
    assert (root / "versions" / names[2]).is_dir()


@pytest.mark.parametrize("left", ["all of it", "all but the manifest"])
def test_a_removal_that_was_interrupted_leaves_no_version_to_be_seen_and_is_finished_by_the_next_one(
    mine, capsys, left
):
    root = mine.tmp_path / "out"
    names = [mine.build("--set", f"write.rows_per_group={rows}")["version"] for rows in (2, 4)]
    hidden = root / "versions" / f".removed-{names[0]}"
    shutil.copytree(root / "versions" / names[0], hidden)  # killed after it was renamed, here while it came back
    if left != "all of it":
        (hidden / "manifest" / "manifest.json").unlink()
    capsys.readouterr()

    assert versions(["list", str(root)]) == 0
    assert capsys.readouterr().out.count("clips") == 2
    assert versions(["gc", str(root), "--dry-run"]) == 0
    assert hidden.is_dir()
    assert versions(["gc", str(root)]) == 0
    assert {folder.name for folder in (root / "versions").iterdir()} == set(names)


def test_versions_are_listed_with_the_current_one_marked(mine, capsys):
    version = mine.build()["version"]
    capsys.readouterr()

    assert versions(["list", str(mine.tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith(f"{version}  1.0.0 ")
    assert versions(["list", str(mine.tmp_path)]) == 2
