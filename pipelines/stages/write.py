"""Stage 8, write: shards, then clip rows, then `manifest.json` last.

Rows are ranked by id within their split and cut into shards of equal size, so a shard's bytes
depend on its clips only: not on workers, order or time. Own writer: Beam's WriteToParquet gives
other bytes on every run.
"""

import hashlib
import importlib.metadata
import itertools
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from datasets.clip_line import encode
from datasets.errors import IntegrityError
from datasets.files import atomic_file, write_file
from datasets.machine import MACHINE_REASONS
from datasets.manifest import (
    SCHEMA_VERSION,
    ClipRow,
    canonical_json,
    clip_row,
    clips_path,
    count_rows,
    digest_of,
    file_sha256,
    manifest_path,
    read_clip_rows,
    read_manifest,
    root_digest,
    split_digest,
)
from datasets.parquet_pages import MAX_ROW_GROUPS
from datasets.record import SPLITS, Clip, Rejected
from datasets.shard import notes_digest, shard_path, write_shard
from datasets.shard_info import ShardInfo
from datasets.source import has_notes, load_source
from pipelines.cache.store import Cache
from pipelines.export.card import count_kept, dataset_card
from pipelines.export.formats import croissant, huggingface
from pipelines.lineage import lineage
from pipelines.render import synthesizer
from pipelines.stages.download import SourceFiles
from pipelines.stages.split import Assignment, SplitPlan

WRITE_CODE_VERSION = 1  # raise it when the bytes of a shard change with equal rows
TOOLS = ("numpy", "soxr", "pyloudnorm", "soundfile", "av", "pyarrow", "apache-beam", "scipy")


@dataclass(frozen=True)
class WriteConfig:
    """The shape of the shards."""

    rows_per_shard: int = 512  # 64 to 128 MB of ten-second clips: what one worker writes while others write others
    rows_per_group: int = 16  # the unit of random access, and of memory

    def __post_init__(self) -> None:
        """Refuse a shard without rows."""
        if self.rows_per_shard < 1 or self.rows_per_group < 1:
            raise ValueError("rows_per_shard and rows_per_group are at least 1")
        if self.rows_per_shard > MAX_ROW_GROUPS * self.rows_per_group:
            raise ValueError(f"a shard has at most {MAX_ROW_GROUPS:,} row groups: more rows_per_group")


@dataclass(frozen=True, slots=True)
class Bucket:
    """All rows whose ids fall into one bucket of the manifest."""

    name: str
    rows: tuple[Clip | Rejected | ClipRow, ...]  # a ClipRow is copied as it is


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


def join_bucket(bucket: str, rows: Sequence[Clip | Rejected], assignments: Sequence[Assignment]) -> Bucket:
    """The rows of one bucket of ids with what the global steps decided about them."""
    by_id = {assignment.id: assignment for assignment in assignments}
    return Bucket(
        bucket, tuple(row if isinstance(row, Rejected) else _apply_assignment(row, by_id[row.id]) for row in rows)
    )


def _apply_assignment(clip: Clip, assignment: Assignment) -> Clip | Rejected:
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


def row_of(row: Clip | Rejected, instruments: Sequence[str]) -> ClipRow:
    """The manifest's row of a clip, with what its score says of it, where it has one."""
    clip = row.clip if isinstance(row, Rejected) else row
    fields = clip_row(row, instruments)
    if clip.notes is not None:
        fields |= {"num_notes": len(clip.notes), "notes_sha256": notes_digest(clip.notes)}
    if clip.alignment is not None:
        fields["alignment"] = asdict(clip.alignment)
    return fields


def key_by_shard(bucket: Bucket) -> Iterator[tuple[str, Clip]]:
    """The kept clips of a bucket, each under its shard."""
    for row in bucket.rows:
        if isinstance(row, Clip) and row.shard is not None:
            yield row.shard, row


def shard_job(keyed: tuple[str, Iterable[Clip | None]]) -> ShardJob:
    """The clips of one shard; None only says that the shard must exist."""
    path, clips = keyed
    return ShardJob(path, tuple(clip for clip in clips if clip is not None))


def write_shard_file(
    job: ShardJob,
    *,
    folder: Path,
    instruments: Sequence[str],
    sample_rate: int,
    config: WriteConfig,
    cache: Cache,
    notes: bool = False,
) -> ShardInfo:
    """Write one shard below the version folder; holds the audio of one row group at a time.

    A shard that a build wrote before from equal rows is linked instead, once its bytes are verified.
    """
    path = folder / job.path
    clips = sorted(job.clips, key=lambda clip: clip.id)
    rows_sha256 = digest_of([digest_of(row_of(clip, instruments)) for clip in clips])  # one row in memory at a time
    versions = {name: importlib.metadata.version(name) for name in ("pyarrow", "soundfile")}
    settings = [list(instruments), sample_rate, asdict(config), *(["notes"] if notes else [])]
    key = digest_of([WRITE_CODE_VERSION, job.path, *settings, versions, rows_sha256])
    known = cache.result("write", key)
    is_this = known is not None and known["path"] == job.path and known["num_rows"] == len(clips)
    if known is not None and is_this and _link_from_current(folder, ShardInfo(**known)):
        return ShardInfo(**known)
    rows = ((clip, cache.read_blob(_blob(clip))) for clip in clips)
    with atomic_file(path, durable=False) as stream:  # publishing syncs
        num_rows, content = write_shard(
            stream, rows, instruments, sample_rate=sample_rate, rows_per_group=config.rows_per_group, notes=notes
        )
    split = Path(job.path).name.split("-")[0]
    info = ShardInfo(job.path, split, num_rows, path.stat().st_size, file_sha256(path), content)
    cache.remember("write", key, asdict(info))
    return info


