"""Core Audio Format (Apple, 2005): chunks with signed sizes of 64 bits; -1: `data` reaches the end of the file."""

import struct
from collections.abc import Iterator

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.sizes import MOST_CHUNKS, is_lacking, is_placeholder

_CONSTANT = (b"lpcm", b"ulaw", b"alaw")  # each packet is one frame


def chunks_of_caf(data: bytes, start: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, size and first byte of the content of each chunk."""
    position = start + 8
    for _ in range(MOST_CHUNKS):
        if position + 12 > len(data):
            return
        kind, size = struct.unpack_from(">4sq", data, position)
        yield kind, size, position + 12
        if size < 0 or (kind == b"data" and is_placeholder(size)):
            return
        position += 12 + size


def claim_of_caf(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of a CAF file: the size of `data`, or the valid frames of its packet table."""
    frame, rate, valid, sound = 0, None, None, None
    for kind, size, position in chunks_of_caf(data, start):
        if kind == b"desc":
            hertz, codec, _, packet = struct.unpack_from(">d4sII", data, position)
            rate = round(hertz) if 0 < hertz < 1 << 31 else None
            frame = packet if codec in _CONSTANT else 0
        elif kind == b"pakt" and size >= 24:
            (valid,) = struct.unpack_from(">q", data, position + 8)
        elif kind == b"data":
            sound = (position + 4, size - 4)  # a counter of edits stands first
    if sound is None:
        return Claim("caf", None, breaks_off=True) if rate else None
    first, claimed = sound
    there = len(data) - first
    known = not is_placeholder(claimed) or claimed == there
    lacking = known and is_lacking(claimed + 4, there + 4, frame, len(data))
    if frame:
        held = claimed if lacking else min(claimed, there)
        return Claim("caf", held // frame if known else None, breaks_off=lacking, sample_rate=rate)
    return Claim("caf", valid if valid and valid > 0 else None, breaks_off=lacking, sample_rate=rate)
