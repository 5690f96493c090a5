"""Files within a file: several of a kind one behind the other, and what stands before the first.

A chain of Ogg (RFC 3533), of WAV or of MP4, as `cat` or a recorder makes it, is read link by link.
"""

import re
from collections.abc import Iterator

from tutti.datasets.containers.tags import skip_leading_tags, skip_zeros

MOST_LINKS = 1_000
MOST_JUNK = 1 << 16  # bytes before the first mark
_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]")  # RFC 3533: flag 2, beginning of stream
_MARKS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"fLaC", b"OggS", b"\x1a\x45\xdf\xa3", b"caff", b".snd", b"wvpk")
# Strong ones: what is found in the midst of bytes must be no accident.
_FOUND = re.compile(
    rb"RIFF....WAVE|RF64....WAVE|FORM....AIF[FC]|fLaC\x00\x00\x00\x22|OggS\x00[\x00-\x07]|\x1a\x45\xdf\xa3.{1,24}\x42\x82|"
    rb"\x00\x00\x00.ftyp[A-Za-z0-9]{3}",
    re.DOTALL,
)


def begin_of(data: bytes) -> int:
    """Find the first byte of a file behind tags and zeros; 0 where it is none that has a mark (MP3, AAC, ...)."""
    start = skip_zeros(data, skip_leading_tags(data))
    if data[start + 1 : start + 5] == b"ftyp":  # the size before it begins with zeros
        return start - 3
    return start if data[start : start + 4] in _MARKS or data[start + 4 : start + 8] == b"ftyp" else 0


def behind_junk(data: bytes) -> int:
    """Find the first mark of a file that does not begin with one; 0: none near the beginning."""
    found = _FOUND.search(data, 0, MOST_JUNK)
    return found.start() if found else 0


def links(data: bytes) -> Iterator[bytes]:
    """Split a file that is several, one behind the other.

    Yields:
        The links; any other file as it is.
    """
    begins = _begins(data)
    if len(begins) == 1:
        yield data
        return
    for begin, end in zip(begins, [*begins[1:], len(data)], strict=True):
        yield data[begin:end]


def _begins(data: bytes) -> list[int]:
    if data[:4] == b"OggS":
        return _begins_of_ogg(data)
    if data[:4] == b"RIFF":
        return _begins_of_riff(data)
    if data[4:8] == b"ftyp":
        return _begins_of_mp4(data)
    return [0]


def _begins_of_ogg(data: bytes) -> list[int]:
    """List where links begin: with the first pages of their streams, behind all pages of the one before."""
    begins, page_end = [0], 0
    for found in _FIRST_PAGE.finditer(data):
        if found.start() not in (0, page_end) and len(begins) < MOST_LINKS:
            begins.append(found.start())
        num_segments = data[found.start() + 26] if found.start() + 26 < len(data) else 0
        lacing = data[found.start() + 27 : found.start() + 27 + num_segments]
        page_end = found.start() + 27 + num_segments + sum(lacing)
    return begins


def _begins_of_riff(data: bytes) -> list[int]:
    begins = [0]
    while len(begins) < MOST_LINKS:
        end = begins[-1] + 8 + int.from_bytes(data[begins[-1] + 4 : begins[-1] + 8], "little")
        end += end & 1 if data[end : end + 4] != b"RIFF" else 0
        if data[end : end + 4] != b"RIFF" or data[end + 8 : end + 12] != b"WAVE":
            return begins
        begins.append(end)
    return begins


def _begins_of_mp4(data: bytes) -> list[int]:
    """List where files begin: with a type, behind a movie; another type with samples alone is a segment of the same."""
    begins, position, movies = [0], 0, 0
    types: list[int] = []  # that no movie has followed yet
    for _ in range(1 << 16):
        if position + 8 > len(data):
            break
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:
            break
        if kind == b"ftyp":
            types.append(position)
        elif kind == b"moov":
            movies += 1
            if movies > 1 and types and types[-1] and len(begins) < MOST_LINKS:
                begins.append(types[-1])
            types = []
        position += size
    return begins
