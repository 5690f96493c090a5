"""A user's audio file, decoded and scaled as training does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tutti.datasets import audio
from tutti.datasets.audibility import Audibility, AudibilityLimits, Downmix, Finding, judge
from tutti.datasets.errors import IntegrityError, TryLaterError, UsageError
from tutti.datasets.record import Decibels, Lufs

SILENCE = 0.001  # of full scale; Lumen 2023, "Obvious outliers"
SILENT_CHUNK = 0.99  # share of samples
TOO_SHORT_S = 0.02  # to measure a loudness


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


@dataclass(frozen=True)
class Sound:
    """A user's audio file as a model hears it."""

    mono: audio.Mono  # float32 (num_samples,) at the recipe's rate and loudness
    finding: Finding | None  # why there is nothing to hear in it; None: there is
    silence_amplitude: float  # below it, `mono` is silent

    def is_silent(self, first: int, end: int) -> bool:
        """Whether hardly a sample from `first` up to `end` is louder: the end of a note, the ringing of a filter."""
        return audio.silence_share(self.mono[first:end], self.silence_amplitude) >= SILENT_CHUNK


def load_mono(path: Path, level: Level, downmix: Downmix = "mean") -> audio.Mono:
    """Decode a file as training does: mono, the recipe's sample rate and loudness; float32.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
        TryLaterError: memory does not suffice for it.
    """
    return load_sound(path, level, downmix).mono


def load_sound(path: Path, level: Level, downmix: Downmix = "mean") -> Sound:
    """Decode a file as training does, and judge whether there is anything to hear in it.

    Unlike the build's 16-bit audio it may exceed 1: nothing is clipped.

    Raises:
        UsageError: no such file.
        IntegrityError: it is no audio that the decoders read.
        TryLaterError: memory does not suffice for it.
    """
    try:
        return _load(path, level, downmix)
    except MemoryError as error:  # a property of this machine, not of the file
        raise TryLaterError(f"{path}: not enough memory to decode it; free memory or raise `ulimit -v`") from error


def _load(path: Path, level: Level, downmix: Downmix) -> Sound:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give audio files") from error
    try:
        decoded = audio.decode(data, str(path))
    except audio.DecodeError as error:
        raise IntegrityError(f"{error}; not an audio file, or damaged") from error
    sample_rate = level.sample_rate
    native = audio.mix_down(decoded.waveform, downmix)
    cancelled_db = audio.measure_cancelled(decoded.waveform, native) if downmix == "mean" else None
    mono = audio.resample(native, decoded.sample_rate, sample_rate)
    if not mono.size:
        raise IntegrityError(f"{path}: too short to hold a sample at {sample_rate} Hz")
    loudness = audio.measure_loudness(mono, sample_rate)
    gain_db = audio.loudness_gain_db(
        loudness,
        None,  # no true-peak guard: in float nothing clips
        target_lufs=level.target_lufs,
        max_true_peak_dbtp=0.0,
        max_gain_db=level.max_gain_db,
    )
    scaled = audio.apply_gain(mono, gain_db)
    if cancelled_db is None and audio.silence_share(native, SILENCE) == 1.0:
        finding: Finding | None = Finding("silent", 1.0)
    else:
        finding = _finding(mono, scaled, sample_rate, cancelled_db, loudness)
    return Sound(scaled, finding, SILENCE * float(10 ** (gain_db / 20)))


def _finding(
    mono: audio.Mono, scaled: audio.Mono, sample_rate: int, cancelled_db: Decibels | None, loudness: Lufs | None
) -> Finding | None:
    """Apply the rules of the build, but that a file may be silent for most of its time, and may have a spike.

    Chunks without a sound are silent by themselves, and a spike takes nothing away unless all loudness is its own.
    """
    if loudness is None and mono.size < TOO_SHORT_S * sample_rate:  # to measure
        return None
    spike_db = audio.measure_spike(mono, sample_rate)
    own_share, scaled_share = audio.silence_share(mono, SILENCE), audio.silence_share(scaled, SILENCE)
    is_left = 1 - scaled_share >= 0.2 * (1 - own_share)  # of what sounds
    peak_db = audio.true_peak_dbtp(mono, sample_rate)
    measured = Audibility(
        silence_share=own_share,
        stored_silence_share=0.0,
        cancelled_db=cancelled_db,
        spike_db=None if is_left else spike_db,
        loudness_lufs=loudness,
        true_peak_dbtp=None if peak_db is None else peak_db - (spike_db or 0.0),
    )
    return judge(measured, AudibilityLimits(), rests=True)
