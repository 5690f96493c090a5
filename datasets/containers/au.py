"""AU (Sun, NeXT): a header of 24 bytes or more, which may say that the size is unknown."""

import struct

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.sizes import is_lacking, is_placeholder

_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # per sample: mu-law, PCM, float, double, A-law


def claim_of_au(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of an AU file that begins at `start`, in either order of bytes."""
    order = ">" if data[start : start + 4] == b".snd" else "<"
    first, size, encoding, rate, channels = struct.unpack_from(f"{order}IIIII", data, start + 4)
    frame, end, there = _BYTES.get(encoding, 0) * channels, len(data), len(data) - start - first
    if is_placeholder(size):
        return Claim("au", None, breaks_off=False, sample_rate=rate or None)
    lacking = is_lacking(size, there, frame, end, end - 8)
    held = size if lacking else max(0, min(size, there))
    return Claim("au", held // frame if frame else None, breaks_off=lacking, sample_rate=rate or None)
