"""Claims of containers, held against what ffmpeg decodes of the same bytes: lengths, ends, cuts, tags behind."""

import random
import struct
import time

import numpy as np
import pytest
import signals
from container_files import NAMES, NUM_SAMPLES, PIPED, made, num_decoded

from tutti.datasets.containers.claim import Claim
from tutti.datasets.containers.read import read_claim

# What is lacking to the samples that ffmpeg gives: a packet or two that decoders may leave out at the ends.
ROOM = {"mp3": 2_000, "mp4": 5_000}
NO_LENGTH = {"matroska": "its duration is of milliseconds, and of the longest track"}
OPEN = {f"piped {form}" for form in ("wav", "aiff", "au", "caf", "flac", "w64", "rf64")}
UNDECLARED = OPEN - {"piped flac"} | {"piped mp3", "ffmpeg mp3 without xing"}  # a cut of these cannot be seen

ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
APE = b"APETAGEX" + struct.pack("<IIII", 2_000, 32, 0, 0) + bytes(8)
LYRICS = b"LYRICSBEGIN" + b"la" * 50 + b"000111LYRICS200"
BEHIND = {
    "ID3v1": ID3V1,
    "an APE tag": APE,
    "an APE tag and ID3v1": APE + ID3V1,
    "lyrics and ID3v1": LYRICS + ID3V1,
    "zeros": bytes(777),
    "a LIST chunk": b"LIST" + struct.pack("<I4s", 12, b"INFO") + bytes(8),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_claim_of_a_whole_file_is_what_ffmpeg_decodes_of_it(name, tmp_path):
    data = made(name)

    claim = read_claim(data)

    assert (claim.breaks_off, claim.losses) == (False, ())
    if claim.container in NO_LENGTH or name in OPEN:
        assert claim.num_samples is None
        return
    decoded = num_decoded(data, tmp_path)
    exact = claim.container not in ROOM or (claim.container == "mp3" and name not in UNDECLARED)
    assert claim.num_samples == decoded if exact else decoded - ROOM[claim.container] < claim.num_samples <= decoded


@pytest.mark.parametrize("share", [0.35, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("name", sorted(set(NAMES) - UNDECLARED))
def test_a_container_that_declares_a_length_or_an_end_breaks_off_where_it_is_cut(name, share):
    claim = read_claim(made(name)[: int(len(made(name)) * share)])

    # Of a FLAC frame that is cut the decoder gives nothing: that its header is there is seen, not that it is whole.
    assert claim.breaks_off or (name.endswith("flac") and share == 0.99 and claim.num_samples == NUM_SAMPLES)


@pytest.mark.parametrize("name", sorted(UNDECLARED))
def test_a_container_that_declares_nothing_does_not_break_off(name):
    claim = read_claim(made(name)[:100_001])

    assert (claim.breaks_off, claim.losses) == (False, ())


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"piped webm"}))  # a stream has no end to stand behind
def test_what_stands_behind_the_sound_changes_no_claim(name, behind):
    claim = read_claim(made(name) + BEHIND[behind])

    open_flac = name == "piped flac" and behind == "a LIST chunk"  # its end is where the checksum is right
    assert claim == read_claim(made(name)) or (open_flac and claim.breaks_off)


@pytest.mark.parametrize("name", ["wav", "aiff", "flac", "mp3", "ogg vorbis", "w64", "caf", "au"])
def test_an_id3_tag_before_the_sound_changes_no_claim(name):
    tag = b"ID3\x03\0\0\0\0\x02\x01" + bytes(257)

    assert read_claim(tag + made(name)) == read_claim(made(name))


def test_zeros_before_an_mp3_change_no_claim():
    assert read_claim(bytes(6_000) + made("mp3")) == read_claim(made("mp3"))


@pytest.mark.parametrize("name", ["flac", "mp3", "ogg vorbis", "ffmpeg ogg opus"])
def test_files_one_behind_the_other_claim_the_samples_of_all(name):
    once, twice = read_claim(made(name)), read_claim(made(name) + made(name))

    assert (twice.breaks_off, twice.losses) == (False, ())
    room = 5_000 if name == "mp3" else 0  # its second header is a frame without sound
    assert 2 * once.num_samples - room <= twice.num_samples <= 2 * once.num_samples


def test_the_sound_of_an_ogg_with_several_streams_at_once_counts():
    sound, other = signals.ogg_pages(made("ogg vorbis")), signals.ogg_pages(made("ffmpeg ogg opus"))
    group = sound[:1] + other[:1] + sound[1:-1] + other[1:] + sound[-1:]

    claim = read_claim(b"".join(group))

    assert claim == read_claim(made("ogg vorbis"))
    assert read_claim(b"".join(group[:-1])).breaks_off  # though the other has ended


