import math

import numpy as np
import pytest
import signals
import torch

from tutti.datasets.mel_bank import hz_to_mel
from tutti.train.features import LogMel, LogMelConfig, mel_edges_hz, mel_filters, standardization

CONFIG = LogMelConfig(hop_length=160)


def logmel(waveform: signals.Waveform, config: LogMelConfig = CONFIG) -> torch.Tensor:
    return LogMel(config)(torch.from_numpy(waveform))


def test_mel_bands_lie_where_the_htk_formula_puts_them() -> None:
    edges = mel_edges_hz(LogMelConfig(n_mels=3, min_frequency_hz=0.0, max_frequency_hz=8_000.0))
    # Quarters in mel: 1 + f / 700 grows by the fourth root of 87 / 7.
    assert edges.tolist() == pytest.approx([0.0, 614.327, 1767.793, 3933.551, 8000.0], abs=1e-3)
    assert hz_to_mel(1_000.0) == pytest.approx(1_000.0, abs=0.02)  # the scale's anchor


@pytest.mark.parametrize("frequency_hz", [125.0, 437.5, 1_000.0, 3_000.0, 7_000.0])
def test_a_sine_is_loudest_in_the_band_whose_peak_is_nearest(frequency_hz: float) -> None:
    frames = logmel(signals.sine(1.0, frequency_hz=frequency_hz, sample_rate=16_000))[0]
    peaks = mel_edges_hz(CONFIG)[1:-1]
    heights = mel_filters(CONFIG).numpy()[round(frequency_hz / 31.25)]  # on an FFT bin: 16000 / 512
    loudest = frames[10:-10].mean(dim=0).argmax()
    assert int(loudest) == int(heights.argmax())
    assert abs(peaks[loudest] - frequency_hz) < np.diff(mel_edges_hz(CONFIG))[loudest + 1]


def test_decibels_are_relative_to_one_fft_bin_of_a_full_scale_sine() -> None:
    peak_hz = 1_000.0  # made the peak of the middle band: equal distances in mel on both sides
    config = LogMelConfig(n_mels=1, min_frequency_hz=0.0, max_frequency_hz=700 * ((1 + 1000 / 700) ** 2 - 1))
    for amplitude, expected_db in ((1.0, 0.0), (0.5, 20 * math.log10(0.5))):
        tone = signals.sine(1.0, frequency_hz=peak_hz, amplitude=amplitude, sample_rate=16_000)
        # The window spreads a tone over three bins (0, -6, -6 dB): one band sums them.
        assert logmel(tone, config)[0, 50, 0].item() == pytest.approx(expected_db + 10 * math.log10(1.5), abs=0.2)


def test_a_gain_shifts_every_band_by_its_decibels() -> None:
    tone = signals.noise(0.5, amplitude=0.1, sample_rate=16_000)
    assert torch.allclose(logmel(tone * np.float32(10)) - logmel(tone), torch.tensor(20.0), atol=1e-3)


def test_silence_is_the_floor() -> None:
    assert torch.equal(logmel(signals.silence(0.1, sample_rate=16_000)), torch.full((1, 10, 64), -80.0))


@pytest.mark.parametrize(
    ("num_samples", "num_frames"), [(1, 1), (160, 1), (161, 2), (47_999, 300), (48_000, 300), (160_000, 1_000)]
)
def test_there_is_one_frame_at_every_hop_inside_the_signal(num_samples: int, num_frames: int) -> None:
    assert logmel(np.zeros((1, num_samples), np.float32)).shape == (1, num_frames, 64)


def test_a_batch_equals_its_clips_one_by_one() -> None:
    clips = np.concatenate([signals.noise(0.3, sample_rate=16_000, seed=seed) for seed in range(5)])
    singly = torch.cat([logmel(clip[None]) for clip in clips])
    assert torch.allclose(logmel(clips), singly, atol=1e-4)


def test_a_band_without_an_fft_bin_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"mel band \d+ .* holds no FFT bin; use fewer than n_mels=256"):
        LogMel(LogMelConfig(n_mels=256))


def test_a_band_above_half_the_sample_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="max_frequency_hz <= 4000 Hz"):
        LogMelConfig(sample_rate=8_000)


def test_standardization_is_mean_and_deviation_of_every_band() -> None:
    frames = torch.tensor([[0.0, 10.0, -80.0], [4.0, 30.0, -80.0]], dtype=torch.float16)
    statistics = standardization(frames, block=1)
    assert statistics.mean == (2.0, 20.0, -80.0)
    assert statistics.std == (2.0, 10.0, 1.0)  # a band that never moves is not blown up
