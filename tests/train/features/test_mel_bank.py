"""The mel bank against two other implementations, and against the arrays that embeddings were made with before."""

import hashlib

import numpy as np
import pytest

from tutti.datasets.mel_bank import mel_bank
from tutti.pipelines.embedders import logmel as logmel_embedder
from tutti.train.features.fbank import mel_filters as kaldi_filters
from tutti.train.features.torchaudio_import import torchaudio
from tutti.train.pretrained import transformers

SIZES = [(512, 64, 30.0, 8_000.0), (1_024, 80, 50.0, 8_000.0), (400, 40, 0.0, 7_600.0), (2_048, 128, 20.0, 8_000.0)]


def ours(n_fft, num_bands, low_hz, high_hz, scale):
    return mel_bank(n_fft=n_fft, sample_rate=16_000, num_bands=num_bands, low_hz=low_hz, high_hz=high_hz, scale=scale)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize(("n_fft", "num_bands", "low_hz", "high_hz"), SIZES)
def test_triangles_are_those_of_torchaudio(scale, n_fft, num_bands, low_hz, high_hz):
    theirs = torchaudio().functional.melscale_fbanks(
        n_fft // 2 + 1, low_hz, high_hz, num_bands, 16_000, norm=None, mel_scale=scale
    )

    found = ours(n_fft, num_bands, low_hz, high_hz, scale)

    assert found.shape == (n_fft // 2 + 1, num_bands)
    np.testing.assert_allclose(found, theirs.numpy(), rtol=0, atol=1e-3)  # theirs are of single precision


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize("scale", ["htk", "slaney", "kaldi"])
@pytest.mark.parametrize(("n_fft", "num_bands", "low_hz", "high_hz"), SIZES)
def test_triangles_are_those_of_transformers(scale, n_fft, num_bands, low_hz, high_hz):
    transformers()
    from transformers.audio_utils import mel_filter_bank

    theirs = mel_filter_bank(
        n_fft // 2 + 1, num_bands, low_hz, high_hz, 16_000, norm=None, mel_scale=scale,
        triangularize_in_mel_space=scale == "kaldi",
    )  # fmt: skip

    np.testing.assert_allclose(ours(n_fft, num_bands, low_hz, high_hz, scale), theirs, rtol=0, atol=1e-9)


def test_kaldis_are_those_that_training_takes_from_its_port_to_torch():
    np.testing.assert_allclose(ours(512, 128, 20.0, 8_000.0, "kaldi"), kaldi_filters(128).numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (lambda: logmel_embedder.mel_filters(), "c368f5cb33ee8826"),
        (lambda: logmel_embedder.pitch_filters(24), "5222e9a0c38525fd"),
        (lambda: logmel_embedder.pitch_filters(36), "d93635a3b5d53ac5"),
    ],
    ids=["logmel", "logmel, 24 an octave", "logmel, 36 an octave"],
)
def test_the_filters_of_the_logmel_embedder_have_the_bits_that_they_have_on_every_processor(filters, expected):
    found = filters()

    assert found.dtype == np.float32
    assert hashlib.sha256(np.ascontiguousarray(found).tobytes()).hexdigest()[:16] == expected
