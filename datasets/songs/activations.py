"""Spans in which stems sound, from MedleyDB's annotation files.

    Annotations/Activation_Confidence/v2/<id>_ACTIVATION_CONF.lab      time,S01,S02
                                                                       0.0000,0.9981,0.0213
    Annotations/.../<id>_SOURCEID.lab                                  start_time,end_time,instrument_label
                                                                       0.0929,66.1304,electric bass

The first give each stem's confidence every 2048 samples at 44.1 kHz; it sounds from .5 on (Bittner et al., ISMIR 2014,
section 3.3). The second name instruments, not stems.
"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import Seconds

HOP_S: Seconds = 2048 / 44_100  # of the frames
THRESHOLD = 0.5  # confidence from which on a stem sounds; ISMIR 2014, section 3.3
MAX_BYTES = 64 << 20  # an hour of 100 stems has 50 MB

Spans = tuple[tuple[Seconds, Seconds], ...]


def read_activations(data: bytes, name: str) -> Mapping[str, Spans]:
    """Read the spans of each stem from a file of activation confidences.

    Args:
        data: bytes of the file.
        name: of the file, for errors.

    Raises:
        IntegrityError: it is no such table; the message names file and line.
    """
    rows = _rows(data, name)
    header = next(rows, (0, ["nothing"]))[1]
    if header[0] != "time" or len(header) < 2 or len(set(header)) < len(header):
        raise IntegrityError(f"{name}:1: expected time,S01,S02,..., got {','.join(header)[:100]}")
    active: dict[str, list[Seconds]] = {stem: [] for stem in header[1:]}
    before_s = -math.inf
    for line, cells in rows:
        if len(cells) != len(header):
            raise IntegrityError(f"{name}:{line}: has {len(cells)} cells, the header {len(header)}")
        time_s, *confidences = (_number(cell, name, line) for cell in cells)
        if time_s <= before_s:
            raise IntegrityError(f"{name}:{line}: {time_s} s is not after the line before")
        before_s = time_s
        for stem, confidence in zip(header[1:], confidences, strict=True):
            if confidence >= THRESHOLD:
                active[stem].append(time_s)
    return {stem: _spans(times) for stem, times in active.items()}


def read_source_ids(data: bytes, name: str) -> Mapping[str, Spans]:
    """Read the spans of each instrument from a file of source ids.

    Raises:
        IntegrityError: it is no such table; the message names file and line.
    """
    rows = _rows(data, name)
    header = next(rows, (0, ["nothing"]))[1]
    if header != ["start_time", "end_time", "instrument_label"]:
        raise IntegrityError(f"{name}:1: expected start_time,end_time,instrument_label, got {','.join(header)[:100]}")
    spans: dict[str, list[tuple[Seconds, Seconds]]] = defaultdict(list)
    for line, cells in rows:
        if len(cells) != len(header):
            raise IntegrityError(f"{name}:{line}: has {len(cells)} cells, the header {len(header)}")
        start_s, end_s = _number(cells[0], name, line), _number(cells[1], name, line)
        if end_s < start_s:
            raise IntegrityError(f"{name}:{line}: ends at {end_s} s, before it begins")
        if end_s > start_s:
            spans[cells[2]].append((start_s, end_s))
    return {instrument: _joined(found) for instrument, found in spans.items()}


def _rows(data: bytes, name: str) -> Iterator[tuple[int, list[str]]]:
    if len(data) > MAX_BYTES:
        raise IntegrityError(f"{name}: has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for cells in reader:
            if cells:
                yield reader.line_num, [cell.strip() for cell in cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise IntegrityError(f"{name}: is no table ({error})") from error


def _number(cell: str, name: str, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not 0 <= value <= 1e6 or len(cell) > 40:
        raise IntegrityError(f"{name}:{line}: expected a number from 0 on, got {cell[:40]!r}")
    return value


def _spans(times_s: list[Seconds]) -> Spans:
    return _joined([(time_s, time_s + HOP_S) for time_s in times_s])


def _joined(spans: list[tuple[Seconds, Seconds]]) -> Spans:
    """Join spans that touch: times are rounded to .1 ms, so frames that follow one another may lie 1 ms apart."""
    joined: list[tuple[Seconds, Seconds]] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s <= joined[-1][1] + 1e-3:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return tuple((round(start_s, 6), round(end_s, 6)) for start_s, end_s in joined)
