"""Scores: the notes of a Standard MIDI File, in seconds, and a MIDI file of such notes.

    score = read_midi(path.read_bytes(), path.name)
    in_window = excerpt(score, 10.0, 20.0)

What the score says, not what a synthesizer makes of it: the sustain pedal lengthens no note, and
a note of a score that is cut off ends with the file. Notes of one channel and pitch that overlap
within a track end in the order in which they began.
"""

import io
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import mido

from tutti.datasets.bounded import read_bounded
from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import DRUMS, Defect, Note, Seconds
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.midi_file import NOTE_OFF, NOTE_ON, PROGRAM, MidiError, MidiFile, parse_midi
from tutti.datasets.scores.midi_meta import PORT, TEMPO

SCORE_SUFFIXES = (".mid", ".midi", ".kar", ".smf", ".rmi", ".rmid")
MAX_BYTES = 64 << 20  # of a file, most of it the sounds of an RMID; tracks may have less, see midi_file.py
MAX_SCORE_S = 10_800.0  # three hours: longer than any opera's act; a delta time can claim years
MIN_NOTE_S = 0.001  # what an excerpt's border leaves of a note below a millisecond is rounding, not music

_DEFAULT_TEMPO = 500_000  # microseconds per quarter note until the first tempo event: SMF 1.0
_PERCUSSION = 9  # MIDI channel 10, 0-based: General MIDI
_MELODIC = tuple(channel for channel in range(16) if channel != _PERCUSSION)
_TICKS_PER_BEAT = 10_000  # at the default tempo 50 microseconds a tick: finer than a sample at 16 kHz

_MAX_VALUE = 127  # of a data byte: SMF 1.0
_Begun = tuple[int, int, int, int]  # tick, pitch, program, velocity
_Played = tuple[int, int, int, int, int, bool]  # the same, tick of the end, whether it has an end of its own


class ScoreError(IntegrityError):
    """A MIDI file from which no notes can be had; `reason` is "bad_score" or "no_notes"."""

    def __init__(self, message: str, reason: str = "bad_score") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Unread:
    """A note whose pitch or program has a value that MIDI does not know."""

    onset_s: Seconds
    offset_s: Seconds
    defect: Defect


@dataclass(frozen=True)
class Score:
    """Notes sorted by (onset, pitch, program, offset, velocity), and where the music ends."""

    notes: tuple[Note, ...]
    end_s: Seconds  # time of the last event: no note ends later
    unread: tuple[Unread, ...] = ()  # notes that cannot be read, in the order of their onsets: not among `notes`
    repairs: int = 0  # what was amiss in the file and cost no note


def read_midi(data: bytes, name: str) -> Score:
    """Read the notes of a MIDI file that is one piece of music; what carries no notes may be odd.

    Args:
        data: the whole file; RMID, too.
        name: for errors.

    Raises:
        ScoreError: damaged where notes may be, cut off, of several pieces, too long, or without notes; names file,
            byte and remedy.
    """
    file = _parsed(data, name)
    clock = _Clock.of(file, name)
    end_tick = _end_tick(file, clock, name)
    notes: list[Note] = []
    unread: list[Unread] = []
    repairs = file.repairs + (end_tick != file.end_tick)
    for tick, pitch, program, velocity, end, has_end in _played(file, end_tick):
        onset_s, offset_s = clock.seconds(tick), clock.seconds(end)
        repairs += not has_end
        if offset_s <= onset_s:
            continue
        if defect := _defect(pitch, program):
            unread.append(Unread(onset_s, offset_s, defect))
        else:
            notes.append(Note(onset_s, offset_s, pitch, program, instrument_of(program), velocity))
    if not notes and unread:
        raise ScoreError(f"{name}: none of its notes can be read ({unread[0].defect.detail}); export the score again")
    if not notes:
        raise ScoreError(f"{name}: has no notes; export the score again, or remove it", "no_notes")
    unread.sort(key=lambda note: (note.onset_s, note.offset_s, note.defect.detail))
    return Score(tuple(sorted(notes, key=_order)), clock.seconds(end_tick), tuple(unread), repairs)


