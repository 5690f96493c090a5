"""Write the manifest's rows of all clips, kept or not, in files by bucket of their ids."""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

from tutti.datasets.clip_line import encode
from tutti.datasets.errors import IntegrityError
from tutti.datasets.files import write_file
from tutti.datasets.manifest import ClipRow, clip_row, clips_path
from tutti.datasets.record import Clip, Rejected
from tutti.datasets.shard import notes_digest
from tutti.datasets.tracks import track_digest, track_entry
from tutti.pipelines.rows import Bucket, BucketInfo


def row_of(row: Clip | Rejected, instruments: Sequence[str]) -> ClipRow:
    """Make the manifest's row of a clip, with what its score says of it, where it has one."""
    clip = row.clip if isinstance(row, Rejected) else row
    fields = clip_row(row, instruments)
    if clip.audio is not None and clip.audio.gap_s:
        fields["gap_s"] = clip.audio.gap_s
    if clip.score_repairs:
        fields["score_repairs"] = clip.score_repairs
    if clip.notes is not None:
        fields["num_notes"], fields["notes_sha256"] = len(clip.notes), notes_digest(clip.notes)
    if clip.track is not None:
        fields["track"], fields["track_sha256"] = track_entry(clip.track), track_digest(clip.track, clip.sounding)
    if clip.alignment is not None:
        fields["alignment"] = {"delay_s": clip.alignment.delay_s, "score": clip.alignment.score}
    return fields


def write_clip_rows(bucket: Bucket, *, staging: Path, instruments: Sequence[str]) -> BucketInfo:
    """Write one bucket of the manifest's clip rows, sorted by id."""
    found = (row if isinstance(row, dict) else row_of(row, instruments) for row in bucket.rows)
    lines = sorted(found, key=lambda row: str(row["id"]))
    repeated = [a["id"] for a, b in itertools.pairwise(lines) if a["id"] == b["id"]]
    if repeated:
        raise IntegrityError(f"{repeated[0]}: occurs twice; ids must be unique")
    content = "".join(encode(line) + "\n" for line in lines).encode()
    write_file(staging / clips_path(bucket.name), content, durable=False)  # publishing syncs
    return BucketInfo(clips_path(bucket.name), len(lines), hashlib.sha256(content).hexdigest())
