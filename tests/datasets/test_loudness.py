"""Resampling, loudness by the standard, gain under the true-peak guard, and stored PCM."""

import hashlib

import numpy as np
import pytest
import signals
from hypothesis import given, settings
from hypothesis import strategies as st

from tutti.datasets import audio


def mono_sine(**options):
    return signals.sine(**options)[0]


# --- resample


def test_resampling_keeps_a_tone_in_frequency_level_and_phase():
    found = audio.resample(mono_sine(duration_s=2.0, frequency_hz=1_000), 44_100, 16_000)

    expected = mono_sine(duration_s=2.0, frequency_hz=1_000, sample_rate=16_000)
    assert found.shape == (32_000,)
    assert np.abs(found - expected)[500:-500].max() < 1e-5


@pytest.mark.parametrize("frequency_hz", [9_000, 12_000, 20_000])
def test_resampling_removes_what_lies_above_8_khz(frequency_hz):
    found = audio.resample(mono_sine(duration_s=2.0, frequency_hz=frequency_hz), 44_100, 16_000)

    assert np.abs(found)[500:-500].max() < 1e-5  # -94 dB below the tone


def test_at_the_same_rate_nothing_is_resampled():
    tone = mono_sine(sample_rate=16_000)

    assert audio.resample(tone, 16_000, 16_000) is tone


# --- loudness


@pytest.mark.parametrize("sample_rate", [16_000, 44_100, 48_000])
def test_a_full_scale_997_hz_sine_measures_minus_3_01_lufs(sample_rate):  # BS.1770-4, end of annex 1
    tone = mono_sine(duration_s=5.0, frequency_hz=997, amplitude=1.0, sample_rate=sample_rate)

    assert audio.measure_loudness(tone, sample_rate) == pytest.approx(-3.01, abs=0.1)


@pytest.mark.parametrize("frequency_hz", [997, 1_000])
def test_a_sine_of_minus_20_dbfs_measures_minus_23_lufs(frequency_hz):  # EBU Tech 3341, in one channel
    tone = mono_sine(duration_s=20.0, frequency_hz=frequency_hz, amplitude=0.1, sample_rate=16_000)

    assert audio.measure_loudness(tone, 16_000) == pytest.approx(-23.0, abs=0.1)


def test_silence_around_a_tone_does_not_lower_its_loudness():
    tone = signals.sine(4.0, frequency_hz=1_000, amplitude=0.1, sample_rate=16_000)[0]

    padded = np.concatenate([np.zeros(64_000, np.float32), tone, np.zeros(64_000, np.float32)])

    assert audio.measure_loudness(padded, 16_000) == pytest.approx(-23.0, abs=0.4)  # blocks across its edges count


@pytest.mark.parametrize("duration_s", [0.02, 0.05, 0.2, 0.39, 0.4])
def test_less_than_a_gating_block_is_measured_as_one_shorter_block(duration_s):
    tone = mono_sine(duration_s=duration_s, frequency_hz=997, amplitude=0.1, sample_rate=16_000)

    assert audio.measure_loudness(tone, 16_000) == pytest.approx(-23.0, abs=0.1)


def test_no_length_below_a_gating_block_is_beyond_measurement():
    tone = mono_sine(duration_s=0.4, frequency_hz=997, amplitude=0.1, sample_rate=16_000)

    for num_samples in range(320, 6_401):
        assert audio.measure_loudness(tone[:num_samples], 16_000) == pytest.approx(-23.0, abs=0.2), num_samples


@pytest.mark.parametrize(
    "mono",
    [
        np.zeros(16_000, np.float32),
        np.zeros(0, np.float32),
        mono_sine(duration_s=0.019, sample_rate=16_000),
        mono_sine(amplitude=1e-4, sample_rate=16_000),
        np.full(16_000, np.nan, np.float32),
    ],
    ids=["silence", "nothing", "19 ms", "below -60 LUFS", "not a number"],
)
def test_what_has_no_loudness_measures_none(mono):
    assert audio.measure_loudness(mono, 16_000) is None


@pytest.mark.parametrize(
    ("samples", "share"),
    [([0.0, 0.0, 0.0, 0.5], 0.75), ([0.001, -0.001], 0.0), ([0.0009, -0.0009], 1.0), ([], 1.0)],
)
def test_silence_is_the_share_of_samples_below_the_amplitude(samples, share):
    assert audio.silence_share(np.array(samples, np.float32), 0.001) == share


