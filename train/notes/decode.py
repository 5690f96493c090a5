"""Notes of a pianoroll of probabilities.

    notes = decode(probability_IPF, instruments, threshold=0.4, hop_s=0.032, config=DecodeConfig())

Shapes: I instruments, P pitches, F frames, R runs of cells.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.record import DRUMS, Note, Seconds
from tutti.datasets.scores.general_midi import instrument_of
from tutti.train.notes.rolls import LOWEST_PITCH

# Loudness is not estimated, and MIDI needs a velocity: mezzo-forte.
VELOCITY = 80


@dataclass(frozen=True)
class DecodeConfig:
    """Limits of one note."""

    max_gap_s: Seconds = 0.04  # a pause no longer than this is a slip: one frame at a hop of 32 ms
    min_note_s: Seconds = 0.05  # anything shorter is one, too: at that hop a note lasts two frames

    max_rest_s: Seconds = 0.5  # an instrument that rests no longer is still playing: a line of text, not of notes

    def __post_init__(self) -> None:
        if min(self.max_gap_s, self.min_note_s, self.max_rest_s) < 0:
            raise ValueError(f"max_gap_s, min_note_s and max_rest_s must not be negative, got {self}")


def decode(
    probability_IPF: NDArray[np.floating],
    instruments: Sequence[str],
    *,
    threshold: float,
    hop_s: Seconds,
    config: DecodeConfig,
) -> tuple[Note, ...]:
    """List notes by onset, in seconds; a cell lasts from half a hop before its frame's center to half a hop after it.

    Args:
        probability_IPF: of each cell; drums have their key as pitch.
        instruments: names of the classes.
        threshold: a cell sounds from here on.
        hop_s: from frame to frame.
        config: what to join and what to leave out.
    """
    line_R, begin_R, end_R = runs(np.asarray(probability_IPF) >= threshold)
    line_R, begin_R, end_R = joined(line_R, begin_R, end_R, max_gap=int(config.max_gap_s / hop_s + 1e-9))
    num_pitches = probability_IPF.shape[1]
    notes = []
    for line, begin, end in zip(line_R.tolist(), begin_R.tolist(), end_R.tolist(), strict=True):
        if (end - begin) * hop_s < config.min_note_s:
            continue
        name = instruments[line // num_pitches]
        onset_s, offset_s = max(0.0, (begin - 0.5) * hop_s), (end - 0.5) * hop_s
        pitch = LOWEST_PITCH + line % num_pitches
        notes.append(Note(onset_s, offset_s, pitch, program_of(name), name, VELOCITY))
    return tuple(sorted(notes, key=lambda note: (note.onset_s, note.pitch, note.program, note.offset_s)))


Runs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def runs(sounding: NDArray[np.bool_]) -> Runs:
    """Find line, first cell and cell after the last one (R,) of every run along the last axis, line by line."""
    lines = sounding.reshape(-1, sounding.shape[-1]).astype(np.int8)
    change = np.diff(lines, axis=1, prepend=0, append=0)
    line_R, begin_R = np.nonzero(change == 1)
    return line_R, begin_R, np.nonzero(change == -1)[1]


def joined(line_R: NDArray[np.int64], begin_R: NDArray[np.int64], end_R: NDArray[np.int64], *, max_gap: int) -> Runs:
    """Join runs of one line with at most so many cells between them."""
    if not len(line_R):
        return line_R, begin_R, end_R
    apart = (np.diff(line_R) != 0) | (begin_R[1:] - end_R[:-1] > max_gap)
    return line_R[np.append(True, apart)], begin_R[np.append(True, apart)], end_R[np.append(apart, True)]


@functools.cache
def program_of(instrument: str) -> int:
    """Choose the first General MIDI program that stands for an instrument; 0, the piano, where none does."""
    if instrument_of(DRUMS) == instrument:
        return DRUMS
    return next((program for program in range(DRUMS) if instrument_of(program) == instrument), 0)
