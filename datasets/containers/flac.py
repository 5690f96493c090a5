"""FLAC (RFC 9639): the samples that STREAMINFO counts, and the numbers that each frame carries.

A frame says nothing of its length. Its header is found by its first bytes and proven by its CRC-8; whether the frame
is whole, by the CRC-16 at its end, which libFLAC checks as it decodes: here only that of the last frame is computed,
or those of all where the decoder has complained.
"""

import itertools
from dataclasses import dataclass, replace

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.crc import are_right, crc8, crc16
from tutti.datasets.containers.tags import end_of_sound, skip_zeros

_STREAMINFO = b"fLaC\x00\x00\x00\x22"
_UNKNOWN = ((1 << 36) - 1, 0)
_MOST_BLOCKS = 512
_MOST_LINKS = 1_024
_MOST_CHECKED = 8  # links whose checksums are computed
_LONGEST_FRAME = 1 << 20  # searched for the last frame; 8 channels of 65,535 samples of 32 bits are twice that


@dataclass(frozen=True)
class _Info:
    sample_rate: int | None
    num_samples: int | None
    block: int  # samples of all frames but the last, where it is constant
    first: int  # byte of the first frame


@dataclass(frozen=True)
class _Frame:
    at: int  # byte
    first: int  # sample
    num_samples: int

    @property
    def end(self) -> int:
        """The sample after the last one."""
        return self.first + self.num_samples


def claim_of_flac(data: bytes, start: int = 0, *, checksums: bool = False) -> Claim | None:
    """Read the claim of a FLAC file that begins at `start`, and of those behind it in the same file.

    Args:
        data: the file.
        start: byte of its mark.
        checksums: whether those of all frames are computed.
    """
    links = _links(data, start)
    checksums = checksums and len(links) <= _MOST_CHECKED
    claims = [_claim_of_link(data, first, end, checksums) for first, end in links]
    found = [claim for claim in claims if claim is not None]
    if not found:
        return None
    total, losses = 0, []
    for claim in found:
        losses += [(total + first, total + last) for first, last in claim.losses]
        total += claim.num_samples or 0
    known = all(claim.num_samples is not None for claim in found)
    return Claim("flac", total if known else None, found[-1].breaks_off, tuple(losses), found[0].sample_rate)


def _links(data: bytes, start: int) -> list[tuple[int, int]]:
    """Find the streams of a file that is several, one behind the other: [first, end) bytes of each."""
    firsts = [start]
    while len(firsts) < _MOST_LINKS and (at := data.find(_STREAMINFO, firsts[-1] + 42)) >= 0:
        firsts.append(at)
    return list(zip(firsts, [*firsts[1:], len(data)], strict=True))


def _claim_of_link(data: bytes, start: int, end: int, checksums: bool) -> Claim | None:
    info = _info(data, start, end)
    if info is None:
        return Claim("flac", None, breaks_off=True)
    end = end_of_sound(data, info.first) if end == len(data) else end
    if not checksums and info.num_samples is not None and _is_last_there(data, info, end):
        return Claim("flac", info.num_samples, breaks_off=False, sample_rate=info.sample_rate)
    frames = _frames(data, info, end)
    if not frames:
        lacking = info.num_samples is not None
        return Claim("flac", info.num_samples, breaks_off=lacking, sample_rate=info.sample_rate)
    last = frames[-1]
    losses = _jumps(frames)
    if checksums:
        losses = _merged(losses + _damaged(data, frames, end))
    if info.num_samples is None:
        is_one = end - last.at <= _LONGEST_FRAME
        broken = is_one and crc16(data[last.at : end]) != 0  # zeros behind it change nothing
    else:
        broken = last.end < info.num_samples  # of a frame that was cut the decoder gives nothing, and says so
    return Claim("flac", info.num_samples, broken, tuple(losses), info.sample_rate)


def _is_last_there(data: bytes, info: _Info, end: int) -> bool:
    """Whether the header of the last frame is there; of what lacks elsewhere the decoder gives nothing, and says so."""
    limit, lowest = end, max(info.first, end - _LONGEST_FRAME)
    first = _frame(data, info.first, info)
    if first is None:
        return False
    block = 0 if data[info.first + 1] & 1 else first.num_samples
    info = replace(info, block=block)
    while (limit := data.rfind(data[info.first : info.first + 2], lowest, limit)) >= 0:
        frame = _frame(data, limit, info)
        if frame is not None:
            return frame.end == info.num_samples
    return False


