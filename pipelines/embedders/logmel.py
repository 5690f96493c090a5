"""The built-in embedding: classical features of timbre, no weights, no download (`--embedder logmel`).

    embedder = LogMelEmbedder()
    embedder.embed([waveform, ...])  # float32 (N, 371)

Chosen by measurement on real recordings: blocks were added one at a time, for as long as the grouped out-of-fold
and the cross-corpus log likelihood of the labels rose. What counts are the shape of the spectrum and, above all,
*harmonic coefficients*: the magnitudes of the Fourier transform along the log-frequency axis. A note that is higher
shifts that axis and leaves the magnitudes, so they tell timbre from pitch (Rafii 2022, constant-Q harmonic
coefficients). Left out because they added nothing: MFCC, modulation spectra, chroma, contrast, deltas of mel bands.

Loudness does not matter: everything is measured against the clip's own mean power, floors included. Length hardly
does: only statistics over frames. Every x86 processor gives the same bits (`exact.py`): no BLAS, no numpy logarithm
or power. Shapes: T frames, B bins, F FFT bins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from tutti.datasets.manifest import digest_of
from tutti.datasets.mel_bank import mel_bank, triangles
from tutti.pipelines import embedders
from tutti.pipelines.embedders.exact import banded, constant, ln, log2, log10, squares_of
from tutti.pipelines.embedders.slices import Inputs, Slices

Array = NDArray[np.float32]

CODE_VERSION = 2  # names the vectors in manifests: raise it when they become others. The cache sees that by itself
SAMPLE_RATE = 16_000  # Hz
N_FFT, HOP_LENGTH = 1024, 256  # 64 ms and 16 ms: onsets
LONG_N_FFT, LONG_HOP_LENGTH = 4096, 1024  # 256 ms and 64 ms: resolves the partials of low notes
N_MELS = 40  # 64 and 128 did no better
MIN_MEL_HZ, MAX_MEL_HZ = 50.0, 8_000.0
MIN_PITCH_HZ, NUM_OCTAVES = 61.7, 7  # B1 to 7.9 kHz, just below the Nyquist frequency
FINE_BINS, FINER_BINS = 24, 36  # per octave, of the two sets of harmonic coefficients
FLUX_BANDS = ((4, 26), (26, 104), (104, 208), (208, 513), (4, 513))  # FFT bins: 62, 406, 1625, 3250, 8000 Hz
PEAK_BANDS = ((16, 52), (52, 104), (104, 208), (208, 416), (416, 832), (832, 1320), (1320, 2049))  # long FFT bins
ROLLOFFS = (0.5, 0.85, 0.95)  # share of the power below
LOG_ROLLOFFS = (0.25, 0.5, 0.75, 0.85, 0.95, 0.99)  # share of the log power below
_TINY = np.float32(1e-9)  # against the mean power of 1: -90 dB


@dataclass(frozen=True)
class LogMelEmbedder:
    """The embedder; it holds nothing, so it travels to any worker."""

    name: str = "logmel"

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return 371

    @property
    def digest(self) -> str:
        """The digest of the code's version and the parameters."""
        transforms = [SAMPLE_RATE, N_FFT, HOP_LENGTH, LONG_N_FFT, LONG_HOP_LENGTH]
        banks = [N_MELS, MIN_MEL_HZ, MAX_MEL_HZ, MIN_PITCH_HZ, NUM_OCTAVES, FINE_BINS, FINER_BINS]
        parameters = [transforms, banks, FLUX_BANDS, PEAK_BANDS, ROLLOFFS, LOG_ROLLOFFS]
        return digest_of({"embedder": self.name, "code": CODE_VERSION, "parameters": parameters})

    @property
    def facts(self) -> dict[str, object]:
        """The facts that go into the manifest."""
        return {"code_version": CODE_VERSION}

    def embed(self, waveforms: Sequence[Array]) -> Array:
        """Embed mono waveforms (num_samples,) at 16 kHz as (len(waveforms), dimension).

        Raises:
            ValueError: a waveform is not mono, is empty, or holds a value that is no number.
        """
        return embedders.embed(self, waveforms)

    @property
    def slice_size(self) -> int:
        """Rows of a slice; there is no model, so no rows."""
        return 1

    @property
    def count(self) -> Slices:
        """Count no rows."""
        return Slices()

    def prepare(self, waveform: Array, label: str = "waveform") -> Inputs:
        """Compute the embedding itself.

        Raises:
            ValueError: the waveform is not mono, is empty, or holds a value that is no number.
        """
        return Inputs(measured=embed_waveform(waveform, label))

    def run(self, kind: int, rows: list[Array]) -> Array:
        """Run no model: `prepare` gives no rows."""
        raise ValueError("log-mel features have no model")

    def vector(self, inputs: Inputs, outputs: Array) -> Array:
        """Return what `prepare` computed."""
        return inputs.measured


