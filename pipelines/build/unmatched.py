"""Entries of a user's lists that fit no clip: misspelt, or no longer in the dataset."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tutti.datasets.streams import note
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.stages.select import forms_of, is_wild

SHOWN = 10  # entries that are named


def unmatched_entries(recipe: Recipe, rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """List the entries of a recipe's exclusions and corrections that fit no clip; sorted, by flag, without empty lists.

    Args:
        recipe: with the entries.
        rows: of the manifest, of all clips, kept or not.
    """
    ids = {form: entry for entry in recipe.select.exclude for form in forms_of(entry)}
    wild = {entry for entry in recipe.select.exclude if is_wild(entry)}
    exclude, overrides = set(recipe.select.exclude), {override.id for override in recipe.clean.overrides}
    if not (exclude or overrides):
        return {}
    for row in rows:
        overrides.discard(row["id"])
        names = (row["id"], row["recording"], f"{row['source']}/{row['recording']}")
        exclude.difference_update(ids[name] for name in names if name in ids)
        if row.get("reason") == "excluded" and (left := wild & exclude):
            fitting = (entry for entry in left if any(_fits(entry, name) for name in names))
            exclude.difference_update(list(fitting))
    found = {"exclude": sorted(exclude), "overrides": sorted(overrides)}
    return {flag: entries for flag, entries in found.items() if entries}


def _fits(entry: str, name: str) -> bool:
    return any(re.match(fnmatch.translate(form), name) is not None for form in forms_of(entry))


def remarks_on(unmatched: Mapping[str, list[str]], recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for each flag with entries that fit no clip; the first ten are named."""
    totals = {"exclude": len(recipe.select.exclude), "overrides": len({one.id for one in recipe.clean.overrides})}
    limited = "; clips that --limit leaves out count as none" if recipe.select.limit is not None else ""
    for flag, entries in unmatched.items():
        more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
        shown = ", ".join(map(repr, entries[:SHOWN])) + more
        yield f"--{flag}: {len(entries)} of {totals[flag]} entries fit no clip: {shown}{limited}"


def tell_unmatched(recipe: Recipe, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Report on stderr which entries fit no clip; return them for the summary, bounded; empty where all do."""
    unmatched = unmatched_entries(recipe, rows)
    for remark in remarks_on(unmatched, recipe):
        note(remark)
    counted = {flag: {"count": len(entries), "first": entries[:SHOWN]} for flag, entries in unmatched.items()}
    return {"unmatched": counted} if counted else {}
