"""Read the events of a Standard MIDI File that say which notes sound and when; all else is passed over.

    file = parse_midi(data)     notes, programs, ports and tempos of all tracks, by tick

What carries no notes may be odd in any way and costs nothing: lengths and values of meta events, text of any encoding,
chunks of other makers, counts and lengths that are not so, bytes before the header or behind the last track. What was
put right or passed over is counted. RMID (a RIFF around the file) is read too. The format is that of RP-001, Standard
MIDI Files 1.0.
"""

import struct
from dataclasses import dataclass, field
from typing import TypeAlias

from tutti.datasets.scores.midi_meta import PORT, TEMPO, is_odd_meta, utf8_end
from tutti.datasets.scores.midi_wrapping import described, locate_midi

MAX_TRACK_BYTES = 2 << 20  # of all tracks: an orchestral hour has under 1 MiB; a file must not take minutes to parse
MAX_REREAD_BYTES = 4 * MAX_TRACK_BYTES  # of what is read for a second time, where a length was not so
NOTE_OFF, NOTE_ON, PROGRAM = 0x80, 0x90, 0xC0  # with the channel in the lower half; TEMPO and PORT are below 0x80

_MAX_NUMBER = (1 << 28) - 1  # four bytes of seven bits
_MAX_NUMBER_BYTES = 10  # a number padded to more than its four bytes is odd; one that goes on and on is none
_HEADER_BYTES = 14
_MAX_SYSEX_BYTES = 1 << 16  # of a message that is written without its length
_META, _SYSEX, _ESCAPE, _END_OF_TRACK = 0xFF, 0xF0, 0xF7, 0x2F
_SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # data bytes of messages that do not belong into a file; others have none
_LEAST_END = 4  # bytes of the shortest end of track: a track that lacks no more than these has all its notes

Event: TypeAlias = tuple[int, int, int, int, int]  # tick, track, kind, two values (pitch, velocity; program; tempo)


class MidiError(Exception):
    """A file that is no MIDI file, or in which notes are lost from byte `at` on; `text` says what is there."""

    def __init__(self, at: int, text: str, *, cut_off: bool = False) -> None:
        super().__init__(text)
        self.at, self.text, self.cut_off = at, text, cut_off


@dataclass(frozen=True)
class MidiFile:
    """Type and division of the header, and the events of all tracks, sorted by tick, then track."""

    type: int
    division: int  # > 0: ticks per quarter note; < 0: SMPTE, as RP-001 packs it
    num_tracks: int  # that were found
    events: list[Event]
    end_tick: int  # of the last event of any kind
    repairs: int


@dataclass
class _Track:
    """The events of one track, and where and how its reading ended."""

    at: int
    tick: int = 0
    events: list[Event] = field(default_factory=list)
    repairs: int = 0
    has_end: bool = False


@dataclass
class _Budget:
    """Bytes that may still be read for a second time."""

    left: int = MAX_REREAD_BYTES

    def spend(self, num_bytes: int, at: int) -> None:
        """Count bytes that are read again."""
        self.left -= num_bytes
        if self.left < 0:
            raise MidiError(at, "too much of it is damaged")


def parse_midi(data: bytes) -> MidiFile:
    """Parse a file of any type.

    Raises:
        MidiError: it is no MIDI file, breaks off, or is damaged where notes may be.
    """
    begin, end, repairs = locate_midi(data)
    if begin < 0:
        raise MidiError(0, f"not a MIDI file: {described(data)}")
    try:
        return _parsed(data if end - begin == len(data) else data[begin:end], repairs)
    except MidiError as error:
        raise MidiError(begin + error.at, error.text, cut_off=error.cut_off) from None


def _parsed(data: bytes, repairs: int) -> MidiFile:
    """Parse a file that begins with its header; `repairs` are those of what was around it."""
    end = len(data)
    if end < _HEADER_BYTES:
        raise MidiError(end, "its header breaks off", cut_off=True)
    length, kind, count, division = struct.unpack_from(">LHHh", data, 4)
    at = 8 + length
    if length < 6 or not (at == end or _is_chunk(data, at, end)):
        at, repairs = _HEADER_BYTES, repairs + 1
    budget, num_bytes = _Budget(), 0
    events: list[Event] = []
    num_tracks = end_tick = 0
    breaks_off = False  # the last track ends before its length
    while at < end:
        if data.startswith(b"MTrk", at, end) and at + 8 <= end:
            breaks_off = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big") > end
            track = _track(data, at, end, num_tracks, budget)
            breaks_off = breaks_off and track.at == end
            num_bytes += track.at - at
            if num_bytes > MAX_TRACK_BYTES:
                raise MidiError(at, f"its tracks have more than {MAX_TRACK_BYTES:,} bytes, and no score is that large")
            events += track.events
            num_tracks, end_tick, repairs = num_tracks + 1, max(end_tick, track.tick), repairs + track.repairs
            at = track.at
            continue
        if _is_chunk(data, at, end):  # of another maker
            following = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        else:
            following = data.find(b"MTrk", at, end)
            if following < 0 or following + 8 > end:
                if num_tracks < count and b"MTrk".startswith(data[at : min(at + 4, end)]):
                    raise MidiError(end, "it ends within the head of a track", cut_off=True)
                following = end
        at, repairs = following, repairs + 1
    if num_tracks < count and (breaks_off or not any(NOTE_ON <= event[2] < NOTE_ON + 16 for event in events)):
        raise MidiError(end, "tracks are missing", cut_off=True)
    events.sort(key=_tick)  # stable: within a tick in the order of tracks
    return MidiFile(kind, division, num_tracks, events, end_tick, repairs + (num_tracks != count))


