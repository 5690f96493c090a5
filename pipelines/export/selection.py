"""The clips of a version that may go out, read row group by row group and checked on the way.

A shard whose bytes are not the manifest's, or a clip whose samples are not what its digest says, ends the
export: nothing that cannot be proved leaves the house.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tutti.datasets.copies import file_digest
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import Manifest
from tutti.datasets.record import SPLITS
from tutti.datasets.settings import nearest
from tutti.datasets.shard import (
    audio_extension,
    check_audio,
    content_digest,
    labels_of_row,
    open_shard,
    read_groups,
    shard_table,
)
from tutti.datasets.shard_info import ShardInfo
from tutti.datasets.shard_tracks import TRACK_NAMES
from tutti.datasets.source import has_notes, has_tracks
from tutti.pipelines.export.card import Counts
from tutti.train.reading.checked import CheckedShard

Row: TypeAlias = dict[str, Any]  # a row of a shard, by column

REMEDY = "run pipelines.verify, then build this version again"


@dataclass(frozen=True)
class Selection:
    """The clips of an export."""

    manifest: Manifest
    licenses: frozenset[str] | None  # exact ids that may go out; None: all
    counts: Counts

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits with at least one clip: a reader trips over an empty one."""
        return tuple(split for split, count in self.counts.splits.items() if count)

    @property
    def rows_per_shard(self) -> int:
        """Clips in one file of the formats that pack them."""
        return int(self.manifest.content["recipe"]["write"]["rows_per_shard"])

    @property
    def rows_per_group(self) -> int:
        """Clips in memory at a time."""
        return int(self.manifest.content["recipe"]["write"]["rows_per_group"])

    def rows(self, split: str) -> Iterator[Row]:
        """Read the clips of a split, sorted by id; holds one row group at a time.

        Raises:
            IntegrityError: a shard or the audio of a clip is damaged; the message names it.
        """
        last_id, sample_rate = "", self.manifest.content["recipe"]["prepare"]["sample_rate"]
        sources = self.manifest.content["sources"]
        extras = {"notes": has_notes(sources), "track": has_tracks(sources)}
        for info in self.manifest.shards(split):
            path = self.manifest.shard_file(info)
            with check_shard(path, info).open() as shard:
                for row in itertools.chain.from_iterable(read_groups(path, shard=shard)):
                    check_row(path, row, last_id, sample_rate, extras)
                    last_id = row["id"]
                    if self.licenses is None or row["license"] in self.licenses:
                        check_audio(path.name, row)
                        yield row


def select(manifest: Manifest, splits: Sequence[str] = (), licenses: Collection[str] | None = None) -> Selection:
    """Choose clips by split and licence; reads the licence column of the shards, no audio.

    Args:
        manifest: of the version.
        splits: empty: all.
        licenses: exact ids, as the manifest spells them; None: all.

    Raises:
        UsageError: no such split or licence, or nothing is left.
        IntegrityError: a shard is missing or no Parquet file.
    """
    for split in splits:
        manifest.shard_paths(split)  # raises for an unknown one
    present = [split for split in SPLITS if manifest.shards(split)]
    found = {split: count_clips(manifest, split) for split in present}
    if licenses is not None:
        check_licenses(licenses, Counter(name for clips in found.values() for name, _ in clips.elements()))
    chosen = [split for split in present if not splits or split in splits]
    going, staying = Counter[tuple[str, str, str]](), Counter[str]()
    for split in chosen:
        for (name, source), count in found[split].items():
            if licenses is None or name in licenses:
                going[split, name, source] += count
            else:
                staying[name] += count
    if not going:
        held = ", ".join(sorted(staying)) or "none"
        raise UsageError(f"{manifest.folder}: no clip is left to export; licences in {', '.join(chosen)}: {held}")
    counts = Counts(
        splits={split: _total(going, 0).get(split, 0) for split in chosen},
        licenses=_total(going, 1),
        sources=_total(going, 2),
        left_out=dict(sorted(staying.items())),
    )
    return Selection(manifest, None if licenses is None else frozenset(licenses), counts)


def _total(counts: Mapping[tuple[str, str, str], int], position: int) -> dict[str, int]:
    """Sum by one part of the keys, sorted."""
    sums = Counter[str]()
    for key, count in counts.items():
        sums[key[position]] += count
    return dict(sorted(sums.items()))


