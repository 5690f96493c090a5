"""Prepare: facts, stored audio, and a second call that decodes nothing."""

import hashlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import signals
from rows import clip

from tutti.datasets import audio
from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import Media, Recording, Rejected
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding import sandbox
from tutti.pipelines.stages.prepare import PrepareConfig, prepare, read_media

VIDEO_URL = "https://www.youtube.com/watch?v=-abc_DEF123"
ZIP_URL = "https://zenodo.org/records/7/files/songs.zip?download=1"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def recording_of(cache, data, *clips):
    """A whole file in the cache and the clips to cut from it."""
    return Recording(Media(VIDEO_URL, sha256=cache.put_blob(data)), clips or (clip("a/b@0", audio=None),))


def prepared(recording, cache, **options):
    return list(prepare(recording, config=PrepareConfig(**options), cache=cache))


def samples_of(row, cache):
    return audio.to_int16(audio.decode(cache.read_blob(row.audio.blob), "stored").waveform[0])


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


# --- facts


def test_everything_that_was_measured_is_recorded(cache):
    waveform = signals.sine(2.0, frequency_hz=1_000, amplitude=0.05, num_channels=2)
    waveform[:, :8_820] = 0.0  # 0.2 of 2 s are silent
    data = signals.encoded(waveform)

    (row,) = prepared(recording_of(cache, data), cache)

    stored = row.audio
    assert (stored.sample_rate, stored.num_samples) == (16_000, 32_000)
    assert (stored.native_sample_rate, stored.native_num_samples, stored.num_channels) == (44_100, 88_200, 2)
    assert (stored.codec, stored.decoder, stored.complete) == ("WAV/PCM_16", "libsndfile", True)
    assert stored.source_sha256 == hashlib.sha256(data).hexdigest()
    native_mono = audio.to_mono(audio.decode(data, "a").waveform)
    assert stored.native_sha256 == audio.pcm_sha256(audio.to_int16(native_mono))
    assert stored.silence_share == pytest.approx(0.1 + 0.9 * 0.0127, abs=0.01)  # and some samples of the tone
    assert stored.gain_db == pytest.approx(17.3, abs=0.3)  # from about -29.3 LUFS
    assert stored.loudness_lufs == pytest.approx(-12.0, abs=0.011)
    assert stored.true_peak_dbtp == pytest.approx(-26.0 + stored.gain_db, abs=0.3)
    assert row.end_s == 2.0


def test_the_stored_audio_is_a_mono_16_bit_flac_at_16_khz_named_by_its_digest(cache):
    (row,) = prepared(recording_of(cache, signals.encoded(signals.noise(2.0, num_channels=2))), cache)

    blob = cache.read_blob(row.audio.blob)
    decoded = audio.decode(blob, "stored")
    assert (decoded.codec, decoded.sample_rate, decoded.waveform.shape) == ("FLAC/PCM_16", 16_000, (1, 32_000))
    assert hashlib.sha256(blob).hexdigest() == row.audio.blob
    assert audio.pcm_sha256(samples_of(row, cache)) == row.audio.pcm_sha256


def test_the_audio_can_be_stored_as_wav(cache):
    (row,) = prepared(recording_of(cache, signals.encoded(signals.noise(1.0))), cache, audio_format="wav")

    assert audio.decode(cache.read_blob(row.audio.blob), "stored").codec == "WAV/PCM_16"


def test_wav_and_flac_hold_the_same_pcm(cache):
    recording = recording_of(cache, signals.encoded(signals.noise(1.0)))

    (flac,), (wav,) = (prepared(recording, cache, audio_format=name) for name in ("flac", "wav"))

    assert flac.audio.pcm_sha256 == wav.audio.pcm_sha256


def test_the_format_of_a_lossless_file_does_not_change_what_is_stored(cache):
    samples = audio.to_int16(signals.noise(1.0)[0])

    rows = [prepared(recording_of(cache, audio.encode(samples, 44_100, kind)), cache)[0] for kind in ("wav", "flac")]

    assert rows[0].audio.pcm_sha256 == rows[1].audio.pcm_sha256
    assert rows[0].audio.native_sha256 == rows[1].audio.native_sha256
    assert rows[0].audio.source_sha256 != rows[1].audio.source_sha256


