"""The whole build on real recordings in the real archive layouts, held against what was planted."""

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tutti.datasets.manifest import ClipRow, read_manifest
from tutti.datasets.shard import read_shard
from tutti.pipelines.verify.check import verify

ZENODO = "zenodo.org/records"
CODES = {
    "cel": "cello", "cla": "clarinet", "flu": "flute", "gac": "acoustic_guitar", "gel": "electric_guitar",
    "org": "organ", "pia": "piano", "sax": "saxophone", "tru": "trumpet", "vio": "violin", "voi": "voice",
}  # fmt: skip
CORE_MIDS = {
    "/m/01xqw": "cel", "/m/01wy6": "cla", "/m/0l14j_": "flu", "/m/042v_gx": "gac", "/m/02sgy": "gel",
    "/m/013y1f": "org", "/m/05r5c": "pia", "/m/06ncr": "sax", "/m/07gql": "tru", "/m/07y_7": "vio", "/m/015lz1": "voi",
}  # fmt: skip


@pytest.fixture(scope="module")
def truth(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "mirror" / "TRUTH.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows(mirror_build: Path) -> dict[str, ClipRow]:
    """Rows by upstream key: a path in an archive, an OpenMIC key, a video id."""
    return {row["recording"]: row for row in read_manifest(mirror_build).clip_rows()}


def rejected(rows: dict[str, ClipRow], *reasons: str) -> list[str]:
    return sorted(key for key, row in rows.items() if row.get("reason") in reasons)


def test_the_silent_clips_are_exactly_the_planted_ones(rows: dict[str, ClipRow], truth: dict[str, Any]) -> None:
    assert rejected(rows, "silent") == sorted(truth["silent"])


def test_the_short_clips_are_exactly_the_planted_ones(rows: dict[str, ClipRow], truth: dict[str, Any]) -> None:
    assert rejected(rows, "too_short") == sorted(truth["short"])


def test_the_broken_files_are_exactly_the_planted_ones(rows: dict[str, ClipRow], truth: dict[str, Any]) -> None:
    assert rejected(rows, "undecodable", "truncated") == sorted(truth["undecodable"])


def test_the_gone_videos_are_exactly_the_planted_ones(rows: dict[str, ClipRow], truth: dict[str, Any]) -> None:
    assert rejected(rows, "not_in_mirror") == sorted(truth["gone"])
    assert {rows[video]["status"] for video in truth["gone"]} == {"gone"}


def test_of_equal_clips_with_equal_labels_the_lowest_id_survives(
    rows: dict[str, ClipRow], truth: dict[str, Any]
) -> None:
    survivor, other = sorted(truth["duplicates"][1])
    assert rejected(rows, "duplicate") == [other]
    assert rows[survivor]["status"] == "kept"


def test_equal_clips_with_conflicting_labels_are_both_lost(rows: dict[str, ClipRow], truth: dict[str, Any]) -> None:
    assert rejected(rows, "duplicate_conflict") == sorted(truth["duplicates"][0])


def test_nothing_else_is_rejected_and_nothing_is_lost(rows: dict[str, ClipRow], truth: dict[str, Any]) -> None:
    assert len(rows) == 160 + 90 + 84
    assert sum(row["status"] != "kept" for row in rows.values()) == 2 + 1 + 3 + 1 + 2 + 6


def test_every_kept_clip_is_labelled_as_its_label_file_says(shared: Path, rows: dict[str, ClipRow]) -> None:
    expected = irmas_presence(shared) | openmic_presence(shared) | audioset_presence(shared)
    kept = {key: row for key, row in rows.items() if row["status"] == "kept"}
    assert {key: {name: label[0] for name, label in row["labels"].items()} for key, row in kept.items()} == {
        key: expected[key] for key in kept
    }


def test_shards_hold_the_labels_of_the_manifest_unknown_included(mirror_build: Path, rows: dict[str, ClipRow]) -> None:
    manifest = read_manifest(mirror_build)
    seen = 0
    for split in ("train", "validation", "test"):
        for path in manifest.shard_paths(split):
            for row in read_shard(path, ["recording", "presence", "audio_sha256"]):
                clip = rows[row["recording"]]
                known = {
                    name: value
                    for name, value in zip(manifest.instruments, row["presence"], strict=True)
                    if value != -1
                }
                assert known == {name: label[0] for name, label in clip["labels"].items()}
                assert (clip["split"], clip["audio"]["pcm_sha256"]) == (split, row["audio_sha256"])
                seen += 1
    assert seen == 319


def test_splits_follow_lumen_and_no_song_is_in_two(mirror_build: Path, rows: dict[str, ClipRow]) -> None:
    kept = [row for row in rows.values() if row["status"] == "kept"]
    splits = {(row["source"], row["partition"], row["split"]) for row in kept}
    assert splits == {
        ("irmas", "train", "train"), ("irmas", "test", "train"), ("irmas", "test", "validation"),
        ("openmic2018", "train", "train"), ("openmic2018", "test", "test"),
        ("audioset", "balanced_train", "train"), ("audioset", "unbalanced_train", "train"),
        ("audioset", "eval", "test"),
    }  # fmt: skip
    by_group = {}
    for row in kept:
        by_group.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in by_group.values())
    assert read_manifest(mirror_build).content["split_certificate"]["groups_in_two_splits"] == 0


