"""Facts of Slakh against upstream's own files: divisions, bad stems, and what every program and patch sounds like."""

import collections
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tutti.datasets.hierarchy import OUTPUTS
from tutti.datasets.record import ABSENT, PRESENT
from tutti.datasets.songs.slakh_facts import BAD_STEMS, MOVED, NUM_TRACKS, OMITTED, official_split, sound_of


@pytest.fixture
def official(shared: Path) -> Path:
    folder = shared / "multitrack" / "labels" / "slakh"
    if not folder.is_dir():
        pytest.skip("the shared folder holds no labels of Slakh")
    return folder


def test_the_official_divisions_have_their_published_sizes() -> None:
    def sizes(splits: str) -> dict[str | None, int]:
        return dict(collections.Counter(official_split(number, splits) for number in range(1, NUM_TRACKS + 1)))

    assert sizes("orig") == {"train": 1500, "validation": 375, "test": 225}
    assert sizes("redux") == {"train": 1289, "validation": 270, "test": 151, "omitted": 390}
    assert sizes("split2") == sizes("orig")
    assert len(MOVED) == 328
    assert official_split(2101, "orig") is None


def unpacked(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def test_the_lists_are_those_of_upstream(official: Path) -> None:
    redux, moves = unpacked(official / "redux.json.gz"), unpacked(official / "splits_v2.json.gz")
    assert {int(name[5:]) for name, entry in redux.items() if entry["action"] == "omit"} == OMITTED
    assert {int(name[5:]): entry["destination_split"] for name, entry in moves.items() if entry["action"]} == MOVED
    for name, entry in moves.items():
        if entry["action"]:
            assert entry["source_split"] == official_split(int(name[5:]), "orig")
    problems = json.loads((official / "problem_stems.json").read_text())
    listed = {(int(name[5:]), stem) for name, stems in problems.items() for stem in stems}
    assert len(listed) == 22
    assert set(BAD_STEMS) == listed | {(1500, "S12"), (1500, "S13")}


def test_no_midi_file_is_in_two_splits_of_redux_and_split2_and_146_are_in_two_of_orig(official: Path) -> None:
    midi = {int(name[5:]): entry["midi_md5"] for name, entry in unpacked(official / "duplicates.json.gz").items()}
    straddling = {}
    for splits in ("orig", "redux", "split2"):
        places = collections.defaultdict(set)
        for number, digest in midi.items():
            places[digest].add(official_split(number, splits))
        straddling[splits] = sum(len(found - {"omitted"}) > 1 for found in places.values())
    assert straddling == {"orig": 146, "redux": 0, "split2": 0}
    kept = [digest for number, digest in midi.items() if number not in OMITTED]
    assert len(kept) == len(set(kept)) == 1710


# --- sounds


@pytest.mark.parametrize(
    ("program", "plugin", "outputs"),
    [
        (22, "transistor_compact.nkm", {"key"}),  # GM harmonica
        (21, "", {"key"}),  # GM accordion
        (77, "flute.nkm", {"woodwind"}),  # GM shakuhachi
        (50, "string_ensemble.nkm", {"bowed_string"}),  # GM synthesizer strings
        (0, "harpsichord.nkm", {"key"}),
        (0, "Macintosh HD/patches/HARPSICHORD.nkm", {"key"}),
        (25, "/Library/Audio/Plug-Ins/Components/AGML2.component", {"plucked_string", "acoustic_guitar"}),
        (40, "solo_strings.nkm", {"bowed_string", "violin"}),
        (42, "solo_strings.nkm", {"bowed_string"}),
        (85, "guitar_lead.nkm", {"synth"}),
        (128, "None", {"percussion", "drums"}),
        (97, "None", set()),
    ],
)
def test_the_patch_is_what_sounds(program: int, plugin: str, outputs: set[str]) -> None:
    sounding = sound_of(program, plugin).outputs()
    assert {name for name, value in sounding.items() if value == PRESENT} == outputs


def test_an_ensemble_says_nothing_of_its_members() -> None:
    classes = sound_of(48, "session_strings_pro_2_ensemble_modern.nkm").classes()
    assert not {"violin", "cello", "bass"} & set(classes)
    assert classes["trumpet"] == ABSENT
    assert not {"trumpet", "trombone", "saxophone"} & set(
        sound_of(61, "session_horns_pro_keyswitch_60s_horns").classes()
    )


def test_drums_are_known_by_their_flag_too() -> None:
    assert sound_of(0, "unknown kit", is_drum=True) == sound_of(128)


def rows_of_mapping(shared: Path) -> list[dict[str, str]]:
    with (shared / "multitrack" / "mapping.csv").open(newline="") as table:
        return [row for row in csv.DictReader(table) if row["corpus"] == "slakh"]


def masks_of(note: str) -> set[str]:
    """The outputs behind `mask=` in a note; what a note says only for stems that exist is none."""
    text = note.partition("mask=")[2].partition(";")[0].partition(" ")[0].split(",")
    return set(OUTPUTS) if "all" in text else set(text) - {""}


def test_every_program_and_patch_sounds_as_the_table_of_instruments_says(shared: Path) -> None:
    compared = 0
    for row in rows_of_mapping(shared):
        kind, _, name = row["name"].partition(":")
        if kind == "inst_class" or "never" in row["note"] or row["name"] in ("plugin:None", "plugin:solo_strings.nkm"):
            continue  # spelling traps that are not read; no sound; a sound that follows the program
        sound = sound_of(int(name.split()[0])) if kind == "program" else sound_of(None, name)
        if "no patch in the generator" in row["note"] and "mask=all" not in row["note"]:
            continue  # never rendered; what it would be is prose
        levels, classes = {row["family"], row["instrument15"]} - {""}, {row["project_instrument"]} - {""}
        expected = {
            name: PRESENT if name in levels else ABSENT for name in set(OUTPUTS) - masks_of(row["note"]) | levels
        }
        assert sound.outputs() == expected, row
        assert {key for key, value in sound.classes().items() if value == PRESENT} == classes, row
        compared += 1
    assert compared == 279
