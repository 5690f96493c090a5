"""A build that is refused says which clips were not kept and why, keeps their rows, and names the command for them."""

import json
import shlex
from pathlib import Path

import pytest
from own_songs import Mine

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.build.failed import first_rejects
from tutti.pipelines.build.looks import OUTPUT
from tutti.pipelines.build.output import LAST_FAILED, OURS
from tutti.pipelines.info import main as info
from tutti.pipelines.rows import reject_line

NONE = ("--embedder", "none")


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    songs = Mine(tmp_path / "mine", tmp_path, songs=13)
    for name in songs.rows:
        (songs.folder / name).write_bytes(b"this is no audio")
    songs.add("short", 0)
    content = (songs.folder / "short.wav").read_bytes()
    (songs.folder / "short.wav").write_bytes(content[:44] + content[44 : 44 + 400])
    songs.label()
    return songs


def row(clip_id: str, reason: str | None, **fields: object) -> dict[str, object]:
    return {
        "id": clip_id,
        "status": "rejected" if reason else "kept",
        **({"reason": reason} if reason else {}),
        **fields,
    }


def test_where_nothing_is_kept_the_first_rejects_of_each_reason_are_shown_and_a_good_build_clears_up(mine, capsys):
    code, said, noted = mine.run(*NONE)
    first, *listed, more, command = noted.splitlines()
    kept = mine.tmp_path / "out" / LAST_FAILED

    assert (code, said) == (5, "")
    assert first.startswith("error: folder: no clip was kept; reasons: {'")
    assert len(listed) == 10
    assert any(line.startswith("  folder/song00.wav@0: undecodable, ") for line in listed)
    assert any(line.startswith("  folder/short.wav@0: t") for line in listed)
    assert more == "  and 4 more"
    assert command == f"  all rows: python -m pipelines.info {kept} --rejects"
    assert not (mine.tmp_path / "out" / "current").exists()

    assert info(shlex.split(command)[-2:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14
    assert set(map(str.strip, listed)) <= set(lines)
    assert info([*shlex.split(command)[-2:], "--json"]) == 0
    assert {json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()} == {
        line.partition(": ")[0] for line in lines
    }
    assert {row["status"] for row in read_manifest(kept).clip_rows()} == {"rejected"}

    assert mine.run(*NONE)[0] == 5  # it takes the place of the first
    assert sorted(path.name for path in kept.iterdir()) == ["manifest"]
    mine.add("song00", 0)
    assert mine.build(*NONE)["clips"]["kept"] == 1
    assert not kept.exists()


def test_a_version_that_is_refused_for_its_yield_leaves_the_one_before_and_its_rows(mine):
    mine.add("song00", 0)
    before = mine.build(*NONE)
    code, _, noted = mine.run(*NONE, "--min-yield", "0.9")

    assert (code, "less than --min-yield 0.9" in noted, "song01.wav@0: undecodable" in noted) == (5, True, True)
    assert read_manifest(mine.tmp_path / "out").version == before["version"]
    assert len(list(read_manifest(mine.tmp_path / "out" / LAST_FAILED).clip_rows())) == 14


def test_a_folder_of_that_name_that_no_build_made_is_not_touched(mine):
    (mine.tmp_path / "out" / LAST_FAILED).mkdir(parents=True)
    (mine.tmp_path / "out" / LAST_FAILED / "thesis.txt").write_text("mine")
    code, _, noted = mine.run(*NONE)

    assert (code, "was not made by a build; move it away" in noted) == (2, True)
    assert (mine.tmp_path / "out" / LAST_FAILED / "thesis.txt").read_text() == "mine"


def test_what_builds_write_into_an_output_is_no_input_of_theirs():
    assert set(OURS) == set(OUTPUT)


def test_the_first_of_each_reason_come_first_and_no_more_than_asked_for():
    rows = [row(f"a/{n:02}@0", "silent") for n in range(20)] + [
        row("b@0", None),
        row("c@0", "gone"),
        row("d@0", "gone"),
    ]

    assert [one["id"] for one in first_rejects(rows, 4)] == ["a/00@0", "c@0", "a/01@0", "a/02@0"]
    assert list(first_rejects(rows[20:21], 4)) == []


def test_a_reject_is_one_line_with_value_and_detail():
    assert reject_line(row("a/b@0", "silent", value=0.93)) == "a/b@0: silent 0.93"
    assert reject_line(row("a/b@0", "truncated", value=1.0, detail="1 s of 2 s")) == "a/b@0: truncated 1, 1 s of 2 s"
