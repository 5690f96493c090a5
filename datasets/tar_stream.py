"""A tar that is read once, in order, from a file or a connection; nothing of it is held but one piece of a member.

    tar = TarStream(stream, length=None)
    for member in tar.members():
        if member.name in wanted:
            keep(tar.chunks(member))
    tar.problem        None where its end mark was met

The rules of `archive.py` hold: members are plain files with harmless names, headers and claims are bounded, and no
member is written to a path that it names.
"""

import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tutti.datasets.archive import MAX_HEADER_BYTES, MAX_MEMBER_BYTES, tar_members
from tutti.datasets.bounded import CHUNK_BYTES
from tutti.datasets.heartbeat import beat


class Forward(Protocol):
    """Bytes that are read onwards; what lies between is passed over."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes; fewer only at the end."""
        ...

    def seek(self, position: int, /) -> object:
        """Move to a byte further on."""
        ...

    def tell(self) -> int:
        """Return the place of the next byte."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A plain file in a tar."""

    name: str
    offset: int  # of its first byte
    size: int

    @property
    def end(self) -> int:
        """The place of the next header."""
        return -(-(self.offset + self.size) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


class EndsEarlyError(Exception):
    """The stream ends within a member."""


class TarStream:
    """The members of a tar in order.

    Args:
        stream: at the tar's first header, or at that of a later member.
        length: bytes of the whole tar; None: not known.
    """

    def __init__(self, stream: Forward, length: int | None) -> None:
        self._headers, self._length = _Headers(stream), length
        self.problem: str | None = "it was not read"  # why what was found may not be all; None: it is
        self.end = stream.tell()  # where the next header begins, as far as the tar was understood

    def members(self) -> Iterator[Member]:
        """Yield the members; ends where the tar does, or where it cannot be understood any more.

        Raises:
            OSError: the stream cannot be read.
            StorageError: likewise.
        """
        try:
            for info in tar_members(self._headers):  # type: ignore[arg-type]  # it reads, seeks and tells
                last = info.offset_data + info.size
                if self._length is not None and last > self._length:
                    raise ValueError(f"member {info.name!r} claims {info.size} bytes, more than there are")
                if self._length is None and info.size > MAX_MEMBER_BYTES:
                    raise ValueError(f"member {info.name!r} claims {info.size} bytes, above {MAX_MEMBER_BYTES}")
                member = Member(info.name, info.offset_data, info.size)
                yield member
                self.end = member.end
        except (tarfile.TarError, ValueError, EOFError, IndexError, RecursionError, struct.error) as error:
            self.problem = f"byte {self.end}: {error}"
            return
        # tarfile takes a header that it does not understand, and none at all, for the end.
        is_mark = self._headers.last == bytes(tarfile.BLOCKSIZE)
        self.problem = None if is_mark else f"byte {self.end}: neither a member nor an end mark"

    def chunks(self, member: Member) -> Iterator[bytes]:
        """Read a member in pieces, before the next member is asked for.

        Raises:
            EndsEarlyError: the stream ends before the member does.
        """
        yield from chunks_of(self._headers, member)


def chunks_of(stream: Forward, member: Member) -> Iterator[bytes]:
    """Read a member at its place in pieces; see `TarStream.chunks`."""
    stream.seek(member.offset)
    left = member.size
    while left:
        chunk = stream.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise EndsEarlyError(f"member {member.name!r} ends {left} bytes early")
        beat()
        left -= len(chunk)
        yield chunk


class _Headers:
    """A stream as tarfile wants it: bounded at each read, and the last byte can be read again."""

    def __init__(self, stream: Forward) -> None:
        self._stream = stream
        self._byte = b""  # the one before the stream's place
        self._again = False  # it is to be read once more
        self.last = b""  # what was read last

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"a header claims {size} bytes, above {MAX_HEADER_BYTES}")
        if self._again and size > 0:
            self._again = False
            return self._byte + (self.read(size - 1) if size > 1 else b"")
        content = self._stream.read(size)
        self.last = content
        if content:
            self._byte = content[-1:]
        return content

    def tell(self) -> int:
        return self._stream.tell() - self._again

    def seek(self, position: int) -> int:
        self._again = bool(self._byte) and position == self._stream.tell() - 1
        if not self._again and position != self._stream.tell():
            self._stream.seek(position)
            self._byte = b""
        return position
