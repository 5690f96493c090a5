"""Lists that a user passes to a build (`--exclude`, `--overrides`): what fits is applied, what does not is named."""

from dataclasses import replace
from pathlib import Path

import pytest
from own_songs import Mine

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import ClipRow, read_manifest
from tutti.pipelines.build.plan import read_exclusions
from tutti.pipelines.build.unmatched import remarks_on, unmatched_entries
from tutti.pipelines.curation.overrides import Override
from tutti.pipelines.recipe import Recipe, load_recipe
from tutti.pipelines.stages.select import SelectConfig

EXCLUDED = "\ufeff# asked for by mail\r\nsong00.wav\r\nfolder/song01.wav@0 # the artist\r\n\r\nsong9*.wav\r\nno.wav\r\n"


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    return Mine(tmp_path / "mine", tmp_path, songs=6)


def rows(mine: Mine) -> dict[str, ClipRow]:
    return {row["recording"]: row for row in read_manifest(mine.tmp_path / "out").clip_rows()}


def test_lists_of_any_editor_are_applied_and_entries_without_a_clip_are_named(mine):
    exclude, corrections = mine.tmp_path / "takedown.txt", mine.tmp_path / "corrections.csv"
    exclude.write_bytes(EXCLUDED.encode())
    corrections.write_bytes(
        b"\xef\xbb\xbfid,instrument,presence\r\n# heard by two\r\nfolder/song02.wav@0,flute,1\r\n"
        b"folder/song7.wav@0,flute,1\r\n"
    )
    mine.label("lute")
    flags = ("--exclude", str(exclude), "--overrides", str(corrections), "--embedder", "none")
    first = mine.build(*flags)
    again = mine.build(*flags)

    assert {name: row["reason"] for name, row in rows(mine).items() if row["status"] != "kept"} == {
        "song00.wav": "excluded",
        "song01.wav": "excluded",
    }
    assert rows(mine)["song02.wav"]["labels"]["flute"][0] == 1
    assert "--exclude: 2 of 4 entries fit no clip: 'no.wav', 'song9*.wav'\n" in first["notes"]
    assert "--overrides: 1 of 2 entries fit no clip: 'folder/song7.wav@0'\n" in first["notes"]
    assert "'lute' is a class of your own; if 'flute' is meant, rename the column" in first["notes"]
    unmatched = {
        "exclude": {"count": 2, "first": ["no.wav", "song9*.wav"]},
        "overrides": {"count": 1, "first": ["folder/song7.wav@0"]},
    }
    assert (first["unmatched"], again["unmatched"], again["changed"]) == (unmatched, unmatched, False)


@pytest.mark.parametrize("flag", ["--exclude", "--overrides"])
def test_a_list_in_utf16_is_refused_by_its_name_before_anything_is_built(mine, flag):
    path = mine.tmp_path / "list.txt"
    path.write_bytes("id,instrument,presence\n".encode("utf-16"))
    code, _, noted = mine.run(flag, str(path), "--embedder", "none")

    assert code == 2
    assert f"{path}" in noted
    assert "is UTF-16, not UTF-8; save it as UTF-8" in noted
    assert not (mine.tmp_path / "out" / "current").exists()


def test_an_exclusion_list_in_latin1_is_refused_rather_than_half_understood(tmp_path):
    (tmp_path / "list.txt").write_bytes("café.wav\n".encode("latin-1"))

    with pytest.raises(UsageError, match="is not UTF-8: byte e9 in line 1"):
        read_exclusions(tmp_path / "list.txt")


def test_accents_of_an_exclusion_list_may_be_decomposed(tmp_path):
    (tmp_path / "list.txt").write_text("Cafe\u0301.wav\n")

    assert read_exclusions(tmp_path / "list.txt") == ["Café.wav"]


# --- entries that fit nothing


def recipe(*exclude: str, corrected: tuple[str, ...] = ()) -> Recipe:
    made = load_recipe("irmas")
    corrections = tuple(Override(clip_id, "cello", 1) for clip_id in corrected)
    return replace(made, select=SelectConfig(exclude=exclude), clean=replace(made.clean, overrides=corrections))


ROWS = [
    {"id": "a/Take #3.wav@0", "source": "a", "recording": "Take #3.wav", "reason": "excluded"},
    {"id": "a/y [1].wav@5", "source": "a", "recording": "y [1].wav", "reason": "excluded"},
    {"id": "a/z.wav@0", "source": "a", "recording": "z.wav"},
]


@pytest.mark.parametrize(
    ("entry", "fits"),
    [
        ("Take #3.wav", True),
        ("a/Take #3.wav", True),
        ("z.wav #a comment without a blank", True),
        ("y [1].wav", True),
        ("y*", True),
        ("z*", False),  # nothing was excluded by it
        ("z", False),
        ("b/z.wav", False),
    ],
)
def test_an_entry_fits_a_clip_as_selection_has_it(entry, fits):
    assert unmatched_entries(recipe(entry), ROWS) == ({} if fits else {"exclude": [entry]})


def test_remarks_are_bounded(tmp_path):
    gone = tuple(f"gone{number:03}.wav" for number in range(500))
    made = recipe(*gone, "z.wav", corrected=("a/z.wav@0", "a/q@0"))
    first, second = remarks_on(unmatched_entries(made, ROWS), made)

    assert first.startswith("--exclude: 500 of 501 entries fit no clip: 'gone000.wav', 'gone001.wav'")
    assert first.endswith("'gone009.wav' and 490 more")
    assert second == "--overrides: 1 of 2 entries fit no clip: 'a/q@0'"
