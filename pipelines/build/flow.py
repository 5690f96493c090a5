"""The flow of a build on Beam: `dataset` is the method section, one line per stage.

`frozen` builds what a manifest lists: nothing is selected, judged or split anew.
"""

from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam

from datasets.manifest import bucket_of
from datasets.source import has_notes
from pipelines.acquisition.origins import Origins
from pipelines.build.output import Output
from pipelines.cache.store import Cache
from pipelines.engine.stage import JoinDecisions, Reshuffle, Stage, ToOneList
from pipelines.recipe import Recipe, as_json
from pipelines.stages.clean import clean
from pipelines.stages.curate import curate
from pipelines.stages.download import download
from pipelines.stages.duplicates import summarize
from pipelines.stages.embed import embed
from pipelines.stages.fetch import fetch
from pipelines.stages.frozen import bucket_markers, certificate_in, decide_frozen, listed_shards, only_listed
from pipelines.stages.prepare import prepare
from pipelines.stages.select import SelectConfig, select
from pipelines.stages.split import assignments_of, certificate_of, plan_split, trains_only
from pipelines.stages.write import (
    assign_shards,
    empty_shards,
    join_bucket,
    key_by_shard,
    shard_job,
    write_clip_rows,
    write_manifest,
    write_shard_file,
)


def acquire(
    root: beam.Pipeline, recipe: Recipe, origins: Origins, cache: Cache, output: Output, listed: Path | None = None
) -> tuple[Any, Any]:
    """Archives and recordings: all bytes in the cache, verified.

    With `listed`, a version folder, exactly the clips that it kept.
    """
    stage = partial(Stage, progress=output.progress)
    chosen: dict[str, Any] = {
        "configs": recipe.sources,
        "config": SelectConfig() if listed else recipe.select,
        "instruments": recipe.classes(),
        "seed": recipe.seed,
    }
    files = (
        root
        | "sources" >> beam.Create(sorted(recipe.sources))
        | stage(
            "download",
            partial(download, configs=recipe.sources, origins=origins, cache=cache, progress=output.progress),
        )
    )
    recordings = files | stage("select", partial(select, **chosen))
    if listed is not None:
        recordings = recordings | stage("listed", partial(only_listed, manifest=listed))
    return files, recordings | "spread" >> Reshuffle() | stage("fetch", partial(fetch, origins=origins, cache=cache))


def dataset(
    root: beam.Pipeline, recipe: Recipe, origins: Origins, cache: Cache, output: Output, parent: Path | None = None
) -> Any:
    """The whole flow; its one result is the root digest.

    Rows are references: samples lie in the cache and cross no shuffle. `parent` is a version whose splits hold.
    """
    classes, folder = recipe.classes(), output.staging
    stage = partial(Stage, progress=output.progress)
    judges: dict[str, Any] = {
        "config": recipe.curate,
        "embed": recipe.embed,
        "outlier": recipe.outliers,
        "guitar": recipe.pseudo_label,
        "near_duplicate": recipe.near_duplicates,
        "trains_only": trains_only(recipe.partitions(), recipe.split),
        "overrides": recipe.clean.overrides,
        "instruments": classes,
    }
    files, recordings = acquire(root, recipe, origins, cache, output)
    clips = (
        recordings
        | stage("prepare", partial(prepare, config=recipe.prepare, cache=cache))
        | stage("clean", partial(clean, config=recipe.clean))
        | stage("embed", partial(embed, config=recipe.embed, cache=cache))
    )
    plan = (
        clips
        | "summaries" >> beam.FlatMap(summarize, classes)
        | "all summaries" >> ToOneList()
        | stage("curate", partial(curate, **judges, seed=recipe.seed, cache=cache, folder=folder))
        | stage("split", partial(plan_split, config=recipe.split, instruments=classes, seed=recipe.seed, parent=parent))
        | "rank" >> beam.Map(assign_shards, recipe.write)
    )
    assignments = plan | "assignments" >> beam.FlatMap(assignments_of)
    buckets = (clips, assignments) | "by bucket" >> JoinDecisions(bucket_of, join_bucket)
    certificate = plan | "certificate" >> beam.Map(certificate_of)
    needed = plan | "empty shards" >> beam.FlatMap(empty_shards)
    return write(files, buckets, needed, certificate, recipe, origins, cache, output, parent)


def frozen(root: beam.Pipeline, recipe: Recipe, origins: Origins, cache: Cache, output: Output, manifest: Path) -> Any:
    """Rebuild what the manifest in a version folder lists."""
    stage = partial(Stage, progress=output.progress)
    files, recordings = acquire(root, recipe, origins, cache, output, manifest)
    clips = recordings | stage("prepare", partial(prepare, config=recipe.prepare, cache=cache))
    every_bucket = root | "buckets" >> beam.Create(bucket_markers(manifest))
    buckets = (clips, every_bucket) | "by bucket" >> JoinDecisions(bucket_of, partial(decide_frozen, manifest=manifest))
    needed = root | "shards" >> beam.Create(listed_shards(manifest))
    certificate = root | "certificate" >> beam.Create([certificate_in(manifest)])
    return write(files, buckets, needed, certificate, recipe, origins, cache, output, manifest)


def write(
    files: Any, buckets: Any, needed: Any, certificate: Any,
    recipe: Recipe, origins: Origins, cache: Cache, output: Output, parent: Path | None,
) -> Any:  # fmt: skip
    """Clip rows, shards, and the manifest last."""
    classes, folder = recipe.classes(), output.staging
    stage = partial(Stage, progress=output.progress)
    shard: dict[str, Any] = {"instruments": classes, "sample_rate": recipe.prepare.sample_rate, "config": recipe.write}
    shard["notes"] = has_notes(recipe.sources)
    record: dict[str, Any] = {"dataset": recipe.name, "recipe": as_json(recipe), "mirrored": origins.mirror is not None}
    records = buckets | stage("clip rows", partial(write_clip_rows, folder=folder, instruments=classes))
    shards = (
        (buckets | "kept" >> beam.FlatMap(key_by_shard), needed)
        | "shard members" >> beam.Flatten()
        | "by shard" >> beam.GroupByKey()
        | "shard jobs" >> beam.Map(shard_job)
        | stage("write", partial(write_shard_file, folder=folder, cache=cache, **shard))
    )
    return (
        (files, shards, records, certificate)
        | "parts" >> beam.Flatten()
        | "all parts" >> ToOneList()
        | stage("manifest", partial(write_manifest, folder=folder, instruments=classes, parent=parent, **record))
    )
