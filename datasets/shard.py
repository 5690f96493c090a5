"""THE Parquet schema: one row per clip, audio inside, readable by every Parquet tool.

    from tutti.datasets.shard import read_shard
    for row in read_shard(path, columns=["id", "audio", "presence"]): ...

Rows are sorted by id. Audio is a complete FLAC file (mono, 16 bit); `huggingface` metadata makes
it an `Audio` column there. Class names stand in the `tutti` metadata: C is their number. Where a
source of the dataset says which notes sound, there is one more column, `notes`: null for clips of other sources.
Where its clips are stems and mixes of songs, there are two, `track` and `sounding` (`datasets/shard_tracks.py`).
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tutti.datasets.copies import Copy
from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import UNKNOWN, Clip, Label, Labels, Note, Sounding, Track
from tutti.datasets.shard_audio import verified_audio
from tutti.datasets.shard_file import open_parquet, reading
from tutti.datasets.shard_info import canonical_labels
from tutti.datasets.shard_rows import check_rows
from tutti.datasets.shard_tracks import TRACK_COLUMNS, TRACK_NAMES, sounding_of_row, track_columns, track_of_row
from tutti.datasets.tracks import track_digest

SCHEMA_VERSION = 1

# Audio is compressed already and never filtered on: no codec, dictionary or statistics for it.
_LABEL_COLUMNS = ["source", "license", "sample_rate"]
MAX_GROUP_BYTES = 1 << 30  # of audio: a row group ends early there; Arrow counts to 2 GiB, a clip has 256 MiB at most


NOTES_TYPE = pa.list_(
    pa.struct(
        [
            ("onset_s", pa.float64()),  # seconds of the clip
            ("offset_s", pa.float64()),
            ("pitch", pa.int16()),
            ("program", pa.int16()),
            ("instrument", pa.string()),
            ("velocity", pa.int8()),
        ]
    )
)


def schema(instruments: Sequence[str], sample_rate: int, *, notes: bool = False, tracks: bool = False) -> pa.Schema:
    """Build the Arrow schema of a shard whose label columns follow `instruments`; the others add their columns."""
    size = len(instruments)
    fields = [
        ("id", pa.string()),
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("sample_rate", pa.int32()),
        ("num_samples", pa.int64()),
        ("source", pa.string()),
        ("recording", pa.string()),
        ("group", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("presence", pa.list_(pa.int8(), size)),
        ("confidence", pa.list_(pa.float32(), size)),
        ("label_origin", pa.list_(pa.string(), size)),
        ("quality", pa.float32()),
        ("loudness_lufs", pa.float32()),
        ("gain_db", pa.float32()),
        ("license", pa.string()),
        ("audio_sha256", pa.string()),
        *([("notes", NOTES_TYPE)] if notes else []),
        *(TRACK_COLUMNS if tracks else ()),
    ]
    features = {name: _huggingface_feature(kind, sample_rate) for name, kind in fields}
    metadata = {
        "huggingface": json.dumps({"info": {"features": features}}),
        "tutti": json.dumps({"schema_version": SCHEMA_VERSION, "instruments": list(instruments)}),
    }
    return pa.schema([pa.field(name, kind) for name, kind in fields], metadata=metadata)


def _huggingface_feature(kind: pa.DataType, sample_rate: int) -> Any:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return {"sampling_rate": sample_rate, "_type": "Audio"}
    if pa.types.is_struct(kind):
        return {field.name: _huggingface_feature(field.type, sample_rate) for field in kind}
    if pa.types.is_list(kind):  # a list of one: a list of such values, in all versions of theirs
        return [_huggingface_feature(kind.value_type, sample_rate)]
    if pa.types.is_fixed_size_list(kind):
        inner = _huggingface_feature(kind.value_type, sample_rate)
        return {"feature": inner, "length": kind.list_size, "_type": "Sequence"}
    names = {"float": "float32", "double": "float64"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}


def shard_path(split: str, index: int, count: int) -> str:
    """Name the path of a shard within a version folder, in the Hugging Face layout."""
    return f"data/{split}-{index:05d}-of-{count:05d}.parquet"


def notes_digest(notes: Iterable[Note]) -> str:
    """Hash notes in their order (sha256), times to the microsecond."""
    values = [
        [round(note.onset_s, 6), round(note.offset_s, 6), note.pitch, note.program, note.instrument, note.velocity]
        for note in notes
    ]
    return hashlib.sha256(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def notes_of_row(row: Mapping[str, Any]) -> tuple[Note, ...] | None:
    """Read the notes of a shard row; None where it has none, or the shard has no such column."""
    notes = row.get("notes")
    return None if notes is None else tuple(Note(**note) for note in notes)


def labels_of_row(row: Mapping[str, Any], instruments: Sequence[str]) -> dict[str, Label]:
    """Collect the known labels of a shard row."""
    known = zip(instruments, row["presence"], row["confidence"], row["label_origin"], strict=True)
    return {name: Label(value, origin, sure) for name, value, sure, origin in known if value != UNKNOWN}


def check_audio(where: str, row: Mapping[str, Any]) -> None:
    """Decode the audio of a shard row and compare it with its digest.

    Raises:
        IntegrityError: it is damaged, or not what the row says; the message names `where` and the clip.
    """
    file, digest = row["audio"]["bytes"], row["audio_sha256"]
    verified_audio(f"{where}: clip {row['id']}", file, row["sample_rate"], row["num_samples"], digest)


def content_of_row(row: Mapping[str, Any], instruments: Sequence[str]) -> bytes:
    """Encode one row's contribution to the content digest of its shard."""
    labels = labels_of_row(row, instruments)
    more = extras_of(notes_of_row(row), track_of_row(row), sounding_of_row(row))
    return content_of(row["id"], row["audio_sha256"], labels, more, instruments)


