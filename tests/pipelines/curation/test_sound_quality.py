"""Sound quality: where low-passes end the band, how loud hiss is, and what music is not taken for."""

import numpy as np
import pytest
import scipy.signal
import soxr
from numpy.typing import NDArray
from signals import encoded, noise

from tutti.datasets import audio
from tutti.pipelines.curation.sound_quality import MAX_FRAMES, SoundQuality, sound_quality

RATE = 16_000
Samples = NDArray[np.int16]


def scale(duration_s: float = 6.0, *, lowest_hz: float = 220.0, fade: float = 1.0) -> NDArray[np.float64]:
    """Notes of a quarter second with all their partials, the k-th 1 / k^fade as strong, in a faint room."""
    rng = np.random.default_rng(0)
    time_s = np.arange(RATE // 4) / RATE
    notes = []
    for _ in range(round(duration_s * 4)):
        pitch = lowest_hz * 2 ** (rng.integers(0, 24) / 12)
        partials = range(1, int(RATE / 2 / pitch) + 1)
        notes.append(sum(np.sin(2 * np.pi * k * pitch * time_s + k) / k**fade for k in partials) * np.exp(-5 * time_s))
    music = np.concatenate(notes)
    music *= 0.1 / music.std()
    return music + 1e-4 * rng.standard_normal(music.size)  # 60 dB below


def pcm(wave: NDArray[np.float64]) -> Samples:
    return audio.to_int16(wave.astype(np.float32))


def white(num_samples: int, below_db: float) -> NDArray[np.float64]:
    return np.random.default_rng(1).standard_normal(num_samples) * 0.1 * 10 ** (-below_db / 20)


def through(rate: int) -> Samples:
    """Music that was once sampled at a lower rate."""
    return pcm(soxr.resample(soxr.resample(scale(), RATE, rate), rate, RATE))


def test_music_up_to_the_top_has_the_full_band_and_little_noise():
    found = sound_quality(pcm(scale()))

    assert found.bandwidth_hz == 8000.0
    assert found.noise_floor_db < -40


@pytest.mark.parametrize(("rate", "end_hz"), [(8_000, 4_000), (11_025, 5_512), (12_000, 6_000)])
def test_a_lower_sample_rate_ends_the_band_at_its_half(rate, end_hz):
    assert sound_quality(through(rate)).bandwidth_hz == pytest.approx(end_hz, abs=400)


@pytest.mark.parametrize("cutoff_hz", [2_500, 3_400, 5_000, 6_500])
def test_a_steep_low_pass_ends_the_band_within_300_hz(cutoff_hz):
    low_pass = scipy.signal.firwin(255, cutoff_hz, fs=RATE, window=("kaiser", 8.0))

    found = sound_quality(pcm(scipy.signal.lfilter(low_pass, 1, scale())))

    assert found.bandwidth_hz == pytest.approx(cutoff_hz, abs=300)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_gentle_low_pass_of_up_to_24_db_an_octave_does_not_end_the_band(order):
    low_pass = scipy.signal.butter(order, 2_000, fs=RATE)

    assert sound_quality(pcm(scipy.signal.lfilter(*low_pass, scale()))).bandwidth_hz == 8000.0


@pytest.mark.parametrize("lowest_hz", [41.2, 110.0, 880.0])
def test_dull_instruments_of_any_pitch_have_the_full_band(lowest_hz):
    assert sound_quality(pcm(scale(lowest_hz=lowest_hz, fade=3.0))).bandwidth_hz == 8000.0


def test_a_tone_alone_does_not_end_the_band_at_its_pitch():
    tone = 0.2 * np.sin(2 * np.pi * 3_000 * np.arange(5 * RATE) / RATE)

    assert sound_quality(pcm(tone)).bandwidth_hz == 8000.0


@pytest.mark.parametrize("below_db", [20, 10, 0])
def test_white_noise_reads_as_its_level_below_the_whole(below_db):
    music = scale()

    found = sound_quality(pcm((music + white(music.size, below_db)) / 2))

    of_the_whole = -10 * np.log10(1 + 10 ** (below_db / 10))
    assert found.noise_floor_db == pytest.approx(of_the_whole, abs=1.5)


def test_noise_below_the_end_of_the_band_is_still_heard():
    music = scale()
    muffled = soxr.resample(soxr.resample(music + white(music.size, 10), RATE, 8_000), 8_000, RATE)

    found = sound_quality(pcm(muffled))

    assert found.bandwidth_hz < 4_500
    assert found.noise_floor_db == pytest.approx(-13, abs=2)  # half of the noise went with the upper half of the band


def test_the_level_of_a_clip_does_not_matter():
    music = scale() + white(6 * RATE, 25)
    loud, soft = sound_quality(pcm(music)), sound_quality(pcm(music / 8))

    assert loud.bandwidth_hz == soft.bandwidth_hz
    assert loud.noise_floor_db == pytest.approx(soft.noise_floor_db, abs=0.2)


def test_silence_has_no_noise_and_the_full_band():
    assert sound_quality(np.zeros(RATE, np.int16)) == SoundQuality(8000.0, -100.0)


@pytest.mark.parametrize("num_samples", [0, 1, 100, 2_048, 3_000])
def test_short_clips_are_measured_as_they_are(num_samples):
    found = sound_quality(pcm(scale(1.0))[:num_samples])

    assert 2_000 <= found.bandwidth_hz <= 8_000
    assert -100 <= found.noise_floor_db <= 0


def test_of_long_clips_some_windows_are_measured():
    long = np.tile(pcm(scale() + white(6 * RATE, 20)), 40)  # 4 minutes, 3749 windows
    assert long.size // 1_024 > MAX_FRAMES

    assert sound_quality(long).noise_floor_db == pytest.approx(-20, abs=1.5)


@pytest.mark.parametrize("samples", [np.zeros((1, 9), np.int16), np.zeros(9, np.float32)], ids=["channels", "float"])
def test_anything_but_mono_int16_is_an_error(samples):
    with pytest.raises(ValueError, match="expected mono int16"):
        sound_quality(samples)


def test_an_encoder_that_keeps_the_band_does_not_end_it():
    wave = noise(4.0, amplitude=0.1, sample_rate=RATE)
    vorbis = audio.decode(encoded(wave, sample_rate=RATE, kind="OGG", subtype="VORBIS"), "vorbis")

    assert sound_quality(audio.to_int16(vorbis.waveform[0])).bandwidth_hz == 8000.0
