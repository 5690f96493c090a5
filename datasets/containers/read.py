"""The claim of any file: its family shows in its first bytes, never in its name.

    claim = read_claim(data)
    complete = claim is None or not claim.breaks_off and decoded >= (claim.num_samples or 0)

One file of this room for each family. The bytes may be hostile: what cannot be followed claims nothing, no size is
believed that is not plausible, and the time is that of a walk over pages, frames or boxes, never over samples.
"""

import struct
from collections.abc import Callable

from tutti.datasets.containers.aiff import claim_of_aiff
from tutti.datasets.containers.au import claim_of_au
from tutti.datasets.containers.caf import claim_of_caf
from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.flac import claim_of_flac
from tutti.datasets.containers.matroska import claim_of_matroska
from tutti.datasets.containers.mp4 import FIRST_BOXES, claim_of_mp4
from tutti.datasets.containers.mpeg import claim_of_mpeg
from tutti.datasets.containers.ogg import claim_of_ogg
from tutti.datasets.containers.riff import W64_MAGIC, claim_of_riff, claim_of_w64
from tutti.datasets.containers.tags import skip_leading_tags

_BY_MARK: dict[bytes, Callable[[bytes, int], Claim | None]] = {
    b"RIFF": claim_of_riff,
    b"RIFX": claim_of_riff,
    b"RF64": claim_of_riff,
    b"BW64": claim_of_riff,
    b"FORM": claim_of_aiff,
    b".snd": claim_of_au,
    b"dns.": claim_of_au,
    b"caff": claim_of_caf,
    b"OggS": claim_of_ogg,
    b"\x1a\x45\xdf\xa3": claim_of_matroska,
}


def read_claim(data: bytes, *, checksums: bool = False) -> Claim | None:
    """Read what a file claims of itself.

    Args:
        data: the whole file.
        checksums: whether those of all FLAC frames are computed, too: for a file that its decoder complained of.

    Returns:
        The claim; None for a family that claims nothing, or whose header cannot be followed.
    """
    try:
        return _claim(data, skip_leading_tags(data), checksums)
    except (ValueError, IndexError, OverflowError, struct.error):  # a header that ends too early
        return None


def _claim(data: bytes, start: int, checksums: bool) -> Claim | None:
    mark = data[start : start + 4]
    if mark == b"fLaC":
        return claim_of_flac(data, start, checksums=checksums)
    if mark in _BY_MARK:
        return _BY_MARK[mark](data, start)
    if data[start : start + 16] == W64_MAGIC:
        return claim_of_w64(data, start)
    if data[start + 4 : start + 8] in FIRST_BOXES:
        return claim_of_mp4(data, start)
    return claim_of_mpeg(data, 0)
