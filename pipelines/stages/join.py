"""Join clips with what the global steps decided of them, bucket by bucket, and give kept ones their shards.

Rows are ranked by id within their split and cut into shards of equal size, so a shard's bytes depend on its clips only:
not on workers, order or time.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tutti.datasets.record import SPLITS, Clip, Rejected
from tutti.datasets.shard import shard_path
from tutti.pipelines.rows import LABEL_OUTLIER, NO_CLASS, Assignment, Bucket, ShardJob, SplitPlan


def assign_shards(plan: SplitPlan, rows_per_shard: int) -> SplitPlan:
    """Assign every kept clip its shard: rank by id within the split // rows per shard."""
    ids: dict[str, list[str]] = defaultdict(list)
    for assignment in plan.assignments:
        if assignment.split is not None:
            ids[assignment.split].append(assignment.id)
    shard_of = {}
    for split, members in ids.items():
        count = math.ceil(len(members) / rows_per_shard)
        for rank, clip_id in enumerate(sorted(members)):
            shard_of[clip_id] = shard_path(split, rank // rows_per_shard, count)
    return replace(plan, assignments=tuple(replace(a, shard=shard_of.get(a.id)) for a in plan.assignments))


def empty_shards(plan: SplitPlan) -> list[tuple[str, None]]:
    """List a shard without rows for every split that got no clip: readers find all three splits."""
    filled = {assignment.split for assignment in plan.assignments}
    return [(shard_path(split, 0, 1), None) for split in SPLITS if split not in filled]


def join_bucket(bucket: str, rows: Sequence[Clip | Rejected], assignments: Sequence[Assignment]) -> Bucket:
    """Join the rows of one bucket of ids with what the global steps decided about them."""
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
        stage = "curate" if assignment.reason in (LABEL_OUTLIER, NO_CLASS) else "split"
        value = assignment.quality if assignment.reason == LABEL_OUTLIER else None
        return Rejected(clip, stage=stage, reason=assignment.reason, value=value, detail=assignment.detail)
    return clip


def key_by_shard(bucket: Bucket) -> Iterator[tuple[str, Clip]]:
    """Yield the kept clips of a bucket, each under its shard."""
    for row in bucket.rows:
        if isinstance(row, Clip) and row.shard is not None:
            yield row.shard, row


def shard_job(keyed: tuple[str, Iterable[Clip | None]]) -> ShardJob:
    """Collect the clips of one shard; None only says that the shard must exist."""
    path, clips = keyed
    return ShardJob(path, tuple(clip for clip in clips if clip is not None))
