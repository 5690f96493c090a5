"""The three commands on a recipe that learns notes, as a user types them."""

import json
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import signals
from scored_dataset import RATE, melody, played, scored_example, write_scored

from tutti.datasets.scores.score import read_midi
from tutti.train import evaluate, predict
from tutti.train import run as train_run

SMALL = [
    "--set",
    "epochs=2",
    "--set",
    "batch_size=4",
    "--set",
    "window_s=1.0",
    "--set",
    "model_config.first_channels=4",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = [scored_example("train", number) for number in range(6)]
    examples += [scored_example(split, number) for split in ("validation", "test") for number in range(3)]
    return write_scored(tmp_path_factory.mktemp("scored"), examples)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    recipe = ["--recipe", "musescore-multitask", "--tiny", *SMALL]
    assert train_run.main(["--data", str(data), *recipe, "--output", str(folder)]) == 0
    return folder


def test_run_evaluate_and_predict_go_together(
    data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = tmp_path / "song.wav"
    notes = melody(np.random.default_rng(9), 2.0, ["flute"])
    song.write_bytes(signals.encoded(played(notes, 2.0)[None], sample_rate=RATE))
    capsys.readouterr()

    assert evaluate.main(["--run", str(run), "--data", str(data), "--split", "test"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["run"] == str(run)
    assert scored["split"] == "test"

    pictures = tmp_path / "pictures"
    namesake = tmp_path / "other" / "song.wav"
    namesake.parent.mkdir()
    namesake.write_bytes(song.read_bytes())
    assert predict.main(["--run", str(run), "--plot", str(pictures), "--json", str(song), str(namesake)]) == 0
    heard, again = json.loads(capsys.readouterr().out)["files"]
    assert (pictures / "song.png").read_bytes().startswith(b"\x89PNG")
    assert (pictures / "song-2.mid").read_bytes() == (pictures / "song.mid").read_bytes()
    assert again["notes"] == heard["notes"]
    if heard["notes"]:
        assert len(read_midi((pictures / "song.mid").read_bytes(), "song.mid").notes) == len(heard["notes"])


def test_a_csv_of_notes_is_a_usage_error_that_says_what_there_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main(["--run", str(run), "--csv", str(tmp_path / "table.csv"), "song.wav"]) == 2
    assert "--plot DIR writes them as MIDI and piano roll" in capsys.readouterr().err


def test_an_unknown_recipe_names_those_of_both_kinds(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_run.main(["--data", str(data), "--recipe", "musescore_multitsk"]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'musescore_multitask'?" in said
    assert "logmel_cnn" in said


def test_a_score_of_the_users_beside_the_song_is_never_replaced_by_what_was_heard(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song, score = tmp_path / "mine.wav", tmp_path / "mine.mid"
    song.write_bytes(signals.encoded(signals.silence(1.0, sample_rate=RATE), sample_rate=RATE))
    mido.MidiFile(tracks=[mido.MidiTrack([mido.Message("note_on", note=60, time=5)])]).save(score)
    before = score.read_bytes()
    command = ["--run", str(run), "--plot", str(tmp_path), str(song)]

    assert predict.main(command) == 2
    assert "mine.mid: is there, and this command did not write it" in capsys.readouterr().err
    assert score.read_bytes() == before

    score.unlink()
    assert predict.main(command) == 0
    assert predict.main(command) == 0  # its own may be written again


def test_a_stopped_run_goes_on_by_the_same_command_and_a_finished_one_is_left_alone(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint = train_run.checkpoints.save_checkpoint
    recipe = ["--recipe", "musescore-multitask", "--tiny", *SMALL]
    command = ["--data", str(data), *recipe, "--output", str(tmp_path / "run")]

    def stop(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_run.checkpoints, "save_checkpoint", stop)
    assert train_run.main(command) == 130
    monkeypatch.undo()

    assert train_run.main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert train_run.main(command) == 0
    again = json.loads(capsys.readouterr().out)

    assert (first["changed"], again["changed"]) == (True, False)
    assert again["test"] == first["test"]
    assert again.keys() >= first.keys()
    for name in ("model.safetensors", "config.json", "metrics.json", "checkpoint.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes(), name
