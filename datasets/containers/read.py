"""The claim of any file: its family shows in its first bytes, never in its name.

    claim = read_claim(data)
    complete = claim is None or not claim.breaks_off and decoded >= (claim.num_samples or 0)

One file of this room for each family. The bytes may be hostile: what cannot be followed claims nothing, no size is
believed that is not plausible, and the time is that of a walk over pages, frames or boxes, never over samples.
"""

import struct

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.matroska import claim_of_matroska
from tutti.datasets.containers.mp4 import claim_of_mp4
from tutti.datasets.containers.ogg import claim_of_ogg
from tutti.datasets.containers.riff import claim_of_riff


def read_claim(data: bytes) -> Claim | None:
    """Read what a file claims of itself.

    Args:
        data: the whole file.

    Returns:
        The claim; None for a family that claims nothing, or whose header cannot be followed.
    """
    try:
        if data[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
            return claim_of_riff(data)
        if data[:4] == b"OggS":
            return claim_of_ogg(data)
        if data[:4] == b"\x1a\x45\xdf\xa3":
            return claim_of_matroska(data)
        if data[4:8] == b"ftyp":
            return claim_of_mp4(data)
    except (ValueError, IndexError, OverflowError, struct.error):  # a header that ends too early
        return None
    return None
