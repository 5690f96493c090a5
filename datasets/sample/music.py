"""Songs: players with their timbres, a key, a tempo, a room; and excerpts of what they play.

    song = Song(seed=0, name="irmas/0001", players=("violin", "piano"))
    pcm = song.excerpt("part 1", 132_299, {"violin": 0.0, "piano": -4.0})    # int16 (132299, 2)

A song's notes are rendered once and reused, as in a sampler. The same (seed, name, excerpt) gives
the same samples, whatever was rendered before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from tutti.datasets.sample.dsp import SAMPLE_RATE, Signal, db_to_gain, fade_edges, noise_band, rng_for
from tutti.datasets.sample.instruments import DRUMS, INSTRUMENTS, note
from tutti.datasets.sample.percussion import drum_loop
from tutti.datasets.sample.room import Pcm, amplified, chorused, impulse_response, mixed, to_pcm
from tutti.datasets.sample.timbre import Timbre, draw_timbre

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10))  # major, minor, dorian
_RHYTHMS = ((1, 1, 0.5, 0.5, 1), (0.5, 0.5, 1, 2), (1.5, 0.5, 1, 1), (0.5, 0.5, 0.5, 0.5, 1, 1), (2, 1, 1))
_LEAD_IN_S = 0.4  # played before an excerpt starts, so that it starts amid the music
_LONGEST_NOTE_S = 2.0
_DRIVE_DB = {"crunch": 9.0, "driven": 17.0}


class Event(NamedTuple):
    """One note to play."""

    start_s: float
    midi: int
    duration_s: float
    gain: float


@dataclass(frozen=True)
class Player:
    """One instrument of a song."""

    instrument: str
    timbre: Timbre
    style: str
    low: int  # the part of the compass that this song uses, MIDI numbers
    high: int
    pan: float


@dataclass(frozen=True)
class Harmony:
    """Key, chords and tempo that all players of a song share."""

    tonic: int  # pitch class
    scale: tuple[int, ...]
    degrees: tuple[int, ...]  # of the chords, one after the other
    beat_s: float
    chord_s: float

    def chord_at(self, time_s: float) -> tuple[int, ...]:
        """Return the pitch classes of the triad that sounds at a time, root first."""
        degree = self.degrees[int(time_s / self.chord_s) % len(self.degrees)]
        return tuple((self.tonic + self.scale[(degree + step) % 7]) % 12 for step in (0, 2, 4))

    def pitches(self, low: int, high: int, classes: Sequence[int] | None = None) -> list[int]:
        """List the MIDI numbers of the scale, or of the given pitch classes, within a range."""
        wanted = {(self.tonic + step) % 12 for step in self.scale} if classes is None else set(classes)
        return [midi for midi in range(low, high + 1) if midi % 12 in wanted]


Compose: TypeAlias = Callable[[np.random.Generator, Harmony, Player, float], list[Event]]


@dataclass(frozen=True)
class Style:
    """A way to play: `compose(rng, harmony, player, duration_s)` answers the notes."""

    compose: Compose
    longest_beats: float  # no note is longer than this, nor than _LONGEST_NOTE_S


def _melody(rng: np.random.Generator, harmony: Harmony, player: Player, duration_s: float) -> list[Event]:
    pitches = harmony.pitches(player.low, player.high)
    position, time_s, events = int(rng.integers(len(pitches))), float(-rng.uniform(0, 0.3)), list[Event]()
    while time_s < duration_s:
        for beats in _RHYTHMS[int(rng.integers(len(_RHYTHMS)))]:
            length_s = min(beats * harmony.beat_s, _LONGEST_NOTE_S)
            step = int(rng.choice((-3, -2, -1, -1, 0, 1, 1, 2, 3)))
            position = min(max(position + step, 0), len(pitches) - 1)
            legato = float(rng.uniform(0.8, 1.02))
            events.append(Event(time_s, pitches[position], length_s * legato, float(rng.uniform(0.6, 1.0))))
            time_s += length_s
    return events


def _sustained(rng: np.random.Generator, harmony: Harmony, player: Player, duration_s: float) -> list[Event]:
    """Compose long notes of the chord."""
    events, time_s = list[Event](), float(-rng.uniform(0, 0.5))
    while time_s < duration_s:
        pitches = harmony.pitches(player.low, player.high, harmony.chord_at(max(time_s, 0)))
        length_s = float(rng.uniform(1.2, _LONGEST_NOTE_S))
        events.append(Event(time_s, int(rng.choice(pitches)), length_s * 1.02, float(rng.uniform(0.7, 1.0))))
        time_s += length_s
    return events


def _voicing(rng: np.random.Generator, harmony: Harmony, player: Player, time_s: float, size: int) -> list[int]:
    pitches = harmony.pitches(player.low, player.high, harmony.chord_at(time_s))
    start = int(rng.integers(max(1, len(pitches) - size + 1)))
    return pitches[start : start + size]


def _chords(rng: np.random.Generator, harmony: Harmony, player: Player, duration_s: float) -> list[Event]:
    """Compose block chords, held or repeated."""
    repeat_s = min(harmony.chord_s / int(rng.choice((1, 1, 2))), _LONGEST_NOTE_S)
    events, time_s = list[Event](), 0.0
    while time_s < duration_s:
        gain = float(rng.uniform(0.6, 1.0))
        for midi in _voicing(rng, harmony, player, time_s, 4):
            events.append(Event(time_s + float(rng.uniform(0, 0.012)), midi, repeat_s, gain))
        time_s += repeat_s
    return events


def _two_hands(rng: np.random.Generator, harmony: Harmony, player: Player, duration_s: float) -> list[Event]:
    """Compose chords on the right, a low note of each chord, repeated on its beats, on the left."""
    events, time_s = _chords(rng, harmony, player, duration_s), 0.0
    step_s = min(harmony.beat_s * int(rng.choice((1, 2))), _LONGEST_NOTE_S)
    lowest = max(player.low - 19, 28)
    while time_s < duration_s:
        root = harmony.pitches(lowest, lowest + 11, harmony.chord_at(time_s)[:1])[0]
        events.append(Event(time_s, root, step_s, float(rng.uniform(0.8, 1.0))))
        time_s += step_s
    return events


def _strum(rng: np.random.Generator, harmony: Harmony, player: Player, duration_s: float) -> list[Event]:
    """Compose chords strummed down and up, string after string."""
    events, time_s, down = list[Event](), 0.0, True
    while time_s < duration_s:
        length_s = harmony.beat_s * float(rng.choice((0.5, 0.5, 1.0)))
        gain = float(rng.uniform(0.5, 1.0))
        voicing = harmony.pitches(player.low, player.high, harmony.chord_at(time_s))[:5]
        for string, midi in enumerate(voicing if down else voicing[::-1]):
            events.append(Event(time_s + 0.011 * string, midi, length_s * 1.1, gain))
        time_s, down = time_s + length_s, not down
    return events


def _arpeggio(rng: np.random.Generator, harmony: Harmony, player: Player, duration_s: float) -> list[Event]:
    """Compose broken chords whose notes ring into each other."""
    step_s = max(harmony.beat_s / int(rng.choice((2, 3))), 0.12)
    events, time_s, index = list[Event](), 0.0, 0
    while time_s < duration_s:
        pitches = harmony.pitches(player.low, player.high, harmony.chord_at(time_s))[:6]
        place = index % (2 * len(pitches) - 2) if len(pitches) > 1 else 0
        midi = pitches[place if place < len(pitches) else 2 * len(pitches) - 2 - place]
        events.append(Event(time_s, midi, 3 * step_s, float(rng.uniform(0.6, 1.0))))
        time_s, index = time_s + step_s, index + 1
    return events


def _power(rng: np.random.Generator, harmony: Harmony, player: Player, duration_s: float) -> list[Event]:
    """Compose root, fifth and octave: the electric guitar's chord under distortion."""
    events, time_s = list[Event](), 0.0
    while time_s < duration_s:
        length_s = harmony.beat_s * float(rng.choice((0.5, 0.5, 1.0, 2.0)))
        root = harmony.pitches(player.low, player.low + 11, harmony.chord_at(time_s)[:1])[0]
        for interval in (0, 7, 12):
            events.append(Event(time_s, root + interval, min(length_s, _LONGEST_NOTE_S) * 0.95, 1.0))
        time_s += length_s
    return events


