"""Pictures: what they show, that the same numbers give the same bytes, and where commands write them."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import signals
import torch
from dataset_fixture import INSTRUMENTS, SAMPLE_RATE, learnable_dataset, timbre
from PIL import Image

from tutti.datasets.manifest import read_manifest
from tutti.train import evaluate, predict
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.scoring.metrics import example_f1, predominant_accuracy, predominant_confusion
from tutti.train.scoring.pictures import (
    ablation_bars,
    activity,
    confusion_matrix,
    f1_histogram,
    instrument_bars,
    roc_lines,
    save,
)
from tutti.train.scoring.report import evaluation_report

# Six clips, four classes; -1 is unknown.
PRESENCE = np.array(
    [[1, 0, 0, 0], [1, 0, -1, 0], [0, 1, 0, -1], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], np.int8
)  # fmt: skip
SCORES = np.array(
    [
        [0.9, 0.2, 0.1, 0.1],
        [0.3, 0.8, 0.1, 0.1],
        [0.1, 0.9, 0.2, 0.9],
        [0.1, 0.6, 0.4, 0.2],
        [0.2, 0.1, 0.1, 0.7],
        [0.1, 0.1, 0.2, 0.1],
    ]
)
HALF = np.full(4, 0.5)


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TUTTI_CACHE_DIR", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_dataset(tmp_path_factory.mktemp("data"), num_train=32, num_others=12)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    small = ["epochs=4", "batch_size=8", "window_s=0.8", "learning_rate=5e-3", "features.n_mels=32"]
    recipe = load_recipe("logmel_cnn", [*small, "model_config.width=8"])
    train(recipe, read_manifest(data), output=folder)
    return folder


# --- the numbers behind them


def test_a_clips_f1_counts_its_known_labels_only() -> None:
    # right; wrong class; unknown not counted; one of two; right; nothing there and nothing said
    assert example_f1(PRESENCE, SCORES >= 0.5).tolist() == pytest.approx([1, 0, 1, 2 / 3, 1, 1])
    assert example_f1(np.full((2, 4), -1, np.int8), np.ones((2, 4), bool)).tolist() == []


def test_confusion_counts_clips_of_one_instrument_by_what_scores_highest() -> None:
    counts = predominant_confusion(PRESENCE, SCORES)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert predominant_accuracy(PRESENCE, SCORES) == np.trace(counts) / counts.sum() == 0.75


# --- what they show


def test_every_instrument_has_three_bars_of_its_figures() -> None:
    report = evaluation_report(PRESENCE, SCORES, HALF.tolist(), INSTRUMENTS)
    axes = instrument_bars(report, "test").axes[0]
    heights = [round(float(bar.get_height()), 3) for bar in axes.patches]  # type: ignore[attr-defined]
    assert len(heights) == 12
    assert heights[:4] == [1.0, 0.667, 0.0, 1.0]  # precision: cello, flute, piano, voice
    assert heights[4:8] == [0.5, 1.0, 0.0, 1.0]  # recall
    assert axes.get_xticklabels()[0].get_text() == "cello\n2 of 6"


def test_an_ablation_has_a_bar_per_variant_and_figure_that_has_a_value() -> None:
    rows = {"bce": {"micro_f1": (0.5, 0.1), "lrap": (0.7, 0.0)}, "focal": {"micro_f1": (0.6, 0.0), "lrap": None}}

    axes = ablation_bars(rows, "losses").axes[0]

    assert sorted(round(bar.get_height(), 3) for bar in axes.patches) == [0.5, 0.6, 0.7]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["bce", "focal"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["micro f1", "lrap"]


def test_the_roc_of_every_class_that_has_one_is_drawn_with_its_area() -> None:
    presence = PRESENCE.copy()
    presence[:, 3] = 0  # no present voice: no curve
    axes = roc_lines(presence, SCORES, INSTRUMENTS, "test").axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["cello 1.00", "flute 0.88", "piano 1.00"]
    line = axes.get_lines()[1]
    assert (line.get_xdata()[0], line.get_ydata()[-1]) == (0, 1)  # type: ignore[index]


def test_the_histogram_holds_every_clip_once() -> None:
    figure = f1_histogram(PRESENCE, SCORES, HALF, "test")
    heights = [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert sum(heights) == 6
    assert (heights[0], heights[13], heights[-1]) == (1, 1, 4)  # F1 0, 2 / 3, 1


def test_the_confusion_matrix_prints_its_counts() -> None:
    axes = confusion_matrix(PRESENCE, SCORES, INSTRUMENTS, "test").axes[0]
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [
        ((0, 0), "1"), ((1, 0), "1"), ((1, 1), "1"), ((3, 3), "1"),
    ]  # fmt: skip
    assert axes.get_title() == "test: one instrument, 3 of 4 right"


def test_activity_marks_what_reaches_its_threshold_and_when() -> None:
    spans = [(0.0, 1.0), (1.0, 2.0)]
    figure = activity(spans, np.array([[0.9, 0.1], [0.2, 0.6]]), np.array([0.5, 0.5]), ("cello", "flute"), "song")
    marks = [(list(line.get_xdata()), float(line.get_ydata()[0])) for line in figure.axes[0].get_lines()]  # type: ignore
    assert marks == [([0.0, 1.0], 0.45), ([1.0, 2.0], 1.45)]
    assert len(figure.axes[0].patches) == 4
    assert figure.axes[0].get_xlim() == (0.0, 2.0)


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        save(roc_lines(PRESENCE, SCORES, INSTRUMENTS, "test"), tmp_path / f"{name}.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    assert Image.open(tmp_path / "first.png").size == (864, 600)


# --- the commands


def test_evaluation_fills_a_folder_named_after_split_and_version(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", str(run), "--data", str(data), "--split", "test"]
    assert evaluate.main([*arguments, "--no-pictures"]) == 0
    assert "pictures" not in json.loads(capsys.readouterr().out)
    assert not (run / "pictures").exists()
    assert evaluate.main(arguments) == 0
    pictures = [Path(path) for path in json.loads(capsys.readouterr().out)["pictures"]]
    folder = run / "pictures" / f"test-{read_manifest(data).version}"
    assert sorted(folder.iterdir()) == sorted(pictures)
    assert [path.name for path in pictures] == ["instruments.png", "roc.png", "f1_per_clip.png", "confusion.png"]
    for path in pictures:
        with Image.open(path) as image:
            assert min(image.size) > 300
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10


def test_prediction_draws_every_file_under_a_name_of_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    waveform = np.concatenate([timbre("flute", 1.6, rng), timbre("cello", 0.8, rng)], axis=1)
    files = [tmp_path / name for name in ("song.wav", "b/song.wav", "song-2.wav")]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(signals.encoded(waveform, sample_rate=SAMPLE_RATE))
    flags = ["--plot", str(tmp_path / "drawn"), "--csv", str(tmp_path / "line.csv")]
    assert predict.main(["--run", str(run), *flags, *map(str, files)]) == 0
    capsys.readouterr()
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == ["song-2-2.png", "song-2.png", "song.png"]
    with (tmp_path / "line.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 3 * 3 * len(INSTRUMENTS)


def test_a_run_that_is_trained_anew_loses_the_pictures_of_the_old_one(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("logmel_cnn", ["epochs=1", "features.n_mels=32", "model_config.width=4"])
    train(recipe, read_manifest(data), output=tmp_path / "run")
    (tmp_path / "run" / "pictures" / "test-0").mkdir(parents=True)
    train(recipe, read_manifest(data), output=tmp_path / "run", restart=True)
    assert not (tmp_path / "run" / "pictures").exists()
