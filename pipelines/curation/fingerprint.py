"""Audio fingerprint: one 32-bit word every 16 ms that survives re-encoding, gain and small offsets.

The word tells for 32 pairs of neighboring bands whether their energy difference rises or falls over
time (Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002). Signs know no
gain, a long window hardly feels a shift by half a hop. Two clips hold the same audio where few bits
differ along their whole overlap; `near_duplicates.py` looks for such alignments.

What it does not survive: another speed or pitch, an added voice, another performance. A sound that
does not change at all (a steady synthetic tone) has no stable signs, hence no fingerprint to find.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from tutti.datasets.record import Seconds

CODE_VERSION = 1  # raise it when the words change

SAMPLE_RATE = 16_000  # Hz; what prepare stores
HOP = 256  # samples, 16 ms; two copies are at most 8 ms off, where 6 % of the bits differ
WINDOW = 4_096  # samples, 256 ms: 16 hops; 2048 doubles the bits that a shift flips, 8192 halves what is left of 1 s
NUM_BITS = 32
# The paper has 300 to 2000 Hz, for telephones. On recordings of instruments a wider range loses fewer
# bits to MP3 at 64 kbit/s (8.6 % instead of 11 % for the worst tenth); above, codecs cut.
LOWEST_HZ, HIGHEST_HZ = 200.0, 3_200.0
# RMS of a frame within the bands, of full scale: 70 dB below is 58 dB below the stored -12 LUFS.
SILENT_RMS = 10 ** (-70 / 20)
SILENT = 0  # the word of a frame with nothing to compare; a real 0 becomes 1, one wrong bit

LOCAL_WORDS = 32  # 0.5 s: the shortest stretch that is judged by itself

Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The words of one clip: 250 bytes for a second."""

    num_samples: int  # of the clip, at 16 kHz
    data: bytes  # uint32, little-endian

    @property
    def words(self) -> Words:
        """Word k compares the windows that begin at samples k * HOP and (k + 1) * HOP."""
        return np.frombuffer(self.data, "<u4")

    @property
    def duration_s(self) -> Seconds:
        """Length of the clip."""
        return self.num_samples / SAMPLE_RATE


def fingerprint(samples: NDArray[np.int16]) -> Fingerprint:
    """Compute the fingerprint of a prepared clip.

    Args:
        samples: mono int16 (num_samples,) at 16 kHz. Shorter than 0.272 s gives no words.

    Raises:
        ValueError: the samples are not mono int16.
    """
    if samples.ndim != 1 or samples.dtype != np.int16:
        raise ValueError(f"expected mono int16 (num_samples,), got {samples.dtype} {samples.shape}; use prepare's PCM")
    if samples.size < WINDOW + HOP:
        return Fingerprint(samples.size, b"")
    energy_FB = band_energies(samples)
    difference_FB = energy_FB[:, :-1] - energy_FB[:, 1:]
    rises_FB = difference_FB[1:] > difference_FB[:-1]
    words = np.packbits(rises_FB, axis=1, bitorder="little").view("<u4")[:, 0]
    words = np.where(words == SILENT, 1, words)
    silent_F = energy_FB.sum(axis=1) < _energy_of(SILENT_RMS)
    words[silent_F[1:] | silent_F[:-1]] = SILENT
    return Fingerprint(samples.size, words.astype("<u4").tobytes())


def num_bytes(num_samples: int) -> int:
    """Compute the length of the words of a clip."""
    if num_samples < WINDOW + HOP:
        return 0
    halved = (num_samples + 1) // 2
    return 4 * ((halved - WINDOW // 2) // (HOP // 2))


def band_energies(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """Compute the energy in 33 logarithmic bands, (num_frames, 33); full scale is 1.

    In double precision: then processors that round differently still agree about the signs.
    """
    from scipy.signal import resample_poly  # half a second, which builds that embed nothing need not spend

    halved = resample_poly(samples.astype(np.float64) / 32768, 1, 2)  # 8 kHz holds all bands
    frames_FN = np.lib.stride_tricks.sliding_window_view(halved, WINDOW // 2)[:: HOP // 2]
    window_N = np.hanning(WINDOW // 2)
    edges = _band_edges()
    energy_FB = np.empty((len(frames_FN), NUM_BITS + 1))
    for start in range(0, len(frames_FN), 64):  # 64 frames are 1 MB: they stay in the processor's cache
        spectrum_FK = scipy.fft.rfft(frames_FN[start : start + 64] * window_N, axis=1)[:, : edges[-1]]
        power_FK = spectrum_FK.real**2 + spectrum_FK.imag**2
        energy_FB[start : start + 64] = np.add.reduceat(power_FK, edges[:-1], axis=1)
    return energy_FB


def _band_edges() -> NDArray[np.intp]:
    ratios = (HIGHEST_HZ / LOWEST_HZ) ** (np.arange(NUM_BITS + 2) / (NUM_BITS + 1))
    return np.rint(LOWEST_HZ * ratios * WINDOW / SAMPLE_RATE).astype(np.intp)


def _energy_of(rms: float) -> float:
    """Compute the spectral power of a windowed frame with this RMS (Parseval, one side of the spectrum)."""
    return rms**2 * WINDOW / 2 * float(np.sum(np.hanning(WINDOW // 2) ** 2)) / 2


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two fingerprints at one offset."""

    bit_error_rate: float  # along the whole overlap; 0.5 where there is nothing to compare
    worst: float  # the same, in the worst half second
    num_words: int  # compared: those of silence are not


def agreement(a: Words, b: Words, offset: int) -> Agreement:
    """Measure how b agrees with a where it is laid `offset` words after a's begin."""
    start, end = max(offset, 0), min(len(a), len(b) + offset)
    if end <= start:
        return Agreement(0.5, 0.5, 0)
    part_a, part_b = a[start:end], b[start - offset : end - offset]
    sounding = (part_a != SILENT) & (part_b != SILENT)
    wrong = np.bitwise_count(part_a ^ part_b)[sounding].astype(np.int64)
    if not wrong.size:
        return Agreement(0.5, 0.5, 0)
    span = min(LOCAL_WORDS, wrong.size)
    total = np.concatenate([[0], np.cumsum(wrong)])
    worst = int((total[span:] - total[:-span]).max())
    return Agreement(int(total[-1]) / (NUM_BITS * wrong.size), worst / (NUM_BITS * span), wrong.size)