def _bassline(rng: np.random.Generator, harmony: Harmony, player: Player, duration_s: float) -> list[Event]:
    events, time_s = list[Event](), 0.0
    while time_s < duration_s:
        chord = harmony.chord_at(time_s)
        wanted = chord[0] if rng.random() < 0.7 else chord[2]
        midi = harmony.pitches(player.low, player.high, (wanted,))[0]
        events.append(Event(time_s, midi, harmony.beat_s * 0.9, float(rng.uniform(0.7, 1.0))))
        time_s += harmony.beat_s
    return events


STYLES: dict[str, Style] = {
    "melody": Style(_melody, 2.05),
    "sustained": Style(_sustained, 8),
    "chords": Style(_chords, 4),
    "two_hands": Style(_two_hands, 4),
    "strum": Style(_strum, 1.1),
    "arpeggio": Style(_arpeggio, 1.5),
    "power": Style(_power, 2),
    "bassline": Style(_bassline, 1),
}


def _draw_player(rng: np.random.Generator, instrument: str, *, alone: bool) -> Player:
    pan = float(rng.uniform(-0.2, 0.2) if alone else rng.uniform(-0.8, 0.8))
    if instrument == DRUMS:
        return Player(DRUMS, draw_timbre(rng, ("",)), "", 0, 0, pan)
    spec = INSTRUMENTS[instrument]
    timbre = draw_timbre(rng, spec.variants)
    style = spec.styles[int(rng.integers(len(spec.styles)))]
    low, high = spec.compass(timbre.variant)
    span = 14 if style in ("melody", "sustained", "bassline") else 21
    room = max(high - span - low, 0)  # most songs stay near the middle of the compass
    start = low + round(room * float(np.clip(rng.normal(0.45, 0.15), 0, 1)))
    return Player(instrument, timbre, style, start, min(start + span, high), pan)


