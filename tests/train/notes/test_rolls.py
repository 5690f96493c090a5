import json
from collections.abc import Iterable, Sequence

import mir_eval
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutti.datasets.record import DRUMS, Note
from tutti.train.notes.decode import DecodeConfig, decode, joined, program_of, runs
from tutti.train.notes.losses import RollLogits
from tutti.train.notes.picture import color_of, piano_roll_png
from tutti.train.notes.rolls import NoteArrays, NoteTable, cell_of, make_rolls, table_of
from tutti.train.notes.scores import (
    Tally,
    Thresholds,
    best_threshold,
    best_thresholds,
    bin_of,
    confusions,
    notes_report,
)

HOP_S = 0.032  # 512 samples at 16 kHz
CLASSES = ("cello", "drums", "piano")


def note(onset_s: float, offset_s: float, pitch: int = 60, instrument: str | None = "piano", program: int = 0) -> Note:
    return Note(onset_s, offset_s, pitch, program, instrument, 64)


def note_table(clips: Iterable[Sequence[Note]], instruments: Sequence[str]) -> NoteTable:
    """The notes of each clip, for classes in this order."""
    listed = [tuple(notes) for notes in clips]
    flat = [note for notes in listed for note in notes]
    arrays = NoteArrays(
        np.array([len(notes) for notes in listed], np.int64),
        np.array([note.onset_s for note in flat], np.float64),
        np.array([note.offset_s for note in flat], np.float64),
        np.array([note.pitch for note in flat], np.int64),
        np.array([note.program for note in flat], np.int64),
        [note.instrument for note in flat],
    )
    return table_of(arrays, instruments)


def rolls_of(notes: Sequence[Note], num_frames: int = 10, first: int = 0):
    table = note_table([notes], CLASSES)
    return make_rolls(table, torch.tensor([0]), torch.tensor([first]), num_frames=num_frames, hop_s=HOP_S)


def sounding(roll_F: torch.Tensor) -> list[int]:
    return torch.nonzero(roll_F == 1).flatten().tolist()


def test_a_note_fills_the_cells_between_its_onset_and_its_offset() -> None:
    rolls = rolls_of([note(3 * HOP_S, 6 * HOP_S)])
    assert sounding(rolls.piano[0, 2, 39]) == [3, 4, 5]
    assert int(rolls.piano.sum()) == 3


@pytest.mark.parametrize(
    ("onset", "offset", "cells"),
    [
        (2.49, 4.49, [2, 3]),  # in hops: a cell lasts from half a hop before its center
        (2.5, 4.5, [3, 4]),
        (2.51, 4.51, [3, 4]),
        (2.6, 2.7, [3]),  # shorter than a cell, and still not lost
        (0.0, 0.4, [0]),
        (8.0, 99.0, [8, 9]),
        (99.0, 100.0, []),
    ],
)
def test_cells_are_centered_on_frames_and_no_note_is_shorter_than_one(
    onset: float, offset: float, cells: list[int]
) -> None:
    assert sounding(rolls_of([note(onset * HOP_S, offset * HOP_S)]).piano[0, 2, 39]) == cells


def test_the_keys_of_the_piano_are_the_rows_and_what_lies_outside_is_left_out() -> None:
    rolls = rolls_of([note(0, 0.1, 20), note(0, 0.1, 21), note(0, 0.1, 108), note(0, 0.1, 109)])
    assert torch.nonzero(rolls.piano[0, 2].any(dim=1)).flatten().tolist() == [0, 87]


def test_overlapping_notes_of_one_pitch_sound_until_the_last_one_ends() -> None:
    notes = [note(0, 4 * HOP_S), note(2 * HOP_S, 3 * HOP_S), note(3 * HOP_S, 7 * HOP_S)]
    assert sounding(rolls_of(notes).piano[0, 2, 39]) == [0, 1, 2, 3, 4, 5, 6]