def content_line(clip: Clip, instruments: Sequence[str]) -> bytes:
    """Encode one clip's contribution to the content digest of its shard."""
    if clip.audio is None:
        raise ValueError(f"{clip.id}: has no stored audio; run prepare before write")
    more = extras_of(clip.notes, clip.track, clip.sounding)
    return content_of(clip.id, clip.audio.pcm_sha256, clip.labels, more, instruments)


def extras_of(notes: Iterable[Note] | None, track: Track | None, sounding: Iterable[Sounding] | None) -> dict[str, str]:
    """Digest what only some clips have, by its field of the manifest: notes, and a place in a song."""
    extras = {} if notes is None else {"notes_sha256": notes_digest(notes)}
    return extras if track is None else extras | {"track_sha256": track_digest(track, sounding)}


def content_of(
    clip_id: str, pcm_sha256: str, labels: Labels, extras: Mapping[str, str], instruments: Sequence[str]
) -> bytes:
    """Encode the same from a clip's parts."""
    content = [clip_id, pcm_sha256, canonical_labels(labels, instruments), *extras.values()]
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def write_shard(
    stream: IO[bytes],
    rows: Iterable[tuple[Clip, bytes]],
    instruments: Sequence[str],
    *,
    sample_rate: int,
    rows_per_group: int,
    notes: bool = False,
    tracks: bool = False,
) -> tuple[int, str]:
    """Write prepared clips, sorted by id, with their audio files.

    Args:
        stream: open for writing in binary mode.
        rows: (clip, complete audio file); only one row group of them is held at a time.
        instruments: the classes, in the order of the label columns.
        sample_rate: of every clip, in Hz.
        rows_per_group: rows per Parquet row group: the unit of random access. Fewer where audio is very long.
        notes: with the column of notes.
        tracks: with the columns of songs.

    Returns:
        Number of rows and content digest.

    Raises:
        ValueError: rows are not sorted by id, a clip has no audio or another sample rate, or no column for what it has.
    """
    content = hashlib.sha256()
    count, last_id = 0, ""
    table_schema = schema(instruments, sample_rate, notes=notes, tracks=tracks)
    with pq.ParquetWriter(
        stream, table_schema, compression="NONE", use_dictionary=_LABEL_COLUMNS, write_statistics=["id", "source"]
    ) as writer:
        group: list[dict[str, Any]] = []
        group_bytes = 0
        for clip, audio in rows:
            if clip.id <= last_id:
                raise ValueError(f"{clip.id}: rows must be sorted by id, each once, but it follows {last_id}")
            last_id = clip.id
            if clip.notes is not None and not notes:
                raise ValueError(f"{clip.id}: has notes and the shard no column for them; its source must say NOTES")
            if clip.track is not None and not tracks:
                raise ValueError(
                    f"{clip.id}: is of a song and the shard has no column for it; its source must say TRACKS"
                )
            content.update(content_line(clip, instruments))
            more = (_notes_column(clip) if notes else {}) | (track_columns(clip) if tracks else {})
            group.append(_row(clip, audio, instruments, sample_rate) | more)
            count += 1
            group_bytes += len(audio)
            if len(group) == rows_per_group or group_bytes >= MAX_GROUP_BYTES:
                writer.write_table(_table(group, table_schema))
                group, group_bytes = [], 0
        if group:  # no empty row group where there are no rows: Hugging Face cannot read one
            writer.write_table(_table(group, table_schema))
    return count, content.hexdigest()


