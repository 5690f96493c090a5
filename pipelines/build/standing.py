"""Versions that stand in an output root before a build, as far as they can be trusted.

Splits hold from a version whose manifest and clip rows have the digests that its name promises, and that is complete:
from the current one, or its nearest complete ancestor. Where the current version cannot be read, the newest sound one
counts instead. Nothing here ends a build because a version is damaged: it is built anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import Manifest, canonical_json, file_sha256, manifest_path, read_manifest
from tutti.datasets.printable import printable
from tutti.pipelines.build.output import Output
from tutti.pipelines.recipe import Recipe, as_json
from tutti.pipelines.verify.findings import VERSION_NAME, check_manifest_json

SPLIT_RULES = ("name", "split", "seed")  # of a recipe: what decides splits
SHOWN = 5  # settings that are named
MAX_CHARACTERS = 60  # of a setting's value that is shown


@dataclass(frozen=True)
class Standing:
    """The versions of an output root that count."""

    name: str | None  # of the current version, sound or not
    current: Manifest | None = None  # the current version; where it is damaged, the newest sound one
    complete: Manifest | None = None  # it, or its nearest complete ancestor
    problem: str = ""  # why the current version does not count


def standing(output: Output) -> Standing:
    """Find the versions of an output root that count."""
    name, problem = output.pointed_at()
    current = None if name is None or problem else sound_version(output.root / "versions" / name)
    if name is not None and not problem and current is None:
        problem = f"version {name} is damaged"
    if problem:
        current = next(sound_versions(output.root), None)
    return Standing(name, current, None if current is None else complete_ancestor(current), problem)


def sound_versions(root: Path) -> Iterator[Manifest]:
    """Yield versions whose manifest and clip rows are as their name promises, the newest first."""
    folders = [folder for folder in (root / "versions").glob("*") if VERSION_NAME.fullmatch(folder.name)]
    for folder in sorted(folders, key=lambda folder: (-_made_ns(folder), folder.name)):
        if (manifest := sound_version(folder)) is not None:
            yield manifest


def _made_ns(folder: Path) -> int:
    try:
        return manifest_path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def sound_version(folder: Path) -> Manifest | None:
    """Read a version, if its manifest and clip rows have the digests that its folder's name promises."""
    try:
        manifest = read_manifest(folder)
        if manifest.folder.name != folder.name or check_manifest_json(manifest):
            return None
        rows = ((manifest.path(bucket["path"]), bucket["sha256"]) for bucket in manifest.content["clips"])
        return manifest if all(file_sha256(path) == sha256 for path, sha256 in rows) else None
    except Exception:  # whatever can be wrong with a file of nobody knows whom
        return None


def complete_ancestor(manifest: Manifest) -> Manifest | None:
    """Find the nearest version that lacks nothing: this one, or one that it came from; None where that is gone."""
    seen: set[str] = set()
    at: Manifest | None = manifest
    while at is not None and "incomplete" in at.content:
        seen.add(at.folder.name)
        parent = at.content.get("parent")
        name = "" if parent is None else parent["version"]
        is_new = VERSION_NAME.fullmatch(name) and name not in seen
        at = sound_version(at.folder.parent / name) if is_new else None
    return at


def parent_of(found: Standing, recipe: Recipe) -> Path | None:
    """Return the version whose splits hold for a recipe: complete, and split by the same rules."""
    if found.complete is None:
        return None
    before, now = found.complete.content["recipe"], as_json(recipe)
    return found.complete.folder if all(before.get(name) == now[name] for name in SPLIT_RULES) else None


def refuse_another(output: Output, found: Standing, recipe: Recipe, flag: str) -> None:
    """Refuse to put a dataset unseen in the place of another one.

    Args:
        output: root that is to be written.
        found: what stands there.
        recipe: of what is to be built.
        flag: that named the output, for the message.

    Raises:
        UsageError: the current version is of another name, or has other classes.
    """
    if found.current is None:
        return
    before, had, has = str(found.current.content["dataset"]), set(found.current.instruments), set(recipe.classes())
    if before == recipe.name and had == has:
        return
    changes = [
        f"{word} {', '.join(sorted(names))}" for word, names in (("lacks", had - has), ("adds", has - had)) if names
    ]
    holds = f"dataset {before!r}, this build makes {recipe.name!r}"
    if before == recipe.name:
        holds = f"{before!r} with other classes, this build {' and '.join(changes)}"
    raise UsageError(
        f"{output.root}: holds {printable(holds)}; choose another {flag}, or pass --replace (what is there stays a "
        "version, and `python -m pipelines.versions use` goes back to it)"
    )


def losses(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe what a recipe no longer does that the current version's did.

    Args:
        before: the recipe of the current version, as JSON.
        now: likewise, of the build.
    """
    said = []
    corrections = {_correction(row) for row in _at(before, "clean", "overrides")}
    if dropped := len(corrections - {_correction(row) for row in _at(now, "clean", "overrides")}):
        said.append(f"drops {_count(dropped, 'correction')} of the current version; pass --overrides FILE to keep them")
    excluded = set(map(str, _at(before, "select", "exclude"))) - set(map(str, _at(now, "select", "exclude")))
    if excluded:
        left_out = _count(len(excluded), "exclusion")
        said.append(f"drops {left_out} of the current version; pass --exclude FILE to keep them")
    if settings := list(_differences("", before, now)):
        more = f" and {len(settings) - SHOWN} more" if len(settings) > SHOWN else ""
        said.append(f"differs in settings from the current version: {', '.join(settings[:SHOWN])}{more}")
    return said


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number > 1 else "")


def _at(recipe: Mapping[str, Any], stage: str, name: str) -> Sequence[Any]:
    found = recipe.get(stage)
    values = found.get(name) if isinstance(found, Mapping) else None
    return values if isinstance(values, (list, tuple)) else ()


def _correction(row: Any) -> str:
    return canonical_json([row.get("id"), row.get("instrument")] if isinstance(row, Mapping) else row)


def _differences(path: str, before: Any, now: Any) -> Iterator[str]:
    if path in ("clean.overrides", "select.exclude") or before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted(before.keys() | now.keys()):
            yield from _differences(f"{path}.{name}".lstrip("."), before.get(name), now.get(name))
        return
    yield f"{path} {_brief(before)} -> {_brief(now)}"


def _brief(value: Any) -> str:
    text = printable(canonical_json(value))
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
