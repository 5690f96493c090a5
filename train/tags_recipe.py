"""Recipes of models that learn tags of uploaders, who name what is there and not what is not: `TagsRecipe`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from tutti.train.tagging_recipe import TaggingRecipe


@dataclass(frozen=True, kw_only=True)
class TagsRecipe(TaggingRecipe):
    """Everything that decides what a run learns of tags; `loss.unknown_weight` says how much a missing one counts."""

    task: ClassVar[str] = "tags"

    untagged: Literal["absent", "unknown"] = "absent"  # in figures and for thresholds, never in training
