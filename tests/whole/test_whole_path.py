"""From archives to a trained model and a prediction, as a user walks it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import signals
import soundfile
from conftest import ROOT, built

from tutti.datasets.manifest import read_manifest
from tutti.datasets.shard import read_shard
from tutti.pipelines.demo import clips_table, scores_table


def run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_trains_from_the_built_sample_and_predicts_a_file(sample_build: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    trained = run(
        "train.run", "--data", str(sample_build), "--recipe", "logmel_cnn", "--output", folder, "--set", "epochs=2"
    )
    summary = json.loads(trained.splitlines()[-1])
    assert summary["root_digest"] == read_manifest(sample_build).root_digest
    assert "macro_f1" in scores_table(summary["test"])

    evaluated = json.loads(run("train.evaluate", "--run", folder, "--data", str(sample_build), "--split", "test"))
    assert evaluated["model"]["macro_f1"] == pytest.approx(summary["test"]["model"]["macro_f1"])

    song = tmp_path / "a song.wav"
    song.write_bytes(signals.encoded(signals.sine(4.0, num_channels=2)))
    predicted = run("train.predict", "--run", folder, str(song), "--json")
    assert "piano" in predicted


def test_the_demo_table_adds_up(sample_build: Path) -> None:
    manifest = read_manifest(sample_build)
    table = clips_table(manifest)
    total = next(line for line in table.splitlines() if line.startswith("all "))
    assert [int(word) for word in total.split()[1:]] == [
        *(manifest.content["counts"]["splits"][split] for split in ("train", "validation", "test")),
        sum(manifest.content["counts"]["rejected"].values()),
    ]


def test_a_folder_of_ones_own_audio_becomes_a_dataset(tmp_path: Path) -> None:
    music = tmp_path / "music"
    (music / "takes").mkdir(parents=True)
    lines = ["path,group,piano,violin"]
    for index in range(12):
        tone = signals.sine(2.0, frequency_hz=220 * 1.06**index, num_channels=1 + index % 2)
        soundfile.write(music / "takes" / f"{index}.flac", tone.T, 44_100)
        lines.append(f"takes/{index}.flac,song {index // 2},{index // 2 % 2},{'' if index // 2 % 2 else 1}")
    (music / "labels.csv").write_text("\n".join(lines))

    summary = built(
        "--dataset", "folder", "--data-from", str(music), "--output", str(tmp_path / "out"),
        "--cache-dir", str(tmp_path / "cache"), "--set", "write.rows_per_shard=2",
    )  # fmt: skip

    assert (summary["clips"], sum(summary["splits"].values())) == ({"kept": 12, "rejected": {}}, 12)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.instruments == ["piano", "violin"]
    assert str(tmp_path) not in (manifest.folder / "manifest" / "manifest.json").read_text()
    rows = [row for shard in manifest.shards() for row in read_shard(manifest.folder / shard.path)]
    assert {row["id"]: row["presence"] for row in rows}["folder/takes/2.flac@0"] == [1, -1]
    assert len(manifest.shard_paths("train")) == -(-summary["splits"]["train"] // 2)


def test_nothing_to_do_the_second_time(sample_mirror: Path, tmp_path: Path) -> None:
    places = ("--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    first = built("--dataset", "lumen", "--embedder", "none", "--mirror", str(sample_mirror), *places)
    again = built("--dataset", "lumen", "--embedder", "none", "--mirror", str(sample_mirror), *places)
    assert (first["changed"], again["changed"], again["version"]) == (True, False, first["version"])
