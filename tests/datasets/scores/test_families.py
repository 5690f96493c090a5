"""Labels of families and instruments from the notes of a score."""

import pytest

from tutti.datasets.hierarchy import OUTPUTS
from tutti.datasets.record import ABSENT, DRUMS, PRESENT, Note
from tutti.datasets.scores.families import families_of
from tutti.datasets.scores.general_midi import instrument_of


def note(program: int, onset_s: float = 0.0, offset_s: float = 1.0, pitch: int = 60) -> Note:
    return Note(onset_s, offset_s, pitch, program, instrument_of(program), 90)


def present(*notes: Note, start_s: float = 0.0, end_s: float = 1.0) -> set[str]:
    return {name for name, label in families_of(notes, start_s, end_s).items() if label.presence == PRESENT}


def unknown(*notes: Note, start_s: float = 0.0, end_s: float = 1.0) -> set[str]:
    return set(OUTPUTS) - set(families_of(notes, start_s, end_s))


@pytest.mark.parametrize(
    ("program", "heard", "open_outputs"),
    [
        (0, {"key", "piano"}, set()),
        (4, {"key"}, {"piano"}),
        (21, {"key"}, set()),  # an accordion sounds as one, unlike Slakh's
        (22, set(), {"key", "woodwind"}),
        (25, {"plucked_string", "acoustic_guitar"}, set()),
        (38, {"synth"}, {"plucked_string", "electric_bass"}),
        (40, {"bowed_string", "violin"}, set()),
        (48, {"bowed_string"}, {"violin"}),
        (50, {"synth"}, {"bowed_string", "violin"}),
        (52, {"voice"}, {"singer"}),
        (61, {"brass"}, {"woodwind"}),
        (126, set(), set(OUTPUTS)),
    ],
)
def test_a_program_sounds_as_general_midi_says(program: int, heard: set[str], open_outputs: set[str]) -> None:
    assert present(note(program)) == heard
    assert unknown(note(program)) == open_outputs


@pytest.mark.parametrize("program", range(DRUMS + 1))
def test_every_program_says_something(program: int) -> None:
    assert present(note(program)) | unknown(note(program))


def test_a_cowbell_is_percussion_and_perhaps_no_drum_kit() -> None:
    assert present(note(DRUMS, pitch=56)) == {"percussion"}
    assert unknown(note(DRUMS, pitch=56)) == {"drums"}
    assert present(note(DRUMS, pitch=36)) == {"percussion", "drums"}


def test_what_is_heard_too_shortly_or_may_still_ring_is_unknown_and_what_is_long_gone_absent() -> None:
    assert unknown(note(40, 0.95, 3.0)) == {"bowed_string", "violin"}
    assert unknown(note(40, 0.0, 1.0), start_s=1.5, end_s=2.5) == {"bowed_string", "violin"}
    labels = families_of((note(40, 0.0, 1.0),), 3.5, 4.5)
    assert {label.presence for label in labels.values()} == {ABSENT}
    assert set(labels) == set(OUTPUTS)


def test_short_notes_of_one_family_add_up() -> None:
    assert present(note(73, 0.0, 0.06), note(68, 0.5, 0.56)) == {"woodwind"}
