"""The manifest: what a dataset version holds, clip by clip, and the digests that prove it.

    versions/<version>/manifest/manifest.json            written last: its presence = complete
    versions/<version>/manifest/clips/00.jsonl .. ff.jsonl   one row per clip, kept or not

Canonical JSON everywhere (sorted keys, no spaces, UTF-8, LF), so that equal contents are equal
bytes and a change is a small diff; a clip's row as a line is `datasets/clip_line.py`. The glossary
of all fields is manifests/README.md.
"""

import hashlib
import io
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar, cast

from tutti.datasets.bounded import CHUNK_BYTES, open_regular, read_bounded, read_json, regular_status
from tutti.datasets.clip_line import DIGEST_DIGITS, decode
from tutti.datasets.clip_line import ClipRow as ClipRow
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.heartbeat import beat
from tutti.datasets.manifest_types import BucketEntry, CountsEntry, ManifestContent
from tutti.datasets.printable import in_unicode
from tutti.datasets.record import PRESENT, SPLITS, Clip, Rejected
from tutti.datasets.shard_info import ShardInfo, canonical_labels

SCHEMA_VERSION = 2  # 2: short lines of clips
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
MANIFEST_BYTES = 1 << 25  # largest manifest.json that is read; one of 200,000 clips has 100 kB and its near-duplicates
BUCKET_BYTES = 1 << 25  # largest file of clip rows that is read: of 20 million clips
LINE_BYTES = 1 << 20  # longest line of one; a clip with all labels of a thousand classes has 40 kB
DETAIL_CHARACTERS = 4096  # of the words for people in a row
# Every file that a version may hold; nothing else is ever opened, whatever a manifest lists.
LISTED_PATH = re.compile(
    r"manifest/manifest\.json|manifest/clips/[0-9a-f]{2}\.jsonl|README\.md|croissant\.json"
    r"|data/(train|validation|test)-[0-9]{5}-of-[0-9]{5}\.parquet"
    r"|report(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}){1,4}"
)

Json: TypeAlias = Any
Row = TypeVar("Row", bound=Mapping[str, Any])


def canonical_json(value: Json) -> str:
    """Encode a value as one line of JSON that depends on nothing else."""
    return _ENCODER.encode(value)


def digest_of(value: Json) -> str:
    """Hash the canonical JSON of a value (sha256)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hash a regular file (sha256), read in blocks."""
    with open_regular(path) as stream:
        return stream_sha256(stream)


def stream_sha256(stream: IO[bytes]) -> str:
    """Hash the rest of a stream (sha256), read in blocks."""
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        beat()
        digest.update(chunk)
    return digest.hexdigest()


def bucket_of(clip_id: str) -> str:
    """Name the clip-row file that holds a clip: two hex digits."""
    return hashlib.sha256(clip_id.encode()).hexdigest()[:2]


def clip_row(row: Clip | Rejected, instruments: Sequence[str]) -> ClipRow:
    """Make the manifest's row of a clip: short, without nulls; unknown labels are left out."""
    clip = row.clip if isinstance(row, Rejected) else row
    fields: dict[str, Any] = {
        "id": clip.id,
        "source": clip.source,
        "recording": clip.recording,
        "group": clip.group,
        "partition": clip.partition,
        "start_s": clip.start_s,
        "end_s": clip.end_s,
        "license": clip.license,
        "acquired": clip.acquired,
        "quality": clip.quality,
        "labels": {name: values for name, *values in canonical_labels(clip.labels, instruments)},
    }
    if clip.audio is not None:
        fields["audio"] = {
            "pcm_sha256": clip.audio.pcm_sha256,
            "sketch": clip.audio.sketch,
            "native_sha256": clip.audio.native_sha256[:DIGEST_DIGITS],
            "source_sha256": clip.audio.source_sha256[:DIGEST_DIGITS],
            "sample_rate": clip.audio.sample_rate,
            "num_samples": clip.audio.num_samples,
            "native_sample_rate": clip.audio.native_sample_rate,
            "codec": clip.audio.codec,
            "decoder": clip.audio.decoder,
            "loudness_lufs": clip.audio.loudness_lufs,
            "gain_db": clip.audio.gain_db,
            "true_peak_dbtp": clip.audio.true_peak_dbtp,
            "silence_share": round(clip.audio.silence_share, 4),
        }
    if isinstance(row, Rejected):
        fields |= {"status": row.status, "stage": row.stage, "reason": row.reason, "value": row.value}
        fields["detail"] = in_unicode(row.detail[:DETAIL_CHARACTERS]) or None  # it may name a file
    else:
        fields |= {"status": "kept", "split": clip.split}
    return cast(ClipRow, {key: value for key, value in fields.items() if value is not None})