class Song:
    """Several instruments that play together; every excerpt may use other ones of them."""

    def __init__(self, seed: int, name: str, players: Sequence[str]) -> None:
        self._seed, self._name = seed, name
        rng = rng_for(seed, name)
        beat_s = 60 / float(rng.uniform(72, 150))
        self._harmony = Harmony(
            tonic=int(rng.integers(12)),
            scale=_SCALES[int(rng.integers(len(_SCALES)))],
            degrees=tuple(int(degree) for degree in rng.choice(6, size=4)),
            beat_s=beat_s,
            chord_s=beat_s * (2 if beat_s > 0.6 else 4),
        )
        self._response = impulse_response(rng)
        self._peak_db = float(rng.uniform(-13, -1))
        self._hiss_db = float(rng.uniform(-75, -46))
        self._players = {
            instrument: _draw_player(rng_for(seed, name, instrument), instrument, alone=len(players) == 1)
            for instrument in players
        }
        self._notes: dict[tuple[str, int], Signal] = {}

    def excerpt(self, name: str, num_samples: int, gains_db: Mapping[str, float]) -> Pcm:
        """Render the given players at the given levels, throughout; int16 (num_samples, 2) at 44.1 kHz."""
        lead_in = round(_LEAD_IN_S * SAMPLE_RATE)
        total = num_samples + lead_in
        tracks = []
        for instrument, gain_db in gains_db.items():
            player = self._players[instrument]
            part = self._part(player, rng_for(self._seed, self._name, name, instrument), total)
            loudness = float(np.sqrt(np.mean(part**2))) or 1.0
            tracks.append((part * (db_to_gain(gain_db) / loudness), player.pan))
        stereo = mixed(tracks, self._response)[lead_in:]
        rng = rng_for(self._seed, self._name, name)
        stereo += db_to_gain(self._hiss_db) * noise_band(rng, num_samples, 100, 8000)[:, np.newaxis]
        return to_pcm(stereo, self._peak_db)

    def _part(self, player: Player, rng: np.random.Generator, num_samples: int) -> Signal:
        """Render all notes of one player."""
        if player.instrument == DRUMS:
            return drum_loop(num_samples, self._harmony.beat_s, player.timbre, rng)
        events = STYLES[player.style].compose(rng, self._harmony, player, num_samples / SAMPLE_RATE)
        release_s = 0.12 if INSTRUMENTS[player.instrument].rings else 0.06
        part = np.zeros(num_samples)
        for event in events:
            start = round(event.start_s * SAMPLE_RATE)
            skipped = max(0, -start)  # of a note that began before the excerpt
            length = min(round((event.duration_s + release_s) * SAMPLE_RATE), num_samples - start)
            if length > skipped:
                sound = fade_edges(self._note(player, event.midi, length), 0, release_s)
                part[start + skipped : start + len(sound)] += event.gain * sound[skipped:]
        if player.timbre.variant in _DRIVE_DB:
            return amplified(part, _DRIVE_DB[player.timbre.variant] + 4 * player.timbre.brightness)
        return chorused(part, rng) if player.timbre.variant == "chorus" else part

    def _note(self, player: Player, midi: int, num_samples: int) -> Signal:
        """Take a note from the bank; it is rendered at full length, so that no order of calls changes it."""
        key = (player.instrument, midi)
        if key not in self._notes:
            rng = rng_for(self._seed, self._name, player.instrument, midi)
            longest_s = min(STYLES[player.style].longest_beats * self._harmony.beat_s, _LONGEST_NOTE_S) + 0.2
            self._notes[key] = note(player.instrument, midi=midi, duration_s=longest_s, timbre=player.timbre, rng=rng)
        return self._notes[key][:num_samples]
