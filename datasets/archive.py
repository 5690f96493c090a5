"""Read an archive member by member: zip, tar, and nothing ever unpacked to a path it names.

A name is a key, not a place: no member is written anywhere. Only plain files with harmless names
are members: no links, devices, folders, sparse or setuid files, no name that leads elsewhere. A name
that occurs twice is a member that cannot be read, because it is unknown which one was meant; names
that differ in case are two names. A gzipped tar has no random access: the download stage stores it
as a plain tar (`gunzip`).
"""

import copy
import errno
import functools
import gzip
import io
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from isal import igzip, isal_zlib

from tutti.datasets.bounded import CHUNK_BYTES
from tutti.datasets.errors import IntegrityError
from tutti.datasets.heartbeat import beat

# Far above our corpora: an archive that passes one of them is a bomb, or damaged.
MAX_MEMBER_BYTES = 1 << 30  # the largest label table (NSynth's examples.json) has 0.2 GB
MAX_MEMBERS = 1_000_000  # NSynth train, the largest, has 289,206
MAX_DIRECTORY_BYTES = 128 << 20  # of a zip; a million members with names of 80 bytes
MAX_HEADER_BYTES = 1 << 20  # of a tar member, with its long name and its PAX records
MAX_RATIO = 100.0  # unpacked to packed; sound and text reach 20, a deflate bomb 1,032
RATIO_FLOOR_BYTES = 64 << 20  # below, a high ratio does no harm: minutes of digital silence have it
MAX_UNPACKED_BYTES = 1 << 40  # of a .tgz; NSynth train has 37 GB

_INFLATE_ERROR: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]  # its stub calls it an instance
_DRIVE = re.compile(r"[A-Za-z]:")


class Archive(Protocol):
    """Named byte strings."""

    def names(self) -> Iterator[str]:
        """List the names of the regular files, in the order of the archive."""
        ...

    def read(self, name: str) -> bytes:
        """Read the content of one member; raises IntegrityError if it is absent or damaged."""
        ...

    def size(self, name: str) -> int:
        """Return the number of bytes that a member claims to have; raises IntegrityError if it is absent."""
        ...


def open_archive(path: Path, label: str) -> Archive:
    """Open a zip or a plain tar for random access; one handle per process, and a new one for a new file.

    Args:
        path: the archive; in the cache its name is a digest.
        label: what errors call it: its upstream file name.

    Raises:
        IntegrityError: the file is neither, its directory is damaged, or it holds far too much.
    """
    status = path.stat()
    return _opened(path, label, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=16)
def _opened(path: Path, label: str, _identity: tuple[int, ...]) -> Archive:
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
        RecursionError,  # PAX records upon PAX records
        struct.error,
    ) as error:
        raise IntegrityError(
            f"{label}: not a readable zip or tar archive ({error}); delete it and download it again"
        ) from error


def repair_name(info: zipfile.ZipInfo) -> str:
    """Recover the name that the archive's maker gave a member.

    Without the UTF-8 flag (bit 11) a zip promises cp437, but most tools write UTF-8 anyway;
    bytes that are valid UTF-8 are taken as UTF-8 (IRMAS: "Canto das três raças").
    """
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def is_harmless(name: str) -> bool:
    """Whether a name would stay below a folder on every system, and means what it shows."""
    return not (
        not name
        or name.startswith("/")
        or "\\" in name
        or "\0" in name
        or ".." in name.split("/")
        or _DRIVE.match(name)
        or any("\ud800" <= character <= "\udfff" for character in name)  # bytes that are no UTF-8
    )


def _repeated(names: Iterable[str]) -> dict[str, int]:
    """Count the names that occur more than once."""
    return {name: count for name, count in Counter(names).items() if count > 1}


def _check_unique(label: str, name: str, repeated: dict[str, int]) -> None:
    if count := repeated.get(name):
        raise IntegrityError(f"{label}: holds {count} members named {name!r}, and which one is meant nobody knows")


