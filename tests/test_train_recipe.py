import pytest
import torch
from torch import nn

from datasets.errors import UsageError
from train.cli import Parser
from train.loop import learning_rate
from train.model import count_parameters, load_model, model_names
from train.recipe import load_recipe, recipe_from_json, recipe_names, recipe_to_json


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_goes_by_its_file_name_and_survives_json(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe_from_json(recipe_to_json(recipe)) == recipe


@pytest.mark.parametrize("name", model_names())
def test_every_model_maps_log_mel_to_logits_and_its_gradient_reaches_every_weight(name: str) -> None:
    module = load_model(name)
    torch.manual_seed(0)
    model = module.build(module.Config(), 64, 11)
    logits = model(torch.randn(3, 300, 64))
    assert logits.shape == (3, 11)
    nn.functional.binary_cross_entropy_with_logits(logits, torch.ones(3, 11)).backward()
    silent = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


def test_the_first_model_is_small() -> None:
    module = load_model("logmel_cnn")
    assert count_parameters(module.build(module.Config(), 64, 11)) == 395_643


def test_overrides_are_typed_and_may_be_nested() -> None:
    recipe = load_recipe(
        "logmel-cnn",
        [
            "epochs=3",
            "learning_rate=1e-3",
            "pos-weight=off",
            "pooling=mean",
            "features.n_mels=96",
            "model_config.width=8",
        ],
    )
    assert (recipe.epochs, recipe.learning_rate, recipe.pos_weight, recipe.pooling) == (3, 0.001, False, "mean")
    assert (recipe.features.n_mels, recipe.model_config.width) == (96, 8)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "--set epoch=3: no field 'epoch' (did you mean 'epochs'?)"),
        ("epochs=many", "--set epochs=many: expected int, got 'many'"),
        ("epochs", "--set epochs: expected field=value"),
        ("epochs=0", "epochs must be at least 1, got 0"),
        ("pos_weight=maybe", "expected true or false"),
        ("pooling=mex", "expected one of max, mean (did you mean 'max'?)"),
        ("features=1", "'features' is a group; set one of features.sample_rate"),
        ("features.hop_len=1", "no field 'hop_len' (did you mean 'hop_length'?)"),
        ("epochs.x=1", "'epochs' has no fields of its own"),
        ("window_s=0", "window_s must be above 0"),
        ("unknown_weight=2", "unknown_weight must lie in"),
        ("model=logmel_ccn", "unknown model 'logmel_ccn' (did you mean 'logmel_cnn'?)"),
        ("name=mine", "no field 'name'"),
    ],
)
def test_an_override_that_does_not_fit_is_quoted_with_the_remedy(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("logmel_cnn", [override])
    assert message in str(caught.value)


def test_an_unknown_recipe_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'logmel_cn' \(did you mean 'logmel_cnn'\?\)"):
        load_recipe("logmel_cn")


def parser() -> Parser:
    flags = Parser("train.example", "An example.")
    flags.add_argument("--data-from", default="")
    flags.add_argument("--run")
    flags.add_argument("audio", nargs="*")
    return flags


def test_dashes_and_underscores_in_flags_are_the_same() -> None:
    assert parser().parse(["--data_from", "a_b"]).data_from == "a_b"
    assert parser().parse(["--data_from=a_b"]).data_from == "a_b"


def test_an_unknown_flag_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"unknown flag --data-form \(did you mean '--data-from'\?\)"):
        parser().parse(["--data-form", "x"])
    with pytest.raises(UsageError, match=r"unknown flag --ru .did you mean '--run'"):  # no abbreviations
        parser().parse(["--ru", "x"])


def test_after_two_dashes_everything_is_a_file() -> None:
    assert parser().parse(["--", "--song.wav"]).audio == ["--song.wav"]


def test_the_learning_rate_warms_up_to_its_peak_and_ends_near_zero() -> None:
    recipe = load_recipe("logmel_cnn", ["learning_rate=1.0", "warmup_share=0.2"])
    rates = [learning_rate(step, 100, recipe) for step in range(100)]
    assert rates[:3] == pytest.approx([1 / 21, 2 / 21, 3 / 21])
    assert max(rates) == rates[20] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3


def test_without_warm_up_the_learning_rate_begins_at_its_peak() -> None:
    recipe = load_recipe("logmel_cnn", ["learning_rate=1.0", "warmup_share=0"])
    assert learning_rate(0, 10, recipe) == 1.0