def test_silence_is_stored_as_it_is_without_gain(cache):
    (row,) = prepared(recording_of(cache, signals.encoded(signals.silence(2.0))), cache)

    assert (row.audio.silence_share, row.audio.loudness_lufs, row.audio.true_peak_dbtp) == (1.0, None, None)
    assert row.audio.gain_db == 0.0


def test_one_sample_is_enough_to_be_prepared(cache):
    (row,) = prepared(recording_of(cache, signals.encoded(signals.sine()[:, :1])), cache)

    assert (row.audio.native_num_samples, row.audio.loudness_lufs) == (1, None)


# --- clips of one recording


def test_two_clips_of_one_recording_are_cut_where_they_say(cache):
    tones = [signals.sine(1.0, frequency_hz=hz, sample_rate=16_000) for hz in (500, 1_000, 2_000)]
    data = signals.encoded(np.concatenate(tones, axis=1), sample_rate=16_000)
    clips = (clip("a/b@1000", audio=None, start_s=1.0, end_s=2.0), clip("a/b@2000", audio=None, start_s=2.0))

    first, second = prepared(recording_of(cache, data, *clips), cache)

    for row, hz in ((first, 1_000), (second, 2_000)):
        spectrum = np.abs(np.fft.rfft(samples_of(row, cache).astype(float)))
        assert spectrum.argmax() == hz  # one second: 1 Hz per bin
    assert (first.id, first.end_s, second.id, second.end_s) == ("a/b@1000", 2.0, "a/b@2000", 3.0)
    assert first.audio.pcm_sha256 != second.audio.pcm_sha256
    assert first.audio.source_sha256 == second.audio.source_sha256


def test_a_recording_is_decoded_once_for_all_its_clips(cache, monkeypatch):
    calls = []
    stream = sandbox.stream
    monkeypatch.setattr(
        sandbox, "stream", lambda name, *rest, **more: calls.append(name) or stream(name, *rest, **more)
    )
    clips = tuple(clip(f"a/b@{start}", audio=None, start_s=start, end_s=start + 1.0) for start in range(3))

    prepared(recording_of(cache, signals.encoded(signals.noise(3.0)), *clips), cache)

    assert calls == ["prepare"]


def test_an_excerpt_is_the_same_as_the_same_samples_in_a_file_of_their_own(cache):
    waveform = signals.noise(3.0)
    cut = recording_of(cache, signals.encoded(waveform), clip("a/b@1000", audio=None, start_s=1.0, end_s=2.0))
    alone = recording_of(cache, signals.encoded(waveform[:, 44_100:88_200]))

    assert prepared(cut, cache)[0].audio.pcm_sha256 == prepared(alone, cache)[0].audio.pcm_sha256


def test_a_clip_that_begins_past_the_end_is_truncated(cache):
    clips = (clip("a/b@0", audio=None, end_s=1.0), clip("a/b@30000", audio=None, start_s=30.0, end_s=40.0))

    first, second = prepared(recording_of(cache, signals.encoded(signals.noise(2.0)), *clips), cache)

    assert first.audio is not None
    assert (second.stage, second.reason, second.status) == ("prepare", "truncated", "rejected")
    assert second.detail == "the recording ends at 2.000 s, before the clip starts at 30.000 s"


def test_a_clip_that_is_too_long_is_rejected_with_the_remedy_and_no_other(cache):
    recording = recording_of(
        cache,
        signals.encoded(signals.noise(5.0)),
        clip("a/b@0", audio=None),  # up to the end of the file, wherever that is
        clip("a/b@1", audio=None, start_s=1.0, end_s=4.0),
        clip("a/b@2", audio=None, start_s=2.0, end_s=3.5),
        clip("a/b@4", audio=None, start_s=4.0),
    )

    found = prepared(recording, cache, max_clip_s=2.0)
    rows = {(row.clip if isinstance(row, Rejected) else row).id: row for row in found}

    assert {name: getattr(row, "reason", "kept") for name, row in rows.items()} == {
        "a/b@0": "too_long", "a/b@1": "too_long", "a/b@2": "kept", "a/b@4": "kept",
    }  # fmt: skip
    assert (rows["a/b@0"].value, rows["a/b@1"].value) == (5.0, 3.0)
    assert "name parts of it by start_s,end_s, or --set prepare.max_clip_s=5 with memory for it" in rows["a/b@0"].detail


