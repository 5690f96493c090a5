"""Files within a file: chains, junk and tags before the first mark, and what stands behind the last."""

import numpy as np
import pytest
import signals

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.decoder import decode_spans

NOISE = signals.noise(2.0, sample_rate=48_000, num_channels=2)


def encoded(kind: str, subtype: str) -> bytes:
    return signals.encoded(NOISE, sample_rate=48_000, kind=kind, subtype=subtype)


FILES = {
    "wav": encoded("WAV", "PCM_16"),
    "flac": encoded("FLAC", "PCM_16"),
    "mp3": encoded("MP3", "MPEG_LAYER_III"),
    "vorbis": encoded("OGG", "VORBIS"),
    "opus": encoded("OGG", "OPUS"),
    "webm": signals.webm(NOISE),
    "m4a": signals.m4a(NOISE, sample_rate=48_000),
}
ID3 = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)
BEFORE = {
    "an ID3 tag": ID3,
    "zeros": bytes(5_000),
    "a few bytes": b"\x01\x02junk",
    "a line of text": b"HTTP/1.1 200 OK\r\n\r\n",
}
BEHIND = {"zeros": bytes(100_000), "a page": b"<html>gone</html>", "an ID3v1 tag": b"TAG" + bytes(125)}


def decoded(data: bytes):
    stream, (waveform,) = decode_spans(data, "a", [(0.0, None)])
    return stream, waveform


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("before", BEFORE)
def test_what_stands_before_a_file_costs_no_sound(kind, before):
    _, expected = decoded(FILES[kind])

    stream, found = decoded(BEFORE[before] + FILES[kind])

    assert stream.complete
    late = found.shape[1] - expected.shape[1]  # of an MP3 FFmpeg plays the delay and the end that libsndfile leaves out
    assert 0 <= late <= (3_200 if kind == "mp3" and before != "an ID3 tag" else 0)
    if not late:
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("behind", BEHIND)
def test_what_stands_behind_a_file_costs_nothing_and_is_not_played(kind, behind):
    _, expected = decoded(FILES[kind])

    stream, found = decoded(FILES[kind] + BEHIND[behind])

    assert stream.complete
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", FILES)
def test_two_files_that_were_joined_are_both_read(kind):
    _, one = decoded(FILES[kind])

    stream, both = decoded(2 * FILES[kind])

    assert stream.complete
    assert both.shape[1] == pytest.approx(2 * one.shape[1], abs=4_000)  # of an MP3 the delay is in the midst
    np.testing.assert_allclose(both[:, : one.shape[1] - 2_000], one[:, :-2_000], atol=2e-5)
    tail = one[0, -20_000:-4_000]
    lag = int(np.argmax(np.correlate(both[0, -24_000:], tail)))
    assert abs(lag - 4_000) <= (4_000 if kind == "mp3" else 48 if kind == "webm" else 0)


def test_links_of_different_rates_are_refused_by_name_of_the_rates():
    slow = signals.encoded(signals.noise(1.0, sample_rate=22_050), sample_rate=22_050)

    with pytest.raises(
        DecodeError, match=r"^a: changes from 48000 to 22050 Hz after 2\.000 s; convert it to one rate$"
    ):
        decoded(FILES["wav"] + slow)


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html>" + b"<p>not found</p>" * 5_000,
        b"\xff\xd8\xff\xe0" + np.random.default_rng(2).bytes(200_000),
        b"%PDF-1.4\n" + np.random.default_rng(5).bytes(200_000),
        np.random.default_rng(1).bytes(300_000),
        b"fLaC is not here\n" * 100,
        b"#!AMR-like text " * 1_000,
    ],
    ids=["HTML", "JPEG", "PDF", "noise", "text with a mark", "other text"],
)
def test_what_is_no_audio_stays_none_for_the_second_decoder_too(data):
    with pytest.raises(DecodeError, match=r"^a: "):
        decoded(data)