def root_digest(rows: Iterable[ClipRow]) -> str:
    """Hash what identifies a dataset: sorted (id, split, PCM digest, labels, notes, track) of the kept rows.

    Contents, not containers: another Parquet writer, worker count or archive order leaves it.
    """
    return _digest_kept(rows, _content_of)


def _content_of(row: ClipRow) -> Json:
    extras = [row[name] for name in ("notes_sha256", "track_sha256") if name in row]
    return [row["id"], row["split"], row["audio"]["pcm_sha256"], row["labels"], *extras]


def split_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Hash which clip is in which split, whatever the audio."""
    return _digest_kept(rows, lambda row: [row["id"], row["split"]])


def _digest_kept(rows: Iterable[Row], content: Callable[[Row], Json]) -> str:
    # Lines, not rows, are held and sorted: a tenth of the memory.
    lines = sorted((row["id"], canonical_json(content(row))) for row in rows if row["status"] == "kept")
    digest = hashlib.sha256()
    for _, line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def count_rows(rows: Iterable[Mapping[str, Any]], instruments: Sequence[str]) -> CountsEntry:
    """Count rows by status, split, source, reason, and present labels by split; one row at a time."""
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
    sources: Any = {
        source: {"kept": 0, **statuses[source], "reasons": dict(reasons[source]), "splits": dict(splits[source])}
        for source in sorted(statuses)
    }
    return {
        "kept": all_splits.total(),
        "rejected": dict(all_reasons),
        "splits": {split: all_splits[split] for split in SPLITS},
        "sources": sources,
        "present": {split: {name: present[split][name] for name in instruments} for split in SPLITS},
    }


@dataclass(frozen=True)
class Manifest:
    """A dataset version on disk."""

    folder: Path  # the version folder
    content: ManifestContent  # manifest.json

    @property
    def version(self) -> str:
        """First 12 hex digits of the sha256 of manifest.json."""
        return file_sha256(manifest_path(self.folder))[:12]

    @property
    def instruments(self) -> list[str]:
        """Class names, in the order of the shards' label columns."""
        return list(self.content["instruments"])

    @property
    def root_digest(self) -> str:
        """Identity of the contents."""
        return str(self.content["root_digest"])

    def shards(self, split: str | None = None) -> list[ShardInfo]:
        """List the shards of a split, or all: the files to read, instead of a glob of the folder."""
        infos = [ShardInfo(**info) for info in self.content["shards"]]
        return [info for info in infos if split in (None, info.split)]

    def shard_paths(self, split: str) -> list[Path]:
        """List the files of a split.

        Raises:
            UsageError: the dataset has no such split.
        """
        infos = self.shards(split)
        if not infos:
            splits = sorted({info.split for info in self.shards()})
            raise UsageError(f"{self.folder}: no split {split!r}; it has {', '.join(splits)}")
        return [self.path(info.path) for info in infos]

    def path(self, relative: str) -> Path:
        """Resolve a path that the manifest states to a file of this version; all reads go through here.

        Raises:
            IntegrityError: no version has such a file, or a link leads out of the version folder.
        """
        if not LISTED_PATH.fullmatch(relative):
            raise IntegrityError(f"{self.folder}: no version holds a file {relative[:100]!r}; remove this version")
        return within(self.folder, relative)

    def shard_file(self, info: ShardInfo) -> Path:
        """Locate a shard of this version and check its size; its bytes are not read.

        Raises:
            IntegrityError: it is missing, no regular file, of another size, or a link leads out of the version folder.
        """
        path = self.path(info.path)
        try:
            num_bytes = regular_status(path).st_size
        except FileNotFoundError as error:
            raise IntegrityError(f"{path}: missing; run pipelines.verify, then build this version again") from error
        if num_bytes != info.num_bytes:
            raise IntegrityError(
                f"{path}: has {num_bytes:,} bytes, the manifest says {info.num_bytes:,}; run pipelines.verify"
            )
        return path

    def clip_rows(self) -> Iterator[ClipRow]:
        """Read all clip rows, bucket after bucket; types and the sha256 of each file are checked.

        Raises:
            IntegrityError: a file is not what the manifest says, or a line is no clip row; the message names both.
        """
        for bucket in self.content["clips"]:
            yield from self.bucket_rows(bucket)

    def bucket_rows(self, bucket: BucketEntry) -> list[ClipRow]:
        """Read the rows of one entry of `clips`.

        Raises:
            IntegrityError: as of `clip_rows`.
        """
        path = self.path(bucket["path"])
        try:
            content = read_bounded(path, BUCKET_BYTES)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path}: missing; run pipelines.verify, then build this version again") from error
        rows = list(_rows_in(path, content, bucket["num_rows"]))
        if hashlib.sha256(content).hexdigest() != bucket["sha256"]:
            raise IntegrityError(f"{path}: its sha256 is not the manifest's; run pipelines.verify")
        instruments, sources = frozenset(self.content["instruments"]), self.content["sources"].keys()
        for row in rows:
            if row["source"] not in sources or not row["labels"].keys() <= instruments:
                raise IntegrityError(f"{path}: {row['id']}: of a source or class that the manifest does not name")
        return rows


