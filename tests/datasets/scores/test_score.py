"""Scores: what a MIDI file says, what is wrong with one, and files of our own."""

import io
import struct

import mido
import pytest
from midi_files import TICKS_PER_S, midi, note, off, on, program, tempo, tune

from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import DRUMS, Note
from tutti.datasets.scores.general_midi import PROGRAM_NAMES, instrument_of, instruments
from tutti.datasets.scores.midi_file import MAX_TRACK_BYTES
from tutti.datasets.scores.score import Score, ScoreError, excerpt, read_midi, write_midi
from tutti.datasets.taxonomy import INSTRUMENTS


def notes_of(*tracks, **options):
    return read_midi(midi(*tracks, **options), "a.mid").notes


def error_of(data):
    with pytest.raises(ScoreError) as caught:
        read_midi(data, "a.mid")
    return str(caught.value)


# --- reading


def test_a_note_has_onset_offset_pitch_program_instrument_and_velocity():
    track = [program(40), on(69, 960, velocity=100), off(69, 480)]

    assert notes_of(track) == (Note(1.0, 1.5, 69, 40, "violin", 100),)


def test_a_file_of_type_0_and_one_of_type_1_say_the_same():
    one = [on(60), on(64, 480, channel=1), off(60, 480), off(64, channel=1)]
    two = [[on(60), off(60, 960)], [on(64, 480, channel=1), off(64, 480, channel=1)]]

    assert notes_of(one, type=0) == notes_of(*two) == (note(0.0, 1.0, 60), note(0.5, 1.0, 64))


def test_notes_are_sorted_by_onset_then_pitch_then_program():
    tracks = ([on(70, 480), off(70, 480)], [program(73, channel=1), on(60, 480, channel=1), off(60, 480, channel=1)],
              [on(80), off(80, 960)])  # fmt: skip

    assert [(n.onset_s, n.pitch) for n in notes_of(*tracks)] == [(0.0, 80), (0.5, 60), (0.5, 70)]


def test_a_tempo_change_within_a_note_lengthens_it():
    track = [on(60), tempo(1_000_000, 480), off(60, 480)]

    assert notes_of(track) == (note(0.0, 1.5, 60),)


def test_tempo_of_any_track_holds_for_all():
    tracks = ([on(60, 480), off(60, 480)], [tempo(250_000)])

    assert notes_of(*tracks) == (note(0.25, 0.5, 60),)


def test_programs_hold_for_their_channel_from_their_time_on():
    track = [on(60), off(60, 480), program(56), on(60), off(60, 480), on(60, channel=1), off(60, 480, channel=1)]

    assert [(n.onset_s, n.program) for n in notes_of(track)] == [(0.0, 0), (0.5, 56), (1.0, 0)]


def test_a_program_set_in_another_track_holds_too():
    tracks = ([program(73)], [on(60), off(60, 480)])

    assert notes_of(*tracks) == (note(0.0, 0.5, 60, 73),)


def test_channel_10_is_percussion_whatever_its_program():
    track = [program(40, channel=9), on(38, channel=9), off(38, 96, channel=9)]

    assert notes_of(track) == (Note(0.0, 0.1, 38, DRUMS, "drums", 64),)


def test_a_program_that_no_class_stands_for_has_no_instrument():
    assert notes_of([program(41), on(60), off(60, 480)]) == (Note(0.0, 0.5, 60, 41, None, 64),)


def test_sixteen_channels_of_two_ports_do_not_share_programs():
    port = [mido.MetaMessage("midi_port", port=1)]
    tracks = ([program(40), on(60), off(60, 480)], [*port, program(73), on(62), off(62, 480)])

    assert [(n.pitch, n.program) for n in notes_of(*tracks)] == [(60, 40), (62, 73)]


def test_a_note_on_of_velocity_0_is_its_end():
    assert notes_of([on(60), on(60, 480, velocity=0)]) == (note(0.0, 0.5, 60),)


def test_overlapping_notes_of_one_pitch_end_in_the_order_in_which_they_began():
    track = [on(60), on(60, 480), off(60, 480), off(60, 480)]

    assert notes_of(track) == (note(0.0, 1.0, 60), note(0.5, 1.5, 60))


def test_equal_notes_of_two_tracks_end_each_with_its_own():
    tracks = ([on(60), off(60, 1920)], [on(60, 480), off(60, 480)])

    assert notes_of(*tracks) == (note(0.0, 2.0, 60), note(0.5, 1.0, 60))


