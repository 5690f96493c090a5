"""Names of files that are no UTF-8 (`caf\\xe9`): written out in rows and output, and no other row suffers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT, built, run_build
from midi_files import sound, tune, write_pair
from own_songs import Mine

from tutti.datasets.manifest import ClipRow, read_manifest

CAFE = os.fsdecode(b"caf\xe9")
SHOWN = r"caf\xe9"  # with a backslash

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")


def rows_of(output: Path) -> dict[str, ClipRow]:
    return {row["id"]: row for row in read_manifest(output).clip_rows()}


def answer(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def strict(line: str) -> object:
    """The value of a JSON text that any strict reader takes: without half surrogates."""
    value = json.loads(line)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


@pytest.mark.slow
def test_pairs_of_scores_with_such_names_are_read_and_what_is_wrong_with_one_costs_that_one(tmp_path):
    root = tmp_path / "pairs"
    for number, key in enumerate(["plain", CAFE, f"{CAFE}2"]):
        score = tune(number)
        write_pair(root, key, score, sound(score))
    (root / "mid" / f"{CAFE}2.mid").write_bytes(b"MThd\0\0")
    (root / "mp3" / os.fsdecode(b"\xff.mp3")).write_bytes(b"alone")
    flags = (
        "--dataset",
        "musescore",
        "--data-from",
        str(root),
        "--embedder",
        "none",
        "--set",
        "musescore.segment_s=20",
    )
    summary = built(*flags, "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    rows = rows_of(tmp_path / "out")

    assert summary["clips"] == {"kept": 2, "rejected": {"bad_score": 1, "orphan": 1}}
    assert {clip_id: row["status"] for clip_id, row in rows.items()} == {
        "musescore/plain@0": "kept",
        rf"musescore/{SHOWN}@0": "kept",
        rf"musescore/{SHOWN}2@0": "rejected",
        r"musescore/\xff@0": "rejected",
    }
    assert rows[r"musescore/\xff@0"]["detail"] == r"mp3/\xff.mp3: has no MIDI file"
    assert rows[rf"musescore/{SHOWN}2@0"]["detail"].startswith(rf"mid/{SHOWN}2.mid")
    for path in (tmp_path / "out").rglob("*.json"):
        strict(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_place_of_a_build_may_have_such_a_name(tmp_path):
    mine = Mine(tmp_path / "plain", tmp_path, songs=4)
    mine.folder = mine.folder.rename(tmp_path / CAFE)
    below = mine.folder / os.fsdecode(b"s\xff")
    below.mkdir()
    (mine.folder / "song00.wav").rename(below / f"{CAFE}.wav")
    (mine.folder / f"{CAFE} notes.txt").touch()
    table = (mine.folder / "labels.csv").read_bytes().replace(b"song00.wav", b"s\xff/caf\xe9.wav")
    (mine.folder / "labels.csv").write_bytes(table)
    output = tmp_path / f"out {CAFE}"
    flags = ("--dataset", "folder", "--data-from", str(mine.folder), "--embedder", "none")
    places = ("--output", str(output), "--cache-dir", str(tmp_path / f"cache {CAFE}"))
    first, again = (run_build(*flags, *places) for _ in range(2))
    exported = answer("pipelines.export", str(output), "--format", "csv", "--output", str(tmp_path / f"csv {CAFE}"))

    assert first.returncode == again.returncode == exported.returncode == 0, first.stderr + exported.stderr
    summaries = [strict(result.stdout) for result in (first, again)]
    assert [summary["changed"] for summary in summaries] == [True, False]
    assert summaries[0]["output"] == str(tmp_path / rf"out {SHOWN}")
    assert set(rows_of(output)) == {
        rf"folder/s\xff/{SHOWN}.wav@0", "folder/song01.wav@0", "folder/song02.wav@0", "folder/song03.wav@0",
    }  # fmt: skip
    assert answer("pipelines.verify", str(output)).returncode == 0
    assert rf"folder/s\xff/{SHOWN}.wav@0" in (tmp_path / f"csv {CAFE}" / "clips.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_songs_with_such_names_have_their_rows(tmp_path):
    song = tmp_path / "songs" / f"Band_{CAFE}"
    stems = song / f"Band_{CAFE}_STEMS"
    stems.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for path in (song / f"Band_{CAFE}_MIX.wav", stems / f"Band_{CAFE}_STEM_01.wav"):
        soundfile.write(os.fsencode(path), 0.1 * rng.standard_normal(32_000), 16_000)
    metadata = "artist: Band\ntitle: Café\nhas_bleed: no\nstems:\n  S01:\n    instrument: piano\n"
    (song / f"Band_{CAFE}_METADATA.yaml").write_text(metadata, encoding="utf-8")
    flags = ("--dataset", "medleydb", "--data-from", str(tmp_path / "songs"), "--embedder", "none")
    built(*flags, "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))

    assert set(rows_of(tmp_path / "out")) == {rf"medleydb/Band_{SHOWN}/{stem}@0" for stem in ("S01", "MIX")}