def test_an_ogg_that_was_joined_late_claims_what_it_holds():
    head, pages = signals.ogg_pages(made("ogg vorbis"))[:2], signals.ogg_pages(made("ogg vorbis"))[2:]
    late = b"".join(with_position(page, position_of(page) + 100_000_000) for page in pages)

    claim = read_claim(b"".join(head) + late)

    assert claim.losses == ()
    assert NUM_SAMPLES - 50_000 < claim.num_samples < NUM_SAMPLES  # all but the first page, whose beginning is unknown


def position_of(page):
    return int.from_bytes(page[6:14], "little")


def with_position(page, position):
    """An Ogg page of another position; its checksum is that of RFC 3533, bit by bit."""
    page = page[:6] + position.to_bytes(8, "little") + page[14:22] + bytes(4) + page[26:]
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 1 << 31 else 0)) & 0xFFFFFFFF
    return page[:22] + value.to_bytes(4, "little") + page[26:]


def test_the_picture_of_an_mp4_may_be_cut_where_its_sound_is_whole(tmp_path):
    data = made("ffmpeg mp4 faststart")
    grown = data + bytes(1_000)
    mdat = data.index(b"mdat") - 4
    size = int.from_bytes(data[mdat : mdat + 4], "big")

    claim = read_claim(grown[:mdat] + struct.pack(">I", size + 100_000) + grown[mdat + 4 :])

    assert not claim.breaks_off


@pytest.mark.parametrize("content", [b"", b"R", b"RIFF", b"OggS", b"fLaC", b"ID3", b"\xff\xfb", b"\x1a\x45\xdf\xa3"])
def test_a_file_of_a_few_bytes_claims_no_samples(content):
    claim = read_claim(content)

    assert claim is None or not claim.num_samples


def test_what_is_no_audio_claims_nothing():
    assert read_claim(b"<!DOCTYPE html><html>" * 1_000) is None
    assert read_claim(np.random.default_rng(0).bytes(100_000)) is None
    assert read_claim(b"RIFF\x10\0\0\0AVI " + bytes(1_000)) is None


HOSTILE = {
    "pages within pages": b"OggS\0\0" + bytes(20) + b"\xff" + b"\xff" * 255,
    "boxes of no size": struct.pack(">I4s", 8, b"moof"),
    "tracks": struct.pack(">I4s", 24, b"trak") + struct.pack(">I4sII", 16, b"stts", 0, 0xFFFFFFFF),
    "streams": b"fLaC\0\0\0\x22" + bytes(34) + b"\xff\xf8\xc9\x18\0\xc2",
    "frames": b"\xff\xfb\x90\x00",
    "clusters": b"\x1f\x43\xb6\x75\x85\xbf\x84\0\0\0\0",
    "clusters without an end": b"\x1f\x43\xb6\x75\xff",
    "syncs": b"\xff",
    "tags": b"ID3\x04\0\0\0\0\0\0",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_repetition_costs_no_more_than_a_walk(kind):
    heads = [b"", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff", struct.pack(">I4s", 8, b"ftyp")]
    content = HOSTILE[kind] * (2_000_000 // len(HOSTILE[kind]))
    begin = time.process_time()

    for head in heads:
        read_claim(head + content, checksums=True)

    assert time.process_time() - begin < 30  # seconds for 6 MB: what is quadratic takes hours


NASTY = (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x01", bytes(8), b"\xff" * 8,
         b"OggS", b"fLaC\0\0\0\x22", b"moof", b"Xing", b"\xff\xfb\x90\x00", b"ID3\x04\0\0\x7f\x7f\x7f\x7f")  # fmt: skip


def mutated(data, rng):
    """One to eight changes of bytes, most of them in the header: flips, odd values, cuts, repeats."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 8))):
        at = rng.randrange(min(len(data), 400)) if rng.random() < 0.6 else rng.randrange(len(data))
        length = rng.randrange(1, 5_000)
        match rng.choice(("flip", "value", "drop", "repeat", "cut")):
            case "flip":
                data[at] ^= 1 << rng.randrange(8)
            case "value":
                data[at : at + 8] = rng.choice(NASTY)
            case "drop":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[rng.randrange(len(data)) :][:length]
            case "cut":
                del data[max(20, rng.randrange(len(data))) :]
    return bytes(data)


def test_a_mutated_file_claims_something_that_can_be_or_nothing():
    rng = random.Random(0)
    names = sorted(set(NAMES) - set(PIPED))
    found = set()
    for number in range(3_000):
        claim = read_claim(mutated(made(names[number % len(names)]), rng), checksums=number % 8 == 0)
        found.add(claim is None)
        if claim is None:
            continue
        assert isinstance(claim, Claim)
        assert claim.num_samples is None or claim.num_samples >= 0
        assert claim.sample_rate is None or claim.sample_rate > 0
        ends = [end for first, last in claim.losses for end in (first, last)]
        assert ends == sorted(ends)
        assert all(0 <= first < last for first, last in claim.losses)
    assert found == {True, False}
