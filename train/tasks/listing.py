"""The tasks, by the kind of recipe."""

from tutti.train.data import Data
from tutti.train.run_recipe import RunRecipe
from tutti.train.task import AnyTask
from tutti.train.tasks.mixtures import MixturesTagging
from tutti.train.tasks.notes import Notes
from tutti.train.tasks.tagging import Tagging
from tutti.train.tasks.tags import UploadersTags

_TASKS: dict[str, type[AnyTask]] = {
    "tagging": Tagging,
    "tags": UploadersTags,
    "mixtures": MixturesTagging,
    "notes": Notes,
}


def task_of(recipe: RunRecipe, instruments: tuple[str, ...]) -> AnyTask:
    """Choose the task of a recipe, for these classes."""
    return _TASKS[recipe.task](recipe, instruments)


def task_for(recipe: RunRecipe, data: Data) -> AnyTask:
    """Choose the task of a recipe, for the classes of the data.

    Raises:
        UsageError: recipe and data do not go together.
    """
    return _TASKS[recipe.task].of(recipe, data)
