"""Core Audio Format (Apple, 2005): chunks with signed sizes of 64 bits; -1: `data` reaches the end of the file."""

import struct

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.sizes import MOST_CHUNKS, is_lacking, is_placeholder

_CONSTANT = (b"lpcm", b"ulaw", b"alaw")  # each packet is one frame


def claim_of_caf(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of a CAF file: the size of `data`, or the valid frames of its packet table."""
    frame, rate, valid, sound = 0, None, None, None
    position = start + 8
    for _ in range(MOST_CHUNKS):
        if position + 12 > len(data):
            break
        kind, size = struct.unpack_from(">4sq", data, position)
        position += 12
        if kind == b"desc":
            hertz, codec, _, packet = struct.unpack_from(">d4sII", data, position)
            rate = round(hertz) if 0 < hertz < 1 << 31 else None
            frame = packet if codec in _CONSTANT else 0
        elif kind == b"pakt" and size >= 24:
            (valid,) = struct.unpack_from(">q", data, position + 8)
        elif kind == b"data":
            sound = (position + 4, size - 4)  # a counter of edits stands first
            if is_placeholder(size):
                break
        if size < 0:
            break
        position += size
    if sound is None:
        return Claim("caf", None, breaks_off=True) if rate else None
    first, claimed = sound
    there = len(data) - first
    known = not is_placeholder(claimed) or claimed == there
    lacking = known and is_lacking(claimed, there, frame, len(data))
    if frame:
        held = claimed if lacking else min(claimed, there)
        return Claim("caf", held // frame if known else None, breaks_off=lacking, sample_rate=rate)
    return Claim("caf", valid if valid and valid > 0 else None, breaks_off=lacking, sample_rate=rate)
