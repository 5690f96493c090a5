"""Tags of uploaders: learned as any labels are, and scored as if a class that is not tagged were absent.

So are the figures that others publish of MTG-Jamendo; of tags alone, which name no absent class, there would be none.
"""

from dataclasses import dataclass

from tutti.train.clips import AnyClips
from tutti.train.data import Data
from tutti.train.front_end import evaluation_unit, load_clips
from tutti.train.tags_recipe import TagsRecipe
from tutti.train.tasks.areas import Areas


@dataclass(frozen=True)
class UploadersTags(Areas):
    """Names of the instruments in whole tracks, learned from tags."""

    recipe: TagsRecipe

    def load_split(self, data: Data, split: str) -> AnyClips:
        """Open a split as it is evaluated; what is not tagged is absent there, unless the recipe says otherwise."""
        self.check_classes(data)
        unit = evaluation_unit(self.recipe)
        return load_clips(data, split, self.recipe, unit=unit, closed=self.recipe.untagged == "absent")
