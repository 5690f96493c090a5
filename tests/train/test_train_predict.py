"""Prediction on files: what a user types, and what happens to files that are none."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signals
from conftest import ROOT
from dataset_fixture import INSTRUMENTS as CLASSES
from dataset_fixture import SAMPLE_RATE, learnable_dataset, timbre

from tutti.datasets.audio import measure_loudness
from tutti.datasets.manifest import read_manifest
from tutti.train import predict, timeline
from tutti.train.reading.mono import load_mono
from tutti.train.recipe import load_recipe
from tutti.train.run import train

TONE = signals.sine(2.0, frequency_hz=900.0, amplitude=0.2, num_channels=2)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    overrides = ["epochs=4", "batch_size=8", "window_s=0.8", "learning_rate=5e-3"]
    recipe = load_recipe("logmel_cnn", [*overrides, "features.n_mels=32", "model_config.width=8"])
    train(recipe, read_manifest(learnable_dataset(folder / "data")), output=folder / "run")
    return folder / "run"


def write(path: Path, waveform: signals.Waveform, **options: Any) -> Path:
    path.write_bytes(signals.encoded(waveform, **options))
    return path


def resampled_tone(duration_s: float, frequency_hz: float, amplitude: float = 0.2) -> signals.Waveform:
    return signals.sine(duration_s, frequency_hz=frequency_hz, amplitude=amplitude, sample_rate=44_100, num_channels=2)


def predicted(run: Path, *files: Path | str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    exit_code = predict.main(["--run", str(run), "--json", *map(str, files)])
    captured = capsys.readouterr()
    return exit_code, json.loads(captured.out), captured.err


def test_a_file_of_another_rate_and_channel_count_is_recognized(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "flute.flac", resampled_tone(2.0, 900.0), kind="FLAC")
    exit_code, result, _ = predicted(run, path, capsys=capsys)
    (file,) = result["files"]
    assert exit_code == 0
    assert [item["name"] for item in file["instruments"]][:1] == ["flute"]
    assert file["duration_s"] == 2.0
    assert sorted(file["probabilities"]) == sorted(CLASSES)


def test_every_chunk_is_told_with_its_time_and_where_an_instrument_enters(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    waveform = np.concatenate([timbre("voice", 1.6, rng), timbre("cello", 1.2, rng)], axis=1)
    _, result, _ = predicted(run, write(tmp_path / "both.wav", waveform, sample_rate=SAMPLE_RATE), capsys=capsys)
    chunks = result["files"][0]["chunks"]
    assert [(chunk["start_s"], chunk["end_s"]) for chunk in chunks] == [(0.0, 0.8), (0.8, 1.6), (1.6, 2.4), (2.4, 2.8)]
    for chunk, playing, silent in zip(
        chunks, ["voice"] * 2 + ["cello"] * 2, ["cello"] * 2 + ["voice"] * 2, strict=True
    ):
        assert chunk["probabilities"][playing] > chunk["probabilities"][silent]
    mean = np.mean([chunk["probabilities"]["voice"] for chunk in chunks])
    assert result["files"][0]["probabilities"]["voice"] == pytest.approx(mean, abs=1e-5)  # pooling=mean


def test_loudness_does_not_matter(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = write(tmp_path / "loud.wav", resampled_tone(1.0, 900.0, amplitude=0.9), subtype="FLOAT")
    quiet = write(tmp_path / "quiet.wav", resampled_tone(1.0, 900.0, amplitude=0.05), subtype="FLOAT")
    _, result, _ = predicted(run, loud, quiet, capsys=capsys)
    first, second = (file["probabilities"] for file in result["files"])
    assert first == pytest.approx(second, abs=0.01)


def test_the_model_hears_minus_12_lufs_and_nothing_is_clipped(tmp_path: Path) -> None:
    recipe = load_recipe("logmel_cnn")
    noise = signals.noise(1.0, amplitude=0.02, sample_rate=SAMPLE_RATE)
    noise[0, 100] = 0.9  # a click: the gain takes it beyond full scale
    mono = load_mono(write(tmp_path / "noise.wav", noise, sample_rate=SAMPLE_RATE, subtype="FLOAT"), recipe)
    assert measure_loudness(mono, SAMPLE_RATE) == pytest.approx(-12.0, abs=0.02)
    assert np.abs(mono).max() > 1


@pytest.mark.parametrize(
    ("waveform", "reason", "said"),
    [
        (signals.silence(2.0), "silent", "nothing to hear: silent"),
        (signals.silence(2.0) + 0.25, "silent", "nothing to hear: silent"),
        (
            TONE * [[1.0], [-1.0]],
            "channels_cancel",
            "nothing to hear: channels_cancel (the mean of its channels loses ",
        ),
        (TONE[:1] + 1e5 * signals.impulse(2.0), "crest", "nothing to hear: crest (its peak is "),
        (signals.noise(2.0, amplitude=0.017) + 0.7, "crest", "nothing to hear: crest (its peak is "),
    ],
    ids=["digital silence", "an offset", "inverted channels", "a spike", "hiss on an offset"],
)
def test_where_there_is_nothing_to_hear_no_instrument_is_named_and_text_json_and_csv_say_why(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], waveform: signals.Waveform, reason: str, said: str
) -> None:
    path = write(tmp_path / "none.wav", waveform.astype(np.float32), subtype="FLOAT")
    table = tmp_path / "timeline.csv"

    exit_code, result, _ = predicted(run, "--csv", table, path, capsys=capsys)
    predict.main(["--run", str(run), str(path)])
    (found,) = result["files"]

    assert (exit_code, found["nothing_heard"]["reason"]) == (0, reason)
    assert (found["instruments"], found["timeline"], set(found["probabilities"].values())) == ([], {}, {0.0})
    assert said in capsys.readouterr().out
    rows = list(csv.DictReader(table.open()))
    assert {(row["probability"], row["present"], row["nothing_heard"]) for row in rows} == {("0.0", "0", reason)}


def test_one_channel_can_be_taken_where_they_cancel(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "inverted.wav", (TONE * [[1.0], [-1.0]]).astype(np.float32))
    alone = write(tmp_path / "alone.wav", TONE[:1])

    _, result, _ = predicted(run, "--downmix", "first", path, alone, capsys=capsys)

    taken, mono = result["files"]
    assert taken["nothing_heard"] is None
    assert taken["probabilities"] == mono["probabilities"]


def test_a_silent_chunk_names_no_instrument_and_does_not_count(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounding = resampled_tone(0.8, 900.0)
    path = write(tmp_path / "rests.wav", np.pad(sounding, ((0, 0), (0, 3 * sounding.shape[1]))))

    _, result, _ = predicted(run, path, capsys=capsys)

    (found,) = result["files"]
    assert [chunk["nothing_heard"] for chunk in found["chunks"]] == [None, "silent", "silent", "silent"]
    assert [max(chunk["probabilities"].values()) for chunk in found["chunks"][1:]] == [0.0, 0.0, 0.0]
    assert found["probabilities"] == found["chunks"][0]["probabilities"]


def test_a_song_is_heard_although_it_rests_or_has_a_spike(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rests = write(tmp_path / "rests.wav", np.pad(TONE[:1], ((0, 0), (0, 20 * TONE.shape[1]))))
    spiked = write(tmp_path / "spiked.wav", TONE[:1] + 20 * signals.impulse(2.0), subtype="FLOAT")

    _, result, _ = predicted(run, rests, spiked, capsys=capsys)

    assert [found["nothing_heard"] for found in result["files"]] == [None, None]


def test_the_shortest_file_is_one_chunk(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "short.wav", signals.sine(0.005, sample_rate=SAMPLE_RATE), sample_rate=SAMPLE_RATE)
    _, result, _ = predicted(run, path, capsys=capsys)
    assert [(chunk["start_s"], chunk["end_s"]) for chunk in result["files"][0]["chunks"]] == [(0.0, 0.005)]


def test_files_that_cannot_be_read_are_named_and_the_others_still_predicted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.wav", resampled_tone(1.0, 900.0))
    text = tmp_path / "notes.wav"
    text.write_text("this is no audio")
    missing = tmp_path / "missing.wav"
    exit_code, result, error = predicted(run, missing, text, good, capsys=capsys)
    assert exit_code == 3
    assert [file["path"] for file in result["files"]] == [str(good)]
    assert [item["path"] for item in result["errors"]] == [str(missing), str(text)]
    assert f"error: {missing}: cannot be read" in error
    assert f"error: {text}: " in error


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_name_that_is_no_utf8_is_written_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / os.fsdecode(b"caf\xe9.wav"), resampled_tone(1.0, 900.0))
    table = tmp_path / "line.csv"
    flags = ("--csv", str(table), "--plot", str(tmp_path / "pictures"))
    exit_code, result, _ = predicted(run, *flags, path, f"{path}.wav", capsys=capsys)

    assert exit_code == 2
    assert [file["path"] for file in result["files"]] == [str(tmp_path / r"caf\xe9.wav")]
    assert [error["path"] for error in result["errors"]] == [str(tmp_path / r"caf\xe9.wav.wav")]
    assert r"caf\xe9.wav," in table.read_text(encoding="utf-8")
    assert len(list((tmp_path / "pictures").iterdir())) > 0


def test_a_missing_file_alone_exits_2_and_a_folder_without_audio_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    assert predict.main(["--run", str(run), str(tmp_path / "missing.wav")]) == 2
    assert predict.main(["--run", str(run), str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "missing.wav: cannot be read" in error
    assert f"{tmp_path}: no audio file below it" in error


def test_of_a_folder_all_audio_below_it_is_heard_in_order(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b").mkdir()
    second = write(tmp_path / "b" / "two.FLAC", resampled_tone(1.0, 900.0), kind="FLAC")
    first = write(tmp_path / "a.wav", resampled_tone(1.0, 900.0))
    (tmp_path / "cover.jpg").write_bytes(b"a picture")
    exit_code, result, _ = predicted(run, tmp_path, capsys=capsys)
    assert exit_code == 0
    assert [file["path"] for file in result["files"]] == [str(first), str(second)]


def test_the_time_line_is_a_row_per_chunk_and_instrument_and_says_who_plays_when(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    waveform = np.concatenate([timbre("flute", 1.6, rng), timbre("cello", 1.6, rng)], axis=1)
    path = write(tmp_path / "both.wav", waveform, sample_rate=SAMPLE_RATE)
    arguments = ["--run", str(run), "--json", "--csv", str(tmp_path / "line.csv"), str(path)]
    assert predict.main(arguments) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["timeline"]["flute"][0] == [0.0, 1.6]
    with (tmp_path / "line.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * len(CLASSES)
    playing = [(row["start_s"], row["end_s"]) for row in rows if row["instrument"] == "flute" and row["present"] == "1"]
    assert playing[:2] == [("0.0", "0.8"), ("0.8", "1.6")]


def test_stretches_that_touch_are_joined_and_gaps_stay() -> None:
    spans = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 3.5)]
    assert timeline.joined(spans, np.array([True, True, False, True])) == [[0.0, 2.0], [3.0, 3.5]]
    assert timeline.joined([(0.0, 1.0), (0.5, 1.5)], np.array([True, True])) == [[0.0, 1.5]]
    assert timeline.joined(spans, np.zeros(4, bool)) == []


def test_a_folder_without_a_finished_run_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main(["--run", str(tmp_path), "song.wav"]) == 2
    assert f"error: {tmp_path}: no finished run here" in capsys.readouterr().err


def test_the_command_prints_instruments_most_probable_first(run: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "flute.ogg", resampled_tone(2.0, 900.0), kind="OGG", subtype="VORBIS")
    result = subprocess.run(
        [sys.executable, "-m", "train.predict", "--run", str(run), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    title, first, *_ = result.stdout.splitlines()
    assert title == f"{path}  (2.0 s)"
    assert first.split()[0] == "flute"


@pytest.mark.parametrize(("flag", "name"), [("--csv", "line.csv"), ("--csv", "song.wav"), ("--plot", "song.png")])
def test_a_file_of_the_users_is_never_replaced(
    flag: str, name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = write(tmp_path / "song.wav", resampled_tone(1.0, 900.0))
    if name != "song.wav":
        (tmp_path / name).write_text("path to nowhere")
    before = (tmp_path / name).read_bytes()
    target = tmp_path / name if flag == "--csv" else tmp_path

    assert predict.main(["--run", str(run), flag, str(target), str(song)]) == 2

    captured = capsys.readouterr()
    assert f"{name}: is there, and this command did not write it; choose another --csv or --plot" in captured.err
    assert captured.out == ""  # before anything is heard
    assert (tmp_path / name).read_bytes() == before


def test_what_an_earlier_prediction_wrote_is_replaced(run: Path, tmp_path: Path) -> None:
    song = write(tmp_path / "song.wav", resampled_tone(1.0, 900.0))
    command = ["--run", str(run), "--csv", str(tmp_path / "line.csv"), "--plot", str(tmp_path), str(song)]
    assert predict.main(command) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert predict.main(command) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert sorted(before) == ["line.csv", "song.png", "song.wav"]
