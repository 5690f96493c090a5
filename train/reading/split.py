"""A split decoded into memory: int16 samples of all clips, end to end, in the order of the shards.

audio = read_table(split_table(manifest, "train"))      decoded in every process
audio = hot_copy(manifest, "train", cache)              the same, mapped: decoded once (train.reading.hot_copy)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutti.train.reading.shards import SplitTable, read_audio


@dataclass(frozen=True)
class AudioSplit:
    """Decoded clips of a split."""

    table: SplitTable
    samples: NDArray[np.int16]

    def clip(self, index: int) -> NDArray[np.int16]:
        """Return the samples (T,) int16 of one clip."""
        return self.samples[self.table.offsets[index] : self.table.offsets[index + 1]]


def read_table(table: SplitTable) -> AudioSplit:
    """Decode the clips of a table into memory.

    Raises:
        IntegrityError: a clip is not what its row says.
    """
    audio = AudioSplit(table, np.empty(table.offsets[-1], np.int16))
    for group in table.groups:
        for clip, encoded in enumerate(read_audio(group), start=group.first):
            audio.clip(clip)[:] = table.decode(group.path, clip, encoded)
    return audio
