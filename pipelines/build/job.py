"""One run of `pipelines.build`: plan, lock, run the pipeline, check what came out, publish, report."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from tutti.datasets.command import told
from tutti.datasets.decoding.formats import formats_text
from tutti.datasets.errors import Stopped
from tutti.datasets.files import sweep, write_file
from tutti.datasets.machine import INPUT_CHANGED
from tutti.datasets.manifest import Manifest, canonical_json, manifest_path, read_manifest
from tutti.datasets.streams import note
from tutti.pipelines.acquisition.origins import mirror_sums
from tutti.pipelines.acquisition.own_index import index_of, sums_of
from tutti.pipelines.build.arguments import flag_names
from tutti.pipelines.build.checks import check_frozen, check_means, check_places, check_yield
from tutti.pipelines.build.failed import kept_if_refused, remove_failed
from tutti.pipelines.build.flow import construct
from tutti.pipelines.build.healing import heal
from tutti.pipelines.build.inputs import named_inputs, recipe_inputs
from tutti.pipelines.build.lock_file import differing
from tutti.pipelines.build.looks import Input, LookAt, Looks, changed_inputs, settled_looks
from tutti.pipelines.build.output import publish_to
from tutti.pipelines.build.own_report import foretold, report_own_audio
from tutti.pipelines.build.plan import Build, places_of, plan_build, recipe_of
from tutti.pipelines.build.report import (
    Progress,
    describe,
    listing,
    say,
    summary,
    tell_incomplete,
    tell_remarks,
    tell_standing,
    work_line,
    work_of,
)
from tutti.pipelines.build.standing import Standing, parent_of, standing
from tutti.pipelines.build.unchanged import forget, is_final, looker, save_state
from tutti.pipelines.build.unmatched import tell_unmatched
from tutti.pipelines.diff.drift import check_drift
from tutti.pipelines.engine.heap import reserve_blas
from tutti.pipelines.engine.progress import Tally, read_tallies
from tutti.pipelines.engine.runner import Interrupted, exit_now, interruptible, must_leave, pipeline_options, run
from tutti.pipelines.engine.stall import StallWatch
from tutti.pipelines.rows import ON_PURPOSE
from tutti.pipelines.stages.embed import embedder_of, ensure_weights


def command(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Run the command line: the summary goes to stdout."""
    try:
        if arguments.list or arguments.formats:
            print(listing() if arguments.list else formats_text())
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
    """Run a parsed command line."""
    start_s = time.perf_counter()
    options = pipeline_options(beam_flags, flag_names())
    if arguments.dry_run:
        build = plan_build(arguments)
        check_places(build, standing(build.output))
        tell_remarks(build.recipe)
        print("\n".join([describe(build), *foretold(build)]))
        return 0
    read_anew()
    look = looker(arguments)
    looks = settled_looks(partial(inputs_of, arguments), look, places_of(arguments))  # before anything is read
    build = plan_build(arguments)
    if not build.download_only:
        check_places(build, standing(build.output))
    check_means(build)
    tell_remarks(build.recipe)
    if build.frozen is None and build.recipe.embed.embedder != "none":
        reserve_blas()
        ensure_weights(build.recipe.embed)
    with build.output.locked(arguments.wait), build.cache.in_use():
        before = standing(build.output)  # another build may have held the lock
        if not build.download_only:
            check_places(build, before)
            build = replace(build, parent=parent_of(before, build.recipe)) if build.sticky else build
            tell_standing(build, before)
        build, seconds = run_flow(build, options, arguments.stall_timeout)
        tallies = read_tallies(build.output.progress)
        if build.download_only:
            say({"dataset": build.recipe.name, **fetched_and_missing(tallies)})
            return 0
        seconds |= {name: round(tally.seconds, 3) for name, tally in tallies.items()}
        own = report_own_audio(build)  # before a build without clips is refused
        verdict = check_staged(build, before)
        looks, changed = looked_again(looks, look)
        manifest = publish(build, changed)
        remove_failed(build.output)
        # From here on nothing ends the build but what was asked for and cannot be had: to publish, and the summary.
        tell_incomplete(manifest, changed)
        seconds["total"] = round(time.perf_counter() - start_s, 3)
        report = summary(manifest, build, changed=before.name != manifest.version, seconds=seconds)
        report |= {"work": work_of(tallies, build.recipe)} | verdict | own | unmatched_in(manifest, build)
        keep_books(arguments, looks, build.output.root, manifest, report)
        if build.publish is not None:
            publish_to(build.publish, manifest)
    note(work_line(report["work"]))
    say(report)
    return 0


