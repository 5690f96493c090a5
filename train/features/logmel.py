"""Log-mel spectrogram: the front end of most models. Shapes: B clips, T samples, N FFT bins, F frames, M mel bands."""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutti.datasets.mel_bank import mel_edges, mel_to_hz
from tutti.datasets.record import Decibels
from tutti.train.features.spectrum import PowerSpectrum, num_frames
from tutti.train.features.torchaudio_import import torchaudio

# Kaldi's defaults at 16 kHz: frames of 25 ms every 10 ms, in an FFT of the next power of two, from 20 Hz to Nyquist.
_KALDI_SIZES = (16_000, 512, 160, 20.0, 8_000.0)
_KALDI_FRAME_SAMPLES = 400
_KALDI_SILENCE = math.log(1.1920928955078125e-07)  # its floor of a mel energy: float32 epsilon


@dataclass(frozen=True)
class LogMelConfig:
    """Sizes of the front end; the defaults are 32 ms windows every 16 ms."""

    sample_rate: int = 16_000  # Hz
    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 64
    min_frequency_hz: float = 30.0  # lower edge of the lowest band
    max_frequency_hz: float = 8_000.0  # upper edge of the highest band
    floor_db: Decibels = -80.0  # relative to `reference`; quieter is all the same
    mel_scale: Literal["htk", "slaney"] = "htk"
    mel_norm: Literal["none", "slaney"] = "none"  # none: peak 1; slaney: unit area, 2 / width in Hz
    reference: Literal["sine", "one"] = "sine"  # 0 dB: one FFT bin of a full-scale sine; or power 1 (librosa)
    scale: Literal["db", "power"] = "db"  # power: as Lumen 2023's code feeds its CNNs; no floor, no top
    # Quieter than this below a clip's own loudest value is all the same (librosa's default: 80);
    # none: a frame does not depend on the rest of its clip.
    top_db: Decibels | None = None
    # kaldi: the filter banks that AST was trained on, in natural logarithms; everything but n_mels is then given
    # (`KALDI`), see train/features/fbank.py.
    kind: Literal["stft", "kaldi"] = "stft"

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.n_fft, self.hop_length, self.n_mels) < 1:
            raise ValueError(f"sizes must be at least 1, got {self}")
        if not 0 <= self.min_frequency_hz < self.max_frequency_hz <= self.sample_rate / 2:
            raise ValueError(
                f"expected 0 <= min_frequency_hz < max_frequency_hz <= {self.sample_rate / 2:g} Hz (half the "
                f"sample rate), got {self.min_frequency_hz:g} and {self.max_frequency_hz:g}"
            )
        if self.kind == "kaldi":
            given = (self.sample_rate, self.n_fft, self.hop_length, self.min_frequency_hz, self.max_frequency_hz)
            if given != _KALDI_SIZES or self.top_db is not None:
                raise ValueError(f"kind=kaldi has sizes of its own, (rate, n_fft, hop, from, to) = {_KALDI_SIZES}")
        if self.top_db is not None and self.top_db <= 0:
            raise ValueError(f"top_db must be above 0, got {self.top_db}")

    def num_frames(self, num_samples: int) -> int:
        """Count the frames of a signal: one at every multiple of the hop that lies inside it.

        Of kind kaldi: those that lie wholly within it, at least one.
        """
        if self.kind == "kaldi":
            return max(1, 1 + (num_samples - _KALDI_FRAME_SAMPLES) // self.hop_length)
        return num_frames(num_samples, self.hop_length)

    @property
    def num_bins(self) -> int:
        """Numbers of a frame: the mel bands."""
        return self.n_mels

    @property
    def silence(self) -> float:
        """The value of digital silence, in the unit of the features."""
        if self.kind == "kaldi":
            return _KALDI_SILENCE
        return self.floor_db if self.scale == "db" else 0.0


# Lumen 2023: 128 mels, 25 ms windows every 10 ms, "in dB"; bands and reference are librosa's
# defaults (its code, which passes powers on: scale="power"). Its floor: librosa's smallest power, 1e-10.
LUMEN_DB = LogMelConfig(
    n_fft=400, hop_length=160, n_mels=128, min_frequency_hz=0.0, floor_db=-100.0, mel_scale="slaney",
    mel_norm="slaney", reference="one",
)  # fmt: skip


# AST (Gong et al. 2021): 128 bands.
KALDI = LogMelConfig(kind="kaldi", n_fft=512, hop_length=160, n_mels=128, min_frequency_hz=20.0)


def mel_edges_hz(config: LogMelConfig) -> NDArray[np.float64]:
    """Compute M + 2 frequencies, equally spaced in mel: band m rises from [m], peaks at [m + 1], ends at [m + 2]."""
    edges = mel_edges(config.n_mels, config.min_frequency_hz, config.max_frequency_hz, config.mel_scale)
    return mel_to_hz(edges, config.mel_scale)


def mel_filters(config: LogMelConfig) -> Tensor:
    """Make torchaudio's triangular filters (N, M) with peak 1 or, as Slaney's, unit area.

    Raises:
        ValueError: bands so narrow that one holds no FFT bin: it would be silent for ever.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty bands, refused below
        filters_NM: Tensor = torchaudio().functional.melscale_fbanks(
            config.n_fft // 2 + 1,
            config.min_frequency_hz,
            config.max_frequency_hz,
            config.n_mels,
            config.sample_rate,
            norm="slaney" if config.mel_norm == "slaney" else None,
            mel_scale=config.mel_scale,
        )
    empty = (filters_NM.amax(dim=0) == 0).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(
            f"mel band {empty[0]} (peak {mel_edges_hz(config)[1 + empty[0]]:.0f} Hz) holds no FFT bin; "
            f"use fewer than n_mels={config.n_mels} or more than n_fft={config.n_fft}"
        )
    return filters_NM


class LogMel(nn.Module):
    """Waveforms to decibels (or power) per mel band.

    Window, DFT basis and filters are buffers: they move with the module and are no weights.

    Args:
        config: sizes and units.
        method: how the spectrum is taken, see `PowerSpectrum`.

    Raises:
        ValueError: a mel band holds no FFT bin.
    """

    filters: Tensor

    def __init__(self, config: LogMelConfig, method: Literal["auto", "matrix", "fft"] = "auto") -> None:
        super().__init__()
        self.config = config
        self.amplitude_to_db = torchaudio().functional.amplitude_to_DB  # looked up here: what compiles imports nothing
        self.spectrum = PowerSpectrum(
            config.n_fft, config.hop_length, amplitude_of_sine=config.reference == "sine", method=method
        )
        self.register_buffer("filters", mel_filters(config), persistent=False)

    @property
    def window(self) -> Tensor:
        """The Hann window (n_fft,): on the module's device."""
        return self.spectrum.window

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Convert float waveforms (B, T), T >= 1, to decibels (B, F, M), F = config.num_frames(T).

        Frame f is centered on sample f * hop_length; the signal continues with zeros on both sides.
        """
        config = self.config
        power_BFN = self.spectrum(waveform_BT)
        with torch.autocast(waveform_BT.device.type, enabled=False):
            mel_BFM: Tensor = power_BFN @ self.filters
        if config.scale == "power":
            return mel_BFM
        clips_B1FM = mel_BFM.unsqueeze(1)  # of what has three dimensions torchaudio takes one maximum over all
        floor = 10 ** (config.floor_db / 10)
        level_B1FM: Tensor = self.amplitude_to_db(clips_B1FM, 10.0, floor, db_multiplier=0.0, top_db=config.top_db)
        return level_B1FM.squeeze(1)
