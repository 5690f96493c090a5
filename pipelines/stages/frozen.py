"""Rebuild exactly what a manifest lists, and say how near the result comes.

Nothing is selected, judged or split anew: clips, labels, groups, splits and shards are those of the manifest. Its
rejected rows are copied; a kept clip that cannot be had any more keeps a row with the reason.

| Level | The rebuilt dataset |
|---|---|
| EXACT | has the same shard files, byte by byte |
| AUDIO | has the same contents in other bytes: another Parquet writer |
| EQUIVALENT | holds clips that were encoded anew upstream: other samples, near sketches |
| SUBSET | lacks clips; all others are as above |
| CHANGED | holds other audio under a clip's name: no rebuild at all |
"""

import bisect
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tutti.datasets.errors import IntegrityError
from tutti.datasets.manifest import ClipRow, Manifest, clips_path, read_clip_rows, read_manifest
from tutti.datasets.record import Clip, Label, Labels, Recording, Rejected
from tutti.datasets.sketch import MAX_DISTANCE, distance
from tutti.datasets.source import has_tracks
from tutti.datasets.tracks import track_of_entry
from tutti.pipelines.rows import Bucket, Certificate, SourceFiles

Level = Literal["EXACT", "AUDIO", "EQUIVALENT", "SUBSET", "CHANGED"]


@dataclass(frozen=True)
class Verdict:
    """Verdict on a rebuild: its level, and the clips that keep it from a better one."""

    level: Level
    gone: tuple[tuple[str, str], ...] = ()  # (id, reason)
    equivalent: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Count the clips by verdict, for the summary of the build."""
        counts = {name: len(getattr(self, name)) for name in ("gone", "equivalent", "changed")}
        return {"level": self.level, **counts}


@functools.lru_cache(maxsize=2)
def _listed(version: Path) -> Manifest:
    return read_manifest(version)  # for every bucket


@functools.lru_cache(maxsize=2)
def _kept(version: Path) -> frozenset[str]:
    return frozenset(row["id"] for row in _listed(version).clip_rows() if row["status"] == "kept")


def select_listed(
    files: SourceFiles, *, select: Callable[[SourceFiles], Iterator[Recording | Rejected]], version: Path
) -> Iterator[Recording | Rejected]:
    """Keep the clips that the version kept, of those that `select` gives of a source."""
    kept = _kept(version)
    of_songs = _rows_of_songs(version, files.source) if has_tracks([files.source]) else {}
    for row in select(files):
        if isinstance(row, Rejected):
            if row.clip.id in kept:
                yield row
        elif clips := tuple(_as_judged(clip, of_songs) for clip in row.clips if clip.id in kept):
            yield replace(row, clips=clips)
    # What a mix holds depends on the stems that were rejected, too.
    for listed in of_songs.values():
        if listed["status"] != "kept":
            yield Rejected(_listed_clip(listed), listed["stage"], listed["reason"], status=listed["status"])


def _rows_of_songs(version: Path, source: str) -> dict[str, ClipRow]:
    rows = _listed(version).clip_rows()
    return {row["id"]: row for row in rows if row["source"] == source and "track" in row}


def _as_judged(clip: Clip, of_songs: Mapping[str, ClipRow]) -> Clip:
    """Label a stem as the stage `songs` saw it: as people corrected it, before any pseudo-label."""
    if clip.id not in of_songs or clip.track is None or clip.track.stem is None:
        return clip
    labels = _labels(of_songs[clip.id]).items()
    return replace(clip, labels={name: label for name, label in labels if not label.origin.startswith("pseudo:")})


def bucket_names(version: Path) -> list[str]:
    """List all buckets of the version's clip rows: each is written, even if no clip of it comes."""
    return [Path(bucket["path"]).stem for bucket in read_manifest(version).content["clips"]]


def listed_shards(version: Path) -> list[tuple[str, None]]:
    """List all shards of the version: each is written, even if it loses all its clips."""
    return [(info.path, None) for info in read_manifest(version).shards()]


def certificate_in(version: Path) -> Certificate:
    """Read what the version's manifest says of the global steps."""
    content = read_manifest(version).content
    return Certificate(content["split_certificate"], content.get("curation"))


