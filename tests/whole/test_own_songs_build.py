"""Builds of songs with their stems, from folders of one's own: the sample's, and real recordings where they are."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import built, once
from sample_songs import write_user_folder

from tutti.datasets.hierarchy import OUTPUTS
from tutti.datasets.manifest import ClipRow, read_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def user(session_folder: Path) -> Path:
    return once(session_folder, "user-songs", write_user_folder) / "user"


def build(dataset: str, tmp_path: Path, *flags: str) -> tuple[dict[str, Any], dict[str, ClipRow]]:
    """The summary and the rows of a build without curation."""
    output = tmp_path / dataset
    places = ("--output", str(output), "--cache-dir", str(tmp_path / "cache"))
    summary = built("--dataset", dataset, "--embedder", "none", *places, *flags)
    return summary, {row["id"].partition("/")[2].removesuffix("@0"): row for row in read_manifest(output).clip_rows()}


def reasons(rows: dict[str, ClipRow]) -> dict[str, str]:
    return {name: row["reason"] for name, row in rows.items() if row["status"] != "kept"}


def test_faults_of_medleydb_are_rows_and_all_else_is_kept(user, tmp_path):
    summary, rows = build("medleydb", tmp_path, "--data-from", str(user / "MedleyDB"))

    assert reasons(rows) == {
        "Ferncliff_Live/S01": "longer_than_mix",
        "Ferncliff_Sketch/MIX": "no_metadata",
        "Ferncliff_Sketch/S01": "no_metadata",
        "Ferncliff_Sketch/S02": "no_metadata",
        "MiraVole_Etude/S02": "missing_stem",
        "OldMill_Reel/S03": "silent",
    }
    assert summary["clips"]["kept"] == 21
    (source,) = read_manifest(tmp_path / "medleydb").content["sources"].values()
    assert [one["num_files"] for one in source["inputs"]] == [8, 2]
    for path in (tmp_path / "medleydb").rglob("versions/*/**/*"):  # no path of the builder's machine
        assert path.is_dir() or str(user).encode() not in path.read_bytes(), path


def test_songs_of_the_library_are_the_same_wherever_they_lie_and_however_many_work(user, tmp_path):
    secrets, medley = str(user / "MixingSecrets"), str(user / "MedleyDB")
    first, rows = build("mixing_secrets", tmp_path / "a", "--data-from", secrets)
    workers = ("--direct-running-mode", "multi_processing", "--direct-num-workers", "2")
    again, _ = build("mixing_secrets", tmp_path / "b", "--data-from", medley, "--data-from", str(user), *workers)

    assert reasons(rows) == {"CopperLine_Static/S02": "truncated", "Zephyrian_Walls/S02": "missing_stem"}
    assert rows["MR1210_CopperLine/MIX"]["acquired"] == "sum"
    assert rows["GreyWharf_Ledger/12_Piano"]["acquired"] == "sum"  # of its two sides
    assert first["root_digest"] == again["root_digest"]


def expected_outputs(names: list[str], table: dict[str, dict[str, str]], bleeds: bool) -> dict[str, int]:
    """What mapping.csv says of a stem: the fifteen outputs that are known."""
    found = [table[name] for name in names if name in table]
    present = {value for row in found for value in (row["family"], row["instrument15"]) if value}
    masks = {one for row in found for match in re.findall(r"mask=([a-z_,]+)", row["note"]) for one in match.split(",")}
    if len(found) < len(names) or "all" in masks:
        return dict.fromkeys(sorted(present), 1)
    return {name: int(name in present) for name in OUTPUTS if name in present or not (bleeds or name in masks)}


@pytest.mark.parametrize(("dataset", "folder"), [("medleydb", "MedleyDB"), ("mixing_secrets", "MixingSecrets")])
def test_stems_of_real_recordings_are_labelled_as_their_metadata_say(dataset, folder, shared, tmp_path):
    multitrack = shared / "multitrack"
    with (multitrack / "mapping.csv").open(encoding="utf-8") as stream:
        rows_of_corpus = [row for row in csv.DictReader(stream) if row["corpus"] == dataset]
    table = {row["name"].casefold(): row for row in rows_of_corpus}
    truth = json.loads((multitrack / "mirror" / "TRUTH.json").read_text())[dataset]
    flags = ("--data-from", str(multitrack / "mirror" / "user" / folder), "--set", "select.labels=hierarchy15")
    _, rows = build(dataset, tmp_path, *flags)

    compared = 0
    for song, facts in truth["songs"].items():
        for stem, said in facts["stems"].items():
            row = rows[f"{song}/{stem}"]
            if row.get("reason") != "no_metadata":
                names = said["labelled"] if isinstance(said["labelled"], list) else [said["labelled"]]
                expected = expected_outputs([name.casefold() for name in names], table, facts["has_bleed"] == "yes")
                assert {name: label[0] for name, label in row["labels"].items()} == expected, row["id"]
                compared += 1
    assert compared >= 19