def _link_from_current(folder: Path, info: ShardInfo) -> bool:
    """Whether the current version beside a version being built has this very file, which then is linked."""
    source, target = folder.parent / "current" / info.path, folder / info.path
    if not source.is_file() or source.stat().st_size != info.num_bytes or file_sha256(source) != info.sha256:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # the stage runs once more
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        return False
    return True


def _blob(clip: Clip) -> str:
    if clip.audio is None:
        raise ValueError(f"{clip.id}: has no stored audio")
    return clip.audio.blob


def write_clip_rows(bucket: Bucket, *, folder: Path, instruments: Sequence[str]) -> BucketInfo:
    """Write one bucket of the manifest's clip rows, sorted by id."""
    found = (row if isinstance(row, dict) else row_of(row, instruments) for row in bucket.rows)
    lines = sorted(found, key=lambda row: str(row["id"]))
    repeated = [a["id"] for a, b in itertools.pairwise(lines) if a["id"] == b["id"]]
    if repeated:
        raise IntegrityError(f"{repeated[0]}: occurs twice; ids must be unique")
    content = "".join(encode(line) + "\n" for line in lines).encode()
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
    parent: Path | None = None,
) -> str:
    """Write README.md, croissant.json, and then manifest.json, the proof that the version is complete.

    Args:
        parts: all SourceFiles, ShardInfos, BucketInfos and the SplitPlan's certificate (a dict).
        folder: the version folder.
        dataset: name of the recipe.
        recipe: the recipe as JSON.
        instruments: class names.
        mirrored: whether a mirror stood in for upstream.
        parent: folder of the version before this one.

    Returns:
        The root digest.
    """
    shards = sorted((p for p in parts if isinstance(p, ShardInfo)), key=lambda shard: shard.path)
    buckets = sorted((p for p in parts if isinstance(p, BucketInfo)), key=lambda bucket: bucket.path)
    sources = sorted((p for p in parts if isinstance(p, SourceFiles)), key=lambda source: source.source)
    certificate = next(p for p in parts if isinstance(p, dict))

    def rows() -> Iterator[ClipRow]:
        return (row for bucket in buckets for row in read_clip_rows(folder / bucket.path))

    decoders: set[str] = set()
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset,
        "instruments": list(instruments),
        "recipe": recipe,
        "recipe_sha256": digest_of(recipe),
        "mirrored": mirrored,
        "sources": {source.source: _source_entry(source) for source in sources},
        "tools": {},
        "counts": count_rows(_noting(rows(), decoders), instruments),
        **certificate,
        "split_digest": split_digest(rows()),
        "root_digest": root_digest(rows()),
        "shards": [asdict(shard) for shard in shards],
        "clips": [asdict(bucket) for bucket in buckets],
    }
    content["tools"] = tool_versions(recipe, decoders)
    lost = content["counts"]["rejected"]
    if incomplete := {reason: lost[reason] for reason in MACHINE_REASONS if reason in lost}:
        content["incomplete"] = incomplete
    counts = count_kept(rows())
    texts = {
        "README.md": dataset_card(content, counts, shards, usage=huggingface.USAGE),
        "croissant.json": croissant.croissant_json(content, counts, shards),
    }
    content["files"] = [_write_text(folder, path, text) for path, text in texts.items()]
    # As it will be read back: a tuple is a list.
    content |= lineage(json.loads(canonical_json(content)), None if parent is None else read_manifest(parent))
    write_file(manifest_path(folder), (canonical_json(content) + "\n").encode(), durable=False)
    return str(content["root_digest"])


def _write_text(folder: Path, path: str, text: str) -> dict[str, Any]:
    data = text.encode()
    write_file(folder / path, data, durable=False)
    return {"path": path, "num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


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
    inputs = [{name: value for name, value in asdict(found).items() if value is not None} for found in source.inputs]
    return {
        **({"inputs": inputs} if inputs else {}),
        "title": card.title,
        "homepage": card.homepage,
        "license": card.license,
        "license_url": card.license_url,
        "citation": card.citation,
        "files": files,
    }


def tool_versions(recipe: Mapping[str, Any], decoders: Iterable[str]) -> dict[str, str]:
    """Versions of what shapes the output: of every dataset, and what its sources, rows and splitter need beside.

    Args:
        recipe: as JSON.
        decoders: those that read a clip.
    """
    names, versions = list(TOOLS), {"libsndfile": soundfile.__libsndfile_version__}
    sources = recipe.get("sources", {})
    if has_notes(sources):
        names.append("mido")
    if recipe.get("split", {}).get("splitter") == "skmultilearn":
        names.append("scikit-multilearn")
    if "rendered" in sources:
        versions["fluidsynth"] = synthesizer.version()
    if "pyav" in decoders:
        versions["ffmpeg"] = _ffmpeg_version()
    return versions | {name: importlib.metadata.version(name) for name in names}


def _ffmpeg_version() -> str:
    import av  # a tenth of a second, which only decoders and this need to spend

    return str(av.ffmpeg_version_info)


def _noting(rows: Iterable[ClipRow], decoders: set[str]) -> Iterator[ClipRow]:
    """The same rows; the names of their decoders are entered."""
    for row in rows:
        if "audio" in row:
            decoders.add(row["audio"]["decoder"])
        yield row
