"""Sound quality of a clip: whether it is muffled or noisy, measured on its stored samples.

    int16 samples -> power by time and frequency -> where the band ends, how loud the hiss is

`bandwidth_hz` is where the spectrum ends at once, as behind the low-pass of a codec, a telephone or a lower sample
rate: the background falls by 24 dB within 500 Hz, and nothing above comes back. Instruments fade by 6 to 24 dB an
octave, which is 2 to 6 dB in 500 Hz at 3 kHz; partials are narrower than the bands whose medians are compared. On
303 kept clips of real recordings the steepest fall below 7 kHz is 22 dB. A sound with nothing above its partials (a
synthesized bass) has no such end, and counts as full.

`noise_floor_db` is the power of a steady hiss against the power of the whole clip: of each frequency the level that
four fifths of the time exceed, of each band of 125 Hz the median, of the bands the lower third, taken for all of them.
White noise reads as it is: -20 where it lies 20 dB below the music. Noise that falls with frequency reads lower (pink
noise by 6 dB, hum and rumble not at all). Music that is its own background reads too high: one distorted guitar of
303 clips -15, all others below -24.

Clipping and the codec's bit rate are measured by `prepare` on the file as it came: resampling hides them.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from tutti.datasets.record import Decibels

CODE_VERSION = 1  # raise it when the measures change

SAMPLE_RATE = 16_000  # Hz; what prepare stores
WINDOW = 2_048  # samples, 128 ms; bins are 7.8 Hz apart
HOP = 1_024
MAX_FRAMES = 2_000  # of a longer clip every second, third, ... window is heard: memory stays at 8 MB
BAND_BINS = 16  # 125 Hz
BAND_HZ = SAMPLE_RATE / WINDOW * BAND_BINS
LOWEST_END_HZ = 2_000.0  # speech over a telephone ends at 3400 Hz; below, a band says nothing about a recording
NUM_BANDS = 59  # up to 7375 Hz: above begins the resampler's own slope
EDGE_BANDS = 4  # 500 Hz: how wide the slope of a low-pass may be, and the stretch below it that is compared
MIN_FALL_DB = 24.0
ROUNDING = 1 / 12 / 32_768**2  # power of the error of 16-bit samples
QUIET_QUANTILE = 0.2  # of time
QUIET_SHARE = -float(np.log(1 - QUIET_QUANTILE))  # of the mean: the power of noise in a bin is exponential
HISS_QUANTILE = 0.3  # of the bands
NO_NOISE_DB = -100.0


@dataclass(frozen=True, slots=True)
class SoundQuality:
    """Measures of one clip, rounded so that processors agree."""

    bandwidth_hz: float  # where the spectrum ends at once; 8000: nowhere
    noise_floor_db: Decibels  # hiss against the whole; -100: none, or silence


def sound_quality(samples: NDArray[np.int16]) -> SoundQuality:
    """Measure a prepared clip.

    Args:
        samples: mono int16 (num_samples,) at 16 kHz. Shorter than 0.128 s is padded with silence.

    Raises:
        ValueError: the samples are not mono int16.
    """
    if samples.ndim != 1 or samples.dtype != np.int16:
        raise ValueError(f"expected mono int16 (num_samples,), got {samples.dtype} {samples.shape}; use prepare's PCM")
    power_FK = _power(samples)
    bandwidth_hz = _bandwidth_hz(power_FK.mean(axis=0))
    return SoundQuality(bandwidth_hz, _noise_floor_db(power_FK, bandwidth_hz))


def _power(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """Compute the power in each bin of each window, (num_frames, WINDOW // 2); their sum is that of the window."""
    padded = np.pad(samples, (0, max(0, WINDOW - samples.size)))
    frames_FN = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    frames_FN = frames_FN[:: -(-len(frames_FN) // MAX_FRAMES)]
    window_N = np.hanning(WINDOW) / 32_768
    power_FK = np.empty((len(frames_FN), WINDOW // 2))
    for start in range(0, len(frames_FN), 64):  # they stay in the processor's cache
        spectrum_FK = scipy.fft.rfft(frames_FN[start : start + 64] * window_N, axis=1)[:, :-1]
        power_FK[start : start + 64] = spectrum_FK.real**2 + spectrum_FK.imag**2
    power_FK *= 2 / (WINDOW * float(np.sum(np.hanning(WINDOW) ** 2)))
    return power_FK


def _bandwidth_hz(power_K: NDArray[np.float64]) -> float:
    """Find the end of the spectrum: the steepest fall after which nothing comes back."""
    levels_B = 10 * np.log10(np.median(power_K.reshape(-1, BAND_BINS), axis=1) + ROUNDING / (WINDOW // 2))
    least_db, end_hz = MIN_FALL_DB, SAMPLE_RATE / 2
    for band in range(round(LOWEST_END_HZ / BAND_HZ), NUM_BANDS - EDGE_BANDS):
        below = float(np.median(levels_B[band - EDGE_BANDS : band]))
        above = float(levels_B[band + EDGE_BANDS : NUM_BANDS].max())
        fall_db = round(below - above, 2)
        if fall_db >= least_db:
            least_db, end_hz = fall_db, (band + EDGE_BANDS / 2) * BAND_HZ
    return end_hz


def _noise_floor_db(power_FK: NDArray[np.float64], bandwidth_hz: float) -> Decibels:
    """Compute the power of a steady hiss within the band against the power of the whole."""
    total = float(power_FK.mean(axis=0).sum())
    if total == 0:
        return NO_NOISE_DB
    quiet_K = np.quantile(power_FK, QUIET_QUANTILE, axis=0) / QUIET_SHARE
    within = min(NUM_BANDS, int(bandwidth_hz / BAND_HZ) - EDGE_BANDS // 2)  # below the slope
    hiss = float(np.quantile(np.median(quiet_K.reshape(-1, BAND_BINS), axis=1)[:within], HISS_QUANTILE))
    noise = hiss * BAND_BINS * bandwidth_hz / BAND_HZ
    return round(max(NO_NOISE_DB, 10 * float(np.log10(max(noise / total, 1e-10)))), 1)
