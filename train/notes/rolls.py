"""Notes as rolls at any hop: which cell of (instrument, pitch, frame) sounds.

    notes = table_of(arrays, ("piano", "violin"))          arrays: `train.notes.clips.read_notes`
    rolls = make_rolls(notes, clips_B, first_B, num_frames=313, hop_s=0.032)

The pianoroll summed over pitch is the instrument roll, summed over instruments the pitch roll
(Hung, Chen, Yang 2019). Cell f lasts from half a hop before frame f's center to half a hop after
it; a note fills the cells from that of its onset up to that of its offset, and never less than one.

Drums have an instrument roll and a "pitch" that is the key of the drum; no pitch roll. A note of no
class sounds all the same: where it alone has a pitch, the pitch roll is unknown.

Shapes: N clips, K notes of all clips, B windows, I instruments, P pitches, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutti.datasets.record import ABSENT, DRUMS, PRESENT, UNKNOWN, Seconds

LOWEST_PITCH, NUM_PITCHES = 21, 88  # A0 to C8: the piano's keys, and the bins of the CQT
UNPITCHED = ("cymbals", "drums")  # instruments whose note numbers name a sound, not a pitch
NO_CLASS = -1


@dataclass(frozen=True, eq=False)
class NoteTable:
    """Notes of some clips, end to end, as arrays; what lies outside the piano's range is left out."""

    starts: Tensor  # (N + 1,) int64; notes of clip n are starts[n] to starts[n + 1]
    onset_s: Tensor  # (K,) float64, in seconds of the clip
    offset_s: Tensor  # (K,) float64
    pitch: Tensor  # (K,) int64: 0 is A0
    instrument: Tensor  # (K,) int64: index of the class; NO_CLASS: none stands for it
    pitched: Tensor  # (I,) bool: classes that a pitch roll hears

    @property
    def num_instruments(self) -> int:
        """I."""
        return len(self.pitched)

    def to(self, device: torch.device) -> "NoteTable":
        """Move the table to a device."""
        return NoteTable(**{name: tensor.to(device) for name, tensor in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Rolls:
    """Sounding cells of some windows."""

    piano: Tensor  # (B, I, P, F) bool
    instrument: Tensor  # (B, I, F) int8: 1 sounds, 0 does not
    pitch: Tensor  # (B, P, F) int8: 1 sounds, 0 does not, -1: only an instrument of no class plays it


@dataclass(frozen=True)
class NoteArrays:
    """Notes of some clips, end to end, as they stand in shards."""

    counts: NDArray[np.int64]  # (N,): notes of each clip
    onset_s: NDArray[np.float64]  # (K,)
    offset_s: NDArray[np.float64]
    pitch: NDArray[np.int64]  # MIDI note number
    program: NDArray[np.int64]
    instrument: Sequence[str | None]  # (K,)


def table_of(notes: NoteArrays, instruments: Sequence[str]) -> NoteTable:
    """Make a table of notes, for classes in this order."""
    index_of = {name: index for index, name in enumerate(instruments)}
    instrument = np.array([index_of.get(name or "", NO_CLASS) for name in notes.instrument], np.int64)
    pitch = notes.pitch - LOWEST_PITCH
    # A drum of no class has neither an instrument nor a pitch: nothing to draw.
    kept = (pitch >= 0) & (pitch < NUM_PITCHES) & ((instrument != NO_CLASS) | (notes.program != DRUMS))
    clip_of_note = np.repeat(np.arange(len(notes.counts)), notes.counts)[kept]
    ends = np.cumsum(np.bincount(clip_of_note, minlength=len(notes.counts)))
    return NoteTable(
        starts=torch.from_numpy(np.concatenate([[0], ends]).astype(np.int64)),
        onset_s=torch.from_numpy(notes.onset_s[kept]),
        offset_s=torch.from_numpy(notes.offset_s[kept]),
        pitch=torch.from_numpy(pitch[kept]),
        instrument=torch.from_numpy(instrument[kept]),
        pitched=torch.tensor([name not in UNPITCHED for name in instruments], dtype=torch.bool),
    )


def cell_of(time_s: Tensor, hop_s: Seconds) -> Tensor:
    """Compute the frame, int64, whose cell a time lies in; frame f is centered on f hops."""
    return torch.floor(time_s.double() / hop_s + 0.5).long()


def make_rolls(notes: NoteTable, clips_B: Tensor, first_B: Tensor, *, num_frames: int, hop_s: Seconds) -> Rolls:
    """Draw rolls of windows of clips, on the device of the notes.

    Args:
        notes: of all clips.
        clips_B: the clip of each window.
        first_B: its first frame, in frames of the clip.
        num_frames: F.
        hop_s: from frame to frame.
    """
    device, batch, classes = notes.starts.device, len(clips_B), notes.num_instruments
    counts_B = notes.starts[clips_B + 1] - notes.starts[clips_B]
    row_L = torch.repeat_interleave(torch.arange(batch, device=device), counts_B)  # of the L notes of these clips
    before_B = counts_B.cumsum(0) - counts_B
    note_L = torch.arange(len(row_L), device=device) - before_B[row_L] + notes.starts[clips_B][row_L]
    begin_L = cell_of(notes.onset_s[note_L], hop_s)
    end_L = torch.maximum(cell_of(notes.offset_s[note_L], hop_s), begin_L + 1)
    begin_L = (begin_L - first_B[row_L]).clamp(0, num_frames)
    end_L = (end_L - first_B[row_L]).clamp(0, num_frames)
    # One more row, the last, for notes of no class; one more cell for notes that last to the end.
    instrument_L = torch.where(notes.instrument[note_L] == NO_CLASS, classes, notes.instrument[note_L])
    line_L = ((row_L * (classes + 1) + instrument_L) * NUM_PITCHES + notes.pitch[note_L]) * (num_frames + 1)
    change = torch.zeros(batch * (classes + 1) * NUM_PITCHES * (num_frames + 1), dtype=torch.int16, device=device)
    one_L = torch.ones_like(line_L, dtype=torch.int16)
    change.scatter_add_(0, line_L + begin_L, one_L).scatter_add_(0, line_L + end_L, -one_L)
    sounding = change.view(batch, classes + 1, NUM_PITCHES, num_frames + 1).cumsum(-1, dtype=torch.int16) > 0
    piano_BIPF, other_BPF = sounding[:, :classes, :, :-1], sounding[:, classes, :, :-1]
    return Rolls(piano_BIPF, instrument_roll(piano_BIPF), pitch_roll(piano_BIPF, notes.pitched, other_BPF))


def instrument_roll(piano_BIPF: Tensor) -> Tensor:
    """Pool (B, I, F) int8: an instrument sounds where any of its pitches does."""
    return piano_BIPF.any(dim=2).to(torch.int8)


def pitch_roll(piano_BIPF: Tensor, pitched_I: Tensor, other_BPF: Tensor) -> Tensor:
    """Pool (B, P, F) int8: a pitch sounds where any pitched instrument plays it; unknown where only another does."""
    by_class_BPF = piano_BIPF[:, pitched_I].any(dim=1)
    return torch.where(by_class_BPF, PRESENT, torch.where(other_BPF, UNKNOWN, ABSENT)).to(torch.int8)
