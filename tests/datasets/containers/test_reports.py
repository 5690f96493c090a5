"""Odd containers of public bug reports, made anew: what they claim, and that all of their samples are decoded."""

import struct

import numpy as np
import pytest
import signals
from container_files import NUM_SAMPLES, made

from tutti.datasets.containers.read import read_claim
from tutti.datasets.decoder import decode_spans


def decoded(data):
    _, (waveform,) = decode_spans(data, "a file", [(0.0, None)])
    return waveform


def put(data, at, content):
    return data[:at] + content + data[at + len(content) :]


@pytest.mark.parametrize("size", [0x01000000, 12, 0x61F92214, 0xFFFFFFFF], ids=hex)
def test_the_size_of_a_wav_as_a_whole_does_not_count(size):
    """WAV.jl#109, taglib#291."""
    data = put(made("wav"), 4, struct.pack("<I", size))

    assert read_claim(data) == read_claim(made("wav"))
    assert np.array_equal(decoded(data), decoded(made("wav")))


def test_sixteen_bytes_too_many_are_no_cut():
    """CubicSDR#616."""
    at = made("wav").index(b"data") + 4
    data = put(made("wav"), at, struct.pack("<I", 4 * NUM_SAMPLES + 16))

    assert (read_claim(data).breaks_off, decoded(data).shape) == (False, (2, NUM_SAMPLES))


def test_a_nonsensical_mask_of_channels_in_an_extensible_wav_changes_nothing():
    """yellowShoes#13: a writer of streams puts the size of `data` where others have the mask."""
    at = made("wav extensible").index(b"fmt ") + 8 + 20

    data = put(made("wav extensible"), at, b"\xff\xff\xff\xff")

    assert read_claim(data).num_samples == NUM_SAMPLES
    assert decoded(data).shape == (2, NUM_SAMPLES)


def test_the_last_block_of_an_adpcm_may_be_short():
    """zzio#322."""
    data = signals.encoded(signals.noise(1.0, sample_rate=22_050), sample_rate=22_050, subtype="IMA_ADPCM")
    at = data.index(b"data") + 4
    (size,) = struct.unpack_from("<I", data, at)
    short = put(data, at, struct.pack("<I", size - 100))[:-100]

    assert not read_claim(short).breaks_off
    assert decoded(short).shape[1] > 21_000


@pytest.mark.parametrize("pad", [b"\0", b"\x01", b""])
def test_an_odd_chunk_of_an_aiff_may_be_padded_by_any_byte_or_none(pad):
    """taglib#882, freac#636."""
    data = made("aiff")
    name = b"NAME" + struct.pack(">I", 5) + b"hello" + pad

    assert read_claim(data[:12] + name + data[12:]) == read_claim(data)


def test_chunks_of_an_aiff_come_in_any_order():
    """libsndfile#942."""
    data = made("aiff")
    common, sound = data.index(b"COMM"), data.index(b"SSND")

    assert read_claim(data[:common] + data[sound:] + data[common:sound]) == read_claim(data)


def test_an_mp4_whose_samples_have_a_long_size_is_read():
    """rockboxd#238: encoders of streams reserve 64 bits, and put `moov` behind."""
    data = made("ffmpeg m4a")
    at = data.index(b"mdat") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    assert data[at - 8 : at] == b"\0\0\0\x08free"  # room for the longer form
    long = put(data, at - 8, struct.pack(">I4sQ", 1, b"mdat", size + 8))

    assert read_claim(long) == read_claim(data)
    assert read_claim(long[: len(long) // 2]).breaks_off
    assert np.array_equal(decoded(long), decoded(data))


def test_a_fragment_in_an_mp4_that_has_none_is_passed_over():
    """atldotnet#381: a small `moof` without samples in a file whose tables hold all."""
    header = struct.pack(">I4sII", 16, b"tfhd", 0, 1)
    run = struct.pack(">I4sIIi", 20, b"trun", 1, 0, 1 << 30)
    traf = struct.pack(">I4s", 8 + len(header + run), b"traf") + header + run
    moof = struct.pack(">I4s", 8 + len(traf), b"moof") + traf

    assert read_claim(made("ffmpeg m4a") + moof) == read_claim(made("ffmpeg m4a"))


def test_an_mp4_of_fragments_cut_within_its_last_samples_breaks_off():
    """js_mse_eme#33: the last `mdat` claims 157,253 bytes and has 92,727."""
    data = made("ffmpeg mp4 dash")
    last = data.rindex(b"mdat")

    assert read_claim(data[: last + 500]).breaks_off


def test_an_mp3_that_declares_no_length_may_end_within_a_frame():
    """shine#37: the encoder's last frame lacks some bytes."""
    data = made("ffmpeg mp3 without xing")

    assert read_claim(data[:-100]).breaks_off is False
