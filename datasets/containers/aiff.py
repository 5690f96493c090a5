"""AIFF and AIFF-C (Apple, 1989 and 1991): the frames that `COMM` counts, and the bytes that `SSND` holds."""

import math
import struct
from dataclasses import dataclass

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.sizes import MOST_CHUNKS, is_lacking, is_placeholder, next_chunk

_PLAIN = b"NONE sowt twos raw  in24 in32 42ni 23ni fl32 FL32 fl64 FL64 ulaw ULAW alaw ALAW".ljust(84)
_BITS = {b"fl32": 32, b"FL32": 32, b"fl64": 64, b"FL64": 64, b"ulaw": 8, b"ULAW": 8, b"alaw": 8, b"ALAW": 8}
_BITS |= {b"in24": 24, b"42ni": 24, b"in32": 32, b"23ni": 32}
_UNCOMPRESSED = frozenset(_PLAIN[place : place + 4] for place in range(0, 80, 5))


@dataclass(frozen=True)
class _Common:
    num_frames: int
    frame: int  # bytes; 0: compressed
    sample_rate: int | None


def claim_of_aiff(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of an AIFF file that begins at `start`."""
    if data[start + 8 : start + 12] not in (b"AIFF", b"AIFC"):
        return None
    common: _Common | None = None
    sound: tuple[int, int] | None = None  # first byte and claimed size
    position = start + 12
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            break
        kind, size = struct.unpack_from(">4sI", data, position)
        position += 8
        if kind == b"COMM":
            common = _common(data, position, size, data[start + 8 : start + 12] == b"AIFC")
        elif kind == b"SSND":
            offset = struct.unpack_from(">I", data, position)[0] if position + 8 <= len(data) else 0
            offset = offset if offset < size else 0
            sound = (position + 8 + offset, size - 8 - offset)
            if is_placeholder(size):
                break
        if common is not None and sound is not None:
            break
        position = next_chunk(data, position + size, start)
    if sound is None or common is None:
        return Claim("aiff", None, breaks_off=True) if common is not None or sound is not None else None
    return _claim(*sound, len(data), common)


def _common(data: bytes, position: int, size: int, compressed: bool) -> _Common:
    channels, num_frames, bits = struct.unpack_from(">HIH", data, position)
    kind = data[position + 18 : position + 22] if compressed and size >= 22 else b"NONE"
    frame = channels * -(-_BITS.get(kind, bits) // 8) if kind in _UNCOMPRESSED else 0
    return _Common(num_frames, frame, extended(data[position + 8 : position + 18]))


def extended(content: bytes) -> int | None:
    """Convert a number of 80 bits (IEEE 754 extended), a rate in Hz, to an integer; None: no rate."""
    exponent, mantissa = struct.unpack(">HQ", content)
    if not mantissa or exponent >= 16_383 + 32:
        return None
    return round(math.ldexp(mantissa, exponent - 16_383 - 63)) or None


def _claim(first: int, size: int, end: int, common: _Common) -> Claim:
    there = end - first
    counted = common.num_frames * common.frame
    sizes = [claimed for claimed, raw in ((size, size), (counted, common.num_frames)) if not is_placeholder(raw)]
    sizes = [claimed for claimed in sizes if claimed > 0]
    if not sizes:
        return Claim("aiff", None, breaks_off=False, sample_rate=common.sample_rate)
    claimed = min(sizes)  # two that disagree: what both promise
    lacking = is_lacking(claimed, there, common.frame, end, end - 8)
    held = claimed if lacking else min(claimed, there)
    num_samples = held // common.frame if common.frame else None
    return Claim("aiff", num_samples, breaks_off=lacking, sample_rate=common.sample_rate)
