"""Write: one Parquet shard below the staging folder. Beam's WriteToParquet gives other bytes on every run."""

import importlib.metadata
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tutti.datasets.files import atomic_file
from tutti.datasets.manifest import digest_of, file_sha256
from tutti.datasets.parquet_pages import MAX_ROW_GROUPS
from tutti.datasets.record import Clip
from tutti.datasets.shard import write_shard
from tutti.datasets.shard_info import ShardInfo
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.rows import ShardJob
from tutti.pipelines.stages.clip_rows import row_of

WRITE_CODE_VERSION = 1  # raise it when the bytes of a shard change with equal rows


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


@dataclass(frozen=True)
class ShardSchema:
    """Columns and shape that all shards of a dataset have in common."""

    instruments: tuple[str, ...]  # in the order of the label columns
    sample_rate: int
    config: WriteConfig
    notes: bool = False  # whether there is a column of notes
    tracks: bool = False  # whether there are columns of songs


def write_shard_file(
    job: ShardJob, *, schema: ShardSchema, staging: Path, cache: Cache, version: Path | None = None
) -> ShardInfo:
    """Write one shard below the staging folder; holds the audio of one row group at a time.

    A shard that `version`, an earlier one, has from equal rows is linked instead, once its bytes are verified.
    """
    path, instruments = staging / job.path, schema.instruments
    clips = sorted(job.clips, key=lambda clip: clip.id)
    key = _result_key(job.path, clips, schema)
    known = cache.result("write", key)
    is_this = known is not None and known["path"] == job.path and known["num_rows"] == len(clips)
    if known is not None and is_this and version is not None and _link(ShardInfo(**known), version, staging):
        return ShardInfo(**known)
    rows = ((clip, cache.read_blob(_blob(clip))) for clip in clips)
    rate, group = schema.sample_rate, schema.config.rows_per_group
    with atomic_file(path, durable=False) as stream:  # publishing syncs
        num_rows, content = write_shard(
            stream,
            rows,
            instruments,
            sample_rate=rate,
            rows_per_group=group,
            notes=schema.notes,
            tracks=schema.tracks,
        )
    split = Path(job.path).name.split("-")[0]
    info = ShardInfo(job.path, split, num_rows, path.stat().st_size, file_sha256(path), content)
    cache.remember("write", key, asdict(info))
    return info


def _result_key(path: str, clips: list[Clip], schema: ShardSchema) -> str:
    """Digest what decides the bytes of a shard; one row is in memory at a time."""
    rows_sha256 = digest_of([digest_of(row_of(clip, schema.instruments)) for clip in clips])
    versions = {name: importlib.metadata.version(name) for name in ("pyarrow", "soundfile")}
    extras = [name for name in ("notes", "tracks") if getattr(schema, name)]
    settings = [list(schema.instruments), schema.sample_rate, asdict(schema.config), *extras]
    return digest_of([WRITE_CODE_VERSION, path, *settings, versions, rows_sha256])


def _link(info: ShardInfo, version: Path, staging: Path) -> bool:
    """Link a shard of an earlier version into the one being written; False where it is not this very file."""
    source, target = version / info.path, staging / info.path
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
