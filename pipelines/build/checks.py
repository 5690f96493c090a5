"""Refuse what could not or should not be built or published: before hours are spent, and before it is seen."""

import importlib.util
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from tutti.datasets.errors import IntegrityError, StorageError, TryLaterError, TuttiError, UsageError, YieldError
from tutti.datasets.machine import MACHINE_REASONS
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.datasets.manifest_types import SourceCounts
from tutti.datasets.source import RemoteFile, is_streamed, load_source, remotes_of
from tutti.datasets.streams import note
from tutti.pipelines.acquisition.origins import is_http, mirror_path, mirror_sums
from tutti.pipelines.acquisition.youtube import preflight
from tutti.pipelines.build.lock_file import differing, foreign_inputs
from tutti.pipelines.build.output import Output
from tutti.pipelines.build.plan import Build
from tutti.pipelines.build.standing import Standing, refuse_another, standing
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.recipe import Recipe
from tutti.pipelines.rows import ON_PURPOSE
from tutti.pipelines.stages.download import known_by_md5
from tutti.pipelines.stages.frozen import Verdict, classify

SHOWN = 10  # clips named on stderr


def check_places(build: Build, before: Standing) -> None:
    """Refuse, before the work, what could not or should not be published.

    Raises:
        UsageError: a file of somebody else has a name of ours, or another dataset stands there.
    """
    build.output.check()
    shelf = None if build.publish is None else Output(build.publish)
    if shelf is not None:
        shelf.check()
    if build.replaces:
        return
    refuse_another(build.output, before, build.recipe, "--output")
    if shelf is not None:
        refuse_another(shelf, standing(shelf), build.recipe, "--publish")


def check_packages(recipe: Recipe) -> None:
    """Check that the packages that only some recipes need are there, before anything is downloaded.

    They are not imported: that would take two seconds, and as much memory as the decoders.

    Raises:
        UsageError: one is not there; the message names it and the remedy.
    """
    needed = []
    if recipe.embed.embedder != "none":
        needed.append(("cleanlab", "cleanlab", "scores labels", "--embedder none"))
    if recipe.split.splitter == "skmultilearn":
        needed.append(("scikit-multilearn", "skmultilearn", "splits songs", "--set split.splitter=counts"))
    for package, module, purpose, instead in needed:
        if not _is_there(module):
            raise UsageError(
                f"{recipe.name}: {package} {purpose}, and is not installed; install it, for instance with "
                f"`pip install {package}`, or {instead}"
            )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: it was put out of reach, as `sys.modules[module] = None` does
        return False


def check_means(build: Build) -> None:
    """Check for packages, tools, inputs and disk space before hours are spent; print what will be missing.

    Raises:
        UsageError: a package or a tool that was asked for is not there.
        StorageError: the disk cannot hold what is to be fetched.
    """
    if build.frozen is None and not build.download_only:
        check_packages(build.recipe)
    if "audioset" in build.recipe.sources and build.origins.mirror is None:
        for message in preflight(build.origins.access):
            note(message)
    if build.frozen is not None:
        for message in foreign_inputs(read_manifest(build.frozen), build.recipe):
            note(message)
    check_space(needed_bytes(build), build.cache)


def needed_bytes(build: Build) -> int:
    """Sum the bytes that the cache will grow by at least: the files of the sources that it lacks."""
    total = 0
    for source, config in build.recipe.sources.items():
        card = load_source(source).CARD
        remotes = remotes_of(source, config)
        missing = [remote for remote in remotes if not is_cached(remote, build)]
        if not missing:
            continue
        mirror = build.origins.mirror
        if mirror is not None and not is_http(mirror):
            files = [Path(mirror) / mirror_path(remote.url) for remote in missing]
            sizes = [file.stat().st_size if file.is_file() else 0 for file in files]
        elif mirror is not None or build.origins.own_roots or is_streamed(source):
            sizes = [0]  # nobody told, or the tables of a corpus whose audio comes as it is needed
        else:
            sizes = [math.ceil(card.size_bytes / len(remotes))] * len(missing)
        # A gzipped tar is unpacked once, and audio hardly compresses.
        total += sum(2 * n if r.url.endswith("gz") else n for n, r in zip(sizes, missing, strict=False))
    return total


def is_cached(remote: RemoteFile, build: Build) -> bool:
    """Whether the cache has a file of a source."""
    expected = mirror_sums(build.origins, build.cache).get(mirror_path(remote.url)) or remote.sha256
    if expected is None and remote.md5 is not None:
        expected = known_by_md5(remote.url, remote.md5, build.cache)  # last: it may have to hash archives
    return expected is not None and build.cache.has_blob(expected)


def check_space(needed: int, cache: Cache) -> None:
    """Refuse to start what cannot end.

    Raises:
        StorageError: names the bytes needed and those that are free.
    """
    place = next(folder for folder in (cache.root, *cache.root.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageError(
            f"the cache needs about {needed:,} bytes more on the disk of {cache.root}, {free:,} are free; "
            "free space, or choose another --cache-dir"
        )


def check_yield(manifest: Manifest, recipe: Recipe, min_yield: float = 0.0) -> None:
    """Refuse to publish what is empty or went wrong too often.

    Raises:
        YieldError: a source kept no clip, or a smaller share of its clips than asked for.
        TryLaterError: likewise, but for what the machine lacked while it worked on them.
        TuttiError: more unexpected errors than the recipe tolerates.
    """
    counts = manifest.content["counts"]
    for source in recipe.sources:
        found: SourceCounts = counts["sources"].get(source, {"kept": 0, "reasons": {}, "splits": {}})
        lacking = {reason: n for reason, n in found["reasons"].items() if reason in MACHINE_REASONS}
        if found["kept"] == 0 and lacking:
            raise TryLaterError(f"{source}: no clip was kept; {remedy(lacking)}")
        if found["kept"] == 0:
            raise YieldError(f"{source}: no clip was kept; reasons: {found['reasons'] or 'it has no clips'}")
        lost = sum(n for reason, n in found["reasons"].items() if reason not in ON_PURPOSE)
        share = found["kept"] / (found["kept"] + lost)
        if share < min_yield and (found["kept"] + sum(lacking.values())) / (found["kept"] + lost) >= min_yield:
            raise TryLaterError(f"{source}: kept {share:.1%} of its clips; {remedy(lacking)}")
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


def remedy(lacking: Mapping[str, int]) -> str:
    """Describe what the machine lacked, and what helps."""
    counted = ", ".join(f"{reason.replace('_', ' ')}: {count} clips" for reason, count in sorted(lacking.items()))
    remedies = "; ".join(MACHINE_REASONS[reason] for reason in sorted(lacking))
    return f"this machine kept others from being worked on ({counted}). {remedies}; then run the build again"


def check_frozen(listed: Manifest, built: Manifest) -> Verdict:
    """Compare a frozen build with what it rebuilds; what is gone is named on stderr.

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
