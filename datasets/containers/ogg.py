"""Ogg (RFC 3533): pages with a position in samples, a number, a checksum, and a mark on the last one.

A file may hold several streams at once (sound, picture) and several one after the other, each group with marks of
its own. Only those of sound count: Vorbis, Opus (RFC 7845), FLAC and Speex.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.crc import REVERSED, ogg_crc

_MARK = b"OggS"
_CONTINUED, _FIRST, _LAST = 0x01, 0x02, 0x04  # flags of a page
_MOST_SAMPLES = 5_760  # of a packet of Opus: 120 ms
_FEW_SAMPLES = 64  # no packet of Vorbis has fewer
_MOST_STREAMS = 1_024
_MOST_PAGES = 64  # in a row that may be lost while the number of a damaged one is believed
_BLOCK = 2_048  # samples


@dataclass(frozen=True)
class _Page:
    flags: int
    position: int  # samples up to the end of the last packet that ends here; all ones: none does
    serial: int
    number: int
    num_segments: int
    num_packets: int  # that end here
    is_whole: bool  # its checksum is right
    body: int  # byte


@dataclass
class _Stream:
    """One logical stream of sound."""

    sample_rate: int
    skipped: int  # at the beginning, decoded but not played
    most: int  # samples that a packet can hold; 0: its first byte tells (Opus)
    number: int = 0  # of the last page
    position: int | None = None  # of the last page
    begins: int | None = None  # position before the first packet
    num_packets: int = 0  # of the pages that are whole
    num_held: int = 0  # samples of them
    is_joined_late: bool = False
    has_ended: bool = False
    is_open: bool = False  # the last pages are lost: up to the next position
    lost_up_to: int | None = None  # position of the last of them, which it may still tell
    losses: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)

    @property
    def num_samples(self) -> int:
        """Samples that are played."""
        return max(0, (self.position or 0) - (self.begins or 0) - (0 if self.begins else self.skipped))


def claim_of_ogg(data: bytes, start: int = 0) -> Claim | None:
    """Read the claim of an Ogg file: the positions of its last pages, and what lies between those that are whole."""
    links: list[list[_Stream]] = []
    known: dict[int, _Stream | None] = {}
    group_begins = False
    for page in _pages(data, start):
        if page.flags & _FIRST and page.is_whole:
            if not group_begins:
                links.append([])
                known.clear()
            group_begins = True
            stream = _identified(data, page)
            known[page.serial] = stream
            if stream is not None:
                links[-1].append(stream)
        else:
            group_begins = False
            found = known.get(page.serial)
            if found is not None:
                _follow(data, found, page)
        if len(links) > _MOST_STREAMS or len(known) > _MOST_STREAMS:
            return Claim("ogg", None, breaks_off=False)
    heard = [link[0] for link in links if link]
    if not heard:
        return Claim("ogg", None, breaks_off=True) if not links else None
    rates = {stream.sample_rate for stream in heard}
    if len(rates) > 1 or not all(rates):
        return Claim("ogg", None, not heard[-1].has_ended)
    total, losses, gaps = 0, [], []
    for stream in heard:
        if stream.is_open and stream.lost_up_to is not None:  # the last page is damaged
            _lose(stream, stream.lost_up_to)
        losses += _moved(stream, stream.losses, total)
        gaps += _moved(stream, stream.gaps, total)
        total += stream.num_samples
    joined_late = any(stream.is_joined_late for stream in heard if not stream.most)
    return Claim("ogg", total, not heard[-1].has_ended, tuple(losses), heard[0].sample_rate, tuple(gaps), joined_late)


def _moved(stream: _Stream, stretches: list[tuple[int, int]], total: int) -> list[tuple[int, int]]:
    """Convert positions of a stream to samples of a file in which `total` come before it."""
    before = total - (stream.begins or stream.skipped)
    moved = [(max(total, before + first), before + last) for first, last in stretches]
    return [(first, last) for first, last in moved if first < last]


def _pages(data: bytes, start: int) -> Iterator[_Page]:
    """Yield the pages of a file, whole or not; what lies between them is passed over."""
    mirrored = data.translate(REVERSED)
    position, left = start, 2 * len(data) + (1 << 20)
    while (position := data.find(_MARK, position)) >= 0 and position + 27 <= len(data):
        version, flags, place, serial, number, _, segments = struct.unpack_from("<BBQIIIB", data, position + 4)
        body = position + 27 + segments
        end = body + sum(data[position + 27 : body])
        if version or end > len(data):
            position += 4
            continue
        left -= end - position
        if left < 0:  # marks within marks, again and again: hostile
            return
        value = ogg_crc(mirrored[position : position + 22] + bytes(4) + mirrored[position + 26 : end])
        whole = value == int.from_bytes(data[position + 22 : position + 26], "little")
        packets = segments - data.count(b"\xff", position + 27, body)
        yield _Page(flags, place, serial, number, segments, packets, whole, body)
        # A page whose checksum is wrong may lie about its length.
        position = end if whole or data[end : end + 4] == _MARK else position + 4


def _identified(data: bytes, page: _Page) -> _Stream | None:
    """Identify the codec of a stream by its first packet; None: no sound, or of an unknown kind."""
    head = data[page.body : page.body + 64]
    if head[:7] == b"\x01vorbis" and len(head) >= 29:
        return _Stream(int.from_bytes(head[12:16], "little"), 0, 1 << max(1, head[28] >> 4) - 1, page.number)
    if head[:8] == b"OpusHead" and len(head) >= 12:
        return _Stream(48_000, int.from_bytes(head[10:12], "little"), 0, page.number)
    if head[:5] == b"\x7fFLAC" and len(head) >= 35:
        largest = int.from_bytes(head[19:21], "big")
        return _Stream(int.from_bytes(head[27:30], "big") >> 4, 0, max(16, largest), page.number)
    if head[:8] == b"Speex   " and len(head) >= 68 - 4:
        rate, size, frames = (int.from_bytes(head[at : at + 4], "little") for at in (36, 56, 64 - 4))
        return _Stream(rate, 0, max(1, size) * max(1, frames), page.number)
    return None


def _most_samples(data: bytes, stream: _Stream, page: _Page) -> int:
    """Compute the samples that the packets of a page can hold, those that began before it included."""
    if stream.most:
        return (page.num_packets + 1) * stream.most
    total, at, begins = 0, page.body, not page.flags & _CONTINUED
    for size in data[page.body - page.num_segments : page.body]:
        if begins and at + 1 < len(data):
            total += _opus_samples(data[at], data[at + 1])
        begins, at = size < 255, at + size
    return total + (0 if not page.flags & _CONTINUED else _MOST_SAMPLES)


def _opus_samples(first: int, second: int) -> int:
    """Compute the duration of a packet of Opus at 48 kHz from its first two bytes (RFC 6716, 3.1 and 3.2)."""
    mode, count = first >> 3, (1, 2, 2, second & 63)[first & 3]
    if mode < 12:
        return count * (480, 960, 1_920, 2_880)[mode & 3]
    return count * ((480, 960)[mode & 1] if mode < 16 else (120, 240, 480, 960)[mode & 3])


def _follow(data: bytes, stream: _Stream, page: _Page) -> None:
    """Add a page to its stream: a number left out or a wrong checksum is a loss up to the next position."""
    before = stream.position or 0
    if page.number <= stream.number:  # a page again, or out of order
        return
    if not page.is_whole:
        if page.number <= stream.number + _MOST_PAGES:  # else its number is damaged, too
            highest = before + (page.number - stream.number) * page.num_segments * _MOST_SAMPLES
            stream.is_open = True
            stream.lost_up_to = page.position if before <= page.position <= highest else None
            stream.has_ended = stream.has_ended or (bool(page.flags & _LAST) and stream.lost_up_to is not None)
        return
    skipped_pages = page.number - stream.number - 1
    is_known = skipped_pages == 1 and stream.lost_up_to is not None
    stream.number = page.number
    stream.has_ended = stream.has_ended or bool(page.flags & _LAST)
    stream.is_open = stream.is_open or skipped_pages > 0
    if page.position >= 1 << 62:  # no packet ends here: all ones
        return
    most = page.position - before
    if most > page.num_packets * _FEW_SAMPLES:
        most = min(most, _most_samples(data, stream, page))
    if stream.begins is None and page.position:
        stream.begins = 0 if page.position <= most or skipped_pages else page.position  # else it was joined later
        before = stream.position = stream.begins
        stream.is_joined_late = stream.begins - most > _MOST_SAMPLES
    if page.position < before:
        return
    if stream.is_open:
        # Behind what is lost a decoder needs a block until it gives sound again.
        up_to = (stream.lost_up_to or 0) + _BLOCK if is_known else page.position - _held_at_least(stream, page)
        _lose(stream, page.position if page.flags & _CONTINUED else min(page.position, up_to))
    elif page.position > before:
        if page.position - most > before + _BLOCK:
            stream.gaps.append((before, page.position - most))
            before = page.position - most
        stream.num_packets += page.num_packets
        stream.num_held += page.position - before
    stream.position = page.position


def _held_at_least(stream: _Stream, page: _Page) -> int:
    """Compute the samples of a page by those of earlier ones: four fifths of what its packets would hold."""
    return page.num_packets * stream.num_held * 4 // (5 * stream.num_packets) if stream.num_packets else 0


def _lose(stream: _Stream, up_to: int) -> None:
    """Note that all is lost from the last position up to another."""
    if up_to > (stream.position or 0):
        stream.losses.append((stream.position or 0, up_to))
        stream.position = up_to
    stream.is_open, stream.lost_up_to = False, None
