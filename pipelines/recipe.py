"""A recipe is a dataset written down: sources, classes, and one frozen configuration per stage.

    python -m pipelines.build --dataset irmas --set clean.min_duration_s=0.5 --set irmas.others=absent

Recipes are Python: a file `recipes/<name>.py` with a function of that name. `--set` changes one
field of one stage or source, or one in it; the type of the field says how the text is read (`datasets/settings.py`):

    --set outliers.fit.folds=5 --set outliers.fixed_cutoffs=irmas:0.13,audioset:0.11
    --set split.rules.irmas/test=train:0.5,validation:0.5
    --set "split.rules=irmas/*:train; openmic2018/*:train:0.8,test:0.2; audioset/*:train"
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tutti.datasets.errors import UsageError
from tutti.datasets.hierarchy import classes_of
from tutti.datasets.settings import nearest, with_group_field
from tutti.datasets.source import load_source, source_names
from tutti.datasets.typed_json import as_json as as_json
from tutti.datasets.typed_json import object_of, read_as
from tutti.pipelines import recipes
from tutti.pipelines.curation.near_duplicates import NearDuplicateConfig
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.pipelines.curation.pseudo_label import GuitarConfig
from tutti.pipelines.diff.drift import DriftConfig
from tutti.pipelines.stages.clean import CleanConfig
from tutti.pipelines.stages.curate import CurateConfig
from tutti.pipelines.stages.embed import EmbedConfig
from tutti.pipelines.stages.fidelity import FidelityConfig
from tutti.pipelines.stages.prepare import PrepareConfig
from tutti.pipelines.stages.select import SelectConfig
from tutti.pipelines.stages.split import SplitConfig, rule_for
from tutti.pipelines.stages.write import WriteConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a dataset holds."""

    name: str
    sources: Mapping[str, Any]  # source name -> its Config
    split: SplitConfig
    instruments: tuple[str, ...] | None = None  # classes; None: all that the sources label
    select: SelectConfig = field(default_factory=SelectConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    fidelity: FidelityConfig = field(default_factory=FidelityConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    curate: CurateConfig = field(default_factory=CurateConfig)
    pseudo_label: GuitarConfig = field(default_factory=GuitarConfig)
    outliers: OutlierConfig = field(default_factory=OutlierConfig)
    near_duplicates: NearDuplicateConfig = field(default_factory=NearDuplicateConfig)
    write: WriteConfig = field(default_factory=WriteConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    seed: int = 0
    max_errors: float = 0.001  # share of clips that may fail unexpectedly before the build does

    def classes(self) -> tuple[str, ...]:
        """List the classes of the dataset, in the order of its label columns."""
        if self.instruments is not None:
            return self.instruments
        if self.select.labels != "canonical":
            return tuple(classes_of(self.select.labels))
        names = {name for source in self.sources for name in self._labelled_by(source)}
        return tuple(sorted(names))

    def partitions(self) -> list[tuple[str, str]]:
        """List all divisions of all sources."""
        return [(source, part) for source in sorted(self.sources) for part in load_source(source).PARTITIONS]

    def _labelled_by(self, source: str) -> tuple[str, ...]:
        module = load_source(source)
        if module.INSTRUMENTS:
            return module.INSTRUMENTS
        named: tuple[str, ...] = module.instruments(self.sources[source])  # type: ignore[attr-defined]
        return named


def with_sources(recipe: Recipe, name: str, sources: Sequence[str]) -> Recipe:
    """Make a recipe of some sources of another, with all that is said of them there."""
    rules = {part: rule for part, rule in recipe.split.rules.items() if part.partition("/")[0] in ("*", *sources)}
    select, curate = recipe.select, recipe.curate
    if select.keep_sources:  # none named means all
        keeping = tuple(source for source in select.keep_sources if source in sources)
        select = replace(select, keep_sources=keeping, keep=select.keep if keeping else "all")
    if curate.drop_sources:
        dropping = tuple(source for source in curate.drop_sources if source in sources)
        curate = replace(curate, drop_sources=dropping, drop=curate.drop if dropping else "none")
    return replace(
        recipe,
        name=name,
        sources={source: recipe.sources[source] for source in sources},
        split=replace(
            recipe.split, rules=rules, shared_groups=tuple(s for s in recipe.split.shared_groups if s in sources)
        ),
        select=select,
        curate=curate,
    )


STAGES = (
    "select", "prepare", "clean", "embed", "curate", "pseudo_label", "outliers", "near_duplicates",
    "fidelity", "split", "write", "drift",
)  # fmt: skip


def recipe_names() -> list[str]:
    """List the names of all recipes: the files of the `recipes` folder."""
    return sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))


def load_recipe(name: str) -> Recipe:
    """Make the recipe of a name.

    Raises:
        UsageError: no such recipe; the message names the nearest and lists all.
    """
    name = name.replace("-", "_")
    if name not in recipe_names():
        raise UsageError(f"unknown dataset {name!r}{nearest(name, recipe_names())}; known: {', '.join(recipe_names())}")
    make: Callable[[], Recipe] = getattr(importlib.import_module(f"tutti.pipelines.recipes.{name}"), name)
    return make()


def override(recipe: Recipe, setting: str) -> Recipe:
    """Change one field of a recipe: `stage.field=value` or `source.field=value`.

    Raises:
        UsageError: no such stage or field, a value of another type, or the name of a source that does not exist.
    """
    groups = {**{name: getattr(recipe, name) for name in STAGES}, **recipe.sources}
    owner, changed = with_group_field(groups, setting, "stage or source")
    if owner in recipe.sources:
        return replace(recipe, sources={**recipe.sources, owner: changed})
    changed_recipe = replace(recipe, **{owner: changed})
    if changed_recipe.select.labels != recipe.select.labels:  # other labels have other classes
        changed_recipe = replace(changed_recipe, instruments=None)
    try:
        _check_names(changed_recipe)
    except UsageError as error:
        raise UsageError(f"--set {setting}: {error}") from error
    return changed_recipe


def check_rules(recipe: Recipe) -> None:
    """Check that every partition of every source has a split rule.

    Raises:
        UsageError: names the partition.
    """
    for source, partition in recipe.partitions():
        rule_for(source, partition, recipe.split)


def _check_names(recipe: Recipe) -> None:
    """Refuse partitions that no source of the recipe has, and sources that do not exist."""
    partitions = [*(f"{source}/{partition}" for source, partition in recipe.partitions())]
    known = ["*", *(f"{source}/*" for source in recipe.sources), *partitions]
    for name in recipe.split.rules:
        if name not in known:
            raise UsageError(f"no partition {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    select, curate = recipe.select.keep_sources, recipe.curate.drop_sources
    for name in (*recipe.outliers.fixed_cutoffs, *select, *curate, *recipe.split.shared_groups):
        if name not in source_names():
            raise UsageError(f"no source {name!r}{nearest(name, source_names())}; known: {', '.join(source_names())}")


def recipe_from_json(content: Any) -> Recipe:
    """Convert JSON back to a recipe; fields that only locate something have their defaults.

    Raises:
        UsageError: not written by `as_json` of this code.
    """
    try:
        values = object_of(content, "recipe")
        sources = object_of(values.get("sources"), "sources")
        configs = {name: read_as(load_source(name).Config, config, name) for name, config in sources.items()}
        recipe: Recipe = read_as(Recipe, {**values, "sources": configs}, "recipe")
        return recipe
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise UsageError(
            f"the manifest's recipe does not fit this version of tutti ({error}); rebuild with the one that wrote it"
        ) from error
