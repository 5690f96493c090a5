"""Stage 8, write: shards, then clip rows, then `manifest.json` last.

Rows are ranked by id within their split and cut into shards of equal size, so a shard's bytes
depend on its clips only: not on workers, order or time. Own writer: Beam's WriteToParquet gives
other bytes on every run.
"""

import hashlib
import importlib.metadata
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from datasets.errors import IntegrityError
from datasets.files import atomic_file, write_file
from datasets.manifest import (
    SCHEMA_VERSION,
    ClipRow,
    canonical_json,
    clip_row,
    clips_path,
    digest_of,
    file_sha256,
    manifest_path,
    read_clip_rows,
    root_digest,
    split_digest,
)
from datasets.record import PRESENT, SPLITS, Clip, Rejected
from datasets.shard import ShardInfo, shard_path, write_shard
from datasets.source import load_source
from pipelines.cache import Cache
from pipelines.download import SourceFiles
from pipelines.split import Assignment, SplitPlan

TOOLS = ("numpy", "soxr", "pyloudnorm", "soundfile", "av", "pyarrow", "apache-beam", "scipy")


@dataclass(frozen=True)
class WriteConfig:
    """The shape of the shards."""

    rows_per_shard: int = 2048  # 256 to 512 MB of ten-second clips
    rows_per_group: int = 16  # the unit of random access, and of memory

    def __post_init__(self) -> None:
        """Refuse a shard without rows."""
        if self.rows_per_shard < 1 or self.rows_per_group < 1:
            raise ValueError("rows_per_shard and rows_per_group are at least 1")


@dataclass(frozen=True, slots=True)
class Bucket:
    """All rows whose ids fall into one bucket of the manifest."""

    name: str
    rows: tuple[Clip | Rejected, ...]


@dataclass(frozen=True)
class BucketInfo:
    """One written file of clip rows."""

    path: str
    num_rows: int
    sha256: str


@dataclass(frozen=True)
class ShardJob:
    """A shard to be written; it may have no clips."""

    path: str
    clips: tuple[Clip, ...]


