"""A user's audio file, decoded and scaled as training does."""

from pathlib import Path
from typing import Protocol

from tutti.datasets import audio
from tutti.datasets.errors import IntegrityError, TryLaterError, UsageError
from tutti.datasets.record import Decibels, Lufs


class Level(Protocol):
    """The rate and loudness of a recipe."""

    @property
    def sample_rate(self) -> int:
        """The sample rate in Hz."""
        ...

    @property
    def target_lufs(self) -> Lufs:
        """Loudness of every clip."""
        ...

    @property
    def max_gain_db(self) -> Decibels:
        """Largest gain towards it."""
        ...


def load_mono(path: Path, level: Level) -> audio.Mono:
    """Decode a file as training does: mono, the recipe's sample rate and loudness; float32.

    Unlike the build's 16-bit audio it may exceed 1: nothing is clipped.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
        TryLaterError: memory does not suffice for it.
    """
    try:
        return _load(path, level)
    except MemoryError as error:  # a property of this machine, not of the file
        raise TryLaterError(f"{path}: not enough memory to decode it; free memory or raise `ulimit -v`") from error


def _load(path: Path, level: Level) -> audio.Mono:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give audio files") from error
    try:
        decoded = audio.decode(data, str(path))
    except audio.DecodeError as error:
        raise IntegrityError(f"{error}; not an audio file, or damaged") from error
    sample_rate = level.sample_rate
    mono = audio.resample(audio.to_mono(decoded.waveform), decoded.sample_rate, sample_rate)
    if not mono.size:
        raise IntegrityError(f"{path}: too short to hold a sample at {sample_rate} Hz")
    gain_db = audio.loudness_gain_db(
        audio.measure_loudness(mono, sample_rate),
        None,  # no true-peak guard: in float nothing clips
        target_lufs=level.target_lufs,
        max_true_peak_dbtp=0.0,
        max_gain_db=level.max_gain_db,
    )
    return audio.apply_gain(mono, gain_db)
