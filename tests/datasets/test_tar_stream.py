"""Tars that are read once, in order: sound ones, hostile ones, and such that end early."""

import io
import tarfile
from collections.abc import Callable

import pytest

from tutti.datasets.archive import MAX_MEMBER_BYTES
from tutti.datasets.tar_stream import EndsEarlyError, Member, TarStream

FILES = {"00/1.mp3": b"a" * 700, "00/2.mp3": b"b" * 512, "00/3.mp3": b"", "00/4.mp3": b"d" * 1025}


class Onward:
    """A connection: no way back."""

    def __init__(self, content: bytes) -> None:
        self._content, self._position = content, 0

    def read(self, size: int, /) -> bytes:
        found = self._content[self._position : self._position + size]
        self._position += len(found)
        return found

    def seek(self, position: int, /) -> int:
        assert position >= self._position, "a connection goes onwards"
        self._position = position
        return position

    def tell(self) -> int:
        return self._position


def tar_of(files: dict[str, bytes], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar as upstream's: its folder first."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
        folder = tarfile.TarInfo("00")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def with_member(change: Callable[[tarfile.TarInfo], None], content: bytes = b"") -> bytes:
    """Two of FILES with a changed member between them."""
    out = b""
    for name in ("00/1.mp3", "00/x.mp3", "00/2.mp3"):
        info, body = tarfile.TarInfo(name), FILES.get(name, content)
        info.size = len(body)
        if name == "00/x.mp3":
            change(info)
        out += info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512)
    return out + bytes(1024)


def read(content: bytes, wanted: set[str] | None = None, *, known: bool = True) -> tuple[dict[str, bytes], str | None]:
    """The members that are wanted, or all, and the problem."""
    tar = TarStream(Onward(content), len(content) if known else None)
    found = {}
    for member in tar.members():
        if wanted is None or member.name in wanted:
            try:
                found[member.name] = b"".join(tar.chunks(member))
            except EndsEarlyError:
                continue
    return found, tar.problem


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_read_in_order_from_a_connection(tar_format: int, known: bool) -> None:
    assert read(tar_of(FILES, tar_format), known=known) == (FILES, None)


@pytest.mark.parametrize("wanted", [{"00/1.mp3"}, {"00/2.mp3"}, {"00/4.mp3"}, {"00/1.mp3", "00/4.mp3"}, {"00/9.mp3"}])
def test_what_is_not_wanted_is_passed_over(wanted: set[str]) -> None:
    assert read(tar_of(FILES), wanted) == ({name: FILES[name] for name in sorted(wanted & FILES.keys())}, None)


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_members_too(tar_format: int) -> None:
    files = {f"00/{'n' * 300}.mp3": b"long", "00/2.mp3": b"b"}
    assert read(tar_of(files, tar_format)) == (files, None)


def test_reading_can_go_on_at_the_header_of_a_later_member() -> None:
    content = tar_of(FILES)
    members = list(TarStream(Onward(content), len(content)).members())
    assert members[:2] == [Member("00/1.mp3", 1024, 700), Member("00/2.mp3", 2560, 512)]
    stream = Onward(content)
    stream.seek(members[1].end)
    rest = TarStream(stream, len(content))
    assert [member.name for member in rest.members()] == ["00/3.mp3", "00/4.mp3"]
    assert rest.problem is None


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("place", "whole"),
    [(0, 0), (100, 0), (512, 0), (1000, 0), (1024, 0), (1100, 0), (1723, 0), (1724, 1), (2048, 1), (2100, 1),
     (2560, 1), (3071, 1), (3072, 2), (3300, 2), (3584, 3)],
)  # fmt: skip
def test_a_tar_that_ends_early_gives_what_came_and_says_so(place: int, whole: int, known: bool) -> None:
    found, problem = read(tar_of(FILES)[:place], known=known)
    assert problem is not None
    assert list(found.items()) == list(FILES.items())[:whole]


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, MAX_MEMBER_BYTES + 1])
@pytest.mark.parametrize("known", [True, False])
def test_a_member_that_claims_more_than_there_is_ends_the_tar(size: int, known: bool) -> None:
    found, problem = read(with_member(lambda info: setattr(info, "size", size)), known=known)
    assert list(found) == ["00/1.mp3"]
    assert problem is not None
    assert f"claims {size} bytes" in problem


def test_a_damaged_header_ends_the_tar_and_is_no_end_mark() -> None:
    content = bytearray(tar_of(FILES))
    content[2048 + 150] ^= 0xFF  # the checksum of the second member's header
    found, problem = read(bytes(content))
    assert list(found) == ["00/1.mp3"]
    assert problem == "byte 2048: neither a member nor an end mark"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)  # fmt: skip
def test_what_is_no_plain_file_is_no_member(kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    found, problem = read(with_member(change))
    assert (list(found), problem) == (["00/1.mp3", "00/2.mp3"], None)


@pytest.mark.parametrize("name", ["../x.mp3", "/00/x.mp3", "00/../../x.mp3", "00\\x.mp3", "C:x.mp3"])
def test_a_name_that_leads_elsewhere_is_no_member(name: str) -> None:
    found, problem = read(with_member(lambda info: setattr(info, "name", name), b"x"))
    assert (list(found), problem) == (["00/1.mp3", "00/2.mp3"], None)


def test_a_sparse_member_is_no_member() -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999999"}

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("00/1.mp3", "00/x.mp3"):
            info = tarfile.TarInfo(name)
            info.size = 512
            if name == "00/x.mp3":
                change(info)
            tar.addfile(info, io.BytesIO(b"0\n".ljust(512, b"\0")))
    found, _ = read(out.getvalue())
    assert list(found) == ["00/1.mp3"]


def test_a_pax_record_that_claims_gigabytes_is_not_read() -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 33
    found, problem = read(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096), known=False)
    assert found == {}
    assert problem is not None
    assert "a header claims 8589934592 bytes" in problem


def test_headers_upon_headers_end_the_tar() -> None:
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    found, problem = read(header.tobuf(tarfile.GNU_FORMAT) * 5000, known=False)
    assert found == {}
    assert problem is not None


def test_random_bytes_are_no_tar() -> None:
    found, problem = read(bytes(range(256)) * 40)
    assert found == {}
    assert problem is not None
