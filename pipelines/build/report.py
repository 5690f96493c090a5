"""Tell what a build is about to do, what it found, and how it ended: for people on stderr, as JSON on stdout."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tutti.datasets.errors import StorageError
from tutti.datasets.machine import MACHINE_REASONS
from tutti.datasets.manifest import Manifest
from tutti.datasets.os_errors import words
from tutti.datasets.printable import in_unicode
from tutti.datasets.source import load_source, remotes_of, source_names
from tutti.datasets.streams import note, overwrite
from tutti.pipelines.build.checks import is_cached, needed_bytes, remedy
from tutti.pipelines.build.looks import shown
from tutti.pipelines.build.plan import Build
from tutti.pipelines.build.standing import Standing, losses
from tutti.pipelines.engine.progress import Tally, progress_line, read_tallies, read_transfers
from tutti.pipelines.recipe import STAGES, Recipe, as_json, load_recipe, recipe_names


def describe(build: Build) -> str:
    """Describe the plan of a build, for `--dry-run`."""
    lines = [f"dataset {build.recipe.name} -> {build.output.root}", f"classes {', '.join(build.recipe.classes())}"]
    for source, config in sorted(build.recipe.sources.items()):
        lines.append(f"source {source} {config}")
        for remote in remotes_of(source, config):
            cached = is_cached(remote, build)
            lines.append(f"  {remote.url}: {'in the cache' if cached else 'to be fetched'}")
    lines.append(f"the cache grows by {needed_bytes(build):,} bytes or more, before any clip is prepared")
    for stage in STAGES:
        lines.append(f"stage {getattr(build.recipe, stage)}")
    return "\n".join(lines)


def listing() -> str:
    """List recipes and sources, for `--list`."""
    lines = ["datasets:"]
    width = max(map(len, (*recipe_names(), *source_names())))
    lines += [f"  {name:{width}} {', '.join(load_recipe(name).sources)}" for name in recipe_names()]
    lines.append("sources:")
    for name in source_names():
        card = load_source(name).CARD
        size = f"{card.num_clips:,} clips, {card.size_bytes / 1e9:.1f} GB" if card.num_clips else "your own"
        lines.append(f"  {name:{width}} {card.title}: {size}, {card.license}. {card.license_note}")
    return "\n".join(lines)


def tell_remarks(recipe: Recipe) -> None:
    """Report what sources find odd in the user's own tables, though they read them."""
    for source, config in sorted(recipe.sources.items()):
        for remark in getattr(load_source(source), "remarks", lambda config: ())(config):
            note(f"{source}: {remark}")


def tell_standing(build: Build, before: Standing) -> None:
    """Report what of the current version does not count, and what of it this build drops."""
    splits = f"splits hold from {'nothing' if build.parent is None else f'version {build.parent.name}'}"
    if before.problem:
        note(f"{build.output.root}: {before.problem}; it is built anew{f', {splits}' if build.sticky else ''}")
    elif before.current is not None and before.complete is not before.current and build.sticky:
        note(f"{build.output.root}: version {before.name} is incomplete; {splits}")
    if before.current is not None:
        for loss in losses(before.current.content["recipe"], as_json(build.recipe)):
            note(f"this build {loss}")


def tell_incomplete(manifest: Manifest, changed: Sequence[str]) -> None:
    """Report which inputs changed, what the machine lacked, and what to do."""
    if changed:
        note(
            f"{shown(changed)}: changed while the build ran, which may have read it before; run the same command again"
        )
    lost = {why: n for why, n in manifest.content.get("incomplete", {}).items() if why in MACHINE_REASONS}
    if lost:
        note(f"version {manifest.version} is incomplete: {remedy(lost)}")
    failed = sum(n for why, n in manifest.content["counts"]["rejected"].items() if why.startswith("error:"))
    if failed:
        note(f"{failed} clips failed unexpectedly: their rows say why, and the next build tries them again")


def work_of(tallies: Mapping[str, Tally], recipe: Recipe) -> dict[str, dict[str, int]]:
    """Count, by stage, results that were known from an earlier build, and those that were computed."""
    return {
        name: {"reused": max(0, tallies[name].done - tallies[name].computed), "computed": tallies[name].computed}
        for name in ("prepare", "embed", "write")
        if name in tallies and (name != "embed" or recipe.embed.embedder != "none")
    }


def work_line(work: Mapping[str, Mapping[str, int]]) -> str:
    """Format the same for people."""
    names = {"prepare": "clips", "embed": "embeddings", "write": "shards"}
    parts = [f"{names[name]}: reused {n['reused']:,}, computed {n['computed']:,}" for name, n in work.items()]
    return "; ".join(parts)


def summary(manifest: Manifest, build: Build, *, changed: bool, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Assemble the JSON object that ends a build."""
    counts = manifest.content["counts"]
    sources = {
        name: {
            "kept": entry["kept"],
            "rejected": entry.get("rejected", 0),
            "gone": entry.get("gone", 0),
            "pending": entry.get("pending", 0),
        }
        for name, entry in counts["sources"].items()
    }
    return {
        "dataset": build.recipe.name,
        "version": manifest.version,
        "root_digest": manifest.root_digest,
        "output": in_unicode(str(build.output.root)),
        "changed": changed,
        **({"complete": False} if "incomplete" in manifest.content else {}),
        "clips": {"kept": counts["kept"], "rejected": counts["rejected"]},
        "splits": counts["splits"],
        "sources": sources,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def say(content: Mapping[str, Any]) -> None:
    """Print the line on stdout that ends a build.

    Raises:
        BrokenPipeError: nobody reads it.
        StorageError: it cannot be written.
    """
    try:
        print(json.dumps(content), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError):  # what is left in the buffer would be tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StorageError(f"stdout: {words(error)}; what was built is published") from error


class Progress:
    """Shows how far a build is, on one line; silent where stderr is no terminal."""

    def __init__(self, progress: Path) -> None:
        self._folder, self._start_s, self._shown_s = progress, time.monotonic(), 0.0

    def __call__(self, stderr: IO[str]) -> None:
        """Show it, at most once a second."""
        now = time.monotonic()
        if not stderr.isatty() or now - self._shown_s < 1:
            return
        self._shown_s = now
        line = progress_line(read_tallies(self._folder), now - self._start_s, read_transfers(self._folder))
        overwrite(line, stderr)
