"""The NSynth pre-training paper's recipe: what it sets, that its tiny form learns, and what comes after it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_fixture import learnable_dataset
from materials import data_of, material_of
from nsynth_notes import build_once

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest
from tutti.datasets.record import PRESENT
from tutti.train.clips import one_present
from tutti.train.data import Data
from tutti.train.fitting.optimize import schedule
from tutti.train.front_end import evaluation_chunking, evaluation_unit, load_clips
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.runs.saved import load_run
from tutti.train.tagger import build_tagger, chunk_logits
from tutti.train.tasks import tagging
from tutti.train.tasks.tagging import Tagging

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def notes(session_folder: Path) -> Path:
    """88 notes of 18 instruments to learn from, labelled by family."""
    return build_once(session_folder, "families")


@pytest.fixture(scope="module")
def numbered(session_folder: Path) -> Path:
    """The same notes, each labelled with its one of 1,006 instruments and no other."""
    return build_once(session_folder)


@pytest.fixture(scope="module")
def pretrained(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Summary of a tiny pre-training run."""
    return pretrain(notes, tmp_path_factory.mktemp("pretrained") / "run")


def pretrain(data: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    recipe = load_recipe("nsynth_pretrain", overrides, tiny=True)
    return train(recipe, read_manifest(data), output=folder)


def figures(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each split, with what the summary line leaves out."""
    splits = json.loads((Path(summary["output"]) / "metrics.json").read_text())["splits"]
    return {name: split["model"] for name, split in splits.items()}


def test_the_recipe_is_the_papers() -> None:
    recipe = load_recipe("nsynth_pretrain")
    optimize = recipe.optimize
    assert (recipe.epochs, recipe.batch_size, recipe.window_s, recipe.windows) == (30, 128, 1.0, "first")
    assert (optimize.optimizer, optimize.learning_rate, optimize.weight_decay) == ("adam", 1e-3, 5e-4)
    assert (recipe.loss.kind, recipe.loss.label_smoothing, recipe.select_by) == ("cross_entropy", 0.05, "last")
    factor = schedule(optimize, 30 * 2336, 2336)  # of 299,000 notes
    rates = [factor(epoch * 2336) for epoch in (0, 1, 2, 3, 16, 29)]
    assert rates == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0, 0.5290, 0.0034], abs=2e-3)  # three epochs up, then a cosine
    network = build_tagger(recipe, 1006, None).network
    assert network.head[-1].out_features == 1006  # type: ignore[union-attr, index]


# --- one present class: the others are absent


def test_what_is_unknown_beside_the_one_present_class_is_absent() -> None:
    presence = np.array([[-1, 1, 0], [1, -1, -1]], np.int8)
    found = one_present(presence, ["a", "b"])
    assert found.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert found.dtype == np.int8
    assert presence.tolist() == [[-1, 1, 0], [1, -1, -1]]


@pytest.mark.parametrize(("row", "num"), [([1, 1, 0], 2), ([0, -1, 0], 0), ([-1, -1, -1], 0)])
def test_a_clip_with_another_number_of_present_classes_is_an_error_that_names_it(row: list[int], num: int) -> None:
    presence = np.array([[1, 0, 0], row], np.int8)
    with pytest.raises(UsageError, match=rf"^irmas/b@0: {num} classes are known .* exactly one .* loss\.kind=bce"):
        one_present(presence, ["irmas/a@0", "irmas/b@0"])


@pytest.mark.parametrize("reading", ["resident", "streaming"])
def test_with_cross_entropy_each_note_has_1005_absent_instruments_in_either_tier(numbered: Path, reading: str) -> None:
    recipe = load_recipe("nsynth_pretrain", [f"compute.reading={reading}"], tiny=True)
    for loss, rest in (("cross_entropy", 0), ("bce", -1)):
        changed = replace(recipe, loss=replace(recipe.loss, kind=loss))
        clips = load_clips(data_of(numbered), "test", changed, unit="samples")
        assert clips.presence.shape == (9, 1006)
        assert np.array_equal(clips.known_labels, clips.presence.numpy())
        assert (np.sort(clips.known_labels, axis=1) == [rest] * 1005 + [1]).all()


def test_songs_with_several_instruments_do_not_suit_cross_entropy(tmp_path: Path) -> None:
    songs = read_manifest(learnable_dataset(tmp_path / "data", num_train=8, num_others=4))
    with pytest.raises(UsageError, match="classes are known to be present, and cross_entropy needs exactly one"):
        load_clips(Data(songs, CPU), "train", load_recipe("nsynth_pretrain"), unit="samples")


# --- validation


def test_validation_takes_the_softmax_loss_and_the_likeliest_class_and_searches_no_threshold(
    numbered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("nsynth_pretrain", tiny=True)
    material = material_of(recipe, numbered)
    statistics = material.statistics
    torch.manual_seed(0)
    tagger = build_tagger(recipe, 1006, statistics)
    logits, _ = chunk_logits(tagger, material.validation, evaluation_chunking(recipe))
    labels = torch.from_numpy(material.validation.known_labels.argmax(axis=1))
    monkeypatch.setattr(tagging, "best_threshold", None)  # a call would fail
    task = Tagging(recipe, tuple(str(index) for index in range(1006)))
    figures = task.figures(task.score_split(tagger, material.validation))
    expected = torch.nn.functional.cross_entropy(logits, labels)
    assert figures["validation_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert figures["validation_loss"] > 4  # of 1,006 classes by chance 6.9; the sum over single labels is below 1
    accuracy = float((logits.argmax(dim=1) == labels).double().mean())
    assert figures["predominant_accuracy"] == figures["micro_f1"] == pytest.approx(accuracy)
    assert figures["threshold"] is None


def test_with_cross_entropy_f1_chooses_the_epoch_by_accuracy() -> None:
    figures = {"predominant_accuracy": 0.7, "micro_f1": 0.1, "macro_f1": 0.3, "map": 0.2}
    by_f1, by_map, last = (
        Tagging(load_recipe("nsynth_pretrain", [f"select_by={name}"]), ()) for name in ("f1", "map", "last")
    )
    assert by_f1.score(figures) == 0.7
    assert by_map.score(figures) == 0.2
    assert last.score(figures) is None
    del figures["predominant_accuracy"]
    assert by_f1.score(figures) == 0.2


def test_the_summary_shows_accuracy_beside_that_of_the_best_constant(pretrained: dict[str, Any]) -> None:
    for split, constant in (("validation", 1 / 11), ("test", 2 / 9)):
        assert pretrained[split]["constant"]["predominant_accuracy"] == pytest.approx(constant, abs=1e-6)
        assert pretrained[split]["model"]["predominant_accuracy"] > constant + 0.1


def test_always_the_first_second_of_a_note_is_heard(notes: Path) -> None:
    recipe = replace(load_recipe("nsynth_pretrain", tiny=True), window_s=1.0)
    clips = load_clips(data_of(notes), "validation", recipe, unit=evaluation_unit(recipe))
    tagger = build_tagger(recipe, 1006, None)
    logits, plan = chunk_logits(tagger, clips, evaluation_chunking(recipe))
    assert len(logits) == len(clips) == 11  # of four seconds each
    assert plan.first.tolist() == [0] * 11


def test_the_tiny_form_names_families_better_than_any_constant(pretrained: dict[str, Any]) -> None:
    assert figures(pretrained)["validation"]["predominant_accuracy"] > 0.4  # a constant: .091
    assert figures(pretrained)["test"]["predominant_accuracy"] > 0.4  # .222
    for split in ("validation", "test"):
        for figure in ("map", "lrap"):
            assert pretrained[split]["model"][figure] > pretrained[split]["constant"][figure] + 0.1


@pytest.mark.slow
def test_the_tiny_form_names_instruments_better_than_any_constant(session_folder: Path, tmp_path: Path) -> None:
    summary = pretrain(build_once(session_folder), tmp_path / "run")
    assert figures(summary)["validation"]["predominant_accuracy"] > 0.3  # one note each of 18 instruments: .056
    assert figures(summary)["test"]["predominant_accuracy"] > 0.3  # nine notes, at most two of an instrument: .222


def test_augmentation_mixes_notes_and_their_labels(notes: Path) -> None:
    recipe = load_recipe("nsynth_pretrain", tiny=True)
    material = material_of(recipe, notes)
    augmentation = Tagging(recipe, ()).augmentation
    assert augmentation.waveform is not None
    assert augmentation.spectrogram is None
    names = [type(effect.transform).__name__ for effect in augmentation.waveform.effects]
    chances = [effect.probability for effect in augmentation.waveform.effects]
    assert list(zip(names, chances, strict=True)) == [("ConcatSameInstrument", 0.5), ("Chain", 0.3), ("Mixup", 0.5)]
    presence = material.train.known_labels
    assert np.array_equal((presence == PRESENT).sum(axis=1), np.ones(88))


def test_fine_tuning_begins_with_the_backbone_of_pre_training(pretrained: dict[str, Any], tmp_path: Path) -> None:
    run = load_run(Path(pretrained["output"]), CPU)
    recipe = load_recipe("irmas_finetune", [f"model_config.weights={pretrained['output']}"], tiny=True)
    torch.manual_seed(0)
    network = build_tagger(recipe, 11, None).network
    before, after = run.tagger.network.state_dict(), network.state_dict()
    backbone = [name for name in after if name.startswith("backbone.")]
    assert len(backbone) > 20
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    head = {name: tuple(after[name].shape) for name in after if name.startswith("head.") and name.endswith("weight")}
    assert (11, run.tagger.network.backbone.num_features) in head.values()  # type: ignore[union-attr]


def test_pre_training_is_followed_by_fine_tuning(pretrained: dict[str, Any], tmp_path: Path) -> None:
    copied = shutil.copytree(pretrained["output"], tmp_path / "pretrained")
    recipe = load_recipe("irmas_finetune", ["epochs=3", f"model_config.weights={copied}"], tiny=True)
    songs = read_manifest(learnable_dataset(tmp_path / "data", num_train=24, num_others=12))
    summary = train(recipe, songs, output=tmp_path / "run")
    assert summary["test"]["model"]["map"] > summary["test"]["constant"]["map"] + 0.1
    shutil.rmtree(copied)  # the run holds its own weights
    run = load_run(tmp_path / "run", CPU)
    assert run.recipe.model_config.weights == str(copied)
    assert run.data.instruments == ("cello", "flute", "piano", "voice")


@pytest.mark.slow
def test_on_the_sample_pre_training_is_followed_by_fine_tuning(
    pretrained: dict[str, Any], sample_build: Path, tmp_path: Path
) -> None:
    recipe = load_recipe("irmas_finetune", [f"model_config.weights={pretrained['output']}"], tiny=True)
    summary = train(recipe, read_manifest(sample_build), output=tmp_path / "run")
    validation = summary["validation"]
    assert validation["model"]["map"] > validation["constant"]["map"] + 0.05
