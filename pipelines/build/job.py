"""One run of `pipelines.build`: plan, lock, run the pipeline, check the yield, publish, report."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from datasets.command import told
from datasets.errors import IntegrityError, Stopped, StorageError, TryLaterError, TuttiError, YieldError
from datasets.files import sweep, write_file
from datasets.machine import INPUT_CHANGED, MACHINE_REASONS
from datasets.manifest import Manifest, canonical_json, manifest_path, read_manifest
from datasets.os_errors import words
from datasets.streams import overwrite
from pipelines.acquisition.origins import mirror_sums
from pipelines.acquisition.own_index import index_of, sums_of
from pipelines.build.arguments import flag_names
from pipelines.build.flow import acquire, dataset, frozen
from pipelines.build.healing import heal
from pipelines.build.inputs import named_inputs, recipe_inputs
from pipelines.build.lock_file import differing
from pipelines.build.looks import Input, Looks, changed_inputs, settled_looks, shown
from pipelines.build.output import Output, publish_to
from pipelines.build.plan import Plan, describe, listing, make_plan, note, places_of, recipe_of, warn
from pipelines.build.standing import Standing, losses, parent_of, refuse_another, standing
from pipelines.build.unchanged import forget, is_final, looker, remember
from pipelines.diff.drift import check_drift
from pipelines.engine.progress import Tally, progress_line, read_tallies, read_transfers
from pipelines.engine.runner import Interrupted, exit_now, interruptible, must_leave, pipeline_options, run
from pipelines.engine.stall import StallWatch
from pipelines.recipe import Recipe, as_json
from pipelines.stages.embed import embedder_of, ensure_weights
from pipelines.stages.frozen import Verdict, classify

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
        exit_now(stop.exit_code)
        return stop.exit_code
    except (Exception, Stopped) as error:
        if must_leave():
            exit_now(told(error, then="then run the build again"))
        raise


def execute(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Carry out a parsed command line."""
    start = time.perf_counter()
    options = pipeline_options(beam_flags, flag_names())
    if arguments.dry_run:
        plan = make_plan(arguments)
        check_places(plan, standing(plan.output))
        print(describe(plan))
        return 0
    read_anew()
    look = looker(arguments)
    output, cache = places_of(arguments)
    looks = settled_looks(partial(inputs_of, arguments), look, (output, cache))  # before anything is read
    plan = make_plan(arguments)
    if not arguments.download_only:
        check_places(plan, standing(plan.output))
    warn(plan)
    if plan.frozen is None:
        ensure_weights(plan.recipe.embed)
    with plan.output.locked(arguments.wait), plan.cache.in_use():
        before = standing(plan.output)  # another build may have held the lock
        plan = replace(plan, parent=parent_of(before, plan.recipe) if plan.sticky else plan.parent)
        if not arguments.download_only:
            check_places(plan, before)
            tell_standing(plan, before)
        sweep(plan.cache.incoming)
        plan, seconds = heal(
            plan,
            lambda now: run(
                partial(_construct, now, download_only=arguments.download_only),
                options,
                now.output.log,
                _Progress(now.output),
                StallWatch(now.output.progress, arguments.stall_timeout),
            ),
        )
        tallies = read_tallies(plan.output.progress)
        seconds |= {name: round(tally.seconds, 3) for name, tally in tallies.items()}
        if arguments.download_only:
            fetched = tallies.get("fetch", Tally())
            missing = dict(fetched.rejected)
            here = fetched.done - fetched.rejected.total()
            say({"dataset": plan.recipe.name, "fetched": here, "missing": missing})
            return 0
        staged = read_manifest(plan.output.staging)
        check_yield(staged, plan.recipe, plan.min_yield)
        if plan.frozen is None and (earlier := before.complete or before.current) is not None:
            for line in differing(earlier.content, staged.content, (f"in version {earlier.version}", "now")):
                note(line)
            check_drift(earlier, staged, plan.recipe.drift)
        verdict = None if plan.frozen is None else check_frozen(read_manifest(plan.frozen), staged)
        changed = changed_inputs(looks, look)
        if changed and not (plan.output.root / "versions" / staged.version).is_dir():
            mark_incomplete(plan.output.staging, staged, {INPUT_CHANGED: len(changed)})
        manifest = plan.output.publish()
        # From here on nothing ends the build but what was asked for and cannot be had: to publish, and the summary.
        tell_incomplete(manifest, changed)
        seconds["total"] = round(time.perf_counter() - start, 3)
        report = summary(manifest, plan, changed=before.name != manifest.version, seconds=seconds)
        report |= {"work": work_of(tallies, plan.recipe)} | ({} if verdict is None else {"frozen": verdict.summary()})
        keep_books(arguments, Looks(looks.of, looks.begun_ns, looks.settled and not changed), manifest, report)
        if plan.publish is not None:
            publish_to(plan.publish, manifest)
    note(work_line(report["work"]))
    say(report)
    return 0


