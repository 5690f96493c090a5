"""Members of a tar that is too large to keep: each wanted one becomes a blob, the rest is passed over.

    found = members_of(url, {"00/1.mp3": Published(...)}, origins, cache)    member -> Held or Lost

A tar in a folder is read in place. One on a server is read as it comes (`http_stream.py`); where its members lie is
remembered, so that the next call goes on where this one was cut off, by ranges where the server honours them. A member
that has a published digest must have it. One that has none is taken only from a tar that was read to its last byte
and has the digest that was published of it, or of which none was.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tutti.datasets.addresses import Credentials
from tutti.datasets.archive import MAX_MEMBER_BYTES
from tutti.datasets.bounded import open_regular
from tutti.datasets.errors import IntegrityError, NetworkError, TryLaterError
from tutti.datasets.manifest import digest_of
from tutti.datasets.record import Published
from tutti.datasets.tar_stream import EndsEarlyError, Forward, Member, TarStream, chunks_of
from tutti.pipelines.acquisition.http import HttpRules, NotFound, ignore
from tutti.pipelines.acquisition.http_answers import RemoteVersion
from tutti.pipelines.acquisition.http_stream import ChangedFileError, HttpStream
from tutti.pipelines.acquisition.origins import Origins, http_rules, is_http, mirror_path, mirror_sums, mirror_url
from tutti.pipelines.cache.soundness import settled_sha256
from tutti.pipelines.cache.store import Cache

STAGE, INDEX = "tar_member", "tar_index"
MAX_INDEXED = 100_000  # members of a tar whose places are remembered; those of MTG-Jamendo have 560


@dataclass(frozen=True)
class Held:
    """A member that is a blob of the cache."""

    sha256: str


@dataclass(frozen=True)
class Lost:
    """A member that is not to be had."""

    reason: str  # one word of the vocabulary in manifests/README.md
    detail: str
    passing: bool = False  # another time it may be there


Found = Held | Lost


@dataclass
class _Index:
    """The members that were seen in a tar on a server, and how far it was read."""

    members: list[Member] = field(default_factory=list)
    end: int = 0  # where the next header begins
    whole: bool = False  # its end mark was met


def known_member(url: str, member: str, published: Published, cache: Cache) -> str | None:
    """Return the digest of a member's blob, if it is in the cache."""
    sha256 = published.member_sha256
    if sha256 is None:
        known = cache.result(STAGE, _member_key(url, member, published))
        sha256 = None if known is None else str(known["sha256"])
    return sha256 if sha256 is not None and cache.has_blob(sha256) else None


def members_of(
    url: str,
    wanted: Mapping[str, Published],
    origins: Origins,
    cache: Cache,
    progress: Callable[[int, int | None], None] = ignore,
) -> dict[str, Found]:
    """Receive members of a tar into the cache.

    Args:
        url: canonical address of the tar.
        wanted: names of members, and what was published of each.
        origins: where the tar may come from: a mirror, or the network.
        cache: takes the members.
        progress: called with the place that was reached in a tar on a server, and its length, if known.

    Raises:
        TryLaterError: the server asks for a longer pause than is sensible, or refuses us.
        StorageError: the disk failed.
        UsageError: no other machine may be asked (TUTTI_OFFLINE).
    """
    expected = mirror_sums(origins, cache).get(mirror_path(url)) or _listed(wanted)
    mirror = origins.mirror
    if mirror is not None:
        job = _Job(url, dict(wanted), expected, cache, progress)
        if is_http(mirror):
            return job.from_server(mirror_url(mirror, mirror_path(url)), origins, mirrored=True)
        return job.from_file(Path(mirror) / mirror_path(url))
    found: dict[str, Found] = {}
    refusal: TryLaterError | None = None
    for address in (url, *next(iter(wanted.values())).mirrors):
        left = {name: published for name, published in wanted.items() if _may_come(found.get(name))}
        if not left:
            break
        job = _Job(url, left, expected, cache, progress)
        try:
            here = job.from_server(address, origins, mirrored=False)
        except TryLaterError as error:  # of all failures the first is told
            refusal = refusal or error
            continue
        found |= {name: one for name, one in here.items() if isinstance(one, Held) or name not in found}
    if refusal is not None and any(_may_come(found.get(name)) for name in wanted):
        raise refusal
    return found


