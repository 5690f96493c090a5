"""The clip rows in `verify`: every line of every file, once.

A file whose sha256 is not the manifest's is looked at line by line: what is no JSON, not
canonical, against the schema, out of order, doubled or in the wrong file is named with its line.
The rest is found by comparing rows with shards, in `shards.py`. Lines are reported, never
mended.
"""

import hashlib
import itertools
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tutti.datasets.bounded import read_bounded
from tutti.datasets.clip_line import decode, encode, unpack
from tutti.datasets.clip_types import fits
from tutti.datasets.errors import IntegrityError
from tutti.datasets.manifest import (
    BUCKET_BYTES,
    LINE_BYTES,
    ClipRow,
    Manifest,
    bucket_of,
    count_rows,
    root_digest,
    split_digest,
)
from tutti.datasets.manifest_types import BucketEntry, CountsEntry
from tutti.datasets.record import PRESENT, UNKNOWN
from tutti.datasets.shard import extras_of, notes_of_row
from tutti.datasets.shard_tracks import sounding_of_row, track_of_row
from tutti.pipelines.verify.findings import BOM, MANIFEST, Finding

MAX_LINES = 20  # findings of one file; an editor that changes line ends touches every line
MOST_LINES = 100_000  # that are looked at one by one in a file, unless the manifest says it has more

Shared = dict[str, Any]  # what a clip row and a shard row both say of a clip


@dataclass
class RowScan:
    """Totals and one digest per clip, from one pass over all clip rows: there may be hundreds of thousands."""

    findings: list[Finding] = field(default_factory=list)
    damaged: dict[str, dict[str, tuple[int, ClipRow]]] = field(default_factory=dict)  # bucket path -> id -> line, row
    unread: set[str] = field(default_factory=set)  # bucket paths without rows: missing or swapped
    shared: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # kept id -> split, digest of its `Shared`

    @property
    def sound(self) -> bool:
        """Whether all rows are here as they were written."""
        return not self.damaged and not self.unread


def check_clip_rows(manifest: Manifest, listed: Mapping[str, str], *, for_shards: bool = True) -> RowScan:
    """Read every clip row once: files, lines, digests, counts.

    Args:
        manifest: of the version.
        listed: sha256 -> path, of the files that the manifest lists.
        for_shards: keep the digests that shard rows are compared with.
    """
    rows, facts = RowScan(), _Facts()

    def walk() -> Iterator[ClipRow]:
        for bucket in manifest.content["clips"]:
            for row in _bucket_rows(manifest, bucket, rows, listed):
                facts.add(row)
                if row["status"] == "kept":
                    digest = shared_digest(shared_of_row(row)) if for_shards else b""
                    rows.shared[row["id"]] = (row["split"], digest)
                yield row

    same_root = root_digest(walk()) == manifest.root_digest
    if not rows.sound:  # what follows from the rows cannot hold either
        identity = "the root digest holds" if same_root else "so the root digest is not the manifest's"
        rows.findings = [
            replace(found, detail=f"{found.detail}; {identity}") if found.kind == "corrupt" else found
            for found in rows.findings
        ]
    else:
        rows.findings += facts.contradictions(manifest, rows, same_root)
    return rows


