"""Parquet shards of a selection: what Hugging Face and Croissant describe.

Written by `datasets.shard.write_shard` like those of a build, so an export of everything is byte for byte
the version's own shards (with the same pyarrow).
"""

import itertools
import math
from pathlib import Path

from tutti.datasets.errors import IntegrityError
from tutti.datasets.files import atomic_file
from tutti.datasets.manifest import file_sha256
from tutti.datasets.record import Clip, StoredAudio
from tutti.datasets.shard import labels_of_row, notes_of_row, shard_path, write_shard
from tutti.datasets.shard_info import ShardInfo
from tutti.datasets.shard_tracks import sounding_of_row, track_of_row
from tutti.datasets.source import has_notes, has_tracks
from tutti.pipelines.export.selection import Row, Selection


def write_shards(selection: Selection, folder: Path) -> list[ShardInfo]:
    """Write the clips of all splits; holds one row group at a time."""
    infos = []
    instruments = selection.manifest.instruments
    for split in selection.splits:
        count = math.ceil(selection.counts.splits[split] / selection.rows_per_shard)
        rows = selection.rows(split)
        for index in range(count):
            path = folder / shard_path(split, index, count)
            part = itertools.islice(rows, selection.rows_per_shard)
            first = next(part)
            clips = ((clip_of(row, instruments), row["audio"]["bytes"]) for row in itertools.chain([first], part))
            with atomic_file(path, durable=False) as stream:
                num_rows, content = write_shard(
                    stream,
                    clips,
                    instruments,
                    sample_rate=first["sample_rate"],
                    rows_per_group=selection.rows_per_group,
                    notes=has_notes(selection.manifest.content["sources"]),
                    tracks=has_tracks(selection.manifest.content["sources"]),
                )
            relative = path.relative_to(folder).as_posix()
            infos.append(ShardInfo(relative, split, num_rows, path.stat().st_size, file_sha256(path), content))
        if next(rows, None) is not None:
            raise IntegrityError(f"{selection.manifest.folder}: changed while it was read; export again")
    return infos


def clip_of(row: Row, instruments: list[str]) -> Clip:
    """Rebuild the clip that a shard row was written from, as far as `write_shard` reads it."""
    return Clip(
        id=row["id"],
        source=row["source"],
        recording=row["recording"],
        group=row["group"],
        partition="",  # no column of a shard
        labels=labels_of_row(row, instruments),
        license=row["license"],
        start_s=row["start_s"],
        end_s=row["end_s"],
        quality=row["quality"],
        notes=notes_of_row(row),
        track=track_of_row(row),
        sounding=sounding_of_row(row),
        audio=StoredAudio(
            pcm_sha256=row["audio_sha256"],
            sample_rate=row["sample_rate"],
            num_samples=row["num_samples"],
            loudness_lufs=row["loudness_lufs"],
            gain_db=row["gain_db"],
            # What follows is in the manifest only, and in no shard.
            blob="",
            native_sha256="",
            source_sha256="",
            native_sample_rate=0,
            native_num_samples=0,
            num_channels=0,
            codec="",
            decoder="",
            silence_share=0.0,
            true_peak_dbtp=None,
            complete=True,
        ),
    )
