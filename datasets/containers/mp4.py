"""MP4, M4A and QuickTime (ISO 14496-12), made of boxes."""

from tutti.datasets.containers.claim import Claim


def claim_of_mp4(data: bytes) -> Claim | None:
    """Read the claim of an MP4 file: whether its boxes are whole."""
    position = 0
    while position + 8 <= len(data):
        kind = data[position + 4 : position + 8]
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
            return Claim("mp4", None, breaks_off=False)  # the rest of the file, or a tag behind the last box
        if data[position : position + 3] == b"TAG" and len(data) - position <= 128:
            return Claim("mp4", None, breaks_off=False)
        position += size
    return Claim("mp4", None, breaks_off=position > len(data))
