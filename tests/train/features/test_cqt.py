from collections.abc import Iterator

import numpy as np
import pytest
import signals
import torch

from tutti.train.features.cqt import Cqt, CqtConfig

RATE = 16_000


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A second of audio is not heard faster on two cores, and on busy ones far slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def chord(duration_s: float) -> signals.Waveform:
    """Five tones on bins 12, 39, 43, 69 and 84, and noise."""
    tones = ((55.0, 0.2), (261.6256, 0.2), (329.6276, 0.1), (1479.978, 0.1), (3520.0, 0.05))
    mixed = signals.noise(duration_s, amplitude=0.02, sample_rate=RATE)
    for frequency_hz, amplitude in tones:
        mixed = mixed + signals.sine(duration_s, frequency_hz=frequency_hz, amplitude=amplitude, sample_rate=RATE)
    return mixed


def tone(frequency_hz: float, *, amplitude: float = 1.0, duration_s: float = 3.0) -> torch.Tensor:
    return torch.from_numpy(signals.sine(duration_s, frequency_hz=frequency_hz, amplitude=amplitude, sample_rate=RATE))


# abs(librosa.cqt(chord(3.0)[0], sr=16000, hop_length=512, fmin=27.5, n_bins=88)) of librosa 0.11, frames 40 and 60.
BINS = [0, 12, 14, 30, 39, 43, 60, 69, 84, 87]
LIBROSA_40 = [0.0152, 7.0644, 0.0769, 0.0044, 3.2508, 1.4633, 0.0267, 0.7111, 0.2571, 0.0263]
LIBROSA_60 = [0.0247, 7.1321, 0.1372, 0.0334, 3.2415, 1.4003, 0.0111, 0.7057, 0.2162, 0.0062]
LIBROSA_MAX = 7.1432
TOLERANCE = 0.007  # of the greatest magnitude


def test_ten_seconds_make_313_frames_of_88_bins() -> None:
    assert Cqt()(torch.zeros(2, 160_000)).shape == (2, 313, 88)
    assert CqtConfig().num_frames(160_000) == 313


@pytest.mark.parametrize(("frame", "expected"), [(40, LIBROSA_40), (60, LIBROSA_60)])
def test_magnitudes_are_librosas(frame: int, expected: list[float]) -> None:
    found = Cqt()(torch.from_numpy(chord(3.0)))[0, frame, BINS]
    assert found.tolist() == pytest.approx(expected, abs=TOLERANCE * LIBROSA_MAX)
    loud = [index for index, value in enumerate(expected) if value > 0.2]
    assert found[loud].tolist() == pytest.approx([expected[index] for index in loud], rel=0.005)


def test_magnitudes_are_those_of_an_installed_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(0)
    clips = {"chord": chord(4.0)[0], "noise": (0.1 * rng.standard_normal(64_000)).astype(np.float32)}
    for name, clip in clips.items():
        expected = np.abs(librosa.cqt(clip, sr=RATE, hop_length=512, fmin=27.5, n_bins=88)).T
        found = Cqt()(torch.from_numpy(clip)[None])[0].numpy()
        assert len(expected) == len(found) + (len(clip) % 512 == 0)
        difference = np.abs(found - expected[: len(found)])
        assert difference[12:-12].max() < TOLERANCE * expected.max(), name
        assert difference.max() < 0.05 * expected.max(), name


@pytest.mark.parametrize("index", [0, 1, 11, 12, 45, 75, 76, 87])
def test_a_full_scale_sine_has_half_the_root_of_the_wavelets_length_at_its_bin_and_less_elsewhere(index: int) -> None:
    config = CqtConfig()
    middle = Cqt()(tone(config.frequency_hz(index)))[0, 40:50]
    assert middle.argmax(dim=1).unique().tolist() == [index]
    assert middle[:, index].mean().item() == pytest.approx(config.length(index) ** 0.5 / 2, rel=0.01)


def test_the_top_bin_is_c8_and_the_bottom_bin_a0() -> None:
    assert CqtConfig().frequency_hz(0) == 27.5
    assert CqtConfig().frequency_hz(87) == pytest.approx(4186.009)
    assert CqtConfig().num_periods == pytest.approx(17.3316, abs=1e-3)  # of the sine in every wavelet