def _table(group: Sequence[Mapping[str, Any]], table_schema: pa.Schema) -> pa.Table:
    """Build a table as `pa.Table.from_pylist` does, but copy the audio only once, into a buffer of its final size."""
    columns = {name: [row[name] for row in group] for name in table_schema.names}
    files = [audio["bytes"] for audio in columns["audio"]]
    ends = np.cumsum([0, *map(len, files)], dtype=np.int32)
    content = pa.Array.from_buffers(pa.binary(), len(files), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(files))])
    paths = pa.array([audio["path"] for audio in columns["audio"]])
    columns["audio"] = pa.StructArray.from_arrays([content, paths], fields=list(table_schema.field("audio").type))
    arrays = [pa.array(columns[field.name], field.type) for field in table_schema]
    return pa.Table.from_arrays(arrays, schema=table_schema)


def _row(clip: Clip, audio: bytes, instruments: Sequence[str], sample_rate: int) -> dict[str, Any]:
    stored = clip.audio
    if stored is None or stored.sample_rate != sample_rate:
        found = None if stored is None else stored.sample_rate
        raise ValueError(f"{clip.id}: expected stored audio at {sample_rate} Hz, got {found}")
    labels = [clip.labels.get(name) for name in instruments]
    return {
        "id": clip.id,
        "audio": {"bytes": audio, "path": f"{stored.pcm_sha256[:16]}.{audio_extension(audio)}"},
        "sample_rate": stored.sample_rate,
        "num_samples": stored.num_samples,
        "source": clip.source,
        "recording": clip.recording,
        "group": clip.group,
        "start_s": clip.start_s,
        "end_s": clip.end_s,
        "presence": [UNKNOWN if label is None else label.presence for label in labels],
        "confidence": [None if label is None else label.confidence for label in labels],
        "label_origin": [None if label is None else label.origin for label in labels],
        "quality": clip.quality,
        "loudness_lufs": stored.loudness_lufs,
        "gain_db": stored.gain_db,
        "license": clip.license,
        "audio_sha256": stored.pcm_sha256,
    }


def _notes_column(clip: Clip) -> dict[str, Any]:
    rounded = (replace(n, onset_s=round(n.onset_s, 6), offset_s=round(n.offset_s, 6)) for n in clip.notes or ())
    return {"notes": None if clip.notes is None else [asdict(note) for note in rounded]}


def audio_extension(audio: bytes) -> str:
    """Detect the file extension of complete audio from its first bytes: flac or wav."""
    return "flac" if audio[:4] == b"fLaC" else "wav"


def open_shard(path: Path) -> pq.ParquetFile:
    """Open a shard for reading.

    Raises:
        IntegrityError: the file is no Parquet file, not of our schema, or cannot be read within bounds.
    """
    return open_copy(path)[0]


