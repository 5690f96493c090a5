"""One run of `pipelines.build`: plan, lock, run the pipeline, check the yield, publish, report."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import IO, Any

from datasets.door import overwrite
from datasets.errors import IntegrityError, TryLaterError, TuttiError, YieldError
from datasets.files import sweep
from datasets.machine import MACHINE_REASONS
from datasets.manifest import Manifest, read_manifest
from datasets.scores.soundfonts import find_soundfonts
from pipelines.drift import check_drift
from pipelines.embed import ready
from pipelines.flow import acquire, dataset, frozen
from pipelines.frozen import Verdict, classify
from pipelines.plan import Plan, describe, listing, make_plan, note, warn
from pipelines.progress import Tally, progress_line, read_tallies, read_transfers
from pipelines.recipe import Recipe
from pipelines.runner import Interrupted, interruptible, leave, pipeline_options, run
from pipelines.unchanged import remember
from pipelines.version import Output, publish_to

SHOWN = 10  # clips named on stderr


def command(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Run the command line: the summary goes to stdout."""
    try:
        if arguments.list:
            print(listing())
            return 0
        with interruptible():
            return execute(arguments, beam_flags)
    except Interrupted as stop:
        print(f"\nstopped by {stop}; run the same command again, it goes on where it was", file=sys.stderr)
        leave(stop.exit_code)
        return stop.exit_code