def count_clips(manifest: Manifest, split: str) -> Counter[tuple[str, str]]:
    """Count clips of a split by licence and source.

    Raises:
        IntegrityError: a shard is missing or no Parquet file.
    """
    counts = Counter[tuple[str, str]]()
    for info in manifest.shards(split):
        path = manifest.shard_file(info)
        with open_shard(path) as shard:
            columns = shard_table(shard, path, ["id", "license", "source"]).to_pydict()
        counts.update(zip(columns["license"], columns["source"], strict=True))
    return counts


def check_licenses(licenses: Collection[str], known: Mapping[str, int]) -> None:
    """Refuse a licence that no clip has.

    Raises:
        UsageError: the message lists those that there are, with their clips.
    """
    for name in licenses:
        if name not in known:
            error = UsageError(
                f"--license-allow {name}: no clip has this licence{nearest(name, known)}; this version holds"
            )
            error.listing = tuple(f"{known[license]:>8,}  {license}" for license in sorted(known))
            raise error


def check_shard(path: Path, info: ShardInfo) -> CheckedShard:
    """Check that the file is the one that the manifest lists: labels, licences and all.

    Raises:
        IntegrityError: it is not; the message names the clip where its audio is to blame.
    """
    copy, found = file_digest(path, info.num_bytes)
    if found == info.sha256:
        return CheckedShard(path, info, copy)
    try:
        same = content_digest(path) == info.content_sha256
    except IntegrityError as error:
        raise IntegrityError(f"{error}; {REMEDY}") from error
    # Licences and groups are in no content digest, so a rewritten file proves too little to be passed on.
    what = "was rewritten by another program" if same else "holds other rows than the manifest says"
    raise IntegrityError(f"{path}: {what}; {REMEDY}")


def check_row(path: Path, row: Row, last_id: str, sample_rate: int, extras: Mapping[str, bool]) -> None:
    """Check that a row fits into the split and the version.

    Raises:
        IntegrityError: its id does not ascend, or it has another sample rate or a column that no source has.
    """
    where = f"{path}: clip {row['id']}"
    if row["id"] <= last_id:
        raise IntegrityError(f"{where}: follows {last_id}, ids of a split must ascend; {REMEDY}")
    if row["sample_rate"] != sample_rate:
        raise IntegrityError(f"{where}: {row['sample_rate']} Hz, the manifest says {sample_rate} Hz; {REMEDY}")
    for name, expected in extras.items():
        if (name in row) != expected:
            raise IntegrityError(f"{where}: its {name} are not what the sources of the manifest have; {REMEDY}")


def key_of(row: Row) -> str:
    """Hash a clip's id to a file name, safe everywhere: ids hold slashes, dots and accents.

    WebDataset ends a key at the first dot; 128 bits of sha256 do not collide.
    """
    return hashlib.sha256(row["id"].encode()).hexdigest()[:32]


def audio_path(row: Row) -> str:
    """Name a clip's path in formats with loose files: 256 folders, since some file systems are slow with one."""
    key = key_of(row)
    return f"audio/{key[:2]}/{key}.{audio_extension(row['audio']['bytes'])}"


def facts_of(row: Row, instruments: Sequence[str]) -> dict[str, Any]:
    """Collect what is known of a clip, in the manifest's words; an instrument without a label is unknown."""
    labels = labels_of_row(row, instruments)
    return {
        "id": row["id"],
        "source": row["source"],
        "recording": row["recording"],
        "group": row["group"],
        "start_s": row["start_s"],
        "end_s": row["end_s"],
        "labels": {name: [label.presence, decimal(label.confidence), label.origin] for name, label in labels.items()},
        "quality": decimal(row["quality"]),
        "loudness_lufs": decimal(row["loudness_lufs"]),
        "gain_db": decimal(row["gain_db"]),
        "license": row["license"],
        "audio_sha256": row["audio_sha256"],
    } | {name: row[name] for name in ("notes", *TRACK_NAMES) if row.get(name) is not None}


def decimal(value: float | None) -> float | None:
    """Shorten a float32 to its shortest decimal: 0.9, not 0.8999999761581421; reads back as the same float32."""
    return None if value is None else float(str(np.float32(value)))