def _tick(event: Event) -> int:
    return event[0]


def _is_chunk(data: bytes, at: int, end: int) -> bool:
    """Whether a chunk seems to begin there: a track, or a name of four printable letters and a length that fits."""
    name = data[at : at + 4]
    if name == b"MTrk":
        return True
    fits = at + 8 <= end and int.from_bytes(data[at + 4 : at + 8], "big") <= end - at - 8
    return fits and name.isascii() and name.decode("ascii").isprintable()


def _track(data: bytes, at: int, end: int, number: int, budget: _Budget) -> _Track:
    """Read the track whose chunk begins at `at`; the answer's `at` is where the next chunk should begin."""
    start = at + 8
    declared = start + int.from_bytes(data[at + 4 : start], "big")
    within: _Track | None = None
    error: MidiError | None = None
    if declared <= end:
        try:
            within = _read(data, start, declared, number, budget)
        except MidiError as problem:
            error = problem
        if within is not None and (within.has_end or declared == end or _is_chunk(data, declared, end)):
            return _ended(data, within, declared, end, number, budget)
    # The length is not so: its end mark tells.
    reach = min(end, start + budget.left)
    try:
        whole = _read(data, start, reach, number, budget)
    except MidiError as problem:
        budget.spend(problem.at - start, start)
        if within is None:
            raise error or problem from None
        within.repairs += 1  # followed by what is no chunk and no event
        return within
    budget.spend(whole.at - start if whole.has_end or reach == end else MAX_REREAD_BYTES, start)
    if whole.has_end:
        whole.repairs += whole.at != declared
        return whole
    if within is not None:
        within.repairs += 1
        return within
    if declared > end + _LEAST_END:
        raise MidiError(end, "it ends within a track", cut_off=True)
    whole.repairs += 1
    return whole


def _ended(data: bytes, track: _Track, declared: int, end: int, number: int, budget: _Budget) -> _Track:
    """Read what a track's chunk holds behind its end mark: the next track, more events, or padding."""
    if track.at == declared:
        track.repairs += not track.has_end
        return track
    track.repairs += 1
    if b"MTrk" in data[track.at : declared + 3] or (declared < end and not _is_chunk(data, declared, end)):
        return track  # the length reaches into another chunk
    try:
        rest = _walk(data, track.at, declared, number, budget, lenient=False, beyond=True)
    except MidiError:
        track.at = declared  # padding
        return track
    events = [*track.events, *((event[0] + track.tick, *event[1:]) for event in rest.events)]
    return _Track(declared, track.tick + rest.tick, events, track.repairs + rest.repairs, has_end=True)


def _read(data: bytes, start: int, limit: int, number: int, budget: _Budget) -> _Track:
    """Read events up to the end mark or the limit, whichever comes first.

    Values out of range are first taken for a sign that an earlier length was not so; where no other length makes sense
    of them, they are values.
    """
    try:
        return _walk(data, start, limit, number, budget, lenient=False)
    except _ValueOutOfRangeError as problem:
        budget.spend(problem.at - start, start)
    return _walk(data, start, limit, number, budget, lenient=True)


class _ValueOutOfRangeError(MidiError):
    """A byte of 128 or more where a value should be."""


@dataclass(frozen=True)
class _Choice:
    """A place where a length can be read in another way, and how things stood there."""

    at: int  # first byte of the contents
    size: int  # by the length that is written
    kind: int  # of the event
    tick: int
    running: int
    num_events: int
    repairs: int


