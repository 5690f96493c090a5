"""Low sound quality: off by default, one reason with its measured value, samples measured once."""

import numpy as np
import pytest
import soxr
from rows import clip, stored

from tutti.datasets import audio
from tutti.datasets.record import Media, Recording, Rejected
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages import fidelity as stage
from tutti.pipelines.stages.fidelity import FidelityConfig, fidelity
from tutti.pipelines.stages.prepare import PrepareConfig, bit_rate, prepare

RATE = 16_000
SUGGESTED = FidelityConfig(min_bit_rate=48_000, min_bandwidth_hz=6_000, max_clipped_share=0.001, max_noise_floor_db=-22)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def music(noise=1e-4):
    """Decaying tones with all partials, 0.1 RMS, and white noise of so much RMS."""
    rng = np.random.default_rng(0)
    time_s = np.arange(RATE // 4) / RATE
    notes = []
    for pitch in 220 * 2 ** (rng.integers(0, 24, 16) / 12):
        partials = range(1, int(RATE / 2 / pitch) + 1)
        notes.append(sum(np.sin(2 * np.pi * k * pitch * time_s + k) / k for k in partials) * np.exp(-5 * time_s))
    wave = np.concatenate(notes)
    return (wave * 0.1 / wave.std() + noise * rng.standard_normal(wave.size)).astype(np.float32)


def prepared(wave, cache, audio_format="flac"):
    """The clip of a file with this sound."""
    sha256 = cache.put_blob(audio.encode(audio.to_int16(wave), RATE, audio_format))
    recording = Recording(Media("https://example.org/a", sha256=sha256), (clip("a/b@0", audio=None),))
    [row] = prepare(recording, config=PrepareConfig(), cache=cache)
    return row


def judged(row, cache, **thresholds):
    found = fidelity(row, config=FidelityConfig(**thresholds), cache=cache)
    return (found.reason, found.value) if isinstance(found, Rejected) else "kept"


def test_all_rules_are_off_by_default():
    assert not FidelityConfig().is_on()
    assert FidelityConfig(min_bit_rate=0).is_on()


def test_good_music_passes_unchanged(cache):
    good = prepared(music(), cache)

    assert fidelity(good, config=SUGGESTED, cache=cache) is good


def test_a_narrow_band_is_refused_with_its_end(cache):
    row = prepared(soxr.resample(soxr.resample(music(), RATE, 8_000), 8_000, RATE), cache)

    reason, value = judged(row, cache, min_bandwidth_hz=6_000)

    assert reason == "narrow_band"
    assert value == pytest.approx(4_000, abs=400)
    assert judged(row, cache, min_bandwidth_hz=value) == "kept"


def test_hiss_is_refused_with_its_level(cache):
    row = prepared(music(noise=0.01), cache)  # 20 dB below

    reason, value = judged(row, cache, max_noise_floor_db=-22)

    assert reason == "noisy"
    assert value == pytest.approx(-20, abs=1.5)
    assert judged(row, cache, max_noise_floor_db=value) == "kept"


def test_clipping_is_refused_with_its_share(cache):
    loud = 4 * music() / np.abs(music()).max()

    row = prepared(np.clip(loud, -1, 1), cache)

    share = np.mean(np.abs(loud) >= 1)
    assert row.audio.clipped_share == pytest.approx(share, rel=0.1)
    assert judged(row, cache, max_clipped_share=0.001) == ("clipped", row.audio.clipped_share)
    assert judged(prepared(music(), cache), cache, max_clipped_share=0.0001) == "kept"


def test_a_low_bit_rate_is_refused_and_a_lossless_file_has_none(cache):
    low = clip(audio=stored(codec="MPEG/MPEG_LAYER_III", bit_rate=32_000))

    assert judged(low, cache, min_bit_rate=48_000) == ("low_bit_rate", 32_000)
    assert judged(low, cache, min_bit_rate=32_000) == "kept"
    assert prepared(music(), cache).audio.bit_rate is None
    assert judged(clip(audio=stored()), cache, min_bit_rate=48_000) == "kept"


def test_what_was_never_measured_refuses_no_clip(cache):
    assert judged(clip(audio=stored(clipped_share=None, bit_rate=None)), cache, max_clipped_share=0) == "kept"


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        ("matroska/opus", 32_000), ("MPEG/MPEG_LAYER_III", 32_000), ("mp4/aac", 32_000), ("OGG/VORBIS", 32_000),
        ("WAV/PCM_16", None), ("FLAC/PCM_S8", None), ("mp4/alac", None), ("WAV/FLOAT", None),
    ],
)  # fmt: skip
def test_the_bit_rate_is_that_of_lossy_files(codec, expected):
    assert bit_rate(40_000, 10.0, codec) == expected


def test_the_row_names_stage_reason_value_and_detail(cache):
    low = clip(audio=stored(codec="mp4/aac", bit_rate=31_500))

    row = fidelity(low, config=SUGGESTED, cache=cache)

    assert isinstance(row, Rejected)
    assert (row.stage, row.reason, row.value, row.status) == ("fidelity", "low_bit_rate", 31_500, "rejected")
    assert row.detail == "31.5 kbit/s of mp4/aac"


def test_samples_are_measured_once(cache, monkeypatch):
    row = prepared(music(noise=0.01), cache)
    first = judged(row, cache, max_noise_floor_db=-30, min_bandwidth_hz=6_000)
    monkeypatch.setattr(stage, "sound_quality", None)  # not called again

    assert judged(row, cache, max_noise_floor_db=-30, min_bandwidth_hz=6_000) == first
    assert judged(row, cache, max_noise_floor_db=-10) == "kept"


def test_samples_at_another_rate_are_an_error_that_says_so(cache):
    with pytest.raises(ValueError, match="measured at 16000 Hz, not at 22050"):
        judged(clip(audio=stored(sample_rate=22_050)), cache, min_bandwidth_hz=6_000)


@pytest.mark.parametrize(
    "wrong",
    [{"min_bit_rate": -1}, {"min_bandwidth_hz": 9_000}, {"max_clipped_share": 2}, {"max_noise_floor_db": 3}],
)
def test_thresholds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FidelityConfig(**wrong)


# --- clipping


def test_flat_tops_count_and_round_ones_do_not():
    sine = np.sin(2 * np.pi * 220 * np.arange(44_100) / 44_100).astype(np.float32)[None]

    assert audio.clipped_share(sine) == 0.0
    assert audio.clipped_share(np.clip(2 * sine, -1, 1)) == pytest.approx(2 / 3, abs=0.01)  # from 30 to 150 degrees
    assert audio.clipped_share(0.5 * np.clip(2 * sine, -1, 1)) == pytest.approx(2 / 3, abs=0.01)  # and made softer
    assert audio.clipped_share(np.concatenate([sine, np.clip(2 * sine, -1, 1)])) == pytest.approx(1 / 3, abs=0.01)


def test_samples_beyond_full_scale_count():
    wave = np.array([[0.0, 0.5, 1.2, 0.4, -1.1, 0.0, 0.0, 0.0]], np.float32)

    assert audio.clipped_share(wave) == 0.25


@pytest.mark.parametrize("wave", [np.zeros((2, 100)), np.zeros((1, 0)), np.full((1, 100), 2e-5)])
def test_silence_and_the_last_bit_are_not_clipped(wave):
    assert audio.clipped_share(wave.astype(np.float32)) == 0.0
