"""Chunks of stems: cut from samples in memory, or decoded one by one from where they lie in the shards.

    audio = ResidentStems(samples, offsets)         int16 on the device, also of a hot copy that is mapped
    audio = StreamedStems(table)                    nothing is held: a chunk is sought in its FLAC file
    window_KT = audio.windows(rows, first, length)  float32 of full scale; silence beyond a stem's end

Both answer the same samples. Shapes: K chunks, T samples.
"""

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tutti.datasets.copies import copy_of
from tutti.datasets.errors import IntegrityError
from tutti.train.reading.checked import CheckedShard
from tutti.train.reading.order import PCM_SCALE
from tutti.train.reading.resident import gather
from tutti.train.reading.shards import RowGroup, SplitTable, read_audio
from tutti.train.stems.songs import Indices

_AUDIO = "audio.bytes"  # the column of audio files
_HEAD_BYTES = 64  # of a file, by which it is found: FLAC's header has a digest of the samples


class StemAudio(Protocol):
    """The samples of a split's clips, by row."""

    @property
    def streamed(self) -> bool:
        """Whether they are read when they are wanted."""
        ...

    def windows(self, rows: Indices, first: Indices, length: int) -> Tensor:
        """Cut windows (K, T) float32 that begin at sample `first` of their rows; zeros beyond the ends."""
        ...


@dataclass(frozen=True, eq=False)
class ResidentStems:
    """All samples of a split end to end, on the device."""

    samples: Tensor  # (S,) int16
    offsets: Tensor  # (N + 1,) int64
    streamed: bool = False

    def windows(self, rows: Indices, first: Indices, length: int) -> Tensor:
        """Cut windows (K, T) float32 that begin at sample `first` of their rows; zeros beyond the ends."""
        rows_K, first_K = (torch.from_numpy(part).to(self.samples.device) for part in (rows, first))
        return gather(self.samples, self.offsets, rows_K, first_K, length, fill="zero")


@dataclass(frozen=True)
class _Place:
    """An audio file within a shard."""

    file: CheckedShard
    offset: int
    num_bytes: int


class StreamedStems:
    """Audio files of a split, left where they lie.

    Shards were compared with the manifest when the table was read; of a chunk FLAC's own checks remain.
    """

    streamed = True

    def __init__(self, table: SplitTable) -> None:
        self._table = table
        self._places = [place for group in table.groups for place in _places(group)]

    def windows(self, rows: Indices, first: Indices, length: int) -> Tensor:
        """Decode windows (K, T) float32 that begin at sample `first` of their rows; zeros beyond the ends.

        Raises:
            IntegrityError: a file is damaged, or is no longer what it was; the message names shard and clip.
        """
        pcm_KT = np.zeros((len(rows), length), np.int16)
        for window_T, row, begin in zip(pcm_KT, rows.tolist(), first.tolist(), strict=True):
            count = min(length, int(self._table.sizes[row]) - begin)
            if count > 0:
                place = self._places[row]
                with _opened(place) as file:
                    self._table.decode_part(place.file.path, row, file, begin, window_T[:count])
        return torch.from_numpy(pcm_KT).float() * PCM_SCALE


def _places(group: RowGroup) -> list[_Place]:
    """Find the audio files of a row group by their bytes: Parquet keeps them whole, each behind its length.

    Raises:
        IntegrityError: they do not lie there so.
    """
    with group.file.open() as shard:
        columns = [shard.metadata.row_group(group.index).column(index) for index in range(shard.metadata.num_columns)]
    (column,) = [column for column in columns if column.path_in_schema == _AUDIO]
    begin = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
    with _opened(_Place(group.file, begin, column.total_compressed_size)) as stream:
        chunk = stream.read()
    places, cursor = [], 0
    for row, audio in enumerate(read_audio(group)):
        found = -1
        if audio is not None:
            view = memoryview(audio).cast("B")  # Arrow: signed bytes
            cursor = chunk.find(struct.pack("<I", len(view)) + bytes(view[:_HEAD_BYTES]), cursor) + 4
            found = cursor if cursor >= 4 and chunk[cursor : cursor + len(view)] == view else -1
        if found < 0:
            raise IntegrityError(
                f"{group.path}: audio of row {group.first + row} does not lie in the file as it is; "
                "set compute.reading=resident"
            )
        places.append(_Place(group.file, begin + found, len(view)))
        cursor = found + len(view)
    return places


def _opened(place: _Place) -> "_Part":
    """Open the bytes of a place; another file than the one that was checked is refused."""
    descriptor = os.open(place.file.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    if copy_of(os.fstat(descriptor)) != place.file.copy:
        os.close(descriptor)
        raise IntegrityError(f"{Path(place.file.path)}: changed while it was read; run pipelines.verify --repair")
    return _Part(descriptor, place.offset, place.num_bytes)


class _Part(io.RawIOBase):
    """Some bytes of a file as a file of their own; nothing is read ahead."""

    def __init__(self, descriptor: int, offset: int, num_bytes: int) -> None:
        self._descriptor, self._offset, self._num_bytes, self._position = descriptor, offset, num_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes from the position on."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._num_bytes - self._position)
        content = os.pread(self._descriptor, wanted, self._offset + self._position) if wanted > 0 else b""
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._num_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
