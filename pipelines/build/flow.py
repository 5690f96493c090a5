"""The flow of a build on Beam: `dataset` is the method section, one line per stage.

`frozen` builds what a version lists: nothing is selected, judged or split anew. A stage's label is its file in
`pipelines/stages/`, and the `stage` of the rows that it rejects.
"""

from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam

from tutti.datasets.manifest import bucket_of
from tutti.datasets.source import has_notes, has_tracks, is_streamed
from tutti.pipelines.build.plan import Build
from tutti.pipelines.engine.stage import JoinDecisions, Reshuffle, Stage, ToOneList
from tutti.pipelines.recipe import Recipe, as_json
from tutti.pipelines.stages.clean import clean
from tutti.pipelines.stages.clip_rows import write_clip_rows
from tutti.pipelines.stages.curate import CurationRules, curate, summarize
from tutti.pipelines.stages.download import download
from tutti.pipelines.stages.embed import (
    batches_of,
    digits_of,
    embed,
    embed_batch,
    is_embedded,
    lacks_embedding,
    name_of_batch,
    num_left,
    num_recalled,
    pcm_of,
    recall,
    same_sound,
    sound_of,
)
from tutti.pipelines.stages.fetch import fetch
from tutti.pipelines.stages.fetch_tars import by_tar, fetch_tar, lies_elsewhere, lies_in_tar, num_fetched, tar_job
from tutti.pipelines.stages.fidelity import fidelity
from tutti.pipelines.stages.frozen import bucket_names, certificate_in, decide_frozen, listed_shards, select_listed
from tutti.pipelines.stages.join import assign_shards, empty_shards, join_bucket, key_by_shard, shard_job
from tutti.pipelines.stages.manifest import Provenance, write_manifest
from tutti.pipelines.stages.prepare import prepare
from tutti.pipelines.stages.select import SelectConfig, select
from tutti.pipelines.stages.songs import SongConfig, is_of_a_song, key_by_song, passes_by, song_of, songs
from tutti.pipelines.stages.split import assignments_of, certificate_of, plan_by_groups, trains_only
from tutti.pipelines.stages.write import ShardSchema, write_shard_file


def construct(build: Build, root: beam.Pipeline) -> None:
    """Build the pipeline of a build."""
    if build.download_only:
        acquire(root, build)
    elif build.frozen is not None:
        frozen(root, build, build.frozen)
    else:
        dataset(root, build)


def acquire(root: beam.Pipeline, build: Build) -> tuple[Any, Any]:
    """Fetch archives and recordings into the cache, verified; of a frozen build those of the clips that it lists."""
    recipe, origins, cache, progress = build.recipe, build.origins, build.cache, build.output.progress
    stage = partial(Stage, progress=progress)
    config = recipe.select if build.frozen is None else SelectConfig()
    chosen: Any = partial(select, configs=recipe.sources, instruments=recipe.classes(), config=config, seed=recipe.seed)
    if build.frozen is not None:
        chosen = partial(select_listed, select=chosen, version=build.frozen)
    files = (
        root
        | "sources" >> beam.Create(sorted(recipe.sources))
        | stage("download", partial(download, configs=recipe.sources, origins=origins, cache=cache, progress=progress))
    )
    recordings = files | stage("select", chosen)
    if any(is_streamed(source) for source in recipe.sources):
        return files, fetched_by_tar(recordings, build)
    return files, recordings | "spread" >> Reshuffle() | stage("fetch", partial(fetch, origins=origins, cache=cache))


def fetched_by_tar(recordings: Any, build: Build) -> Any:
    """Fetch recordings of which some lie in tars that are streamed: a tar is read by one worker, once."""
    origins, cache, progress = build.origins, build.cache, build.output.progress
    fetch_tars = partial(fetch_tar, origins=origins, cache=cache, progress=progress)
    elsewhere = (
        recordings
        | "elsewhere" >> beam.Filter(lies_elsewhere)
        | "spread" >> Reshuffle()
        | Stage("fetch", partial(fetch, origins=origins, cache=cache), progress)
    )
    in_tars = (
        recordings
        | "in tars" >> beam.Filter(lies_in_tar)
        | "tar" >> beam.Map(by_tar)
        | "by tar" >> beam.GroupByKey()
        | "tar jobs" >> beam.Map(tar_job)
        | Stage("fetch", fetch_tars, progress, part="tars", done=num_fetched)
        | "spread members" >> Reshuffle()
    )
    return (elsewhere, in_tars) | "fetched" >> beam.Flatten()


def dataset(root: beam.Pipeline, build: Build) -> Any:
    """Apply the whole flow; its one result is the root digest. Rows are references: samples cross no shuffle."""
    recipe, cache, classes, seed = build.recipe, build.cache, build.recipe.classes(), build.recipe.seed
    stage = partial(Stage, progress=build.output.progress)
    judge = partial(curate, rules=curation_rules(recipe), cache=cache, staging=build.output.staging)
    files, recordings = acquire(root, build)
    cleaned = (
        recordings
        | stage("prepare", partial(prepare, config=recipe.prepare, cache=cache))
        | stage("clean", partial(clean, config=recipe.clean))
    )
    if has_tracks(recipe.sources):
        cleaned = in_songs(cleaned, build)
    if recipe.fidelity.is_on():
        cleaned = cleaned | stage("fidelity", partial(fidelity, config=recipe.fidelity, cache=cache))
    clips = cleaned if recipe.embed.embedder == "none" else embedded(cleaned, build)
    divide = partial(plan_by_groups, config=recipe.split, instruments=classes, seed=seed, version=build.parent)
    plan = (
        clips
        | "summaries" >> beam.FlatMap(summarize, classes)
        | "all summaries" >> ToOneList()
        | stage("curate", judge)
        | stage("split", divide)
        | "rank" >> beam.Map(assign_shards, recipe.write.rows_per_shard)
    )
    assignments = plan | "assignments" >> beam.FlatMap(assignments_of)
    buckets = (clips, assignments) | "join" >> JoinDecisions(bucket_of, join_bucket)
    certificate = plan | "certificate" >> beam.Map(certificate_of)
    return write(files, buckets, plan | "empty shards" >> beam.FlatMap(empty_shards), certificate, build)