def load_midi(path: Path, name: str) -> Score:
    """Read the notes of a MIDI file on disk; see `read_midi`.

    Raises:
        ScoreError: likewise, or it is far too large, or no regular file.
        OSError: it cannot be read.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
    except IntegrityError as error:
        words = f"no file of at most {MAX_BYTES:,} bytes, which no score exceeds; remove it"
        raise ScoreError(f"{name}: {words}") from error
    return read_midi(data, name)


def _defect(pitch: int, program: int) -> Defect | None:
    """Describe what makes a note unreadable; None: nothing."""
    if pitch > _MAX_VALUE:
        return Defect("pitch_range", float(pitch), f"a note of pitch {pitch}; MIDI has 0 to {_MAX_VALUE}")
    if program > _MAX_VALUE and program != DRUMS:
        return Defect("bad_score", float(program), f"a note of program {program}; MIDI has 0 to {_MAX_VALUE}")
    return None


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


def _parsed(data: bytes, name: str) -> MidiFile:
    try:
        file = parse_midi(data)
    except MidiError as error:
        if error.cut_off:
            raise ScoreError(f"{name}: ends at byte {error.at} within an event or track; fetch it again") from error
        remedy = "" if error.at == 0 else "; the file is damaged, fetch it again"
        raise ScoreError(f"{name}: byte {error.at}: {error.text}{remedy}") from error
    if file.type == 2 and file.num_tracks > 1:
        raise ScoreError(f"{name}: byte 8: type 2, not one piece of music; export it as type 0 or 1")
    return file if file.type <= 1 else replace(file, repairs=file.repairs + 1)


@dataclass(frozen=True)
class _Clock:
    """The tempo map of a file: from each tick on, so many seconds per tick."""

    steps: tuple[tuple[int, Seconds, Seconds], ...]  # first tick, its time, seconds per tick

    @classmethod
    def of(cls, file: MidiFile, name: str) -> "_Clock":
        """Build the clock from the header's division and all tempo events."""
        division = file.division
        if division == 0:
            raise ScoreError(f"{name}: byte 12: 0 ticks per quarter note; export the score again")
        if division < 0:  # SMPTE: frames per second negated, then ticks per frame
            frames, ticks = 256 - (division >> 8 & 0xFF), division & 0xFF
            if frames not in (24, 25, 29, 30) or ticks == 0:
                raise ScoreError(f"{name}: byte 12: no such SMPTE time format; export it with ticks per quarter note")
            return cls(((0, 0.0, 1 / ((29.97 if frames == 29 else frames) * ticks)),))
        steps = [(0, 0.0, _DEFAULT_TEMPO * 1e-6 / division)]
        for tick, _, kind, tempo, _ in file.events:
            if kind == TEMPO:
                first, time_s, pace = steps[-1]
                steps.append((tick, time_s + (tick - first) * pace, tempo * 1e-6 / division))
        return cls(tuple(steps))

    def seconds(self, tick: int) -> Seconds:
        """Convert a tick to seconds."""
        first, time_s, pace = self.steps[bisect_right(self.steps, tick, key=itemgetter(0)) - 1]
        return round(time_s + (tick - first) * pace, 6)


def _end_tick(file: MidiFile, clock: _Clock, name: str) -> int:
    """Find the tick where the music ends: that of the last event, or of the last one that plays, if that is absurd."""
    if clock.seconds(file.end_tick) <= MAX_SCORE_S:
        return file.end_tick
    last = max((tick for tick, _, kind, _, _ in file.events if NOTE_OFF <= kind < PROGRAM), default=0)
    if clock.seconds(last) > MAX_SCORE_S:
        raise ScoreError(f"{name}: lasts longer than {MAX_SCORE_S:.0f} s; its delta times are damaged, fetch it again")
    return last


def _played(file: MidiFile, end_tick: int) -> Iterator[_Played]:
    """Pair events to notes, in the order of their ends; those without one end with the music.

    A program belongs to a channel of a port, whichever track sets it; pairs belong to a track.
    """
    ports: dict[int, int] = {}  # track -> port: how more than sixteen channels are written
    programs: dict[tuple[int, int], int] = {}  # port, channel -> program
    begun: dict[tuple[int, int, int], deque[_Begun]] = defaultdict(deque)
    for tick, track, kind, first, second in file.events:
        channel = kind & 0x0F
        if kind == PORT:
            ports[track] = first
        elif kind < NOTE_OFF:
            continue
        elif kind >= PROGRAM:
            programs[ports.get(track, 0), channel] = first
        elif kind >= NOTE_ON and second > 0:
            program = DRUMS if channel == _PERCUSSION else programs.get((ports.get(track, 0), channel), 0)
            begun[track, channel, first].append((tick, first, program, second))
        elif waiting := begun.get((track, channel, first)):  # an end without a beginning means nothing
            yield (*waiting.popleft(), tick, True)
    for waiting in begun.values():
        for note in waiting:
            yield (*note, end_tick, False)


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