def test_stored_audio_is_at_minus_12_lufs_unless_its_peak_or_the_largest_gain_forbids(rows: dict[str, ClipRow]) -> None:
    audio = [row["audio"] for row in rows.values() if row["status"] == "kept"]
    held_back = [facts for facts in audio if facts["loudness_lufs"] < -12.02]
    assert all(abs(facts["loudness_lufs"] + 12) <= 0.02 for facts in audio if facts not in held_back)
    assert all(facts["true_peak_dbtp"] <= -0.98 for facts in audio)
    assert all(facts["true_peak_dbtp"] >= -1.03 or facts["gain_db"] == 40.0 for facts in held_back)


def test_the_built_dataset_verifies(mirror_build: Path) -> None:
    assert list(verify(read_manifest(mirror_build))) == []


def irmas_presence(shared: Path) -> dict[str, dict[str, int]]:
    found = {}
    folder = shared / "mirror" / ZENODO / "1290750" / "files"
    with zipfile.ZipFile(folder / "IRMAS-TrainingData.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".wav")]
    found |= {name: {CODES[name.split("/")[1]]: 1} for name in names}
    for part in (1, 2, 3):
        with zipfile.ZipFile(folder / f"IRMAS-TestingData-Part{part}.zip") as archive:
            for name in archive.namelist():
                if name.endswith(".txt"):
                    present = archive.read(name).decode().split()
                    found[name[:-4] + ".wav"] = {CODES[code]: int(code in present) for code in CODES}
    return found


def openmic_presence(shared: Path) -> dict[str, dict[str, int]]:
    with tarfile.open(shared / "mirror" / ZENODO / "1432913" / "files" / "openmic-2018-v1.0.0.tgz") as archive:
        member = archive.extractfile("openmic-2018/openmic-2018-aggregated-labels.csv")
        assert member is not None
        table = list(csv.DictReader(io.StringIO(member.read().decode())))
        keys = {Path(name).stem for name in archive.getnames() if name.endswith(".ogg")}
    found: dict[str, dict[str, int]] = {key: {} for key in keys}
    for row in table:
        if row["instrument"] in CODES.values():
            found[row["sample_key"]][row["instrument"]] = int(float(row["relevance"]) >= 0.5)
        elif row["instrument"] == "guitar" and float(row["relevance"]) < 0.5:  # neither kind (requirement D15)
            found[row["sample_key"]] |= {"acoustic_guitar": 0, "electric_guitar": 0}
    return found


def audioset_presence(shared: Path) -> dict[str, dict[str, int]]:
    found = {}
    for path in (shared / "mirror" / "storage.googleapis.com").rglob("*_segments.csv"):
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                video, _, _, mids = line.split(", ", 3)
                codes = [CORE_MIDS[mid] for mid in mids.strip('"').split(",") if mid in CORE_MIDS]
                if len(codes) == 1:
                    found[video] = {CODES[codes[0]]: 1}
    return found
