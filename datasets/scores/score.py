"""Scores: the notes of a Standard MIDI File, in seconds, and a MIDI file of such notes.

    score = read_midi(path.read_bytes(), path.name)
    in_window = excerpt(score, 10.0, 20.0)

What the score says, not what a synthesizer makes of it: the sustain pedal lengthens no note, and
a note of a score that is cut off ends with the file. Notes of one channel and pitch that overlap
within a track end in the order in which they began.
"""

import io
import re
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import mido

from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import DRUMS, Note, Seconds
from tutti.datasets.scores.general_midi import instrument_of

MAX_BYTES = 2 << 20  # an orchestral hour has under 1 MiB; a stranger's file must not take minutes to parse
MAX_SCORE_S = 10_800.0  # three hours: longer than any opera's act; a delta time can claim years
MIN_NOTE_S = 0.001  # what an excerpt's border leaves of a note below a millisecond is rounding, not music

_DEFAULT_TEMPO = 500_000  # microseconds per quarter note until the first tempo event: SMF 1.0
_PERCUSSION = 9  # MIDI channel 10, 0-based: General MIDI
_MELODIC = tuple(channel for channel in range(16) if channel != _PERCUSSION)
_ENDLESS = re.compile(rb"[\x80-\xff]{1000}")  # a number of the format has 4 bytes; mido reads it as long as it goes on
_MAX_TICKS = 1 << 50  # beyond any music, and still exact as a float
_TICKS_PER_BEAT = 10_000  # at the default tempo 50 microseconds a tick: finer than a sample at 16 kHz

_Event = tuple[int, int, mido.Message]  # tick from the start, track, message


class ScoreError(IntegrityError):
    """A MIDI file from which no notes can be had; `reason` is "bad_score" or "no_notes"."""

    def __init__(self, message: str, reason: str = "bad_score") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Score:
    """Notes sorted by (onset, pitch, program, offset, velocity), and where the music ends."""

    notes: tuple[Note, ...]
    end_s: Seconds  # time of the last event: no note ends later


def read_midi(data: bytes, name: str) -> Score:
    """Read the notes of a MIDI file of type 0 or 1.

    Args:
        data: the whole file.
        name: for errors.

    Raises:
        ScoreError: damaged, cut off, of type 2, too long, or without notes; names file, byte and remedy.
    """
    file = _parsed(data, name)
    events = sorted(_events(file), key=itemgetter(0))  # stable: within a tick in the order of tracks
    clock = _Clock.of(file.ticks_per_beat, events, name)
    notes = tuple(sorted(_notes(events, clock), key=_order))
    if not notes:
        raise ScoreError(f"{name}: has no notes; export the score again, or remove it", "no_notes")
    return Score(notes, clock.seconds(events[-1][0]))


def excerpt(score: Score, start_s: Seconds, end_s: Seconds) -> tuple[Note, ...]:
    """Cut the notes that sound between two times; their times are in seconds from `start_s`."""
    cut = (
        replace(
            note,
            onset_s=round(max(note.onset_s, start_s) - start_s, 6),
            offset_s=round(min(note.offset_s, end_s) - start_s, 6),
        )
        for note in score.notes
        if note.onset_s < end_s and note.offset_s > start_s
    )
    return tuple(sorted((note for note in cut if note.offset_s - note.onset_s >= MIN_NOTE_S), key=_order))


def is_our_midi(head: bytes) -> bool:
    """Whether a file begins as `write_midi` begins it: no sequencer counts 10,000 ticks to a beat."""
    return head[:10] == b"MThd\0\0\0\6\0\1" and head[12:14] == _TICKS_PER_BEAT.to_bytes(2, "big")


