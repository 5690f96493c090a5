"""MP4, M4A and QuickTime (ISO 14496-12): complete where all bytes of the samples of its tracks of sound are there.

Sizes of boxes say nothing of that: what stands behind the last box may be a tag, and a picture may be cut where the
sound is not.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.containers.claim import Claim

_MOST_BOXES = 1 << 18
_MOST_SAMPLES = 1 << 22  # of a table: 24 h of AAC have 4 million
_MOST_EDITS = 1 << 12
_PARENTS = frozenset({b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf"})
FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"})

Box = tuple[bytes, int, int]  # kind, first byte of its content, the byte after its last


@dataclass
class _Track:
    """A track of sound."""

    number: int = 0
    time_scale: int = 0  # ticks per s
    num_ticks: int = 0  # of all its samples
    declared_ticks: int = 0  # of a file in fragments, where it says so
    last_tick: int = 0  # duration of its last samples: what an edit list may leave out
    edits: tuple[int, int] | None = None  # first tick that is played, and the movie's ticks that are
    end: int = 0  # byte behind its last sample
    is_sound: bool = False


@dataclass
class _Movie:
    tracks: list[_Track] = field(default_factory=list)
    has_moov: bool = False
    in_fragments: bool = False
    cut: bool = False  # a fragment lacks bytes
    time_scale: int = 0
    declared: int = 0  # duration of all fragments, in units of time_scale
    by_number: dict[int, _Track] = field(default_factory=dict)
    defaults: dict[int, tuple[int, int]] = field(default_factory=dict)  # duration and size of samples, by track


def claim_of_mp4(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of an MP4 file: the tables of its tracks of sound."""
    movie = _Movie()
    for kind, first, last in _boxes(data, start, len(data)):
        if kind == b"moov" and last <= len(data):
            movie.has_moov = True
            _read_movie(data, first, last, movie)
        elif kind == b"sidx":
            _read_index(data, first, movie)
        elif kind == b"moof" and (movie.in_fragments or not movie.has_moov):
            _read_fragment(data, first, last, movie)
    if not movie.has_moov:
        return Claim("mp4", None, breaks_off=True)
    heard = [track for track in movie.tracks if track.time_scale]
    if not heard:
        return Claim("mp4", None, breaks_off=False)
    shortest = min(heard, key=lambda track: track.num_ticks / track.time_scale)
    broken = movie.cut or any(_lacks(track, movie, len(data)) for track in heard)
    return Claim("mp4", _played(shortest, movie), broken, sample_rate=shortest.time_scale)


def _lacks(track: _Track, movie: _Movie, end: int) -> bool:
    """Whether bytes of a track are not there, or fragments that the file declares."""
    if track.end > end:
        return True
    if not movie.in_fragments:
        return False
    held_s = track.num_ticks / track.time_scale
    declared_s = track.declared_ticks / track.time_scale
    if movie.time_scale:
        declared_s = max(declared_s, movie.declared / movie.time_scale)
    return held_s < declared_s - max(0.1, 4 * track.last_tick / track.time_scale)


def _played(track: _Track, movie: _Movie) -> int | None:
    """Compute the samples that any decoder plays, in ticks: what the edit list leaves, give or take a packet."""
    played = track.num_ticks
    if track.edits is not None:
        first, duration = track.edits
        played -= first
        if duration and movie.time_scale and not movie.in_fragments:
            played = min(played, duration * track.time_scale // movie.time_scale)
    elif movie.in_fragments:
        played -= 2 * track.last_tick
    return max(0, played - track.last_tick) or None


def _boxes(data: bytes, position: int, end: int) -> Iterator[Box]:
    """Yield the boxes of a stretch; the last may claim to end behind it. Size 0: up to the end; 1: a long size."""
    for _ in range(_MOST_BOXES):
        if position + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        first = position + 8
        if size == 1 and position + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, first)
            first += 8
        last = end if size == 0 else position + size
        if last < first:
            return
        yield kind, first, last
        position = last


def _inside(data: bytes, first: int, last: int, depth: int = 0) -> Iterator[Box]:
    for kind, begin, end in _boxes(data, first, min(last, len(data))):
        yield kind, begin, min(end, last)
        if kind in _PARENTS and depth < 8:
            yield from _inside(data, begin, min(end, last), depth + 1)