def _walk(
    data: bytes, at: int, limit: int, number: int, budget: _Budget, *, lenient: bool, beyond: bool = False
) -> _Track:
    """Read events one by one; where that fails, go back to the last length that can be read in another way.

    Args:
        data: the whole file.
        at: first byte.
        limit: where reading ends at the latest.
        number: of the track.
        budget: for what is read again.
        lenient: take values out of range for values.
        beyond: go on behind end marks.
    """
    events: list[Event] = []
    choices: list[_Choice] = []
    tick = running = repairs = 0
    interrupted = has_end = False  # interrupted: by an event that ends running status
    while at < limit and not has_end:
        begin = at
        try:
            status = data[at]
            at += 1
            if status < 0x80:
                tick += status
            else:
                delta, at, odd = _number(data, begin)
                tick += delta
                repairs += odd
            status = data[at]
            if status < 0x80:
                if not running:
                    raise MidiError(at, "a value where an event should begin")
                status = running
                repairs += interrupted
            else:
                at += 1
            interrupted = status >= 0xF0
            if status < 0xF0:
                running = status
                first = second = data[at]
                at += 1
                if not 0xC0 <= status < 0xE0:
                    second = data[at]
                    at += 1
                if (first | second) >= 0x80:
                    if not lenient:
                        raise _ValueOutOfRangeError(at - 1, f"a value out of range, {max(first, second)}")
                    repairs += status >= 0xA0 or first < 0x80  # else a note is lost, not repaired
                    second = min(second, 0x7F)
                if status < 0xA0 or PROGRAM <= status < 0xD0:
                    events.append((tick, number, status, first, second))
            elif status in (_META, _SYSEX, _ESCAPE):
                kind = status
                if status == _META:
                    kind = data[at]
                    at += 1
                size, at, odd = _number(data, at)
                repairs += odd
                if at + size > limit or not _is_safe(data, at, size, kind):
                    choices.append(_Choice(at, size, kind, tick, running, len(events), repairs))
                if at + size > limit:
                    raise MidiError(limit, "an event that ends behind its track", cut_off=limit == len(data))
                if status == _META:
                    content = data[at : at + min(size, 8)]
                    repairs += is_odd_meta(kind, size, content)
                    has_end = kind == _END_OF_TRACK and not beyond
                    if kind == TEMPO and size >= 3 and any(content[:3]):
                        events.append((tick, number, TEMPO, int.from_bytes(content[:3], "big"), 0))
                    elif kind == PORT and size >= 1 and content[0] < 0x80:
                        events.append((tick, number, PORT, content[0], 0))
                at += size
            else:
                at += _SYSTEM_BYTES.get(status, 0)
                repairs += 1
            if at > limit:
                raise MidiError(limit, "an event that ends behind its track", cut_off=limit == len(data))
        except (MidiError, IndexError) as error:
            problem = error if isinstance(error, MidiError) else MidiError(len(data), "it ends", cut_off=True)
            choice, end = None, None
            while choices and end is None:
                choice = choices.pop()
                end = _other_end(data, choice, limit)
            if choice is None or end is None:
                if limit - begin < _LEAST_END and problem.cut_off:  # within the end mark
                    return _Track(limit, tick, events, repairs + 1)
                raise problem from None
            budget.spend(max(0, begin - choice.at), choice.at)
            at, tick, running, repairs = end, choice.tick, choice.running, choice.repairs + 1
            del events[choice.num_events :]
            interrupted, has_end = True, False
    return _Track(at, tick, events, repairs, has_end)


def _number(data: bytes, at: int) -> tuple[int, int, bool]:
    """Read a variable-length quantity: its value, the next byte, and whether it has more bytes than it may."""
    value = 0
    for place in range(at, at + _MAX_NUMBER_BYTES):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            if value > _MAX_NUMBER:
                break
            return value, place + 1, place - at >= 4
    raise MidiError(at, "a number without end")


def _is_safe(data: bytes, at: int, size: int, kind: int) -> bool:
    """Whether a length is beyond doubt: of a text in ASCII, of a system exclusive message that ends with its mark."""
    if kind == _SYSEX:
        return size > 0 and data[at + size - 1] == _ESCAPE
    return not 0x01 <= kind <= 0x0F or data[at : at + size].isascii()


def _other_end(data: bytes, choice: _Choice, limit: int) -> int | None:
    """Compute where contents end if their length was meant in another way; None: there is none.

    Texts: it counts characters, not bytes. System exclusive messages: there is none, they are written as on a cable.
    """
    if choice.kind == _SYSEX:
        first = choice.at - 1  # what was taken for the length is the maker's number
        mark = data.find(b"\xf7", first, min(limit, first + _MAX_SYSEX_BYTES))
        return mark + 1 if mark >= 0 and data[first:mark].isascii() else None
    if 0x01 <= choice.kind <= 0x0F:
        return utf8_end(data, choice.at, choice.size, limit)
    return None