def test_the_true_peak_lies_between_the_samples():
    between = np.sin(2 * np.pi * 4_000 * np.arange(16_000) / 16_000 + np.pi / 4).astype(np.float32)

    assert np.abs(between).max() == pytest.approx(0.7071, abs=1e-4)
    assert audio.true_peak_dbtp(between, 16_000) == pytest.approx(0.0, abs=0.5)


def test_the_true_peak_is_never_below_the_sample_peak():
    click = np.zeros(16_000, np.float32)
    click[8_000] = 1.0

    assert audio.true_peak_dbtp(click, 16_000) >= 0.0


@pytest.mark.parametrize("mono", [np.zeros(100, np.float32), np.zeros(0, np.float32)])
def test_digital_silence_has_no_true_peak(mono):
    assert audio.true_peak_dbtp(mono, 16_000) is None


# --- gain


@pytest.mark.parametrize(
    ("loudness_lufs", "true_peak", "gain_db"),
    [
        (-23.0, -15.0, 11.0),  # up to the target
        (-6.0, -0.5, -6.0),  # down to the target
        (-23.0, -10.0, 9.0),  # the guard: -10 + 9 = -1 dBTP
        (-12.0, 0.5, -1.5),  # the guard lowers what is loud enough
        (-59.0, -50.0, 30.0),  # never more than the most
        (None, -20.0, 0.0),  # not measurable: as it is
        (None, 0.0, -1.0),  # but under the guard
        (None, None, 0.0),
        (-23.456, -20.0, 11.45),  # down to the next 0.01 dB
        (-11.996, -20.0, -0.01),
        (-12.0, -1.0, 0.0),
    ],
)
def test_gain_reaches_the_target_unless_the_true_peak_guard_holds_it(loudness_lufs, true_peak, gain_db):
    found = audio.loudness_gain_db(
        loudness_lufs, true_peak, target_lufs=-12.0, max_true_peak_dbtp=-1.0, max_gain_db=30.0
    )

    assert found == pytest.approx(gain_db, abs=1e-9)
    assert str(found) != "-0.0"


def test_measurements_that_differ_in_their_last_bits_give_the_same_gain():
    def gain_db(loudness_lufs):
        return audio.loudness_gain_db(
            loudness_lufs, -40.0, target_lufs=-12.0, max_true_peak_dbtp=-1.0, max_gain_db=30.0
        )

    assert gain_db(-23.5) == gain_db(np.nextafter(-23.5, 0)) == gain_db(np.nextafter(-23.5, -100)) == 11.5


def test_six_decibels_double_the_amplitude():
    assert audio.apply_gain(np.array([0.25], np.float32), 6.0206).tolist() == pytest.approx([0.5], abs=1e-6)


# --- PCM and its files


def test_pcm_rounds_to_nearest_even_and_stops_at_full_scale():
    mono = np.array([0.5, 1.5, 2.5, -1.5, 40_000, -40_000], np.float32) / np.float32(32_768)

    assert audio.to_int16(mono).tolist() == [0, 2, 2, -2, 32_767, -32_768]


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
@given(samples=st.lists(st.integers(-32_768, 32_767), min_size=1, max_size=500), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_stored_pcm_comes_back_bit_for_bit(audio_format, samples, seed):
    wanted = np.array(samples, np.int16)
    if seed % 2:  # also something that FLAC can predict, over several blocks
        wanted = np.concatenate([audio.to_int16(signals.sine(0.6, frequency_hz=100 + seed)[0]), wanted])

    decoded = audio.decode(audio.encode(wanted, 16_000, audio_format), "stored")

    assert np.array_equal(audio.to_int16(decoded.waveform[0]), wanted)
    assert decoded.sample_rate == 16_000
    assert decoded.complete


def test_the_same_pcm_gives_the_same_file():
    samples = audio.to_int16(signals.noise(1.0)[0])

    assert audio.encode(samples, 16_000, "flac") == audio.encode(samples, 16_000, "flac")
    assert audio.encode(samples, 16_000, "flac")[:4] == b"fLaC"
    assert audio.encode(samples, 16_000, "wav")[:4] == b"RIFF"


def test_the_pcm_digest_is_over_little_endian_16_bit_samples():
    expected = hashlib.sha256(b"\x01\x00\xff\xff\x00\x80").hexdigest()

    assert audio.pcm_sha256(np.array([1, -1, -32_768], np.int16)) == expected
    assert audio.pcm_sha256(np.array([1, 9, -1, 9, -32_768], np.int16)[::2]) == expected  # a view, not contiguous