def embed_waveform(waveform: Array, label: str = "waveform") -> Array:
    """Embed one waveform (num_samples,) as (371,); `label` names it in errors.

    Raises:
        ValueError: it is not mono, is empty, or holds a value that is no number.
    """
    if waveform.ndim != 1 or len(waveform) == 0:
        raise ValueError(f"{label}: expected mono samples (num_samples,), got {waveform.shape}; take one channel")
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    if not np.isfinite(power):
        raise ValueError(f"{label}: holds values that are no numbers; decode it again")
    unit = waveform / np.float32(max(power, 1e-20) ** 0.5)  # mean power 1; digital silence stays silent
    power_TF = power_spectra(unit, N_FFT, HOP_LENGTH)
    blocks = [*_short_blocks(power_TF), *_long_blocks(power_spectra(unit, LONG_N_FFT, LONG_HOP_LENGTH))]
    return np.concatenate(blocks).astype(np.float32)


def power_spectra(waveform: Array, n_fft: int, hop_length: int) -> Array:
    """Compute power spectra (T, n_fft // 2 + 1), Hann window; a short waveform is padded with zeros."""
    padded = np.pad(waveform, (0, max(0, n_fft - len(waveform))))
    frames_TS = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    return squares_of(rfft(frames_TS * hann_window(n_fft), axis=1))


@cache
def hann_window(n_fft: int) -> Array:
    """Compute the periodic Hann window (n_fft,)."""
    return constant(np.hanning(n_fft + 1)[:-1])


def _short_blocks(power_TF: Array) -> list[Array]:
    power_T = power_TF.sum(1)
    mean_power = power_TF.mean() + _TINY
    log_power_TF = log10(power_TF / mean_power + np.float32(1e-4))  # 40 dB: no codec noise shows
    rise_TF = np.diff(log_power_TF, axis=0)
    return [
        mel_shape(power_TF),
        spectral_shape(power_TF, log_power_TF),
        log_moments(log_power_TF, power_T / (power_T.sum() + _TINY)),
        flux(rise_TF),
        envelope(10 * log10(power_T / (power_T.mean() + _TINY) + np.float32(1e-6))),
    ]


def _long_blocks(power_TF: Array) -> list[Array]:
    return [
        harmonic_coefficients(power_TF, FINE_BINS, compression="root"),
        harmonic_coefficients(power_TF, FINER_BINS, compression="decibel"),
        peakiness(power_TF),
    ]


def mel_shape(power_TF: Array) -> Array:
    """Average the log-mel spectrum in dB, each frame against its own mean (40,)."""
    mel_TB = _mel_bands()(power_TF)
    log_TB = 10 * log10(mel_TB + (mel_TB.mean() * np.float32(1e-6) + _TINY))
    shape_B: Array = (log_TB - log_TB.mean(1, keepdims=True)).mean(0)
    return shape_B


