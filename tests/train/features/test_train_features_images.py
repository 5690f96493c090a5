from dataclasses import replace

import numpy as np
import pytest
import signals
import torch

from tutti.train.features import (
    CLASSICAL_FEATURES,
    LUMEN_DB,
    ChromaConfig,
    ClassicalConfig,
    ClassicalFeatures,
    ImageConfig,
    LogMel,
    LogMelConfig,
    Sizing,
    ThreeChannels,
    ThreeChannelsConfig,
    frames_per_image,
    repeat_channels,
    to_image,
)

RATE = 16_000
FEATURES = LogMelConfig(hop_length=160)  # 100 frames a second, 64 bands


def spectrogram(num_frames: int) -> torch.Tensor:
    """Every value is its frame number."""
    return torch.arange(float(num_frames))[None, :, None].expand(2, num_frames, 64)


@pytest.mark.parametrize(
    ("sizing", "frames"), [("resize", None), ("pad", 2_000), ("chunks", 300), ("resize_height", 384), ("native", None)]
)
def test_an_image_shows_as_much_as_its_sizing_says(sizing: Sizing, frames: int | None) -> None:
    assert frames_per_image(ImageConfig(sizing), FEATURES) == frames


@pytest.mark.parametrize(
    ("sizing", "shape"),
    [
        ("resize", (2, 1, 224, 192)),
        ("pad", (2, 1, 224, 192)),
        ("chunks", (2, 1, 224, 192)),
        ("resize_height", (2, 1, 224, 192)),
        ("native", (2, 1, 64, 150)),
    ],
)
def test_images_have_the_models_size_but_for_native_ones(sizing: Sizing, shape: tuple[int, ...]) -> None:
    assert to_image(spectrogram(150), ImageConfig(sizing, height=224, width=192), FEATURES).shape == shape


def test_a_clip_padded_to_twenty_seconds_is_black_beyond_its_end() -> None:
    image = to_image(spectrogram(300), ImageConfig("pad", height=64, width=2_000, fill=-100.0), FEATURES)
    assert torch.equal(image[0, 0, 5, :300], torch.arange(300.0))
    assert (image[..., 300:] == -100.0).all()  # 85 %, as the paper says


def test_rows_are_bands_and_columns_frames() -> None:
    bands = torch.arange(64.0)[None, None, :].expand(1, 300, 64)
    image = to_image(bands, ImageConfig("chunks", height=128, width=300), FEATURES)
    assert image[0, 0, :, 7].diff().min() >= 0
    assert image[0, 0, 0].unique().tolist() == [0.0]


def test_resizing_keeps_the_mean_and_the_order_of_columns() -> None:
    image = to_image(spectrogram(300), ImageConfig("chunks", height=64, width=100), FEATURES)
    assert image.mean().item() == pytest.approx(149.5, abs=0.1)
    assert image[0, 0, 0, 1:-1].diff().tolist() == pytest.approx([3.0] * 97, abs=1e-3)


def test_shrinking_smooths_first_so_that_fine_stripes_turn_gray() -> None:
    stripes = (torch.arange(300) % 2).float()[None, :, None].expand(1, 300, 64)
    image = to_image(stripes, ImageConfig("chunks", height=64, width=60), FEATURES)
    assert (image - 0.5).abs().max() < 0.1


def test_what_is_longer_than_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="301 frames, an image with sizing 'chunks' shows 300; chunk first"):
        to_image(spectrogram(301), ImageConfig("chunks"), FEATURES)


def test_a_band_per_row_needs_no_resizing() -> None:
    features = replace(LUMEN_DB, n_fft=2_048, n_mels=224)
    frames = LogMel(features)(torch.from_numpy(signals.noise(3.0, sample_rate=RATE)))
    image = to_image(frames, ImageConfig("native"), features)
    assert image.shape == (1, 1, 224, 300)
    assert torch.equal(image[0, 0].T, frames[0])


def test_the_same_picture_in_three_channels_takes_no_memory() -> None:
    image = torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    repeated = repeat_channels(image)
    assert repeated.shape == (2, 3, 4, 5)
    assert torch.equal(repeated[:, 2], image[:, 0])
    assert repeated.data_ptr() == image.data_ptr()


def test_three_channels_are_mel_chroma_and_scalogram_of_the_same_moments() -> None:
    half_silent = signals.sine(1.0, frequency_hz=440.0, amplitude=1.0, sample_rate=RATE)
    half_silent[:, :8_000] = 0
    image = ThreeChannels()(torch.from_numpy(half_silent))
    assert image.shape == (1, 3, 128, 100)
    assert image.min().item() == 0.0
    assert 0.9 < image[:, 0].max().item() <= 1.01
    assert image[:, 1:].amax(dim=(0, 2, 3)).tolist() == pytest.approx([1.0, 1.0], abs=0.03)
    assert image[0, :, :, :40].amax(dim=(1, 2)).tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)  # not begun
    assert (image[0, :, :, 60:90].amax(dim=1) > 0.7).all()


