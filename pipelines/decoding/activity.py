"""Activity of a stem: when it sounds.

Windows of a tenth of a second whose RMS lies above two hundredths of the stem's peak, and above what counts as silence;
breaths shorter than `max_gap_s` belong to the phrase. Whole numbers throughout: every processor finds the same spans.

MedleyDB's own activation files are made alike, from the energy of windows (Bittner et al. 2014, section 4.1).
"""

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.record import Seconds
from tutti.pipelines.decoding.config import ActivityConfig

_BLOCK = 600  # windows at once: memory does not grow with the stem


def active_spans(
    samples: NDArray[np.int16], sample_rate: int, floor: float, config: ActivityConfig
) -> list[list[Seconds]]:
    """Find the spans in which a stem sounds.

    Args:
        samples: (num_samples,), mono.
        sample_rate: in Hz.
        floor: RMS below which all is silence, of full scale.
        config: thresholds.

    Returns:
        [onset, end] in seconds, in order.
    """
    window = round(config.window_s * sample_rate)
    starts = np.arange(0, samples.size, window)
    blocks = np.split(samples, range(_BLOCK * window, samples.size, _BLOCK * window))
    energy = np.concatenate([_energies(block, window) for block in blocks])
    length = np.minimum(starts + window, samples.size) - starts
    peak_squared, share = int(np.abs(samples.astype(np.int32)).max(initial=0)) ** 2, config.peak_share
    lowest = round((min(floor, 1.0) * 32_768) ** 2)
    sounds = (energy * share**2 > peak_squared * length) & (energy > lowest * length)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], sounds, [False])).astype(np.int8)))
    most = round(config.max_gap_s / config.window_s)
    spans: list[list[int]] = []
    for onset, end in edges.reshape(-1, 2).tolist():
        if spans and onset - spans[-1][1] <= most:
            spans[-1][1] = end
        else:
            spans.append([onset, end])
    last = samples.size / sample_rate
    return [[round(a * window / sample_rate, 6), round(min(b * window / sample_rate, last), 6)] for a, b in spans]


def _energies(samples: NDArray[np.int16], window: int) -> NDArray[np.int64]:
    """Add up the squares of each window; the last one may be shorter."""
    squares = samples.astype(np.int64) ** 2
    return np.add.reduceat(squares, np.arange(0, samples.size, window)) if samples.size else np.zeros(0, np.int64)
