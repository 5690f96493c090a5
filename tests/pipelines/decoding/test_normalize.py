"""What prepare stores: at the target loudness unless the guard held, and the guard is never passed."""

import numpy as np
import pytest
import signals
from hypothesis import given, settings
from hypothesis import strategies as st

from tutti.datasets import audio
from tutti.pipelines.decoding.config import PrepareConfig
from tutti.pipelines.decoding.normalize import store_audio


@st.composite
def any_signal(draw):
    """Tones, noise and clicks of any level, 16 kHz mono, 0.1 to 2 s."""
    duration_s = draw(st.floats(0.1, 2.0))
    level = 10 ** (draw(st.floats(-60, 0)) / 20)
    seed = draw(st.integers(0, 1_000))
    parts = [signals.noise(duration_s, amplitude=draw(st.floats(0.001, 1.0)), sample_rate=16_000, seed=seed)]
    frequency_hz = draw(st.floats(30, 7_900))
    parts.append(
        signals.sine(duration_s, frequency_hz=frequency_hz, amplitude=draw(st.floats(0, 1)), sample_rate=16_000)
    )
    mono = np.clip(sum(parts)[0], -1, 1) * np.float32(level)
    clicks = np.random.default_rng(seed).integers(0, mono.size, draw(st.integers(0, 3)))
    mono[clicks] = draw(st.sampled_from([-1.0, 0.5, 1.0]))
    return mono.astype(np.float32)


@given(mono=any_signal())
@settings(max_examples=60, deadline=None)
def test_stored_audio_is_at_the_target_unless_the_guard_or_the_most_gain_held_and_never_clipped(mono):
    config = PrepareConfig()
    facts, file = store_audio(mono[None], audio.Decoded(mono[None], 16_000, "", "", True), config)
    samples = audio.decode(file, "stored").waveform[0]

    peak = audio.true_peak_dbtp(samples, 16_000)
    loudness = audio.measure_loudness(samples, 16_000)

    assert peak is None or peak <= -1.0 + 0.002  # 16-bit rounding
    assert np.abs(samples).max() < 1.0
    if facts["loudness_lufs"] is None:
        return
    assert facts["true_peak_dbtp"] == pytest.approx(peak, abs=0.02)
    assert loudness == pytest.approx(facts["loudness_lufs"], abs=0.1)
    if facts["true_peak_dbtp"] < -1.011 and facts["gain_db"] < config.max_gain_db:
        assert -12.011 <= facts["loudness_lufs"] <= -11.999
    else:
        assert facts["loudness_lufs"] <= -11.999


@given(mono=any_signal())
@settings(max_examples=30, deadline=None)
def test_the_stored_samples_are_the_signal_times_one_gain(mono):
    facts, file = store_audio(mono[None], audio.Decoded(mono[None], 16_000, "", "", True), PrepareConfig())

    found = audio.decode(file, "stored").waveform[0]

    assert np.abs(found - mono * 10 ** (facts["gain_db"] / 20)).max() <= 0.51 / 32_768