def spectral_shape(power_TF: Array, log_power_TF: Array) -> Array:
    """Compute 25 statistics of centroid, bandwidth, roll-offs on a log axis, of their change, and of level."""
    frequency_F = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=np.float32)
    weight_TF = np.sqrt(power_TF) + _TINY
    total_T = weight_TF.sum(1)
    weighted_TF = weight_TF * frequency_F
    centroid_T = weighted_TF.sum(1) / total_T
    spread_T = np.maximum((weighted_TF * frequency_F).sum(1) / total_T - np.square(centroid_T), 0)
    rolloffs = [ln(hz + 50) for hz in rolloff_hz(power_TF, ROLLOFFS)]  # 50 Hz: below, the axis is linear
    change_T = np.sqrt(np.square(np.diff(log_power_TF, axis=0)).mean(1))
    change_T = np.append(change_T, change_T[-1:] if len(change_T) else np.float32(0))
    level_T = log10(power_TF.sum(1) + np.float32(1e-3)) * 10
    rows = [ln(centroid_T + 50), ln(np.sqrt(spread_T) + 50), *rolloffs, change_T, level_T]
    tracks_TB = np.stack(rows, axis=1)
    quantiles = np.percentile(tracks_TB[:, :6], [10, 90], axis=0)
    return np.concatenate([tracks_TB.mean(0)[:6], tracks_TB.std(0), quantiles.reshape(-1)])


def log_moments(log_power_TF: Array, weight_T: Array) -> Array:
    """Compute moments, entropy, roll-offs of the log spectrum over log frequency: mean, spread, change (33,)."""
    weight_TF = log_power_TF + np.float32(4)  # from the floor of 1e-4 up: never negative
    frequency_F = log2(np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=np.float32) + 60)
    share_TF = weight_TF / (weight_TF.sum(1, keepdims=True) + _TINY)
    centroid_T = (share_TF * frequency_F).sum(1)
    away_TF = frequency_F - centroid_T[:, None]
    square_TF = np.square(away_TF)
    spread_TF = share_TF * square_TF
    variance_T = spread_TF.sum(1) + _TINY
    skewness_T = (spread_TF * away_TF).sum(1) / (variance_T * np.sqrt(variance_T))
    kurtosis_T = (spread_TF * square_TF).sum(1) / np.square(variance_T)
    entropy_T = -(share_TF * ln(share_TF + np.float32(1e-12))).sum(1)
    rolloffs = [log2(hz + 60) for hz in rolloff_hz(weight_TF, LOG_ROLLOFFS)]
    moments = [centroid_T, np.sqrt(variance_T), skewness_T, kurtosis_T, entropy_T]
    tracks_TB = np.stack([*moments, *rolloffs], axis=1)
    mean_B = (weight_T[:, None] * tracks_TB).sum(0)
    spread_B = np.sqrt((weight_T[:, None] * np.square(tracks_TB - mean_B)).sum(0))
    return np.concatenate([mean_B, spread_B, _mean_change(tracks_TB)])


def rolloff_hz(weight_TF: Array, shares: Sequence[float]) -> list[Array]:
    """Find, for each share, the frequency in Hz (T,) below which that share of a frame's weight lies."""
    sum_TF = np.cumsum(weight_TF, axis=1)
    hz_per_bin = np.float32(SAMPLE_RATE / N_FFT)
    return [(sum_TF < share * sum_TF[:, -1:]).sum(1).astype(np.float32) * hz_per_bin for share in shares]


def flux(rise_TF: Array) -> Array:
    """Measure change of the log spectrum in five bands, both ways (mean, spread) and upward (also quantiles) (30,)."""
    if len(rise_TF) == 0:
        return np.zeros(6 * len(FLUX_BANDS), np.float32)
    both = np.stack([np.sqrt(np.square(rise_TF[:, low:high]).mean(1)) for low, high in FLUX_BANDS], axis=1)
    up = np.stack([np.maximum(rise_TF[:, low:high], 0).mean(1) for low, high in FLUX_BANDS], axis=1)
    quantiles = np.percentile(up, [50, 98], axis=0).reshape(-1)
    return np.concatenate([both.mean(0), both.std(0), up.mean(0), up.std(0), quantiles])


def envelope(level_T: Array) -> Array:
    """Compute spread and quantiles of the level in dB and of its change between frames: attack and decay (19,)."""
    change_T = np.diff(level_T) if len(level_T) > 1 else np.zeros(1, np.float32)
    levels = np.percentile(level_T, [5, 25, 50, 75, 95])
    changes = np.percentile(change_T, [2, 10, 50, 90, 98])
    other = [level_T.std(), change_T.std(), np.abs(change_T).mean(), *_slow_change(level_T)]
    return np.concatenate([levels, changes, np.array(other)])


