"""One run of `pipelines.build`: plan, lock, run the pipeline, check the yield, publish, report."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from datasets.errors import StorageError, TuttiError, UsageError, YieldError
from datasets.files import atomic_folder, sweep
from datasets.manifest import Manifest, read_manifest
from datasets.sample import sample_key, write_sample_mirror
from datasets.source import load_source, source_names
from pipelines.cache import Cache, default_cache_folder
from pipelines.download import Origins, is_http, mirror_path, mirror_sums, origins_of
from pipelines.progress import progress_line, read_tallies
from pipelines.recipe import Recipe, load_recipe, override, recipe_names
from pipelines.runner import Interrupted, interruptible, leave, pipeline_options, run
from pipelines.version import Output

Flow = Callable[[Any, Recipe, Origins, Cache, Output], Any]


@dataclass(frozen=True)
class Plan:
    """What a command line asks for."""

    recipe: Recipe
    origins: Origins
    cache: Cache
    output: Output


def command(
    argv: Sequence[str],
    parse: Callable[[Sequence[str]], tuple[argparse.Namespace, list[str]]],
    dataset: Flow,
    acquire: Flow,
) -> int:
    """Run the command line; errors go to stderr, the summary to stdout."""
    try:
        arguments, beam_flags = parse(argv)
        if arguments.list:
            print(listing())
            return 0
        with interruptible():
            return execute(arguments, beam_flags, dataset, acquire)
    except TuttiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}; free space or check the permissions, then run the build again", file=sys.stderr)
        return StorageError.exit_code
    except Interrupted as stop:
        print(f"\nstopped by {stop}; run the same command again, it goes on where it was", file=sys.stderr)
        leave(stop.exit_code)
        return stop.exit_code


def execute(arguments: argparse.Namespace, beam_flags: Sequence[str], dataset: Flow, acquire: Flow) -> int:
    """Carry out a parsed command line."""
    start = time.perf_counter()
    options = pipeline_options(beam_flags)
    plan = make_plan(arguments)
    if arguments.embedder:
        _note(f"--embedder {arguments.embedder}: embeddings and label curation are not built yet; labels stay as given")
    if arguments.dry_run:
        print(describe(plan))
        return 0
    with plan.output.locked(arguments.wait):
        sweep(plan.cache.incoming)
        flow = acquire if arguments.download_only else dataset
        construct = partial(_construct, flow, plan)
        seconds = run(construct, options, plan.output.log, _Progress(plan.output))
        tallies = read_tallies(plan.output.progress)
        seconds |= {name: round(tally.seconds, 3) for name, tally in tallies.items()}
        if arguments.download_only:
            fetched = tallies["fetch"]
            print(json.dumps({"dataset": plan.recipe.name, "fetched": fetched.done, "gone": dict(fetched.rejected)}))
            return 0
        before = plan.output.current()
        check_yield(read_manifest(plan.output.staging), plan.recipe)
        manifest = plan.output.publish()
    seconds["total"] = round(time.perf_counter() - start, 3)
    print(json.dumps(summary(manifest, plan, changed=before != manifest.version, seconds=seconds)))
    return 0


def _construct(flow: Flow, plan: Plan, root: Any) -> None:
    flow(root, plan.recipe, plan.origins, plan.cache, plan.output)


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Recipe and places of a command line.

    Raises:
        UsageError: an unknown recipe, field or folder.
    """
    recipe = load_recipe(arguments.dataset)
    for setting in arguments.set:
        recipe = override(recipe, setting)
    if arguments.limit is not None:
        recipe = replace(recipe, select=replace(recipe.select, limit=arguments.limit))
    if arguments.seed is not None:
        recipe = replace(recipe, seed=arguments.seed)
    if arguments.max_errors is not None:
        recipe = replace(recipe, max_errors=arguments.max_errors)
    recipe, roots = with_own_audio(recipe, arguments.data_from)
    cache = Cache((arguments.cache_dir or default_cache_folder()).absolute())
    origins = origins_of(mirror_root(arguments.mirror, cache), roots)
    for source in recipe.sources:
        _check_reachable(source, origins)
    output = Output((arguments.output or Path("build") / recipe.name).absolute())
    return Plan(recipe, origins, cache, output)


def with_own_audio(recipe: Recipe, folders: Sequence[str]) -> tuple[Recipe, tuple[tuple[str, str], ...]]:
    """The recipe with its `folder` source pointed at `--data-from`, and the roots to read from."""
    if "folder" not in recipe.sources:
        if folders:
            raise UsageError("--data-from: only --dataset folder reads one's own audio so far")
        return recipe, ()
    config = recipe.sources["folder"]
    if folders:
        config = replace(config, root=str(Path(folders[0]).absolute()))
    if len(folders) > 1 or not config.root:
        raise UsageError("--dataset folder needs exactly one --data-from DIR that holds labels.csv")
    return replace(recipe, sources={**recipe.sources, "folder": config}), (("folder", config.root),)


