"""The built-in embedder: deterministic, loudness-free, of any length, and it hears timbre rather than pitch."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from signals import noise, silence, sine

from tutti.pipelines.embedders.logmel import (
    LogMelEmbedder,
    harmonic_coefficients,
    mel_filters,
    pitch_filters,
    power_spectra,
    rolloff_hz,
)

RATE = 16_000


def tone(duration_s=2.0, *, frequency_hz=440.0, partials=8, seed=0):
    """A note with partials at 1/n, a slow decay and a little noise: (num_samples,) float32."""
    time_s = np.arange(round(duration_s * RATE)) / RATE
    waves = [np.sin(2 * np.pi * n * frequency_hz * time_s) / n for n in range(1, partials + 1)]
    hiss = 0.003 * np.random.default_rng(seed).standard_normal(len(time_s))
    return (0.2 * sum(waves) * np.exp(-time_s) + hiss).astype(np.float32)


def distance(a, b):
    return float(np.linalg.norm(a - b))


def test_the_protocol_is_a_name_a_dimension_a_digest_and_rows_of_float32():
    embedder = LogMelEmbedder()
    rows = embedder.embed([tone(), tone(frequency_hz=330.0)])

    assert (embedder.name, embedder.dimension, rows.shape, rows.dtype) == ("logmel", 371, (2, 371), np.float32)
    assert len(embedder.digest) == 64
    assert embedder.embed([]).shape == (0, 371)
    assert pickle.loads(pickle.dumps(embedder)) == embedder


def test_a_row_has_the_same_bits_in_any_batch():
    waveforms = [tone(length, frequency_hz=200.0 + 90 * length) for length in (1.0, 3.0, 2.5, 10.0, 1.3)]
    embedder = LogMelEmbedder()
    alone = np.vstack([embedder.embed([waveform]) for waveform in waveforms])

    assert np.array_equal(embedder.embed(waveforms), alone)
    assert np.array_equal(embedder.embed(waveforms[::-1])[::-1], alone)


def test_another_process_with_other_threads_and_another_hash_seed_gives_the_same_bits():
    code = (
        "import sys, numpy as np; from tutti.pipelines.embedders.logmel import LogMelEmbedder as E; "
        "w = np.random.default_rng(3).standard_normal(40_000).astype(np.float32); "
        "sys.stdout.write(E().digest + E().embed([w]).tobytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    }

    assert len(outputs) == 1
    assert len(outputs.pop()) == 64 + 371 * 8


@pytest.mark.parametrize("gain", [0.001, 0.05, 3.0])
def test_loudness_does_not_matter(gain):
    embedder = LogMelEmbedder()

    assert np.allclose(
        embedder.embed([tone() * np.float32(gain)]), embedder.embed([tone()]), atol=2e-3, rtol=1e-3
    )  # float32 rounding of the samples; features are of the order of 1 to 40


@pytest.mark.parametrize("num_samples", [1, 500, 1_024, 4_095, 16_000, 480_000])
def test_any_length_gives_finite_numbers(num_samples):
    waveform = noise(num_samples / RATE, sample_rate=RATE)[0]

    assert np.isfinite(LogMelEmbedder().embed([waveform])).all()


@pytest.mark.parametrize("waveform", [silence(2.0, sample_rate=RATE)[0], sine(2.0, sample_rate=RATE)[0]])
def test_silence_and_a_pure_tone_give_finite_numbers(waveform):
    assert np.isfinite(LogMelEmbedder().embed([waveform])).all()


def test_a_steady_sound_is_the_same_at_any_length():
    short, long = LogMelEmbedder().embed([noise(3.0, sample_rate=RATE)[0], noise(20.0, sample_rate=RATE)[0]])
    other = LogMelEmbedder().embed([tone(3.0)])[0]

    assert distance(short, long) < 0.1 * distance(short, other)


def test_a_bad_waveform_is_named_with_the_remedy():
    good = tone()
    with pytest.raises(ValueError, match=r"waveform 1: expected mono samples .* got \(2, 9\); take one channel"):
        LogMelEmbedder().embed([good, np.zeros((2, 9), np.float32)])
    with pytest.raises(ValueError, match=r"waveform 0: .* got \(0,\)"):
        LogMelEmbedder().embed([np.zeros(0, np.float32)])
    with pytest.raises(ValueError, match="waveform 0: holds values that are no numbers; decode it again"):
        LogMelEmbedder().embed([np.array([0.1, np.nan], np.float32)])


def test_harmonic_coefficients_tell_timbre_from_pitch():
    def coefficients(frequency_hz, partials):
        power = power_spectra(tone(frequency_hz=frequency_hz, partials=partials), 4096, 1024)
        return harmonic_coefficients(power, 24, compression="root")

    low, high, dull = coefficients(220.0, 8), coefficients(311.1, 8), coefficients(220.0, 2)

    assert low.shape == (84,)
    assert distance(low, high) < 0.5 * distance(low, dull)


def test_the_filters_cover_what_they_say():
    mel, pitch = mel_filters(), pitch_filters(24)

    assert mel.shape == (40, 513)
    assert pitch.shape == (168, 2049)
    assert np.allclose(pitch.sum(axis=1), 1, atol=1e-6)
    assert (mel.max(axis=1) > 0.3).all()
    center_hz = (pitch @ (np.arange(2049) * RATE / 4096))[[0, 24, 167]]
    assert np.allclose(center_hz, [61.7, 123.4, 61.7 * 2 ** (167 / 24)], atol=RATE / 4096)  # an FFT bin


def test_roll_off_is_the_frequency_below_which_that_share_lies():
    power = np.zeros((1, 513), np.float32)
    power[0, [64, 128, 256]] = 6.0, 3.0, 1.0  # 1, 2 and 4 kHz

    assert [float(hz[0]) for hz in rolloff_hz(power, (0.5, 0.85, 0.95))] == [1_000.0, 2_000.0, 4_000.0]


def test_timbres_can_be_told_apart_across_pitches():
    embedder = LogMelEmbedder()
    pitches = [220.0 * 2 ** (step / 5) for step in range(6)]
    bright = embedder.embed([tone(frequency_hz=hz, partials=10, seed=i) for i, hz in enumerate(pitches)])
    dull = embedder.embed([tone(frequency_hz=hz, partials=2, seed=9 + i) for i, hz in enumerate(pitches)])
    scale = np.vstack([bright, dull]).std(axis=0) + 1e-6
    middle = {name: rows[::2].mean(axis=0) / scale for name, rows in (("bright", bright), ("dull", dull))}

    heard = [min(middle, key=lambda name: distance(row / scale, middle[name])) for row in (*bright[1::2], *dull[1::2])]
    assert heard == ["bright"] * 3 + ["dull"] * 3
