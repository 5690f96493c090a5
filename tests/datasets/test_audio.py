"""From bytes to samples: formats, damage, cuts, channels."""

import random
import re

import numpy as np
import pytest
import signals

from tutti.datasets import audio

# format -> (file of two stereo seconds of 440 Hz, codec, decoder, rate in Hz, samples that padding may add)
FORMATS = {
    "wav 16 bit": ("WAV", "PCM_16", "WAV/PCM_16", "libsndfile", 44_100, 0),
    "wav 24 bit": ("WAV", "PCM_24", "WAV/PCM_24", "libsndfile", 48_000, 0),
    "wav float": ("WAV", "FLOAT", "WAV/FLOAT", "libsndfile", 22_050, 0),
    "flac": ("FLAC", "PCM_16", "FLAC/PCM_16", "libsndfile", 44_100, 0),
    "mp3": ("MP3", "MPEG_LAYER_III", "MP3/MPEG_LAYER_III", "libsndfile", 44_100, 1_152),
    "ogg vorbis": ("OGG", "VORBIS", "OGG/VORBIS", "libsndfile", 44_100, 0),
    "ogg opus": ("OGG", "OPUS", "OGG/OPUS", "libsndfile", 48_000, 0),
    "webm": ("webm", None, "matroska/opus", "pyav", 48_000, 960),
    "m4a": ("m4a", None, "mp4/aac", "pyav", 44_100, 1_024),
}
ADDRESS = re.compile("0x[0-9a-f]{5,}")  # in memory: would differ from run to run


def written(name, waveform):
    kind, subtype, _, _, sample_rate, _ = FORMATS[name]
    if kind == "webm":
        return signals.webm(waveform, sample_rate=sample_rate)
    if kind == "m4a":
        return signals.m4a(waveform, sample_rate=sample_rate)
    return signals.encoded(waveform, sample_rate=sample_rate, kind=kind, subtype=subtype)


def mono_sine(**options):
    return signals.sine(**options)[0]


# --- decode


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_decodes_to_its_own_rate_and_channels_and_length(name):
    _, _, codec, decoder, sample_rate, padding = FORMATS[name]
    tone = signals.sine(2.0, sample_rate=sample_rate, num_channels=2)

    decoded = audio.decode(written(name, tone), name)

    assert (decoded.codec, decoded.decoder, decoded.sample_rate) == (codec, decoder, sample_rate)
    assert decoded.waveform.shape[0] == 2
    assert 2 * sample_rate <= decoded.waveform.shape[1] <= 2 * sample_rate + padding
    assert decoded.waveform.dtype == np.float32
    assert decoded.complete


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_shifts_or_scales_the_samples(name):
    sample_rate = FORMATS[name][4]
    tone = signals.sine(2.0, sample_rate=sample_rate, num_channels=2)

    found = audio.decode(written(name, tone), name).waveform

    inner = slice(4_000, 2 * sample_rate - 4_000)  # lossy codecs swing in and out
    assert np.abs(found[:, inner] - tone[:, inner]).max() < 0.03  # a shift by one sample would be 0.03


def test_the_format_is_told_from_the_content_not_from_the_name():
    assert audio.decode(signals.encoded(signals.sine(), kind="FLAC"), "song.mp3").codec == "FLAC/PCM_16"


def test_duration_is_samples_over_rate():
    decoded = audio.decode(signals.encoded(signals.sine(0.25, sample_rate=8_000), sample_rate=8_000), "a.wav")

    assert decoded.duration_s == 0.25


def test_a_16_bit_sample_of_32767_is_just_below_one():
    samples = np.array([0, 1, -1, 32_767, -32_768], np.int16)

    decoded = audio.decode(audio.encode(samples, 16_000, "wav"), "a.wav")

    assert decoded.waveform.tolist() == [[0.0, 1 / 32_768, -1 / 32_768, 32_767 / 32_768, -1.0]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Format not recognised."),
        (b"<html><body>404</body></html>", "Format not recognised."),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "Format not recognised."),
        (signals.wav_header()[:30], "Error in WAV file. No 'data' chunk marker."),
        (signals.wav_header(num_bytes=0), "holds no samples"),
        (signals.wav_header(num_channels=65_535) + bytes(3_200), "Too many channels"),
        (signals.wav_header(num_channels=33) + bytes(3_200), "claims 33 channels"),
        (signals.wav_header(num_channels=0) + bytes(3_200), "Channel count is zero"),
        (signals.wav_header(sample_rate=0) + bytes(3_200), ""),
        (signals.wav_header(sample_rate=4_000_000_000) + bytes(3_200), ""),
        (signals.wav_header(sample_rate=1_000) + bytes(3_200), "1000 Hz is outside 4000 to 768000"),
        (b"\x1a\x45\xdf\xa3" + bytes(200), "Invalid data"),
        (b"\0\0\0\x20ftypM4A " + bytes(200), ""),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "Format not recognised."),
    ],
    ids=[
        "empty", "html", "png", "30 bytes of wav", "no samples", "65535 channels", "33 channels", "no channels",
        "rate 0", "rate 4 GHz", "rate 1 kHz", "matroska of zeros", "mp4 of zeros", "playlist",
    ],
)  # fmt: skip
def test_what_is_no_audio_is_an_error_that_names_the_item(data, why):
    with pytest.raises(audio.DecodeError) as caught:
        audio.decode(data, "a/b.wav")

    assert str(caught.value).startswith("a/b.wav: ")
    assert why in str(caught.value)
    assert not ADDRESS.search(str(caught.value))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_an_error(value):
    waveform = signals.sine(0.1)
    waveform[0, 5] = value

    with pytest.raises(audio.DecodeError, match=r"^a\.wav: holds samples that are not finite"):
        audio.decode(signals.encoded(waveform, subtype="FLOAT"), "a.wav")