def write_midi(score: Score) -> bytes:
    """Encode a MIDI file of type 1: one track per program, percussion on channel 10, 50 microseconds a tick.

    Programs beyond the fifteenth take over a channel that is silent, with a program change.

    Raises:
        ScoreError: more than fifteen programs sound at once.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=_TICKS_PER_BEAT)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=_DEFAULT_TEMPO)]))
    tracks: dict[int, list[tuple[int, int, mido.Message]]] = defaultdict(list)
    for note, channel, is_new in _placed(score.notes):
        on, off = _ticks(note)
        events = tracks[note.program]
        if is_new:
            program = 0 if note.program == DRUMS else note.program
            events.append((on, 1, mido.Message("program_change", channel=channel, program=program)))
        events.append((on, 2, mido.Message("note_on", channel=channel, note=note.pitch, velocity=note.velocity)))
        events.append((off, 0, mido.Message("note_off", channel=channel, note=note.pitch)))
    end = round(score.end_s * _ticks_per_s())
    for _, events in sorted(tracks.items()):
        track, now = mido.MidiTrack(), 0
        for tick, _, message in sorted(events, key=itemgetter(0, 1)):  # a note ends before the next one begins
            track.append(message.copy(time=tick - now))
            now = tick
        track.append(mido.MetaMessage("end_of_track", time=max(0, end - now)))
        file.tracks.append(track)
    stream = io.BytesIO()
    file.save(file=stream)
    return stream.getvalue()


# --- reading


def _parsed(data: bytes, name: str) -> mido.MidiFile:
    if len(data) > MAX_BYTES:
        raise ScoreError(f"{name}: has {len(data):,} bytes, more than {MAX_BYTES:,}; no score is that large, remove it")
    if endless := _ENDLESS.search(data):
        raise ScoreError(f"{name}: byte {endless.start()}: a number without end; the file is damaged, fetch it again")
    stream = io.BytesIO(data)
    try:
        file = mido.MidiFile(file=stream)
    except EOFError as error:
        raise ScoreError(f"{name}: ends at byte {len(data)} within an event or track; fetch it again") from error
    except Exception as error:  # mido lets through whatever a damaged byte raises: OSError, ValueError, struct.error
        where = f"{name}: byte {stream.tell()}: not a MIDI file that can be read ({error})"
        raise ScoreError(f"{where}; fetch it again, or export the score again") from error
    if file.type not in (0, 1):
        raise ScoreError(f"{name}: byte 8: type {file.type}, not one piece of music; export it as type 0 or 1")
    return file


def _events(file: mido.MidiFile) -> Iterator[_Event]:
    for index, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            yield tick, index, message


@dataclass(frozen=True)
class _Clock:
    """The tempo map of a file: from each tick on, so many seconds per tick."""

    steps: tuple[tuple[int, Seconds, Seconds], ...]  # first tick, its time, seconds per tick

    @classmethod
    def of(cls, division: int, events: Sequence[_Event], name: str) -> "_Clock":
        """Build the clock from the header's division (mido reads it as a signed number) and all tempo events."""
        if division == 0:
            raise ScoreError(f"{name}: byte 12: 0 ticks per quarter note; export the score again")
        last = events[-1][0] if events else 0
        if division < 0:  # SMPTE: frames per second negated, then ticks per frame
            frames, ticks = 256 - (division >> 8 & 0xFF), division & 0xFF
            if frames not in (24, 25, 29, 30) or ticks == 0:
                raise ScoreError(f"{name}: byte 12: no such SMPTE time format; export it with ticks per quarter note")
            steps = [(0, 0.0, 1 / ((29.97 if frames == 29 else frames) * ticks))]
        else:
            steps = [(0, 0.0, _DEFAULT_TEMPO * 1e-6 / division)]
            for tick, _, message in events if last <= _MAX_TICKS else ():
                if message.type == "set_tempo":
                    first, time_s, pace = steps[-1]
                    steps.append((tick, time_s + (tick - first) * pace, message.tempo * 1e-6 / division))
        clock = cls(tuple(steps))
        if last > _MAX_TICKS or clock.seconds(last) > MAX_SCORE_S:
            raise ScoreError(
                f"{name}: lasts longer than {MAX_SCORE_S:.0f} s; its delta times are damaged, fetch it again"
            )
        return clock

    def seconds(self, tick: int) -> Seconds:
        """Convert a tick to seconds."""
        first, time_s, pace = self.steps[bisect_right(self.steps, tick, key=itemgetter(0)) - 1]
        return round(time_s + (tick - first) * pace, 6)


def _notes(events: Sequence[_Event], clock: _Clock) -> Iterator[Note]:
    """Pair events to notes, in the order of their ends.

    A program belongs to a channel of a port, whichever track sets it; pairs belong to a track.
    """
    ports: dict[int, int] = {}  # track -> port: how more than sixteen channels are written
    programs: dict[tuple[int, int], int] = {}  # port, channel -> program
    open_notes: dict[tuple[int, int, int], deque[tuple[int, int, int]]] = defaultdict(deque)  # tick, program, velocity

    def close(pitch: int, begun: tuple[int, int, int], end: int) -> Iterator[Note]:
        tick, program, velocity = begun
        onset_s, offset_s = clock.seconds(tick), clock.seconds(end)
        if offset_s > onset_s:
            yield Note(onset_s, offset_s, pitch, program, instrument_of(program), velocity)

    for tick, track, message in events:
        if message.type == "midi_port":
            ports[track] = message.port
        elif message.type == "program_change":
            programs[ports.get(track, 0), message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            channel = message.channel
            program = DRUMS if channel == _PERCUSSION else programs.get((ports.get(track, 0), channel), 0)
            open_notes[track, channel, message.note].append((tick, program, message.velocity))
        elif message.type in ("note_off", "note_on"):
            waiting = open_notes[track, message.channel, message.note]
            if waiting:  # an end without a beginning means nothing
                yield from close(message.note, waiting.popleft(), tick)
    for (_, _, pitch), waiting in open_notes.items():
        for begun in waiting:
            yield from close(pitch, begun, events[-1][0])


def _order(note: Note) -> tuple[Seconds, int, int, Seconds, int]:
    return note.onset_s, note.pitch, note.program, note.offset_s, note.velocity


# --- writing


def _ticks_per_s() -> float:
    return _TICKS_PER_BEAT * 1e6 / _DEFAULT_TEMPO


def _ticks(note: Note) -> tuple[int, int]:
    """Convert a note to its first tick and that of its end, which is at least one later."""
    on = round(note.onset_s * _ticks_per_s())
    return on, max(on + 1, round(note.offset_s * _ticks_per_s()))


def _placed(notes: Sequence[Note]) -> Iterator[tuple[Note, int, bool]]:
    """Assign each note a channel; True where the channel needs a program change first."""
    owner: dict[int, int] = {}  # channel -> program
    free_from: dict[int, int] = dict.fromkeys(range(16), -1)  # channel -> first tick after its last note
    for note in sorted(notes, key=_order):
        on, off = _ticks(note)
        if note.program == DRUMS:
            channel: int | None = _PERCUSSION
        else:
            channel = next((number for number, program in owner.items() if program == note.program), None)
        if channel is None:
            # One that nobody had; then the one that has been silent for longest.
            silent = [number for number in _MELODIC if free_from[number] < on]
            if not silent:
                raise ScoreError(
                    f"more than {len(_MELODIC)} programs sound at {note.onset_s:.3f} s; MIDI has no more channels, "
                    "write fewer instruments"
                )
            channel = min(silent, key=lambda number: (number in owner, free_from[number]))
        is_new = owner.get(channel) != note.program
        owner[channel] = note.program
        free_from[channel] = max(free_from[channel], off)
        yield note, channel, is_new
