"""Odd MIDI files: what carries no notes costs no note, whatever it is, and is counted; what does is named.

Every file is one piece of four notes with one fault, written byte by byte, for no library writes them. RP-001.
"""

import struct

import pytest
from midi_files import note

from tutti.datasets.record import Defect
from tutti.datasets.scores.score import ScoreError, Unread, read_midi

NOTES = (note(0.0, 0.5, 60, 40, 80), note(0.5, 1.0, 64, 40, 81), note(1.0, 1.5, 67, 40, 82), note(1.5, 2.0, 72, 40, 83))
CHINESE = "谨以此曲献给我的故乡。"


def number(value: int) -> bytes:
    """A variable-length quantity."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.insert(0, 0x80 | value & 0x7F)
    return bytes(groups)


def meta(kind: int, content: bytes = b"") -> bytes:
    return b"\0\xff" + bytes([kind]) + number(len(content)) + content


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack(">L", len(content)) + content


END = meta(0x2F)
SECOND = b"\0\x90\x40\x51"  # the second note's beginning


def head(type: int = 1, tracks: int = 2, division: int = 480) -> bytes:
    return chunk(b"MThd", struct.pack(">HHH", type, tracks, division))


def track(odd: bytes = b"", *, first: bytes = b"", program: int = 40) -> bytes:
    """The four notes, half a second each, with something odd before them or in their midst."""
    events = [first, b"\0\xc0", bytes([program])]
    for place, (pitch, velocity) in enumerate([(60, 80), (64, 81), (67, 82), (72, 83)]):
        events.append(bytes([0, 0x90, pitch, velocity]) + number(480) + bytes([0x80, pitch, 0]))
        events.append(odd if place == 1 else b"")
    return b"".join(events)


TEMPO = chunk(b"MTrk", meta(0x51, b"\x07\xa1\x20") + END)


def piece(odd: bytes = b"", *, end: bytes = END, **options) -> bytes:
    return head() + TEMPO + chunk(b"MTrk", track(odd, **options) + end)


def running(between: bytes) -> bytes:
    """The piece in running status, something between two of its notes."""
    events = [b"\0\xc0\x28", b"\0\x90\x3c\x50", number(480), b"\x3c\0"]
    for place, (pitch, velocity) in enumerate([(64, 81), (67, 82), (72, 83)]):
        events += [between if place == 1 else b"", bytes([0, pitch, velocity]), number(480), bytes([pitch, 0])]
    return head() + TEMPO + chunk(b"MTrk", b"".join(events) + END)


def with_length(data: bytes, change: int | None = None, *, value: int | None = None, last: bool = True) -> bytes:
    """The file with another length of a track."""
    at = (data.rindex if last else data.index)(b"MTrk") + 4
    (length,) = struct.unpack_from(">L", data, at)
    return data[:at] + struct.pack(">L", length + (change or 0) if value is None else value) + data[at + 4 :]


def riff(content: bytes, *, before: bytes = b"", after: bytes = b"", size: int | None = None) -> bytes:
    inner = b"RMID" + before + b"data" + struct.pack("<L", len(content) if size is None else size) + content + after
    return b"RIFF" + struct.pack("<L", len(inner)) + inner


# --- what costs nothing

# Meta events by what is odd about them; read in the midst of the notes, before them, and in the track of the tempo.
ODD_META = {
    "a key of eight flats": meta(0x59, b"\xf8\0"),
    "a key of mode 255": meta(0x59, b"\xfe\xff"),
    "a key of -128": meta(0x59, b"\x80\0"),
    "a key of no byte": meta(0x59),
    "a key of one byte": meta(0x59, b"\2"),
    "a key of three bytes": meta(0x59, b"\2\0\0"),
    "a time signature of two bytes": meta(0x58, b"\4\2"),
    "a time signature of no byte": meta(0x58),
    "a time signature of five bytes": meta(0x58, b"\4\2\x18\x08\0"),
    "a time signature in 2^255ths": meta(0x58, b"\4\xff\x18\x08"),
    "a time signature of no beats": meta(0x58, b"\0\2\x18\x08"),
    "an offset of four bytes": meta(0x54, bytes(4)),
    "an offset of 255 hours": meta(0x54, b"\xff" * 5),
    "an offset of 25 hours": meta(0x54, b"\x19\0\0\0\0"),
    "a sequence number of one byte": meta(0x00, b"\1"),
    "a prefix of channel 200": meta(0x20, b"\xc8"),
    "a prefix of no channel": meta(0x20),
    "port 200": meta(0x21, b"\xc8"),
    "a port of no byte": meta(0x21),
    "a port of two bytes": meta(0x21, b"\0\0"),
    "a tempo of 0": meta(0x51, b"\0\0\0"),
    "a tempo of two bytes": meta(0x51, b"\7\xa1"),
    "a tempo of no byte": meta(0x51),
    "a tempo of four bytes": meta(0x51, b"\7\xa1\x20\0"),
    "a type above 127": meta(0x80, b"ab"),
    "a length of five bytes": b"\0\xff\1\x80\x80\x80\x80\5hello",
    "a delta time of five bytes": b"\x80\x80\x80\x80\0\xb0\7\x40",
}


@pytest.mark.parametrize("odd", ODD_META.values(), ids=ODD_META.keys())
def test_an_odd_event_that_carries_no_note_costs_none_and_is_counted(odd):
    in_the_midst = read_midi(piece(odd), "a.mid")
    before = read_midi(piece(first=odd), "a.mid")
    elsewhere = read_midi(head() + chunk(b"MTrk", odd + END) + chunk(b"MTrk", track() + END), "a.mid")

    assert [score.notes for score in (in_the_midst, before, elsewhere)] == [NOTES] * 3
    assert [score.repairs for score in (in_the_midst, before, elsewhere)] == [1] * 3


SOUND = {
    "a sequence number that is the track's": meta(0x00),
    "a meta event of a type that is free": meta(0x4B, b"\1\2\3"),
    "one of a maker": meta(0x7F, b"\0\0\x41\xff"),
    "a system exclusive message": b"\0\xf0\5\x7e\x7f\x09\1\xf7",
    "one in two packets": b"\0\xf0\3\x43\x12\0\x30\xf7\3\1\2\xf7" + b"\0\xb0\7\x40",
    "an escape": b"\0\xf7\2\xf3\1",
    "text in UTF-8": meta(1, CHINESE.encode() * 40),
    "text in GBK": meta(3, "谨以此曲".encode("gbk") * 100),
    "text in Shift-JIS": meta(5, "さくら".encode("shift_jis") * 100),
    "text in UTF-16": meta(1, "谨以此曲".encode("utf-16")),
    "text in Latin-1": meta(2, "© 1999 Müller".encode("latin-1")),
    "text of ones": meta(1, b"\xff" * 2000),
    "text that holds the name of a track": meta(1, b"MTrk\0\0\0\4MThd"),
}


@pytest.mark.parametrize("event", SOUND.values(), ids=SOUND.keys())
def test_text_of_any_encoding_and_what_makers_add_is_as_it_should_be(event):
    if event.startswith(b"\0\xf0\3"):  # its second packet comes 48 ticks later
        event = event.replace(b"\x30\xf7", b"\0\xf7")

    score = read_midi(piece(event), "a.mid")

    assert (score.notes, score.repairs) == (NOTES, 0)


VALUES = {
    "a controller of 200": b"\0\xb0\7\xc8",
    "a controller's number of 200": b"\0\xb0\xc8\7",
    "a bend beyond its range": b"\0\xe0\xc8\xc8",
    "a pressure of 200": b"\0\xd0\xc8",
    "a key's pressure of 200": b"\0\xa0\x3c\xc8",
    "a clock": b"\0\xf8",
    "active sensing": b"\0\xfe",
    "a song position": b"\0\xf2\1\2",
    "an undefined status": b"\0\xf4",
    "a system exclusive message as on a cable": b"\0\xf0\x7e\x7f\x09\1\xf7",
    "text whose length counts characters": b"\0\xff\1" + number(len(CHINESE)) + CHINESE.encode(),
    "a little such text": b"\0\xff\3\x09" + "Für Elise".encode(),
}


@pytest.mark.parametrize("event", VALUES.values(), ids=VALUES.keys())
def test_a_value_out_of_range_or_a_length_that_is_not_so_costs_no_note(event):
    score = read_midi(piece(event), "a.mid")

    assert (score.notes, score.repairs) == (NOTES, 1)


@pytest.mark.parametrize("velocity", [128, 200, 255])
def test_a_velocity_out_of_range_is_the_largest(velocity):
    score = read_midi(piece().replace(SECOND, SECOND[:3] + bytes([velocity])), "a.mid")

    assert [played.velocity for played in score.notes] == [80, 127, 82, 83]
    assert score.repairs == 1


@pytest.mark.parametrize(
    "between",
    [meta(6, b"A"), b"\0\xf0\2\x41\xf7", b"\0\xf8", b"\0\xf7\1\xf8"],
    ids=["meta", "sysex", "clock", "escape"],
)
def test_running_status_goes_on_where_another_event_should_have_ended_it(between):
    score = read_midi(running(between), "a.mid")

    assert score.notes == NOTES
    assert score.repairs > 0
    assert read_midi(running(b""), "a.mid").repairs == 0


VENDOR = chunk(b"XFIH", bytes(20))
LAST = chunk(b"MTrk", track() + END)
LATE_END = b"\xff\xff\xff\x7f\xff\x2f\0"
CHUNKS = {
    "a vendor's chunk between": head() + TEMPO + VENDOR + LAST,
    "a vendor's chunk first": head() + VENDOR + TEMPO + LAST,
    "a vendor's chunk last": piece() + VENDOR,
    "a vendor's chunk that is counted": head(tracks=3) + TEMPO + VENDOR + LAST,
    "a vendor's chunk with a track in it": head() + TEMPO + chunk(b"XFKM", chunk(b"MTrk", END)) + LAST,
    "one track too many": head(tracks=3) + TEMPO + LAST,
    "one track too few": head(tracks=1) + TEMPO + LAST,
    "no track counted": head(tracks=0) + TEMPO + LAST,
    "65,535 tracks counted": head(tracks=65535) + TEMPO + LAST,
    "type 2 of one track": head(2, 1) + LAST,
    "type 256": head(256) + TEMPO + LAST,
    "a header's length of 0": b"MThd\0\0\0\0" + piece()[8:],
    "a header's length in the other byte order": b"MThd\6\0\0\0" + piece()[8:],
    "a byte between": head() + TEMPO + b"\0" + LAST,
    "a line between": head() + TEMPO + b"\r\n" + LAST,
    "zeros last": piece() + bytes(100),
    "a line last": piece() + b"\r\n",
    "a tag last": piece() + b"TAG" + bytes(125),
    "the head of a track last": piece() + b"MTrk",
    "MacBinary": bytes(128) + piece(),
    "a byte order mark": b"\xef\xbb\xbf" + piece(),
    "no end mark": piece(end=b""),
    "an end mark of one byte": piece(end=b"\0\xff\x2f\1\0"),
    "an end mark cut off": piece()[:-4],
    "an end mark cut in two": piece()[:-1],
    "an end mark a day later": piece(end=LATE_END),
    "two end marks": piece(end=END + END),
    "an end mark in the midst": piece(END),
    "padding": piece(end=END + bytes(3)),
    "RMID of no length": riff(piece(), size=0),
    "RMID of too large a length": riff(piece(), size=1 << 30),
} | {
    f"a {which} track's length of {words}": with_length(piece(), change, value=value, last=which == "last")
    for which in ("first", "last")
    for words, change, value in [
        ("one byte more", 1, None), ("four bytes more", 4, None), ("1,000 bytes more", 1000, None),
        ("one byte less", -1, None), ("four bytes less", -4, None), ("0", None, 0), ("2^32 - 1", None, 0xFFFFFFFF),
        ("2^31 - 1", None, 0x7FFFFFFF),
    ]
}  # fmt: skip


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS.keys())
def test_chunks_counts_and_lengths_that_are_odd_cost_no_note_and_are_counted(data):
    score = read_midi(data, "a.mid")

    assert score.notes == NOTES
    assert 1 <= score.repairs <= 3
    assert score.end_s == 2.0


SOUND_FILES = {
    "type 0": head(0, 1) + LAST,
    "a longer header": b"MThd\0\0\0\x08" + piece()[8:14] + b"\0\0" + piece()[14:],
    "RMID": riff(piece()),
    "RMID with its title before, its sounds behind": riff(
        piece(), before=b"DISP" + struct.pack("<L", 6) + b"\1\0\0\0ab", after=b"LIST" + struct.pack("<L", 4) + b"DLS "
    ),
}


@pytest.mark.parametrize("data", SOUND_FILES.values(), ids=SOUND_FILES.keys())
def test_what_the_standards_allow_is_read_and_nothing_of_it_is_a_repair(data):
    score = read_midi(data, "a.mid")

    assert (score.notes, score.repairs) == (NOTES, 0)


def test_a_note_without_an_end_ends_with_the_music_and_is_counted():
    score = read_midi(piece(end=b"\0\x90\x4c\x50" + number(960) + END[1:]), "a.mid")

    assert score.notes == (*NOTES, note(2.0, 3.0, 76, 40, 80))
    assert score.repairs == 1


# --- what does cost something


def test_a_note_of_an_impossible_pitch_is_set_apart_and_the_others_are_read():
    score = read_midi(piece(b"\0\x90\xc8\x50\0\xb0\7\x40\x10\x80\xc8\0"), "a.mid")

    assert [played.pitch for played in score.notes] == [60, 64, 67, 72]
    assert score.unread == (
        Unread(1.0, 1.016667, Defect("pitch_range", 200.0, "a note of pitch 200; MIDI has 0 to 127")),
    )


def test_notes_of_an_impossible_program_are_set_apart_until_the_next_program():
    score = read_midi(piece(b"\0\xc0\x28", program=200), "a.mid")

    assert score.notes == NOTES[2:]
    assert {played.defect.detail for played in score.unread} == {"a note of program 200; MIDI has 0 to 127"}
    assert [(played.onset_s, played.offset_s) for played in score.unread] == [(0.0, 0.5), (0.5, 1.0)]


def error_of(data: bytes) -> str:
    with pytest.raises(ScoreError) as caught:
        read_midi(data, "a.mid")
    return str(caught.value)


def test_a_file_that_breaks_off_where_notes_may_be_is_no_score():
    data = piece()

    for size in range(14, len(data) - 4):
        assert error_of(data[:size]) == f"a.mid: ends at byte {size} within an event or track; fetch it again"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (bytes(1000), "it has 1,000 bytes, all of them zero"),
        (b"<!DOCTYPE html><title>404</title>", "it is a web page, no file"),
        (b"PK\3\4" + bytes(100), "it is a zip archive; unpack it"),
        (b"\x1f\x8b\x08" + bytes(100), "it is packed with gzip; unpack it"),
        (b"ID3\4" + bytes(100), "it is an MP3"),
        (b'<?xml version="1.0"?><score-partwise/>', "it is XML, MusicXML perhaps; export it as MIDI"),
        (b"\0\5\x16\7" + bytes(100), "it is AppleDouble, which macOS writes beside a file; remove it"),
        (b"SMF2CLIP" + bytes(100), "it is a MIDI 2.0 clip; export it as a Standard MIDI File"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS; run `git lfs pull`"),
        (b"hello, hello", "it has no header MThd"),
    ],
)
def test_what_is_no_midi_file_is_named_by_what_it_is(data, words):
    assert error_of(data) == f"a.mid: byte 0: not a MIDI file: {words}"


def test_events_that_make_no_sense_are_named_with_their_byte():
    data = head(1, 1) + chunk(b"MTrk", b"\0\x40\x50" + END)

    assert error_of(data) == "a.mid: byte 23: a value where an event should begin; the file is damaged, fetch it again"


@pytest.mark.parametrize(
    "content",
    [
        head(1, 65535) + (b"MTrk\0\0\0\0" + b"\0\xb0\7\x40") * 20_000,
        head(1, 1) + chunk(b"MTrk", (b"\0\xff\1\4" + "äöü".encode()) * 20_000 + b"\0\x90\xff"),
        head(1, 1) + chunk(b"MTrk", END * 50_000 + b"\0"),
        head(1, 1) + b"MTr" * 100_000,
    ],
    ids=["lengths of 0", "texts of wrong lengths", "end marks", "heads"],
)
def test_a_file_full_of_faults_is_refused_soon(content):
    """Bounded work, not time: reading again is paid from one budget, so no file is read more than five times."""
    assert error_of(content).startswith("a.mid: ")
