"""The built-in embedder's input: excerpts of 3 s at one power, as 80 mel bands in dB every 20 ms."""

import functools

import numpy as np
from numpy.typing import NDArray

from tutti.train.features.logmel import LogMel, LogMelConfig

SAMPLE_RATE = 16_000  # Hz
EXCERPT_SAMPLES = 48_000  # 3 s: IRMAS's clips
CONFIG = LogMelConfig(
    sample_rate=SAMPLE_RATE, n_fft=1_024, hop_length=320, n_mels=80, min_frequency_hz=50.0, max_frequency_hz=8_000.0,
    floor_db=-80.0,
)  # fmt: skip
UNIT_RMS = 0.1  # of full scale, -20 dBFS: louder than any clip's quiet parts, quieter than full scale


@functools.cache
def front_end() -> LogMel:
    """Make the log-mel transform, by FFT: on a CPU faster than by matrix."""
    return LogMel(CONFIG, method="fft").eval()


def unit_power(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a waveform (T,) to a root mean square of 0.1; digital silence stays silent."""
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    scaled: NDArray[np.float32] = waveform * np.float32(UNIT_RMS / max(rms, 1e-9))
    return scaled
