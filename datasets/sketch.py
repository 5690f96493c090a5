"""A coarse fingerprint in 64 bits: does a clip still sound the same after another encoder had it?

Eight by eight signs of how the energy of neighboring bands changes from one part of the clip to the next (after
Haitsma & Kalker 2002). Exact digests say whether samples are equal; this says whether unequal ones are close.
Loudness and polarity do not matter. Shapes: T samples, F frames,
P parts, B bands.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

NUM_PARTS, NUM_BANDS = 9, 9  # differences between neighbors leave 8 x 8 signs
MIN_HZ, MAX_HZ = 100.0, 6_400.0  # what every codec keeps; six octaves
FRAME = 1024  # samples
MAX_DISTANCE = 12  # bits of 64, see tests/datasets/test_sketch.py for what was measured


def sketch(samples_T: NDArray[np.int16], sample_rate: int) -> str:
    """Compute a spectral sketch of a clip as 16 hex digits; all zeros for silence.

    Args:
        samples_T: mono.
        sample_rate: Hz.
    """
    frames_FN = samples_T[: len(samples_T) // FRAME * FRAME].reshape(-1, FRAME) * np.hanning(FRAME).astype(np.float32)
    spectrum_FK = rfft(frames_FN, axis=1)
    power_FK = spectrum_FK.real**2 + spectrum_FK.imag**2
    highest_hz = min(MAX_HZ, sample_rate / 2)
    edges = np.searchsorted(np.fft.rfftfreq(FRAME, 1 / sample_rate), np.geomspace(MIN_HZ, highest_hz, NUM_BANDS + 1))
    energy_FB = np.add.reduceat(power_FK[:, : edges[-1]], edges[:-1], axis=1).astype(np.float64)
    energy_PB = np.stack([part.sum(axis=0) for part in np.array_split(energy_FB, NUM_PARTS)])
    level_PB = np.log(energy_PB + 1e-6 * energy_PB.sum() / energy_PB.size + 1e-9)  # 60 dB deep
    change_PB = np.diff(np.diff(level_PB, axis=1), axis=0)
    return np.packbits(change_PB.reshape(-1) > 0).tobytes().hex()


def distance(one: str, other: str) -> int:
    """Count the bits in which two sketches differ, 0 to 64."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