def _slow_change(level_T: Array) -> list[float]:
    """Measure change over 4 and 16 frames, 64 and 256 ms: the speed of tremolo, of notes (6,)."""
    statistics: list[float] = []
    for lag in (4, 16):
        change_T = level_T[lag:] - level_T[:-lag] if len(level_T) > lag else np.zeros(1, np.float32)
        statistics += [float(change_T.std()), *(float(q) for q in np.percentile(change_T, [10, 90]))]
    return statistics


def harmonic_coefficients(power_TF: Array, bins_per_octave: int, *, compression: str) -> Array:
    """Compute log magnitudes of the Fourier transform along log frequency (bins_per_octave * 7 / 2,).

    Args:
        power_TF: long spectra.
        bins_per_octave: resolution of the log-frequency axis.
        compression: "root" (fourth root of power; each frame against its own norm) or "decibel" (40 dB deep).
    """
    bank_TB = _pitch_bands(bins_per_octave)(power_TF)
    relative_TB = bank_TB / (bank_TB.mean() + _TINY)
    is_root = compression == "root"
    compressed_TB = np.sqrt(np.sqrt(relative_TB)) if is_root else 10 * log10(relative_TB + np.float32(1e-4))
    centered_TB = compressed_TB - compressed_TB.mean(1, keepdims=True)
    num_bins = compressed_TB.shape[1]
    squared_TB = squares_of(rfft(centered_TB, n=2 * num_bins, axis=1)[:, 1 : num_bins // 2 + 1])
    spectrum_TB = np.sqrt(squared_TB)
    if is_root:
        spectrum_TB = spectrum_TB / (np.sqrt(squared_TB.sum(1, keepdims=True)) + np.float32(1e-6))
    return ln(spectrum_TB.mean(0) + np.float32(1e-3 if is_root else 1e-2))


def peakiness(power_TF: Array) -> Array:
    """Measure how far partials stand above the valleys between them, in dB, in seven bands: mean, spread (14,)."""
    log_TF = 10 * log10(power_TF + np.float32(1e-6))
    bands = [np.percentile(log_TF[:, low:high], [50, 95], axis=1) for low, high in PEAK_BANDS]
    height_TB = np.stack([top - middle for middle, top in bands], axis=1)
    return np.concatenate([height_TB.mean(0), height_TB.std(0)])


def _mean_change(tracks_TB: Array) -> Array:
    if len(tracks_TB) < 2:
        return np.zeros(tracks_TB.shape[1], np.float32)
    change_B: Array = np.abs(np.diff(tracks_TB, axis=0)).mean(0)
    return change_B


@cache
def mel_filters() -> Array:
    """Compute triangles on the mel scale, peak 1 (40, 513)."""
    filters_FB = mel_bank(n_fft=N_FFT, sample_rate=SAMPLE_RATE, num_bands=N_MELS, low_hz=MIN_MEL_HZ, high_hz=MAX_MEL_HZ)
    return constant(filters_FB.T)


@cache
def _mel_bands() -> Callable[[Array], Array]:
    return banded(mel_filters())


@cache
def _pitch_bands(bins_per_octave: int) -> Callable[[Array], Array]:
    return banded(pitch_filters(bins_per_octave))


@cache
def pitch_filters(bins_per_octave: int) -> Array:
    """Compute triangles on a log-frequency axis, sum 1 (7 * bins_per_octave, 2049)."""
    steps = np.arange(-1, bins_per_octave * NUM_OCTAVES + 1) / bins_per_octave
    edges_hz = MIN_PITCH_HZ * 2**steps
    bins_hz = np.linspace(0, SAMPLE_RATE / 2, LONG_N_FFT // 2 + 1)
    filters_BF = triangles(bins_hz, edges_hz).T.copy()
    for row_F, center_hz in zip(filters_BF, edges_hz[1:-1], strict=True):
        if row_F.sum() < 0.5:  # narrower than an FFT bin: interpolate between its two neighbors
            position = center_hz * LONG_N_FFT / SAMPLE_RATE
            below = int(position)
            row_F[:] = 0
            row_F[below : below + 2] = below + 1 - position, position - below
    return constant(filters_BF / filters_BF.sum(1, keepdims=True))
