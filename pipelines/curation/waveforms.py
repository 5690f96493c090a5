"""Correlation of two waveforms along their whole overlap, though their clocks ran at slightly different speeds.

    both flattened -> windows of half a second -> correlation of each with the other clip, by lag
    -> sum of the windows along straight lines of lag over time -> the best line

One lag for all of an overlap supposes one clock. Two devices differ by 50 to 200 parts per million (a second within
an hour is 280): after 5 s, 200 ppm are 16 samples, more than five periods at 3200 Hz. Within a window they are at
most 1.6 samples. The lag may only follow a straight line, which has but one parameter more than a constant, so other
recordings of the same notes hardly gain; a lag of its own for every window would find a phase for any tone.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from tutti.pipelines.curation.fingerprint import HIGHEST_HZ, LOWEST_HZ, SAMPLE_RATE

Samples = NDArray[np.int16]
Wave = NDArray[np.float64]

NUM_WHITE_BANDS = 12  # third octaves of the four octaves from 200 to 3200 Hz
WINDOW = 8_000  # samples, 0.5 s
MAX_WINDOWS = 120  # of an overlap longer than a minute so many, evenly: memory stays below 100 MB
MAX_DRIFT_PPM = 300.0  # quartz is within 50 to 100, each of two
FINE = 4  # lags per sample: an eighth of a sample off is 1 % of a correlation at 3200 Hz
COARSE_SAMPLES = 2.0  # steps of the first search: by how much two lines differ at the ends of the overlap
FINE_SAMPLES = 0.25
SEARCHED = 640_000  # samples, 40 s: the stretch on which all drifts are tried
SOUNDING = 0.03  # windows 15 dB below the mean say little: noise fills them first


class Alignment(NamedTuple):
    """The best line of lags, and how well the waveforms agree along it."""

    lag: float  # of b behind a in samples, where the overlap begins
    drift_ppm: float  # by which the lag grows
    correlation: float  # of all, in [0, 1]; like the next rounded to 6 digits, on which processors agree
    windows: Wave  # (num_windows,) correlation of each half second that sounds in both, in [-1, 1], signs as the sum's


def align(a: Samples, b: Samples, max_lag: int, least: float = 0.0) -> Alignment | None:
    """Find the line of lags along which two waveforms agree best.

    Both are flattened to equal energy in all third octaves of the fingerprint's range first: otherwise
    one loud bass note is all that counts. The sign of a waveform does not matter (swapped polarity).

    Args:
        a: mono int16 at 16 kHz, from where the overlap begins.
        b: likewise; what is longer than the other is left out.
        max_lag: samples by which the beginning may be off.
        least: a correlation below is of no interest: None, most often in a fifth of the time.
    """
    num = min(a.size, b.size)
    wave_a, wave_b = flatten(a[:num]), flatten(b[:num])
    if not (wave_a.any() and wave_b.any()):
        return None if least > 0 else Alignment(0.0, 0.0, 0.0, np.zeros(1))
    half_drift = int(np.ceil(MAX_DRIFT_PPM * 1e-6 * num / 2)) + 1
    num_windows = max(1, round(num / WINDOW))
    width = -(-num // num_windows)
    chosen_W = np.unique(np.linspace(0, num_windows - 1, min(num_windows, MAX_WINDOWS)).round().astype(np.int64))
    parts_a = _windows(wave_a, num_windows)[chosen_W]
    energies_a = (parts_a**2).sum(axis=1)
    energies_b = (_windows(wave_b, num_windows)[chosen_W] ** 2).sum(axis=1)
    whole = float(np.sqrt(energies_a.sum() * energies_b.sum()))
    if whole == 0:
        return None if least > 0 else Alignment(0.0, 0.0, 0.0, np.zeros(1))
    reach = max_lag + 2 * half_drift
    spectra = _cross_spectra(parts_a, wave_b, chosen_W * width, reach) / whole
    # No line passes above the peaks of the windows; between two samples they are at most a tenth higher.
    if least > 0 and 1.1 * float(np.abs(_curves(spectra, width, reach, 1)).max(axis=1).sum()) < least:
        return None
    curves_WL = _curves(spectra, width, reach, FINE)
    middles_W = np.asarray((chosen_W + 0.5) * width - num / 2, np.float64)
    drift, place = _best_line(curves_WL, middles_W, max_lag + half_drift)
    total_L, shifts_W = _along(curves_WL, middles_W, drift)
    along_W = curves_WL[np.arange(chosen_W.size), place + shifts_W] * np.sign(total_L[place])
    power_W = np.sqrt(energies_a * energies_b) / whole
    sounding = power_W > SOUNDING * power_W.mean()
    windows = np.clip(np.round(along_W[sounding] / power_W[sounding], 6), -1.0, 1.0)
    lag = (place - len(total_L) // 2) / FINE - drift * 1e-6 * num / 2
    return Alignment(lag, drift, min(1.0, round(abs(float(total_L[place])), 6)), windows)


def flatten(samples: Samples) -> Wave:
    """Filter a waveform to equal energy in each of the bands, none outside, and 1 in all: (num_samples,)."""
    # An edge is a click in every band, also where the music has nothing: it fades over 32 ms.
    fade = np.sin(np.pi / 2 * np.minimum(1.0, np.arange(samples.size) / 512)) ** 2
    size = scipy.fft.next_fast_len(samples.size, real=True)
    spectrum = scipy.fft.rfft(samples / 32_768 * fade * fade[::-1], size)
    flat = np.zeros(spectrum.size, np.complex128)
    edges = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (np.arange(NUM_WHITE_BANDS + 1) / NUM_WHITE_BANDS)
    edges = np.rint(edges * size / SAMPLE_RATE).astype(int)
    for low, high in pairwise(edges.tolist()):
        energy = float(np.sum(np.abs(spectrum[low:high]) ** 2))
        if energy > 0:
            flat[low:high] = spectrum[low:high] / np.sqrt(energy)
    wave: Wave = scipy.fft.irfft(flat, size)[: samples.size]
    energy = float(np.sum(wave**2))
    return wave / np.sqrt(energy) if energy > 0 else wave


def _windows(wave: Wave, num_windows: int) -> Wave:
    """Cut into (num_windows, width) of about half a second, the last one filled up with zeros."""
    return np.pad(wave, (0, -wave.size % num_windows)).reshape(num_windows, -1)


def _cross_spectra(parts_a: Wave, wave_b: Wave, starts: NDArray[np.int64], reach: int) -> NDArray[np.complex128]:
    """Multiply the spectra of windows of a, by their starts, and of b around them: (num_windows, num_bins)."""
    width = parts_a.shape[1]
    padded_b = np.pad(wave_b, (reach, reach + max(0, int(starts[-1]) + width - wave_b.size)))
    parts_b = np.lib.stride_tricks.sliding_window_view(padded_b, width + 2 * reach)[starts]
    size = _size(width, reach)
    spectra: NDArray[np.complex128] = scipy.fft.rfft(parts_a[:, ::-1], size, axis=1)
    spectra *= scipy.fft.rfft(parts_b, size, axis=1)
    return spectra


def _size(width: int, reach: int) -> int:
    return int(scipy.fft.next_fast_len(width + 2 * reach, real=True))


def _curves(spectra: NDArray[np.complex128], width: int, reach: int, fine: int) -> Wave:
    """Correlate the windows: (num_windows, lags from -reach to reach in steps of 1 / fine)."""
    # Place width - 1 + k holds the sum over n of a[n] * b[n + k - reach]: b is earlier by the lag.
    curves = scipy.fft.irfft(spectra, _size(width, reach) * fine, axis=1)
    curves *= fine
    wide: Wave = curves[:, fine * (width - 1) : fine * (width - 1 + 2 * reach) + 1]
    return wide[:, ::-1]


def _along(curves_WL: Wave, middles_W: Wave, drift_ppm: float) -> tuple[Wave, NDArray[np.int64]]:
    """Sum the windows along all lines of one drift: by the lag in the middle; and each window's distance from it."""
    shifts_W = np.rint(drift_ppm * 1e-6 * middles_W * FINE).astype(np.int64)
    total_L = np.zeros(curves_WL.shape[1])
    for curve_L, shift in zip(curves_WL, shifts_W.tolist(), strict=True):
        low, high = max(0, -shift), min(curve_L.size, curve_L.size - shift)
        total_L[low:high] += curve_L[low + shift : high + shift]
    return total_L, shifts_W


