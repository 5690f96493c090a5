"""Rows of a shard as they must be: which columns may be empty, and between which bounds values lie.

    check_rows(path, table)       raises IntegrityError: FILE: clip ID: COLUMN VALUE, expected ...

The schema says of what type a column is; this says the rest, for a shard may be of unknown origin.
"""

import itertools
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import DRUMS, UNKNOWN
from tutti.datasets.shard_tracks import wrong_tracks

Mask: TypeAlias = NDArray[np.bool_]

MAX_SAMPLES = 1 << 27  # of a clip: the 256 MiB of 16 bits that `prepare` makes at most
SAMPLE_RATES_HZ = (1_000, 192_000)  # as `prepare` makes them
_MAX_DB = 300.0  # of loudness and gain; 16 bits have 96
_MAX_SECONDS = 1e7  # of a recording: 115 days
_ROUNDING = 1e-6  # of a share that float32 holds

_NEVER_NULL = (
    "id", "audio", "sample_rate", "num_samples", "source", "recording", "group", "start_s", "presence", "confidence",
    "label_origin", "gain_db", "license", "audio_sha256",
)  # fmt: skip
# Lowest, highest, and what is expected, in words.
_RANGES: dict[str, tuple[float, float, str]] = {
    "sample_rate": (*SAMPLE_RATES_HZ, "1,000 to 192,000 Hz"),
    "num_samples": (1, MAX_SAMPLES, f"1 to {MAX_SAMPLES:,} samples"),
    "start_s": (0.0, _MAX_SECONDS, "seconds of a recording"),
    "end_s": (0.0, _MAX_SECONDS, "seconds of a recording"),
    "quality": (-_ROUNDING, 1 + _ROUNDING, "0 to 1"),
    "loudness_lufs": (-_MAX_DB, _MAX_DB, "a loudness"),
    "gain_db": (-_MAX_DB, _MAX_DB, "a gain"),
}
_LABEL_RANGES: dict[str, tuple[float, float, str]] = {
    "presence": (-1, 1, "1, 0 or -1"),
    "confidence": (-_ROUNDING, 1 + _ROUNDING, "0 to 1"),
}
_NOTE_RANGES: dict[str, tuple[float, float]] = {
    "onset_s": (-_MAX_SECONDS, _MAX_SECONDS),
    "offset_s": (-_MAX_SECONDS, _MAX_SECONDS),
    "pitch": (0, 127),
    "program": (0, DRUMS),
    "velocity": (0, 127),
}


def check_rows(path: Path, table: pa.Table) -> None:
    """Refuse rows of a shard that break what its columns mean; columns that are not there are not missed.

    Raises:
        IntegrityError: the message names file, clip, column and value.
        pyarrow.ArrowInvalid: text that is not UTF-8, or worse.
    """
    table.validate(full=True)
    columns = {name: table.column(name) for name in table.column_names}
    columns |= {name: column.combine_chunks() for name, column in columns.items() if name != "audio"}
    for name in _NEVER_NULL:
        if name in columns and columns[name].null_count:
            _refuse(path, table, np.asarray(pc.is_null(columns[name])), name, "a value")
    for name, (low, high, expected) in _RANGES.items():
        if name in columns:
            _check_range(path, table, columns[name], name, low, high, expected)
    if "audio_sha256" in columns:
        right = pc.match_substring_regex(columns["audio_sha256"], "^[0-9a-f]{64}$")
        if _any(pc.invert(right)):
            _refuse(path, table, ~_mask(right), "audio_sha256", "64 hex digits")
    if "id" in columns:
        _check_order(path, columns["id"].to_pylist())
    _check_labels(path, table, columns)
    if "notes" in columns:
        _check_notes(path, table, columns["notes"])
    if "track" in columns and "sounding" in columns and (found := wrong_tracks(table)) is not None:
        rows, expected = found
        raise IntegrityError(f"{path}: clip {_clip(table, rows)}: its song, expected {expected}; run pipelines.verify")


def _any(truths: pa.Array | pa.ChunkedArray) -> bool:
    """Whether any of them is true; null is not."""
    return bool(pc.any(truths).as_py())


def _is_outside(values: pa.Array, low: float, high: float) -> bool:
    """Whether any value is not within bounds, NaN among them; null is in order.

    Looks at their extremes, and compares these in Python: a number given to a kernel of Arrow's would import pandas.
    """
    extremes = pc.min_max(values).as_py()
    if extremes["min"] is not None and not (low <= extremes["min"] and extremes["max"] <= high):
        return True
    return pa.types.is_floating(values.type) and _any(pc.is_nan(values))  # which the extremes leave out