def test_summed_over_pitch_the_pianoroll_is_the_instrument_roll_and_over_instruments_the_pitch_roll() -> None:
    rng = np.random.default_rng(0)
    notes = []
    for _ in range(60):
        onset_s = float(rng.uniform(0, 3))
        instrument = ("cello", "piano")[int(rng.integers(2))]
        notes.append(note(onset_s, onset_s + float(rng.uniform(0.02, 1)), int(rng.integers(21, 109)), instrument))
    rolls = rolls_of(notes, num_frames=100)
    summed = rolls.piano.int()
    assert torch.equal(rolls.instrument > 0, summed.sum(dim=2) > 0)
    assert torch.equal(rolls.pitch > 0, summed.sum(dim=1) > 0)
    assert set(rolls.pitch.unique().tolist()) == {0, 1}


def test_a_note_of_no_class_makes_its_pitch_unknown_unless_a_known_instrument_plays_it_too() -> None:
    rolls = rolls_of([note(0, 6 * HOP_S, 60, None, 46), note(2 * HOP_S, 3 * HOP_S, 60, "cello", 42)], num_frames=8)
    assert rolls.pitch[0, 39].tolist() == [-1, -1, 1, -1, -1, -1, 0, 0]
    assert rolls.instrument[0].tolist() == [[0, 0, 1, 0, 0, 0, 0, 0], [0] * 8, [0] * 8]


def test_an_instrument_that_is_no_class_of_the_run_counts_as_one_of_no_class() -> None:
    assert rolls_of([note(0, HOP_S, 60, "flute", 73)], num_frames=2).pitch[0, 39].tolist() == [-1, 0]


def test_drums_are_heard_as_an_instrument_and_have_no_pitch() -> None:
    rolls = rolls_of([note(0, 2 * HOP_S, 38, "drums", DRUMS), note(0, HOP_S, 40, None, DRUMS)], num_frames=3)
    assert rolls.instrument[0, 1].tolist() == [1, 1, 0]
    assert rolls.piano[0, 1, 38 - 21].tolist() == [True, True, False]
    assert rolls.pitch.unique().tolist() == [0]


def test_a_window_is_what_the_whole_clips_roll_shows_there() -> None:
    notes = [note(0.1, 0.5), note(0.2, 1.9, 72, "cello"), note(1.0, 1.2, 48)]
    whole = rolls_of(notes, num_frames=80)
    for first in (0, 5, 31, 60, 79):
        window = rolls_of(notes, num_frames=20, first=first)
        shown = min(20, 80 - first)
        assert torch.equal(window.piano[..., :shown], whole.piano[..., first : first + shown])
        assert torch.equal(window.pitch[..., :shown], whole.pitch[..., first : first + shown])


def test_windows_of_a_batch_have_the_notes_of_their_own_clips() -> None:
    table = note_table([[note(0, HOP_S, 60)], [], [note(0, HOP_S, 70), note(HOP_S, 2 * HOP_S, 71)]], CLASSES)
    clips, first = torch.tensor([2, 0, 1, 2]), torch.tensor([0, 0, 0, 1])
    rolls = make_rolls(table, clips, first, num_frames=3, hop_s=HOP_S)
    cells = [torch.nonzero(roll[2]).tolist() for roll in rolls.piano]
    assert cells == [[[49, 0], [50, 1]], [[39, 0]], [], [[50, 0]]]


def test_rolls_follow_the_hop() -> None:
    table = note_table([[note(1.0, 2.0)]], CLASSES)
    for hop_s, cells in ((0.5, [2, 3]), (0.25, [4, 5, 6, 7]), (1.0, [1])):
        rolls = make_rolls(table, torch.tensor([0]), torch.tensor([0]), num_frames=10, hop_s=hop_s)
        assert sounding(rolls.piano[0, 2, 39]) == cells


def test_times_are_not_rounded_to_single_precision() -> None:
    late_s = 3_600 * 5 + 0.5 * HOP_S  # in float32 a step there is a whole millisecond
    assert cell_of(torch.tensor([late_s - 1e-6, late_s + 1e-6], dtype=torch.float64), HOP_S).tolist() == [
        562_500,
        562_501,
    ]


def test_an_empty_table_makes_empty_rolls() -> None:
    assert int(rolls_of([]).piano.sum()) == 0