def test_a_note_without_length_is_dropped():
    assert notes_of([on(60), off(60), on(62), off(62, 480)]) == (note(0.0, 0.5, 62),)


def test_a_note_that_never_ends_ends_with_the_file():
    assert notes_of([on(60), on(62), off(62, 960)]) == (note(0.0, 1.0, 60), note(0.0, 1.0, 62))


def test_an_end_without_a_beginning_is_nothing():
    assert notes_of([off(60, 480), on(62), off(62, 480)]) == (note(0.5, 1.0, 62),)


def test_the_sustain_pedal_lengthens_no_note():
    pedal = mido.Message("control_change", control=64, value=127)

    assert notes_of([pedal, on(60), off(60, 480), pedal.copy(value=0, time=960)]) == (note(0.0, 0.5, 60),)


def test_a_score_ends_with_its_last_event():
    assert read_midi(midi([on(60), off(60, 480), tempo(500_000, 480)]), "a").end_s == 1.0


def test_time_can_be_counted_in_frames():
    data = bytearray(midi([on(60), off(60, 1000)]))
    data[12:14] = bytes([256 - 25, 40])  # 25 frames a second, 40 ticks a frame

    assert read_midi(bytes(data), "a.mid").notes == (note(0.0, 1.0, 60),)


# --- what is wrong with a file


def test_a_truncated_file_is_named_with_its_byte_and_what_to_do():
    data = midi([on(60), off(60, 480)])

    assert error_of(data[:-6]) == f"a.mid: ends at byte {len(data) - 6} within an event or track; fetch it again"


@pytest.mark.parametrize("size", [0, 3, 10, 14, 18, 22, 26])
def test_a_file_cut_anywhere_is_no_score(size):
    assert error_of(midi([on(60), off(60, 480)])[:size]).startswith("a.mid: ")


def test_a_file_whose_only_note_has_an_impossible_pitch_is_no_score():
    data = midi([on(60), off(60, 480)])
    damaged = data[:22] + b"\x00\x90\xff\x40" + data[26:]

    assert error_of(damaged) == (
        "a.mid: none of its notes can be read (a note of pitch 255; MIDI has 0 to 127); export the score again"
    )


def test_a_file_without_notes_says_so():
    with pytest.raises(ScoreError, match="has no notes") as caught:
        read_midi(midi([tempo(500_000, 480)]), "a.mid")
    assert caught.value.reason == "no_notes"
    assert isinstance(caught.value, IntegrityError)


def test_independent_patterns_are_no_score():
    pattern = [on(60), off(60, 480)]

    assert error_of(midi(pattern, pattern, type=2)).startswith("a.mid: byte 8: type 2, not one piece")


@pytest.mark.parametrize(("division", "message"), [(b"\x00\x00", "0 ticks per quarter"), (b"\xff\x28", "SMPTE")])
def test_a_division_that_means_nothing_is_named(division, message):
    data = midi([on(60), off(60, 480)])

    error = error_of(data[:12] + division + data[14:])

    assert error.startswith("a.mid: byte 12: ")
    assert message in error


def test_a_score_of_years_is_damaged():
    assert "lasts longer than 10800 s" in error_of(midi([on(60), off(60, 12_000 * TICKS_PER_S)]))


