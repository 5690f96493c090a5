"""Stems and mixes of songs: what sounds when, and what a window of it is labelled."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from tutti.datasets.clip_types import TrackEntry
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Seconds, Sounding, Track


def presence_between(
    soundings: Iterable[Sounding],
    start_s: Seconds,
    end_s: Seconds,
    instruments: Sequence[str],
    *,
    min_overlap_s: Seconds = 0.0,
) -> list[int]:
    """Label a window of a stem, of a mix, or of several stems that are added up.

    An instrument is present where a stem that has it sounds, and absent where none that sounds may have it.

    Args:
        soundings: of the stems, in the time of the window.
        start_s: of the window.
        end_s: of the window.
        instruments: the classes, in the order of the answer.
        min_overlap_s: a stem sounds in the window if it does so for longer than this.

    Returns:
        One of PRESENT, ABSENT, UNKNOWN per instrument.
    """
    present: set[str] = set()
    unknown: set[str] = set()
    for sounding in soundings:
        if overlap_s(sounding, start_s, end_s) > min_overlap_s:
            present.update(sounding.present)
            unknown.update(sounding.unknown)
    return [PRESENT if name in present else UNKNOWN if name in unknown else ABSENT for name in instruments]


def overlap_s(sounding: Sounding, start_s: Seconds, end_s: Seconds) -> Seconds:
    """Add up for how many seconds of a window a stem sounds."""
    return sum(max(0.0, min(end, end_s) - max(onset, start_s)) for onset, end in sounding.spans)


def track_entry(track: Track) -> TrackEntry:
    """Write a track as a manifest has it: without what is not known."""
    return cast(TrackEntry, {name: value for name, value in asdict(track).items() if value})


def track_of_entry(entry: Mapping[str, Any]) -> Track:
    """Read the same again."""
    return Track(**{"stem": None, **entry})


def track_digest(track: Track, soundings: Iterable[Sounding] | None) -> str:
    """Hash a track and what sounds when (sha256), times to the microsecond."""
    sounding = [
        [one.stem, [[round(onset, 6), round(end, 6)] for onset, end in one.spans], list(one.present), list(one.unknown)]
        for one in soundings or ()
    ]
    content = [track_entry(track), sounding]
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
