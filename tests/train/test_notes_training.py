"""Learning notes end to end on small datasets: what is learned, written, predicted."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signals
import torch
from dataset_fixture import mixture, write_dataset
from materials import data_of
from scored_dataset import PROGRAMS, RATE, melody, played, scored_example, write_scored

from tutti.datasets.errors import IntegrityError, TuttiError, UsageError
from tutti.datasets.manifest import read_manifest
from tutti.datasets.record import PRESENT, Note
from tutti.datasets.scores.score import read_midi
from tutti.train import run as train_run
from tutti.train.evaluate import evaluate
from tutti.train.features.cqt import Cqt, CqtConfig
from tutti.train.fitting.loop import examples
from tutti.train.notes.clips import instruments_of, load_scored_clips, read_notes
from tutti.train.notes.recipe import NotesRecipe
from tutti.train.predict import predict_file
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.runs.saved import SavedRun, load_run

CPU = torch.device("cpu")
HOP_S = 0.032
TINY = ["epochs=14", "batch_size=4", "window_s=1.0", "model_config.first_channels=6"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Steps this small are not faster on two cores, and on busy ones far slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = [scored_example("train", number) for number in range(21)]
    examples += [scored_example(split, number) for split in ("validation", "test") for number in range(6)]
    return write_scored(tmp_path_factory.mktemp("scored"), examples)


def recipe_of(*overrides: str) -> NotesRecipe:
    return load_recipe("musescore_multitask_small", [*TINY, *overrides])


def trained(data: Path, output: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    return train(recipe_of(*overrides), read_manifest(data), output=output, **options)


@pytest.fixture(scope="module")
def summary(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained(data, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def run(summary: dict[str, Any]) -> SavedRun:
    return load_run(Path(summary["output"]), CPU)


# --- what is learned, and what is written


def test_on_unheard_melodies_the_network_beats_one_for_which_everything_sounds(summary: dict[str, Any]) -> None:
    model, constant = summary["test"]["model"], summary["test"]["constant"]
    assert constant["pitch_accuracy"] < 0.02
    assert model["pitch_accuracy"] > 0.5
    assert model["roll_accuracy"] > 0.4
    assert model["instrument_macro_f1"] > constant["instrument_macro_f1"] + 0.15
    assert model["second_auc"] > 0.7


def test_the_run_folder_is_that_of_every_run_and_says_which_kind_it_is(summary: dict[str, Any], data: Path) -> None:
    folder = Path(summary["output"])
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock", "checkpoint.safetensors", "config.json", "metrics.json", "model.safetensors", "tensorboard",
    ]  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (config["task"], config["instruments"]) == ("notes", ["flute", "piano"])
    assert config["data"]["root_digest"] == read_manifest(data).root_digest
    assert len(config["standardization"]["mean"]) == 88
    assert sorted(config["thresholds"]) == ["instrument", "pitch", "roll"]
    assert [row["epoch"] for row in metrics["history"]] == list(range(1, 15))
    assert sorted(metrics["splits"]) == ["test", "validation"]
    assert sorted(metrics["splits"]["test"]["per_instrument"]) == ["flute", "piano"]


def test_the_loss_falls(summary: dict[str, Any]) -> None:
    history = json.loads((Path(summary["output"]) / "metrics.json").read_text())["history"]
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]


def test_a_loaded_run_scores_what_it_scored_when_it_was_trained(
    summary: dict[str, Any], run: SavedRun, data: Path
) -> None:
    report = evaluate(run, read_manifest(data), "test")
    assert report["model"] == summary["test"]["model"]
    assert (report["split"], report["num_clips"]) == ("test", 6)


def test_data_with_other_classes_are_scored_by_the_names_of_the_instruments(run: SavedRun, tmp_path: Path) -> None:
    examples = [scored_example("test", number) for number in range(3)]
    other = write_scored(tmp_path / "other", examples, ("accordion", "flute", "organ", "piano"))
    same = write_scored(tmp_path / "same", examples)
    reports = [evaluate(run, read_manifest(folder), "test") for folder in (other, same)]
    assert reports[0]["model"] == reports[1]["model"]
    assert reports[0]["model"]["pitch_accuracy"] > 0.4


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(data: Path, tmp_path: Path) -> None:
    runs = [trained(data, tmp_path / name, "epochs=1", f"seed={seed}") for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    weights = [(Path(one["output"]) / "model.safetensors").read_bytes() for one in runs]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("checkpoints", [1, 7])
def test_a_run_that_is_stopped_after_any_step_and_resumed_equals_the_uninterrupted_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: int
) -> None:
    """After one checkpoint it is in the first epoch, after seven in the second."""
    whole = trained(data, tmp_path / "whole", "epochs=2")
    plain, written = train_run.checkpoints.save_checkpoint, []

    def stopping(*arguments: Any) -> None:
        plain(*arguments)
        written.append(1)
        if len(written) == checkpoints:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(train_run.checkpoints, "save_checkpoint", stopping)
        with pytest.raises(Stopped):
            trained(data, tmp_path / "parts", "epochs=2", checkpoint_steps=1)
    assert not (tmp_path / "parts" / "metrics.json").exists()
    resumed = trained(data, tmp_path / "parts", "epochs=2")
    for name in ("model.safetensors", "metrics.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert resumed["test"] == whole["test"]


def test_a_folder_that_holds_another_run_is_left_alone(summary: dict[str, Any], data: Path) -> None:
    with pytest.raises(UsageError, match=r"holds a run with other recipe\.seed \(0 there, 5 here\); choose"):
        trained(data, Path(summary["output"]), "seed=5")


@pytest.mark.parametrize("task", ["roll", "pitch", "instrument"])
def test_a_single_task_learns_its_own_figure_and_is_judged_by_it(data: Path, tmp_path: Path, task: str) -> None:
    alone = [f"loss.{name}_weight=0" for name in ("roll", "pitch", "instrument") if name != task]
    recipe = recipe_of("epochs=4", *alone)
    assert recipe.loss.terms == (task,)
    result = train(recipe, read_manifest(data), output=tmp_path / "run")
    figure = {"roll": "roll_accuracy", "pitch": "pitch_accuracy", "instrument": "instrument_macro_f1"}[task]
    assert result["validation"]["model"][figure] > result["validation"]["constant"][figure] + 0.05
    history = json.loads((tmp_path / "run" / "metrics.json").read_text())["history"]
    assert result["best_epoch"] == max(range(1, 5), key=lambda epoch: (history[epoch - 1][figure], epoch))


def test_the_papers_own_preset_trains_too(data: Path, tmp_path: Path) -> None:
    sized = [
        "instruments=flute,piano",
        "epochs=2",
        "window_s=1.0",
        "model_config.first_channels=4",
        "present_weight=10",
        "roll_weight=2",
        "class_power=0.3",
    ]
    recipe = load_recipe("musescore_multitask", sized)
    assert (recipe.optimize.optimizer, recipe.optimize.learning_rate) == ("sgd", 0.005)
    result = train(recipe, read_manifest(data), output=tmp_path / "run")
    losses = [row["train_loss"] for row in json.loads((tmp_path / "run" / "metrics.json").read_text())["history"]]
    assert losses[1] < losses[0]
    assert result["parameters"] == 43_598


def test_a_loss_that_is_not_finite_stops_the_run_with_a_remedy(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TuttiError, match=r"epoch \d: the loss is not finite; try --set learning_rate="):
        trained(data, tmp_path / "run", "optimizer=sgd", "learning_rate=1e30", "max_gradient_norm=none")


# --- what is read


def test_the_notes_of_the_shards_come_back_in_the_order_of_the_clips(data: Path) -> None:
    arrays, has_score = read_notes(data_of(data), "validation")
    expected = [scored_example("validation", number)[1] for number in range(6)]
    assert has_score.tolist() == [True] * 6
    assert arrays.counts.tolist() == [len(notes or ()) for notes in expected]
    flat = [note for notes in expected for note in notes or ()]
    assert arrays.onset_s.tolist() == [note.onset_s for note in flat]
    assert arrays.pitch.tolist() == [note.pitch for note in flat]
    assert list(arrays.instrument) == [note.instrument for note in flat]


def test_clips_without_a_score_are_left_out_and_those_with_an_empty_one_are_silence(tmp_path: Path) -> None:
    with_notes, without, empty = (scored_example("train", number) for number in range(3))
    folder = write_scored(tmp_path, [with_notes, (without[0], None), (empty[0], ())])
    clips = load_scored_clips(data_of(folder), "train", recipe_of(), tuple(PROGRAMS))
    assert clips.scored.tolist() == [0, 2]
    assert clips.audio.lengths.tolist() == [63, 0, 63]
    rolls = clips.rolls(torch.tensor([0, 2]), torch.tensor([0, 0]), 63)
    assert rolls.piano[0].any()
    assert not rolls.piano[1].any()


def test_frames_are_the_cqt_of_the_clip_and_silence_after_its_end(data: Path) -> None:
    recipe = recipe_of()
    clips = load_scored_clips(data_of(data), "validation", recipe, tuple(PROGRAMS))
    example, notes = scored_example("validation", 2)
    gain = 10 ** ((-12.0 - (example.loudness_lufs or 0)) / 20) / 32768
    expected = Cqt(CqtConfig(scale="db"))(torch.from_numpy(example.samples * np.float32(gain))[None])[0]
    window = clips.audio.windows(torch.tensor([2, 2]), torch.tensor([0, 40]), 63, "zero")
    assert torch.allclose(window[0], expected, atol=0.05)  # 16 bits: steps of up to 0.03 dB
    assert torch.allclose(window[1, :23], expected[40:], atol=0.05)
    assert window[1, 23:].unique().tolist() == [-60.0]
    rolls = clips.rolls(torch.tensor([2]), torch.tensor([0]), 63)
    first = (notes or ())[0]
    middle = round((first.onset_s + first.offset_s) / 2 / HOP_S)
    assert rolls.pitch[0, first.pitch - 21, middle] == PRESENT


def test_what_the_builds_peak_guard_held_back_is_applied(tmp_path: Path) -> None:
    example, notes = scored_example("train", 1)
    example = replace(example, loudness_lufs=-12.0)
    quiet = replace(example, id="fixture/train/900@0", loudness_lufs=-18.0)
    folder = write_scored(tmp_path, [(example, notes), (quiet, notes)])
    clips = load_scored_clips(data_of(folder), "train", recipe_of(), tuple(PROGRAMS))
    loud = clips.audio.windows(torch.tensor([0, 1]), torch.tensor([0, 0]), 62, "zero")
    heard = loud[0] > -40
    assert heard.sum() > 500
    assert torch.allclose((loud[1] - loud[0])[heard], torch.tensor(6.0), atol=0.1)


def test_an_epoch_holds_every_clip_with_a_score_once_and_is_a_function_of_seed_and_number(tmp_path: Path) -> None:
    recipe = recipe_of("window_s=1.0")
    durations_s = (0.64, 1.024, 1.92, 3.2, 2.0, 0.9)
    pairs = [scored_example("train", number, duration_s=seconds) for number, seconds in enumerate(durations_s)]
    folder = write_scored(tmp_path, [*pairs[:-1], (pairs[-1][0], None)])
    clips = load_scored_clips(data_of(folder), "train", recipe, tuple(PROGRAMS))
    draws, again, other = (examples(clips.audio, clips.scored, recipe, epoch) for epoch in (3, 3, 4))
    lengths = clips.audio.lengths.tolist()
    assert lengths == [20, 32, 60, 100, 63, 0]
    assert sorted(draws.clips.tolist()) == [0, 1, 2, 3, 4]
    assert [len(draws.clips[draws.step(step)]) for step in range(draws.num_steps)] == [3, 2]
    begins = zip(draws.clips.tolist(), draws.first.tolist(), strict=True)
    assert all(0 <= start <= max(0, lengths[clip] - 32) for clip, start in begins)
    assert np.array_equal(draws.first, again.first)
    assert not np.array_equal(draws.first, other.first)


def test_data_without_notes_are_refused_with_a_way_out(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, [mixture("train", 0, np.random.default_rng(0))])
    with pytest.raises(UsageError, match=r"clips of split 'train' have no notes.*--dataset musescore"):
        train(recipe_of(), read_manifest(folder), output=tmp_path / "run")


def test_data_at_another_rate_are_refused_with_a_way_out(data: Path) -> None:
    recipe = recipe_of("cqt.sample_rate=22050")
    with pytest.raises(UsageError, match=r"clips at 16000 Hz, the recipe expects 22050.*cqt.sample_rate=16000"):
        load_scored_clips(data_of(data), "train", recipe, tuple(PROGRAMS))


def test_the_classes_are_those_that_play_or_those_of_the_recipe(data: Path) -> None:
    assert instruments_of(data_of(data), recipe_of()) == ("flute", "piano")
    assert instruments_of(data_of(data), recipe_of("instruments=piano")) == ("piano",)
    with pytest.raises(UsageError, match=r"cello, violin never plays in split 'train'.*instruments=piano"):
        instruments_of(data_of(data), recipe_of("instruments=violin,piano,cello"))


# --- runs on disk


def test_a_run_that_is_not_finished_or_damaged_is_refused(summary: dict[str, Any], tmp_path: Path) -> None:
    whole = Path(summary["output"])
    with pytest.raises(UsageError, match="no finished run here"):
        load_run(tmp_path, CPU)
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(IntegrityError, match=r"not the weights that config.json names"):
        load_run(copy, CPU)
    config = json.loads((whole / "config.json").read_text())
    for change in ({"schema_version": 99}, {"task": "clips"}, {"thresholds": {}}, {"recipe": {}}):
        (copy / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(IntegrityError, match="train again"):
            load_run(copy, CPU)


# --- prediction


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Note]]:
    """Five seconds and a bit: neither a whole number of windows nor of frames."""
    notes = melody(np.random.default_rng(99), 5.3, ("flute", "piano"))
    path = tmp_path_factory.mktemp("audio") / "song.wav"
    path.write_bytes(signals.encoded(played(notes, 5.3)[None], sample_rate=RATE))
    return path, notes


def test_a_files_notes_are_those_that_were_played(run: SavedRun, song: tuple[Path, list[Note]]) -> None:
    path, played_notes = song
    result = predict_file(path, run)
    assert result["duration_s"] == pytest.approx(5.3)
    assert sorted(result["instruments"]) == ["flute", "piano"]
    lines = run.task.text(result).splitlines()
    assert lines[0].endswith(f"song.wav  (5.3 s, {len(result['notes'])} notes)")
    assert [line.split()[0] for line in lines[1:]] == result["instruments"]
    assert all(0 <= note["onset_s"] < note["offset_s"] <= 5.3 for note in result["notes"])
    found = [
        note
        for note in played_notes
        if any(
            (heard["pitch"], heard["instrument"]) == (note.pitch, note.instrument)
            and abs(heard["onset_s"] - note.onset_s) < 2 * HOP_S
            for heard in result["notes"]
        )
    ]
    assert len(found) > 0.5 * len(played_notes)


def test_prediction_writes_midi_and_a_picture_of_the_same_notes(
    run: SavedRun, song: tuple[Path, list[Note]], tmp_path: Path
) -> None:
    result = predict_file(song[0], run, tmp_path / "song")
    assert result["files"] == [str(tmp_path / "song.mid"), str(tmp_path / "song.png")]
    score = read_midi((tmp_path / "song.mid").read_bytes(), "song.mid")
    expected = sorted((note["pitch"], note["program"], note["instrument"]) for note in result["notes"])
    assert sorted((note.pitch, note.program, note.instrument) for note in score.notes) == expected
    assert (tmp_path / "song.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    again = tmp_path / "again"
    predict_file(song[0], run, again / "song")
    assert (again / "song.png").read_bytes() == (tmp_path / "song.png").read_bytes()
    json.dumps(result, allow_nan=False)


def test_silence_has_no_notes(run: SavedRun, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    path.write_bytes(signals.encoded(signals.silence(1.0, sample_rate=RATE), sample_rate=RATE))
    result = predict_file(path, run, tmp_path / "out" / "silence")
    assert (result["notes"], result["timeline"]) == ([], {})
    assert len(result["files"]) == 2


def test_a_file_that_is_no_audio_is_refused(run: SavedRun, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"not audio")
    with pytest.raises(IntegrityError, match=r"song\.wav"):
        predict_file(tmp_path / "song.wav", run)
    with pytest.raises(UsageError, match="cannot be read"):
        predict_file(tmp_path / "missing.wav", run)