def test_a_clip_that_ends_past_the_end_holds_what_there_is_for_clean_to_judge(cache):
    late = clip("a/b@1000", audio=None, start_s=1.0, end_s=11.0, declared_s=10.0)

    (row,) = prepared(recording_of(cache, signals.encoded(signals.noise(2.0)), late), cache)

    assert row.audio.native_num_samples == 44_100


@pytest.mark.parametrize("data", [b"", b"<html>", signals.encoded(signals.noise(1.0), kind="FLAC")[:3_000]])
def test_what_no_decoder_reads_rejects_all_clips_as_undecodable(cache, data):
    rows = prepared(recording_of(cache, data, clip("a/b@0", audio=None), clip("a/b@9", audio=None)), cache)

    assert [(row.clip.id, row.stage, row.reason) for row in rows] == [
        ("a/b@0", "prepare", "undecodable"),
        ("a/b@9", "prepare", "undecodable"),
    ]
    assert rows[0].detail.startswith(VIDEO_URL)


def test_an_incomplete_file_is_stored_and_marked_for_clean_to_judge(cache):
    data = signals.encoded(signals.noise(4.0), kind="OGG", subtype="VORBIS")

    (row,) = prepared(recording_of(cache, data[:-100]), cache)

    assert row.audio.complete is False


# --- a file that begins later than its recording


def test_a_clip_is_cut_where_it_lies_in_a_file_that_begins_later_than_its_recording(cache):
    whole = signals.noise(40.0, sample_rate=16_000)
    section = Media(
        VIDEO_URL, sha256=cache.put_blob(signals.encoded(whole[:, 464_000:], sample_rate=16_000)), offset_s=29.0
    )
    spans = ((30.0, 40.0), (39.0, None), (28.0, 31.0), (45.0, 46.0))
    clips = tuple(clip(f"a/b@{n}", audio=None, start_s=start, end_s=end) for n, (start, end) in enumerate(spans))
    full = recording_of(cache, signals.encoded(whole, sample_rate=16_000), *clips)

    rows = list(prepare(Recording(section, clips), config=PrepareConfig(), cache=cache))

    expected = prepared(full, cache)
    assert [row.audio.native_sha256 for row in rows[:2]] == [row.audio.native_sha256 for row in expected[:2]]
    assert (rows[1].end_s, rows[2].audio.native_num_samples) == (40.0, 2 * 16_000)  # its first second is missing
    assert rows[3].detail == "the recording ends at 40.000 s, before the clip starts at 45.000 s"


def test_files_of_equal_bytes_with_other_offsets_are_not_mistaken_for_one_another(cache):
    sha256 = cache.put_blob(signals.encoded(signals.noise(3.0)))
    whole = clip("a/b@1000", audio=None, start_s=1.0, end_s=2.0)

    rows = [
        next(
            prepare(
                Recording(Media(VIDEO_URL, sha256=sha256, offset_s=offset_s), (whole,)),
                config=PrepareConfig(),
                cache=cache,
            )
        )
        for offset_s in (0.0, 0.5)
    ]

    assert rows[0].audio.pcm_sha256 != rows[1].audio.pcm_sha256


# --- archives


def test_a_member_of_an_archive_is_read_by_its_name(cache):
    data = signals.encoded(signals.noise(1.0))
    sha256 = cache.put_blob(zipped({"IRMAS/[cel][cla]0001__1.wav": data, "other.wav": b""}))
    media = Media(ZIP_URL, "IRMAS/[cel][cla]0001__1.wav", sha256)

    (row,) = prepared(Recording(media, (clip(audio=None),)), cache)

    assert row.audio.source_sha256 == hashlib.sha256(data).hexdigest()  # of the member, not of the archive


def test_a_damaged_member_rejects_its_clip_and_names_archive_and_member(cache):
    data = signals.encoded(signals.noise(1.0))
    content = zipped({"a.wav": data, "b.wav": signals.encoded(signals.noise(1.0, seed=1))})
    at = content.find(data) + 1_000
    sha256 = cache.put_blob(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])

    rows = [
        prepared(Recording(Media(ZIP_URL, name, sha256), (clip(audio=None),)), cache)[0] for name in ("a.wav", "b.wav")
    ]

    assert rows[0].reason == "undecodable"
    assert rows[0].detail == "songs.zip: member 'a.wav' is damaged (bad CRC-32)"
    assert rows[1].audio is not None


def test_media_that_was_not_fetched_is_an_error_that_names_it(cache):
    with pytest.raises(ValueError, match="is not in the cache; fetch it first"):
        read_media(Media(VIDEO_URL), cache)


