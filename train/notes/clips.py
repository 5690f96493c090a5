"""The clips of a split that have a score: CQT frames, and their notes as rolls.

    clips = load_scored_clips(data, "train", recipe, instruments)
    for clips_B, window in clips.audio.batches(draws, num_frames, "zero"): ...
    rolls = clips.rolls(clips_B, first_B, num_frames)

Beyond a clip's end there is silence, and nothing sounds there.
Shapes: N clips of the split, K notes of all clips, B windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from tutti.datasets.errors import UsageError
from tutti.datasets.record import Seconds
from tutti.datasets.shard import shard_table
from tutti.train.clips import AnyClips
from tutti.train.data import Data, open_clips, open_table
from tutti.train.features.cqt import Cqt
from tutti.train.notes.recipe import NotesRecipe
from tutti.train.notes.rolls import NoteArrays, NoteTable, Rolls, make_rolls, table_of
from tutti.train.reading.checked import check_shards
from tutti.train.reading.order import Indices
from tutti.train.task import NothingToScoreError

_FIELDS = ("onset_s", "offset_s", "pitch", "program", "instrument")


@dataclass(frozen=True, eq=False)
class ScoredClips:
    """Clips of a split, and the notes of those that have a score; the others teach nothing here."""

    audio: AnyClips  # all clips of the split, those without a score without frames
    scored: Indices  # which clips have a score
    notes: NoteTable  # of all clips, on the device of the audio
    hop_s: Seconds

    def __len__(self) -> int:
        return len(self.scored)

    def rolls(self, clips_B: Tensor, first_B: Tensor, num_frames: int) -> Rolls:
        """Draw what sounds in windows that begin at frame `first` of their clips."""
        return make_rolls(self.notes, clips_B, first_B, num_frames=num_frames, hop_s=self.hop_s)


def load_scored_clips(data: Data, split: str, recipe: NotesRecipe, instruments: Sequence[str]) -> ScoredClips:
    """Open the clips of a split, and read their notes.

    Raises:
        UsageError: no such split, no notes in it, or another sample rate than the recipe's.
        NothingToScoreError: no clip of it has a score.
        IntegrityError: the data are damaged.
    """
    arrays, has_score = read_notes(data, split)
    if not has_score.any():
        folder = data.manifest.folder
        raise NothingToScoreError(f"{folder}: no clip of split {split!r} has notes; build with scores, or more data")
    table = open_table(data, split, recipe)
    audio = open_clips(data, split, table, recipe, "frames", Cqt(recipe.cqt), has_score)
    return ScoredClips(
        audio, np.flatnonzero(has_score), table_of(arrays, instruments).to(data.device), recipe.cqt.hop_s
    )


def read_notes(data: Data, split: str) -> tuple[NoteArrays, NDArray[np.bool_]]:
    """Read the notes of all clips of a split, and (N,) which clips have a score at all, in the order of the shards.

    Raises:
        UsageError: no such split.
        NothingToScoreError: its shards hold no notes.
        IntegrityError: a shard cannot be read.
    """
    manifest = data.manifest
    manifest.shard_paths(split)  # raises for an unknown split
    columns: list[pa.ListArray] = []
    for file in check_shards(manifest, manifest.shards(split), data.checked, num_threads=1):
        with file.open() as shard:
            if "notes" not in shard.schema_arrow.names:
                raise NothingToScoreError(
                    f"{manifest.folder}: clips of split {split!r} have no notes; this recipe learns from scores: "
                    "build --dataset musescore, or another dataset with notes"
                )
            columns += shard_table(shard, file.path, ["id", "notes"]).column("notes").chunks
    return _note_arrays(columns)


def _note_arrays(columns: Sequence[pa.ListArray]) -> tuple[NoteArrays, NDArray[np.bool_]]:
    counts = [column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for column in columns]
    has_score = [column.is_valid().to_numpy(zero_copy_only=False) for column in columns]
    flat = [column.flatten() for column in columns]  # leaves out what lies under nulls
    arrays = {name: [notes.field(name) for notes in flat] for name in _FIELDS}

    def joined(name: str, kind: type[np.generic]) -> NDArray[Any]:
        parts = [part.to_numpy(zero_copy_only=False) for part in arrays[name]]
        return np.concatenate([np.empty(0, kind), *parts], dtype=kind, casting="unsafe")

    return (
        NoteArrays(
            counts=np.concatenate([np.empty(0, np.int64), *counts]).astype(np.int64),
            onset_s=joined("onset_s", np.float64),
            offset_s=joined("offset_s", np.float64),
            pitch=joined("pitch", np.int64),
            program=joined("program", np.int64),
            instrument=[name for part in arrays["instrument"] for name in part.to_pylist()],
        ),
        np.concatenate([np.empty(0, bool), *has_score]).astype(bool),
    )


def instruments_of(data: Data, recipe: NotesRecipe) -> tuple[str, ...]:
    """Choose the classes of a run: those that the recipe names, or all that play in the training split, sorted.

    Raises:
        UsageError: nothing plays that a class stands for, or a class of the recipe never does.
    """
    arrays, _ = read_notes(data, "train")
    playing = {name for name in arrays.instrument if name is not None}
    folder = data.manifest.folder
    if not playing:
        raise UsageError(f"{folder}: no note of split 'train' is of an instrument with a name; nothing to learn")
    if missing := sorted(set(recipe.instruments) - playing):
        raise UsageError(
            f"{folder}: {', '.join(missing)} never plays in split 'train'; "
            f"train with --set instruments={','.join(sorted(playing & set(recipe.instruments)) or sorted(playing))}"
        )
    return recipe.instruments or tuple(sorted(playing))
