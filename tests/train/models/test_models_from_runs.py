"""A finished run as the beginning of another: its backbone goes over, its head does not."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dataset_fixture import learnable_dataset
from safetensors.torch import load_file

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import read_manifest
from tutti.train.cli import with_weights
from tutti.train.fitting.checkpoints import encode_tensors
from tutti.train.model import load_model, model_names, tiny_config
from tutti.train.recipe import load_recipe, recipe_to_json
from tutti.train.run import main, train
from tutti.train.runs.saved import MODEL, load_run, write_json
from tutti.train.tagger import build_network
from tutti.train.tagging_recipe import TaggingRecipe

BY_GRADIENT = [name for name in model_names() if name != "multilabel_svm"]

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


def recipe_of(model: str, **changes: Any) -> TaggingRecipe:
    plain: TaggingRecipe = load_recipe("logmel_cnn")
    return replace(plain, model=model, model_config=replace(tiny_config(model), **changes))


def finished(folder: Path, model: str, num_classes: int = 3) -> dict[str, torch.Tensor]:
    """Write the files of a run that are read here; answer its weights."""
    torch.manual_seed(1)
    recipe = recipe_of(model)
    weights = {name: value.clone() for name, value in build_network(recipe, num_classes).state_dict().items()}
    folder.mkdir()
    (folder / MODEL).write_bytes(encode_tensors(weights))
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    write_json(folder / "config.json", {"recipe": recipe_to_json(recipe), "model_sha256": digest})
    (folder / "metrics.json").write_text("{}")
    return weights


@pytest.mark.parametrize("model", BY_GRADIENT)
def test_the_backbone_of_a_run_goes_over_and_its_head_does_not(model: str, tmp_path: Path) -> None:
    weights = finished(tmp_path / "run", model)
    torch.manual_seed(2)
    own = build_network(recipe_of(model), 3).state_dict()
    torch.manual_seed(2)
    network = build_network(recipe_of(model, weights=str(tmp_path / "run")), 3).state_dict()
    assert network.keys() == weights.keys()
    for name, value in network.items():
        expected = own if name.startswith("head.") else weights
        assert torch.equal(value, expected[name]), name
    trained = {name for name in weights if not name.startswith("head.")}
    assert any(not torch.equal(own[name], weights[name]) for name in trained)


def test_the_new_run_may_have_other_classes(tmp_path: Path) -> None:
    weights = finished(tmp_path / "run", "vgg7")
    network = build_network(recipe_of("vgg7", weights=str(tmp_path / "run")), 15).state_dict()
    assert network["head.5.weight"].shape == (15, 32)
    assert torch.equal(network["backbone.blocks.0.0.weight"], weights["backbone.blocks.0.0.weight"])


def test_a_run_of_another_model_or_size_is_refused_and_says_what_to_set(tmp_path: Path) -> None:
    finished(tmp_path / "run", "vgg7")
    with pytest.raises(UsageError, match=r"run: a run of model vgg7, and this recipe trains logmel_cnn"):
        build_network(recipe_of("logmel_cnn", weights=str(tmp_path / "run")), 3)
    with pytest.raises(
        UsageError, match=r"a vgg7 of another size: 5 of 42 .* set model_config\.widths=8,8,16,16,16,32,32, as there"
    ):
        build_network(recipe_of("vgg7", widths="8,8,16,16,16,32,64", weights=str(tmp_path / "run")), 3)


def test_a_run_that_is_not_finished_or_damaged_is_refused(tmp_path: Path) -> None:
    finished(tmp_path / "run", "vgg7")
    recipe = recipe_of("vgg7", weights=str(tmp_path / "run"))
    content = (tmp_path / "run" / MODEL).read_bytes()
    (tmp_path / "run" / MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"not the weights that config\.json names"):
        build_network(recipe, 3)
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(UsageError, match="this run is not finished; finish it with the command that began it"):
        build_network(recipe, 3)


@pytest.mark.parametrize("recipe_name", ["lumen_convnext", pytest.param("ast_finetune", marks=pytest.mark.slow)])
def test_runs_of_models_with_published_weights_begin_others(recipe_name: str, tmp_path: Path) -> None:
    data = learnable_dataset(tmp_path / "data", num_train=8, num_others=4)
    command = ["--data", str(data), "--recipe", recipe_name, "--tiny", "--set", "epochs=1"]
    assert main([*command, "--output", str(tmp_path / "first")]) == 0
    second = [*command, "--set", "learning_rate=1e-9", "--weights", str(tmp_path / "first")]
    assert main([*second, "--output", str(tmp_path / "second")]) == 0
    before, after = (load_file(tmp_path / name / MODEL) for name in ("first", "second"))
    weights = [name for name in before if name.endswith("weight") and not name.startswith("head.")]
    assert len(weights) > 5
    for name in weights:
        assert torch.allclose(before[name], after[name], atol=1e-6), name
    for path in (tmp_path / "first").iterdir():  # the second run holds all that it needs
        if path.is_file():
            path.unlink()
    assert load_run(tmp_path / "second", torch.device("cpu")).recipe.name == recipe_name


def test_a_model_that_is_fitted_at_once_begins_with_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--weights: the model of recipe svm begins with none; leave it out"):
        with_weights(load_recipe("svm"), str(tmp_path))
    assert with_weights(load_recipe("svm"), None) == load_recipe("svm")
    assert not hasattr(load_model("multilabel_svm").Config(), "weights")


def test_the_weights_of_a_run_are_part_of_what_makes_a_run_the_same(tmp_path: Path) -> None:
    data = learnable_dataset(tmp_path / "data", num_train=8, num_others=4)
    recipe = load_recipe("logmel_cnn", ["epochs=1"], tiny=True)
    train(recipe, read_manifest(data), output=tmp_path / "run")
    changed = with_weights(recipe, str(tmp_path / "run"))
    train(changed, read_manifest(data), output=tmp_path / "next")
    config = json.loads((tmp_path / "next" / "config.json").read_text())
    assert config["recipe"]["model_config"]["weights"] == str(tmp_path / "run")
