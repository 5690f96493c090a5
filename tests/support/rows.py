"""Typed rows for tests: short to write, complete in every field."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tutti.datasets.record import Clip, Label, StoredAudio

STORED = StoredAudio(
    blob="b" * 64,
    pcm_sha256="a" * 64,
    native_sha256="c" * 64,
    source_sha256="d" * 64,
    sample_rate=16_000,
    num_samples=160_000,
    native_sample_rate=44_100,
    native_num_samples=441_000,
    num_channels=2,
    codec="WAV/PCM_16",
    decoder="libsndfile",
    silence_share=0.0,
    loudness_lufs=-12.0,
    gain_db=3.5,
    true_peak_dbtp=-1.5,
    complete=True,
)


def stored(**changes: Any) -> StoredAudio:
    """Facts of ten good seconds, with changes."""
    return replace(STORED, **changes)


def clip(id: str = "irmas/song@0", *, audio: StoredAudio | None = STORED, **fields: Any) -> Clip:
    """A prepared clip; its source is the beginning of its id."""
    source, _, rest = id.partition("/")
    recording = rest.rpartition("@")[0]
    given: Mapping[str, Any] = {
        "source": source,
        "recording": recording,
        "group": f"{source}/{recording}",
        "partition": "train",
        **fields,
    }
    return Clip(id=id, audio=audio, **given)


def human(**presence: int) -> dict[str, Label]:
    """Labels by a person: `human(cello=1, flute=0)`."""
    return {name: Label(value, "human") for name, value in presence.items()}