def _mask(truths: pa.Array) -> Mask:
    """Convert an array of truth values to a mask; null is False."""
    mask: Mask = truths.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return mask


def _outside(values: pa.Array, low: float, high: float) -> Mask:
    """Mask values outside of bounds, NaN among them; null counts as inside."""
    inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
    return ~_mask(inside.fill_null(True))


def _check_range(
    path: Path, table: pa.Table, values: pa.Array, name: str, low: float, high: float, expected: str
) -> None:
    if not _is_outside(values, low, high):
        return
    if name == "num_samples" and (empty := _mask(pc.less(values, 1))).any():
        raise IntegrityError(f"{path}: clip {_clip(table, empty)}: holds no samples; run pipelines.verify")
    _refuse(path, table, _outside(values, low, high), name, expected)


def _check_order(path: Path, ids: list[str]) -> None:
    if "" in ids:
        raise IntegrityError(f"{path}: a clip without an id; run pipelines.verify")
    for one, other in itertools.pairwise(ids):
        if other <= one:
            raise IntegrityError(f"{path}: clip {other}: follows {one}, ids must ascend; run pipelines.verify")


def _check_labels(path: Path, table: pa.Table, columns: dict[str, pa.Array]) -> None:
    flat = {name: columns[name].flatten() for name in ("presence", "confidence", "label_origin") if name in columns}
    for name, (low, high, expected) in _LABEL_RANGES.items():
        if name in flat:
            if _is_outside(flat[name], low, high):
                _refuse_labels(path, table, _outside(flat[name], low, high), name, expected)
            if name == "presence" and flat[name].null_count:
                _refuse_labels(path, table, _mask(pc.is_null(flat[name])), name, expected)
    if "presence" in flat and "label_origin" in flat:
        unsaid = pc.is_null(flat["label_origin"])
        if _is_outside(flat["presence"].filter(unsaid), UNKNOWN, UNKNOWN):
            known = pc.not_equal(flat["presence"], UNKNOWN)
            _refuse_labels(
                path, table, _mask(pc.and_(known, unsaid)), "label_origin", "who says so of every known label"
            )


def _refuse_labels(path: Path, table: pa.Table, wrong: Mask, name: str, expected: str) -> NoReturn:
    """Name the first clip with a wrong label, and what is wrong of its labels."""
    wrong_NC = wrong.reshape(len(table), -1)
    row = int(np.flatnonzero(wrong_NC.any(axis=1))[0])
    labels = table.column(name)[row].as_py()
    strange = sorted({labels[number] for number in np.flatnonzero(wrong_NC[row]).tolist()}, key=_order)
    raise IntegrityError(f"{path}: clip {_id(table, row)}: {name} {strange}, expected {expected}; run pipelines.verify")


def _order(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)


def _check_notes(path: Path, table: pa.Table, notes: pa.ListArray) -> None:
    if isinstance(notes, pa.ChunkedArray):  # of no rows
        return
    values = notes.flatten()
    parts = {name: values.field(name) for name in _NOTE_RANGES}
    if (
        values.null_count
        or any(part.null_count for part in parts.values())
        or any(_is_outside(part, *_NOTE_RANGES[name]) for name, part in parts.items())
    ):
        wrong = _mask(pc.is_null(values))
        for name, part in parts.items():
            wrong |= _outside(part, *_NOTE_RANGES[name]) | _mask(pc.is_null(part))
        notes_of_clip = notes.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        clip_of_note = np.repeat(np.arange(len(notes)), notes_of_clip)
        clips = np.zeros(len(table), bool)
        clips[clip_of_note[wrong]] = True
        raise IntegrityError(
            f"{path}: clip {_clip(table, clips)}: notes, expected times, pitch, program and velocity of MIDI; "
            "run pipelines.verify"
        )


def _refuse(path: Path, table: pa.Table, wrong: Mask, name: str, expected: str) -> None:
    """Raise where any row is wrong, and name the first."""
    if not wrong.any():
        return
    value = table.column(name)[int(np.flatnonzero(wrong)[0])].as_py()
    said = "none" if value is None else str(value)[:80]
    raise IntegrityError(
        f"{path}: clip {_clip(table, wrong)}: {name} {said}, expected {expected}; run pipelines.verify"
    )


def _clip(table: pa.Table, rows: Mask) -> str:
    return _id(table, int(np.flatnonzero(rows)[0]))


def _id(table: pa.Table, row: int) -> str:
    """Return a row's id, or `of row NUMBER` where it has none."""
    found = table.column("id")[row].as_py() if "id" in table.column_names else None
    return f"of row {row}" if found is None else str(found)
