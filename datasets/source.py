"""The interface of a corpus, and the registry: every file in `sources/` is one source.

A source is a module with, in this order:

    CARD        Card: title, homepage, licence, citation, size
    REMOTES     tuple[RemoteFile, ...]: what to download before anything can be read
    INSTRUMENTS tuple[str, ...]: the instruments that it labels, by their taxonomy names
    PARTITIONS  tuple[str, ...]: upstream's own divisions, the values of `Clip.partition`
    Config      frozen dataclass: the switches of its reader
    read(files, config) -> Iterator[Recording]

and, where its clips have notes, `NOTES = True`: shards of a dataset with it have a column of notes; where they are
stems and mixes of songs, `TRACKS = True`: shards have columns of songs and of what sounds when; and where it reads
more than downloads (the user's label file, scores, soundfonts), `inputs(config) -> tuple[Input, ...]`, which names it;
`remarks(config) -> Iterator[str]` are for the user: what is odd there, and read all the same.
Where the configuration decides what is downloaded, `remotes(config) -> tuple[RemoteFile, ...]` names some of REMOTES.
Where the audio lies in tars too large to keep, `STREAMED = True`: recordings name tar and member without a digest,
and the fetch stage reads each tar once.

`files` maps `RemoteFile.name` to a `LocalFile`. A reader raises `IntegrityError` with file, line
and remedy where an annotation cannot be understood; audio is never opened here.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol, cast

from tutti.datasets import sources
from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import digest_of, file_sha256
from tutti.datasets.printable import in_unicode
from tutti.datasets.record import Recording


@dataclass(frozen=True)
class Card:
    """A corpus in a few lines, for `--list`, the README table and the manifest."""

    title: str
    homepage: str
    license: str  # SPDX identifier where one exists
    license_url: str
    license_note: str  # what a user may and may not do, in one sentence
    citation: str
    num_clips: int
    size_bytes: int  # of the download, approximately


@dataclass(frozen=True)
class RemoteFile:
    """A file that the corpus's publisher serves. `url` is canonical: no query, no mirror."""

    name: str  # short and unique within the source
    url: str
    md5: str | None = None
    sha256: str | None = None  # None and no md5: no checksum was published
    mirrors: tuple[str, ...] = ()  # other addresses of the same bytes, asked where `url` fails
    redirect_hosts: tuple[str, ...] = ()  # hosts besides its own that a server may send us on to
    optional: bool = False  # read where there is one; its reader can do without


@dataclass(frozen=True)
class LocalFile:
    """A remote file that is in the cache, verified."""

    source: str
    remote: RemoteFile
    path: Path
    sha256: str
    size_bytes: int
    verified_by: str  # "sha256", "md5", "mirror" or "own" (a SHA256SUMS beside the copy), or "first use"
    resolved_url: str = ""  # where the bytes came from, if not from `url`: never a place of this machine


@dataclass(frozen=True)
class Input:
    """A local input of a source beside the audio: a file, or many under one digest; never a path of it."""

    kind: str  # "labels", "scores", "soundfont"
    name: str  # of the file, or of the folder below the source's root
    sha256: str  # of the file's bytes; of many: of the canonical JSON of their sorted [path, sha256]
    num_bytes: int
    num_files: int | None = None  # of many


class Source(Protocol):
    """The interface of a module in `sources/`."""

    CARD: Card
    REMOTES: tuple[RemoteFile, ...]
    INSTRUMENTS: tuple[str, ...]
    PARTITIONS: tuple[str, ...]
    Config: type[Any]

    def read(self, files: Mapping[str, LocalFile], config: Any) -> Iterator[Recording]:
        """Yield recordings in any order; every clip id once."""
        ...


def source_names() -> list[str]:
    """List the names of all sources: the files of the `sources` folder."""
    return sorted(module.name for module in pkgutil.iter_modules(sources.__path__))


def has_notes(names: Iterable[str]) -> bool:
    """Whether any of these sources says which notes sound in its clips."""
    known = set(source_names()) & set(names)  # a manifest may name a source of other code
    return any(getattr(load_source(name), "NOTES", False) for name in sorted(known))


def has_tracks(names: Iterable[str]) -> bool:
    """Whether clips of any of these sources are stems and mixes of songs."""
    known = set(source_names()) & set(names)
    return any(getattr(load_source(name), "TRACKS", False) for name in sorted(known))


def is_streamed(name: str) -> bool:
    """Whether the audio of a source lies in tars that are read as they come, never kept."""
    return getattr(load_source(name), "STREAMED", False)


def remotes_of(name: str, config: Any) -> tuple[RemoteFile, ...]:
    """List what to download of a source before it can be read."""
    source = load_source(name)
    choose = getattr(source, "remotes", None)
    return source.REMOTES if choose is None else tuple(choose(config))


def inputs_of(name: str, config: Any) -> tuple[Input, ...]:
    """List what a source reads beside its remote files and the audio.

    Raises:
        UsageError: it is not there, or cannot be read.
    """
    find = getattr(load_source(name), "inputs", None)
    return () if find is None else tuple(find(config))


def many(kind: str, name: str, root: Path, paths: Iterable[PurePath]) -> Input:
    """Hash files together as one input.

    Args:
        kind: of input.
        name: for people and manifests.
        root: folder of the files.
        paths: relative to root.

    Raises:
        UsageError: one cannot be read; the message names it.
    """
    listed, num_bytes = [], 0
    for path in sorted(paths):
        try:
            digest, size = file_sha256(root / path), (root / path).stat().st_size
        except OSError as error:
            raise UsageError(f"{name}: {path} cannot be read ({error.strerror}); correct its permissions") from error
        listed.append([in_unicode(str(path)), digest])
        num_bytes += size
    return Input(kind, name, digest_of(listed), num_bytes, len(listed))


def load_source(name: str) -> Source:
    """Import the module of a source.

    Raises:
        UsageError: no such source; the message lists those that exist.
    """
    if name not in source_names():
        raise UsageError(f"unknown source {name!r}; known: {', '.join(source_names())}")
    return cast(Source, importlib.import_module(f"tutti.datasets.sources.{name}"))
