"""MPEG audio, MP3 above all (ISO 11172-3, 13818-3): a walk over its frames, and the count of a Xing or VBRI header.

Only such a header declares a length. Without one a last frame that lacks bytes says nothing: programs that cut or
record streams leave it so.
"""

from dataclasses import dataclass
from functools import cache

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.sizes import is_placeholder
from tutti.datasets.containers.tags import end_of_sound, skip_leading_tags, skip_zeros

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version's bits
_BIT_RATES = {  # in kbit/s, by (MPEG 1, layer's bits): 3 is layer I, 2 is II, 1 is III
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAME = 0xFE0C  # of the second and third byte of a header: version, layer and rate, which all frames share
_FIRST_FRAMES = 4  # in a row that make a beginning
_MOST_JUNK = 1 << 16  # bytes before the first frame, beside zeros
_MOST_BREAKS = 1_024
_DECODER_DELAY = 529  # samples, and one frame of overlap: what decoders may leave out at the beginning


@dataclass(frozen=True)
class _Header:
    """A first frame that holds no sound."""

    num_frames: int | None
    num_bytes: int | None  # from its own first byte
    unplayed: int | None  # samples at both ends that decoders leave out


@dataclass
class _Walk:
    num_frames: int
    ends_whole: bool  # False: the last frame lacks bytes
    end: int  # byte behind the last whole frame
    breaks: list[tuple[int, int]]  # where frames do not follow on one another: frames before, bytes of none


def claim_of_mpeg(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of an MPEG audio file; None where no row of frames begins it."""
    end = end_of_sound(data, start)
    first = _first_frame(data, start, end)
    if first is None:
        return None
    length, samples, rate = _facts(_key(data, first))
    header = _header(data, first, end, length, samples)
    walk = _walk(data, first + length if header else first, end, _key(data, first))
    counted = header.num_frames if header else None
    unplayed = header.unplayed if header else None
    lost = _lost_frames(walk, counted, first)
    if counted is not None:
        lacking = counted - walk.num_frames - sum(lost)
        broken = lacking > 1 or (lacking == 1 and not walk.ends_whole)  # some encoders count the header itself
    else:
        declared = header.num_bytes if header else None
        broken = declared is not None and first + declared - end > length
    losses = []
    for place, missing in enumerate(lost):
        frames = walk.breaks[place][0] + sum(lost[:place])
        begin = max(0, frames * samples - min(unplayed or 0, samples))
        if missing:
            losses.append((begin, begin + missing * samples))
    held = max(walk.num_frames, min(walk.num_frames + sum(lost), counted or 0))  # guesses without a count claim nothing
    num_samples = _played(data, first, max(held, counted or 0) if broken else held, samples, unplayed)
    return Claim("mp3", num_samples, broken, tuple(losses), rate)


def _lost_frames(walk: _Walk, counted: int | None, first: int) -> list[int]:
    """Compute how many frames are lost at each break: as many as its bytes held, together what the header lacks."""
    mean = max(1.0, (walk.end - first) / max(1, walk.num_frames))
    guesses = [max(1, round(size / mean)) for _, size in walk.breaks]
    if counted is None or not guesses:
        return guesses
    lacking = max(0, counted - walk.num_frames)
    if sum(guesses) < lacking and not walk.ends_whole:  # it lost frames within, and was cut
        return guesses
    return _shared(lacking, guesses)


def _played(data: bytes, first: int, num_frames: int, samples: int, unplayed: int | None) -> int:
    """Compute the samples that any decoder plays, at least."""
    others = _num_headers(data, first + 200)  # of files that were appended
    if unplayed is None or others:
        return max(0, (num_frames - 1 - 3 * others) * samples - _DECODER_DELAY - (unplayed or 0))
    return max(0, num_frames * samples - unplayed)


def _num_headers(data: bytes, position: int) -> int:
    count = 0
    for mark in (b"Xing\0\0\0", b"Info\0\0\0"):
        at = position
        while count < 1_000 and (at := data.find(mark, at)) >= 0:
            count, at = count + 1, at + 4
    return count


def _shared(total: int, parts: list[int]) -> list[int]:
    """Divide a number of lost frames between the places where frames are lost."""
    whole, given, shares = sum(parts), 0, []
    seen = 0
    for part in parts:
        seen += part
        shares.append(total * seen // whole - given)
        given += shares[-1]
    return shares


def _key(data: bytes, position: int) -> int:
    return data[position + 1] << 8 | data[position + 2]


@cache
def _facts(key: int) -> tuple[int, int, int]:
    """Compute bytes and samples of a frame and its rate from the second and third byte of its header; 0, 0, 0: none."""
    version, layer, bit_rate, rate = key >> 11 & 3, key >> 9 & 3, key >> 4 & 15, key >> 2 & 3
    if key >> 13 != 7 or version == 1 or not layer or rate == 3 or not 0 < bit_rate < 15:
        return 0, 0, 0
    hertz, padding = _RATES[version][rate], key >> 1 & 1
    bits = 1_000 * _BIT_RATES[version == 3, layer][bit_rate - 1]
    if layer == 3:
        return (12 * bits // hertz + padding) * 4, 384, hertz
    samples = 576 if layer == 1 and version != 3 else 1_152
    return samples // 8 * bits // hertz + padding, samples, hertz


def _is_frame(data: bytes, position: int, same: int) -> bool:
    return data[position] == 0xFF and _key(data, position) & _SAME == same and _facts(_key(data, position))[0] > 0


def _first_frame(data: bytes, start: int, end: int) -> int | None:
    """Find the first of some frames in a row, behind tags, zeros and a little junk."""
    position = skip_zeros(data, skip_leading_tags(data, skip_zeros(data, start)))
    limit = min(end, position + _MOST_JUNK)
    while (position := data.find(b"\xff", position, limit)) >= 0 and position + 4 <= end:
        if _is_row(data, position, end):
            return position
        position += 1
    return None


def _is_row(data: bytes, position: int, end: int) -> bool:
    same = _key(data, position) & _SAME
    for _ in range(_FIRST_FRAMES):
        if position + 4 > end or not _is_frame(data, position, same):
            return False
        position += _facts(_key(data, position))[0]
    return True


def _header(data: bytes, first: int, end: int, length: int, samples: int) -> _Header | None:
    """Read the header that stands in the place of a first frame: Xing's (and LAME's behind it) or Fraunhofer's VBRI."""
    mono = data[first + 3] >> 6 == 3
    side = (17 if mono else 32) if samples == 1_152 else (9 if mono else 17)
    frame = data[first : min(end, first + length)]
    for at in (4 + side, 6 + side):  # a checksum of two bytes may stand before
        if frame[at : at + 4] in (b"Xing", b"Info"):
            return _xing(frame, at)
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        num_bytes, num_frames = (int.from_bytes(frame[place : place + 4], "big") for place in (46, 50))
        return _Header(_plausible(num_frames), _plausible(num_bytes), None)
    return None


def _xing(frame: bytes, at: int) -> _Header:
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    position = at + 8
    numbers: list[int | None] = []
    for flag, size in ((1, 4), (2, 4), (4, 100), (8, 4)):
        stands = flags & flag and position + size <= len(frame)
        numbers.append(_plausible(int.from_bytes(frame[position : position + 4], "big")) if stands else None)
        position += size if stands else 0
    unplayed = None
    if len(frame) >= position + 24 and frame[position : position + 4].isalnum():  # "LAME3.100", "Lavc60.31"
        packed = int.from_bytes(frame[position + 21 : position + 24], "big")
        unplayed = (packed >> 12) + (packed & 0xFFF)
    return _Header(numbers[0], numbers[1], unplayed)


def _plausible(number: int) -> int | None:
    return None if is_placeholder(number) else number


def _walk(data: bytes, position: int, end: int, key: int) -> _Walk:
    """Count the frames up to the end of the sound, and note where they do not follow on one another."""
    first, same, walk = position, key & _SAME, _Walk(0, True, position, [])
    while position + 4 <= end:
        if data[position] == 0xFF:
            key = data[position + 1] << 8 | data[position + 2]
            length = _facts(key)[0]
            if length and key & _SAME == same:
                position += length
                if position > end:
                    walk.ends_whole = False
                    return walk
                walk.num_frames += 1
                walk.end = position
                continue
        following = _next_frame(data, position, end, same)
        if following is None or len(walk.breaks) == _MOST_BREAKS:
            walk.ends_whole = end - position < (walk.end - first) // max(1, walk.num_frames)  # less than a frame: a tag
            return walk
        if not _is_tag(data, position):
            walk.breaks.append((walk.num_frames, following - position))
        position = following
    walk.ends_whole = position >= end
    return walk


def _is_tag(data: bytes, position: int) -> bool:
    return data[position : position + 3] in (b"ID3", b"TAG") or data[position : position + 8] == b"APETAGEX"


def _next_frame(data: bytes, position: int, end: int, same: int) -> int | None:
    """Find the next two frames in a row, or the last one of the file."""
    position = skip_leading_tags(data, position)
    while (position := data.find(b"\xff", position, end)) >= 0 and position + 4 <= end:
        if _is_frame(data, position, same):
            behind = position + _facts(_key(data, position))[0]
            if behind == end or (behind + 4 <= end and _is_frame(data, behind, same)):
                return position
        position += 1
    return None
