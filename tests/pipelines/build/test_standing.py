"""What stands in an output: a damaged `current` is built anew, another dataset or a user's file is never replaced."""

import json
import os
import shutil
from pathlib import Path

import pytest
from own_songs import Mine

from tutti.datasets.manifest import canonical_json, read_manifest
from tutti.pipelines.versions import main as versions


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of twelve songs: of the second, song00 is said to have a cello too."""
    folder = tmp_path_factory.mktemp("standing")
    mine = Mine(folder / "mine", folder, songs=12)
    mine.build()
    mine.rows["song00.wav"] = ("song00", 1, 1)
    mine.label()
    mine.build()
    return folder


@pytest.fixture
def mine(built: Path, tmp_path: Path) -> Mine:
    shutil.copytree(built, tmp_path / "copy", symlinks=True)
    songs = Mine.__new__(Mine)
    songs.folder, songs.tmp_path = tmp_path / "copy" / "mine", tmp_path / "copy"
    songs.rows = {f"song{number:02d}.wav": (f"song{number:02d}", number % 2, 1 - number % 2) for number in range(12)}
    songs.rows["song00.wav"] = ("song00", 1, 1)
    return songs


def names(mine: Mine) -> tuple[str, str]:
    """The older and the current version."""
    current = (mine.tmp_path / "out" / "current").readlink().name
    (older,) = {path.name for path in (mine.tmp_path / "out" / "versions").iterdir()} - {current}
    return older, current


def point(mine: Mine, target: str) -> None:
    link = mine.tmp_path / "out" / "current"
    link.unlink()
    link.symlink_to(target)


def damage(path: Path, content: bytes) -> None:
    path.unlink()  # it may be linked into another version
    path.write_bytes(content)


# --- a damaged current version


def flip_in(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    damage(path, content.replace(old, new, 1))


def manifest_of(mine: Mine, name: str) -> Path:
    return mine.tmp_path / "out" / "versions" / name / "manifest" / "manifest.json"


DAMAGES = {
    "points nowhere": lambda m, name: point(m, "versions/0123456789ab"),
    "points to a file": lambda m, name: point(m, "run.log"),
    "points elsewhere": lambda m, name: point(m, "../mine"),
    "points to itself": lambda m, name: point(m, "current"),
    "is gone": lambda m, name: shutil.rmtree(manifest_of(m, name).parents[1]),
    "is no JSON": lambda m, name: damage(manifest_of(m, name), b"{" * 100_000),
    "breaks the schema": lambda m, name: damage(manifest_of(m, name), b'{"schema_version": 2}'),
    "has another release": lambda m, name: flip_in(manifest_of(m, name), b'"release":"2.0.0"', b'"release":"3.0.0"'),
    "has other rows": lambda m, name: [
        damage(path, path.read_bytes().replace(b'"train"', b'"test"'))
        for path in sorted(manifest_of(m, name).parent.glob("clips/*.jsonl"))
    ],
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_current_version_is_built_anew_and_songs_keep_their_split(mine, how):
    older, current = names(mine)
    splits = mine.splits()
    DAMAGES[how](mine, current)
    again = mine.build()

    assert "it is built anew, splits hold from version " in again["notes"]
    assert mine.splits() == splits
    assert (mine.tmp_path / "out" / "current").readlink() == Path("versions") / again["version"]
    # From the older version the damaged one came about, so it is what comes about again; where only the pointer was
    # wrong, the newest version is what stands there.
    assert again["version"] == current
    assert versions(["use", str(mine.tmp_path / "out"), older]) == 0


def test_where_no_version_is_sound_any_more_the_dataset_is_built_as_the_first_time(mine):
    for name in names(mine):
        damage(manifest_of(mine, name), b"\xff")
    again = mine.build()
    fresh = mine.build(output="fresh")

    assert "splits hold from nothing" in again["notes"]
    assert (again["root_digest"], again["version"]) == (fresh["root_digest"], fresh["version"])


# --- what is the user's


@pytest.mark.parametrize("name", ["current", "versions", ".building", ".progress", ".lock", "run.log"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_users_own_file_or_folder_is_never_touched(mine, name, kind):
    output = mine.tmp_path / "theirs"
    theirs = output / name if kind == "file" else output / name / "notes.txt"
    if (name, kind) == ("versions", "folder"):
        theirs = output / ".building" / "notes.txt"  # a folder of this name takes versions beside what is in it
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    before = sorted(output.rglob("*"))
    code, _, noted = mine.run(output="theirs")

    assert (code, noted.count("\n"), "move it away, or choose another" in noted) == (2, 1, True), noted
    assert (theirs.read_text(), sorted(output.rglob("*"))) == ("mine", before)


def test_a_lock_that_is_a_link_is_not_followed(mine):
    output, theirs = mine.tmp_path / "theirs", mine.tmp_path / "precious.txt"
    theirs.write_text("mine")
    output.mkdir()
    (output / ".lock").symlink_to(theirs)

    assert mine.run(output="theirs")[0] == 2
    assert theirs.read_text() == "mine"


def test_a_version_folder_is_no_output(mine):
    version = mine.tmp_path / "out" / "versions" / names(mine)[1]
    before = sorted(version.rglob("*"))
    code, _, noted = mine.run(output=f"out/versions/{version.name}")

    assert (code, "is a version folder, which never changes; name an output root" in noted) == (2, True)
    assert sorted(version.rglob("*")) == before


def test_a_users_current_on_the_shelf_is_found_before_the_work_begins(mine):
    shelf = mine.tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "current").write_text("mine")
    code, _, noted = mine.run("--publish", str(shelf), output="new")

    assert (code, f"{shelf / 'current'}: was not made by a build" in noted) == (2, True)
    assert (shelf / "current").read_text() == "mine"
    assert not (mine.tmp_path / "new").exists()


# --- another dataset


def other_name(mine: Mine) -> None:
    """As if the current version were of another recipe."""
    manifest = read_manifest(mine.tmp_path / "out")
    recipe = {**manifest.content["recipe"], "name": "ultimate"}
    content = {**manifest.content, "dataset": "ultimate", "recipe": recipe}
    staged = mine.tmp_path / "staged"
    shutil.copytree(manifest.folder, staged)
    damage(staged / "manifest" / "manifest.json", (canonical_json(content) + "\n").encode())
    name = read_manifest(staged).version
    staged.rename(mine.tmp_path / "out" / "versions" / name)
    point(mine, f"versions/{name}")


def one_more_class(mine: Mine) -> None:
    mine.label("oboe")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_name, "holds dataset 'ultimate', this build makes 'folder'; choose another --output, or pass --replace"),
        (one_more_class, "holds 'folder' with other classes, this build adds oboe; choose another --output"),
    ],
)
def test_another_dataset_takes_no_ones_place_unless_told(mine, change, words):
    change(mine)
    pointer = (mine.tmp_path / "out" / "current").readlink()
    code, _, noted = mine.run()

    assert (code, words in noted, noted.count("\n")) == (2, True, 1), noted
    assert (mine.tmp_path / "out" / "current").readlink() == pointer
    replaced = mine.build("--replace")
    assert replaced["changed"] is True
    assert versions(["use", str(mine.tmp_path / "out"), pointer.name]) == 0


def test_another_dataset_is_not_published_over_one_either(mine):
    mine.build("--publish", str(mine.tmp_path / "shelf"))
    pointer = (mine.tmp_path / "shelf" / "current").readlink()
    mine.label("oboe")
    code, _, noted = mine.run("--publish", str(mine.tmp_path / "shelf"), output="new")

    assert (code, "choose another --publish, or pass --replace" in noted) == (2, True)
    assert not (mine.tmp_path / "new").exists()
    assert mine.build("--publish", str(mine.tmp_path / "shelf"), "--replace", output="new")["changed"] is True
    assert (mine.tmp_path / "shelf" / "current").readlink() != pointer


# --- what a rebuild drops


def test_a_rebuild_that_drops_corrections_exclusions_or_settings_says_what(mine):
    corrections, exclusions = mine.tmp_path / "c.csv", mine.tmp_path / "e.txt"
    lines = [f"folder/song{number:02d}.wav@0,flute,1" for number in range(1, 4)]
    corrections.write_text("\n".join(["id,instrument,presence", *lines, ""]))
    exclusions.write_text("folder/song09.wav*\n")
    flags = ("--overrides", str(corrections), "--exclude", str(exclusions), "--limit", "11")
    assert "drops" not in mine.build(*flags)["notes"]
    corrections.write_text("\n".join(["id,instrument,presence", lines[0], ""]))
    fewer = mine.build(*flags)["notes"]
    none = mine.build()["notes"]

    assert "this build drops 2 corrections of the current version; pass --overrides FILE to keep them" in fewer
    assert "this build drops 1 correction of the current version; pass --overrides FILE to keep them" in none
    assert "this build drops 1 exclusion of the current version; pass --exclude FILE to keep them" in none
    assert "this build differs in settings from the current version: select.limit 11 -> null" in none


# --- going back


def test_use_goes_back_and_the_next_build_makes_what_the_inputs_say(mine, capsys):
    older, current = names(mine)
    root = str(mine.tmp_path / "out")
    remembered = mine.build()
    assert remembered["changed"] is False
    assert versions(["use", root, older]) == 0
    assert capsys.readouterr().out == f"{older} is current now, before it {current}\n"
    assert versions(["list", root]) == 0
    assert f"{older}  1.0.0 " in capsys.readouterr().out.partition("<- current")[0].splitlines()[-1]
    again = mine.build()

    assert (again["changed"], again["version"]) == (True, current)
    assert "prepare" in again["seconds"]  # not answered from memory


@pytest.mark.parametrize("version", ["0123456789ab", "..", "../mine", "current", "", "\x1b[2J"])
def test_use_refuses_what_is_no_version(mine, capsys, version):
    pointer = (mine.tmp_path / "out" / "current").readlink()

    assert versions(["use", str(mine.tmp_path / "out"), version]) == 2
    assert "no version" in capsys.readouterr().err
    assert (mine.tmp_path / "out" / "current").readlink() == pointer


def test_use_refuses_a_damaged_version_and_an_output_that_is_being_built(mine, capsys):
    older, _ = names(mine)
    pointer = (mine.tmp_path / "out" / "current").readlink()
    shard = next((mine.tmp_path / "out" / "versions" / older / "data").glob("train*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    damage(shard, bytes(content))

    assert versions(["use", str(mine.tmp_path / "out"), older]) == 3
    assert f"version {older} was not made current" in capsys.readouterr().err
    assert (mine.tmp_path / "out" / "current").readlink() == pointer
    assert versions(["use", str(mine.tmp_path / "nowhere"), older]) == 2
    assert not (mine.tmp_path / "nowhere").exists()


def test_a_damaged_version_is_named_and_without_a_current_one_nothing_is_removed(mine, capsys):
    older, current = names(mine)
    root = str(mine.tmp_path / "out")
    damage(manifest_of(mine, older), b"{}")
    assert versions(["list", root]) == 0
    said = capsys.readouterr()
    assert (said.out.startswith(current), f"note: version {older} is damaged and left out" in said.err) == (True, True)

    shutil.copytree(
        manifest_of(mine, current).parents[1], mine.tmp_path / "out" / "versions" / older, dirs_exist_ok=True
    )
    damage(manifest_of(mine, current), b"{}")
    assert versions(["gc", root, "--keep", "1", "--grace-days", "0"]) == 3
    assert "the current version is gone or damaged, so nothing was removed" in capsys.readouterr().err
    assert manifest_of(mine, older).is_file()


# --- after publishing nothing fails


@pytest.mark.parametrize("point", ["written:*.unchanged.json", "renamed:*.unchanged.json"])
def test_a_disk_that_is_full_after_publishing_costs_only_the_memory_of_it(mine, monkeypatch, point):
    monkeypatch.setenv("TUTTI_FAIL_AT", point)
    summary = mine.build("--set", "write.rows_per_group=4")
    monkeypatch.delenv("TUTTI_FAIL_AT")

    assert "the next build will not be answered from memory" in summary["notes"]
    assert (mine.tmp_path / "out" / "current").readlink().name == summary["version"]
    assert mine.build("--set", "write.rows_per_group=4")["changed"] is False


def test_a_shelf_that_cannot_be_written_fails_and_says_where_the_version_is(mine):
    (mine.tmp_path / "file").write_text("no folder")
    code, _, noted = mine.run("--publish", str(mine.tmp_path / "file" / "shelf"))
    version = read_manifest(mine.tmp_path / "out").folder

    assert code == 74
    assert f"error: --publish {mine.tmp_path / 'file' / 'shelf'}: cannot write to" in noted
    assert f"the version is in {version}" in noted


def test_a_version_that_rotted_on_the_shelf_is_published_again(mine):
    shelf = mine.tmp_path / "shelf"
    version = mine.build("--publish", str(shelf))["version"]
    shutil.rmtree(shelf / "versions" / version / "data")
    mine.build("--publish", str(shelf))

    assert len(list((shelf / "versions" / version / "data").iterdir())) == 3


def test_a_summary_that_cannot_be_written_is_an_error_that_says_what_is_there(mine):
    import subprocess
    import sys

    command = [
        sys.executable, "-m", "pipelines.build", "--dataset", "folder", "--data-from", str(mine.folder),
        "--output", str(mine.tmp_path / "out"), "--cache-dir", str(mine.tmp_path / "cache"),
        "--set", "write.rows_per_group=8",
    ]  # fmt: skip
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=os.getcwd())

    assert ended.returncode == 74
    assert ended.stderr.endswith("error: stdout: No space left on device; what was built is published\n")
    assert json.loads((mine.tmp_path / "out" / "current" / "manifest" / "manifest.json").read_text())
