"""A split as CQT frames and notes, on one device; windows of both.

    clips = load_frame_clips(manifest, "train", recipe, instruments, device)
    cqt_BWQ = clips.windows(clips_B, first_B, num_frames)
    rolls = clips.rolls(clips_B, first_B, num_frames)

The CQT is computed once. Beyond a clip's end there is silence, and nothing sounds there.
Shapes: N clips, K notes of all clips, T frames of all clips, Q bins, B windows, W frames of a window.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.errors import UsageError
from datasets.manifest import Manifest
from datasets.record import Seconds
from datasets.shard import shard_table
from train.data import AudioSplit, read_split
from train.features.cqt import Cqt
from train.frames.recipe import FramesRecipe
from train.frames.rolls import NoteArrays, NoteTable, Rolls, make_rolls, table_of
from train.reading.checked import check_shards

_SAMPLES_AT_ONCE = 1 << 20  # of audio in one front-end batch: its products take six times as much

_FIELDS = ("onset_s", "offset_s", "pitch", "program", "instrument")


@dataclass(frozen=True, eq=False)
class FrameClips:
    """Clips of a split end to end, and their notes; tensors on one device."""

    frames: Tensor  # (T, Q) float16
    starts: Tensor  # (N,) int64: first frame of each clip
    lengths: Tensor  # (N,) int64: frames of each clip, at least 1
    notes: NoteTable
    hop_s: Seconds
    fill: float  # silence

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.frames.device

    def windows(self, clips_B: Tensor, first_B: Tensor, num_frames: int) -> Tensor:
        """CQT (B, W, Q) float32 of windows that begin at frame `first` of their clips."""
        frame_BW = first_B[:, None] + torch.arange(num_frames, device=self.device)
        last_B1 = self.lengths[clips_B][:, None] - 1
        window = self.frames[self.starts[clips_B][:, None] + torch.minimum(frame_BW, last_B1)].float()
        return torch.where((frame_BW > last_B1)[..., None], self.fill, window)

    def rolls(self, clips_B: Tensor, first_B: Tensor, num_frames: int) -> Rolls:
        """What sounds in the same windows."""
        return make_rolls(self.notes, clips_B, first_B, num_frames=num_frames, hop_s=self.hop_s)


def read_notes(manifest: Manifest, split: str) -> tuple[NoteArrays, NDArray[np.bool_]]:
    """The notes of all clips of a split, and (N,) which clips have a score at all, in the order of the shards.

    Raises:
        UsageError: no such split, or its shards hold no notes.
        IntegrityError: a shard cannot be read.
    """
    manifest.shard_paths(split)  # raises for an unknown split
    columns: list[pa.ListArray] = []
    for file in check_shards(manifest, manifest.shards(split), None, num_threads=1):
        with file.open() as shard:
            if "notes" not in shard.schema_arrow.names:
                raise UsageError(
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


def load_frame_clips(
    manifest: Manifest, split: str, recipe: FramesRecipe, instruments: Sequence[str], device: torch.device
) -> FrameClips:
    """The clips of a split that have a score; others teach nothing here and are left out.

    Raises:
        UsageError: no such split, no clip with a score in it, or another sample rate than the recipe's.
        IntegrityError: the data are damaged.
    """
    arrays, has_score = read_notes(manifest, split)
    audio = read_split(manifest, split)
    if not has_score.any():
        raise UsageError(f"{manifest.folder}: no clip of split {split!r} has notes; build with scores, or more data")
    if audio.sample_rate != recipe.cqt.sample_rate:
        raise UsageError(
            f"{manifest.folder}: clips at {audio.sample_rate} Hz, the recipe expects {recipe.cqt.sample_rate}; "
            f"train with --set cqt.sample_rate={audio.sample_rate}"
        )
    clips = np.flatnonzero(has_score)
    # A clip without a score has no notes either: leaving it out only shortens the list of counts.
    table = table_of(NoteArrays(**{**vars(arrays), "counts": arrays.counts[clips]}), instruments)
    return with_cqt(audio, clips, table.to(device), recipe, device)


def with_cqt(
    audio: AudioSplit, clips: NDArray[np.int64], notes: NoteTable, recipe: FramesRecipe, device: torch.device
) -> FrameClips:
    """Chosen clips of a split behind the front end, with their notes."""
    front_end = Cqt(recipe.cqt).to(device)
    sizes = np.diff(audio.offsets)[clips]
    lengths = np.array([recipe.cqt.num_frames(int(size)) for size in sizes], np.int64)
    starts = np.cumsum(lengths) - lengths
    frames = torch.empty((int(lengths.sum()), recipe.cqt.num_bins), dtype=torch.float16, device=device)
    gains_db = audio.remaining_gain_db(recipe.target_lufs, recipe.max_gain_db)[clips]
    gains = 10 ** (gains_db.astype(np.float64) / 20) / 32768
    for rows in _batches_of_one_size(sizes):
        waveform_BT = torch.from_numpy(np.stack([audio.clip(int(clips[row])) for row in rows])).to(device)
        scale_B1 = torch.from_numpy(gains[rows]).float().to(device)[:, None]
        with torch.inference_mode():
            heard_BFQ = front_end(waveform_BT.float() * scale_B1)
        for row, heard in zip(rows, heard_BFQ, strict=True):
            frames[starts[row] : starts[row] + len(heard)] = heard.half()
    return FrameClips(
        frames,
        torch.from_numpy(starts).to(device),
        torch.from_numpy(lengths).to(device),
        notes,
        recipe.cqt.hop_s,
        silence(recipe),
    )


def _batches_of_one_size(sizes: NDArray[np.int64]) -> Iterator[list[int]]:
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, size in enumerate(sizes.tolist()):
        rows_of[size].append(row)
    for size, rows in rows_of.items():
        step = max(1, _SAMPLES_AT_ONCE // size)
        for first in range(0, len(rows), step):
            yield rows[first : first + step]


def silence(recipe: FramesRecipe) -> float:
    """What the front end answers to digital silence."""
    return recipe.cqt.floor_db if recipe.cqt.scale == "db" else 0.0


def instruments_of(manifest: Manifest, recipe: FramesRecipe) -> tuple[str, ...]:
    """The classes of a run: those that the recipe names, or all that play in the training split, sorted.

    Raises:
        UsageError: nothing plays that a class stands for, or a class of the recipe never does.
    """
    arrays, _ = read_notes(manifest, "train")
    playing = {name for name in arrays.instrument if name is not None}
    if not playing:
        raise UsageError(
            f"{manifest.folder}: no note of split 'train' is of an instrument with a name; nothing to learn"
        )
    if missing := sorted(set(recipe.instruments) - playing):
        raise UsageError(
            f"{manifest.folder}: {', '.join(missing)} never plays in split 'train'; "
            f"train with --set instruments={','.join(sorted(playing & set(recipe.instruments)) or sorted(playing))}"
        )
    return recipe.instruments or tuple(sorted(playing))
