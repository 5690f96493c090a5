"""Sound that is none, in build and prediction alike: each kind has a reason and the value that shows it."""

import numpy as np
import pytest
import signals
from rows import clip

from tutti.datasets import audio
from tutti.datasets.record import Clip, Media, Recording
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.clean import CleanConfig, clean
from tutti.pipelines.stages.prepare import PrepareConfig, prepare

RATE = 44_100
HISS = signals.noise(3.0, amplitude=0.017)
MUSIC = signals.sine(3.0, amplitude=0.3)


def spiked(waveform, amplitude, at=10_000):
    """A waveform with one sample that is none of it."""
    spiky = waveform.copy()
    spiky[:, at] = amplitude
    return spiky


def stereo(left, right):
    return np.concatenate([left, right])


def cleaned(waveform, tmp_path, **options):
    """The row of a float WAV after prepare and clean."""
    cache = Cache(tmp_path / "cache")
    data = signals.encoded(waveform, subtype="FLOAT")
    recording = Recording(Media("https://host/a.wav", sha256=cache.put_blob(data)), (clip("a/b@0", audio=None),))
    (row,) = prepare(recording, config=PrepareConfig(**options), cache=cache)
    return clean(row, config=CleanConfig())


@pytest.mark.parametrize(
    ("waveform", "reason", "value", "within"),
    [
        (stereo(MUSIC, -MUSIC), "channels_cancel", 99.9, 0.0),
        (stereo(MUSIC, -0.99 * MUSIC), "channels_cancel", 42.98, 0.01),  # 10 log10((1 + .99^2) / .01^2)
        (stereo(MUSIC, -MUSIC + 0.1 * signals.noise(3.0, amplitude=0.2121)), "channels_cancel", 23.0, 0.2),
        (stereo(MUSIC + 0.1, -MUSIC + 0.1), "channels_cancel", 99.9, 0.0),  # an offset does not hide it
        (np.concatenate([MUSIC, -MUSIC, MUSIC, -MUSIC]), "channels_cancel", 99.9, 0.0),
        (signals.silence(3.0), "silent", 1.0, 0.0),
        (signals.silence(3.0) + 0.25, "silent", 1.0, 0.0),
        (signals.noise(3.0, amplitude=0.0002) + 0.01, "silent", 1.0, 0.0),
        (spiked(signals.silence(3.0), 1.0), "silent", 1.0, 1e-4),
        (spiked(signals.silence(3.0) - 0.5, 1.0), "silent", 1.0, 1e-4),
        (signals.noise(3.0, amplitude=2e-4), "silent", 1.0, 1e-4),
        (HISS + 0.5, "crest", 31.0, 2.0),
        (spiked(MUSIC, 17_000.0), "crest", 60.0, 5.0),  # of 95: for 5 ms the resampler rings
        (spiked(MUSIC, -60.0), "crest", 37.2, 1.0),  # 20 log10(60 / .3) less 8.8 dB, which resampling spreads
        (spiked(MUSIC, 60.0, at=slice(100, 140)), "crest", 46.0, 1.0),
        (signals.sine(3.0, frequency_hz=4.0, amplitude=0.9), "crest", 40.0, 10.0),
    ],
    ids=[
        "inverted", "nearly inverted", "inverted beside hiss", "inverted with an offset", "two of four inverted",
        "digital silence", "an offset alone", "faint hiss on an offset", "one spike", "one spike on an offset",
        "faint hiss", "hiss on an offset", "a spike of 95 dB", "a spike of 46 dB", "a burst of 1 ms", "infrasound",
    ],
)  # fmt: skip
def test_sound_that_is_none_is_rejected_with_the_reason_and_its_value(waveform, reason, value, within, tmp_path):
    row = cleaned(waveform.astype(np.float32), tmp_path)

    assert (getattr(row, "stage", "kept"), row.reason) == ("clean", reason)
    assert row.value == pytest.approx(value, abs=within + 1e-9)


def test_what_no_stored_rate_can_hold_is_silent(tmp_path):
    row = cleaned(signals.sine(3.0, frequency_hz=18_000, amplitude=0.5), tmp_path)

    assert row.reason == "silent"


@pytest.mark.parametrize(
    "waveform",
    [
        MUSIC,
        stereo(MUSIC, MUSIC),
        stereo(MUSIC, signals.silence(3.0)),
        stereo(MUSIC, -0.4 * MUSIC),  # half of it is left, and is all of the music
        stereo(signals.noise(3.0, seed=1), signals.noise(3.0, seed=2)),
        MUSIC + 0.2,
        spiked(MUSIC, 1.0),
        signals.sine(3.0, frequency_hz=27.5, amplitude=0.5),  # the lowest note of a piano
        np.tile(np.exp(-np.arange(RATE // 2) / (0.05 * RATE)), 6) * signals.noise(3.0, amplitude=0.3),
        np.concatenate([signals.sine(0.7, amplitude=0.9), 0.01 * signals.sine(2.3)], axis=1),
    ],
    ids=[
        "mono", "equal channels", "one channel", "a faint inverted one", "unrelated channels", "an offset", "a click",
        "a low note", "a drum", "a loud beginning",
    ],
)  # fmt: skip
def test_sound_is_kept(waveform, tmp_path):
    row = cleaned(waveform.astype(np.float32), tmp_path)

    assert isinstance(row, Clip), row


@pytest.mark.parametrize(("downmix", "amplitude"), [("first", 0.15), ("loudest", 0.3)])
def test_one_channel_is_taken_where_a_recipe_says_so(downmix, amplitude, tmp_path):
    row = cleaned(stereo(0.5 * MUSIC, -MUSIC), tmp_path, downmix=downmix)

    assert isinstance(row, Clip)
    assert row.audio.true_peak_dbtp - row.audio.gain_db == pytest.approx(20 * np.log10(amplitude), abs=0.05)


@pytest.mark.parametrize(
    ("samples", "share"),
    [
        ([0.25, 0.25, 0.25, 0.75], 0.75),  # around an offset
        ([0.25, 0.25, 0.25, 17_000.0], 0.75),  # which one spike does not move
        ([0.0, 0.0, 0.0, 0.5], 0.75),
        ([0.3, -0.3, 0.1, -0.1], 0.0),
    ],
)
def test_silence_does_not_depend_on_an_offset(samples, share):
    assert audio.silence_share(np.array(samples, np.float32), 0.001) == share


def test_the_silence_of_16_bit_samples_is_exact_at_both_ends_of_the_scale():
    samples = np.array([-32_768, -32_768, 32_767, 32_767], np.int16)

    assert audio.silence_share(samples, 32.768) == 0.0


def test_cancellation_is_the_power_of_the_mean_against_that_of_unrelated_channels():
    tone = MUSIC.astype(np.float64)
    pair = stereo(tone, -0.9 * tone).astype(np.float32)

    measured = audio.measure_cancelled(pair, audio.to_mono(pair))

    assert measured == pytest.approx(10 * np.log10((1 + 0.81) / 0.01), abs=0.011)  # 22.58 dB
    assert audio.measure_cancelled(stereo(MUSIC, MUSIC), MUSIC[0]) is None
