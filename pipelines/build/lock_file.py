"""Inputs and tools that a manifest names, compared with others: they decide a dataset beside its recipe.

    told = differing(listed.content, built.content, ("in the manifest", "here"))

A build from a manifest says which of them differ here, one from a recipe which differ from the version before it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import Manifest
from tutti.datasets.manifest_types import ManifestContent
from tutti.datasets.printable import printable
from tutti.datasets.scores.soundfonts import FAVORITE, INSTALL, VARIABLE
from tutti.datasets.source import inputs_of
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.render import synthesizer

SHORT = 12  # digits of a digest, shown to people
REMEDIES = {
    "soundfont": f"set ${VARIABLE} to that file, then every recording has its name again",
    "labels": "pass the file of then with --data-from",
    "scores": "pass the files of then with --data-from",
}

Entries = Iterable[Mapping[str, Any]]  # of `inputs` or `files` in a manifest's source
Sides = tuple[str, str]  # what to call the two: ("in the manifest", "here")


def differing(before: ManifestContent, now: ManifestContent, sides: Sides) -> list[str]:
    """Describe inputs, remote files and tools that differ between two manifests; empty: none does."""
    words = []
    for source in sorted(before["sources"].keys() & now["sources"].keys()):
        old, new = before["sources"][source], now["sources"][source]
        kinds = defaultdict[str, tuple[list[Any], list[Any]]](lambda: ([], []))
        for side, entry in enumerate((old, new)):
            for found in entry.get("inputs", ()):
                kinds[found["kind"]][side].append(found)
            for file in entry["files"]:
                kinds[f"file {file['name']}"][side].append(file)
        words += [_versus(source, kind, *found, sides) for kind, found in sorted(kinds.items()) if _differ(*found)]
    return words + differing_tools(before, now, sides)


def differing_tools(before: ManifestContent, now: ManifestContent, sides: Sides) -> list[str]:
    """Describe tools of other versions; one that a side does not name says nothing."""
    old, new = (_tools(content) for content in (before, now))
    return [
        printable(f"{name} {old[name]} {sides[0]}, {new[name]} {sides[1]}")
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]


def foreign_inputs(listed: Manifest, recipe: Recipe) -> list[str]:
    """Describe inputs of a manifest that are others on this machine, each with the remedy.

    Raises:
        UsageError: none of its soundfonts is here, so no recording can be made again; or FluidSynth is missing.
    """
    told = []
    for source, config in sorted(recipe.sources.items()):
        entry = listed.content["sources"].get(source)
        if entry is None or not (named := entry.get("inputs")):
            continue
        here = [asdict(found) for found in inputs_of(source, config)]
        for kind in sorted({found["kind"] for found in named}):
            then, now = ([found for found in side if found["kind"] == kind] for side in (list[Any](named), here))
            if not _differ(then, now):
                continue
            line = f"{_versus(source, kind, then, now, ('in the manifest', 'here'))}: {_remedy(kind, then)}"
            if kind == "soundfont" and not _digests(then) & _digests(now):
                raise UsageError(line)
            told.append(line)
    named_version = listed.content["tools"].get("fluidsynth")
    if named_version is not None and named_version != (version := synthesizer.version()):
        both = f"fluidsynth {printable(named_version)} in the manifest, {version} here"
        told.append(f"{both}: it may sound otherwise; install that version")
    return told


def _tools(content: ManifestContent) -> dict[str, Any]:
    """Merge all tools: those of the audio, and those that judged the labels."""
    return {**content["tools"], **content.get("curation", {}).get("tools", {})}


def _digests(entries: Entries) -> set[str]:
    return {found["sha256"] for found in entries}


def _differ(before: Entries, now: Entries) -> bool:
    return _digests(before) != _digests(now)


def _versus(source: str, kind: str, before: Entries, now: Entries, sides: Sides) -> str:
    return f"{source}: {printable(kind)} {_named(before)} {sides[0]}, {_named(now)} {sides[1]}"


def _named(entries: Entries) -> str:
    return " and ".join(f"{printable(found['name'])} (sha256 {found['sha256'][:SHORT]})" for found in entries) or "none"


def _remedy(kind: str, entries: Entries) -> str:
    packaged = kind == "soundfont" and any(found["name"] == FAVORITE for found in entries)
    return f"{INSTALL}, or {REMEDIES[kind]}" if packaged else REMEDIES.get(kind, "bring that one here")
