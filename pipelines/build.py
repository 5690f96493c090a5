"""Build a dataset: upstream archives in, Parquet shards with a manifest out.

    python -m pipelines.build --dataset ultimate --mirror sample

`dataset` is the method section: one line per stage. All flags: `--help`.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import apache_beam as beam

from datasets.manifest import bucket_of
from pipelines.acquisition.origins import Origins
from pipelines.arguments import parse
from pipelines.cache import Cache
from pipelines.clean import clean
from pipelines.curate import curate
from pipelines.download import download
from pipelines.duplicates import summarize
from pipelines.embed import embed
from pipelines.fetch import fetch
from pipelines.job import command
from pipelines.prepare import prepare
from pipelines.recipe import Recipe, as_json
from pipelines.select import select
from pipelines.split import assignments_of, certificate_of, plan_split, trains_only
from pipelines.stage import Decide, Gather, Spread, Stage
from pipelines.version import Output
from pipelines.write import (
    assign_shards,
    by_shard,
    decide,
    empty_shards,
    shard_job,
    write_clip_rows,
    write_manifest,
    write_shard_file,
)


def acquire(root: beam.Pipeline, recipe: Recipe, origins: Origins, cache: Cache, output: Output) -> tuple[Any, Any]:
    """Archives and recordings: all bytes in the cache, verified."""
    stage = partial(Stage, progress=output.progress)
    chosen: dict[str, Any] = {
        "configs": recipe.sources,
        "config": recipe.select,
        "instruments": recipe.classes(),
        "seed": recipe.seed,
    }
    files = (
        root
        | "sources" >> beam.Create(sorted(recipe.sources))
        | stage("download", partial(download, origins=origins, cache=cache, progress=output.progress))
    )
    recordings = (
        files
        | stage("select", partial(select, **chosen))
        | "spread" >> Spread()
        | stage("fetch", partial(fetch, origins=origins, cache=cache))
    )
    return files, recordings


def dataset(root: beam.Pipeline, recipe: Recipe, origins: Origins, cache: Cache, output: Output) -> Any:
    """The whole flow; its one result is the root digest.

    Rows are references: samples lie in the cache and cross no shuffle.
    """
    classes, folder = recipe.classes(), output.staging
    stage = partial(Stage, progress=output.progress)
    shard: dict[str, Any] = {"instruments": classes, "sample_rate": recipe.prepare.sample_rate, "config": recipe.write}
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
    record: dict[str, Any] = {"dataset": recipe.name, "recipe": as_json(recipe), "mirrored": origins.mirror is not None}

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
        | "all summaries" >> Gather()
        | stage("curate", partial(curate, **judges, seed=recipe.seed, cache=cache, folder=folder))
        | stage("split", partial(plan_split, config=recipe.split, instruments=classes, seed=recipe.seed))
        | "rank" >> beam.Map(assign_shards, recipe.write)
    )
    assignments = plan | "assignments" >> beam.FlatMap(assignments_of)
    buckets = (clips, assignments) | "by bucket" >> Decide(bucket_of, decide)
    records = buckets | stage("clip rows", partial(write_clip_rows, folder=folder, instruments=classes))
    shards = (
        (buckets | "kept" >> beam.FlatMap(by_shard), plan | "empty shards" >> beam.FlatMap(empty_shards))
        | "shard members" >> beam.Flatten()
        | "by shard" >> beam.GroupByKey()
        | "shard jobs" >> beam.Map(shard_job)
        | stage("write", partial(write_shard_file, folder=folder, cache=cache, **shard))
    )
    return (
        (files, shards, records, plan | "certificate" >> beam.Map(certificate_of))
        | "parts" >> beam.Flatten()
        | "all parts" >> Gather()
        | stage("manifest", partial(write_manifest, folder=folder, instruments=classes, **record))
    )


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return command(argv, parse, dataset, acquire)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
