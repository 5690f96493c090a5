import warnings

import numpy as np
import pyloudnorm
import pytest
import signals
import torch
from augmenting import RATE, generator, noise_rows, single_instruments

from tutti.augment.batch import batch_of
from tutti.augment.levels import rms
from tutti.augment.loudness import loudness_lufs
from tutti.augment.transforms.renormalize import Renormalize


def phrase(seed: int, sample_rate: int, duration_s: float = 3.0) -> np.ndarray:
    """Noise whose level changes by 40 dB and more, with a pause: every gate has something to do."""
    noise = signals.noise(duration_s, amplitude=0.2, sample_rate=sample_rate, seed=seed)[0]
    levels_db = np.random.default_rng(seed).uniform(-50, 0, 8)
    levels_db[seed % 8] = -200
    steps = np.repeat(10 ** (levels_db / 20), -(-len(noise) // 8))[: len(noise)]
    return (noise * steps).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 44_100])
def test_loudness_is_pyloudnorms(sample_rate: int) -> None:
    phrases = np.stack([phrase(seed, sample_rate) for seed in range(6)])
    meter = pyloudnorm.Meter(sample_rate)
    expected = [meter.integrated_loudness(row.astype(np.float64)) for row in phrases]
    assert loudness_lufs(torch.from_numpy(phrases), sample_rate).tolist() == pytest.approx(expected, abs=0.02)


def test_a_full_scale_sine_of_997_hz_has_3_lufs_below_zero() -> None:
    # BS.1770-4: -3.01 LUFS at 48 kHz in one channel.
    tone = signals.sine(2.0, frequency_hz=997.0, amplitude=1.0, sample_rate=48_000)
    assert loudness_lufs(torch.from_numpy(tone), 48_000).item() == pytest.approx(-3.01, abs=0.1)


def test_a_clip_shorter_than_a_gating_block_is_measured_as_one_block() -> None:
    clip = noise_rows(1, 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pyloudnorm.Meter(RATE, block_size=0.199).integrated_loudness(clip[0].double().numpy())
    assert loudness_lufs(clip, RATE).item() == pytest.approx(expected, abs=0.1)


def test_silence_has_no_loudness() -> None:
    assert loudness_lufs(torch.zeros(1, RATE), RATE).item() == -float("inf")


def test_renormalized_clips_have_the_target_loudness() -> None:
    rows = torch.stack([torch.from_numpy(phrase(seed, RATE)) for seed in range(4)]) * 0.5
    leveled = Renormalize()(batch_of(rows, single_instruments(4), sample_rate=RATE), generator())
    assert loudness_lufs(leveled.signal, RATE).tolist() == pytest.approx([-12.0] * 4, abs=0.02)


def test_renormalizing_by_rms_gives_the_target_rms() -> None:
    batch = batch_of(noise_rows(2), single_instruments(2), sample_rate=RATE)
    leveled = Renormalize(target=-20, by="rms")(batch, generator())
    assert rms(leveled.signal)[:, 0].tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("by", ["loudness", "rms"])
def test_the_gain_is_capped(by: str) -> None:
    batch = batch_of(noise_rows(1, 1.0, amplitude=1e-3), single_instruments(1), sample_rate=RATE)
    leveled = Renormalize(by=by, max_gain_db=20)(batch, generator())  # type: ignore[arg-type]
    assert torch.allclose(leveled.signal, batch.signal * 10, rtol=1e-5)


def test_what_cannot_be_measured_stays_as_it_is() -> None:
    batch = batch_of(noise_rows(1, 1.0, amplitude=1e-4), single_instruments(1), sample_rate=RATE)  # -80 LUFS
    assert torch.equal(Renormalize()(batch, generator()).signal, batch.signal)