# --- the cache


def test_a_second_call_decodes_nothing(cache):
    recording = recording_of(cache, signals.encoded(signals.noise(1.0)))
    first = prepared(recording, cache)
    cache.blob_path(recording.media.sha256).unlink()

    assert prepared(recording, cache) == first


@pytest.mark.parametrize("data", [b"no audio", signals.encoded(signals.noise(1.0))], ids=["undecodable", "truncated"])
def test_a_second_call_remembers_rejects_too(cache, data):
    recording = recording_of(cache, data, clip("a/b@9000", audio=None, start_s=9.0, end_s=10.0))
    first = prepared(recording, cache)
    cache.blob_path(recording.media.sha256).unlink()

    assert [type(row) for row in first] == [Rejected]
    assert prepared(recording, cache) == first


def test_clips_that_begin_or_end_together_are_not_mistaken_for_one_another(cache):
    spans = ((0.0, 1.0), (0.0, 2.0), (1.0, 2.0), (1.0, None))
    clips = tuple(clip(f"a/b@{n}", audio=None, start_s=start, end_s=end) for n, (start, end) in enumerate(spans))
    recording = recording_of(cache, signals.encoded(signals.noise(3.0)), *clips)

    first, second = prepared(recording, cache), prepared(recording, cache)

    assert first == second
    assert len({row.audio.pcm_sha256 for row in second}) == 4


def test_an_absent_flac_is_made_again(cache):
    recording = recording_of(cache, signals.encoded(signals.noise(1.0)))
    (first,) = prepared(recording, cache)
    cache.blob_path(first.audio.blob).unlink()

    assert prepared(recording, cache) == [first]
    assert cache.has_blob(first.audio.blob)


def test_a_damaged_flac_is_found_by_its_reader_and_made_again_by_the_next_run(cache):
    recording = recording_of(cache, signals.encoded(signals.noise(1.0)))
    (first,) = prepared(recording, cache)
    cache.blob_path(first.audio.blob).write_bytes(b"fLaC damaged")

    with pytest.raises(IntegrityError, match="run the build again"):
        cache.read_blob(first.audio.blob)

    assert prepared(recording, cache) == [first]
    assert cache.read_blob(first.audio.blob)[:4] == b"fLaC"


def test_a_new_clip_of_a_known_recording_is_computed_and_the_known_one_is_not(cache):
    known, new = clip("a/b@0", audio=None, end_s=1.0), clip("a/b@1000", audio=None, start_s=1.0, end_s=2.0)
    recording = recording_of(cache, signals.encoded(signals.noise(2.0)), known)
    (before,) = prepared(recording, cache)

    rows = prepared(replace(recording, clips=(known, new)), cache)

    assert rows[0] == before
    assert rows[1].audio.num_samples == 16_000


@pytest.mark.parametrize(
    "change",
    [{"target_lufs": -20.0}, {"sample_rate": 8_000}, {"max_true_peak_dbtp": -6.0}, {"silence_amplitude": 0.05}],
)
def test_another_configuration_is_another_result(cache, change):
    recording = recording_of(cache, signals.encoded(signals.noise(1.0)))

    assert prepared(recording, cache, **change) != prepared(recording, cache)


def test_labels_and_groups_are_not_part_of_what_is_remembered(cache):
    recording = recording_of(cache, signals.encoded(signals.noise(1.0)))
    prepared(recording, cache)
    cache.blob_path(recording.media.sha256).unlink()
    renamed = replace(recording.clips[0], group="a/other", license="CC0-1.0")

    (row,) = prepared(replace(recording, clips=(renamed,)), cache)

    assert (row.group, row.license) == ("a/other", "CC0-1.0")


def test_damage_of_a_file_in_the_cache_is_not_remembered_as_a_property_of_its_clips(cache):
    data = signals.encoded(signals.noise(1.0), kind="FLAC")
    recording = recording_of(cache, data)
    cache.blob_path(recording.media.sha256).write_bytes(data[:3_000])  # bit rot
    try:
        prepared(recording, cache)
    except IntegrityError:
        pass  # the right answer: the cache is damaged, not the clip
    finally:
        cache.blob_path(recording.media.sha256).unlink(missing_ok=True)

    cache.put_blob(data)  # fetched again

    assert prepared(recording, cache)[0].audio is not None