def _read_movie(data: bytes, first: int, last: int, movie: _Movie) -> None:
    for kind, begin, end in _boxes(data, first, last):
        if kind == b"trak":
            track = _track(data, begin, min(end, last))
            movie.tracks += [track] if track.is_sound else []
            movie.by_number |= {track.number: track} if track.is_sound else {}
        elif kind == b"mvhd":
            movie.time_scale = _header_times(data, begin)[0]
        elif kind == b"mvex":
            movie.in_fragments = True
            for inner, at, _ in _boxes(data, begin, min(end, last)):
                if inner == b"trex":
                    number, _, duration, size = struct.unpack_from(">4I", data, at + 4)
                    movie.defaults[number] = (duration, size)


def _header_times(data: bytes, at: int) -> tuple[int, int]:
    """Read time scale and duration of `mvhd` or `mdhd`."""
    if data[at] == 1:
        scale, duration = struct.unpack_from(">IQ", data, at + 20)
        return scale, 0 if duration == (1 << 64) - 1 else duration
    scale, duration = struct.unpack_from(">II", data, at + 12)
    return scale, 0 if duration == (1 << 32) - 1 else duration


def _track(data: bytes, first: int, last: int) -> _Track:
    track, tables = _Track(), dict[bytes, Box]()
    for kind, begin, end in _inside(data, first, last):
        if kind == b"tkhd":
            (track.number,) = struct.unpack_from(">I", data, begin + (20 if data[begin] == 1 else 12))
        elif kind == b"mdhd":
            track.time_scale, track.declared_ticks = _header_times(data, begin)
        elif kind == b"elst":
            track.edits = _edits(data, begin, end)
        elif kind == b"hdlr":
            track.is_sound = track.is_sound or data[begin + 8 : begin + 12] == b"soun"
        elif kind in (b"stts", b"stsz", b"stsc", b"stco", b"co64", b"stz2"):
            tables.setdefault(kind, (kind, begin, end))
    if track.is_sound:
        _measure(data, tables, track)
    return track


