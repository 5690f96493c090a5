from dataclasses import replace

import pytest
import torch

from tutti.datasets.errors import UsageError
from tutti.train.cli import processor_threads
from tutti.train.fitting.optimize import schedule
from tutti.train.model import count_parameters, load_model
from tutti.train.recipe import load_recipe, recipe_from_json, recipe_names, recipe_to_json


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_goes_by_its_file_name_and_survives_json(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe_from_json(recipe_to_json(recipe), recipe.task) == recipe


def test_the_first_model_is_small() -> None:
    module = load_model("logmel_cnn")
    assert count_parameters(module.build(module.Config(), 64, 11)) == 395_643


def test_overrides_are_typed_and_may_be_nested() -> None:
    recipe = load_recipe(
        "logmel-cnn",
        [
            "epochs=3",
            "optimize.learning_rate=1e-3",
            "pos-weight=off",
            "pooling=max",
            "features.n_mels=96",
            "model_config.width=8",
        ],
    )
    assert (recipe.epochs, recipe.optimize.learning_rate, recipe.pos_weight, recipe.pooling) == (3, 0.001, False, "max")
    assert (recipe.features.n_mels, recipe.model_config.width) == (96, 8)


def test_a_groups_name_may_be_left_out_where_one_group_alone_has_the_field() -> None:
    recipe = load_recipe("logmel_cnn", ["learning_rate=0.5", "gamma=0.3", "unknown_weight=0.1", "precision=bf16"])
    assert (recipe.optimize.learning_rate, recipe.loss.gamma, recipe.loss.unknown_weight) == (0.5, 0.3, 0.1)
    assert recipe.compute.precision == "bf16"


def test_the_tiny_form_keeps_what_is_learned_and_how_and_takes_a_toy() -> None:
    whole, tiny = load_recipe("lumen_convnext_fluffy"), load_recipe("lumen_convnext_fluffy", tiny=True)
    assert (tiny.augment, tiny.pooling) == (whole.augment, whole.pooling)
    assert (whole.loss.unknown_weight, tiny.loss.unknown_weight) == (1.0, 0.1)
    assert replace(tiny.loss, unknown_weight=1.0) == whole.loss
    assert (whole.thresholds_on, tiny.thresholds_on) == ("strong_sum", "validation")
    assert (tiny.model_config.size, tiny.model_config.head, tiny.model_config.weights) == ("micro", "fluffy", "")
    assert (tiny.image.height, tiny.window_s, tiny.optimize.head_epochs) == (64, 0.8, 0)
    assert load_recipe("logmel_cnn", tiny=True).loss.unknown_weight == 0.0
    longer = load_recipe("ast_finetune", ["epochs=2"], tiny=True)
    assert (longer.window_s, longer.chunk_s, longer.epochs) == (0.8, pytest.approx(2.4), 2)


def test_a_recipe_has_as_many_threads_as_it_asks_for_and_gives_them_back() -> None:
    before = torch.get_num_threads()
    with processor_threads(load_recipe("logmel_cnn", ["compute.threads=3"])):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
    with processor_threads(load_recipe("logmel_cnn")):
        assert torch.get_num_threads() == before
    assert load_recipe("logmel_cnn", tiny=True).compute.threads == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("compute.threads=-1", "threads must be at least 0, got -1"),
        ("epoch=3", "--set epoch=3: no field 'epoch' (did you mean 'epochs'?)"),
        ("epochs=many", "--set epochs=many: expected int, got 'many'"),
        ("epochs", "--set epochs: expected field=value"),
        ("epochs=0", "epochs must be at least 1, got 0"),
        ("pos_weight=maybe", "expected true or false"),
        ("pooling=mex", "expected one of max, mean, mean_logits (did you mean 'max'?)"),
        ("features=1", "'features' is a group; set one of features.sample_rate"),
        ("features.hop_len=1", "no field 'hop_len' (did you mean 'hop_length'?)"),
        ("epochs.x=1", "'epochs' has no fields of its own"),
        ("window_s=0", "window_s must be above 0"),
        ("unknown_weight=2", "unknown_weight must lie in"),
        ("model=logmel_ccn", "unknown model 'logmel_ccn' (did you mean 'logmel_cnn'?)"),
        ("name=mine", "no field 'name'"),
        ("train_share=1.5", "train_share must be at most 1"),
        ("gamma=-1", "must not be negative"),
        ("sampling=mean", "expected one of uniform, median, max"),
        ("reading=stream", "expected one of auto, resident, streaming (did you mean 'streaming'?)"),
        ("shuffle_clips=0", "shuffle_clips must be at least 1, got 0"),
        ("standardize=audioset", "set features.kind=kaldi"),
        ("features.kind=kaldi", "kind=kaldi has sizes of its own"),
    ],
)
def test_an_override_that_does_not_fit_is_quoted_with_the_remedy(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("logmel_cnn", [override])
    assert message in str(caught.value)


def test_an_unknown_recipe_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'logmel_cn' \(did you mean 'logmel_cnn'\?\)"):
        load_recipe("logmel_cn")


def test_the_learning_rate_of_the_first_recipe_warms_up_to_its_peak_and_ends_near_zero() -> None:
    factor = schedule(load_recipe("logmel_cnn").optimize, 100, 10)
    rates = [factor(step) for step in range(100)]
    assert rates[:3] == pytest.approx([1 / 21, 2 / 21, 3 / 21])
    assert max(rates) == rates[20] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3


def test_without_warm_up_the_learning_rate_begins_at_its_peak() -> None:
    assert schedule(load_recipe("logmel_cnn", ["warmup_share=0"]).optimize, 10, 1)(0) == 1.0


def test_the_recipes_of_the_papers_are_there() -> None:
    assert set(recipe_names()) >= {
        "ast_finetune", "irmas_finetune", "logmel_cnn", "lumen_convnext", "lumen_convnext_base",
        "lumen_convnext_fluffy", "lumen_convnext_fluffy_irmas", "lumen_convnext_rgb", "lumen_convnext_sum2",
        "openmic_bilstm", "svm",
    }  # fmt: skip


def test_numbers_of_the_papers_stand_in_their_recipes() -> None:
    nsynth, lumen, openmic = (load_recipe(f"{name}") for name in ("irmas_finetune", "lumen_convnext", "openmic_bilstm"))
    assert (nsynth.optimize.optimizer, nsynth.optimize.learning_rate, nsynth.optimize.weight_decay) == (
        "adam", 2.5e-4, 5e-4,
    )  # fmt: skip
    assert (nsynth.epochs, nsynth.batch_size, nsynth.window_s, nsynth.hop_s) == (40, 64, 1.0, 0.5)
    assert nsynth.optimize.warmup_share * nsynth.epochs == 5
    assert (lumen.optimize.optimizer, lumen.optimize.learning_rate, lumen.optimize.weight_decay) == (
        "adamw",
        1e-4,
        0.01,
    )
    assert (lumen.epochs, lumen.batch_size, lumen.optimize.head_epochs, lumen.features.n_mels) == (10, 16, 2, 128)
    assert (openmic.optimize.learning_rate, openmic.batch_size, openmic.epochs) == (5e-4, 32, 200)
    assert (openmic.loss.kind, openmic.loss.alpha, openmic.loss.gamma) == ("focal", 0.75, 2.0)
