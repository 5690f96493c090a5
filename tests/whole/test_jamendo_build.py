"""Builds of MTG-Jamendo, from tars that are streamed: the sample's, by folder and by server, and the real mirror's."""

import json
from pathlib import Path
from typing import Any

import jamendo_mirror
import pytest
from conftest import built, once, run_build
from server import Server

from tutti.datasets.manifest import ClipRow, read_manifest

FAULTS = {
    "track_1090014": ("truncated", "rejected"),
    "track_1090100": ("duplicate", "rejected"),  # of track_1000000, of another artist
    "track_1095214": ("not_in_archive", "rejected"),
}
TWO_WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
TARS = "/cdn.freesound.org/mtg-jamendo/raw_30s/audio/raw_30s_audio-"


@pytest.fixture(scope="module")
def mirror(session_folder: Path) -> Path:
    return once(session_folder, "jamendo-mirror", jamendo_mirror.write_mirror)


def build(mirror: Path | str, folder: Path, *more: str, cache: str = "cache") -> dict[str, Any]:
    return built(
        "--dataset", "mtg_jamendo", "--mirror", str(mirror), "--embedder", "none", "--output", str(folder / "out"),
        "--cache-dir", str(folder / cache), *more,
    )  # fmt: skip


def rows_of(version: Path) -> dict[str, ClipRow]:
    return {row["recording"]: row for row in read_manifest(version).clip_rows()}


def faults_of(version: Path) -> dict[str, tuple[str, str]]:
    rows = rows_of(version)
    return {name: (row["reason"], row["status"]) for name, row in rows.items() if row["status"] != "kept"}


@pytest.fixture(scope="module")
def version(session_folder: Path, mirror: Path) -> Path:
    def make(folder: Path) -> None:
        folder.mkdir()
        build(mirror, folder)

    return once(session_folder, "jamendo-build", make) / "out" / "current"


@pytest.mark.slow
def test_exactly_what_was_planted_is_rejected_and_official_splits_hold(version: Path) -> None:
    rows = rows_of(version)
    assert faults_of(version) == FAULTS
    assert all(row["split"] == row["partition"] for row in rows.values() if row["status"] == "kept")
    artists: dict[str, set[str]] = {}
    for row in rows.values():
        if row["status"] == "kept":
            artists.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in artists.values())
    blobs = list((version.parents[1] / "cache" / "blobs").rglob("*"))
    assert max(path.stat().st_size for path in blobs) < 200_000, "no tar is kept"


@pytest.mark.slow
def test_two_workers_and_a_server_that_breaks_off_give_the_same_dataset(
    version: Path, mirror: Path, tmp_path: Path
) -> None:
    expected = read_manifest(version).content["root_digest"]
    with Server() as server:
        server.serve_folder(mirror)
        server.flaky(seed=3, fail=0.1, truncate=0.3)
        assert build(server.url, tmp_path, *TWO_WORKERS)["root_digest"] == expected


@pytest.mark.slow
def test_a_frozen_build_is_exact(version: Path, mirror: Path, tmp_path: Path) -> None:
    result = run_build(
        "--frozen", str(version), "--mirror", str(mirror), "--output", str(tmp_path / "out"),
        "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["root_digest"] == read_manifest(version).content["root_digest"]
    assert "EXACT" in result.stdout + result.stderr


@pytest.mark.slow
def test_a_few_tracks_touch_only_the_tars_that_hold_them_and_a_second_build_none(mirror: Path, tmp_path: Path) -> None:
    with Server() as server:
        server.serve_folder(mirror)
        build(server.url, tmp_path, "--limit", "2")
        tracks = rows_of(tmp_path / "out" / "current")
        assert len(tracks) == 2
        asked = {request.path for request in server.requests if request.path.endswith(".tar")}
        assert asked == {f"{TARS}{track[-2:]}.tar" for track in tracks}
        assert len(asked) < 3
        server.requests.clear()
        build(server.url, tmp_path, "--limit", "2", "--set", "clean.min_duration_s=0.9")
        assert not [request for request in server.requests if request.path.endswith(".tar")]


@pytest.mark.slow
def test_without_official_splits_copies_of_one_recording_are_in_one_group(mirror: Path, tmp_path: Path) -> None:
    build(mirror, tmp_path, "--set", "mtg_jamendo.split=none", "--set", "mtg_jamendo.quality=audio-low")
    rows = rows_of(tmp_path / "out" / "current")
    assert faults_of(tmp_path / "out" / "current") == FAULTS
    assert rows["track_1090100"]["group"] == rows["track_1000000"]["group"]
    assert rows["track_1090337"]["labels"] == {"ukulele": [1, None, "weak"]}


@pytest.mark.slow
def test_the_mirror_of_real_recordings_builds_but_for_its_planted_faults(shared: Path, tmp_path: Path) -> None:
    real = shared / "multitrack" / "mirror"
    if not real.is_dir():
        pytest.skip("the mirror of real recordings is not here")
    build(real, tmp_path)
    truth = json.loads((real / "TRUTH.json").read_text())["mtg-jamendo"]
    planted = {
        "truncated_mp3": "truncated", "listed_without_audio": "not_in_archive", "duplicate_other_artist": "duplicate",
    }  # fmt: skip
    expected = {
        f"track_{fault['track']:07d}": (planted[fault["fault"]], "rejected")
        for fault in truth["faults"] if fault["fault"] in planted
    }  # fmt: skip
    assert faults_of(tmp_path / "out" / "current") == expected
    kept = [row for row in rows_of(tmp_path / "out" / "current").values() if row["status"] == "kept"]
    for row in kept:
        assert row["split"] == truth["splits"]["split-0"][f"artist_{row['group'].rpartition(':')[2]}"]