def open_copy(path: Path, known: Copy | None = None) -> tuple[pq.ParquetFile, Copy]:
    """Open a shard for reading; and the copy that it is.

    Args:
        path: of the file.
        known: a copy that was opened before, whose pages need no second look.

    Raises:
        IntegrityError: as of `open_shard`.
    """
    shard, copy = open_parquet(path, known)
    with reading(path):
        metadata = shard_metadata(shard.schema_arrow)
        version = metadata.get("schema_version")
        if version != SCHEMA_VERSION:
            raise IntegrityError(f"{path}: schema version {version}, this code reads {SCHEMA_VERSION}")
        instruments = metadata.get("instruments")
        if not isinstance(instruments, list) or not all(isinstance(name, str) for name in instruments):
            raise ValueError("its metadata name no classes")
        found = shard.schema_arrow
        if not found.equals(_columns(len(instruments), "notes" in found.names, "track" in found.names)):
            raise ValueError("its columns are not ours")
    return shard, copy


@functools.lru_cache(maxsize=8)
def _columns(num_classes: int, notes: bool, tracks: bool) -> pa.Schema:
    """Build the schema of a shard with so many classes, without their names."""
    return schema([""] * num_classes, 0, notes=notes, tracks=tracks)


def shard_metadata(table_schema: pa.Schema) -> dict[str, Any]:
    """Parse our own metadata of a shard: schema version and class names; empty where they are not ours."""
    raw = (table_schema.metadata or {}).get(b"tutti", b"{}")
    parsed = json.loads(raw)
    return parsed if isinstance(parsed, dict) else {}


def shard_instruments(path: Path) -> list[str]:
    """Read the class names of a shard, in the order of its label columns."""
    return list(shard_metadata(open_shard(path).schema_arrow)["instruments"])


def extra_columns(path: Path) -> list[str]:
    """List the columns of a shard that not all datasets have."""
    return [name for name in open_shard(path).schema_arrow.names if name in ("notes", *TRACK_NAMES)]


def shard_table(
    shard: pq.ParquetFile, path: Path, columns: Sequence[str] | None = None, *, group: int | None = None
) -> pa.Table:
    """Read and check columns (None: all) of an open shard, or of one of its row groups.

    Raises:
        IntegrityError: they cannot be read, or break what they mean; the message names file, clip and column.
    """
    wanted = None if columns is None else list(columns)
    with reading(path, "its rows cannot be read" if group is None else f"row group {group} cannot be read"):
        if group is None:
            table = shard.read(columns=wanted, use_threads=False)
        else:
            table = shard.read_row_group(group, columns=wanted, use_threads=False)
        check_rows(path, table)
    return table


def read_groups(
    path: Path, columns: Sequence[str] | None = None, shard: pq.ParquetFile | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Read rows of a shard as dictionaries, row group by row group.

    Args:
        path: of the shard.
        columns: to read; None: all.
        shard: the open file; None: it is opened.

    Raises:
        IntegrityError: as of `open_shard` and `shard_table`; or ids do not ascend.
    """
    last_id = ""
    with open_shard(path) if shard is None else contextlib.nullcontext(shard) as file:
        for index in range(file.num_row_groups):
            rows = shard_table(file, path, columns, group=index).to_pylist()
            if rows and "id" in rows[0]:
                if rows[0]["id"] <= last_id:
                    raise IntegrityError(
                        f"{path}: clip {rows[0]['id']}: follows {last_id}, ids must ascend; run pipelines.verify"
                    )
                last_id = rows[-1]["id"]
            yield rows


def read_shard(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Read rows of a shard as dictionaries, one row group in memory at a time; raises as `read_groups`."""
    for rows in read_groups(path, columns):
        yield from rows


def content_digest(path: Path) -> str:
    """Compute the content digest of a shard file from its rows; the audio is decoded and hashed again.

    Raises:
        IntegrityError: the audio of a row is not what its digest says.
    """
    instruments = shard_instruments(path)
    digest = hashlib.sha256()
    columns = ["id", "audio", "sample_rate", "num_samples", "audio_sha256", "presence", "confidence", "label_origin"]
    for row in read_shard(path, [*columns, *extra_columns(path)]):
        check_audio(path.name, row)
        digest.update(content_of_row(row, instruments))
    return digest.hexdigest()
