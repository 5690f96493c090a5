"""The configuration of `prepare`, apart from its heavy libraries."""

from dataclasses import dataclass
from typing import Literal

from tutti.datasets.audibility import Downmix
from tutti.datasets.record import Decibels, Lufs, Seconds


@dataclass(frozen=True)
class PrepareConfig:
    """Sample rate, loudness and format of the stored audio."""

    sample_rate: int = 16_000  # Hz; AST, NSynth pre-training and Lumen all work at 16 kHz
    target_lufs: Lufs = -12.0  # NSynth pre-training paper
    max_true_peak_dbtp: Decibels = -1.0  # EBU R 128
    max_gain_db: Decibels = 40.0  # a 16-bit source 40 dB below target has some 9 bits left
    silence_amplitude: float = 0.001  # of full scale; Lumen 2023, "Obvious outliers"
    downmix: Downmix = "mean"  # of channels; "first" or "loudest" where those of a corpus cancel
    max_clip_s: Seconds = 3_600.0  # a clip is in memory as a whole: an hour of stereo at 48 kHz takes 3 GB
    audio_format: Literal["flac", "wav"] = "flac"
    min_alignment: float = 0.15  # correlation of audio with its score, below: another piece; see align.py

    def __post_init__(self) -> None:
        """Refuse a rate that no audio has, and a correlation that none is."""
        if not 1_000 <= self.sample_rate <= 192_000:
            raise ValueError(f"sample_rate {self.sample_rate} Hz is outside 1000 to 192000")
        if not -1 <= self.min_alignment <= 1:
            raise ValueError(f"min_alignment {self.min_alignment}: a correlation is in -1 to 1")


@dataclass(frozen=True)
class ActivityConfig:
    """Thresholds of a stem's activity; see activity.py."""

    window_s: Seconds = 0.1
    peak_share: int = 50  # a window sounds above 1/50 of the stem's peak: -34 dB
    max_gap_s: Seconds = 0.3  # a shorter rest is none
    version: int = 2  # of activity.py: raise it when other spans come of the same samples
