"""Small datasets with notes: melodies of two made-up instruments, for the tests of the recipes that learn notes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import signals
from dataset_fixture import Example, _clip, write_manifest

from tutti.datasets.audio import encode, measure_loudness, to_int16
from tutti.datasets.manifest import file_sha256
from tutti.datasets.record import Note
from tutti.datasets.shard import shard_path, write_shard
from tutti.datasets.shard_info import ShardInfo

RATE = 16_000
PROGRAMS = {"flute": 73, "piano": 0}
PARTIALS = {"flute": (1.0, 0.05), "piano": (0.6, 0.5, 0.4, 0.3, 0.2)}
DECAY_PER_S = {"flute": 0.2, "piano": 3.0}


def tone(instrument: str, pitch: int, duration_s: float) -> np.ndarray:
    time_s = np.arange(round(duration_s * RATE)) / RATE
    frequency_hz = 440 * 2 ** ((pitch - 69) / 12)
    partials = [
        weight * np.sin(2 * np.pi * frequency_hz * (number + 1) * time_s)
        for number, weight in enumerate(PARTIALS[instrument])
    ]
    fade = np.minimum(1, np.minimum(time_s, duration_s - time_s) / 0.005)  # no click at the ends
    return 0.15 * np.sum(partials, axis=0) * np.exp(-DECAY_PER_S[instrument] * time_s) * fade


def melody(rng: np.random.Generator, duration_s: float, instruments: Sequence[str]) -> list[Note]:
    """One voice per instrument, of a small octave, with rests."""
    notes = []
    for name in instruments:
        at_s = float(rng.uniform(0, 0.4))
        while at_s < duration_s - 0.2:
            end_s = min(duration_s, at_s + float(rng.choice([0.2, 0.4, 0.6])))
            pitch = int(rng.choice([60, 62, 64, 67, 69]))
            notes.append(Note(round(at_s, 6), round(end_s, 6), pitch, PROGRAMS[name], name, 80))
            at_s = end_s + float(rng.choice([0.0, 0.3]))
    return sorted(notes, key=lambda note: (note.onset_s, note.pitch))


def played(notes: Sequence[Note], duration_s: float) -> np.ndarray:
    samples = signals.noise(duration_s, amplitude=1e-3, sample_rate=RATE)[0].astype(np.float64)
    for note in notes:
        sound = tone(note.instrument or "piano", note.pitch, note.offset_s - note.onset_s)
        first = round(note.onset_s * RATE)
        samples[first : first + len(sound)] += sound[: len(samples) - first]
    return samples.astype(np.float32)


Scored = tuple[Example, tuple[Note, ...] | None]


def scored_example(split: str, number: int, *, duration_s: float = 2.0) -> Scored:
    rng = np.random.default_rng([number, len(split)])
    playing = [("flute",), ("piano",), ("flute", "piano")][number % 3]
    notes = melody(rng, duration_s, playing)
    presence = {name: int(name in playing) for name in PROGRAMS}
    waveform = played(notes, duration_s)
    loudness_lufs = measure_loudness(waveform, RATE)  # training brings every clip to one loudness, as prediction does
    example = Example(f"fixture/{split}/{number:03d}@0", split, to_int16(waveform), presence, loudness_lufs)
    return example, tuple(notes)


def write_scored(folder: Path, examples: Sequence[Scored], instruments: Sequence[str] = tuple(PROGRAMS)) -> Path:
    """A version folder whose shards have notes; null for clips without a score."""
    infos = []
    for split in sorted({example.split for example, _ in examples}):
        path = folder / shard_path(split, 0, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        members = sorted((pair for pair in examples if pair[0].split == split), key=lambda pair: pair[0].id)
        rows = [(replace(_clip(e, RATE), notes=notes), encode(e.samples, RATE, "flac")) for e, notes in members]
        with path.open("wb") as stream:
            count, content = write_shard(stream, rows, instruments, sample_rate=RATE, rows_per_group=4, notes=True)
        infos.append(
            ShardInfo(str(path.relative_to(folder)), split, count, path.stat().st_size, file_sha256(path), content)
        )
    write_manifest(folder, infos, instruments)
    return folder