def test_a_click_is_heard_at_its_frame_by_high_bins_and_around_it_by_low_ones() -> None:
    waveform = torch.zeros(1, 40 * 512)
    waveform[0, 20 * 512] = 1.0
    heard = Cqt()(waveform)[0]
    assert torch.nonzero(heard[:, 87] > 0.01).flatten().tolist() == [20]
    low = torch.nonzero(heard[:, 0] > 1e-4).flatten()
    assert (int(low.min()), int(low.max())) == (11, 29)  # a wavelet of 10,072 samples: 9.8 hops either way


def test_clips_of_a_batch_do_not_touch_each_other() -> None:
    clips = torch.from_numpy(np.concatenate([chord(1.0), 0.1 * chord(1.0)[:, ::-1], chord(1.0) * 0]))
    cqt = Cqt()
    together = cqt(clips)
    for clip, heard in zip(clips, together, strict=True):
        assert torch.allclose(cqt(clip[None])[0], heard, atol=1e-5)
    assert together[2].max() <= 1.1e-6


@pytest.mark.parametrize("num_samples", [1, 511, 512, 513, 5_000])
def test_frames_are_those_of_the_same_signal_with_silence_after_it(num_samples: int) -> None:
    waveform = torch.from_numpy(chord(1.0)[:, :num_samples])
    heard = Cqt()(waveform)
    longer = Cqt()(torch.nn.functional.pad(waveform, (0, 3_000)))
    assert heard.shape == (1, -(-num_samples // 512), 88)
    assert torch.allclose(heard, longer[:, : heard.shape[1]], atol=1e-5)


def test_decibels_are_the_same_magnitudes_above_a_floor() -> None:
    waveform = torch.from_numpy(chord(1.0))
    magnitude, decibels = Cqt()(waveform), Cqt(CqtConfig(scale="db"))(waveform)
    assert torch.allclose(decibels, (20 * magnitude.log10()).clamp(min=-60), atol=1e-2)
    assert Cqt(CqtConfig(scale="db"))(torch.zeros(1, 512)).unique().tolist() == [-60.0]


def test_gradients_are_finite_in_silence_and_reach_the_waveform() -> None:
    waveform = torch.from_numpy(chord(0.2)).requires_grad_()
    Cqt()(waveform).sum().backward()
    silent = torch.zeros(1, 2_000, requires_grad=True)
    Cqt()(silent).sum().backward()
    assert waveform.grad is not None
    assert silent.grad is not None
    assert waveform.grad.abs().max() > 0
    assert torch.isfinite(silent.grad).all()


def test_autocast_leaves_the_magnitudes_in_float32() -> None:
    waveform = torch.from_numpy(chord(0.5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = Cqt()(waveform)
    assert torch.equal(under, Cqt()(waveform))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"num_bins": 98}, "the highest bin reaches 8319 Hz, above 8000: fewer bins or a higher rate"),
        ({"sample_rate": 8_000}, "above 4000"),
        ({"min_frequency_hz": 0.0}, "min_frequency_hz must be above 0"),
        ({"hop_length": 0}, "sizes must be at least 1"),
    ],
)
def test_bins_beyond_half_the_sample_rate_and_empty_sizes_are_refused(wrong: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        CqtConfig(**wrong)  # type: ignore[arg-type]


def test_other_hops_and_rates_hear_the_same_tone() -> None:
    config = CqtConfig(sample_rate=22_050, hop_length=256, num_bins=84, min_frequency_hz=32.703)
    waveform = torch.from_numpy(signals.sine(2.0, frequency_hz=440.0, sample_rate=22_050))
    heard = Cqt(config)(waveform)
    assert heard.shape == (1, 173, 84)
    assert heard[0, 60:100].argmax(dim=1).unique().tolist() == [45]  # 32.703 Hz is C1, and A4 45 semitones above


def test_the_transform_is_captured_as_one_graph() -> None:
    waveform = torch.from_numpy(chord(1.0))
    cqt = Cqt()
    captured = torch.compile(cqt, fullgraph=True, backend="aot_eager")
    assert torch.allclose(captured(waveform), cqt(waveform), atol=1e-4)
