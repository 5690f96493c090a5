"""Five instruments second by second in mixes of songs: what is true, what a run says, and the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_fixture import learnable_dataset
from materials import data_of
from stems import Song, Stem, write_songs

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest
from tutti.datasets.record import Sounding
from tutti.train import evaluate
from tutti.train.notes.transcription import compute_rolls
from tutti.train.per_second import FIVE, columns_of, hear_mixes, scores_of, truth_of
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.runs.saved import DataIdentity, SavedRun, load_run
from tutti.train.tasks.listing import task_of

CPU = torch.device("cpu")
PIANO, GUITAR, VIOLIN, CELLO, FLUTE = range(5)

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


def mixes() -> list[Song]:
    """Eight songs in which instruments take turns, of two corpora and two splits."""
    turns = [("piano", "cello"), ("flute", "piano"), ("cello", "voice"), ("voice", "flute")] * 2
    return [
        Song(
            ("medleydb", "mixing_secrets")[index % 2], f"song{index}", ("test", "validation")[index // 4],
            (Stem(first, ((0.0, 3.0),)), Stem(second, ((3.0, 6.0),))),
        )
        for index, (first, second) in enumerate(turns)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"), mixes())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned cello, flute, piano and voice from clips."""
    torch.set_num_threads(1)
    data = learnable_dataset(tmp_path_factory.mktemp("data"), num_train=64, num_others=20)
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(load_recipe("logmel_cnn", ["epochs=14"], tiny=True), read_manifest(data), output=folder)
    return folder


# --- what is true


def test_a_second_has_the_instruments_that_sound_in_it_for_a_tenth_of_it() -> None:
    classes = ("acoustic_guitar", "cello", "piano", "voice")
    soundings = [
        Sounding("S00", ((0.0, 1.5),), ("piano",), ()),
        Sounding("S01", ((1.95, 3.0),), ("acoustic_guitar",), ()),
        Sounding("S02", ((2.5, 4.0),), ("voice",), ("cello",)),  # what leaks into it is not known
    ]
    truth = truth_of(soundings, 4, classes)
    assert truth[:, PIANO].tolist() == [1, 1, 0, 0]
    assert truth[:, GUITAR].tolist() == [0, -1, 1, 0]  # .05 s of the second
    assert truth[:, CELLO].tolist() == [0, 0, -1, -1]
    assert truth[:, VIOLIN].tolist() == truth[:, FLUTE].tolist() == [-1, -1, -1, -1]  # no class of the data


def test_a_guitar_is_of_either_kind() -> None:
    assert columns_of("guitar", ("acoustic_guitar", "guitar", "piano", "electric_guitar")) == [0, 1, 3]
    assert columns_of("piano", ("acoustic_guitar", "guitar", "piano")) == [2]
    both = [Sounding("S00", ((0.0, 1.0),), (), ("acoustic_guitar", "electric_guitar", "guitar"))]
    assert truth_of(both, 1, ("acoustic_guitar", "electric_guitar", "guitar"))[0, GUITAR] == -1


# --- what runs say


def test_a_run_on_clips_is_heard_on_songs_that_it_never_saw(
    run: Path, songs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--run", str(run), "--data", str(songs), "--per-second", "--split", "all"]
    assert evaluate.main([*command, "--intervals", "--resamples", "20"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out.splitlines()[-1])
    assert (result["num_songs"], result["num_seconds"]) == (8, 48)
    assert result["present"] == {"piano": 12, "guitar": 0, "violin": 0, "cello": 12, "flute": 12}
    assert min(result["auc"][name] for name in ("piano", "cello", "flute")) > 0.8
    assert (result["auc"]["guitar"], result["not_heard"]) == (None, ["guitar", "violin"])
    heard = [result["auc"][name] for name in ("piano", "cello", "flute")]
    assert result["auc"]["average"] == pytest.approx(sum(heard) / 3, abs=1e-6)
    assert {name: part["num_songs"] for name, part in result["corpora"].items()} == {"medleydb": 4, "mixing_secrets": 4}
    assert result["intervals"]["piano"]["low"] <= result["auc"]["piano"]
    assert "S1, multitask               0.718    0.819    0.682    0.812    0.961    0.798" in captured.err


def test_the_songs_of_a_corpus_and_split_can_be_chosen(run: Path, songs: Path) -> None:
    heard = hear_mixes(load_run(run, CPU), data_of(songs), ["test"], ["medleydb"])
    assert sorted(set(heard.songs)) == ["medleydb/song0", "medleydb/song2"]
    with pytest.raises(UsageError, match="no mix of slakh in test; try --split all"):
        hear_mixes(load_run(run, CPU), data_of(songs), ["test"], ["slakh"])


def untrained(recipe_name: str, classes: tuple[str, ...]) -> SavedRun:
    task = task_of(load_recipe(recipe_name), classes)
    torch.manual_seed(0)
    return SavedRun(task, DataIdentity("", "", "", classes), None, task.build(None).eval())


def test_a_run_on_notes_says_of_a_second_the_mean_of_its_frames() -> None:
    run = untrained("musescore_multitask_small", ("piano", "violin"))
    mono = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    roll_IF = compute_rolls(run.tagger, run.recipe, mono).instrument[0].numpy()
    scores = scores_of(run, mono, 2)
    first_second = roll_IF[:, : int(np.ceil(1 / run.recipe.cqt.hop_s))].mean(axis=1)
    assert scores.shape == (2, 2)
    assert scores[0].tolist() == pytest.approx(first_second.tolist(), abs=1e-6)


def test_a_second_is_heard_in_the_chunks_that_lie_over_it(run: Path) -> None:
    saved = load_run(run, CPU)  # chunks of .8 s
    mono = np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32)
    quiet = mono.copy()
    quiet[:16_000] = 0
    one, other = scores_of(saved, mono, 4), scores_of(saved, quiet, 4)
    assert one.shape == (4, 4)
    assert not np.allclose(one[0], other[0])
    assert np.allclose(one[2:], other[2:])


def test_a_run_that_hears_none_of_them_or_no_audio_is_refused(songs: Path) -> None:
    with pytest.raises(UsageError, match="hears none of piano, guitar, violin, cello, flute; it hears organ, voice"):
        hear_mixes(untrained("logmel_cnn", ("organ", "voice")), data_of(songs), ["test"])
    with pytest.raises(UsageError, match="this run cannot hear songs: its model hears the VGGish embeddings"):
        hear_mixes(untrained("openmic_bilstm", FIVE), data_of(songs), ["test"])


def test_data_without_songs_are_refused(run: Path, tmp_path: Path) -> None:
    data = learnable_dataset(tmp_path, num_train=2, num_others=2)
    with pytest.raises(UsageError, match="holds no stems"):
        hear_mixes(load_run(run, CPU), data_of(data), ["test"])


def arguments(*words: str) -> Any:
    return evaluate.main(["--run", "none", "--data", "none", *words])


def test_flags_of_songs_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments("--split", "all") == 2
    assert "--sources and --split all go with --per-second" in capsys.readouterr().err
