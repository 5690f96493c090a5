"""Stretches that a file lost: of pages, frames and clusters that are damaged or gone, held against what ffmpeg decodes.

ffmpeg places what is left by positions; where its samples differ from those of the whole file, something was lost.
"""

import re

import numpy as np
import pytest
import signals
from container_files import NUM_SAMPLES, RATE, made
from ffmpeg import decoded_by_ffmpeg
from test_claims import position_of, with_position

from tutti.datasets.containers.read import read_claim

OGG = ("ogg vorbis", "ffmpeg ogg opus")


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def changed(data, whole, folder):
    """The first sample that ffmpeg decodes otherwise than of the whole file, and the one after the last."""
    (folder / "whole").write_bytes(whole)
    (folder / "changed").write_bytes(data)
    one, other = (decoded_by_ffmpeg(folder / name, num_channels=2) for name in ("whole", "changed"))
    differ = np.flatnonzero(np.abs(one - other).max(axis=0) > 0.01)
    return int(differ[0]), int(differ[-1]) + 1


def pages_without_the_middle(name, *, flip):
    pages = signals.ogg_pages(made(name))
    place = len(pages) // 2
    changed = [flipped(pages[place], 300)] if flip else []
    return b"".join(pages[:place] + changed + pages[place + 1 :]), pages, place


@pytest.mark.parametrize("flip", [True, False], ids=["damaged", "gone"])
@pytest.mark.parametrize("name", OGG)
def test_an_ogg_page_that_is_damaged_or_gone_is_lost_and_no_other(name, flip, tmp_path):
    data, pages, place = pages_without_the_middle(name, flip=flip)
    skipped = 312 if name.endswith("opus") else 0  # RFC 7845: pre-skip of libopus

    claim = read_claim(data)
    [(first, last)] = claim.losses

    assert claim.num_samples == read_claim(made(name)).num_samples
    assert first == position_of(pages[place - 1]) - skipped
    assert first <= changed(data, made(name), tmp_path)[0] < last
    assert 0 <= last - (position_of(pages[place]) - skipped) <= 10_000  # a block that starts anew, and an estimate


@pytest.mark.parametrize("name", OGG)
def test_the_last_page_of_an_ogg_is_lost_where_it_is_damaged(name):
    pages = signals.ogg_pages(made(name))

    claim = read_claim(b"".join(pages[:-1]) + flipped(pages[-1], len(pages[-1]) - 5))

    assert not claim.breaks_off  # it is there, and marks the end
    assert claim.losses[0][1] == claim.num_samples == read_claim(made(name)).num_samples


@pytest.mark.parametrize("name", OGG)
def test_positions_of_an_ogg_that_jump_leave_a_gap(name):
    pages = signals.ogg_pages(made(name))
    place = len(pages) // 2
    moved = [with_position(page, position_of(page) + 96_000) for page in pages[place:]]

    claim = read_claim(b"".join(pages[:place] + moved))

    assert claim.losses == ()
    assert claim.num_samples == read_claim(made(name)).num_samples + 96_000
    [(first, last)] = claim.gaps
    assert 96_000 - 2_048 * 8 <= last - first <= 96_000


def flac_frames(data):
    """The first bytes of the frames: those of a stream of 4,096 samples each that follow on one another."""
    first = next(re.finditer(rb"\xff[\xf8\xf9]", data[42:])).start() + 42
    mark = re.escape(data[first : first + 3])
    found = [match.start() for match in re.finditer(mark, data)]
    return [at for number, at in enumerate(found) if data[at + 4] == number]


@pytest.mark.parametrize("name", ["flac", "ffmpeg flac"])
def test_flac_frames_that_are_damaged_gone_or_overwritten_are_lost_and_no_others(name, tmp_path):
    data = made(name)
    frames = flac_frames(data)
    kinds = {
        "damaged": flipped(data, frames[9] + 500),
        "gone": data[: frames[9]] + data[frames[10] :],
        "zeros": data[: frames[9]] + bytes(frames[10] - frames[9]) + data[frames[10] :],
    }
    size = 4_096

    for kind, content in kinds.items():
        claim = read_claim(content, checksums=True)
        assert (claim.num_samples, claim.breaks_off) == (NUM_SAMPLES, False), kind
        assert claim.losses == ((9 * size, 10 * size),), kind
        changes = changed(content, data, tmp_path)
        assert 9 * size <= changes[0] < changes[1] <= 10 * size, kind


def test_checksums_of_flac_frames_are_right_in_a_whole_file():
    for name in ("flac", "ffmpeg flac", "piped flac"):
        assert read_claim(made(name), checksums=True).losses == ()


@pytest.mark.parametrize("name", ["mp3", "ffmpeg mp3 vbr"])
@pytest.mark.parametrize("kind", ["zeros", "gone"])
def test_mp3_frames_that_are_overwritten_or_gone_are_lost_as_the_header_counts_them(name, kind):
    data = made(name)
    middle = len(data) // 2
    between = bytes(4_000) if kind == "zeros" else b""

    claim = read_claim(data[:middle] + between + data[middle + 4_000 :])

    assert (claim.num_samples, claim.breaks_off) == (NUM_SAMPLES, False)
    [(first, last)] = claim.losses
    expected = NUM_SAMPLES * 4_000 / len(data)
    assert first == pytest.approx(NUM_SAMPLES / 2, abs=4 * 1_152)
    assert last - first == pytest.approx(expected, abs=3 * 1_152)
    assert (last - first) % 1_152 == 0


def test_an_mp3_without_a_header_guesses_the_frames_that_it_lost():
    data = made("ffmpeg mp3 without xing")
    middle = len(data) // 2

    claim = read_claim(data[:middle] + bytes(4_000) + data[middle + 4_000 :])

    [(first, last)] = claim.losses
    assert first == pytest.approx(NUM_SAMPLES / 2, abs=4 * 1_152)
    assert last - first == pytest.approx(NUM_SAMPLES * 4_000 / len(data), abs=2 * 1_152)


def test_a_tag_between_two_mp3_is_no_loss():
    tag = b"ID3\x04\0\0\0\0\x07\x76" + bytes(7 << 7 | 0x76)

    assert read_claim(made("mp3") + tag + made("mp3")).losses == ()


def test_a_cluster_whose_checksum_is_wrong_is_lost_up_to_the_next():
    data = made("ffmpeg mkv")

    claim = read_claim(flipped(data, len(data) // 2))

    [(first, last)] = claim.losses  # in ms
    assert first < 1_500 < last
    assert 400 < last - first < 700  # it was written with clusters of half a second
    assert (claim.breaks_off, claim.sample_rate) == (False, 1_000)


def test_losses_of_the_second_of_two_streams_come_behind_the_first():
    data, _, _ = pages_without_the_middle("ogg vorbis", flip=True)

    [(first, last)] = read_claim(data).losses
    assert read_claim(made("ogg vorbis") + data).losses == ((first + NUM_SAMPLES, last + NUM_SAMPLES),)
    assert RATE < last < 2 * RATE
