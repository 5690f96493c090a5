"""What is known of the attacks of General MIDI programs is complete and plausible; an installed soundfont agrees."""

import pytest

from benchmarks.alignment import measure_attacks
from tutti.datasets.record import DRUMS
from tutti.datasets.scores.attacks import LATENESS_S

PIANO = 0


def test_every_program_and_percussion_has_a_lateness():
    assert sorted(LATENESS_S) == list(range(DRUMS + 1))
    assert LATENESS_S[PIANO] == 0.0


def test_nothing_is_heard_much_before_a_piano_nor_later_than_a_long_attack():
    assert min(LATENESS_S.values()) > -0.015
    assert max(LATENESS_S.values()) < 0.15


def test_what_is_struck_or_plucked_is_heard_with_the_piano_and_what_swells_after_it():
    struck = [*range(1, 6), *range(8, 15), *range(24, 28), 105, DRUMS]  # keyboards, mallets, guitars, banjo, drums
    swelling = [19, 44, 48, 49, 50, 51, 89, 92, 93, 95, 97, 101]  # church organ, ensembles, pads

    assert max(abs(LATENESS_S[program]) for program in struck) <= 0.01
    assert min(LATENESS_S[program] for program in swelling) >= 0.015


@pytest.mark.slow
def test_the_installed_soundfont_is_as_late_as_the_table_says(installed_font):
    measured_s = measure_attacks(installed_font, [PIANO, 12, 25, 40, 56, 73, 80])

    for program, late_s in measured_s.items():
        # No two soundfonts are alike, but of these programs none is off by a frame label.
        assert late_s - measured_s[PIANO] == pytest.approx(LATENESS_S[program], abs=0.015), program
    assert measured_s[PIANO] == pytest.approx(0.0, abs=0.005)
