"""Composed scores: playable, tonal, varied, and a function of seed and number alone."""

import itertools
from collections import Counter

import numpy as np
import pytest

from tutti.datasets.record import DRUMS, Note
from tutti.datasets.scores.composing import MAJOR, MINOR, ComposeConfig, compose, solo
from tutti.datasets.scores.general_midi import instruments
from tutti.datasets.scores.playing import playing_of, sounding

PIECES = [compose(0, index) for index in range(120)]


def programs_of(notes):
    """All programs that play, in ascending order."""
    return tuple(sorted({note.program for note in notes}))


def test_equal_arguments_give_equal_scores_and_others_others():
    assert compose(0, 3) == PIECES[3]
    assert len({piece.notes for piece in PIECES}) == 120
    assert compose(1, 3) != PIECES[3]


def test_every_note_lies_in_the_register_of_its_program():
    for piece in PIECES:
        for note in piece.notes:
            playing = playing_of(note.program)
            assert playing.lowest <= note.pitch <= playing.highest, note


def test_pieces_last_twenty_to_forty_seconds_and_sound_throughout():
    for piece in PIECES:
        assert 17 <= piece.end_s <= 46  # whole bars
        onsets = [note.onset_s for note in piece.notes]
        assert max(np.diff([0.0, *onsets, piece.end_s])) < 9  # a bar of rest at the slowest is 3.6 s


def test_melodic_notes_of_a_piece_belong_to_one_key():
    for piece in PIECES:
        played = {note.pitch % 12 for note in piece.notes if note.program != DRUMS}
        keys = [{(tonic + step) % 12 for step in scale} for tonic in range(12) for scale in (MAJOR, MINOR)]
        assert any(played <= key for key in keys)


def test_single_line_instruments_play_one_note_at_a_time():
    overlaps = 0
    for piece in PIECES:
        for program in programs_of(piece.notes):
            if program == DRUMS or playing_of(program).is_polyphonic:
                continue
            line = [note for note in piece.notes if note.program == program]
            overlaps += sum(a.offset_s > b.onset_s + 0.06 for a, b in itertools.pairwise(line))

    assert overlaps == 0  # beyond what 8 ms off the beat explain


def test_every_class_of_general_midi_comes_up_and_none_rules():
    counts = Counter(name for piece in PIECES for name in {note.instrument for note in piece.notes})
    reached = set(instruments()) - {"cymbals"}  # only as a sound effect

    assert set(counts) - {None} == reached
    assert max(count for name, count in counts.items() if name != "drums") <= 4 * min(counts.values())


def test_there_are_solos_and_ensembles():
    assert {len(programs_of(piece.notes)) for piece in PIECES} >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("program", [0, 33, 56, 71, DRUMS])
def test_a_solo_is_of_its_program_alone(program):
    piece = solo(0, 1, program, ComposeConfig(min_s=8, max_s=8))

    assert programs_of(piece.notes) == (program,)
    assert 6 <= piece.end_s <= 11


def test_a_plucked_note_is_sure_for_as_long_as_it_rings_and_a_bowed_one_to_its_end():
    def sure_s(program, pitch):
        start, end = sounding(Note(10.0, 18.0, pitch, program, None, 80))[0]
        assert start == 10.0
        return end - start

    assert sure_s(0, 36) == pytest.approx(3.0)
    assert sure_s(0, 96) == pytest.approx(0.5)
    assert sure_s(40, 70) == pytest.approx(8.0)
    assert sure_s(12, 60) == pytest.approx(0.3)


def test_after_its_end_a_note_may_still_be_heard_for_two_seconds():
    assert sounding(Note(1.0, 2.0, 60, 0, "piano", 80))[1] == (1.0, 4.0)


def test_an_empty_frame_is_refused():
    with pytest.raises(ValueError, match="min_s <= max_s"):
        ComposeConfig(min_s=9, max_s=8)