def _edits(data: bytes, first: int, last: int) -> tuple[int, int] | None:
    """Read an edit list (8.6.6): the first tick of its first edit that is not empty, and the duration of all."""
    version, (count,) = data[first], struct.unpack_from(">I", data, first + 4)
    form, width = (">Qq4x", 20) if version == 1 else (">Ii4x", 12)
    begins, total = None, 0
    for row in range(min(count, (last - first - 8) // width, _MOST_EDITS)):
        duration, time = struct.unpack_from(form, data, first + 8 + row * width)
        if time >= 0:
            begins = time if begins is None else begins
            total += duration
    return None if begins is None else (begins, total)


def _table(data: bytes, box: Box, columns: int, width: int = 4, skip: int = 4) -> NDArray[np.int64]:
    """Read a table of big-endian numbers (num_rows, columns) as int64, as far as its box holds it."""
    _, first, last = box
    (count,) = struct.unpack_from(">I", data, first + skip)
    begin = first + skip + 4
    count = max(0, min(count, (min(last, len(data)) - begin) // (columns * width), _MOST_SAMPLES))
    return np.frombuffer(data, f">u{width}", count * columns, begin).reshape(-1, columns).astype(np.int64)


def _measure(data: bytes, tables: dict[bytes, Box], track: _Track) -> None:
    """Compute the duration of a track and the byte at which its last sample ends."""
    if b"stts" in tables:
        times = _table(data, tables[b"stts"], 2)
        track.num_ticks = int((times[:, 0].astype(float) * times[:, 1]).sum())
        track.last_tick = int(times[:, 1].max(initial=0)) if len(times) else 0
    places = tables.get(b"stco") or tables.get(b"co64")
    if places is None or b"stsc" not in tables or b"stsz" not in tables:
        return
    chunks = _table(data, places, 1, 4 if places[0] == b"stco" else 8)[:, 0]
    runs = _table(data, tables[b"stsc"], 3)
    (same,) = struct.unpack_from(">I", data, tables[b"stsz"][1] + 4)
    (count,) = struct.unpack_from(">I", data, tables[b"stsz"][1] + 8)
    if not len(chunks) or not len(runs) or not count:
        return
    firsts = np.clip(runs[:, 0] - 1, 0, len(chunks))
    repeats = np.maximum(np.diff(np.append(firsts, len(chunks))), 0)
    held = np.minimum(np.repeat(runs[:, 1], repeats), count)[: len(chunks)]  # samples of each chunk
    chunks = chunks[: len(held)]
    behind = np.minimum(np.cumsum(held), count)
    before = np.concatenate([[0], behind[:-1]])
    if same:
        sizes = (behind - before) * same
    else:
        each = _table(data, tables[b"stsz"], 1, skip=8)[:, 0]
        total = np.concatenate([[0], np.cumsum(each)])
        sizes = total[np.minimum(behind, len(each))] - total[np.minimum(before, len(each))]
    track.end = int((chunks + sizes)[sizes > 0].max(initial=0))


def _read_index(data: bytes, at: int, movie: _Movie) -> None:
    """Add up the durations of a segment index (8.16.3): a file in fragments declares them at its beginning."""
    version = data[at]
    (scale,) = struct.unpack_from(">I", data, at + 8)
    at += 12 + (16 if version else 8)
    (count,) = struct.unpack_from(">H", data, at + 2)
    entries = np.frombuffer(data, ">u4", count * 3, at + 4).reshape(-1, 3).astype(np.int64)
    if count and scale and not (entries[:, 0] >> 31).any() and not movie.declared:
        movie.time_scale, movie.declared = scale, int(entries[:, 1].sum())


def _read_fragment(data: bytes, first: int, last: int, movie: _Movie) -> None:
    """Add the samples of a fragment to its tracks; a fragment whose bytes lack is cut."""
    start = first - 8
    if last > len(data):
        movie.cut = True
        return
    for kind, begin, end in _boxes(data, first, last):
        if kind == b"traf":
            _read_track_fragment(data, begin, min(end, last), start, movie)


def _read_track_fragment(data: bytes, first: int, last: int, start: int, movie: _Movie) -> None:
    track, base, duration, size = None, start, 0, 0
    for kind, at, end in _boxes(data, first, last):
        if kind == b"tfhd":
            flags, number = struct.unpack_from(">II", data, at)
            track = movie.by_number.get(number)
            duration, size = movie.defaults.get(number, (0, 0))
            at += 8
            if flags & 1:
                (base,) = struct.unpack_from(">Q", data, at)
            at += (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
            if flags & 8:
                (duration,) = struct.unpack_from(">I", data, at)
                at += 4
            if flags & 16:
                (size,) = struct.unpack_from(">I", data, at)
        elif kind == b"trun" and track is not None:
            base = _read_run(data, at, min(end, last), base, duration, size, track)


def _read_run(data: bytes, at: int, last: int, base: int, duration: int, size: int, track: _Track) -> int:
    """Add the samples of a run to its track; return the byte behind them."""
    flags, count = struct.unpack_from(">II", data, at)
    flags &= 0xFFFFFF
    at += 8
    offset = 0
    if flags & 1:
        (offset,) = struct.unpack_from(">i", data, at)
        at += 4
    at += 4 if flags & 4 else 0
    columns = [flag for flag in (0x100, 0x200, 0x400, 0x800) if flags & flag]
    count = min(count, _MOST_SAMPLES)
    rows = np.zeros((count, 0), np.int64)
    if columns:
        count = max(0, min(count, (last - at) // (4 * len(columns))))
        rows = np.frombuffer(data, ">u4", count * len(columns), at).reshape(count, -1).astype(np.int64)
    ticks = int(rows[:, columns.index(0x100)].sum()) if 0x100 in columns else count * duration
    num_bytes = int(rows[:, columns.index(0x200)].sum()) if 0x200 in columns else count * size
    track.num_ticks += ticks
    track.last_tick = max(track.last_tick, ticks // count if count else 0)
    track.end = max(track.end, base + offset + num_bytes)
    return base + offset + num_bytes