def test_three_channels_with_different_hops_are_refused() -> None:
    with pytest.raises(ValueError, match="one sample rate and one hop_length"):
        ThreeChannelsConfig(chroma=ChromaConfig(hop_length=512))


def tone_in_noise() -> torch.Tensor:
    wave = signals.sine(1.3, frequency_hz=440, sample_rate=RATE) + signals.noise(1.3, amplitude=0.05, sample_rate=RATE)
    return torch.from_numpy(wave[:, :20_010])


# librosa 0.11 (means over frames of 2048 / 512 at 16 kHz) and antropy 0.2
REFERENCE = {
    "mfcc_0": -64.31843,
    "mfcc_5": -9.20841,
    "mfcc_9": -8.41697,
    "rms": 0.34938,
    "rolloff_hz": 6262.69531,
    "centroid_hz": 2901.24481,
    "bandwidth_hz": 2529.91624,
    "flatness": 0.01188,
    "permutation_entropy": 0.92513,
    "svd_entropy": 0.56582,
    "hjorth_mobility": 0.2611,
    "hjorth_complexity": 5.04578,
}


def test_there_are_28_classical_features_and_they_are_librosas_and_antropys() -> None:
    values = ClassicalFeatures()(tone_in_noise())
    assert values.shape == (1, 28)
    assert len(set(CLASSICAL_FEATURES)) == 28
    found = dict(zip(CLASSICAL_FEATURES, values[0].tolist(), strict=True))
    assert {name: found[name] for name in REFERENCE} == pytest.approx(REFERENCE, rel=1e-3)
    # Where edges are treated in another way: librosa 0.058, .156 and these contrasts.
    assert found["zero_crossing_rate"] == pytest.approx(0.058, abs=0.003)
    assert found["spectral_entropy"] == pytest.approx(0.156, abs=0.01)
    contrasts = [found[f"contrast_{band}_db"] for band in range(7)]
    assert contrasts == pytest.approx([11.67, 10.45, 31.47, 12.74, 13.34, 13.66, 13.65], abs=0.1)


def test_the_cepstral_features_are_librosas_also_of_a_clip_that_rests() -> None:
    rests = torch.from_numpy(signals.sine(2.0, amplitude=0.3, sample_rate=RATE))
    rests[:, :RATE] = 0
    # librosa 0.11: mfcc(sr=16000, n_mfcc=10, n_fft=2048, hop_length=512).mean(axis=1): silence is 80 dB below the peak
    expected = [
        -525.31116,
        32.05307,
        14.85387,
        4.86233,
        -4.91931,
        -12.98558,
        -18.20361,
        -19.52209,
        -17.07132,
        -11.40554,
    ]
    assert ClassicalFeatures()(rests)[0, :10].tolist() == pytest.approx(expected, abs=1e-2, rel=1e-5)


def test_white_noise_is_flat_and_disordered_and_a_tone_is_not() -> None:
    rows = ClassicalFeatures()(
        torch.from_numpy(
            np.concatenate(
                [signals.noise(2.0, sample_rate=RATE), signals.sine(2.0, frequency_hz=1e3, sample_rate=RATE)]
            )
        )
    )
    noise, tone = (dict(zip(CLASSICAL_FEATURES, row, strict=True)) for row in rows.tolist())
    for name in ("flatness", "permutation_entropy", "spectral_entropy", "svd_entropy", "bandwidth_hz"):
        assert noise[name] > 1.5 * tone[name]
    assert noise["zero_crossing_rate"] == pytest.approx(0.5, abs=0.02)
    assert noise["permutation_entropy"] == pytest.approx(1.0, abs=1e-3)
    assert tone["zero_crossing_rate"] == pytest.approx(0.125, abs=1e-3)  # twice a period of 16 samples
    assert tone["centroid_hz"] == pytest.approx(1_000.0, rel=0.1)
    assert tone["rms"] == pytest.approx(0.5 / 2**0.5, rel=0.03)
    assert tone["hjorth_mobility"] == pytest.approx(2 * np.sin(np.pi / 16), rel=1e-3)
    assert tone["hjorth_complexity"] == pytest.approx(1.0, rel=1e-3)


def test_classical_features_of_silence_are_finite_and_of_a_batch_those_of_its_clips() -> None:
    features = ClassicalFeatures()
    silent = features(torch.zeros(1, RATE))[0]
    assert torch.isfinite(silent).all()
    assert silent[CLASSICAL_FEATURES.index("rolloff_hz")] == 0
    clips = torch.cat([tone_in_noise(), torch.zeros(1, 20_010), 0.1 * tone_in_noise()])
    singly = torch.cat([features(clip[None]) for clip in clips])
    assert torch.allclose(features(clips), singly, rtol=1e-4, atol=1e-4)


def test_a_sample_rate_too_low_for_the_contrast_bands_is_refused() -> None:
    mfcc = replace(
        ClassicalConfig().mfcc, logmel=replace(LUMEN_DB, sample_rate=8_000, max_frequency_hz=4e3, n_fft=2_048)
    )
    with pytest.raises(ValueError, match="the highest contrast band begins above 4000 Hz"):
        ClassicalConfig(sample_rate=8_000, mfcc=mfcc)