def inputs_of(arguments: argparse.Namespace) -> Iterator[Input]:
    """Everything outside the cache that a build reads; each is named before the next is read."""
    yield from named_inputs(arguments)
    yield from recipe_inputs(recipe_of(arguments))


def read_anew() -> None:
    """Forget what an earlier build of this process read of files that may be others now."""
    index_of.cache_clear()
    sums_of.cache_clear()
    mirror_sums.cache_clear()
    embedder_of.cache_clear()


def check_places(plan: Plan, before: Standing) -> None:
    """Refuse, before the work, what could not or should not be published.

    Raises:
        UsageError: a file of somebody else has a name of ours, or another dataset stands there.
    """
    plan.output.check()
    shelf = None if plan.publish is None else Output(plan.publish)
    if shelf is not None:
        shelf.check()
    if plan.replaces:
        return
    refuse_another(plan.output, before, plan.recipe, "--output")
    if shelf is not None:
        refuse_another(shelf, standing(shelf), plan.recipe, "--publish")


def tell_standing(plan: Plan, before: Standing) -> None:
    """Say what of the current version does not count, and what of it this build drops."""
    splits = f"splits hold from {'nothing' if plan.parent is None else f'version {plan.parent.name}'}"
    if before.problem:
        note(f"{plan.output.root}: {before.problem}; it is built anew{f', {splits}' if plan.sticky else ''}")
    elif before.current is not None and before.complete is not before.current and plan.sticky:
        note(f"{plan.output.root}: version {before.name} is incomplete; {splits}")
    if before.current is not None:
        for loss in losses(before.current.content["recipe"], as_json(plan.recipe)):
            note(f"this build {loss}")


def mark_incomplete(folder: Path, staged: Manifest, lost: Mapping[str, int]) -> None:
    """Write into a staged manifest that the version is not what an undisturbed build would be."""
    content = {**staged.content, "incomplete": {**staged.content.get("incomplete", {}), **lost}}
    write_file(manifest_path(folder), (canonical_json(content) + "\n").encode(), durable=False)


def tell_incomplete(manifest: Manifest, changed: Sequence[str]) -> None:
    """Say which inputs changed, what the machine lacked, and what to do."""
    if changed:
        note(
            f"{shown(changed)}: changed while the build ran, which may have read it before; run the same command again"
        )
    lost = {why: n for why, n in manifest.content.get("incomplete", {}).items() if why in MACHINE_REASONS}
    if lost:
        note(f"version {manifest.version} is incomplete: {_remedy(lost)}")
    failed = sum(n for why, n in manifest.content["counts"]["rejected"].items() if why.startswith("error:"))
    if failed:
        note(f"{failed} clips failed unexpectedly: their rows say why, and the next build tries them again")


def keep_books(arguments: argparse.Namespace, looks: Looks, manifest: Manifest, report: dict[str, Any]) -> None:
    """Remember what the next build would find unchanged; whatever goes wrong here, the version is published."""
    output = Path(report["output"])
    try:
        if is_final(looks, manifest.content):
            remember(arguments, looks, output, report)
        else:
            forget(output)
        if not looks.settled and "incomplete" not in manifest.content:
            note("an input has only just changed, or bears a time of the future: the next build looks at all again")
    except (OSError, TuttiError, ValueError) as error:
        note(f"the next build will not be answered from memory ({error}); this one is published")


def say(content: Mapping[str, Any]) -> None:
    """The line on stdout that ends a build.

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
    others = "; ".join(differing(listed.content, built.content, ("in the manifest", "here")))
    if verdict.changed:
        cause = f"it may be for {others}" if others else "upstream has changed"
        raise IntegrityError(
            f"{len(verdict.changed)} clips hold other audio than the manifest says, first {verdict.changed[0]}: "
            f"{cause}; nothing was published"
        )
    if others and verdict.level != "EXACT":
        note(f"{verdict.level}, not EXACT, made with others: {others}")
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
        **({"complete": False} if "incomplete" in manifest.content else {}),
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
