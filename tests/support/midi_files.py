"""MIDI files for tests, made with mido, and what they sound like: decaying sines at their notes.

Times are seconds; 480 ticks a quarter note at the default tempo, so 960 ticks a second.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
from signals import Waveform, encoded

from tutti.datasets.record import DRUMS, Note, Seconds
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.score import Score, write_midi

TICKS_PER_S = 960
SAMPLE_RATE = 22_050
EDGE_S = 0.01  # a hammer's attack, a damper's release: without them tones begin and end with a click


def midi(*tracks: Sequence[mido.Message], type: int = 1, ticks_per_beat: int = 480) -> bytes:
    """A file of these tracks; times of messages are ticks since the one before."""
    file = mido.MidiFile(type=type, ticks_per_beat=ticks_per_beat)
    file.tracks.extend(mido.MidiTrack(track) for track in tracks)
    stream = io.BytesIO()
    file.save(file=stream)
    return stream.getvalue()


def on(pitch: int, ticks: int = 0, *, channel: int = 0, velocity: int = 64) -> mido.Message:
    """A key goes down."""
    return mido.Message("note_on", note=pitch, time=ticks, channel=channel, velocity=velocity)


def off(pitch: int, ticks: int = 0, *, channel: int = 0) -> mido.Message:
    """A key goes up."""
    return mido.Message("note_off", note=pitch, time=ticks, channel=channel)


def program(number: int, ticks: int = 0, *, channel: int = 0) -> mido.Message:
    """A channel gets another sound."""
    return mido.Message("program_change", program=number, time=ticks, channel=channel)


def tempo(microseconds_per_beat: int, ticks: int = 0) -> mido.MetaMessage:
    """The music goes faster or slower."""
    return mido.MetaMessage("set_tempo", tempo=microseconds_per_beat, time=ticks)


def note(onset_s: Seconds, offset_s: Seconds, pitch: int = 69, program: int = 0, velocity: int = 64) -> Note:
    """A note of a program's own instrument."""
    return Note(onset_s, offset_s, pitch, program, instrument_of(program), velocity)


def tune(seed: int, duration_s: Seconds = 12.0, programs: Sequence[int] = (0,), beat_s: Seconds = 0.25) -> Score:
    """Random chords on a regular beat: two tunes differ in their pitches, hardly in their rhythm."""
    rng = np.random.default_rng(seed)
    notes = []
    for onset_s in np.arange(0.0, duration_s - beat_s, beat_s):
        if rng.uniform() < 0.3:
            continue
        for pitch in rng.choice(np.arange(45, 80), size=rng.integers(1, 4), replace=False).tolist():
            length_s = beat_s * float(rng.integers(1, 4))
            chosen = int(rng.choice(list(programs)))
            notes.append(note(float(onset_s), float(min(onset_s + length_s, duration_s)), pitch, chosen))
    return Score(tuple(sorted(notes, key=lambda n: (n.onset_s, n.pitch, n.program, n.offset_s))), duration_s)


def sound(score: Score, *, delay_s: Seconds = 0.0, tail_s: Seconds = 0.5, sample_rate: int = SAMPLE_RATE) -> Waveform:
    """(1, num_samples): four harmonics a note, each decaying; percussion is bursts of noise."""
    rng = np.random.default_rng(0)
    mono = np.zeros(round((score.end_s + delay_s + tail_s) * sample_rate))
    for played in score.notes:
        first = round((played.onset_s + delay_s) * sample_rate)
        length = min(round((played.offset_s - played.onset_s) * sample_rate), len(mono) - first)
        time_s = np.arange(max(0, length)) / sample_rate
        if played.program == DRUMS:
            wave, decay_s = rng.standard_normal(len(time_s)), 0.05
        else:
            frequency_hz = 440.0 * 2 ** ((played.pitch - 69) / 12)
            wave, decay_s = sum(np.sin(2 * np.pi * frequency_hz * k * time_s) / k for k in (1, 2, 3, 4)), 0.6
        edges = np.minimum(1.0, np.minimum(time_s, time_s[-1:] - time_s) / EDGE_S)
        mono[first : first + len(time_s)] += wave * edges * np.exp(-time_s / decay_s)
    peak = np.abs(mono).max(initial=1e-9)
    return (0.5 * mono / peak).astype(np.float32)[None]


def write_pair(root: Path, key: str, score: Score, waveform: Waveform) -> None:
    """`mid/<key>.mid` and `mp3/<key>.mp3`, as the crawler of the corpus left them."""
    for folder, content in (
        ("mid", write_midi(score)),
        ("mp3", encoded(waveform, sample_rate=SAMPLE_RATE, kind="MP3", subtype=None)),
    ):
        path = root / folder / f"{key}.{folder}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
