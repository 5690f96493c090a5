"""A drum kit: kick, snare, hi-hat and ride, and loops of them."""

import numpy as np

from tutti.datasets.sample.dsp import SAMPLE_RATE, Signal, noise_band
from tutti.datasets.sample.timbre import Timbre

_PATTERNS = (  # sixteenth steps of a bar: kick, snare, hat
    ("x...x...x...x...", "....x.......x...", "x.x.x.x.x.x.x.x."),
    ("x.......x.x.....", "....x.......x..x", "x.x.x.x.x.x.x.x."),
    ("x..x..x...x.....", "....x.......x...", "xxxxxxxxxxxxxxxx"),
    ("x.........x.....", "....x.......x...", "x...x..xx...x..x"),
)


def _kick(rng: np.random.Generator, timbre: Timbre) -> Signal:
    times_s = np.arange(int(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
    cycles = 48 * timbre.body * times_s + 4.5 * (1 - np.exp(-times_s / 0.03))  # falls from 200 to 48 Hz
    click = noise_band(rng, len(times_s), 1000, 4000) * np.exp(-times_s / 0.003)
    return np.sin(2 * np.pi * cycles) * np.exp(-times_s / 0.09) + 0.1 * timbre.noise * click


def _snare(rng: np.random.Generator, timbre: Timbre) -> Signal:
    times_s = np.arange(int(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    shell = np.sin(2 * np.pi * 190 * timbre.body * times_s) * np.exp(-times_s / 0.05)
    wires = noise_band(rng, len(times_s), 900, 7000) * np.exp(-times_s / 0.07)
    return 0.6 * shell + 0.35 * timbre.noise * wires


def _hat(rng: np.random.Generator, timbre: Timbre) -> Signal:
    times_s = np.arange(int(0.12 * SAMPLE_RATE)) / SAMPLE_RATE
    return 0.25 * noise_band(rng, len(times_s), 7000, 14_000) * np.exp(-times_s / (0.025 * timbre.attack))


def drum_loop(num_samples: int, beat_s: float, timbre: Timbre, rng: np.random.Generator) -> Signal:
    """Render a kit playing one pattern with small deviations, starting somewhere in the bar."""
    rows = _PATTERNS[int(timbre.position * len(_PATTERNS)) % len(_PATTERNS)]
    hits = (_kick(rng, timbre), _snare(rng, timbre), _hat(rng, timbre))
    loop = np.zeros(num_samples)
    step_s = beat_s / 4
    first = int(rng.integers(16))
    for step in range(int(num_samples / SAMPLE_RATE / step_s) + 1):
        for row, hit in zip(rows, hits, strict=True):
            if row[(first + step) % 16] != "x" or rng.random() < 0.04:
                continue
            start = int((step * step_s + rng.uniform(0, 0.008)) * SAMPLE_RATE)
            length = min(len(hit), num_samples - start)
            if length > 0:
                loop[start : start + length] += hit[:length] * rng.uniform(0.6, 1.0)
    return loop
