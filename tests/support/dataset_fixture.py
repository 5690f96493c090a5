"""Small dataset versions with real shards, for the tests of training.

Four made-up timbres stand for four instruments, each in its own frequency range, so that a small
network tells them apart within seconds. Labels are fully known in validation and test; in train
half of the absent ones are unknown.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import signals
from numpy.typing import NDArray
from whole_manifest import manifest_content

from tutti.datasets.audio import encode, pcm_sha256, to_int16
from tutti.datasets.manifest import Manifest, canonical_json, file_sha256, manifest_path
from tutti.datasets.record import Clip, Label, StoredAudio
from tutti.datasets.shard import shard_path, write_shard
from tutti.datasets.shard_info import ShardInfo

SAMPLE_RATE = 16_000
INSTRUMENTS = ("cello", "flute", "piano", "voice")


@dataclass(frozen=True)
class Example:
    """One clip to be written: its samples and what is known of it."""

    id: str
    split: str
    samples: NDArray[np.int16]
    presence: Mapping[str, int]  # instruments left out are unknown
    loudness_lufs: float | None = -12.0
    gain_db: float = 0.0


def write_dataset(
    folder: Path,
    examples: Sequence[Example],
    instruments: Sequence[str] = INSTRUMENTS,
    *,
    sample_rate: int = SAMPLE_RATE,
    rows_per_shard: int = 16,
    audio_format: str = "flac",
) -> Path:
    """Write a version folder: shards and a manifest that lists them."""
    infos: list[ShardInfo] = []
    for split in sorted({example.split for example in examples}):
        members = sorted((example for example in examples if example.split == split), key=lambda example: example.id)
        parts = [members[first : first + rows_per_shard] for first in range(0, len(members), rows_per_shard)]
        for index, part in enumerate(parts):
            path = folder / shard_path(split, index, len(parts))
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [
                (_clip(example, sample_rate), encode(example.samples, sample_rate, audio_format)) for example in part
            ]
            with path.open("wb") as stream:
                count, content = write_shard(stream, rows, instruments, sample_rate=sample_rate, rows_per_group=4)
            relative = str(path.relative_to(folder))
            infos.append(ShardInfo(relative, split, count, path.stat().st_size, file_sha256(path), content))
    write_manifest(folder, infos, instruments)
    return folder


def write_manifest(folder: Path, infos: Sequence[ShardInfo], instruments: Sequence[str] = INSTRUMENTS) -> None:
    """Write manifest.json for shards that are there."""
    content = manifest_content(infos, instruments)
    path = manifest_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(canonical_json(content) + "\n", encoding="utf-8")


def reseal(folder: Path, manifest: Manifest | None = None) -> None:
    """Let the manifest list the shards as they are now, as a stranger does who means harm; also one that was read."""
    path = manifest_path(folder)
    content = json.loads(path.read_text(encoding="utf-8"))
    for each in (content, *([] if manifest is None else [manifest.content])):
        for info in each["shards"]:
            shard = folder / info["path"]
            info |= {"num_bytes": shard.stat().st_size, "sha256": file_sha256(shard)}
    path.write_text(canonical_json(content) + "\n", encoding="utf-8")


def _clip(example: Example, sample_rate: int) -> Clip:
    size = len(example.samples)
    audio = StoredAudio(
        blob="",
        pcm_sha256=pcm_sha256(example.samples),
        native_sha256="",
        source_sha256="",
        sample_rate=sample_rate,
        num_samples=size,
        native_sample_rate=sample_rate,
        native_num_samples=size,
        num_channels=1,
        codec="WAV/PCM_16",
        decoder="libsndfile",
        silence_share=0.0,
        loudness_lufs=example.loudness_lufs,
        gain_db=example.gain_db,
        true_peak_dbtp=-3.0,
        complete=True,
    )
    labels = {name: Label(presence, "human") for name, presence in example.presence.items()}
    return Clip(
        id=example.id,
        source="fixture",
        recording=example.id,
        group=example.id,
        partition=example.split,
        labels=labels,
        end_s=size / sample_rate,
        audio=audio,
        split=example.split,
    )


def timbre(instrument: str, duration_s: float, rng: np.random.Generator) -> signals.Waveform:
    """(1, num_samples): a tone or noise that is this instrument's alone."""
    low_hz = {"cello": 100.0, "flute": 700.0, "piano": 2_500.0}
    if instrument == "voice":
        noise = signals.noise(duration_s, amplitude=0.1, sample_rate=SAMPLE_RATE, seed=int(rng.integers(1 << 30)))
        return np.diff(noise, prepend=0.0).astype(np.float32)  # brighter than the tones
    frequency_hz = low_hz[instrument] * rng.uniform(1, 1.8)
    return signals.sine(duration_s, frequency_hz=frequency_hz, amplitude=0.2, sample_rate=SAMPLE_RATE)


def mixture(
    split: str, number: int, rng: np.random.Generator, *, duration_s: float | None = None, unknown_share: float = 0.0
) -> Example:
    """One to three instruments at once."""
    playing = rng.permutation(INSTRUMENTS)[: rng.integers(1, 4)].tolist()
    seconds = float(rng.choice([0.8, 1.0, 2.3])) if duration_s is None else duration_s
    waveform = sum(timbre(name, seconds, rng) for name in playing) + signals.noise(
        seconds, amplitude=1e-3, sample_rate=SAMPLE_RATE, seed=number
    )
    presence = {name: int(name in playing) for name in INSTRUMENTS if name in playing or rng.uniform() >= unknown_share}
    return Example(f"fixture/{split}/{number:03d}@0", split, to_int16(waveform[0]), presence)


def learnable_dataset(folder: Path, *, num_train: int = 64, num_others: int = 24, seed: int = 0) -> Path:
    """A dataset version that a small network learns in seconds."""
    rng = np.random.default_rng(seed)
    examples = [mixture("train", number, rng, unknown_share=0.5) for number in range(num_train)]
    for split in ("validation", "test"):
        examples += [mixture(split, number, rng) for number in range(num_others)]
    return write_dataset(folder, examples)
