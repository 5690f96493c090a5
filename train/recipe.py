"""The registry of recipes: every file in `recipes/` is one, whatever it learns.

    recipe = load_recipe("logmel_cnn", ["epochs=3", "learning_rate=1e-3"], tiny=True)

A recipe file holds a function of its own name that answers a recipe of one of the kinds below. `--set` replaces
single fields by name, nested ones with a dot: `epochs=3`, `optimize.weight_decay=0.1`; a group's
name may be left out where one group alone has the field: `learning_rate=1e-3`, `gamma=0.3`. How a value is written
is said in `datasets/settings.py`.
"""

import dataclasses
import importlib
import json
import pkgutil
import typing
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from tutti.datasets.errors import UsageError
from tutti.datasets.settings import nearest, with_field
from tutti.datasets.typed_json import object_of, read_as
from tutti.train import recipes
from tutti.train.mixtures_recipe import MixturesRecipe
from tutti.train.model import load_model
from tutti.train.notes.recipe import NotesRecipe
from tutti.train.run_recipe import RunRecipe
from tutti.train.tagging_recipe import TaggingRecipe
from tutti.train.tags_recipe import TagsRecipe
from tutti.train.tiny import tiny_form

Recipe = TypeVar("Recipe", bound=RunRecipe)

KINDS: dict[str, type[RunRecipe]] = {
    kind.task: kind for kind in (TaggingRecipe, TagsRecipe, MixturesRecipe, NotesRecipe)
}
_MAX_SIZE = 1 << 20  # of a number in a model's settings, in a recipe that was read from a file


def recipe_names() -> list[str]:
    """List all recipes: the files of the `recipes` folder, without helpers (`_name`)."""
    names = (module.name for module in pkgutil.iter_modules(recipes.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def load_recipe(name: str, overrides: Sequence[str] = (), *, tiny: bool = False) -> Any:
    """Make a recipe by name, with `field=value` overrides applied in order.

    Args:
        name: a file of recipes/.
        overrides: the last word.
        tiny: the small form.

    Returns:
        A TaggingRecipe or a NotesRecipe.

    Raises:
        UsageError: unknown recipe or field (the message names the nearest), or a value that does
            not fit.
    """
    spelled = name.replace("-", "_")
    if spelled not in recipe_names():
        known = recipe_names()
        raise UsageError(f"unknown recipe {name!r}{nearest(spelled, known)}; known: {', '.join(known)}")
    recipe: RunRecipe = getattr(importlib.import_module(f"tutti.train.recipes.{spelled}"), spelled)()
    if tiny:
        recipe = tiny_form(recipe)
    for override in overrides:
        recipe = with_override(recipe, override)
    return recipe


def with_override(recipe: Recipe, override: str) -> Recipe:
    """Apply one `field=value`; another `model` brings its own default `model_config`.

    Raises:
        UsageError: no such field, or a value that does not fit; the message quotes the override.
    """
    _check_task(recipe, override)
    changed = with_field(recipe, override, own_fields=("model_config",))
    try:
        if isinstance(changed, TaggingRecipe) and changed.model != cast(TaggingRecipe, recipe).model:
            changed = replace(changed, model_config=load_model(changed.model).Config())
    except ValueError as error:
        raise UsageError(f"--set {override}: {error}") from error
    return changed


def _check_task(recipe: RunRecipe, override: str) -> None:
    """Refuse a field that recipes of another task have, and this one's do not."""
    name = _first_name(override)
    if name in {item.name for item in fields(recipe)} or "=" not in override:
        return
    for task, kind in KINDS.items():
        if name in {item.name for item in fields(kind)}:
            raise UsageError(
                f"--set {override}: {name} is a setting of {task}, and {recipe.name} learns {recipe.task}: leave it out"
            )


def _first_name(override: str) -> str:
    return override.partition("=")[0].strip().replace("-", "_").partition(".")[0]


def recipe_to_json(recipe: RunRecipe) -> dict[str, Any]:
    """Write all fields, nested ones as objects."""
    content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))  # tuples are lists there
    return content


def recipe_from_json(content: Any, task: str = TaggingRecipe.task) -> Any:
    """Read what `recipe_to_json` wrote of a recipe of this task.

    Raises:
        UsageError: the model exists no longer.
        KeyError, TypeError, ValueError: fields are missing, unknown, of another type or out of range.
    """
    kind = KINDS[task]
    values = dict(object_of(content, "recipe"))
    hints = typing.get_type_hints(kind)
    if issubclass(kind, TaggingRecipe):
        hints["model_config"] = load_model(read_as(str, values["model"], "model")).Config
    values["model_config"] = read_as(hints["model_config"], values["model_config"], "model_config")
    _check_sizes(values["model_config"])
    for item in fields(kind):
        if item.name != "model_config":
            values[item.name] = read_as(hints[item.name], values[item.name], item.name)
    return kind(**values)


def _check_sizes(config: Any) -> None:
    """Refuse a stranger's network that is so large that only its construction takes for ever."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) > _MAX_SIZE or any(type(number) is int and abs(number) > _MAX_SIZE for number in numbers):
            raise ValueError(f"model_config.{item.name}: at most {_MAX_SIZE:,}, found {str(value)[:60]}")