def in_songs(clips: Any, build: Build) -> Any:
    """Join the stems and mixes of each song: a mix is labelled by its stems."""
    stage = partial(Stage, progress=build.output.progress)
    named = partial(songs, instruments=build.recipe.classes(), config=SongConfig())
    others = clips | "passing by" >> beam.Filter(passes_by)
    joined = (
        clips
        | "of a song" >> beam.Filter(is_of_a_song)
        | "key by song" >> beam.Map(key_by_song)
        | "by song" >> beam.GroupByKey()
        | "song" >> beam.Map(song_of)
        | stage("songs", named)
    )
    return (others, joined) | "with songs" >> beam.Flatten()


def embedded(clips: Any, build: Build) -> Any:
    """Embed clips in batches of references: clips that lack a result meet those of their samples."""
    cache, config, progress = build.cache, build.recipe.embed, build.output.progress
    stage = partial(Stage, progress=progress)
    looked_up = clips | stage("embed", partial(recall, config=config, cache=cache), part="recall", done=num_recalled)
    known = looked_up | "known" >> beam.Filter(is_embedded)
    lacking = looked_up | "lacking" >> beam.Filter(lacks_embedding)
    batch = partial(embed_batch, config=config, cache=cache, progress=progress)
    results = (
        lacking
        | "sounds" >> beam.Map(sound_of)
        | "all sounds" >> ToOneList()
        | "batches" >> beam.FlatMap(partial(batches_of, config=config))
        | "spread batches" >> Reshuffle(name_of_batch)
        | stage("embed", batch, part="batch", done=num_left)
    )
    rest = (
        (lacking, results)
        | "by sound" >> JoinDecisions(digits_of, same_sound, pcm_of)
        | "sounding" >> beam.FlatMap(list)
        | stage("embed", partial(embed, config=config, cache=cache), part="alone", done=num_left)
    )
    return (known, rest) | "embedded" >> beam.Flatten()


def curation_rules(recipe: Recipe) -> CurationRules:
    """Collect what a recipe says of how its clips are judged."""
    return CurationRules(
        instruments=recipe.classes(),
        trains_only=trains_only(recipe.partitions(), recipe.split),
        config=recipe.curate,
        embed=recipe.embed,
        outliers=recipe.outliers,
        guitars=recipe.pseudo_label,
        near_duplicates=recipe.near_duplicates,
        overrides=recipe.clean.overrides,
        select=recipe.select,
        seed=recipe.seed,
    )


def frozen(root: beam.Pipeline, build: Build, version: Path) -> Any:
    """Rebuild what a version lists."""
    stage = partial(Stage, progress=build.output.progress)
    files, recordings = acquire(root, build)
    clips = recordings | stage("prepare", partial(prepare, config=build.recipe.prepare, cache=build.cache))
    if has_tracks(build.recipe.sources):
        clips = in_songs(clips, build)
    every_bucket = root | "buckets" >> beam.Create(bucket_names(version))
    buckets = (clips, every_bucket) | "join" >> JoinDecisions(bucket_of, partial(decide_frozen, version=version))
    needed = root | "shards" >> beam.Create(listed_shards(version))
    certificate = root | "certificate" >> beam.Create([certificate_in(version)])
    return write(files, buckets, needed, certificate, build)


def write(files: Any, buckets: Any, needed: Any, certificate: Any, build: Build) -> Any:
    """Write clip rows, shards, and the manifest last."""
    recipe, classes, output = build.recipe, build.recipe.classes(), build.output
    staging, current = output.staging, output.root / "current"
    stage = partial(Stage, progress=output.progress)
    notes, tracks = has_notes(recipe.sources), has_tracks(recipe.sources)
    schema = ShardSchema(classes, recipe.prepare.sample_rate, recipe.write, notes, tracks)
    mirrored = build.origins.mirror is not None
    provenance = Provenance(recipe.name, as_json(recipe), classes, mirrored, build.frozen or build.parent)
    write_shard = partial(write_shard_file, schema=schema, staging=staging, cache=build.cache, version=current)
    records = buckets | stage("clip_rows", partial(write_clip_rows, staging=staging, instruments=classes))
    shards = (
        (buckets | "kept" >> beam.FlatMap(key_by_shard), needed)
        | "shard members" >> beam.Flatten()
        | "by shard" >> beam.GroupByKey()
        | "shard jobs" >> beam.Map(shard_job)
        | stage("write", write_shard)
    )
    return (
        (files, shards, records, certificate)
        | "parts" >> beam.Flatten()
        | "all parts" >> ToOneList()
        | stage("manifest", partial(write_manifest, provenance=provenance, staging=staging))
    )
