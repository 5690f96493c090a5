"""Read an archive member by member: zip, tar, and nothing ever unpacked to a path it names.

A name is a key, not a place: no member is written anywhere. Links, devices and folders are not
members. A gzipped tar has no random access: the download stage stores it as a plain tar.
"""

import errno
import functools
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from datasets.errors import IntegrityError

MAX_MEMBER_BYTES = 1 << 30  # far above any audio file or label table of our corpora


class Archive(Protocol):
    """Named byte strings."""

    def names(self) -> Iterator[str]:
        """Names of the regular files, in the order of the archive."""
        ...

    def read(self, name: str) -> bytes:
        """Content of one member; raises IntegrityError if it is absent or damaged."""
        ...


@functools.lru_cache(maxsize=16)
def open_archive(path: Path, label: str) -> Archive:
    """Open a zip or a plain tar for random access; one handle per process.

    Args:
        path: the archive; in the cache its name is a digest.
        label: what errors call it: its upstream file name.

    Raises:
        IntegrityError: the file is neither, or its directory is damaged.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        # Not zipfile.is_zipfile: it also finds a zip that is the last member of a tar (OpenMIC's npz).
        return _Zip(path, label) if magic[:2] == b"PK" else _Tar(path, label)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        ValueError,
        NotImplementedError,
        IndexError,
        struct.error,
    ) as error:
        raise IntegrityError(
            f"{label}: not a readable zip or tar archive ({error}); delete it and download it again"
        ) from error


def repair_name(info: zipfile.ZipInfo) -> str:
    """A member's name as its maker meant it.

    Without the UTF-8 flag (bit 11) a zip promises cp437, but most tools write UTF-8 anyway;
    bytes that are valid UTF-8 are taken as UTF-8 (IRMAS: "Canto das três raças").
    """
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


class _Zip:
    def __init__(self, path: Path, label: str) -> None:
        self._label = label
        self._zip = zipfile.ZipFile(path)
        self._members = {repair_name(i): i for i in self._zip.infolist() if _is_file(i)}

    def names(self) -> Iterator[str]:
        yield from self._members

    def read(self, name: str) -> bytes:
        info = self._members.get(name)
        if info is None:
            raise IntegrityError(f"{self._label}: has no member {name!r}")
        _check_size(self._label, name, info.file_size)
        try:
            return self._zip.read(info)  # checks the CRC
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            ValueError,
            IndexError,
            struct.error,
            OSError,
        ) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a seek to before the file
                raise
            raise IntegrityError(f"{self._label}: member {name!r} is damaged ({error})") from error


def _is_file(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the maker was no Unix
    return not info.is_dir() and kind in (0, stat.S_IFREG)


class _Tar:
    def __init__(self, path: Path, label: str) -> None:
        self._label = label
        with tarfile.open(path, mode="r:") as tar:
            self._members = {m.name: (m.offset_data, m.size) for m in tar if m.isreg()}
        self._file = os.open(path, os.O_RDONLY)  # pread: no shared position between threads

    def names(self) -> Iterator[str]:
        yield from self._members

    def read(self, name: str) -> bytes:
        if name not in self._members:
            raise IntegrityError(f"{self._label}: has no member {name!r}")
        offset, size = self._members[name]
        _check_size(self._label, name, size)
        content = os.pread(self._file, size, offset)
        if len(content) != size:
            raise IntegrityError(f"{self._label}: ends inside member {name!r}")
        return content


def _check_size(label: str, name: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise IntegrityError(f"{label}: member {name!r} claims {size} bytes, above {MAX_MEMBER_BYTES}")