def assign_shards(plan: SplitPlan, config: WriteConfig) -> SplitPlan:
    """Give every kept clip its shard: rank by id within the split // rows per shard."""
    ids: dict[str, list[str]] = defaultdict(list)
    for assignment in plan.assignments:
        if assignment.split is not None:
            ids[assignment.split].append(assignment.id)
    shard_of = {}
    for split, members in ids.items():
        count = math.ceil(len(members) / config.rows_per_shard)
        for rank, clip_id in enumerate(sorted(members)):
            shard_of[clip_id] = shard_path(split, rank // config.rows_per_shard, count)
    return replace(plan, assignments=tuple(replace(a, shard=shard_of.get(a.id)) for a in plan.assignments))


def empty_shards(plan: SplitPlan) -> list[tuple[str, None]]:
    """A shard without rows for every split that got no clip: readers find all three splits."""
    filled = {assignment.split for assignment in plan.assignments}
    return [(shard_path(split, 0, 1), None) for split in SPLITS if split not in filled]


def decide(bucket: str, rows: Sequence[Clip | Rejected], assignments: Sequence[Assignment]) -> Bucket:
    """The rows of one bucket of ids with what the global steps decided about them."""
    by_id = {assignment.id: assignment for assignment in assignments}
    return Bucket(bucket, tuple(row if isinstance(row, Rejected) else _decided(row, by_id[row.id]) for row in rows))


def _decided(clip: Clip, assignment: Assignment) -> Clip | Rejected:
    clip = replace(
        clip,
        group=assignment.group,
        split=assignment.split,
        shard=assignment.shard,
        quality=assignment.quality,
        labels={**clip.labels, **dict(assignment.labels)},
    )
    if assignment.reason is not None:
        is_outlier = assignment.reason == "label_outlier"
        stage, value = ("outliers", assignment.quality) if is_outlier else ("clean", None)
        return Rejected(clip, stage=stage, reason=assignment.reason, value=value, detail=assignment.detail)
    return clip


def by_shard(bucket: Bucket) -> Iterator[tuple[str, Clip]]:
    """The kept clips of a bucket, each under its shard."""
    for row in bucket.rows:
        if isinstance(row, Clip) and row.shard is not None:
            yield row.shard, row


def shard_job(keyed: tuple[str, Iterable[Clip | None]]) -> ShardJob:
    """The clips of one shard; None only says that the shard must exist."""
    path, clips = keyed
    return ShardJob(path, tuple(clip for clip in clips if clip is not None))


def write_shard_file(
    job: ShardJob, *, folder: Path, instruments: Sequence[str], sample_rate: int, config: WriteConfig, cache: Cache
) -> ShardInfo:
    """Write one shard below the version folder; holds the audio of one row group at a time."""
    path = folder / job.path
    rows = ((clip, cache.read_blob(_blob(clip))) for clip in sorted(job.clips, key=lambda clip: clip.id))
    with atomic_file(path, durable=False) as stream:  # publishing syncs
        num_rows, content = write_shard(
            stream, rows, instruments, sample_rate=sample_rate, rows_per_group=config.rows_per_group
        )
    split = Path(job.path).name.split("-")[0]
    return ShardInfo(job.path, split, num_rows, path.stat().st_size, file_sha256(path), content)


def _blob(clip: Clip) -> str:
    if clip.audio is None:
        raise ValueError(f"{clip.id}: has no stored audio")
    return clip.audio.blob


def write_clip_rows(bucket: Bucket, *, folder: Path, instruments: Sequence[str]) -> BucketInfo:
    """Write one bucket of the manifest's clip rows, sorted by id."""
    lines = sorted((clip_row(row, instruments) for row in bucket.rows), key=lambda row: str(row["id"]))
    repeated = [a["id"] for a, b in itertools.pairwise(lines) if a["id"] == b["id"]]
    if repeated:
        raise IntegrityError(f"{repeated[0]}: occurs twice; ids must be unique")
    content = "".join(canonical_json(line) + "\n" for line in lines).encode()
    write_file(folder / clips_path(bucket.name), content, durable=False)  # publishing syncs
    return BucketInfo(clips_path(bucket.name), len(lines), hashlib.sha256(content).hexdigest())


def write_manifest(
    parts: Sequence[Any],
    *,
    folder: Path,
    dataset: str,
    recipe: Mapping[str, Any],
    instruments: Sequence[str],
    mirrored: bool,
) -> str:
    """Write README.md and then manifest.json, the proof that the version is complete.

    Args:
        parts: all SourceFiles, ShardInfos, BucketInfos and the SplitPlan's certificate (a dict).
        folder: the version folder.
        dataset: name of the recipe.
        recipe: the recipe as JSON.
        instruments: class names.
        mirrored: whether a mirror stood in for upstream.

    Returns:
        The root digest.
    """
    shards = sorted((p for p in parts if isinstance(p, ShardInfo)), key=lambda shard: shard.path)
    buckets = sorted((p for p in parts if isinstance(p, BucketInfo)), key=lambda bucket: bucket.path)
    sources = sorted((p for p in parts if isinstance(p, SourceFiles)), key=lambda source: source.source)
    certificate = next(p for p in parts if isinstance(p, dict))

    def rows() -> Iterator[ClipRow]:
        return (row for bucket in buckets for row in read_clip_rows(folder / bucket.path))

    content = {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset,
        "instruments": list(instruments),
        "recipe": recipe,
        "recipe_sha256": digest_of(recipe),
        "mirrored": mirrored,
        "sources": {source.source: _source_entry(source) for source in sources},
        "tools": tool_versions(),
        "counts": count_rows(rows(), instruments),
        **certificate,
        "split_digest": split_digest(rows()),
        "root_digest": root_digest(rows()),
        "shards": [asdict(shard) for shard in shards],
        "clips": [asdict(bucket) for bucket in buckets],
    }
    write_file(folder / "README.md", dataset_card(content).encode(), durable=False)
    write_file(manifest_path(folder), (canonical_json(content) + "\n").encode(), durable=False)
    return str(content["root_digest"])


def _source_entry(source: SourceFiles) -> dict[str, Any]:
    card = load_source(source.source).CARD
    files = [
        {
            "name": file.remote.name,
            "url": file.remote.url,
            "sha256": file.sha256,
            "num_bytes": file.size_bytes,
            "verified_by": file.verified_by,
        }
        | ({"resolved_url": file.resolved_url} if file.resolved_url else {})
        for file in source.files
    ]
    return {
        "title": card.title,
        "homepage": card.homepage,
        "license": card.license,
        "license_url": card.license_url,
        "citation": card.citation,
        "files": files,
    }


def tool_versions() -> dict[str, str]:
    """Versions of what shapes the output."""
    versions = {name: importlib.metadata.version(name) for name in TOOLS}
    return versions | {"libsndfile": soundfile.__libsndfile_version__}


def count_rows(rows: Iterable[Mapping[str, Any]], instruments: Sequence[str]) -> dict[str, Any]:
    """Counts by status, split, source, reason, and present labels by split; one row at a time."""
    statuses: dict[str, Counter[str]] = defaultdict(Counter)  # by source, and so on
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    present: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        source = row["source"]
        statuses[source][row["status"]] += 1
        if row["status"] != "kept":
            reasons[source][row["reason"]] += 1
            continue
        splits[source][row["split"]] += 1
        present[row["split"]].update(name for name, label in row["labels"].items() if label[0] == PRESENT)
    all_splits, all_reasons = sum(splits.values(), Counter()), sum(reasons.values(), Counter())
    return {
        "kept": all_splits.total(),
        "rejected": dict(all_reasons),
        "splits": {split: all_splits[split] for split in SPLITS},
        "sources": {
            source: {"kept": 0, **statuses[source], "reasons": dict(reasons[source]), "splits": dict(splits[source])}
            for source in sorted(statuses)
        },
        "present": {split: {name: present[split][name] for name in instruments} for split in SPLITS},
    }


def dataset_card(content: Mapping[str, Any]) -> str:
    """README.md of a version: a Hugging Face dataset card that `load_dataset(folder)` follows."""
    counts = content["counts"]["splits"]
    # A split without rows cannot be loaded there; its shard exists all the same.
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in SPLITS if counts[split])
    kept = {name: entry["kept"] for name, entry in content["counts"]["sources"].items()}
    licenses = "".join(
        f"| {entry['title']} | [{entry['license']}]({entry['license_url']}) | {kept.get(name, 0)} |\n"
        for name, entry in content["sources"].items()
    )
    splits = "".join(f"| {split} | {count} |\n" for split, count in counts.items())
    return (
        f"---\npretty_name: {content['dataset']}\ntask_categories:\n- audio-classification\n"
        f"configs:\n- config_name: default\n  data_files:\n{files}---\n\n"
        f"# {content['dataset']}\n\nBuilt with tutti. Root digest `{content['root_digest']}`.\n\n"
        f"Classes: {', '.join(content['instruments'])}. In `presence`, 1 = present, 0 = absent, -1 = unknown.\n\n"
        f"| split | clips |\n|---|---|\n{splits}\n| source | licence | clips |\n|---|---|---|\n{licenses}\n"
        "Each clip keeps its own licence in the column `license`; the audio belongs to its makers.\n"
    )
