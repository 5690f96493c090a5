"""Prepare for stems and mixes: when a stem sounds, and the sum of stems where a song has no mix."""

import numpy as np
import pytest
import signals
from rows import clip

from tutti.datasets import audio
from tutti.datasets.record import Media, Recording, Track
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding import sandbox
from tutti.pipelines.stages.prepare import PrepareConfig, prepare


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def prepared(recording, cache):
    return list(prepare(recording, config=PrepareConfig(), cache=cache))


def samples_of(row, cache):
    return audio.to_int16(audio.decode(cache.read_blob(row.audio.blob), "stored").waveform[0])


def stem_media(cache, waveform):
    file = signals.encoded(waveform[None].astype(np.float32), sample_rate=16_000)
    return Media("medleydb/0:x.wav", sha256=cache.put_blob(file))


def sum_of(cache, *parts):
    mix = clip("medleydb/Song/MIX@0", audio=None, track=Track("Song", None))
    return prepared(Recording(Media("sum:medleydb/Song"), (mix,), parts=parts), cache)


def test_a_mix_that_upstream_lacks_is_the_sum_of_its_stems_each_as_loud_as_it_was(cache):
    time_s = np.arange(32_000) / 16_000
    loud, faint = 0.5 * np.sin(2 * np.pi * 440 * time_s), 0.05 * np.sin(2 * np.pi * 1_000 * time_s[:16_000])
    (row,) = sum_of(cache, stem_media(cache, loud), stem_media(cache, faint))
    expected = loud + np.pad(faint, (0, 16_000))
    found = samples_of(row, cache) / 32_768 / 10 ** (row.audio.gain_db / 20)
    assert (row.audio.codec, row.audio.num_samples, row.end_s) == ("sum", 32_000, 2.0)
    assert np.abs(found - expected).max() < 2e-4  # two roundings to 16 bit


def test_what_cannot_be_decoded_is_left_out_of_a_sum(cache):
    tone = 0.5 * np.sin(np.arange(32_000) / 10)
    broken = Media("medleydb/0:y.wav", sha256=cache.put_blob(b"RIFF no audio"))
    (row,) = sum_of(cache, stem_media(cache, tone), broken)
    (alone,) = sum_of(cache, stem_media(cache, tone))
    assert row.audio.pcm_sha256 == alone.audio.pcm_sha256
    (lost,) = sum_of(cache, broken)
    assert (lost.reason, lost.detail) == ("undecodable", "no stem of its song can be decoded")


def test_a_sum_is_remembered_with_its_stems(cache, monkeypatch):
    parts = [stem_media(cache, np.sin(np.arange(32_000) / step)) for step in (5, 10)]
    first = sum_of(cache, *parts)
    monkeypatch.setattr(sandbox, "stream", None)  # whatever decodes now fails
    assert sum_of(cache, *parts) == first


def test_the_activity_of_a_stem_is_measured_and_only_of_a_stem(cache):
    tone = np.concatenate([np.zeros(16_000), 0.5 * np.sin(np.arange(16_000) / 5), np.zeros(16_000)])
    media = stem_media(cache, tone)
    stem = clip("medleydb/Song/S01@0", audio=None, track=Track("Song", "S01"))
    mix = clip("medleydb/Song/MIX@0", audio=None, track=Track("Song", None))
    (row,) = prepared(Recording(media, (stem,)), cache)
    assert row.audio.active == ((1.0, 2.0),)
    assert list(prepared(Recording(media, (stem,)), cache)) == [row]  # from the cache, too
    assert next(iter(prepared(Recording(media, (mix,)), cache))).audio.active is None


def pair_of(cache, *parts):
    stem = clip("mixing_secrets/Song/Piano@0", audio=None, track=Track("Song", "Piano"))
    return prepared(Recording(Media("sum:mixing_secrets/Song/Piano"), (stem,), parts=parts), cache)


def test_a_stem_of_two_sides_sounds_where_either_does(cache):
    rest, tone = np.zeros(16_000), 0.3 * np.sin(np.arange(16_000) / 5)
    left = stem_media(cache, np.concatenate([tone, rest, rest]))
    right = stem_media(cache, np.concatenate([rest, tone, rest]))
    (row,) = pair_of(cache, left, right)

    assert row.audio.active == ((0.0, 2.0),)
    assert pair_of(cache, left, right) == [row]  # from the cache, too
    (mix,) = sum_of(cache, left, right)
    assert mix.audio.active is None


def test_a_stem_of_two_sides_is_lost_with_either(cache):
    tone = stem_media(cache, 0.5 * np.sin(np.arange(32_000) / 10))
    broken = Media("mixing_secrets/0:songs/A_B_Full/Piano.R.wav", sha256=cache.put_blob(b"RIFF no audio"))
    (row,) = pair_of(cache, tone, broken)

    assert row.reason == "undecodable"
    assert row.detail.startswith("Piano.R.wav: ")
