"""Columns of shards for stems and mixes of songs, and what must hold of them.

`track` names the song and the stem of it that a row holds, `sounding` when each of its stems sounds and what is heard
then: a stem has one entry, a mix one for each of its stems.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tutti.datasets.record import Clip, Sounding, Track

TRACK_TYPE = pa.struct(
    [
        ("song", pa.string()),
        ("stem", pa.string()),  # null: the mix
        ("instrument", pa.string()),
        ("family", pa.string()),
        ("artist", pa.string()),
        ("artist_group", pa.string()),
        ("album", pa.string()),
        ("bleed", pa.bool_()),
    ]
)
SOUNDING_TYPE = pa.list_(
    pa.struct(
        [
            ("stem", pa.string()),
            ("spans", pa.list_(pa.struct([("start_s", pa.float64()), ("end_s", pa.float64())]))),
            ("present", pa.list_(pa.string())),
            ("unknown", pa.list_(pa.string())),
        ]
    )
)
TRACK_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (("track", TRACK_TYPE), ("sounding", SOUNDING_TYPE))
TRACK_NAMES = tuple(name for name, _ in TRACK_COLUMNS)
_MAX_SECONDS = 1e7  # of a recording: 115 days


def track_columns(clip: Clip) -> dict[str, Any]:
    """Make the values of both columns, times to the microsecond."""
    if clip.track is None:
        return {"track": None, "sounding": None}
    sounding = [
        {
            "stem": one.stem,
            "spans": [{"start_s": round(onset, 6), "end_s": round(end, 6)} for onset, end in one.spans],
            "present": list(one.present),
            "unknown": list(one.unknown),
        }
        for one in clip.sounding or ()
    ]
    return {"track": asdict(clip.track), "sounding": sounding}


def track_of_row(row: Mapping[str, Any]) -> Track | None:
    """Read the track of a shard row; None where it has none, or the shard has no such column."""
    track = row.get("track")
    return None if track is None else Track(**track)


def sounding_of_row(row: Mapping[str, Any]) -> tuple[Sounding, ...] | None:
    """Read what sounds in a shard row; None as of `track_of_row`."""
    found = row.get("sounding")
    if found is None:
        return None
    return tuple(
        Sounding(
            one["stem"],
            tuple((span["start_s"], span["end_s"]) for span in one["spans"]),
            tuple(one["present"]),
            tuple(one["unknown"]),
        )
        for one in found
    )


def wrong_tracks(table: pa.Table) -> tuple[NDArray[np.bool_], str] | None:
    """Mask the rows whose track or sounding breaks what the columns mean, and say what was expected; None: all is well.

    A track has a song; both columns are null or neither; spans ascend without overlap, within a recording.
    """
    tracks, soundings = (table.column(name).combine_chunks() for name in TRACK_NAMES)
    if not len(table):
        return None
    missing = pc.xor(pc.is_null(tracks), pc.is_null(soundings))
    songs = pc.and_(pc.is_valid(tracks), pc.is_null(pc.struct_field(tracks, "song")))
    wrong = _mask(pc.or_(missing, songs))
    if wrong.any():
        return wrong, "a song, and what sounds of it"
    entries = soundings.flatten()
    row_of_entry = np.repeat(np.arange(len(table)), soundings.value_lengths().fill_null(0).to_numpy())
    parts = [pc.struct_field(entries, name) for name in ("stem", "spans", "present", "unknown")]
    nulls = _mask(pc.is_null(entries))
    for part in parts:
        nulls |= _mask(pc.is_null(part))
    for names in parts[2:]:
        within = np.repeat(np.arange(len(entries)), names.value_lengths().fill_null(0).to_numpy())
        nulls[within[_mask(pc.is_null(names.flatten()))]] = True
    spans = parts[1]
    entry_of_span = np.repeat(np.arange(len(entries)), spans.value_lengths().fill_null(0).to_numpy())
    values = spans.flatten()
    onsets, ends = (
        pc.struct_field(values, name).to_numpy(zero_copy_only=False).astype(float) for name in ("start_s", "end_s")
    )
    inside = (onsets >= 0.0) & (ends > onsets) & (ends <= _MAX_SECONDS)  # NaN, which null becomes, is not
    follows = (entry_of_span[1:] != entry_of_span[:-1]) | (onsets[1:] >= ends[:-1])
    inside[1:] &= follows
    nulls[entry_of_span[~inside]] = True
    wrong = np.zeros(len(table), bool)
    wrong[row_of_entry[nulls]] = True
    return (wrong, "stems with ascending spans in seconds, and classes") if wrong.any() else None


def _mask(truths: pa.Array) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = truths.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return mask
