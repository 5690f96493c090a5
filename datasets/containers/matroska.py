"""Matroska and WebM (RFC 9559), made of elements (RFC 8794): whether the clusters, which hold the sound, are whole.

A segment and its clusters may be of unknown size, as live streams have them: then the last block tells.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tutti.datasets.containers.claim import Claim

_SEGMENT, _CLUSTER, _INFO = 0x18538067, 0x1F43B675, 0x1549A966
_TIMESTAMP, _CHECKSUM, _SCALE = 0xE7, 0xBF, 0x2AD7B1
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_OF_CLUSTER = frozenset(  # beside these: EncryptedBlock, Position, PrevSize, SilentTracks, Void
    {_SIMPLE_BLOCK, _BLOCK_GROUP, _TIMESTAMP, _CHECKSUM, 0xAF, 0xA7, 0xAB, 0x5854, 0xEC}
)
_TOP = frozenset(  # what ends a cluster of unknown size: SeekHead, Info, Tracks, Cues, Chapters, Tags, Attachments
    {_CLUSTER, 0x114D9B74, _INFO, 0x1654AE6B, 0x1C53BB6B, 0x1043A770, 0x1254C367, 0x1941A469, _SEGMENT, 0x1A45DFA3}
)
_MOST_ELEMENTS = 1 << 20
_NANOSECONDS = 1_000_000_000
_UNTIL_THE_END = 1 << 40  # ticks


@dataclass(frozen=True)
class _Element:
    kind: int
    first: int  # byte of its content
    last: int | None  # byte behind it; None: unknown


def claim_of_matroska(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of a Matroska file: whether the last cluster is whole, and the checksums of clusters."""
    position, segment = start, None
    while segment is None:
        element = _element(data, position)
        if element is None:
            return Claim("matroska", None, breaks_off=True) if position > start else None
        if element.kind == _SEGMENT:
            segment = element
        elif element.last is None:
            return None
        else:
            position = element.last
    return _claim_of_segment(data, segment)


def _claim_of_segment(data: bytes, segment: _Element) -> Claim:
    scale, broken, seen_behind, num_clusters = 1_000_000, False, False, 0
    checksums = True
    times: list[tuple[int, int | None]] = []  # of clusters: first time, and that from which on it is damaged
    end = min(segment.last or len(data), len(data))
    position = segment.first
    for element in _elements(data, segment.first, end):
        last = element.last
        if element.kind == _INFO and last is not None:
            scale = _scale(data, element.first, min(last, end)) or scale
        elif element.kind == _CLUSTER:
            num_clusters += 1
            seen_behind = False
            broken = last is None or last > len(data)
            if last is None:
                last, broken = _end_of_unknown(data, element.first, end)
            time, damaged_from, right = _look_into(data, element.first, last, whole=not broken)
            times.append((time, damaged_from))
            checksums = checksums and right
        elif num_clusters:
            seen_behind = True  # an index or tags: nothing of sound comes behind
        position = last if last is not None else end
    if not broken and not seen_behind and segment.last is not None:
        broken = segment.last > len(data) and (position >= len(data) - 12 or not num_clusters)
    return Claim(
        "matroska",
        None,
        broken or not num_clusters,
        _losses(times),
        _NANOSECONDS // scale or None,
        is_lost_sound_silent=checksums,
    )


def _elements(data: bytes, position: int, end: int) -> Iterator[_Element]:
    """Yield the children of a segment, with clusters of unknown size in one piece."""
    for _ in range(_MOST_ELEMENTS):
        element = _element(data, position)
        if element is None or position >= end:
            return
        yield element
        if element.last is not None:
            position = element.last
        elif element.kind == _CLUSTER:
            position, _ = _end_of_unknown(data, element.first, end)
        else:
            return


def _element(data: bytes, position: int) -> _Element | None:
    """Read id and size at a place; a size of all ones is unknown. None: there is no element."""
    if position + 2 > len(data) or not data[position] & 0xF0:
        return None
    width = 9 - data[position].bit_length()
    kind = int.from_bytes(data[position : position + width], "big")
    at = position + width
    if at >= len(data) or not data[at]:
        return None
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        return None
    size = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = size == (1 << 7 * length) - 1
    return _Element(kind, at + length, None if unknown else at + length + size)


def _end_of_unknown(data: bytes, position: int, end: int) -> tuple[int, bool]:
    """Find the end of a cluster of unknown size, and whether its last block lacks bytes."""
    for _ in range(_MOST_ELEMENTS):
        if position >= end:
            break
        element = _element(data, position)
        if element is None:
            return end, end - position < 12  # a header that is cut; else what is no element: junk behind the end
        if element.kind in _TOP:
            return position, False
        if element.last is None:
            return end, False
        if element.last > end:
            return end, True
        position = element.last
    return min(position, end), False


def _scale(data: bytes, position: int, end: int) -> int | None:
    """Read the nanoseconds of a tick."""
    for element in _elements(data, position, end):
        if element.kind == _SCALE and element.last is not None and element.last - element.first <= 8:
            return int.from_bytes(data[element.first : element.last], "big")
    return None


def _look_into(data: bytes, first: int, last: int, *, whole: bool) -> tuple[int, int | None, bool]:
    """Read the time of a cluster, the time of the last block before what is no part of one, and check its checksum.

    A wrong checksum (RFC 8794, 11.3.1) says nothing of the place: from the beginning on. None: all of it is right.
    """
    position, time, at, right = first, -1, None, True
    while position < last:
        element = _element(data, position)
        if element is None or element.kind not in _OF_CLUSTER or element.last is None or element.last > last:
            return time, (max(time, 0) if at is None else at) if whole else None, right
        if element.kind == _CHECKSUM and element.last == element.first + 4:
            stored = int.from_bytes(data[element.first : element.last], "little")
            right = not whole or zlib.crc32(memoryview(data)[element.last : last]) == stored
        elif element.kind == _TIMESTAMP and element.last - element.first <= 8:
            time = int.from_bytes(data[element.first : element.last], "big")
        elif element.kind in (_SIMPLE_BLOCK, _BLOCK_GROUP):
            block = _element(data, element.first) if element.kind == _BLOCK_GROUP else element
            if block is not None and block.kind in (_SIMPLE_BLOCK, _BLOCK) and block.first + 4 < last:
                # A track of one byte, and a time against the cluster's.
                at = max(time, 0) + int.from_bytes(data[block.first + 1 : block.first + 3], "big", signed=True)
        position = element.last
    return time, None if right else max(time, 0), right


def _losses(times: list[tuple[int, int | None]]) -> tuple[tuple[int, int], ...]:
    """List the stretches, in ticks, of clusters that are damaged: each up to the next."""
    losses, behind = [], None
    for place in range(len(times) - 1, -1, -1):
        time, damaged_from = times[place]
        if damaged_from is not None:
            begin = damaged_from if time >= 0 else max(0, times[place - 1][0] if place else 0)
            losses.append((begin, behind if behind is not None and behind > begin else begin + _UNTIL_THE_END))
        behind = time if time >= 0 else behind
    return tuple(reversed(losses))