@dataclass
class _Facts:
    """Facts that the manifest states of all rows together."""

    groups: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # group -> splits
    labelled: set[str] = field(default_factory=set)  # instruments
    counted: list[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=list)
    names: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)  # one object per combination

    def add(self, row: ClipRow) -> None:
        kept = row["status"] == "kept"
        if kept:
            self.groups[row["group"]].add(row["split"])
        self.labelled.update(row["labels"])
        present = tuple(name for name, label in row["labels"].items() if label[0] == PRESENT) if kept else ()
        present = self.names.setdefault(present, present)
        self.counted.append((row["source"], row["status"], row["split"] if kept else row["reason"], present))

    def counts(self, instruments: Sequence[str]) -> CountsEntry:
        rows = (
            {
                "source": source,
                "status": status,
                "split": word,
                "reason": word,
                "labels": dict.fromkeys(present, (PRESENT,)),
            }
            for source, status, word, present in self.counted
        )
        return count_rows(rows, instruments)

    def contradictions(self, manifest: Manifest, rows: RowScan, same_root: bool) -> Iterator[Finding]:
        content = manifest.content
        kept = ({"id": clip_id, "split": split, "status": "kept"} for clip_id, (split, _) in rows.shared.items())
        straddling = sorted(group for group, splits in self.groups.items() if len(splits) > 1)
        for problem, holds in (
            ("root_digest is not that of the clip rows", same_root),
            ("split_digest is not that of the clip rows", split_digest(kept) == content["split_digest"]),
            ("counts are not those of the clip rows", self.counts(manifest.instruments) == content["counts"]),
            ("clip rows have labels of other instruments", self.labelled <= set(manifest.instruments)),
            (f"the group {next(iter(straddling), '')} is in two splits", not straddling),
        ):
            if not holds:
                yield Finding(MANIFEST, 0, "inconsistent", problem)


def _bucket_rows(
    manifest: Manifest, bucket: BucketEntry, rows: RowScan, listed: Mapping[str, str]
) -> Iterator[ClipRow]:
    """Yield the rows of one file; a damaged one gives those that can be read."""
    path = bucket["path"]
    try:
        content = read_bounded(manifest.path(path), BUCKET_BYTES)
        if (count := content.count(b"\n")) > max(MOST_LINES, 2 * bucket["num_rows"]):
            raise IntegrityError(f"has {count:,} lines, the manifest says {bucket['num_rows']:,}")
    except (OSError, IntegrityError) as error:
        rows.unread.add(path)
        missing = isinstance(error, FileNotFoundError)
        rows.findings.append(Finding(path, 0, "missing" if missing else "corrupt", "" if missing else str(error)))
        return
    found = hashlib.sha256(content).hexdigest()
    if found != bucket["sha256"] and listed.get(found, path) != path:
        rows.unread.add(path)
        rows.findings.append(Finding(path, 0, "swapped", f"it holds {listed[found]}"))
        return
    lines = content.split(b"\n")
    name = Path(path).stem
    parsed = _all_rows(lines) if found == bucket["sha256"] else None
    if parsed is not None:
        yield from parsed
        canonical = all(encode(row).encode() == line for row, line in zip(parsed, lines, strict=False))
        ids = [row["id"] for row in parsed]
        ordered = all(a < b for a, b in itertools.pairwise(ids)) and all(bucket_of(clip_id) == name for clip_id in ids)
        for problem, holds in (
            ("its lines are not canonical JSON", canonical and lines[-1] == b""),
            ("its rows are not sorted, repeat an id, or belong into other files", ordered),
            (f"it has {len(ids)} rows, the manifest says {bucket['num_rows']}", len(ids) == bucket["num_rows"]),
        ):
            if not holds:
                rows.findings.append(Finding(path, 0, "inconsistent", problem))
        return
    other = "it holds lines that no build writes" if found == bucket["sha256"] else "its sha256 is not the manifest's"
    rows.findings.append(Finding(path, 0, "corrupt", other))
    problems, readable = _examine(path, lines)
    rows.findings += problems[:MAX_LINES]
    if len(problems) > MAX_LINES:
        more = f"and {len(problems) - MAX_LINES} more findings in this file"
        rows.findings.append(Finding(path, problems[MAX_LINES].line, "tampered", more))
    rows.damaged[path] = readable
    yield from (row for _, row in readable.values())


def _all_rows(lines: list[bytes]) -> list[ClipRow] | None:
    """Decode all lines; what follows the last line feed must be nothing; None: one is no row."""
    try:
        return [decode(line) for line in lines[:-1]] if max(map(len, lines)) <= LINE_BYTES else None
    except ValueError:
        return None


