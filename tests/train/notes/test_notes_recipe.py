import json

import pytest

from tutti.datasets.errors import UsageError
from tutti.train.notes.recipe import MUSESCORE_NINE
from tutti.train.recipe import load_recipe, recipe_from_json, recipe_names, recipe_to_json
from tutti.train.tasks.notes import Notes


def test_recipes_survive_json_and_take_overrides_like_any_other() -> None:
    recipe = load_recipe("musescore-multitask", ["roll_weight=0", "cqt.scale=db", "instruments=piano,violin"])
    assert (recipe.loss.roll_weight, recipe.cqt.scale, recipe.instruments) == (0.0, "db", ("piano", "violin"))
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe))), "notes") == recipe
    assert recipe.window_frames == 313
    assert load_recipe("musescore_multitask", tiny=True).epochs < recipe.epochs
    assert load_recipe("musescore_multitask").instruments == MUSESCORE_NINE
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
        load_recipe(name, [override] if override else [])


def test_recipes_of_both_tasks_stand_in_one_list() -> None:
    assert {"musescore_multitask", "musescore_multitask_small", "logmel_cnn"} <= set(recipe_names())


@pytest.mark.parametrize(
    ("recipe", "override", "task", "own"),
    [
        ("musescore_multitask", "thresholds_on=validation", "tagging", "notes"),
        ("musescore_multitask", "augment=time_shift", "tagging", "notes"),
        ("musescore_multitask", "thresholds.scope=global", "tagging", "notes"),
        ("logmel_cnn", "instruments=piano", "notes", "tagging"),
        ("logmel_cnn", "cqt.scale=db", "notes", "tagging"),
    ],
)
def test_a_setting_of_the_other_task_is_refused_by_name(recipe: str, override: str, task: str, own: str) -> None:
    name = override.partition("=")[0].partition(".")[0]
    with pytest.raises(UsageError) as caught:
        load_recipe(recipe, [override])
    assert str(caught.value) == (
        f"--set {override}: {name} is a setting of {task}, and {recipe} learns {own}: leave it out"
    )


def test_an_epoch_is_judged_by_the_tasks_that_are_learned() -> None:
    figures = {"roll_accuracy": 0.2, "pitch_accuracy": 0.4, "instrument_macro_f1": 0.9}
    together = load_recipe("musescore_multitask_small")
    alone = load_recipe("musescore_multitask_small", ["pitch_weight=0", "roll_weight=0"])
    assert Notes(together, ()).score(figures) == pytest.approx(0.5)
    assert Notes(alone, ()).score(figures) == 0.9
    assert Notes(together, ()).score(figures | {"roll_accuracy": None}) is None
    assert Notes(load_recipe("musescore_multitask_small", ["select_by=last"]), ()).score(figures) is None
