"""Whiteness of stems: white noise is told from the noisiest instruments."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tutti.pipelines.decoding.whiteness import flatness

RATE = 16_000


def int16(signal: NDArray[np.floating]) -> NDArray[np.int16]:
    return np.asarray(np.clip(np.rint(signal * 32_767), -32_768, 32_767), np.int16)


def noise(duration_s: float, seed: int = 0) -> NDArray[np.float64]:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(duration_s * RATE))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("duration_s", [1.5, 3.0, 30.0])
def test_white_noise_is_white_however_short(duration_s: float, seed: int) -> None:
    found = flatness(int16(noise(duration_s, seed)), RATE)
    assert found is not None
    assert 0.95 < found <= 1.0


def test_bursts_of_white_noise_that_follow_notes_are_white() -> None:
    times_s = np.arange(8 * RATE) / RATE
    bursts = noise(8.0) * np.exp(-2.0 * (times_s % 0.5)) * (times_s % 2.0 < 1.5)
    assert (flatness(int16(bursts), RATE) or 0.0) > 0.95


@pytest.mark.parametrize("low_hz", [1_500, 3_000, 5_000])
def test_a_rattle_has_a_colour(low_hz: int) -> None:
    times_s = np.arange(8 * RATE) / RATE
    spectrum = np.fft.rfft(noise(8.0) * np.exp(-30.0 * (times_s % 0.25)))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(8 * RATE, 1 / RATE), 20) / low_hz)
    rattle = np.fft.irfft(spectrum * 10 ** (-6 * np.maximum(-octaves, 0) / 20))  # 6 dB an octave below
    assert (flatness(int16(rattle), RATE) or 0.0) < 0.85


def test_a_tone_is_not_white_and_what_sounds_for_a_second_is_not_judged() -> None:
    assert flatness(int16(0.5 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)), RATE) == 0.0
    assert flatness(int16(noise(1.2)), RATE) is None
    assert flatness(np.zeros(4 * RATE, np.int16), RATE) is None
    assert flatness(np.zeros(0, np.int16), RATE) is None


def test_offset_alone_is_not_white() -> None:
    assert flatness(np.full(4 * RATE, 1000, np.int16), RATE) != 1.0


def test_of_the_real_stems_only_the_planted_noise_is_white(shared: Path) -> None:
    audio = shared / "multitrack" / "mirror" / "user"
    if not audio.is_dir():
        pytest.skip("the shared folder has no mirror of multitrack corpora")
    found = {}
    for path in sorted(audio.glob("*/Audio/*/*_STEMS/*.wav")):
        if path.stat().st_size > 1000:
            samples, rate = soundfile.read(path, always_2d=True)
            found[path.name] = flatness(int16(samples.mean(axis=1)), rate) or 0.0
    assert len(found) > 20
    assert max(found.values()) < 0.7