def _listed(wanted: Mapping[str, Published]) -> str | None:
    return next((published.archive_sha256 for published in wanted.values() if published.archive_sha256), None)


def _may_come(found: Found | None) -> bool:
    return found is None or (isinstance(found, Lost) and found.passing)


def members_of_file(path: Path, url: str, wanted: Mapping[str, Published], cache: Cache) -> dict[str, Found]:
    """Receive likewise from the user's own copy of a tar."""
    return _Job(url, dict(wanted), _listed(wanted), cache, ignore).from_file(path)


class _Job:
    """One reading of one tar."""

    def __init__(
        self,
        url: str,
        wanted: dict[str, Published],
        expected: str | None,
        cache: Cache,
        progress: Callable[[int, int | None], None],
    ) -> None:
        self._url, self._wanted, self._expected, self._cache = url, wanted, expected, cache
        self._progress = progress
        self._found: dict[str, Found] = {}
        self._unproven: dict[str, str] = {}  # members without a published digest -> what they have
        self._met: set[str] = set()  # members without one that were met
        self._lacking: set[str] = set()  # members that the tar does not have

    def from_file(self, path: Path) -> dict[str, Found]:
        """Read a tar in place."""
        try:
            stream = open_regular(path)
        except FileNotFoundError:
            return self._all_lost(Lost("not_in_mirror", mirror_path(self._url)))
        except IntegrityError as error:
            return self._all_lost(Lost("archive_cut", str(error)))
        with stream:
            length = stream.seek(0, 2)
            stream.seek(0)
            tar = TarStream(stream, length)
            self._take(stream, tar.members())
        self._settle(tar.problem, passing=False)
        if self._unproven:
            self._prove(settled_sha256(path) if self._expected else None, tar.problem, passing=False)
        return self._found

    def from_server(self, address: str, origins: Origins, *, mirrored: bool) -> dict[str, Found]:
        """Read a tar as it comes."""
        rules = http_rules(self._cache, credentials=origins.credentials if mirrored else Credentials())
        try:
            try:
                self._read(address, rules, *self._recall_index(address), passing=not mirrored)
            except ChangedFileError:  # where members lie in it has to be found out anew
                self._cache.forget(INDEX, self._index_key(address))
                self._read(address, rules, None, _Index(), passing=not mirrored)
        except NotFound as error:
            lost = Lost("no_archive", str(error), passing=True)
            return self._all_lost(Lost("not_in_mirror", mirror_path(self._url)) if mirrored else lost)
        except NetworkError as error:
            return self._all_lost(Lost("timeout", str(error), passing=True))
        return self._found

    def _read(
        self, address: str, rules: HttpRules, known: RemoteVersion | None, index: _Index, *, passing: bool
    ) -> None:
        if index.whole:
            names = {member.name for member in index.members}
            self._settle(None, passing=passing, only=self._wanted.keys() - names)
        if self._is_done():
            return
        whole = self._needs_whole()
        if whole:
            index.members, index.end, index.whole = [], 0, False
        connection = HttpStream(address, rules, known=known, whole=whole, progress=self._progress)
        with connection as stream, ExitStack() as ending:
            ending.callback(lambda: self._remember_index(address, stream.version, index))
            self._take(stream, iter(tuple(index.members)))
            if self._is_done() or index.whole:
                return
            stream.seek(index.end)
            stream.connect()
            tar = TarStream(stream, stream.length)
            self._take(stream, _noted(tar, index))
            if not self._is_done():
                index.whole = tar.problem is None
                self._settle(tar.problem, passing=passing)
            if self._unproven:
                self._prove(stream.sha256(), tar.problem, passing=passing)

    def _take(self, stream: Forward, members: Iterator[Member]) -> None:
        """Receive the wanted ones of these members, until none is missing."""
        for member in members:
            published = self._wanted.get(member.name)
            if published is None or isinstance(self._found.get(member.name), Held):
                continue
            try:
                self._found[member.name] = self._received(stream, member, published)
            except EndsEarlyError:
                return  # it was not found; why is in the tar's problem
            if self._is_done():
                return

    def _received(self, stream: Forward, member: Member, published: Published) -> Found:
        if member.size > MAX_MEMBER_BYTES:
            return Lost("damaged_member", f"claims {member.size} bytes, above {MAX_MEMBER_BYTES}")
        if published.member_sha256 is None and member.name in self._met:
            self._unproven.pop(member.name, None)
            return Lost("damaged_member", f"{self._url} holds several members {member.name}: which is meant is unknown")
        self._met.add(member.name)
        label = f"{self._url}: member {member.name}"
        try:
            chunks = chunks_of(stream, member)
            blob = self._cache.receive(chunks, label=label, sha256=published.member_sha256, md5=None, durable=False)
        except IntegrityError as error:
            return Lost("checksum", str(error))
        if published.member_sha256 is None:
            self._unproven[member.name] = blob.sha256
            return Lost("checksum", "its tar was not read to the end")  # until `_prove`
        self._remember(member.name, published, blob.sha256)
        return Held(blob.sha256)

    def _left(self) -> Iterator[str]:
        """List the members that may still come."""
        return (name for name in self._wanted if not (isinstance(self._found.get(name), Held) or name in self._lacking))

    def _needs_whole(self) -> bool:
        """Whether the whole tar is to be read: without a digest of its own a member is worth what that is."""
        return any(self._wanted[name].member_sha256 is None for name in self._left())

    def _is_done(self) -> bool:
        return not any(True for _ in self._left())

    def _settle(self, problem: str | None, *, passing: bool, only: Collection[str] | None = None) -> None:
        """Set a reason for the members that were not met."""
        for name in self._wanted if only is None else only:
            if problem is not None:
                self._found.setdefault(name, Lost("archive_cut", f"{self._url}: {problem}", passing))
            elif name not in self._found:
                self._found[name] = Lost("not_in_archive", f"{self._url} has no member {name}")
                self._lacking.add(name)

    def _prove(self, sha256: str | None, problem: str | None, *, passing: bool) -> None:
        """Keep members without a digest of their own, if the tar has its digest or none was published."""
        for name, blob in self._unproven.items():
            if self._expected in (None, sha256):
                self._remember(name, self._wanted[name], blob)
                self._found[name] = Held(blob)
            elif problem is not None:
                self._found[name] = Lost("archive_cut", f"{self._url}: {problem}", passing)
            else:
                detail = f"{self._url}: sha256 is {sha256}, expected {self._expected}, and {name} has none of its own"
                self._found[name] = Lost("checksum", detail)

    def _all_lost(self, lost: Lost) -> dict[str, Found]:
        for name in self._wanted:
            if name in self._unproven:
                self._found[name] = lost
            self._found.setdefault(name, lost)
        return self._found

    def _remember(self, member: str, published: Published, sha256: str) -> None:
        key = _member_key(self._url, member, published)
        self._cache.remember(STAGE, key, {"url": f"{self._url}#{member}", "sha256": sha256})

    # --- where members lie in a tar on a server

    def _index_key(self, address: str) -> str:
        return digest_of([address, self._expected])

    def _recall_index(self, address: str) -> tuple[RemoteVersion | None, _Index]:
        known = self._cache.result(INDEX, self._index_key(address))
        if known is None:
            return None, _Index()
        version = RemoteVersion(address, known["etag"], known["last_modified"], known["length"])
        return version, _Index([Member(*row) for row in known["members"]], known["end"], known["whole"])

    def _remember_index(self, address: str, version: RemoteVersion | None, index: _Index) -> None:
        if version is None or version.validator is None or not 0 < len(index.members) <= MAX_INDEXED:
            return
        rows = [[member.name, member.offset, member.size] for member in index.members]
        said = {"etag": version.etag, "last_modified": version.last_modified, "length": version.length}
        self._cache.remember(
            INDEX, self._index_key(address), {**said, "members": rows, "end": index.end, "whole": index.whole}
        )


def _noted(tar: TarStream, index: _Index) -> Iterator[Member]:
    """Pass members on, and note where they lie."""
    index.end = tar.end
    for member in tar.members():
        index.members.append(member)
        index.end = member.end
        yield member


def _member_key(url: str, member: str, published: Published) -> str:
    return digest_of([url, member, published.member_sha256, published.archive_sha256])