def mirror_root(mirror: str | None, cache: Cache) -> str | None:
    """The mirror's address; `sample` is generated into the cache when first asked for."""
    if mirror is None or is_http(mirror):
        return mirror
    if mirror == "sample":
        root = cache.root / "sample" / sample_key()
        if not root.is_dir():
            _note("generating the built-in sample mirror, once")
            with atomic_folder(root) as folder:
                write_sample_mirror(folder)
        return str(root)
    folder = Path(mirror).absolute()
    if not folder.is_dir():
        raise UsageError(f"--mirror {mirror}: no such folder; expected sample, a folder or an http(s) address")
    return str(folder)


def _check_reachable(source: str, origins: Origins) -> None:
    if source == "audioset" and origins.mirror is None:
        raise UsageError("audioset: fetching videos from YouTube is not built yet; pass --mirror ROOT")


def check_yield(manifest: Manifest, recipe: Recipe) -> None:
    """Refuse to publish what is empty or went wrong too often.

    Raises:
        YieldError: a source kept no clip.
        TuttiError: more unexpected errors than the recipe tolerates.
    """
    counts = manifest.content["counts"]
    for source in recipe.sources:
        found = counts["sources"].get(source, {"kept": 0, "reasons": {}})
        if found["kept"] == 0:
            raise YieldError(f"{source}: no clip was kept; reasons: {found['reasons'] or 'it has no clips'}")
    failed = [row for row in manifest.clip_rows() if str(row.get("reason", "")).startswith("error:")]
    total = counts["kept"] + sum(counts["rejected"].values())
    if len(failed) > recipe.max_errors * total:
        first = failed[0]
        raise TuttiError(
            f"{len(failed)} of {total} clips failed unexpectedly, first {first['id']} in {first['reason']}: "
            f"{first.get('detail')}; report it, or tolerate it with --max-errors"
        )


def summary(manifest: Manifest, plan: Plan, *, changed: bool, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The JSON object that ends a build."""
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
        "dataset": plan.recipe.name,
        "version": manifest.version,
        "root_digest": manifest.root_digest,
        "output": str(plan.output.root),
        "changed": changed,
        "clips": {"kept": counts["kept"], "rejected": counts["rejected"]},
        "splits": counts["splits"],
        "sources": sources,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def describe(plan: Plan) -> str:
    """The plan of a build, for `--dry-run`."""
    lines = [f"dataset {plan.recipe.name} -> {plan.output.root}", f"classes {', '.join(plan.recipe.classes())}"]
    sums = mirror_sums(plan.origins)
    for source, config in sorted(plan.recipe.sources.items()):
        lines.append(f"source {source} {config}")
        for remote in load_source(source).REMOTES:
            sha256 = sums.get(mirror_path(remote.url), remote.sha256)
            state = "in the cache" if sha256 and plan.cache.has_blob(sha256) else "to be fetched"
            lines.append(f"  {remote.url}: {state}")
    for stage in ("select", "prepare", "clean", "split", "write"):
        lines.append(f"stage {getattr(plan.recipe, stage)}")
    return "\n".join(lines)


def listing() -> str:
    """Recipes and sources, for `--list`."""
    lines = ["datasets:"]
    lines += [f"  {name:12} {', '.join(load_recipe(name).sources)}" for name in recipe_names()]
    lines.append("sources:")
    for name in source_names():
        card = load_source(name).CARD
        size = f"{card.num_clips:,} clips, {card.size_bytes / 1e9:.1f} GB" if card.num_clips else "your own"
        lines.append(f"  {name:12} {card.title}: {size}, {card.license}. {card.license_note}")
    return "\n".join(lines)


class _Progress:
    """Shows how far a build is, on one line; silent where stderr is no terminal."""

    def __init__(self, output: Output) -> None:
        self._output, self._start_s, self._shown_s = output, time.monotonic(), 0.0

    def __call__(self, stderr: IO[str]) -> None:
        now = time.monotonic()
        if not stderr.isatty() or now - self._shown_s < 1:
            return
        self._shown_s = now
        line = progress_line(read_tallies(self._output.progress), now - self._start_s)
        print(f"\r\x1b[K{line[:200]}", end="", file=stderr, flush=True)


def _note(message: str) -> None:
    print(f"note: {message}", file=sys.stderr)
