from dataclasses import replace

import numpy as np
import pytest
import signals
import torch
from numpy.typing import NDArray

from tutti.datasets.mel_bank import hz_to_mel, mel_to_hz
from tutti.train.features import (
    LUMEN_DB,
    Chroma,
    LogMel,
    LogMelConfig,
    Mfcc,
    MfccConfig,
    PowerSpectrum,
    Scalogram,
    ScalogramConfig,
    mel_filters,
    standardization,
)
from tutti.train.features.chroma import ChromaConfig, chroma_filters
from tutti.train.features.mfcc import cosine_transform
from tutti.train.features.scalogram import center_frequencies_hz, wavelets

RATE = 16_000


def tone_in_noise() -> signals.Waveform:
    tone = signals.sine(1.3, frequency_hz=440, sample_rate=RATE)
    return (tone + signals.noise(1.3, amplitude=0.05, sample_rate=RATE))[:, :20_010]


def tone(frequency_hz: float, duration_s: float = 0.5, amplitude: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(signals.sine(duration_s, frequency_hz=frequency_hz, amplitude=amplitude, sample_rate=RATE))


MUSICAL_MIXTURES = replace(LUMEN_DB, n_fft=512, hop_length=256)  # that paper's; it names no sample rate and no scale


def float64_mel_power(waveform: NDArray[np.floating], config: LogMelConfig) -> NDArray[np.float64]:
    """Numpy, frame by frame, in double precision."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.n_fft) / config.n_fft)
    padded = np.pad(waveform.astype(np.float64), config.n_fft // 2)
    starts = range(0, config.num_frames(len(waveform)) * config.hop_length, config.hop_length)
    frames = np.stack([padded[start : start + config.n_fft] * window for start in starts])
    return np.abs(np.fft.rfft(frames)) ** 2 @ mel_filters(config).double().numpy()


@pytest.mark.parametrize("method", ["matrix", "fft"])
@pytest.mark.parametrize("config", [LUMEN_DB, MUSICAL_MIXTURES, LogMelConfig(reference="one", floor_db=-100.0)])
def test_log_mel_equals_double_precision_to_a_thousandth_of_a_decibel(method: str, config: LogMelConfig) -> None:
    waveform = tone_in_noise()
    found = LogMel(config, method=method)(torch.from_numpy(waveform))[0].numpy()  # type: ignore[arg-type]
    expected = 10 * np.log10(float64_mel_power(waveform[0], config))
    loud = expected > expected.max(axis=1, keepdims=True) - 45  # below, float32 rounds the loudest bin's leakage
    assert loud.mean() > 0.8
    assert np.abs(found - expected)[loud].max() < 1e-3
    assert np.abs(found - expected).max() < 1e-2


# Frame 30 of bands 0, 10, 40, 64, 100, 127, from librosa 0.11: melspectrogram(sr=16000), power_to_db(top_db=None).
LIBROSA_400_160 = [-17.9177, -23.81669, -40.22644, -20.0409, -20.84865, -18.13776]
LIBROSA_512_256 = [-28.7392, -13.88771, -25.58102, -24.53983, -14.37552, -19.04149]
BANDS = [0, 10, 40, 64, 100, 127]


@pytest.mark.parametrize("method", ["matrix", "fft"])
@pytest.mark.parametrize(("config", "expected"), [(LUMEN_DB, LIBROSA_400_160), (MUSICAL_MIXTURES, LIBROSA_512_256)])
def test_the_papers_log_mels_are_librosas(method: str, config: LogMelConfig, expected: list[float]) -> None:
    frames = LogMel(config, method=method)(torch.from_numpy(tone_in_noise()))  # type: ignore[arg-type]
    assert frames[0, 30, BANDS].tolist() == pytest.approx(expected, abs=2e-3)


def test_lumens_code_passes_on_power() -> None:
    power = LogMel(replace(LUMEN_DB, scale="power"))(torch.from_numpy(tone_in_noise()))
    assert power[0, 30, BANDS[3:]].tolist() == pytest.approx([0.00991, 0.00822, 0.01535], abs=1e-5)


def test_the_slaney_scale_is_linear_below_a_kilohertz_and_logarithmic_above() -> None:
    assert [hz_to_mel(hertz, "slaney") for hertz in (0.0, 500.0, 1_000.0)] == pytest.approx([0.0, 7.5, 15.0])
    assert hz_to_mel(6_400.0, "slaney") == pytest.approx(42.0)  # 27 mels above the break
    hertz = np.array([30.0, 999.0, 1_001.0, 7_500.0])
    for scale in ("htk", "slaney"):
        assert mel_to_hz(np.array([hz_to_mel(h, scale) for h in hertz]), scale) == pytest.approx(hertz)  # type: ignore[arg-type]


def test_slaneys_norm_gives_every_band_the_area_one() -> None:
    filters = mel_filters(LogMelConfig(n_fft=8_192, n_mels=20, mel_norm="slaney")).double().numpy()
    assert (filters.sum(axis=0) * RATE / 8_192).tolist() == pytest.approx([1.0] * 20, abs=1e-2)


def test_top_db_cuts_what_is_far_below_the_clips_loudest_value() -> None:
    clips = torch.from_numpy(np.concatenate([tone_in_noise(), 0.01 * tone_in_noise()]))
    frames = LogMel(replace(LUMEN_DB, top_db=30.0))(clips)
    assert (frames.amax(dim=(1, 2)) - frames.amin(dim=(1, 2))).tolist() == pytest.approx([30.0, 30.0])
    with pytest.raises(ValueError, match="top_db must be above 0"):
        replace(LUMEN_DB, top_db=-80.0)


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 256), (400, 160), (64, 100)])
@pytest.mark.parametrize("num_samples", [1, 399, 20_010])
def test_matrix_and_fft_agree(n_fft: int, hop: int, num_samples: int) -> None:
    waveform = torch.from_numpy(tone_in_noise())[:, :num_samples].repeat(2, 1)
    by_matrix, by_fft = (PowerSpectrum(n_fft, hop, method=name)(waveform) for name in ("matrix", "fft"))  # type: ignore[arg-type]
    assert by_matrix.shape == by_fft.shape == (2, -(-num_samples // hop), n_fft // 2 + 1)
    assert torch.allclose(by_matrix, by_fft, atol=float(by_fft.max()) * 1e-5)


def test_autocast_leaves_the_spectrum_in_float32() -> None:
    waveform = torch.from_numpy(tone_in_noise())
    front_end = LogMel(LUMEN_DB, method="matrix")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = front_end(waveform)
    assert under.dtype == torch.float32
    assert torch.equal(under, front_end(waveform))


def test_an_odd_window_is_refused() -> None:
    with pytest.raises(ValueError, match="even n_fft"):
        PowerSpectrum(401, 160)


@pytest.mark.slow
def test_the_matrix_front_end_compiles_into_one_graph() -> None:
    waveform = torch.from_numpy(tone_in_noise())
    front_end = LogMel(LUMEN_DB, method="matrix")
    compiled = torch.compile(front_end, fullgraph=True)
    assert torch.allclose(compiled(waveform), front_end(waveform), atol=2e-3)


def test_gradients_reach_the_waveform_through_the_log_mel() -> None:
    waveform = torch.from_numpy(tone_in_noise()).requires_grad_()
    LogMel(LUMEN_DB, method="matrix")(waveform).sum().backward()
    assert waveform.grad is not None
    assert torch.isfinite(waveform.grad).all()
    assert waveform.grad.abs().max() > 0


def test_cepstral_coefficients_are_librosas() -> None:
    coefficients = Mfcc()(torch.from_numpy(tone_in_noise()))
    assert coefficients.shape == (1, 40, 10)
    # librosa 0.11: mfcc(sr=16000, n_mfcc=10, n_fft=2048, hop_length=512), frame 20
    expected = [-62.67403, 9.92771, 6.89996, 0.59047, -3.49684, -7.46217, -11.97016, -16.56327, -16.14524, -12.81782]
    assert coefficients[0, 20].tolist() == pytest.approx(expected, abs=1e-3)


def test_the_cosine_transform_is_orthonormal() -> None:
    matrix = cosine_transform(16, 16)
    assert torch.allclose(matrix.T @ matrix, torch.eye(16), atol=1e-6)


def test_more_coefficients_than_bands_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_coefficients must lie in \[1, n_mels=64\]: 65"):
        MfccConfig(LogMelConfig(), num_coefficients=65)


@pytest.mark.parametrize(
    ("frequency_hz", "pitch_class"), [(220.0, 9), (440.0, 9), (1_760.0, 9), (261.63, 0), (739.99, 6)]
)
def test_a_tone_is_loudest_in_its_pitch_class_in_every_octave(frequency_hz: float, pitch_class: int) -> None:
    chroma = Chroma()(tone(frequency_hz))
    assert chroma[0, 5:-5].argmax(dim=1).unique().tolist() == [pitch_class]
    assert chroma[0, 5:-5, pitch_class].tolist() == [1.0] * len(chroma[0, 5:-5])


def test_chroma_does_not_depend_on_loudness_and_silence_has_none() -> None:
    chroma = Chroma()
    assert torch.allclose(chroma(tone(440.0)), chroma(tone(440.0, amplitude=0.01)), atol=1e-4)
    assert torch.equal(chroma(torch.zeros(1, RATE)), torch.zeros(1, 32, 12))


def test_the_chroma_bank_is_librosas() -> None:
    # librosa 0.11: filters.chroma(sr=16000, n_fft=2048), columns of three bins and the sum of all weights
    expected = {
        10: [0.000172, 0.007571, 0.076718, 0.178879, 0.095979, 0.011851, 0.000337, 0.000002, 0.0, 0.0, 0.0, 0.000001],
        56: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.000635, 0.172695, 0.860009, 0.078442, 0.000131],
        113: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.000211, 0.106383, 0.980452, 0.165502, 0.000512],
    }
    bank = chroma_filters(ChromaConfig())
    for number, weights in expected.items():
        assert bank[number].tolist() == pytest.approx(weights, abs=1e-6)
    assert bank.sum() == pytest.approx(796.83923, abs=1e-3)


def test_a_major_triad_has_three_pitch_classes() -> None:
    triad = sum((tone(hertz, amplitude=0.3) for hertz in (523.25, 659.26, 783.99)), torch.zeros(1, RATE // 2))
    assert sorted(Chroma()(triad)[0, 8].topk(3).indices.tolist()) == [0, 4, 7]


@pytest.mark.parametrize("quadrature", [False, True])
@pytest.mark.parametrize("scale", [20, 64, 127])
def test_a_full_scale_sine_has_magnitude_one_at_its_scale_and_nowhere_more(scale: int, quadrature: bool) -> None:
    config = ScalogramConfig(quadrature=quadrature, hop_length=7)  # seven samples apart: every phase is met
    frequency_hz = float(center_frequencies_hz(config)[scale])
    magnitudes = Scalogram(config)(tone(frequency_hz))[0, 300:-300].amax(dim=0)
    assert magnitudes[scale].item() == pytest.approx(1.0, abs=0.02)
    assert int(magnitudes.argmax()) == pytest.approx(scale, abs=1)


def test_only_with_quadrature_a_steady_tone_has_a_steady_magnitude() -> None:
    steady, rippled = (
        Scalogram(ScalogramConfig(quadrature=quadrature))(tone(1_003.0))[0, 3:-3, 85] for quadrature in (True, False)
    )
    assert steady.std() < 1e-3
    assert rippled.std() > 0.1


def test_a_wavelet_halves_at_the_edges_of_its_band() -> None:
    config = ScalogramConfig(length=16_384)
    spectrum = torch.fft.rfft(wavelets(config), dim=0).abs()
    center = float(center_frequencies_hz(config)[80])
    for edge in (0.75 * center, 1.25 * center):
        share = spectrum[round(edge / RATE * 16_384), 80] / spectrum[:, 80].max()
        assert share.item() == pytest.approx(0.5, abs=0.01)


def test_wavelets_are_weights_unless_told_otherwise() -> None:
    waveform = torch.from_numpy(tone_in_noise())
    trained = Scalogram()
    trained(waveform).sum().backward()
    assert trained.weight.shape == (2_048, 128)
    assert trained.weight.grad is not None
    assert trained.weight.grad.abs().max() > 0
    assert not Scalogram(ScalogramConfig(trainable=False)).weight.requires_grad


def test_silence_gives_the_scalogram_finite_gradients() -> None:
    scalogram = Scalogram(ScalogramConfig(quadrature=True))
    scalogram(torch.zeros(1, RATE)).sum().backward()
    assert scalogram.weight.grad is not None
    assert torch.isfinite(scalogram.weight.grad).all()


def test_the_least_deviation_is_in_the_features_unit() -> None:
    frames = torch.tensor([[0.0, 1.0], [0.5, 1.0]])
    assert standardization(frames, min_std=0.01).std == (0.25, pytest.approx(0.01))
