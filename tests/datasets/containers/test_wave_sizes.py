"""Sizes in headers: believed where they are plausible, and filled in where the writer left them open."""

import io
import struct

import numpy as np
import pytest
import signals
import soundfile
from container_files import NUM_SAMPLES, RATE, SECONDS, made

from tutti.datasets.containers.mending import mended
from tutti.datasets.containers.read import read_claim

# Where the size of the samples stands: mark of the chunk, bytes from there, its form, what it counts beside them.
FIELDS = {
    "wav": (b"data", 4, "<I", 0),
    "wav extensible": (b"data", 4, "<I", 0),
    "wav 24 bit": (b"data", 4, "<I", 0),
    "aiff": (b"SSND", 4, ">I", 8),
    "au": (b".snd", 8, ">I", 0),
    "caf": (b"data", 4, ">Q", 4),
    "w64": (b"data\xf3", 16, "<Q", 24),
    "rf64": (b"ds64", 16, "<Q", 0),
}
OPEN = (0, -1, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF - 44)


def with_size(name, size):
    mark, offset, form, _ = FIELDS[name]
    data = bytearray(made(name))
    content = struct.pack(form, size & ((1 << 8 * struct.calcsize(form)) - 1))
    at = data.index(mark) + offset
    data[at : at + len(content)] = content
    return bytes(data)


def size_of(name):
    mark, offset, form, _ = FIELDS[name]
    return struct.unpack_from(form, made(name), made(name).index(mark) + offset)[0]


def decoded(data):
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert rate == RATE
    return samples.T


@pytest.mark.parametrize("size", OPEN, ids=hex)
@pytest.mark.parametrize("name", FIELDS)
def test_a_size_that_a_writer_left_open_is_not_believed_and_all_samples_are_decoded(name, size):
    data = with_size(name, size)

    claim = read_claim(data)

    assert not claim.breaks_off
    assert claim.num_samples == (NUM_SAMPLES if name == "aiff" else None)  # AIFF counts its frames elsewhere
    assert np.array_equal(decoded(mended(data)), decoded(made(name)))


@pytest.mark.parametrize("more", ["+1", "+2", "+8", "+36", "+44", "file", "file - 8"])
@pytest.mark.parametrize("name", FIELDS)
def test_a_size_that_is_off_by_a_header_is_no_cut(name, more):
    if name == "caf" and more == "file - 8":
        pytest.skip("its header of 4 KiB is no header too many")
    sizes = {"file": len(made(name)), "file - 8": len(made(name)) - 8}
    data = with_size(name, sizes[more] if more in sizes else size_of(name) + int(more))

    claim = read_claim(data)

    assert (claim.num_samples, claim.breaks_off) == (NUM_SAMPLES, False)
    assert decoded(mended(data)).shape == (2, NUM_SAMPLES)


@pytest.mark.parametrize("name", FIELDS)
def test_a_size_that_is_plausible_is_believed_and_a_file_that_lacks_a_tenth_of_a_second_breaks_off(name):
    bytes_per_s = (size_of(name) - FIELDS[name][3]) // SECONDS

    claim = read_claim(made(name)[: -bytes_per_s // 10])

    assert (claim.num_samples, claim.breaks_off) == (NUM_SAMPLES, True)


def test_a_truncated_caf_is_decoded_up_to_its_end():
    data = made("caf")[:300_000]

    assert decoded(mended(data)).shape[1] == (300_000 - made("caf").index(b"data") - 16) // 4


@pytest.mark.parametrize("name", ["piped wav", "piped rf64", "piped w64", "piped caf", "piped au", "piped aiff"])
def test_what_ffmpeg_pipes_is_decoded_to_its_end(name):
    assert np.array_equal(decoded(mended(made(name))), decoded(made("wav")))


@pytest.mark.parametrize("name", FIELDS)
def test_a_file_whose_sizes_are_right_is_not_copied(name):
    assert mended(made(name)) is made(name)


def test_a_wav_without_samples_claims_none_rather_than_an_open_size():
    empty = signals.wav_header(num_bytes=0)
    tagged = empty + b"LIST" + struct.pack("<I4s", 12, b"INFO") + bytes(8)

    assert (read_claim(empty).num_samples, read_claim(tagged).num_samples) == (0, 0)
    assert mended(tagged) is tagged


def test_a_chunk_of_an_odd_size_before_the_samples_may_lack_its_pad_byte():
    header, samples = signals.wav_header(num_bytes=3_200), bytes(3_200)
    odd = b"note" + struct.pack("<I", 5) + b"hello"

    for pad in (b"", b"\0"):
        claim = read_claim(header[:36] + odd + pad + header[36:] + samples)
        assert (claim.num_samples, claim.breaks_off) == (1_600, False)


def test_the_word_data_in_a_tag_is_no_chunk():
    header = signals.wav_header(num_bytes=0)
    tag = b"LIST" + struct.pack("<I4s4sI4s", 16, b"INFO", b"ISFT", 4, b"data")
    data = header[:36] + tag + header[36:] + bytes(range(200)) * 16

    assert soundfile.info(io.BytesIO(mended(data))).frames == 1_600


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(0, NUM_SAMPLES), (-1, NUM_SAMPLES), (2 * NUM_SAMPLES, NUM_SAMPLES), (NUM_SAMPLES - 100, NUM_SAMPLES - 100)],
)
def test_of_two_counts_of_an_aiff_the_one_that_is_plausible_counts(frames, expected):
    data = bytearray(made("aiff"))
    at = data.index(b"COMM") + 10
    data[at : at + 4] = struct.pack(">i", frames)

    claim = read_claim(bytes(data))

    assert (claim.num_samples, claim.breaks_off) == (expected, False)


@pytest.mark.parametrize(("total", "expected"), [(0, None), ((1 << 36) - 1, None), (NUM_SAMPLES + 1, NUM_SAMPLES + 1)])
def test_a_flac_of_unknown_length_claims_none_and_one_that_promises_more_breaks_off(total, expected):
    data = bytearray(made("flac"))
    packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | total
    data[18:26] = packed.to_bytes(8, "big")

    claim = read_claim(bytes(data))

    assert (claim.num_samples, claim.breaks_off) == (expected, expected is not None)


@pytest.mark.parametrize(
    ("frames", "breaks_off"), [(0, False), (0xFFFFFFFF, False), (115, False), (116, False), (150, True)]
)
def test_a_xing_header_is_believed_where_its_count_is_plausible(frames, breaks_off):
    data = bytearray(made("mp3"))
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    assert int.from_bytes(data[at : at + 4], "big") in (115, 116)
    data[at : at + 4] = frames.to_bytes(4, "big")

    assert read_claim(bytes(data)).breaks_off == breaks_off


def test_a_vbri_header_counts_as_a_xing_header():
    data = made("ffmpeg mp3 without xing")
    first = data.index(b"\xff\xfb")
    frame = bytearray(data[first : first + 417])
    frame[36:] = (b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(data), 116)).ljust(len(frame) - 36, b"\0")
    frame[2] &= 0xFD  # no padding: 417 bytes
    whole = bytes(frame) + data[first:]

    assert not read_claim(whole).breaks_off
    assert read_claim(whole[: len(whole) * 6 // 10]).breaks_off