def execute(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Carry out a parsed command line."""
    start = time.perf_counter()
    options = pipeline_options(beam_flags)
    plan = make_plan(arguments)
    if arguments.dry_run:
        print(describe(plan))
        return 0
    warn(plan)
    if plan.frozen is None:
        ready(plan.recipe.embed)
    with plan.output.locked(arguments.wait), plan.cache.in_use():
        sweep(plan.cache.incoming)
        seconds = run(
            partial(_construct, plan, download_only=arguments.download_only),
            options,
            plan.output.log,
            _Progress(plan.output),
        )
        tallies = read_tallies(plan.output.progress)
        seconds |= {name: round(tally.seconds, 3) for name, tally in tallies.items()}
        if arguments.download_only:
            fetched = tallies["fetch"]
            missing = dict(fetched.rejected)
            here = fetched.done - fetched.rejected.total()
            print(json.dumps({"dataset": plan.recipe.name, "fetched": here, "missing": missing}))
            return 0
        before = plan.output.current()
        staged = read_manifest(plan.output.staging)
        check_yield(staged, plan.recipe, plan.min_yield)
        if plan.frozen is None and before is not None:
            check_drift(read_manifest(plan.output.root), staged, plan.recipe.drift)
        verdict = None if plan.frozen is None else check_frozen(read_manifest(plan.frozen), staged)
        manifest = plan.output.publish()
        if plan.publish is not None:
            publish_to(plan.publish, manifest)
        seconds["total"] = round(time.perf_counter() - start, 3)
        report = summary(manifest, plan, changed=before != manifest.version, seconds=seconds)
        report |= {"work": work_of(tallies, plan.recipe)} | ({} if verdict is None else {"frozen": verdict.summary()})
        remember(arguments, inputs_of(plan, arguments), plan.output.root, report)
    note(work_line(report["work"]))
    print(json.dumps(report), flush=True)
    return 0


def _construct(plan: Plan, root: Any, *, download_only: bool) -> None:
    places = (root, plan.recipe, plan.origins, plan.cache, plan.output)
    if download_only:
        acquire(*places, plan.frozen)
    elif plan.frozen is not None:
        frozen(*places, plan.frozen)
    else:
        dataset(*places, plan.parent)


def check_frozen(listed: Manifest, built: Manifest) -> Verdict:
    """How near a frozen build came; what is gone is named on stderr.

    Raises:
        IntegrityError: a clip holds other audio than the manifest says.
    """
    verdict = classify(listed, built)
    if verdict.changed:
        raise IntegrityError(
            f"{len(verdict.changed)} clips hold other audio than the manifest says, first {verdict.changed[0]}: "
            "upstream has changed; nothing was published"
        )
    for clip_id, reason in verdict.gone[:SHOWN]:
        note(f"gone: {clip_id} ({reason})")
    if len(verdict.gone) > SHOWN:
        note(f"gone: {len(verdict.gone) - SHOWN} more; their rows in the new manifest have the reasons")
    return verdict


def work_of(tallies: Mapping[str, Tally], recipe: Recipe) -> dict[str, dict[str, int]]:
    """Stage -> results that were known from an earlier build, and those that were computed."""
    return {
        name: {"reused": tallies[name].done - tallies[name].computed, "computed": tallies[name].computed}
        for name in ("prepare", "embed", "write")
        if name in tallies and (name != "embed" or recipe.embed.embedder != "none")
    }


def work_line(work: Mapping[str, Mapping[str, int]]) -> str:
    """The same for people."""
    names = {"prepare": "clips", "embed": "embeddings", "write": "shards"}
    parts = [f"{names[name]}: reused {n['reused']:,}, computed {n['computed']:,}" for name, n in work.items()]
    return "; ".join(parts)


def inputs_of(plan: Plan, arguments: argparse.Namespace) -> list[str]:
    """Everything outside the cache that a build read."""
    paths = [path for _, path in plan.origins.local_roots] + list(plan.origins.own_roots)
    paths += [str(file.absolute()) for file in (*arguments.exclude, *arguments.overrides)]
    named = arguments.parent not in (None, "none")  # the current version is what is compared anyway
    if "rendered" in plan.recipe.sources:
        paths += [str(soundfont.path) for soundfont in find_soundfonts()]
    optional = (plan.origins.mirror, plan.recipe.embed.folder, plan.frozen, plan.parent if named else None)
    return paths + [str(path) for path in optional if path]


def check_yield(manifest: Manifest, recipe: Recipe, min_yield: float = 0.0) -> None:
    """Refuse to publish what is empty or went wrong too often.

    Raises:
        YieldError: a source kept no clip, or a smaller share of its clips than asked for.
        TryLaterError: likewise, but for what the machine lacked while it worked on them.
        TuttiError: more unexpected errors than the recipe tolerates.
    """
    counts = manifest.content["counts"]
    for source in recipe.sources:
        found = counts["sources"].get(source, {"kept": 0, "reasons": {}})
        lacking = {reason: n for reason, n in found["reasons"].items() if reason in MACHINE_REASONS}
        if found["kept"] == 0 and lacking:
            raise TryLaterError(f"{source}: no clip was kept; {_remedy(lacking)}")
        if found["kept"] == 0:
            raise YieldError(f"{source}: no clip was kept; reasons: {found['reasons'] or 'it has no clips'}")
        lost = sum(n for reason, n in found["reasons"].items() if reason != "excluded")  # what was taken out on purpose
        share = found["kept"] / (found["kept"] + lost)
        if share < min_yield and (found["kept"] + sum(lacking.values())) / (found["kept"] + lost) >= min_yield:
            raise TryLaterError(f"{source}: kept {share:.1%} of its clips; {_remedy(lacking)}")
        if share < min_yield:
            raise YieldError(
                f"{source}: kept {share:.1%} of its clips, less than --min-yield {min_yield}; reasons: "
                f"{found['reasons']}; run it again for what is pending, or lower --min-yield"
            )
    failed = [row for row in manifest.clip_rows() if str(row.get("reason", "")).startswith("error:")]
    total = counts["kept"] + sum(counts["rejected"].values())
    if len(failed) > recipe.max_errors * total:
        first = failed[0]
        raise TuttiError(
            f"{len(failed)} of {total} clips failed unexpectedly, first {first['id']} in {first['reason']}: "
            f"{first.get('detail')}; report it, or tolerate it with --max-errors"
        )


def _remedy(lacking: Mapping[str, int]) -> str:
    """What the machine lacked, and what helps."""
    counted = ", ".join(f"{reason.replace('_', ' ')}: {count} clips" for reason, count in sorted(lacking.items()))
    remedies = "; ".join(MACHINE_REASONS[reason] for reason in sorted(lacking))
    return f"this machine kept others from being worked on ({counted}). {remedies}; then run the build again"


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


class _Progress:
    """Shows how far a build is, on one line; silent where stderr is no terminal."""

    def __init__(self, output: Output) -> None:
        self._output, self._start_s, self._shown_s = output, time.monotonic(), 0.0

    def __call__(self, stderr: IO[str]) -> None:
        now = time.monotonic()
        if not stderr.isatty() or now - self._shown_s < 1:
            return
        self._shown_s = now
        folder = self._output.progress
        line = progress_line(read_tallies(folder), now - self._start_s, read_transfers(folder))
        overwrite(line, stderr)