notes_of_one_line = st.lists(
    st.tuples(st.integers(0, 60), st.integers(2, 20), st.integers(21, 108), st.sampled_from(["cello", "piano"])),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(notes_of_one_line)
def test_decoding_a_roll_gives_the_notes_back(drawn: list[tuple[int, int, int, str]]) -> None:
    free: dict[tuple[int, str], int] = {}
    notes = []
    for onset, length, pitch, name in sorted(drawn):
        onset = max(onset, free.get((pitch, name), 0))  # notes of a line stand two cells apart: else they join
        free[pitch, name] = onset + length + 2
        notes.append(note((onset + 0.5) * HOP_S, (onset + length + 0.5) * HOP_S, pitch, name, program_of(name)))
    rolls = rolls_of(notes, num_frames=400)
    found = decode(rolls.piano[0].float().numpy(), CLASSES, threshold=0.5, hop_s=HOP_S, config=DecodeConfig())
    expected = sorted(notes, key=lambda n: (n.onset_s, n.pitch, n.program, n.offset_s))
    assert [(n.pitch, n.instrument, n.program) for n in found] == [(n.pitch, n.instrument, n.program) for n in expected]
    assert [n.onset_s for n in found] == pytest.approx([n.onset_s for n in expected])
    assert [n.offset_s for n in found] == pytest.approx([n.offset_s for n in expected])


def test_a_note_that_sounds_from_the_first_frame_on_begins_at_zero() -> None:
    probability = np.ones((1, 88, 2))
    found = decode(probability[:, :1], ("piano",), threshold=0.5, hop_s=HOP_S, config=DecodeConfig())
    assert [(n.onset_s, n.offset_s, n.pitch, n.velocity) for n in found] == [(0.0, pytest.approx(0.048), 21, 80)]


def test_a_pause_of_one_frame_is_bridged_and_a_note_of_one_frame_is_dropped() -> None:
    cells = np.zeros((1, 88, 14))
    cells[0, 39, [2, 3, 5, 6, 10]] = 0.9  # a pause of one cell, then one of three
    found = decode(cells, ("piano",), threshold=0.5, hop_s=HOP_S, config=DecodeConfig())
    assert [(n.onset_s, n.offset_s) for n in found] == [(pytest.approx(1.5 * HOP_S), pytest.approx(6.5 * HOP_S))]
    strict = decode(cells, ("piano",), threshold=0.5, hop_s=HOP_S, config=DecodeConfig(max_gap_s=0, min_note_s=0))
    assert [round(n.onset_s / HOP_S, 3) for n in strict] == [1.5, 4.5, 9.5]


def test_runs_of_different_lines_never_join() -> None:
    lines, begins, ends = runs(np.array([[False, True, True], [True, False, True]]))
    assert (lines.tolist(), begins.tolist(), ends.tolist()) == ([0, 1, 1], [1, 0, 2], [3, 1, 3])
    assert [part.tolist() for part in joined(lines, begins, ends, max_gap=1)] == [[0, 1], [1, 0], [3, 3]]


@pytest.mark.parametrize(
    ("instrument", "program"), [("piano", 0), ("violin", 40), ("cello", 42), ("drums", 128), ("kazoo", 0)]
)
def test_an_instruments_program_is_the_first_that_stands_for_it(instrument: str, program: int) -> None:
    assert program_of(instrument) == program


def frame_logits(roll: torch.Tensor) -> RollLogits:
    """Probabilities that agree with each other: an instrument or pitch is as likely as its likeliest cell."""
    return RollLogits(roll, roll.amax(dim=2), roll.amax(dim=1))


def random_batch(num_clips: int = 3, num_frames: int = 60):
    generator = torch.Generator().manual_seed(1)
    clips = [
        [
            note(t * 0.3, t * 0.3 + 0.4, int(torch.randint(40, 80, (1,), generator=generator)), name)
            for t in range(6)
            for name in ("cello", "piano")
        ]
        for _ in range(num_clips)
    ]
    table = note_table(clips, ("cello", "piano"))
    which = torch.arange(num_clips)
    rolls = make_rolls(table, which, torch.zeros_like(which), num_frames=num_frames, hop_s=HOP_S)
    noise = torch.rand(rolls.piano.shape, generator=generator)
    return frame_logits(torch.where(rolls.piano, 0.3 + 0.7 * noise, noise**8)), rolls, which


def tally_of(probability: RollLogits, rolls, which: torch.Tensor) -> Tally:
    num_frames = probability.roll.shape[-1]
    tally = Tally([num_frames * HOP_S] * len(which), rolls.piano.shape[1], torch.device("cpu"))
    valid = torch.ones(len(which), num_frames, dtype=torch.bool)
    tally.add(probability, rolls, valid, which, torch.zeros_like(which), HOP_S)
    return tally


def frequencies(roll_PF: torch.Tensor) -> list[np.ndarray]:
    return [440 * 2 ** ((torch.nonzero(column).flatten().numpy() + 21 - 69) / 12) for column in roll_PF.T]


@pytest.mark.parametrize("threshold", [0.1, 0.42, 0.9])
def test_accuracy_of_pitches_and_of_each_instruments_pianoroll_is_mir_evals(threshold: float) -> None:
    probability, rolls, which = random_batch()
    tally = tally_of(probability, rolls, which)
    report = notes_report(tally, Thresholds(threshold, threshold, (threshold,) * 2), ("cello", "piano"))
    heard_pitch = bin_of(probability.pitch) >= round(threshold * 100)
    heard_roll = bin_of(probability.roll) >= round(threshold * 100)
    times = np.arange(rolls.pitch.shape[-1]) * HOP_S

    def by_mir_eval(reference: torch.Tensor, heard: torch.Tensor) -> tuple[float, float, float]:
        figures = mir_eval.multipitch.metrics(times, frequencies(reference), times, frequencies(heard))
        return figures[0], figures[1], figures[2]

    clips = [by_mir_eval(rolls.pitch[n] == 1, heard_pitch[n]) for n in range(3)]
    assert report["model"]["pitch_clip_accuracy"] == pytest.approx(np.mean([clip[2] for clip in clips]), abs=1e-6)
    one = tally_of(
        RollLogits(*(v[:1] for v in probability)),
        type(rolls)(*(v[:1] for v in vars(rolls).values())),
        which[:1],
    )
    alone = notes_report(one, Thresholds(threshold, threshold, (threshold,) * 2), ("cello", "piano"))
    precision, recall, accuracy = clips[0]
    found = [alone["model"][f"pitch_{name}"] for name in ("precision", "recall", "accuracy")]
    assert found == pytest.approx([precision, recall, accuracy], abs=1e-6)
    for index, name in enumerate(("cello", "piano")):
        expected = by_mir_eval(rolls.piano[0, index], heard_roll[0, index])[2]
        assert alone["per_instrument"][name]["roll_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_instrument_f1_counts_frames() -> None:
    rolls = rolls_of([note(0, 4 * HOP_S), note(0, 4 * HOP_S, 60, "cello")], num_frames=8)
    roll = torch.zeros(1, 3, 88, 8)
    roll[0, 2, 39, 2:7] = 0.8  # two right, three wrong, two missed
    roll[0, 0, 39, 0:4] = 0.8
    tally = tally_of(frame_logits(roll), rolls, torch.tensor([0]))
    report = notes_report(tally, Thresholds(0.5, 0.5, (0.5,) * 3), CLASSES)
    assert report["per_instrument"]["piano"]["precision"] == pytest.approx(0.4)
    assert report["per_instrument"]["piano"]["recall"] == 0.5
    assert report["per_instrument"]["piano"]["f1"] == pytest.approx(4 / 9, abs=1e-6)
    assert report["per_instrument"]["drums"]["f1"] is None  # never sounds: recall has no meaning
    assert report["model"]["instrument_macro_f1"] == pytest.approx((4 / 9 + 1) / 2, abs=1e-6)
    assert report["constant"]["instrument_macro_f1"] == pytest.approx(2 / 3, abs=1e-6)  # 4 of 8 frames


def test_frames_beyond_the_clip_and_unknown_pitches_count_nowhere() -> None:
    rolls = rolls_of([note(0, 2 * HOP_S, 60, None, 46)], num_frames=8)
    tally = Tally([5 * HOP_S], 3, torch.device("cpu"))
    valid = torch.arange(8)[None] < 5
    zero = torch.tensor([0])
    tally.add(frame_logits(torch.ones(1, 3, 88, 8)), rolls, valid, zero, zero, HOP_S)
    assert int(tally.pitch.sum()) == 5 * 88 - 2
    assert int(tally.roll.sum()) == 3 * 5 * 88
    assert int(tally.instrument.sum()) == 15


def test_counts_at_every_threshold_are_those_of_comparing_with_it() -> None:
    probability, rolls, which = random_batch()
    tally = tally_of(probability, rolls, which)
    positives, false_positives, negatives = confusions(tally.pitch)
    truth = rolls.pitch == 1
    for at in (0, 1, 37, 99):
        heard = bin_of(probability.pitch) >= at
        assert positives[at] == int((heard & truth).sum())
        assert false_positives[at] == int((heard & ~truth).sum())
        assert negatives[at] == int((~heard & truth).sum())


def test_the_best_threshold_has_the_greatest_accuracy_of_all() -> None:
    probability, rolls, which = random_batch()
    tally = tally_of(probability, rolls, which)
    chosen = best_thresholds(tally)
    accuracies = {
        at: notes_report(tally, Thresholds(at / 100, at / 100, (0.5,) * 2), ("a", "b"))["model"]["pitch_accuracy"]
        for at in range(1, 100)
    }
    assert accuracies[round(chosen.pitch * 100)] == max(accuracies.values())
    assert 0.3 < chosen.pitch < 0.9
    assert best_threshold(torch.zeros(2, 100, dtype=torch.int64)) == 0.5


def test_the_auc_is_over_seconds_in_which_an_instrument_sounds_or_not() -> None:
    # Four seconds at ten frames each; the piano in the second and fourth, its score highest in the third.
    table = note_table([[note(1.2, 1.4), note(3.0, 3.9)]], ("cello", "piano"))
    zero = torch.tensor([0])
    rolls = make_rolls(table, zero, zero, num_frames=40, hop_s=0.1)
    roll = torch.zeros(1, 2, 88, 40)
    for second, value in enumerate((0.1, 0.5, 0.9, 0.7)):
        roll[0, 1, 0, second * 10 : second * 10 + 10] = value
    tally = Tally([4.0], 2, torch.device("cpu"))
    tally.add(frame_logits(roll), rolls, torch.ones(1, 40, dtype=torch.bool), zero, zero, 0.1)
    assert tally.seconds().aucs() == [None, 0.5]  # of four pairs two are in order; the cello never sounds


def test_reports_are_json_whatever_is_unknown() -> None:
    empty = rolls_of([], num_frames=4)
    tally = tally_of(frame_logits(torch.zeros(1, 3, 88, 4)), empty, torch.tensor([0]))
    report = notes_report(tally, best_thresholds(tally), CLASSES)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["model"]["pitch_accuracy"] is None
    assert report["model"]["instrument_macro_f1"] is None


def pixels(png: bytes) -> np.ndarray:
    from io import BytesIO

    from matplotlib.image import imread

    return imread(BytesIO(png))


def test_the_picture_shows_every_instrument_in_its_color_and_is_the_same_every_time() -> None:
    notes = [note(0, 4), note(1, 5, 64, "cello"), note(2, 3, 67, None)]
    timeline = {"piano": [[0.0, 4.0]], "cello": [[1.0, 5.0]]}
    first = piano_roll_png(notes, timeline, 6.0, CLASSES, title="a song")
    assert first == piano_roll_png(notes, timeline, 6.0, CLASSES, title="a song")
    image = pixels(first)[..., :3]
    assert image.shape[0] > 500
    for index, shown in ((0, True), (1, False), (2, True)):  # the drums do not play
        close = np.abs(image - np.array(color_of(index))).max(axis=-1) < 0.02
        assert bool(close.sum() > 1_000) is shown


def test_a_picture_of_silence_is_drawn_too() -> None:
    assert pixels(piano_roll_png([], {}, 3.0, CLASSES, title="silence")).shape[1] == 800


def test_twenty_classes_have_twenty_colors() -> None:
    assert len({color_of(index) for index in range(20)}) == 20


def test_a_table_moves_to_a_device_whole() -> None:
    table = note_table([[note(0, 1)]], CLASSES).to(torch.device("cpu"))
    assert isinstance(table, NoteTable)
    assert (table.num_instruments, len(table.onset_s)) == (3, 1)