def _examine(path: str, lines: list[bytes]) -> tuple[list[Finding], dict[str, tuple[int, ClipRow]]]:
    """Find what is wrong with each line of a damaged file, and the rows that can be read: id -> line, row."""
    from tutti.datasets.manifest_schema import row_problems  # only where no digest proves the form

    problems: list[Finding] = []
    readable: dict[str, tuple[int, ClipRow]] = {}

    def report(line: int, detail: str) -> None:
        problems.append(Finding(path, line, "tampered", detail))

    if lines[-1] == b"":
        lines = lines[:-1]
    else:
        report(len(lines), "does not end with a line feed: the file was cut")
    last_id = ""
    for number, line in enumerate(lines, start=1):
        if line.startswith(BOM):
            report(number, "begins with a byte order mark")
            line = line.removeprefix(BOM)
        if line.endswith(b"\r"):
            report(number, "ends with CR LF")
            line = line.removesuffix(b"\r")
        if len(line) > LINE_BYTES:
            report(number, f"has {len(line):,} bytes, at most {LINE_BYTES:,} are read")
            continue
        try:
            row = unpack(line)
            canonical = encode(row).encode() == line
        except ValueError as error:  # no JSON, bytes that are not UTF-8, numbers that JSON lacks
            report(number, f"{error}")
            continue
        if not fits(row):
            report(number, f"not a clip row: {next(iter(row_problems(row)), 'a value of another type or size')}")
            continue
        clip_id = row["id"]
        if not canonical:
            report(number, f"{clip_id}: not canonical JSON")
        if bucket_of(clip_id) != Path(path).stem:
            report(number, f"{clip_id}: belongs into {bucket_of(clip_id)}.jsonl")
        if clip_id in readable:
            report(number, f"{clip_id}: occurs again, first in line {readable[clip_id][0]}")
            continue
        if clip_id < last_id:
            report(number, f"{clip_id}: out of order, it follows {last_id}")
        last_id = max(last_id, clip_id)
        readable[clip_id] = number, row
    return problems, readable


# --- what a clip row and a shard row both say


def shared_of_row(row: ClipRow) -> Shared:
    """Extract what a shard row must repeat of a kept clip's row; the confidences apart."""
    audio = row["audio"]
    return {
        "id": row["id"],
        "source": row["source"],
        "recording": row["recording"],
        "group": row["group"],
        "start_s": float(row["start_s"]),
        "end_s": None if row.get("end_s") is None else float(row["end_s"]),
        "license": row["license"],
        "quality": single(row.get("quality")),
        "sample_rate": audio["sample_rate"],
        "num_samples": audio["num_samples"],
        "loudness_lufs": single(audio["loudness_lufs"]),
        "gain_db": single(audio["gain_db"]),
        "audio_sha256": audio["pcm_sha256"],
        "notes_sha256": row.get("notes_sha256"),
        "track_sha256": row.get("track_sha256"),
        "labels": {name: (presence, origin) for name, (presence, _, origin) in sorted(row["labels"].items())},
    }


def shared_of_shard(row: Mapping[str, Any], instruments: Sequence[str]) -> Shared:
    """Extract the same of a shard's row, its audio column apart."""
    labels = sorted(zip(instruments, row["presence"], row["label_origin"], strict=True))
    names = (
        "id", "source", "recording", "group", "start_s", "end_s", "license", "quality", "sample_rate", "num_samples",
        "loudness_lufs", "gain_db", "audio_sha256",
    )  # fmt: skip
    extras = extras_of(notes_of_row(row), track_of_row(row), sounding_of_row(row))
    shared = {name: row[name] for name in names}
    shared |= {name: extras.get(name) for name in ("notes_sha256", "track_sha256")}
    return shared | {"labels": {name: (presence, origin) for name, presence, origin in labels if presence != UNKNOWN}}


def shared_digest(shared: Shared) -> bytes:
    """Digest it to 16 bytes: enough to tell two apart, small enough to keep for every clip."""
    return hashlib.blake2b(repr(shared).encode(), digest_size=16).digest()  # both sides fill it in the same order


def single(value: float | None) -> float | None:
    """Round a number as the 32-bit columns of a shard hold it."""
    return None if value is None else float(struct.unpack("<f", struct.pack("<f", value))[0])