def _info(data: bytes, start: int, end: int) -> _Info | None:
    """Read STREAMINFO, and find the first frame behind the other blocks of metadata."""
    block = data[start + 8 : start + 42]
    if data[start + 4] & 0x7F or len(block) < 34:
        return None
    smallest, largest = int.from_bytes(block[:2], "big"), int.from_bytes(block[2:4], "big")
    packed = int.from_bytes(block[10:18], "big")  # rate 20 bits, channels 3, bits 5, samples 36
    total = packed & ((1 << 36) - 1)
    position, is_last = start + 4, False
    for _ in range(_MOST_BLOCKS):
        if is_last or position + 4 > end:
            break
        is_last = bool(data[position] & 0x80)
        position += 4 + int.from_bytes(data[position + 1 : position + 4], "big")
    position = skip_zeros(data, position)
    constant = largest if smallest == largest else 0
    known = None if total in _UNKNOWN else total
    return _Info(packed >> 44 or None, known, constant, position)


def _frames(data: bytes, info: _Info, end: int) -> list[_Frame]:
    """Find the frames of a stream, in order: those whose header resembles the first and has a right checksum."""
    first = _frame(data, info.first, info)
    if first is None:
        return []
    if not data[first.at + 1] & 1:  # frames are numbered, not their samples: all but the last are of one size
        info = replace(info, block=first.num_samples)
        first = replace(first, first=first.first // (info.block or 1) * info.block)
    mark = data[info.first : info.first + (3 if info.block else 2)]  # the codes of block and rate come third
    kind = data[info.first + 3] & 0x0E  # bits per sample
    found = [first]
    position = info.first + 8
    while (position := data.find(mark, position, end)) >= 0:
        if data[position + 3 : position + 4] and data[position + 3] & 0x0E == kind:
            frame = _frame(data, position, info)
            if frame is not None:
                found.append(frame)
        position += 2
    frames = _in_order(found)
    return _with_last(data, info, frames, end) if info.block else frames


def _in_order(found: list[_Frame]) -> list[_Frame]:
    """Drop what looks like a header by chance: its number neither follows nor is followed."""
    frames = found[:1]
    for place, frame in enumerate(found[1:], 1):
        is_followed = any(later.first == frame.end for later in found[place + 1 : place + 4])
        if frame.first == frames[-1].end or (frame.first > frames[-1].end and is_followed):
            frames.append(frame)
    return frames


def _with_last(data: bytes, info: _Info, frames: list[_Frame], end: int) -> list[_Frame]:
    """Add the last frame of a stream of constant blocks where it is shorter: its header has another code."""
    position = frames[-1].at + 8
    mark = data[info.first : info.first + 2]
    while (position := data.find(mark, position, min(end, frames[-1].at + _LONGEST_FRAME))) >= 0:
        frame = _frame(data, position, info)
        if frame is not None and frame.num_samples < info.block and frame.first == frames[-1].end:
            return [*frames, frame]
        position += 2
    return frames


def _frame(data: bytes, at: int, info: _Info) -> _Frame | None:
    """Read the header of a frame; None where there is none (RFC 9639, 9.1)."""
    header = data[at : at + 16]
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8 or header[3] & 1:
        return None
    size_code, rate_code, channels = header[2] >> 4, header[2] & 15, header[3] >> 4
    if not size_code or rate_code == 15 or channels > 10:
        return None
    length = 1 if header[4] < 0x80 else 8 - (header[4] ^ 0xFF).bit_length()  # as UTF-8 has it
    if header[4] >= 0x80 and not 2 <= length <= 7:
        return None
    number = header[4] & (0x7F if length == 1 else (1 << (7 - length)) - 1)
    for byte in header[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    position = 4 + length
    if size_code == 6:
        num_samples = header[position] + 1 if position < len(header) else 0
        position += 1
    elif size_code == 7:
        num_samples = int.from_bytes(header[position : position + 2], "big") + 1
        position += 2
    else:
        num_samples = 192 if size_code == 1 else 576 << (size_code - 2) if size_code < 6 else 256 << (size_code - 8)
    position += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if position >= len(header) or crc8(header[:position]) != header[position]:
        return None
    by_sample = header[1] & 1
    return _Frame(at, number if by_sample else number * (info.block or num_samples), num_samples)


def _jumps(frames: list[_Frame]) -> list[tuple[int, int]]:
    """List the samples whose frames are not there: the numbers of the others leave them out."""
    losses = [(0, frames[0].first)] if frames[0].first else []
    pairs = itertools.pairwise(frames)
    return losses + [(one.end, other.first) for one, other in pairs if other.first > one.end]


def _damaged(data: bytes, frames: list[_Frame], end: int) -> list[tuple[int, int]]:
    ends = [frame.at for frame in frames[1:]] + [end]
    right = are_right(data, [(frame.at, stop) for frame, stop in zip(frames, ends, strict=True)])
    return [(frame.first, frame.end) for frame, whole in zip(frames, right, strict=True) if not whole]


def _merged(losses: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(losses):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