@pytest.mark.parametrize("high_bits", [0x00, 0x0F])
def test_a_flac_that_claims_no_samples_or_36_bits_of_them_is_decoded_to_its_end(high_bits):
    data = bytearray(signals.encoded(signals.sine(), kind="FLAC"))
    data[21] = data[21] & 0xF0 | high_bits
    data[22:26] = bytes([0x11 * high_bits]) * 4  # STREAMINFO: total samples

    decoded = audio.decode(bytes(data), "piped.flac")

    assert (decoded.waveform.shape, decoded.complete) == ((1, 44_100), True)


def test_a_tag_that_is_not_utf8_does_not_make_sound_audio_undecodable():
    data = signals.webm(signals.sine(sample_rate=48_000), tags={"title": "QQQQ"})

    decoded = audio.decode(data.replace(b"QQQQ", b"caf\xe9"), "latin1.webm")

    assert decoded.waveform.shape == (1, 48_000)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_decode_or_say_why_and_never_raise_anything_else(name):
    rng = random.Random(0)
    data = written(name, signals.noise(0.2, sample_rate=FORMATS[name][4], num_channels=2))
    refused, read = [], 0
    for trial in range(60):
        damaged = bytearray(data)
        for _ in range(1 + trial % 4):
            damaged[rng.randrange(400 if trial % 2 else len(data))] = rng.randrange(256)
        try:
            audio.decode(bytes(damaged), "damaged")
            read += 1
        except audio.DecodeError as error:
            refused.append(str(error))

    assert read + len(refused) == 60
    assert all(message.startswith("damaged: ") and not ADDRESS.search(message) for message in refused)


# --- complete


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_stream_without_its_last_page_is_incomplete(subtype):
    pages = signals.ogg_pages(
        signals.encoded(signals.noise(4.0, sample_rate=48_000), sample_rate=48_000, kind="OGG", subtype=subtype)
    )

    assert audio.decode(b"".join(pages), "a.ogg").complete
    assert not audio.decode(b"".join(pages[:-1]), "a.ogg").complete


@pytest.mark.parametrize("missing", [1, 10, 1_000])
def test_an_ogg_stream_cut_within_its_last_page_is_incomplete(missing):
    data = signals.encoded(signals.noise(4.0), kind="OGG", subtype="VORBIS")

    assert not audio.decode(data[:-missing], "a.ogg").complete


def test_a_riff_file_cut_in_half_is_incomplete():
    data = signals.encoded(signals.noise(1.0))

    decoded = audio.decode(data[: len(data) // 2], "a.wav")

    assert not decoded.complete
    assert decoded.duration_s == pytest.approx(0.5, abs=0.001)


def test_a_riff_file_that_lacks_only_its_pad_byte_is_complete():
    header = signals.wav_header(num_bytes=3_201, riff_bytes=3_238)  # odd chunk, counted with its pad byte

    assert audio.decode(header + bytes(3_201), "a.wav").complete


@pytest.mark.parametrize("riff_bytes", [0, 0xFFFFFFFF])
def test_a_riff_file_written_as_a_stream_is_complete(riff_bytes):
    header = signals.wav_header(num_bytes=3_200, riff_bytes=riff_bytes)

    assert audio.decode(header + bytes(3_200), "a.wav").complete


# --- excerpt and mono


def test_an_excerpt_is_sample_exact():
    ramp = np.arange(-32_768, 32_767, dtype=np.int16)  # every sample tells its own position

    decoded = audio.decode(audio.encode(ramp, 44_100, "flac"), "ramp.flac")

    assert (audio.excerpt(decoded, 0.1, 0.2)[0] * 32_768 + 32_768).tolist() == list(range(4_410, 8_820))
    assert (audio.excerpt(decoded, 1.0, None)[0] * 32_768 + 32_768).tolist() == list(range(44_100, 65_535))


def test_an_excerpt_of_a_lossy_file_is_the_same_as_a_cut_of_the_whole():
    decoded = audio.decode(signals.webm(signals.noise(3.0, sample_rate=48_000)), "a.webm")

    assert np.array_equal(audio.excerpt(decoded, 1.0, 2.5), decoded.waveform[:, 48_000:120_000])


def test_adjoining_excerpts_share_no_sample_and_miss_none():
    decoded = audio.decode(signals.encoded(signals.noise(1.0)), "a.wav")
    cuts_s = [0.0, 0.1234567, 0.5000113, 0.77777]

    parts = [audio.excerpt(decoded, start, end) for start, end in zip(cuts_s, [*cuts_s[1:], None], strict=True)]

    assert np.array_equal(np.concatenate(parts, axis=1), decoded.waveform)


def test_an_excerpt_past_the_end_holds_what_there_is():
    decoded = audio.decode(signals.encoded(signals.noise(1.0)), "a.wav")

    assert audio.excerpt(decoded, 0.9, 10.9).shape == (1, 4_410)
    assert audio.excerpt(decoded, 2.0, 3.0).shape == (1, 0)


def test_opposite_channels_cancel():
    tone = mono_sine()

    assert not audio.to_mono(np.stack([tone, -tone])).any()


def test_mono_is_the_mean_of_all_channels():
    waveform = np.array([[0.5, 0.1], [0.25, 0.1], [0.0, 0.1], [0.25, 0.1]], np.float32)

    assert audio.to_mono(waveform).tolist() == pytest.approx([0.25, 0.1])


def test_the_mono_mix_leaves_its_input_as_it_was():
    waveform = signals.noise(0.1, num_channels=3)
    before = waveform.copy()

    audio.to_mono(waveform)

    assert np.array_equal(waveform, before)
