"""AST's front end: the numbers of the reference extractor, whatever the batch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import noise, silence, sine

from tutti.train.features.fbank import FbankConfig, features, log_mel, num_frames
from tutti.train.features.torchaudio_import import torchaudio

CPU = torch.device("cpu")
RATE = 16_000
SPEECH_COMMANDS = {"mean": -6.845978, "std": 5.5654526}  # another published AST's normalization


def hiss(num_samples, *, amplitude=0.1, seed=0):
    return noise(num_samples / RATE, amplitude=amplitude, sample_rate=RATE, seed=seed)[0]


def tone(duration_s, **options):
    return sine(duration_s, sample_rate=RATE, **options)[0]


def click(num_samples, *, at):
    waveform = np.zeros(num_samples, np.float32)
    waveform[at] = 1.0
    return waveform


SIGNALS = {
    "noise of 10 s": hiss(160_000),
    "noise of 3 s": hiss(48_000, seed=1),
    "noise of 12 s, more than is heard": hiss(192_000, seed=2),
    "a single frame": hiss(400, seed=3),
    "a frame and all but the next": hiss(559, seed=4),
    "quiet noise": hiss(16_000, amplitude=1e-4),
    "clipped noise": hiss(16_000, amplitude=2.0),
    "tone": tone(1.0),
    "tone with an offset": tone(1.0, amplitude=0.3) + np.float32(0.5),
    "click": click(16_000, at=8_000),
    "silence": silence(1.0, sample_rate=RATE)[0],
}


@pytest.fixture(params=["torchaudio", "numpy"])
def reference(request, monkeypatch):
    """`ASTFeatureExtractor` in each of its two branches, as a function of a waveform and its options."""
    torchaudio()
    from transformers.models.audio_spectrogram_transformer import feature_extraction_audio_spectrogram_transformer as hf

    assert hf.is_speech_available()
    monkeypatch.setattr(hf, "is_speech_available", lambda: request.param == "torchaudio")

    def extract(waveform, **options):
        extractor = hf.ASTFeatureExtractor(**options)
        assert hasattr(extractor, "mel_filters") == (request.param == "numpy")
        return extractor(waveform, sampling_rate=RATE, return_tensors="np")["input_values"][0]

    return extract


def one(waveform, config=None, *, frames=1024):
    return features([waveform], config or FbankConfig(), frames=frames, device=CPU)[0].numpy()


# --- the reference


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize("name", SIGNALS)
def test_features_are_those_of_the_reference_extractor_within_a_thousandth(reference, name):
    np.testing.assert_allclose(one(SIGNALS[name]), reference(SIGNALS[name]), rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
def test_another_normalization_and_size_are_those_of_the_reference_extractor(reference):
    waveform = hiss(16_000)
    ours = one(waveform, FbankConfig(num_mels=64, max_frames=128, **SPEECH_COMMANDS), frames=128)

    theirs = reference(waveform, num_mel_bins=64, max_length=128, **SPEECH_COMMANDS)

    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
def test_without_normalization_they_are_those_of_the_reference_extractor(reference):
    waveform = hiss(16_000)

    ours = one(waveform, FbankConfig(normalize=False), frames=128)

    np.testing.assert_allclose(ours, reference(waveform, max_length=128, do_normalize=False), rtol=0, atol=1e-3)


# --- what they are


@pytest.mark.parametrize(
    ("num_samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (48_000, 298), (160_000, 998)]
)
def test_frames_lie_wholly_within_the_clip(num_samples, frames):
    assert num_frames(num_samples) == frames


def test_frames_behind_the_end_of_a_clip_are_zero_before_the_normalization():
    padded = one(hiss(16_000), frames=128)

    np.testing.assert_allclose(padded[98:], 0.46703, atol=1e-5)  # (0 + 4.2677393) / (2 * 4.5689974)
    assert np.ptp(padded[97]) > 0.1


def test_digital_silence_lies_on_the_floor():
    np.testing.assert_allclose(one(np.zeros(16_000, np.float32), frames=98), -1.27759, atol=1e-5)


def test_twice_the_amplitude_adds_the_logarithm_of_four():
    waveform = torch.from_numpy(hiss(16_000))[None]

    difference = log_mel(2 * waveform, 128) - log_mel(waveform, 128)

    heard = log_mel(waveform, 128) > math.log(1e-6)  # above the floor
    assert heard.float().mean() > 0.95
    torch.testing.assert_close(difference[heard], torch.full_like(difference[heard], math.log(4)), atol=1e-4, rtol=0)


# 128 bands with centers spaced evenly from mel(20 Hz) = 31.75 to mel(8000 Hz) = 2840.04, mel = 1127 ln(1 + f / 700):
# 250 Hz = 344.2 mel is nearest to center 13 of 0 to 127, 2 kHz to 67, 4 kHz to 96.
@pytest.mark.parametrize(("frequency_hz", "band"), [(250.0, 13), (2_000.0, 67), (4_000.0, 96)])
def test_a_tone_is_loudest_in_the_band_of_its_pitch(frequency_hz, band):
    log_mels = one(tone(1.0, frequency_hz=frequency_hz), frames=98)

    assert set(log_mels.argmax(axis=1)) == {band}


def test_only_the_beginning_of_a_long_clip_is_heard():
    waveform = hiss(192_000)

    assert np.array_equal(one(waveform), one(waveform[: 400 + 1023 * 160]))


# --- batches


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_features_are_the_same_bits_in_every_batch(batch):
    waveforms = [hiss(length, seed=length) for length in (160_000, 48_000, 400, 16_000, 559, 192_000, 100_000, 8_000)]
    together = features(waveforms, FbankConfig(), frames=1024, device=CPU)

    apart = [features(waveforms[i : i + batch], FbankConfig(), frames=1024, device=CPU) for i in range(0, 8, batch)]

    assert torch.equal(torch.cat(apart), together)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(400, 12_000), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_features_do_not_depend_on_the_neighbours_nor_the_place_among_them(lengths, random):
    waveforms = [hiss(length, seed=seed) for seed, length in enumerate(lengths)]
    order = list(range(len(waveforms)))
    random.shuffle(order)

    shuffled = features([waveforms[i] for i in order], FbankConfig(), frames=64, device=CPU).numpy()

    assert all(np.array_equal(row, one(waveforms[i], frames=64)) for row, i in zip(shuffled, order, strict=True))


def test_features_are_the_same_bits_with_every_number_of_threads():
    waveforms = [hiss(48_000, seed=seed) for seed in range(4)]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(features(waveforms, FbankConfig(), frames=298, device=CPU))
    finally:
        torch.set_num_threads(before)

    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_the_same_features_within_a_thousandth():
    waveforms = list(SIGNALS.values())

    on_gpu = features(waveforms, FbankConfig(), frames=1024, device=torch.device("cuda")).cpu()

    torch.testing.assert_close(on_gpu, features(waveforms, FbankConfig(), frames=1024, device=CPU), atol=1e-3, rtol=0)


# --- what is refused


@pytest.mark.parametrize(
    ("waveform", "complaint"),
    [
        (np.zeros((1, 16_000), np.float32), r"waveform 1: expected mono .* got float32 \(1, 16000\); mix the channels"),
        (np.zeros(16_000, np.int16), r"waveform 1: .* got int16 \(16000,\); .* divide integers by their full scale"),
        (np.zeros(399, np.float32), r"waveform 1: 399 samples are less than a frame of 400 .* leave such clips out"),
        (np.full(16_000, np.nan, np.float32), "waveform 1: holds a sample that is not a finite number"),
    ],
)
def test_what_is_no_waveform_is_refused_by_its_number(waveform, complaint):
    with pytest.raises(ValueError, match=complaint):
        features([hiss(16_000), waveform], FbankConfig(), frames=98, device=CPU)
