"""A split decoded into memory: int16 samples of all clips, end to end.

    audio = read_split(read_manifest(folder), "train")      decoded in every process
    audio = hot_copy(read_manifest(folder), "train", cache) the same, mapped: decoded once (train.reading.hot_copy)

Shapes: N clips, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.manifest import Manifest
from datasets.record import Decibels, Lufs
from train.reading.shards import SplitTable, read_audio, remaining_gain_db, split_table


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
