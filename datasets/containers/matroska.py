"""Matroska and WebM (RFC 9559), made of elements (RFC 8794)."""

from tutti.datasets.containers.claim import Claim


def claim_of_matroska(data: bytes) -> Claim | None:
    """Read the claim of a Matroska file: whether its segment is whole."""
    return Claim("matroska", None, breaks_off=_segment_end(data) > len(data))


def _segment_end(data: bytes) -> int:
    position = 0
    while position + 12 <= len(data):
        segment = data[position : position + 4] == b"\x18\x53\x80\x67"
        position += 4  # the EBML header's and the segment's id have four bytes
        length = 9 - data[position].bit_length()
        size = int.from_bytes(data[position : position + length], "big") & ((1 << 7 * length) - 1)
        position += length
        if length > 8 or size == (1 << 7 * length) - 1:
            return 0
        if segment:
            return position + size
        position += size
    return 0
