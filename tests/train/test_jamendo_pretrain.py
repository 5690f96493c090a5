"""Tags of uploaders: what is not tagged is unknown in training and absent in figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_fixture import INSTRUMENTS, mixture, write_dataset
from materials import data_of, material_of

from tutti.datasets.manifest import read_manifest
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.train.evaluate import evaluate
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.runs.saved import load_run
from tutti.train.tags_recipe import TagsRecipe
from tutti.train.tasks.tags import UploadersTags

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks of which only present instruments are known; one of each split has no tag at all."""
    generator = np.random.default_rng(0)
    examples = []
    for split, number in (("train", 32), ("validation", 16), ("test", 16)):
        for index in range(number):
            whole = mixture(split, index, generator, duration_s=2.3)
            present = {name: PRESENT for name, value in whole.presence.items() if value == PRESENT}
            examples.append(replace(whole, presence={} if index == 3 else present))
    return write_dataset(tmp_path_factory.mktemp("tracks"), examples)


def tiny(*overrides: str) -> TagsRecipe:
    recipe: TagsRecipe = load_recipe("jamendo_pretrain", overrides, tiny=True)
    return recipe


@pytest.fixture(scope="module")
def summary(tracks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    return train(tiny("epochs=12"), read_manifest(tracks), output=tmp_path_factory.mktemp("runs") / "run")


def test_what_is_not_tagged_is_unknown_in_training_and_absent_in_figures(tracks: Path) -> None:
    material = material_of(tiny(), tracks)
    assert set(np.unique(material.train.known_labels)) == {UNKNOWN, PRESENT}
    assert len(material.chosen) == 32  # it weighs a little
    validation = material.validation.known_labels
    assert sorted(np.unique(validation)) == [UNKNOWN, ABSENT, PRESENT]
    assert (validation == UNKNOWN).sum() == len(INSTRUMENTS)  # only of the clip of which nothing is known
    assert torch.equal(material.validation.presence, torch.from_numpy(validation))
    open_ = UploadersTags.of(tiny("untagged=unknown"), data_of(tracks)).load_split(data_of(tracks), "validation")
    assert set(np.unique(open_.known_labels)) == {UNKNOWN, PRESENT}


@pytest.mark.parametrize("reading", ["resident", "streaming"])
def test_both_tiers_score_the_same_labels(tracks: Path, reading: str) -> None:
    task = UploadersTags.of(tiny(f"compute.reading={reading}"), data_of(tracks))
    labels = task.load_split(data_of(tracks), "test").known_labels
    assert (labels == ABSENT).sum() > 0
    assert (labels == UNKNOWN).sum() == len(INSTRUMENTS)


def test_the_tiny_form_beats_the_best_constant_and_its_run_says_the_same_again(
    summary: dict[str, Any], tracks: Path
) -> None:
    for split in ("validation", "test"):
        model, constant = summary[split]["model"], summary[split]["constant"]
        assert model["roc_auc"] > 0.8
        assert model["map"] > constant["map"] + 0.1
        assert model["micro_f1"] > constant["micro_f1"]
    run = load_run(Path(summary["output"]), torch.device("cpu"))
    assert evaluate(run, read_manifest(tracks), "test")["model"]["roc_auc"] == summary["test"]["model"]["roc_auc"]


def test_the_recipe_shares_network_and_front_end_with_the_one_that_goes_on() -> None:
    first, second = load_recipe("jamendo_pretrain"), load_recipe("mixtures_transfer")
    assert (first.model, first.model_config, first.features, first.window_s) == (
        second.model, second.model_config, second.features, second.window_s,
    )  # fmt: skip
    assert first.loss.unknown_weight == 0.1