def decide_frozen(bucket: str, rows: Sequence[Clip | Rejected], _: Sequence[str], *, version: Path) -> Bucket:
    """Join the rows of one bucket as the version has them with the audio of today."""
    found = {(row.clip.id if isinstance(row, Rejected) else row.id): row for row in rows}
    shards = _shard_starts(version)
    decided: list[Clip | Rejected | ClipRow] = []
    entry = next(one for one in _listed(version).content["clips"] if one["path"] == clips_path(bucket))
    for row in _listed(version).bucket_rows(entry):
        if row["status"] != "kept":
            decided.append(row)
            continue
        match found.get(row["id"]):
            case Clip() as clip:
                decided.append(_as_listed(clip, row, shards))
            case Rejected() as lost:
                decided.append(replace(lost, clip=replace(lost.clip, labels=_labels(row), group=row["group"])))
            case _:
                decided.append(Rejected(_listed_clip(row), stage="select", reason="not_listed", status="gone"))
    return Bucket(bucket, tuple(decided))


def _as_listed(clip: Clip, row: ClipRow, shards: dict[str, tuple[list[str], list[str]]]) -> Clip:
    first_ids, paths = shards[row["split"]]
    return replace(
        clip,
        group=row["group"],
        license=row["license"],
        split=row["split"],
        shard=paths[bisect.bisect_right(first_ids, clip.id) - 1],
        quality=row.get("quality"),
        labels=_labels(row),
    )


def _listed_clip(row: ClipRow) -> Clip:
    return Clip(
        row["id"],
        row["source"],
        row["recording"],
        row["group"],
        row["partition"],
        _labels(row),
        row["license"],
        row["start_s"],
        row.get("end_s"),
        track=track_of_entry(row["track"]) if "track" in row else None,
    )


def _labels(row: ClipRow) -> Labels:
    return {name: Label(presence, origin, confidence) for name, (presence, confidence, origin) in row["labels"].items()}


@functools.lru_cache(maxsize=2)
def _shard_starts(version: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Split -> the first id of every shard, and its path: shards hold consecutive ids."""
    listed = _listed(version)
    ids: dict[str, list[str]] = {}
    for row in listed.clip_rows():
        if row["status"] == "kept":
            ids.setdefault(row["split"], []).append(row["id"])
    result = {}
    for split, members in ids.items():
        members.sort()
        infos = [info for info in sorted(listed.shards(split), key=lambda info: info.path) if info.num_rows]
        if sum(info.num_rows for info in infos) != len(members):
            raise IntegrityError(f"{version}: its shards hold other numbers of clips than its clip rows say")
        ends = itertools.accumulate(info.num_rows for info in infos)
        starts = [0, *ends][:-1]
        result[split] = ([members[start] for start in starts], [info.path for info in infos])
    return result


def classify(frozen: Manifest, built: Manifest) -> Verdict:
    """Classify how near `built` comes to `frozen`, clip by clip."""
    gone: list[tuple[str, str]] = []
    equivalent: list[str] = []
    changed: list[str] = []
    for bucket in frozen.content["clips"]:
        now = {row["id"]: row for row in read_clip_rows(built.path(bucket["path"]))}
        for row in frozen.bucket_rows(bucket):
            if row["status"] != "kept":
                continue
            new = now[row["id"]]
            if new["status"] != "kept":
                gone.append((row["id"], str(new["reason"])))
            elif new["audio"]["pcm_sha256"] != row["audio"]["pcm_sha256"]:
                (equivalent if _is_near(row, new) else changed).append(row["id"])
    level: Level = "EXACT"
    if changed:
        level = "CHANGED"
    elif gone:
        level = "SUBSET"
    elif equivalent:
        level = "EQUIVALENT"
    elif {shard.path: shard.sha256 for shard in frozen.shards()} != {s.path: s.sha256 for s in built.shards()}:
        level = "AUDIO"
    return Verdict(level, tuple(sorted(gone)), tuple(sorted(equivalent)), tuple(sorted(changed)))


def _is_near(row: ClipRow, new: ClipRow) -> bool:
    if "sketch" not in row["audio"]:
        return False
    return distance(row["audio"]["sketch"], new["audio"]["sketch"]) <= MAX_DISTANCE
