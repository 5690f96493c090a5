"""The shards in `verify`: file digests, what a damaged file still holds, and row against clip row.

Every shard row is compared with its clip row by a digest of what both say. Where a file of clip
rows is damaged and the shard is whole, the shard tells which line was changed; where the shard is
damaged, it is decoded clip by clip to name what is lost.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tutti.datasets.bounded import regular_status
from tutti.datasets.errors import IntegrityError
from tutti.datasets.manifest import ClipRow, Manifest, bucket_of, clips_path, file_sha256, read_clip_rows
from tutti.datasets.shard import (
    audio_extension,
    check_audio,
    content_of_row,
    extra_columns,
    open_shard,
    read_shard,
    schema,
)
from tutti.datasets.shard_info import ShardInfo
from tutti.pipelines.verify.findings import MANIFEST, Finding
from tutti.pipelines.verify.rows import RowScan, shared_digest, shared_of_row, shared_of_shard

MAX_NAMED = 20  # clips of one damaged shard; one bad sector is one clip, a cut file is thousands
MAX_THREADS = 8  # more do not make one disk faster
CONFIDENCE_TOLERANCE = 2e-6  # clip rows round to 6 digits, shards to 24 bits

SPARE_BYTES = 1 << 24  # by which any file may be larger than the manifest says and still be read

_COLUMNS = [
    "id", "source", "recording", "group", "start_s", "end_s", "license", "quality", "sample_rate", "num_samples",
    "loudness_lufs", "gain_db", "audio_sha256", "presence", "confidence", "label_origin",
]  # fmt: skip


@dataclass
class ShardCheck:
    """Result of checking one shard."""

    info: ShardInfo
    state: str = "sound"  # sound, same content, damaged, unreadable, missing, swapped
    details: list[str] = field(default_factory=list)  # of a damaged one
    digests: list[tuple[str, bytes]] = field(default_factory=list)  # id -> digest of its `Shared`, where readable


def check_shards(manifest: Manifest, rows: RowScan, listed: Mapping[str, str], *, decode: bool) -> Iterator[Finding]:
    """Check every shard that the manifest lists.

    Args:
        manifest: of the version.
        rows: what the clip rows say; ids are taken out of `rows.shared` as shards are found to hold them.
        listed: sha256 -> path, of the files that the manifest lists.
        decode: decode every clip, also of shards whose digest is right.
    """
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as threads:
        seen = list(threads.map(partial(_check_shard, manifest, listed, decode), manifest.shards()))
    for shard in seen:
        yield from _compared(manifest, shard, _doubtful(shard, rows), rows)
    yield from _left_over(seen, rows)
    for shard in seen:
        yield from _verdict(manifest, shard)


def _check_shard(manifest: Manifest, listed: Mapping[str, str], decode: bool, info: ShardInfo) -> ShardCheck:
    seen = ShardCheck(info)
    try:
        path = manifest.path(info.path)
        num_bytes = regular_status(path).st_size
        if num_bytes > SPARE_BYTES + 2 * info.num_bytes:  # another Parquet writer makes some more, not twice as many
            raise IntegrityError(f"has {num_bytes:,} bytes, the manifest says {info.num_bytes:,}")
        found = file_sha256(path)
    except FileNotFoundError:
        seen.state = "missing"
        return seen
    except IntegrityError as error:
        seen.state, seen.details = "unreadable", [str(error)]
        return seen
    if found != info.sha256 and listed.get(found, info.path) != info.path:
        seen.state, seen.details = "swapped", [f"it holds {listed[found]}"]
        return seen
    try:
        problems = _check_shard_file(manifest, info)
        if problems or found != info.sha256 or decode:
            seen.details, content = _check_shard_rows(manifest, info)
            seen.details = [*problems, *seen.details]
            damaged = bool(seen.details) or content != info.content_sha256
            if damaged and not seen.details:
                seen.details = ["other rows"]
            seen.state = "damaged" if damaged else ("sound" if found == info.sha256 else "same content")
        seen.digests = list(_digests(manifest, info))
    except OSError:  # the machine's: no descriptors, a bad sector
        raise
    except Exception as error:  # whatever rows that are not ours lead to, the shard is unreadable
        words = str(error).removeprefix(f"{path}: ").removesuffix("; run pipelines.verify").partition("\n")[0]
        seen.state, seen.details = "unreadable", [words or type(error).__name__]
    return seen


def _check_shard_file(manifest: Manifest, info: ShardInfo) -> list[str]:
    """Check a shard as a whole; return what is wrong."""
    with open_shard(manifest.path(info.path)) as shard:
        instruments, rate = manifest.instruments, manifest.content["recipe"]["prepare"]["sample_rate"]
        found, problems = shard.schema_arrow, []  # its fields carry Parquet's own numbers as metadata
        expected = schema(instruments, rate, notes="notes" in found.names, tracks="track" in found.names)
        # That these should be there, clip rows tell.
        if not found.equals(expected) or any(
            found.metadata.get(key) != text for key, text in expected.metadata.items()
        ):
            problems.append("its columns or their metadata are not ours")
        if shard.metadata.num_rows != info.num_rows:
            problems.append(f"it has {shard.metadata.num_rows} rows, the manifest says {info.num_rows}")
        return problems


def _check_shard_rows(manifest: Manifest, info: ShardInfo) -> tuple[list[str], str]:
    """Check the rows of a shard by themselves; return what is wrong, and their content digest."""
    path, digest, problems = manifest.path(info.path), hashlib.sha256(), []
    instruments = manifest.instruments
    for row in read_shard(path, ["audio", *_columns(path)]):
        if not _is_sound(row):
            problems.append(f"the audio of {row['id']} is damaged")
        digest.update(content_of_row(row, instruments))
    return problems, digest.hexdigest()


def _columns(path: Path) -> list[str]:
    return [*_COLUMNS, *extra_columns(path)]


def _is_sound(row: Mapping[str, Any]) -> bool:
    try:
        check_audio("", row)
    except IntegrityError:
        return False
    named: bool = row["audio"]["path"] == f"{row['audio_sha256'][:16]}.{audio_extension(row['audio']['bytes'])}"
    return named


def _digests(manifest: Manifest, info: ShardInfo) -> Iterator[tuple[str, bytes]]:
    path = manifest.path(info.path)
    for row in read_shard(path, _columns(path)):
        yield row["id"], shared_digest(shared_of_shard(row, manifest.instruments))


def _doubtful(shard: ShardCheck, rows: RowScan) -> set[str]:
    """Find ids of a shard whose row must be compared field by field, or has no clip row."""
    doubtful = set()
    for clip_id, digest in shard.digests:
        said = rows.shared.pop(clip_id, None)
        if said != (shard.info.split, digest) or (rows.damaged and clips_path(bucket_of(clip_id)) in rows.damaged):
            doubtful.add(clip_id)
    return doubtful


def _compared(manifest: Manifest, shard: ShardCheck, doubtful: set[str], rows: RowScan) -> Iterator[Finding]:
    """Compare the doubtful rows of a shard with their clip rows; what differs is laid to the one that is damaged."""
    if not doubtful:
        return
    whole = shard.state in ("sound", "same content")
    clip_rows = _clip_rows(manifest, doubtful, rows)
    shard_file = manifest.path(shard.info.path)
    for row in read_shard(shard_file, _columns(shard_file)):
        clip_id = row["id"]
        path = clips_path(bucket_of(clip_id))
        if clip_id not in doubtful or path in rows.unread:
            continue
        line, said = clip_rows.get(clip_id, (0, None))
        problem = _difference(said, row, shard.info.split, manifest.instruments)
        if problem is None:
            continue
        if whole and path in rows.damaged:
            yield Finding(path, line, "tampered", f"{clip_id}: {problem}")
        elif shard.state == "sound":
            yield Finding(MANIFEST, 0, "inconsistent", f"{clip_id} in {shard.info.path}: {problem}")
        else:
            shard.state = "damaged"
            shard.details.append(f"the row of {clip_id}: {problem}")


def _clip_rows(manifest: Manifest, ids: set[str], rows: RowScan) -> dict[str, tuple[int, ClipRow]]:
    """Read line (0 in a sound file) and clip row of each id that has one; every file is read once."""
    paths = {clips_path(bucket_of(clip_id)) for clip_id in ids} & {b["path"] for b in manifest.content["clips"]}
    found: dict[str, tuple[int, ClipRow]] = {}
    for path in sorted(paths - rows.unread):
        if path in rows.damaged:
            found |= {clip_id: placed for clip_id, placed in rows.damaged[path].items() if clip_id in ids}
        else:
            found |= {row["id"]: (0, row) for row in read_clip_rows(manifest.path(path)) if row["id"] in ids}
    return found


def _difference(said: ClipRow | None, row: Mapping[str, Any], split: str, instruments: Sequence[str]) -> str | None:
    """Describe how a clip row and its shard row differ; None where they agree."""
    if said is None:
        return "no readable line is its clip row"
    if said["status"] != "kept":
        return f"its clip row says {said['status']}, but a shard holds it"
    ours, theirs = shared_of_row(said), shared_of_shard(row, instruments)
    names = [name for name in ours if ours[name] != theirs[name]]
    if said["split"] != split:
        names.append("split")
    sure = dict(zip(instruments, row["confidence"], strict=True))
    pairs = [(label[1], sure.get(name)) for name, label in said["labels"].items()]
    if any((a is None) != (b is None) or abs((a or 0) - (b or 0)) > CONFIDENCE_TOLERANCE for a, b in pairs):
        names.append("confidence")
    return f"{', '.join(names)} of clip row and shard differ" if names else None


def _left_over(seen: Sequence[ShardCheck], rows: RowScan) -> Iterator[Finding]:
    """Yield clip rows of kept clips that no shard holds, where all shards of their split could be read."""
    unread = {shard.info.split for shard in seen if shard.state in ("missing", "swapped", "unreadable")}
    damaged = {shard.info.split: shard for shard in seen if shard.state == "damaged"}
    # Where a damaged line lies, not where its id belongs: the id itself may be what was changed.
    places = {clip_id: (path, line) for path, lines in rows.damaged.items() for clip_id, (line, _) in lines.items()}
    for clip_id, (split, _) in rows.shared.items():
        if split in unread:
            continue
        if clip_id in places:
            yield Finding(*places[clip_id], "tampered", f"{clip_id}: no shard of {split} holds it")
        elif split in damaged:
            damaged[split].details.append(f"the row of {clip_id} is missing")
        else:
            yield Finding(MANIFEST, 0, "inconsistent", f"{clip_id}: no shard of {split} holds it")


def _verdict(manifest: Manifest, shard: ShardCheck) -> Iterator[Finding]:
    path = shard.info.path
    if shard.state == "missing":
        yield Finding(path, 0, "missing")
    elif shard.state == "swapped":
        yield Finding(path, 0, "swapped", shard.details[0])
    elif shard.state == "same content":
        size = manifest.path(path).stat().st_size
        # Another Parquet writer gives other bytes for the same rows, and another size: worth knowing, no damage.
        if size != shard.info.num_bytes:
            yield Finding(path, 0, "container drift", "other bytes, same content")
        else:
            yield Finding(path, 0, "corrupt", "its sha256 is not the manifest's; every row can still be read")
    elif shard.state in ("damaged", "unreadable"):
        yield from _named(path, dict.fromkeys(shard.details))


def _named(path: str, details: Iterable[str]) -> Iterator[Finding]:
    listed = list(details)
    for detail in listed[:MAX_NAMED]:
        yield Finding(path, 0, "corrupt", detail)
    if len(listed) > MAX_NAMED:
        yield Finding(path, 0, "corrupt", f"and {len(listed) - MAX_NAMED} more of its rows")
