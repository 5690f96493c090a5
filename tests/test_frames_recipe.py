import json

import pytest

from datasets.errors import UsageError
from train.frames.loop import task_score
from train.frames.recipe import (
    MUSESCORE_NINE,
    is_frames_recipe,
    load_frames_recipe,
    recipe_from_json,
    recipe_to_json,
)


def test_recipes_survive_json_and_take_overrides_like_any_other() -> None:
    recipe = load_frames_recipe("musescore-multitask", ["roll_weight=0", "cqt.scale=db", "instruments=piano,violin"])
    assert (recipe.loss.roll_weight, recipe.cqt.scale, recipe.instruments) == (0.0, "db", ("piano", "violin"))
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe
    assert recipe.window_frames == 313
    assert load_frames_recipe("musescore_multitask", tiny=True).epochs < recipe.epochs
    assert load_frames_recipe("musescore_multitask").instruments == MUSESCORE_NINE
    assert len(MUSESCORE_NINE) == 9


@pytest.mark.parametrize(
    ("name", "override", "complaint"),
    [
        ("musescore_multitusk", "", "did you mean 'musescore_multitask'"),
        ("musescore_multitask", "rol_weight=1", "did you mean 'loss|no field 'rol_weight'"),
        ("musescore_multitask", "epochs=0", "epochs must be at least 1"),
        ("musescore_multitask", "window_s=-1", "window_s must be above 0"),
        ("musescore_multitask", "model_config.summing=product", "expected one of sum, noisy_or"),
    ],
)
def test_recipes_and_fields_that_do_not_exist_are_refused(name: str, override: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_frames_recipe(name, [override] if override else [])


def test_the_commands_can_tell_recipes_of_this_kind() -> None:
    assert is_frames_recipe("musescore_multitask")
    assert is_frames_recipe("musescore-multitask-small")
    assert not is_frames_recipe("logmel_cnn")


def test_an_epoch_is_judged_by_the_tasks_that_are_learned() -> None:
    figures = {"roll_accuracy": 0.2, "pitch_accuracy": 0.4, "instrument_macro_f1": 0.9}
    together = load_frames_recipe("musescore_multitask_small")
    alone = load_frames_recipe("musescore_multitask_small", ["pitch_weight=0", "roll_weight=0"])
    assert task_score(figures, together) == pytest.approx(0.5)
    assert task_score(figures, alone) == 0.9
    assert task_score(figures | {"roll_accuracy": None}, together) is None
    assert task_score(figures, load_frames_recipe("musescore_multitask_small", ["select_by=last"])) is None