def unmatched_in(manifest: Manifest, build: Build) -> dict[str, Any]:
    """Report, for a summary, which entries of the user's lists fit no clip; a frozen build has none of its own."""
    try:
        return {} if build.frozen is not None else tell_unmatched(build.recipe, manifest.clip_rows())
    except Exception as error:  # the version is published
        note(f"entries of --exclude and --overrides were not looked up ({error})")
        return {}


def looked_again(looks: Looks, look: LookAt) -> tuple[Looks, list[str]]:
    """Compare all inputs with their looks; return these, unsettled where one differs or is not seen, and which."""
    try:
        changed = changed_inputs(looks, look)
    except Exception as error:  # a disk that went away: what was built of it is sound all the same
        note(f"the inputs cannot be looked at again ({error}): whether they changed while the build ran is not known")
        return replace(looks, settled=False), []
    return replace(looks, settled=looks.settled and not changed), changed


def inputs_of(arguments: argparse.Namespace) -> Iterator[Input]:
    """Yield everything outside the cache that a build reads; each is named before the next is read."""
    yield from named_inputs(arguments)
    yield from recipe_inputs(recipe_of(arguments))


def read_anew() -> None:
    """Forget what an earlier build of this process read of files that may be others now."""
    index_of.cache_clear()
    sums_of.cache_clear()
    mirror_sums.cache_clear()
    embedder_of.cache_clear()


def run_flow(build: Build, options: PipelineOptions, stall_timeout_s: float) -> tuple[Build, dict[str, float]]:
    """Run the pipeline of a build to its end; damage of the cache is healed on the way.

    Returns:
        The build that was carried out, and seconds by phase.
    """

    def work(now: Build) -> dict[str, float]:
        output = now.output
        watch = StallWatch(output.progress, stall_timeout_s)
        return run(partial(construct, now), options, output.log, Progress(output.progress), watch)

    sweep(build.cache.incoming)
    return heal(build, work)


def fetched_and_missing(tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """Count clips whose audio is here, and those without, by reason; what the recipe leaves out is not missing."""
    select, fetch = (tallies.get(name, Tally()) for name in ("select", "fetch"))
    missing = Counter({reason: n for reason, n in select.rejected.items() if reason not in ON_PURPOSE})
    return {"fetched": fetch.done - fetch.rejected.total(), "missing": dict(missing + fetch.rejected)}


def check_staged(build: Build, before: Standing) -> dict[str, Any]:
    """Hold what was built against what is asked of it, and against the version before.

    Returns:
        For the summary: how near a frozen build came.

    Raises:
        TuttiError: it must not be published; see `checks.py` and `drift.py`.
    """
    staged = read_manifest(build.output.staging)
    with kept_if_refused(build.output, staged):
        return check_version(staged, build, before)


def check_version(staged: Manifest, build: Build, before: Standing) -> dict[str, Any]:
    """Hold a version against what is asked of it, and against the one before; see `check_staged`."""
    check_yield(staged, build.recipe, build.min_yield)
    if build.frozen is not None:
        return {"frozen": check_frozen(read_manifest(build.frozen), staged).summary()}
    if (earlier := before.complete or before.current) is not None:
        for line in differing(earlier.content, staged.content, (f"in version {earlier.version}", "now")):
            note(line)
        check_drift(earlier, staged, build.recipe.drift)
    return {}


def publish(build: Build, changed: Sequence[str]) -> Manifest:
    """Make the staged version the current one; incomplete, if inputs changed while it was built."""
    staged = read_manifest(build.output.staging)
    if changed and not (build.output.root / "versions" / staged.version).is_dir():
        mark_incomplete(build.output.staging, staged, {INPUT_CHANGED: len(changed)})
    return build.output.publish()


def mark_incomplete(staging: Path, staged: Manifest, lost: Mapping[str, int]) -> None:
    """Write into a staged manifest that the version is not what an undisturbed build would be."""
    content = {**staged.content, "incomplete": {**staged.content.get("incomplete", {}), **lost}}
    write_file(manifest_path(staging), (canonical_json(content) + "\n").encode(), durable=False)


def keep_books(
    arguments: argparse.Namespace, looks: Looks, output: Path, manifest: Manifest, report: dict[str, Any]
) -> None:
    """Remember what the next build would find unchanged; whatever goes wrong here, the version is published."""
    try:
        if is_final(looks, manifest.content):
            save_state(arguments, looks, output, report)
        else:
            forget(output)
        if not looks.settled and "incomplete" not in manifest.content:
            note("an input has only just changed, or bears a time of the future: the next build looks at all again")
    except Exception as error:
        note(f"the next build will not be answered from memory ({error}); this one is published")
