"""WAV in its forms: RIFF and RIFX (Microsoft, 1991), RF64 and BW64 with sizes of 64 bits (EBU Tech 3306, BS.2088).

A size is believed unless it is that of a writer that could not know it: 0, or the highest that 31 or 32 bits hold less
a header; or unless it counts a few bytes too many, such as its own header.
"""

import struct

from tutti.datasets.containers.claim import Claim

MOST_CHUNKS = 4_096
_PLACEHOLDERS = ((1 << 31, 1 << 16), (1 << 32, 1 << 16), (1 << 63, 1 << 16), (1 << 64, 1 << 16))  # limit, and how near
_FEW_BYTES = 64  # a header more than there is: a WAV's plain one has 44
_UNCOMPRESSED = (1, 3, 6, 7)  # PCM, IEEE float, A-law, mu-law
_EXTENSIBLE = 0xFFFE


def claim_of_riff(data: bytes) -> Claim | None:
    """Read the claim of a WAV: the size of its `data` chunk."""
    if data[8:12] != b"WAVE":
        return None
    order = ">" if data[:4] == b"RIFX" else "<"
    long_size = None
    frame, rate, uncompressed = 0, 0, False
    position = 12
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            return Claim("wav", None, breaks_off=True)
        kind, size = struct.unpack_from(f"{order}4sI", data, position)
        position += 8
        if kind == b"ds64" and size >= 16:
            long_size = struct.unpack_from("<Q", data, position + 8)[0]
        elif kind == b"fmt ":
            code, _channels, rate, _bytes, frame = struct.unpack_from(f"{order}HHIIH", data, position)
            if code == _EXTENSIBLE and size >= 26:
                code = struct.unpack_from(f"{order}H", data, position + 24)[0]
            uncompressed = code in _UNCOMPRESSED
        elif kind == b"data":
            claimed = long_size if size == 0xFFFFFFFF and long_size is not None else size
            return _claim_of_size(claimed, position, len(data), frame if uncompressed else 0, rate)
        position += size + size % 2
    return None


def _claim_of_size(claimed: int, start: int, end: int, frame: int, rate: int) -> Claim:
    """Decide on the size of a `data` chunk that begins at `start` of a file that ends at `end`."""
    there = end - start
    if is_placeholder(claimed) and claimed != there:
        return Claim("wav", None, breaks_off=False)
    lacking = claimed - there
    few = lacking < max(_FEW_BYTES, frame) or claimed in (end, end - 8)  # the size of the file, or that of RIFF
    num_samples = min(claimed, there) // frame if frame else None
    if lacking <= 0 or few:
        return Claim("wav", num_samples, breaks_off=False, sample_rate=rate or None)
    return Claim("wav", claimed // frame if frame else None, breaks_off=True, sample_rate=rate or None)


def is_placeholder(size: int) -> bool:
    """Whether a size is one that writers put where they do not know it: 0, or the top of 31, 32, 63 or 64 bits."""
    return size == 0 or any(limit - near <= size <= limit for limit, near in _PLACEHOLDERS)
