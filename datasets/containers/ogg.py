"""Ogg (RFC 3533)."""

from tutti.datasets.containers.claim import Claim


def claim_of_ogg(data: bytes) -> Claim | None:
    """Read the claim of an Ogg file: whether its last page is whole and marks the end of its stream."""
    page = data.rfind(b"OggS")
    header = data[page : page + 27]
    if len(header) < 27:
        return Claim("ogg", None, breaks_off=True)
    num_segments = header[26]
    lacing = data[page + 27 : page + 27 + num_segments]
    end = page + 27 + num_segments + sum(lacing)
    ended = bool(header[5] & 0x04) and len(lacing) == num_segments and end <= len(data)
    return Claim("ogg", None, breaks_off=not ended)
