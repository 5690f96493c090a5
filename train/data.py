"""From the shards that a manifest lists to batches of log-mel windows.

    audio = read_split(read_manifest(folder), "train")      int16, one array, in memory
    logmel = logmel_split(audio, LogMel(config), device)    float16 frames, one tensor
    for batch in training_batches(logmel, ...): ...         random windows, one gather each

Shapes: N clips, C classes, T frames of all clips, W frames of a window, M mel bands, B windows.
"""

import io
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.audio import pcm_sha256
from datasets.errors import IntegrityError
from datasets.manifest import Manifest
from datasets.record import UNKNOWN, Decibels, Lufs
from datasets.shard import ShardInfo, open_shard, read_shard, shard_metadata
from train.features import LogMel

Batch: TypeAlias = tuple[Tensor, Tensor]  # log-mel (B, W, M) float32, presence (B, C) int8

_COLUMNS = ["id", "audio", "sample_rate", "num_samples", "presence", "loudness_lufs", "gain_db", "audio_sha256"]
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
        wanted = np.minimum(target_lufs - self.loudness_lufs, max_gain_db - self.gain_db)
        gain: NDArray[np.float32] = np.nan_to_num(np.maximum(wanted, 0), nan=0.0).astype(np.float32)
        return gain


def read_split(manifest: Manifest, split: str) -> AudioSplit:
    """Decode a split into memory: exactly the shards that the manifest lists, verified.

    Raises:
        UsageError: the dataset has no such split.
        IntegrityError: a shard or clip is not what the manifest or its own row says; the message
            names shard and clip.
    """
    manifest.shard_paths(split)  # raises for an unknown split
    infos = manifest.shards(split)
    for info in infos:
        _check_shard(manifest, info)
    lengths = [row["num_samples"] for info in infos for row in read_shard(manifest.folder / info.path, ["num_samples"])]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    samples = np.empty(offsets[-1], np.int16)
    rows: list[dict[str, Any]] = []
    sample_rates: set[int] = set()
    for info in infos:
        path = manifest.folder / info.path
        for row in read_shard(path, _COLUMNS):
            samples[offsets[len(rows)] : offsets[len(rows) + 1]] = _decode(path, row)
            del row["audio"]
            sample_rates.add(row["sample_rate"])
            rows.append(row)
    if len(sample_rates) > 1:
        raise IntegrityError(f"{manifest.folder}: split {split!r} mixes sample rates {sorted(sample_rates)}")
    return AudioSplit(
        ids=tuple(row["id"] for row in rows),
        sample_rate=next(iter(sample_rates), 0),
        samples=samples,
        offsets=offsets,
        presence=np.array([row["presence"] for row in rows], np.int8).reshape(len(rows), len(manifest.instruments)),
        loudness_lufs=np.array([row["loudness_lufs"] for row in rows], np.float32),  # None becomes NaN
        gain_db=np.array([row["gain_db"] for row in rows], np.float32),
    )


def _check_shard(manifest: Manifest, info: ShardInfo) -> None:
    path = manifest.folder / info.path
    shard = open_shard(path)
    if shard.metadata.num_rows != info.num_rows:
        raise IntegrityError(
            f"{path}: {shard.metadata.num_rows} rows, the manifest says {info.num_rows}; run pipelines.verify"
        )
    instruments = shard_metadata(shard.schema_arrow)["instruments"]
    if instruments != manifest.instruments:
        raise IntegrityError(f"{path}: labels {instruments}, the manifest {manifest.instruments}; run pipelines.verify")


def _decode(path: Path, row: dict[str, Any]) -> NDArray[np.int16]:
    where = f"{path}: clip {row['id']}"
    try:
        samples, sample_rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise IntegrityError(f"{where}: audio cannot be decoded ({error}); run pipelines.verify") from error
    if not samples.size:
        raise IntegrityError(f"{where}: holds no samples; run pipelines.verify")
    if samples.shape != (row["num_samples"],) or sample_rate != row["sample_rate"]:
        raise IntegrityError(
            f"{where}: audio of shape {samples.shape} at {sample_rate} Hz, its row says "
            f"{row['num_samples']} samples at {row['sample_rate']} Hz; run pipelines.verify"
        )
    if pcm_sha256(samples) != row["audio_sha256"]:
        raise IntegrityError(f"{where}: samples differ from audio_sha256; run pipelines.verify")
    strange = set(row["presence"]) - {-1, 0, 1}
    if strange:
        raise IntegrityError(f"{where}: presence {sorted(strange)}, expected 1, 0 or -1; run pipelines.verify")
    decoded: NDArray[np.int16] = samples
    return decoded


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
    audio: AudioSplit, front_end: LogMel, device: torch.device, *, target_lufs: Lufs, max_gain_db: Decibels
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
