"""The sample's NSynth: single notes in three gzipped tars, with upstream's names, fields and defects.

`nsynth-<part>/audio/<note_str>.wav` and, behind them, `nsynth-<part>/examples.json`. As upstream, no
instrument of train is in valid or test, and these two share theirs. Planted: a near-silent note, one
noise under two names, and a pitch that no piano has.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import soundfile
from scipy.signal import resample_poly

from tutti.datasets.sample import dsp
from tutti.datasets.sample.dsp import Signal, db_to_gain, rng_for
from tutti.datasets.sample.encode import Member
from tutti.datasets.sample.instruments import INSTRUMENTS, note
from tutti.datasets.sample.timbre import draw_timbre

SAMPLE_RATE, NUM_SAMPLES = 16_000, 64_000
VELOCITIES = (50, 127)
NEAR_SILENT = "flute_acoustic_000-061-025"  # mean amplitude 2e-4
NOISES = ("brass_acoustic_046-084-025", "brass_acoustic_046-108-127")
NO_PIANO_KEY = "bass_electronic_000-018-127"

_FAMILIES = ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal")
_SOURCES = ("acoustic", "electronic", "synthetic")
_HELD_S, _RELEASE_S = 3.0, 0.12


@dataclass(frozen=True)
class Player:
    """One instrument: upstream's name and number, and who plays it here."""

    name: str
    number: int
    instrument: str  # of instruments.INSTRUMENTS
    variant: str = ""


_TRAIN = (
    Player("bass_electronic_000", 11, "bass"),
    Player("brass_acoustic_000", 64, "trumpet", "open"),
    Player("flute_acoustic_000", 119, "flute"),
    Player("guitar_acoustic_000", 172, "acoustic_guitar", "nylon"),
    Player("guitar_electronic_000", 225, "electric_guitar", "clean"),
    Player("keyboard_acoustic_000", 278, "piano"),
    Player("mallet_acoustic_000", 331, "mallet_percussion", "vibraphone"),
    Player("organ_electronic_000", 384, "organ", "hammond"),
    Player("reed_acoustic_000", 437, "clarinet"),
    Player("string_acoustic_000", 490, "violin"),
    Player("synth_lead_synthetic_000", 543, "synthesizer"),
    Player("vocal_acoustic_000", 596, "voice", "female"),
)
_EVALUATED = (
    Player("bass_electronic_001", 649, "bass"),
    Player("guitar_acoustic_001", 702, "acoustic_guitar", "steel"),
    Player("mallet_acoustic_001", 755, "mallet_percussion", "marimba"),
    Player("organ_electronic_001", 808, "organ", "pipe"),
    Player("reed_acoustic_001", 861, "saxophone", "smooth"),
    Player("string_acoustic_001", 914, "cello"),
)
_NOISE_PLAYER = Player("brass_acoustic_046", 1005, "trumpet", "open")


@dataclass(frozen=True)
class NoteJob:
    """Everything that a worker needs to write one note."""

    seed: int
    player: Player
    pitch: int
    velocity: int
    kind: str = "note"  # "note", "near-silent" or "noise"

    @property
    def name(self) -> str:
        """Upstream's note_str."""
        return f"{self.player.name}-{self.pitch:03}-{self.velocity:03}"


def plan_notes(seed: int, num_pitches: int) -> dict[str, tuple[NoteJob, ...]]:
    """Plan the notes of each part: `num_pitches` of each instrument, evenly over its compass, at every velocity.

    Every fourth note of the instruments of valid and test is in test.
    """
    train = [job for player in _TRAIN for job in _notes(seed, player, num_pitches)]
    evaluated = [job for player in _EVALUATED for job in _notes(seed, player, num_pitches)]
    flute, bass = _TRAIN[2], _TRAIN[0]
    train += [NoteJob(seed, flute, 61, 25, "near-silent"), NoteJob(seed, bass, 18, 127)]
    noises = [NoteJob(seed, _NOISE_PLAYER, pitch, velocity, "noise") for pitch, velocity in ((84, 25), (108, 127))]
    return {
        "train": tuple(train),
        "valid": tuple(job for index, job in enumerate(evaluated) if index % 4 != 1),
        "test": (*(job for index, job in enumerate(evaluated) if index % 4 == 1), *noises),
    }


def _notes(seed: int, player: Player, num_pitches: int) -> list[NoteJob]:
    low, high = INSTRUMENTS[player.instrument].compass(player.variant)
    pitches = sorted({round(pitch) for pitch in np.linspace(low, high, num_pitches).tolist()})
    return [NoteJob(seed, player, pitch, velocity) for pitch in pitches for velocity in VELOCITIES]


def render_note(job: NoteJob) -> Member:
    """Render a note's file: its name within the part, and a WAV of four seconds."""
    if job.kind == "noise":
        rng = rng_for(job.seed, "nsynth", job.player.name)
        signal = 0.05 * rng.standard_normal(NUM_SAMPLES)
    else:
        signal = _played(job)
    if job.kind == "near-silent":
        signal = signal * (2e-4 / np.mean(np.abs(signal)))
    samples = np.clip(np.rint(32_767 * signal), -32_768, 32_767).astype(np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return f"audio/{job.name}.wav", stream.getvalue()


def _played(job: NoteJob) -> Signal:
    """Play a note held for three seconds, then let go; softer and duller at low velocities."""
    variant = (job.player.variant,)
    timbre = draw_timbre(rng_for(job.seed, "nsynth", job.player.name), variant)
    timbre = replace(timbre, brightness=timbre.brightness + 0.4 * (job.velocity / 127 - 0.7))
    signal = note(
        job.player.instrument,
        midi=job.pitch,
        duration_s=NUM_SAMPLES / SAMPLE_RATE,
        timbre=timbre,
        rng=rng_for(job.seed, "nsynth", job.name),
    )
    times_s = np.arange(len(signal)) / dsp.SAMPLE_RATE
    released = signal * np.exp(-np.maximum(times_s - _HELD_S, 0) / _RELEASE_S)
    level_db = 20 * np.log10(job.velocity / 127)
    resampled = resample_poly(released, 160, 441)[:NUM_SAMPLES]  # 44,100 to 16,000 Hz
    return np.asarray(resampled * db_to_gain(level_db))


def tgz_members(part: str, jobs: Sequence[NoteJob], rendered: Iterable[Member]) -> Iterator[Member]:
    """Yield the whole archive of a part; `rendered` holds its notes in order."""
    for name, content in rendered:
        yield f"nsynth-{part}/{name}", content
    order = rng_for(0, "nsynth", part).permutation(len(jobs)).tolist()  # upstream's order is no order
    described = {jobs[index].name: _fields(jobs[index], index) for index in order}
    yield f"nsynth-{part}/examples.json", json.dumps(described).encode()


def _fields(job: NoteJob, number: int) -> dict[str, Any]:
    family, source, _ = job.player.name.rsplit("_", 2)
    return {
        "qualities": [0] * 10,
        "pitch": job.pitch,
        "note": number,
        "instrument_source_str": source,
        "velocity": job.velocity,
        "instrument_str": job.player.name,
        "instrument": job.player.number,
        "sample_rate": SAMPLE_RATE,
        "qualities_str": [],
        "instrument_source": _SOURCES.index(source),
        "note_str": job.name,
        "instrument_family": _FAMILIES.index(family),
        "instrument_family_str": family,
    }
