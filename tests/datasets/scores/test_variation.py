"""Variations of a score: what may change, what never does, and that chance comes from the arguments alone."""

import subprocess
import sys

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from tutti.datasets.record import DRUMS, Note
from tutti.datasets.scores.general_midi import instrument_of
from tutti.datasets.scores.score import Score
from tutti.datasets.scores.variation import VariationConfig, alternatives, score_digest, vary

STILL = VariationConfig(
    max_transposition=0, max_tempo_ratio=1.0, max_gain_db=0.0, max_velocity_shift=0, max_velocity_jitter=0,
    swap_programs=False,
)  # fmt: skip


def note(onset_s, length_s, pitch, program, velocity=80):
    return Note(onset_s, round(onset_s + length_s, 6), pitch, program, instrument_of(program), velocity)


@st.composite
def scores(draw):
    times = st.floats(0, 60).map(lambda s: round(s, 6))
    lengths = st.floats(0.001, 5).map(lambda s: round(s, 6))
    notes = draw(
        st.lists(
            st.builds(note, times, lengths, st.integers(21, 108), st.integers(0, DRUMS), velocity=st.integers(1, 127)),
            min_size=1,
            max_size=30,
        )
    )
    notes.sort(key=lambda n: (n.onset_s, n.pitch, n.program, n.offset_s, n.velocity))
    return Score(tuple(notes), max(n.offset_s for n in notes) + draw(st.floats(0, 2).map(lambda s: round(s, 6))))


TUNE = Score((note(0, 1, 60, 40), note(0.5, 1, 64, 42), note(1, 1, 67, 0), note(1.5, 0.5, 38, DRUMS)), 2.5)


@settings(max_examples=150, deadline=None)
@given(scores(), st.integers(0, 5), st.integers(0, 4))
def test_notes_keep_their_number_the_piano_s_keys_and_their_class(score, seed, variant):
    varied = vary(score, seed=seed, variant=variant).score

    assert len(varied.notes) == len(score.notes)
    assert all(21 <= n.pitch <= 108 and 1 <= n.velocity <= 127 for n in varied.notes)
    assert all(n.instrument == instrument_of(n.program) for n in varied.notes)
    assert sorted(str(n.instrument) for n in varied.notes) == sorted(str(n.instrument) for n in score.notes)
    assert all(0 <= n.onset_s < n.offset_s <= varied.end_s for n in varied.notes)
    assert list(varied.notes) == sorted(
        varied.notes, key=lambda n: (n.onset_s, n.pitch, n.program, n.offset_s, n.velocity)
    )


@settings(max_examples=50, deadline=None)
@given(scores(), st.integers(0, 5), st.integers(0, 4))
def test_the_same_arguments_give_the_same_performance(score, seed, variant):
    assert vary(score, seed=seed, variant=variant) == vary(score, seed=seed, variant=variant)


@settings(max_examples=80, deadline=None)
@given(scores(), st.integers(0, 5), st.integers(1, 4))
def test_parts_stay_parts_and_all_pitched_notes_move_alike(score, seed, variant):
    still = VariationConfig(max_tempo_ratio=1.0)
    varied = vary(score, seed=seed, variant=variant, config=still).score

    assert len({n.program for n in varied.notes}) == len({n.program for n in score.notes})
    moved = {after - before for before, after in zip(pitches(score), pitches(varied), strict=True)}
    assert len(moved) <= 1
    assert drums(varied) == drums(score)


def pitches(score):
    return sorted(n.pitch for n in score.notes if n.program != DRUMS)


def drums(score):
    return sorted((n.onset_s, n.pitch) for n in score.notes if n.program == DRUMS)


def test_variant_0_is_the_score_itself():
    performance = vary(TUNE, seed=3, variant=0)

    assert performance.score is TUNE
    assert (performance.gains_db, performance.drum_kit) == ({}, 0)


def test_seeds_and_variants_differ():
    made = {vary(TUNE, seed=seed, variant=variant).digest() for seed in range(3) for variant in range(1, 4)}

    assert len(made) == 9


def test_without_room_to_move_nothing_but_kit_and_room_change():
    performance = vary(TUNE, seed=1, variant=1, config=STILL)

    assert performance.score == TUNE
    assert set(performance.gains_db.values()) == {0.0}


def test_a_score_at_the_border_of_the_keys_moves_inwards_only():
    low = Score((note(0, 1, 21, 0), note(1, 1, 40, 0)), 2.0)
    lowest = [min(pitches(vary(low, seed=seed, variant=1).score)) for seed in range(40)]

    assert min(lowest) == 21
    assert max(lowest) == 26  # five semitones


def test_a_note_beyond_the_piano_s_keys_stays_where_it_is():
    high = Score((note(0, 1, 120, 0), note(1, 1, 60, 0)), 2.0)

    assert all(max(pitches(vary(high, seed=seed, variant=1).score)) == 120 for seed in range(10))


def test_tempo_scales_every_time_by_one_ratio_within_the_limit():
    for seed in range(20):
        varied = vary(TUNE, seed=seed, variant=1).score
        ratio = varied.end_s / TUNE.end_s
        assert 1 / 1.2 - 1e-6 <= ratio <= 1.2 + 1e-6
        assert sorted(n.onset_s for n in varied.notes) == pytest.approx([0.0, 0.5 * ratio, ratio, 1.5 * ratio])


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (0, (0, 1, 2, 3, 4, 5, 6, 7)),
        (24, (24, 25)),
        (30, (26, 27, 28, 29, 30, 31)),
        (43, (43,)),  # a bowed contrabass is no bass guitar
        (40, (40, 110)),
        (56, (56, 59)),
        (41, (41,)),  # the viola stands for no class
        (DRUMS, (DRUMS,)),
    ],
)
def test_programs_are_swapped_for_those_that_play_alike(program, expected):
    assert alternatives(program) == expected


def test_two_pianos_never_become_one():
    score = Score(tuple(note(i, 1, 60, program) for i, program in enumerate(range(8))), 9.0)

    for seed in range(10):
        assert {n.program for n in vary(score, seed=seed, variant=1).score.notes} == set(range(8))


def test_another_process_with_another_hash_seed_varies_alike():
    code = (
        "from tutti.datasets.scores.composing import compose; from tutti.datasets.scores.variation import vary; "
        "print(vary(compose(5, 7), seed=2, variant=3).digest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip

    assert len(printed) == 1
    assert len(printed.pop().strip()) == 64


def test_the_digest_of_a_score_sees_every_number():
    others = [
        Score((note(0, 1, 61, 40), *TUNE.notes[1:]), 2.5),
        Score((note(0, 1, 60, 40, velocity=81), *TUNE.notes[1:]), 2.5),
        Score((note(0, 1.1, 60, 40), *TUNE.notes[1:]), 2.5),
        Score((note(0, 1, 60, 41), *TUNE.notes[1:]), 2.5),
        Score(TUNE.notes, 2.6),
    ]

    assert len({score_digest(score) for score in (TUNE, *others)}) == 6


@pytest.mark.parametrize("setting", [{"max_tempo_ratio": 0.9}, {"max_transposition": -1}, {"max_velocity_jitter": -1}])
def test_limits_that_mean_nothing_are_refused(setting):
    with pytest.raises(ValueError, match="expected"):
        VariationConfig(**setting)