def within(folder: Path, relative: str) -> Path:
    """Join a path below a folder.

    Raises:
        IntegrityError: a link on the way leads out of the folder.
    """
    path = folder / relative
    if not is_within(folder, relative):
        raise IntegrityError(f"{path}: is a link that leads out of {folder}; put the file itself in its place")
    return path


def is_within(folder: Path, relative: str) -> bool:
    """Whether a path below a folder lies in it, also through links."""
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(folder / relative)]) == root


def manifest_path(folder: Path) -> Path:
    """Name the path of manifest.json in a version folder."""
    return folder / "manifest" / "manifest.json"


def clips_path(bucket: str) -> str:
    """Name the path of a bucket of clip rows within a version folder."""
    return f"manifest/clips/{bucket}.jsonl"


def read_clip_rows(path: Path) -> Iterator[ClipRow]:
    """Read rows of one bucket file and check their types; no manifest is consulted.

    Raises:
        FileNotFoundError: there is none.
        IntegrityError: a line is no clip row; the message names file and line.
    """
    yield from _rows_in(path, read_bounded(path, BUCKET_BYTES))


def _rows_in(path: Path, content: bytes, expected: int | None = None) -> Iterator[ClipRow]:
    count = content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    if expected is not None and count != expected:
        raise IntegrityError(f"{path}: has {count:,} lines, the manifest says {expected:,}; run pipelines.verify")
    for number, line in enumerate(io.BytesIO(content), start=1):
        try:
            if len(line) > LINE_BYTES:
                raise ValueError(f"a line of {len(line):,} bytes, at most {LINE_BYTES:,} are read")
            yield decode(line)
        except ValueError as error:  # also bytes that are not UTF-8
            raise IntegrityError(f"{path}:{number}: {error}; run pipelines.verify") from error


def version_folder(folder: Path) -> Path:
    """Find the version folder of an output root (`build/NAME`), a version folder itself, or its manifest.json.

    Raises:
        UsageError: neither holds a complete dataset.
    """
    if folder.name == "manifest.json" and folder.is_file():
        folder = folder.absolute().parent.parent
    for candidate in (folder, _current(folder)):
        if manifest_path(candidate).is_file():
            return candidate.resolve()
    raise UsageError(f"{folder}: no dataset here (no manifest/manifest.json); build one with pipelines.build")


def _current(root: Path) -> Path:
    """Resolve `current` of an output root to a version beside it or in `versions`, which may be on another disk."""
    link, versions = root / "current", os.path.realpath(root / "versions")
    if os.path.dirname(os.path.realpath(link)) == versions:
        return link
    return within(root, "current")


def read_manifest(folder: Path) -> Manifest:
    """Load the manifest of an output root or a version folder.

    Raises:
        UsageError: there is none.
        IntegrityError: it is damaged or of another schema version.
    """
    version = version_folder(folder)
    return Manifest(version, read_content(within(version, "manifest/manifest.json")))


def read_content(path: Path) -> ManifestContent:
    """Read a manifest.json and check it against the schema.

    Raises:
        IntegrityError: it is damaged, of another schema version, or against the schema.
    """
    content = read_json(path, MANIFEST_BYTES, what="a manifest")
    if not isinstance(content, dict) or "schema_version" not in content:
        raise IntegrityError(f"{path}: not a manifest (no schema_version); restore it from a copy")
    if content["schema_version"] != SCHEMA_VERSION:
        found = str(content["schema_version"])[:20]
        raise IntegrityError(f"{path}: schema version {found}, this code reads {SCHEMA_VERSION}")
    from tutti.datasets.manifest_schema import manifest_problem  # takes .1 s to import, and who writes rows needs none

    if (problem := manifest_problem(content)) is not None:
        raise IntegrityError(f"{path}: not a manifest: {problem}; restore it from a copy")
    return cast(ManifestContent, content)