def _check_size(label: str, name: str, size: int, packed: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise IntegrityError(f"{label}: member {name!r} claims {size} bytes, above {MAX_MEMBER_BYTES}")
    if size > RATIO_FLOOR_BYTES and size > MAX_RATIO * packed:
        raise IntegrityError(f"{label}: member {name!r} claims {size} bytes out of {packed}: a decompression bomb")


class _Capped(io.BufferedReader):
    """A file that hands out only so much at once: parsers believe the sizes that a file claims."""

    most_bytes: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.most_bytes is not None and size is not None and size > self.most_bytes:
            raise ValueError(f"its directory claims {size} bytes, above {self.most_bytes}")
        return super().read(size)


class _Zip:
    def __init__(self, path: Path, label: str) -> None:
        self._label = label
        stream = _Capped(io.FileIO(path))
        try:
            stream.most_bytes = MAX_DIRECTORY_BYTES
            self._zip = zipfile.ZipFile(stream)
            stream.most_bytes = None
            infos = self._zip.infolist()
            _check_count(len(infos))
        except BaseException:
            stream.close()
            raise
        named = [(repair_name(info), info) for info in infos if _is_file(info)]
        # zipfile ends a name at its first NUL: "x\0y.wav" is "x".
        named = [(name, info) for name, info in named if is_harmless(name) and "\0" not in info.orig_filename]
        self._members = dict(named)
        self._repeated = _repeated(name for name, _ in named)

    def names(self) -> Iterator[str]:
        yield from self._members

    def read(self, name: str) -> bytes:
        info = self._members.get(name)
        if info is None:
            raise IntegrityError(f"{self._label}: has no member {name!r}")
        _check_unique(self._label, name, self._repeated)
        _check_size(self._label, name, info.file_size, info.compress_size)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Not bzip2 or LZMA either: Python unpacks a block of theirs as a whole, however large.
            raise IntegrityError(
                f"{self._label}: member {name!r} is packed with method {info.compress_type}; "
                "pack the archive again with deflate"
            )
        try:
            return self._content(info)
        except (
            zipfile.BadZipFile,
            _INFLATE_ERROR,
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

    def size(self, name: str) -> int:
        if name not in self._members:
            raise IntegrityError(f"{self._label}: has no member {name!r}")
        return self._members[name].file_size

    def _content(self, info: zipfile.ZipInfo) -> bytes:
        # zipfile finds the packed bytes, ISA-L unpacks them twice as fast as zlib does for it.
        packed = copy.copy(info)
        packed.compress_type, packed.file_size = zipfile.ZIP_STORED, packed.compress_size
        del packed.CRC  # of what is unpacked
        # One byte more than there can be: deflate makes nothing longer by more than an eighth.
        most = info.file_size + (1 if info.compress_type == zipfile.ZIP_STORED else info.file_size // 8 + 1024)
        with self._zip.open(packed) as stream:
            content = stream.read(most)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            inflate = isal_zlib.decompressobj(-zlib.MAX_WBITS)
            content = inflate.decompress(content, info.file_size + 1)  # zipfile would stop there without a word
            if not inflate.eof and len(content) <= info.file_size:
                raise ValueError(f"ends after {len(content)} of {info.file_size} bytes")
        if len(content) != info.file_size:
            raise ValueError(f"unpacks to {len(content)} bytes or more, not to the {info.file_size} that it claims")
        if isal_zlib.crc32(content) != info.CRC:
            raise ValueError("bad CRC-32")
        return content


def _check_count(count: int) -> None:
    if count > MAX_MEMBERS:
        raise ValueError(f"it holds more than {MAX_MEMBERS} members")


def _is_file(info: zipfile.ZipInfo) -> bool:
    mode = info.external_attr >> 16  # 0 where the maker was no Unix
    return not info.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG) and not mode & (stat.S_ISUID | stat.S_ISGID)


class _Tar:
    def __init__(self, path: Path, label: str) -> None:
        self._label = label
        with _Capped(io.FileIO(path)) as stream:
            stream.most_bytes = MAX_HEADER_BYTES
            named = [(info.name, info.offset_data, info.size) for info in tar_members(stream, whole=True)]
        self._members = {name: (offset, size) for name, offset, size in named}
        self._repeated = _repeated(name for name, _, _ in named)
        self._file = os.open(path, os.O_RDONLY)  # pread: no shared position between threads

    def names(self) -> Iterator[str]:
        yield from self._members

    def read(self, name: str) -> bytes:
        if name not in self._members:
            raise IntegrityError(f"{self._label}: has no member {name!r}")
        _check_unique(self._label, name, self._repeated)
        offset, size = self._members[name]
        _check_size(self._label, name, size, size)
        content = os.pread(self._file, size, offset)
        if len(content) != size:
            raise IntegrityError(f"{self._label}: ends inside member {name!r}")
        return content

    def size(self, name: str) -> int:
        if name not in self._members:
            raise IntegrityError(f"{self._label}: has no member {name!r}")
        return self._members[name][1]


def _next_member(tar: tarfile.TarFile, last: str) -> tarfile.TarInfo | None:
    """Read the next header; raises tarfile.ReadError that names the member behind which there is none."""
    try:
        return tar.next()
    except tarfile.ReadError as error:
        raise tarfile.ReadError(f"{error}, in or after member {last!r}" if last else str(error)) from error


def tar_members(stream: IO[bytes], *, whole: bool = False) -> Iterator[tarfile.TarInfo]:
    """Yield the plain files with harmless names of a tar, from where the stream is.

    Args:
        stream: at a header.
        whole: whether an end mark must follow; tarfile takes anything that is no header for the end, and none at all.

    Raises:
        ValueError: it holds far too much, or a member claims what cannot be.
        tarfile.TarError: it is none.
    """
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        count, position, last = 0, -1, ""
        while (info := _next_member(tar, last)) is not None:
            count += 1
            _check_count(count)
            if info.size < 0 or tar.offset <= position:  # or a hostile tar would be read in a circle
                raise ValueError(f"member {info.name!r} claims {info.size} bytes")
            position, last = tar.offset, info.name
            tar.members = []  # type: ignore[attr-defined]  # they would all be kept, a kilobyte each
            sparse = info.issparse() or any(key.startswith("GNU.sparse") for key in info.pax_headers)
            setuid = info.mode & (stat.S_ISUID | stat.S_ISGID)
            if info.isreg() and not sparse and not setuid and is_harmless(info.name):
                yield info
        if whole:
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ValueError(f"neither a member nor the end mark follows member {last!r}")


@dataclass(frozen=True)
class GunzipLimits:
    """Limits of the size of an unpacked .tgz."""

    max_bytes: int = MAX_UNPACKED_BYTES
    max_ratio: float = MAX_RATIO  # of all that was unpacked to the whole packed file
    ratio_floor_bytes: int = RATIO_FLOOR_BYTES


DEFAULT_GUNZIP_LIMITS = GunzipLimits()


def gunzip(packed: Path, plain: IO[bytes], *, label: str, limits: GunzipLimits = DEFAULT_GUNZIP_LIMITS) -> None:
    """Unpack a gzip file, counting while it streams: a bomb fills no disk.

    Args:
        packed: the file; in the cache its name is a digest.
        plain: takes the content; worthless where this raises.
        label: what errors call it: its URL.
        limits: how much may come out.

    Raises:
        IntegrityError: it is no whole gzip file, or holds more than the limits allow.
    """
    most = min(limits.max_bytes, max(limits.ratio_floor_bytes, int(limits.max_ratio * packed.stat().st_size)))
    written = 0
    try:
        with igzip.open(packed) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                beat()
                written += len(chunk)
                if written > most:
                    raise IntegrityError(
                        f"{label}: unpacks to more than {most} bytes, far more than a corpus: a decompression bomb; "
                        "get it from another place"
                    )
                plain.write(chunk)
    except (gzip.BadGzipFile, EOFError, _INFLATE_ERROR) as error:
        raise IntegrityError(f"{label}: not a readable .tgz ({error}); fetch it again") from error
