"""Clips of a split in memory: from the shards that a manifest lists to samples and log-mel frames.

    audio = read_split(read_manifest(folder), "train")      int16, one array, in memory
    audio = hot_copy(read_manifest(folder), "train", cache) the same, mapped: decoded once (train.reading.hot_copy)
    logmel = logmel_split(audio, LogMel(config), device)    float16 frames, one tensor

Shapes: N clips, C classes, T frames of all clips, M mel bands.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.errors import IntegrityError
from datasets.manifest import Manifest
from datasets.record import Decibels, Lufs
from train.features import KaldiFbank, LogMel
from train.reading.shards import SplitTable, read_audio, remaining_gain_db, split_table

_SAMPLES_AT_ONCE = 1 << 22  # of audio in one front-end batch: 16 MiB of float32


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
        """Return the samples (T,) int16 of one clip."""
        return self.samples[self.offsets[index] : self.offsets[index + 1]]

    def remaining_gain_db(self, target_lufs: Lufs, max_gain_db: Decibels) -> NDArray[np.float32]:
        """Compute the gain (N,) in dB that the build's true-peak guard left out, to apply in float.

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
    """Combine a table and its clips' samples, end to end, to a split."""
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
    """Log-mel frames of a split, end to end; everything on one device."""

    frames: Tensor  # (T, M) float16, dB: a step of at most 0.06 dB
    starts: Tensor  # (N,) int64: first frame of each clip
    lengths: Tensor  # (N,) int64: frames of each clip, at least 1


def logmel_split(
    audio: AudioSplit, front_end: LogMel | KaldiFbank, device: torch.device, *, target_lufs: Lufs, max_gain_db: Decibels
) -> LogMelSplit:
    """Compute log-mel of every clip, once; clips of one length share a batch.

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
    )


def _batches_of_one_length(num_samples: NDArray[np.int64]) -> Iterator[list[int]]:
    clips_of: dict[int, list[int]] = defaultdict(list)
    for clip, size in enumerate(num_samples.tolist()):
        clips_of[size].append(clip)
    for size, clips in clips_of.items():
        step = max(1, _SAMPLES_AT_ONCE // max(size, 1))
        for first in range(0, len(clips), step):
            yield clips[first : first + step]


def num_batches(num_clips: int, batch_size: int) -> int:
    """Count the batches of an epoch."""
    return math.ceil(num_clips / batch_size)