def _best_line(curves_WL: Wave, middles_W: Wave, max_lag: int) -> tuple[float, int]:
    """Find the drift, and the place of the lag in the middle, with the greatest sum.

    Coarsely, then finely, in the middle of the overlap; then on twice the stretch near what was found, until it is all.
    """
    reach, drift, is_first = SEARCHED / 2, 0.0, True
    while True:
        inner = np.abs(middles_W) <= max(reach, float(np.abs(middles_W).min()))
        num = 2 * max(1.0, float(np.abs(middles_W[inner]).max()))  # samples between the first and the last middle
        if is_first:
            coarse = np.arange(-MAX_DRIFT_PPM, MAX_DRIFT_PPM, 2e6 * COARSE_SAMPLES / num)
            drift, _ = _best_of([*coarse, 0.0, MAX_DRIFT_PPM], curves_WL[inner], middles_W[inner], max_lag)
        near = drift + 2e6 * FINE_SAMPLES / num * np.arange(-8, 9)
        near = near[np.abs(near) <= MAX_DRIFT_PPM]
        drift, place = _best_of([*near, 0.0], curves_WL[inner], middles_W[inner], max_lag)
        if inner.all():
            return drift, place
        reach, is_first = 2 * reach, False


def _best_of(drifts: Sequence[float], curves_WL: Wave, middles_W: Wave, max_lag: int) -> tuple[float, int]:
    """Choose among drifts; of those that are equal but for rounding the smallest."""
    reached = []
    for drift in map(float, drifts):
        total_L, _ = _along(curves_WL, middles_W, drift)
        middle, reach = len(total_L) // 2, max_lag * FINE
        place = middle - reach + int(np.argmax(np.abs(total_L[middle - reach : middle + reach + 1])))
        reached.append((-round(abs(float(total_L[place])), 4), abs(drift), drift, place))
    _, _, drift, place = min(reached)
    return drift, place
