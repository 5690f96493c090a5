"""Alignment of two waveforms along a line of lags: what it finds, and what it does not take for the same."""

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from tutti.datasets import audio
from tutti.pipelines.curation.waveforms import align

RATE = 16_000
Samples = NDArray[np.int16]


def piece(seed: int, duration_s: float = 10.0) -> NDArray[np.float64]:
    """Random chords of a quarter second, a piece of music that no other seed plays."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(4_000) / RATE
    chords = []
    for _ in range(round(duration_s * 4)):
        pitches = 220 * 2 ** (rng.integers(0, 36, 4) / 12)
        chords.append(sum(np.sin(2 * np.pi * k * f * time_s) / k for f in pitches for k in (1, 2, 3)))
    return 0.05 * np.concatenate([chord * np.exp(-4 * time_s) for chord in chords])


def pcm(wave: NDArray[np.float64]) -> Samples:
    return audio.to_int16(wave.astype(np.float32))


def drifting(wave: NDArray[np.float64], ppm: float) -> Samples:
    """Record what another clock, slower by so many parts per million, plays: it lasts longer."""
    return pcm(soxr.resample(wave, 1e6, 1e6 + ppm, quality="VHQ"))


def aligned(a: Samples, b: Samples, max_lag: int = 512):
    found = align(a, b, max_lag)
    assert found is not None
    return found


def test_equal_waveforms_agree_fully_at_no_lag_and_no_drift():
    music = pcm(piece(1))

    found = aligned(music, music)

    assert (found.lag, found.drift_ppm, found.correlation) == (0.0, 0.0, 1.0)
    assert found.windows.size == 20  # half seconds
    assert found.windows.min() == 1.0


@pytest.mark.parametrize("lag", [-300, -1, 1, 100, 500])
def test_the_lag_is_exact_to_the_sample(lag):
    music = pcm(piece(2))

    found = aligned(music[max(-lag, 0) :], music[max(lag, 0) :])

    assert found.lag == lag
    assert found.drift_ppm == 0
    assert found.correlation > 0.94  # but for the edges


@pytest.mark.parametrize("ppm", [-280, -200, -100, -50, -20, 20, 50, 100, 200, 280])
def test_the_drift_of_a_clock_is_found_to_5_ppm(ppm):
    found = aligned(pcm(piece(3)), drifting(piece(3), ppm))

    assert found.drift_ppm == pytest.approx(-ppm, abs=5)
    assert found.lag == pytest.approx(0, abs=1)
    assert found.correlation > 0.93


@pytest.mark.parametrize("duration_s", [2.0, 30.0, 100.0])
def test_the_drift_is_found_however_long_the_overlap(duration_s):
    found = aligned(pcm(piece(4, duration_s)), drifting(piece(4, duration_s), 150))

    assert found.drift_ppm == pytest.approx(-150, abs=10)
    assert found.correlation > 0.93


def test_drift_and_lag_are_found_together():
    found = aligned(pcm(piece(5))[200:], drifting(piece(5), 100))

    assert found.lag == pytest.approx(-200, abs=1)
    assert found.drift_ppm == pytest.approx(-100, abs=5)


def test_another_speed_is_no_drift():
    assert aligned(pcm(piece(6)), drifting(piece(6), 2_000)).correlation < 0.5


def test_another_piece_does_not_agree_though_lines_may_lean():
    assert aligned(pcm(piece(7)), pcm(piece(8))).correlation < 0.3


def test_swapped_polarity_is_the_same_waveform():
    music = pcm(piece(9))

    found = aligned(music, -music)

    assert found.correlation == 1.0
    assert found.windows.min() == 1.0


def test_a_window_that_differs_stands_out():
    one, other = piece(10), piece(11)
    mixed = one.copy()
    mixed[40_000:56_000] = other[40_000:56_000]  # windows 5 and 6

    found = aligned(pcm(one), pcm(mixed))

    assert np.flatnonzero(found.windows < 0.5).tolist() == [5, 6]
    assert found.correlation == pytest.approx(0.9, abs=0.05)


def test_silence_agrees_with_nothing():
    found = aligned(pcm(piece(12)), np.zeros(10 * RATE, np.int16))

    assert found.correlation == 0.0
    assert align(pcm(piece(12)), np.zeros(10 * RATE, np.int16), 512, least=0.1) is None


def test_what_cannot_reach_the_least_correlation_is_refused_early_and_what_can_is_not():
    music, same, other = pcm(piece(13)), drifting(piece(13), 100), pcm(piece(14))

    assert align(music, other, 512, least=0.7) is None
    found = align(music, same, 512, least=0.7)
    assert found is not None
    assert found[:3] == aligned(music, same)[:3]


def test_of_a_long_overlap_120_windows_are_compared():
    music = pcm(piece(16, 90.0))

    assert aligned(music, music).windows.size == 120
    assert aligned(music, music).correlation == 1.0


@pytest.mark.parametrize("num_samples", [1, 500, 5_000, 20_001])
def test_short_overlaps_are_aligned(num_samples):
    music = pcm(piece(15))[1_000 : 1_000 + num_samples]

    assert aligned(music, music, 16).lag == 0