def test_a_delta_time_without_end_is_found_before_anybody_reads_it():
    track = b"\x00\x90\x3c\x40" + b"\xff" * 100_000 + b"\x7f\x80\x3c\x00\x00\xff\x2f\x00"
    data = struct.pack(">4sLHHH4sL", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track

    assert error_of(data) == "a.mid: byte 26: a number without end; the file is damaged, fetch it again"


def test_tracks_larger_than_any_score_are_not_parsed():
    track = b"\0\x90\x3c\x40" + b"\0\xb0\7\x40" * (MAX_TRACK_BYTES // 4)
    data = struct.pack(">4sLHHH4sL", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track

    assert "byte 14: its tracks have more than 2,097,152 bytes" in error_of(data)


# --- excerpts


def test_an_excerpt_cuts_its_notes_and_counts_from_its_beginning():
    score = Score((note(0.0, 1.0, 60), note(0.5, 2.5, 62), note(1.5, 1.75, 64), note(2.0, 3.0, 65)), 3.0)

    assert excerpt(score, 1.0, 2.0) == (note(0.0, 1.0, 62), note(0.5, 0.75, 64))


def test_what_is_left_of_a_note_below_a_millisecond_is_rounding():
    score = Score((note(0.0, 1.0005, 60), note(1.9995, 3.0, 62), note(1.0, 1.002, 64)), 3.0)

    assert excerpt(score, 1.0, 2.0) == (note(0.0, 0.002, 64),)


# --- writing


def test_what_is_written_reads_back_within_a_tick():
    score = tune(3, programs=(0, 40, 73, DRUMS))

    back = read_midi(write_midi(score), "a.mid")

    assert [(n.pitch, n.program, n.velocity) for n in back.notes] == [
        (n.pitch, n.program, n.velocity) for n in score.notes
    ]
    assert [n.onset_s for n in back.notes] == pytest.approx([n.onset_s for n in score.notes], abs=5e-5)
    assert [n.offset_s for n in back.notes] == pytest.approx([n.offset_s for n in score.notes], abs=5e-5)
    assert back.end_s == score.end_s


def test_there_is_one_track_per_program_and_percussion_is_on_channel_10():
    score = Score((note(0, 1, 60, 40), note(0, 1, 38, DRUMS), note(0, 1, 62, 0)), 1.0)

    _, *tracks = mido.MidiFile(file=io.BytesIO(write_midi(score))).tracks

    heard = [{(m.type, m.channel) for m in track if m.type == "note_on"} for track in tracks]
    assert heard == [{("note_on", 1)}, {("note_on", 0)}, {("note_on", 9)}]


def test_a_note_that_follows_at_once_on_its_own_pitch_is_kept_apart():
    score = Score((note(0.0, 0.5, 60), note(0.5, 1.0, 60)), 1.0)

    assert read_midi(write_midi(score), "a.mid").notes == score.notes


def test_all_programs_one_after_another_find_a_channel():
    score = Score(tuple(note(number * 0.2, number * 0.2 + 0.1, 60, number) for number in range(128)), 25.6)

    assert [n.program for n in read_midi(write_midi(score), "a.mid").notes] == list(range(128))


def test_more_programs_at_once_than_channels_cannot_be_written():
    score = Score(tuple(note(0.0, 1.0, 60, number) for number in range(16)), 1.0)

    with pytest.raises(ScoreError, match=r"more than 15 programs sound at 0\.000 s"):
        write_midi(score)


# --- General MIDI


def test_the_programs_have_their_official_names():
    assert len(PROGRAM_NAMES) == len(set(PROGRAM_NAMES)) == 128
    numbered = {0: "Acoustic Grand Piano", 24: "Acoustic Guitar (nylon)", 56: "Trumpet", 73: "Flute", 127: "Gunshot"}
    assert {number: PROGRAM_NAMES[number] for number in numbered} == numbered


def test_every_program_stands_for_the_instrument_of_this_table():
    table = {
        "piano": range(0, 8), "mallet_percussion": [*range(8, 15), 114], "organ": range(16, 21), "accordion": [21, 23],
        "acoustic_guitar": [24, 25], "electric_guitar": range(26, 32), "bass": [*range(32, 40), 43],
        "violin": [40, 110], "cello": [42], "synthesizer": [50, 51, 62, 63, *range(80, 104)], "voice": range(52, 55),
        "trumpet": [56, 59], "trombone": [57], "saxophone": range(64, 68), "clarinet": [71], "flute": [72, 73],
        "banjo": [105], "drums": [116, 117, 118, 128], "cymbals": [119],
    }  # fmt: skip
    nothing = [
        15, 22, 41, 44, 45, 46, 47, 48, 49, 55, 58, 60, 61, 68, 69, 70, 74, 75, 76, 77, 78, 79, 104, 106, 107, 108,
        109, 111, 112, 113, 115, 120, 121, 122, 123, 124, 125, 126, 127,
    ]  # fmt: skip
    expected = {number: name for name, numbers in table.items() for number in numbers} | dict.fromkeys(nothing)

    assert {number: instrument_of(number) for number in range(129)} == expected
    assert instruments() == tuple(sorted(table))
    assert set(instruments()) <= set(INSTRUMENTS)


@pytest.mark.parametrize("number", [-1, 129])
def test_a_number_that_is_no_program_is_refused(number):
    with pytest.raises(ValueError, match="is outside 0 to 128"):
        instrument_of(number)
