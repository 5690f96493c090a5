"""From the shards that a manifest lists to batches of log-mel windows.

    audio = read_split(read_manifest(folder), "train")      int16, one array, in memory
    audio = hot_copy(read_manifest(folder), "train", cache) the same, mapped: decoded once (train.reading.hot_copy)
    logmel = logmel_split(audio, LogMel(config), device)    float16 frames, one tensor
    for batch in training_batches(logmel, ...): ...         random windows, one gather each

Shapes: N clips, C classes, T frames of all clips, W frames of a window, M mel bands, B windows.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.errors import IntegrityError
from datasets.manifest import Manifest
from datasets.record import UNKNOWN, Decibels, Lufs
from train.features import KaldiFbank, LogMel
from train.reading.shards import SplitTable, read_audio, remaining_gain_db, split_table

Batch: TypeAlias = tuple[Tensor, Tensor]  # log-mel (B, W, M) float32, presence (B, C) int8

_SAMPLES_AT_ONCE = 1 << 22  # of audio in one front-end batch: 16 MiB of float32
_ORDER, _WINDOWS = 0, 1  # random streams of an epoch


@dataclass(frozen=True)
class AudioSplit:
    """Decoded clips of a split, in the order of the shards."""

    ids: tuple[str, ...]
    sample_rate: int
    samples: NDArray[np.int16]  # all clips, end to end
    offsets: NDArray[np.int64]  # (N + 1,); clip n is samples[offsets[n]:offsets[n + 1]]
    presence: NDArray[np.int8]  # (N, C)
    loudness_lufs: NDArray[np.float32]  # (N,), as stored; NaN: not measurable
    gain_db: NDArray[np.float32]  # (N,), applied by the build

    def __len__(self) -> int:
        return len(self.ids)

    def clip(self, index: int) -> NDArray[np.int16]:
        """Samples of one clip."""
        return self.samples[self.offsets[index] : self.offsets[index + 1]]

    def remaining_gain_db(self, target_lufs: Lufs, max_gain_db: Decibels) -> NDArray[np.float32]:
        """(N,): what the build's true-peak guard held back, for training to apply in float.

        Build and training together stay within `max_gain_db`; 0 where loudness is not known.
        """
        return remaining_gain_db(self.loudness_lufs, self.gain_db, target_lufs, max_gain_db)


def read_split(manifest: Manifest, split: str) -> AudioSplit:
    """Decode a split into memory: exactly the shards that the manifest lists, verified.

    Raises:
        UsageError: the dataset has no such split.
        IntegrityError: a shard or clip is not what the manifest or its own row says; the message
            names shard and clip.
    """
    return read_table(split_table(manifest, split))


def read_table(table: SplitTable) -> AudioSplit:
    """Decode the clips of a table into memory.

    Raises:
        IntegrityError: a clip is not what its row says.
    """
    offsets = table.offsets
    samples = np.empty(offsets[-1], np.int16)
    for group in table.groups:
        for clip, audio in enumerate(read_audio(group), start=group.first):
            samples[offsets[clip] : offsets[clip + 1]] = table.decode(group.path, clip, audio)
    return audio_split(table, samples)


def audio_split(table: SplitTable, samples: NDArray[np.int16]) -> AudioSplit:
    """A split whose samples are at hand, all clips end to end."""
    return AudioSplit(
        ids=table.ids,
        sample_rate=table.sample_rate,
        samples=samples,
        offsets=table.offsets,
        presence=table.presence,
        loudness_lufs=table.loudness_lufs,
        gain_db=table.gain_db,
    )


@dataclass(frozen=True)
class LogMelSplit:
    """Log-mel frames of a split, end to end, and its labels; everything on one device."""

    frames: Tensor  # (T, M) float16, dB: a step of at most 0.06 dB
    starts: Tensor  # (N,) int64: first frame of each clip
    lengths: Tensor  # (N,) int64: frames of each clip, at least 1
    presence: Tensor  # (N, C) int8

    def __len__(self) -> int:
        return len(self.starts)

    def windows(self, clips_B: Tensor, first_B: Tensor, num_frames: int) -> Tensor:
        """Windows (B, W, M) float32 that begin at frame `first` of their clips.

        What lies beyond the end is filled by repeating the clip from its start (Lumen 2023).
        """
        steps_W = torch.arange(num_frames, device=self.frames.device)
        within_BW = (first_B[:, None] + steps_W) % self.lengths[clips_B][:, None]
        return self.frames[self.starts[clips_B][:, None] + within_BW].float()


def logmel_split(
    audio: AudioSplit, front_end: LogMel | KaldiFbank, device: torch.device, *, target_lufs: Lufs, max_gain_db: Decibels
) -> LogMelSplit:
    """Log-mel of every clip, once; clips of one length share a batch.

    Raises:
        IntegrityError: the clips have another sample rate than the front end.
    """
    config = front_end.config
    if len(audio) and audio.sample_rate != config.sample_rate:
        raise IntegrityError(f"clips at {audio.sample_rate} Hz, the front end expects {config.sample_rate} Hz")
    num_samples = np.diff(audio.offsets)
    lengths = np.array([config.num_frames(int(size)) for size in num_samples], np.int64)
    starts = np.cumsum(lengths) - lengths
    frames = torch.empty((int(lengths.sum()), config.n_mels), dtype=torch.float16, device=device)
    gains = 10 ** (audio.remaining_gain_db(target_lufs, max_gain_db).astype(np.float64) / 20) / 32768
    front_end = front_end.to(device)
    for clips in _batches_of_one_length(num_samples):
        waveform_BT = torch.from_numpy(np.stack([audio.clip(n) for n in clips])).to(device)
        scale_B1 = torch.from_numpy(gains[clips]).float().to(device)[:, None]
        with torch.inference_mode():
            logmel_BFM = front_end(waveform_BT.float() * scale_B1)
        for row, clip in zip(logmel_BFM, clips, strict=True):
            frames[starts[clip] : starts[clip] + len(row)] = row.half()
    return LogMelSplit(
        frames,
        torch.from_numpy(starts).to(device),
        torch.from_numpy(lengths).to(device),
        torch.from_numpy(audio.presence).to(device),
    )


def _batches_of_one_length(num_samples: NDArray[np.int64]) -> Iterator[list[int]]:
    clips_of: dict[int, list[int]] = defaultdict(list)
    for clip, size in enumerate(num_samples.tolist()):
        clips_of[size].append(clip)
    for size, clips in clips_of.items():
        step = max(1, _SAMPLES_AT_ONCE // max(size, 1))
        for first in range(0, len(clips), step):
            yield clips[first : first + step]


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, stream])


def training_batches(
    split: LogMelSplit, clips: NDArray[np.int64], *, window_frames: int, batch_size: int, seed: int, epoch: int
) -> Iterator[Batch]:
    """One random window of every chosen clip, in random order: a function of (seed, epoch) alone.

    Batches are nearly equal in size, so that no small last one upsets the batch norm.
    """
    order = _generator(seed, epoch, _ORDER).permutation(clips)
    room = (split.lengths.cpu().numpy() - window_frames).clip(min=0) + 1  # a short clip begins at its start
    first = (_generator(seed, epoch, _WINDOWS).random(len(split)) * room).astype(np.int64)
    device = split.frames.device
    for batch in np.array_split(order, num_batches(len(clips), batch_size)):
        clips_B = torch.from_numpy(batch).to(device)
        first_B = torch.from_numpy(first[batch]).to(device)
        yield split.windows(clips_B, first_B, window_frames), split.presence[clips_B]


def num_batches(num_clips: int, batch_size: int) -> int:
    """Batches of an epoch."""
    return math.ceil(num_clips / batch_size)


def labelled_clips(presence_NC: NDArray[np.int8]) -> NDArray[np.int64]:
    """Indices of clips with at least one known label."""
    return np.flatnonzero((presence_NC != UNKNOWN).any(axis=1))


def chunks(split: LogMelSplit, window_frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Consecutive windows that cover every clip: (clip, first frame) of each, in order.

    A window that passes the end of its clip is filled from the clip's start (Lumen 2023: 10 s
    make four chunks, the last of them 1 s and the first 2 s).
    """
    counts = -(-split.lengths.cpu().numpy() // window_frames)
    clips = np.repeat(np.arange(len(split)), counts)
    index_within = np.arange(len(clips)) - np.repeat(np.cumsum(counts) - counts, counts)
    return clips, index_within * window_frames
