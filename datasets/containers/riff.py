"""WAV in its forms: RIFF and RIFX (Microsoft, 1991), RF64 and BW64 with sizes of 64 bits (EBU Tech 3306, BS.2088), W64.

The size of `data` alone counts: that of the file is wrong as often as right, and chunks behind the samples are tags.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.sizes import MOST_CHUNKS, is_lacking, is_placeholder, next_chunk

_UNCOMPRESSED = (1, 3, 6, 7)  # PCM, IEEE float, A-law, mu-law
_EXTENSIBLE = 0xFFFE
_W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # of the GUIDs of all chunks but the first
W64_MAGIC = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"


@dataclass(frozen=True)
class _Format:
    frame: int = 0  # bytes of a sample of all channels; 0: compressed
    sample_rate: int | None = None


def chunks_of_riff(data: bytes, start: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, size and first byte of the content of each chunk of a WAV, up to one whose header is cut."""
    order = ">" if data[start : start + 4] == b"RIFX" else "<"
    position = start + 12
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            return
        kind, size = struct.unpack_from(f"{order}4sI", data, position)
        yield kind, size, position + 8
        position = next_chunk(data, position + 8 + size, start)


def chunks_of_w64(data: bytes, start: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, size and first byte of the content of each chunk of a Wave64 file: the sizes count their headers."""
    position = start + 40  # GUID and size of the file, GUID of "wave"
    for _ in range(MOST_CHUNKS):
        if position + 24 > len(data):
            return
        kind, tail, size = struct.unpack_from("<4s12sQ", data, position)
        if tail != _W64_TAIL:
            return
        yield kind, size - 24, position + 24
        position += max(24, size + -size % 8)


def claim_of_riff(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of a WAV that begins at `start`: the size of its `data` chunk."""
    if data[start + 8 : start + 12] != b"WAVE":
        return None
    order = ">" if data[start : start + 4] == b"RIFX" else "<"
    long_size: int | None = None
    found = _Format()
    for kind, size, position in chunks_of_riff(data, start):
        if kind == b"ds64" and size >= 16:
            (long_size,) = struct.unpack_from("<Q", data, position + 8)
        elif kind == b"fmt ":
            found = _format(data, position, size, order)
        elif kind == b"data":
            if size == 0 and _is_chain(data, position, order):
                return Claim("wav", 0, breaks_off=False, sample_rate=found.sample_rate)
            claimed = long_size if size == 0xFFFFFFFF and long_size is not None else size
            return _claim_of_size("wav", claimed, position, len(data), found)
    return Claim("wav", None, breaks_off=True)


def claim_of_w64(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of a Sony Wave64 file: chunks named by GUIDs, with sizes of 64 bits."""
    found = _Format()
    for kind, size, position in chunks_of_w64(data, start):
        if kind == b"fmt ":
            found = _format(data, position, size, "<")
        elif kind == b"data":
            return _claim_of_size("w64", size, position, len(data), found, counted=24)
    return Claim("w64", None, breaks_off=True)


def _format(data: bytes, position: int, size: int, order: str) -> _Format:
    code, channels, rate, _, align, bits = struct.unpack_from(f"{order}HHIIHH", data, position)
    if code == _EXTENSIBLE and size >= 26:
        (code,) = struct.unpack_from(f"{order}H", data, position + 24)
    frame = max(align, channels * -(-bits // 8))  # an `align` that is too small would claim too many samples
    return _Format(frame if code in _UNCOMPRESSED else 0, rate or None)


def _is_chain(data: bytes, position: int, order: str) -> bool:
    """Whether what follows is nothing, or chunks up to the end of the file."""
    first = position
    for _ in range(MOST_CHUNKS):
        if position >= len(data):
            return True
        if position + 8 > len(data):
            return False
        kind, size = struct.unpack_from(f"{order}4sI", data, position)
        if not kind.isalnum() and not kind.strip().isalnum():
            return False
        position = next_chunk(data, position + 8 + size, first)
        if position > len(data) + 1:
            return False
    return False


def _claim_of_size(container: str, claimed: int, start: int, end: int, found: _Format, counted: int = 0) -> Claim:
    """Decide on the size of a `data` chunk that begins at `start` of a file that ends at `end`."""
    there = end - start
    if is_placeholder(claimed) and claimed != there:
        return Claim(container, None, breaks_off=False, sample_rate=found.sample_rate)
    # The size of the file, or that in its header, stands in the place of that of the samples.
    lacking = is_lacking(claimed + counted, there + counted, found.frame, end, end - 8)
    held = claimed if lacking else min(claimed, there)
    return Claim(
        container, held // found.frame if found.frame else None, breaks_off=lacking, sample_rate=found.sample_rate
    )
