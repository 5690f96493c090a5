"""Hostile archives: nothing leads out, nothing fills memory or disk, and what is ambiguous is refused."""

import copy
import gzip
import io
import random
import stat
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib

import pytest
from test_archive import opened, tar_bytes, zip_bytes

from tutti.datasets import archive
from tutti.datasets.archive import GunzipLimits, gunzip, is_harmless
from tutti.datasets.errors import IntegrityError


def tar_of(*infos, format=tarfile.GNU_FORMAT):
    """A tar of members with all their oddities; each is given as (TarInfo, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as file:
        for info, content in infos:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_info(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def patched(content, at, replacement):
    return content[:at] + replacement + content[at + len(replacement) :]


# --- names

HARMFUL = [
    "../x.wav", "a/../../x.wav", "..", "/abs.wav", "//host/x.wav", "a\\b.wav", "..\\x.wav", "C:/x.wav", "c:x.wav",
    "", "x\0y.wav", "caf\udce9.wav",
]  # fmt: skip
HARMLESS = ["a/b.wav", "./a.wav", "a..b.wav", "...", "-rf.wav", "_", "CON", "a.wav.", "a.wav ", "x" * 300, "ab:c", "é"]


@pytest.mark.parametrize(("names", "expected"), [(HARMFUL, False), (HARMLESS, True)], ids=["harmful", "harmless"])
def test_a_name_is_harmless_if_it_stays_below_a_folder_on_every_system(names, expected):
    assert {name: is_harmless(name) for name in names} == dict.fromkeys(names, expected)


@pytest.mark.parametrize("name", [name for name in HARMFUL if name and "\0" not in name and name.isascii()])
@pytest.mark.parametrize("make", [zip_bytes, tar_bytes], ids=["zip", "tar"])
def test_a_name_that_leads_elsewhere_is_no_member(tmp_path, make, name):
    (tmp_path / "archives").mkdir()

    files = opened(tmp_path / "archives", make({name: b"data", "a.wav": b"data"}))

    assert list(files.names()) == ["a.wav"]
    with pytest.raises(IntegrityError, match="has no member"):
        files.read(name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0123abcd", "archives"]


def test_a_pax_record_that_overrides_a_harmless_name_with_another_is_seen(tmp_path):
    infos = [tar_info(f"a{n}.wav", pax_headers={"path": path}) for n, path in enumerate(["../../x.wav", "/etc/x", "b"])]

    files = opened(tmp_path, tar_of(*((info, b"data") for info in infos), format=tarfile.PAX_FORMAT))

    assert list(files.names()) == ["b"]


def test_a_zip_name_with_a_nul_is_no_member(tmp_path):
    content = zip_bytes({"x#y.wav": b"data", "a.wav": b"data"}).replace(b"x#y.wav", b"x\0y.wav")
    assert "x" in zipfile.ZipFile(io.BytesIO(content)).namelist()  # what Python makes of it

    assert list(opened(tmp_path, content).names()) == ["a.wav"]


@pytest.mark.parametrize("name", HARMLESS)
def test_an_unusual_name_that_leads_nowhere_is_a_member(tmp_path, name):
    assert opened(tmp_path, zip_bytes({name: b"data"})).read(name) == b"data"
    assert opened(tmp_path, tar_bytes({name: b"data"})).read(name) == b"data"


@pytest.mark.parametrize("first", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_occurs_twice_is_offered_once_and_refused_when_read(tmp_path, first):
    if first == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            for name, content in (("a.wav", b"first"), ("b.wav", b"data"), ("a.wav", b"second")):
                file.writestr(name, content)
        data = out.getvalue()
    else:
        data = tar_of(*((tar_info(name), b"data") for name in ("a.wav", "b.wav", "a.wav")))

    files = opened(tmp_path, data)

    assert list(files.names()) == ["a.wav", "b.wav"]
    assert files.read("b.wav") == b"data"
    with pytest.raises(IntegrityError, match=r"^upstream\.zip: holds 2 members named 'a\.wav', and which one is meant"):
        files.read("a.wav")


def test_names_that_become_equal_when_repaired_are_refused_when_read(tmp_path):
    content = zip_bytes({"xxxxxxxx1": b"one", "três.wav": b"two"}).replace(b"xxxxxxxx1", "três.wav".encode())

    with pytest.raises(IntegrityError, match="holds 2 members named"):
        opened(tmp_path, content).read("três.wav")


def test_names_that_differ_in_case_only_are_two_members(tmp_path):
    for make in (zip_bytes, tar_bytes):
        files = opened(tmp_path, make({"-abc.wav": b"lower", "-ABC.wav": b"upper"}))

        assert [files.read(name) for name in files.names()] == [b"lower", b"upper"]


# --- kinds


def test_only_plain_files_of_a_tar_are_members(tmp_path):
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    odd = [(tar_info(f"odd{n}", type=kind, linkname="../../etc/passwd"), b"") for n, kind in enumerate(kinds)]
    chain = [(tar_info("d", type=tarfile.SYMTYPE, linkname=".."), b""), (tar_info("d/x.wav"), b"data")]
    setuid = [(tar_info("setuid", mode=0o4755), b"data"), (tar_info("setgid", mode=0o2755), b"data")]

    files = opened(tmp_path, tar_of(*odd, *setuid, *chain))

    assert list(files.names()) == ["d/x.wav"]  # a key like any other: no link is ever followed


def test_sparse_files_of_a_tar_are_no_members(tmp_path):
    gnu = tar_info("old.wav", type=tarfile.GNUTYPE_SPARSE)
    old = bytearray(tar_of((gnu, b"")))
    old[483:495] = b"77777777777\0"  # real size: 8 GiB
    checksum = sum(old[:148]) + 8 * 32 + sum(old[156:512])
    old[148:156] = b"%06o\0 " % checksum
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "new.wav"}
    pax["GNU.sparse.realsize"] = str(1 << 40)
    new = tar_of((tar_info("x", pax_headers=pax), b"0\n".ljust(512, b"\0")), format=tarfile.PAX_FORMAT)

    with tarfile.open(fileobj=io.BytesIO(bytes(old))) as tar:
        assert [info.isreg() for info in tar] == [True]  # so says Python
    assert list(opened(tmp_path, bytes(old)).names()) == []
    assert list(opened(tmp_path, new).names()) == []


def test_setuid_files_and_devices_of_a_zip_are_no_members(tmp_path):
    members = {}
    for name, mode in (("setuid", stat.S_IFREG | 0o4755), ("fifo", stat.S_IFIFO | 0o644), ("a.wav", 0o644)):
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        members[info] = b"data"

    assert list(opened(tmp_path, zip_bytes(members)).names()) == ["a.wav"]


def test_an_archive_in_an_archive_is_only_bytes(tmp_path):
    inner = zip_bytes({"x.wav": bytes(1_000_000)})

    files = opened(tmp_path, zip_bytes({"inner.zip": inner}))

    assert (list(files.names()), files.read("inner.zip")) == (["inner.zip"], inner)


# --- sizes


def test_a_member_that_unpacks_to_far_more_than_it_has_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "RATIO_FLOOR_BYTES", 1 << 20)
    small, bomb = bytes(1 << 20), bytes((1 << 20) + 1)

    files = opened(tmp_path, zip_bytes({"silence.wav": small, "bomb.wav": bomb}))

    assert files.read("silence.wav") == small
    with pytest.raises(IntegrityError, match=r"'bomb\.wav' claims 1048577 bytes out of \d+: a decompression bomb$"):
        files.read("bomb.wav")


def lying_zip(claimed, real):
    """A member that claims one size and unpacks to another; its CRC is that of the bytes it claims."""
    content = zip_bytes({"a.wav": real})
    checksum = struct.pack("<I", zlib.crc32(real[:claimed]))
    for header, crc_at, size_at in ((b"PK\x03\x04", 14, 22), (b"PK\x01\x02", 16, 24)):
        at = content.index(header)
        content = patched(patched(content, at + crc_at, checksum), at + size_at, struct.pack("<I", claimed))
    return content


@pytest.mark.parametrize(
    ("claimed", "real", "why"),
    [
        (100, bytes(10_000_000), "unpacks to 101 bytes or more, not to the 100"),
        (20_000_000, bytes(10_000), "unpacks to 10000 bytes or more, not to the 20000000"),
        (
            100,
            random.Random(0).randbytes(10_000_000),
            "unpacks to 101 bytes or more, not to the 100",
        ),
    ],
    ids=["longer", "shorter", "longer and packed to no less"],
)
def test_a_member_of_another_size_than_it_claims_is_an_error_and_takes_no_memory(tmp_path, claimed, real, why):
    files = opened(tmp_path, lying_zip(claimed, real))
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match=why):
            files.read("a.wav")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 4 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 97])
def test_a_member_packed_in_another_way_than_deflate_is_an_error_that_names_it(tmp_path, method):
    content = zip_bytes({"a.wav": b"data"}, min(method, zipfile.ZIP_LZMA))
    for header, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content = patched(content, content.index(header) + at, struct.pack("<H", method))

    with pytest.raises(IntegrityError, match=rf"'a\.wav' is packed with method {method}; pack the archive again"):
        opened(tmp_path, content).read("a.wav")


@pytest.mark.parametrize("make", [zip_bytes, tar_bytes], ids=["zip", "tar"])
def test_too_many_members_are_refused(tmp_path, make, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    opened(tmp_path, make({f"{n}.wav": b"" for n in range(3)}))

    with pytest.raises(IntegrityError, match="it holds more than 3 members"):
        opened(tmp_path, make({f"{n}.wav": b"" for n in range(4)}))


def test_the_directory_of_a_zip_is_measured_before_it_is_read(tmp_path, monkeypatch):
    content = zip_bytes({f"{n}.wav": b"" for n in range(100)})
    monkeypatch.setattr(archive, "MAX_DIRECTORY_BYTES", 1_000)
    monkeypatch.setattr(zipfile, "ZipInfo", None)  # parsing one entry would fail in another way

    with pytest.raises(IntegrityError, match=r"its directory claims 5190 bytes, above 1000"):
        opened(tmp_path, content)


def test_a_tar_header_that_claims_a_huge_name_is_refused_before_it_is_read(tmp_path):
    info = tar_info("x", type=tarfile.GNUTYPE_LONGNAME)
    header = bytearray(tar_of((info, b"")))[:512]
    header[124:136] = b"%011o\0" % (1 << 30)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))

    with pytest.raises(IntegrityError, match="claims 1073741824 bytes, above 1048576"):
        opened(tmp_path, bytes(header) + bytes(1 << 20), "a.tar")


@pytest.mark.parametrize("size", [-512, -1024, -(1 << 40)])
def test_a_tar_member_of_negative_size_is_an_error_and_no_endless_loop(tmp_path, size):
    content = bytearray(tar_bytes({"first.wav": b"data", "a.wav": b"data"}, format=tarfile.GNU_FORMAT))
    header = copy.copy(content[1024:1536])
    header[124:136] = (size % (1 << 96)).to_bytes(12, "big")  # base-256, as GNU tar writes what octal cannot
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    content[1024:1536] = header
    start_s = time.monotonic()

    with pytest.raises(IntegrityError):
        opened(tmp_path, bytes(content), "a.tar")

    assert time.monotonic() - start_s < 5


def test_a_tar_member_that_claims_more_than_the_file_holds_is_an_error(tmp_path):
    content = bytearray(tar_bytes({"a.wav": b"data"}, format=tarfile.GNU_FORMAT))
    content[124:136] = b"%011o\0" % 1_000_000
    content[148:156] = b"%06o\0 " % (sum(content[:148]) + 8 * 32 + sum(content[156:512]))

    with pytest.raises(IntegrityError):
        opened(tmp_path, bytes(content), "a.tar").read("a.wav")


# --- gunzip


def unpacked(folder, content, **limits):
    (folder / "packed").write_bytes(content)
    plain = io.BytesIO()
    try:
        gunzip(folder / "packed", plain, label="https://host/a.tgz", limits=GunzipLimits(**limits))
    finally:
        unpacked.written = plain.tell()
    return plain.getvalue()


def test_a_gzip_file_of_any_number_of_parts_is_unpacked(tmp_path):
    assert unpacked(tmp_path, gzip.compress(b"abc") + gzip.compress(b"def")) == b"abcdef"


def test_a_bomb_is_stopped_while_it_unpacks_and_not_after(tmp_path):
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    assert len(bomb) < 400_000  # 300 MiB out of 0.3 MB

    with pytest.raises(IntegrityError, match=r"^https://host/a\.tgz: unpacks to more than \d+ bytes.*decompression"):
        unpacked(tmp_path, bomb)

    assert unpacked.written == 64 << 20  # below this floor any ratio is fine


def test_a_high_ratio_is_fine_below_the_floor_and_a_cap_on_all_bytes_is_one(tmp_path):
    packed = gzip.compress(bytes(3 << 20))

    assert len(unpacked(tmp_path, packed)) == 3 << 20
    for limits in ({"ratio_floor_bytes": 1 << 20}, {"max_bytes": (3 << 20) - 1}):
        with pytest.raises(IntegrityError, match="a decompression bomb"):
            unpacked(tmp_path, packed, **limits)


@pytest.mark.parametrize(
    "damaged",
    [
        b"<html>",
        gzip.compress(b"abc" * 999, mtime=0)[:-12],
        patched(gzip.compress(b"abc" * 999, mtime=0), 14, b"\xff\xff"),
    ],
    ids=["a page", "cut", "damaged"],
)
def test_what_is_no_whole_gzip_file_is_an_error_that_names_it(tmp_path, damaged):
    with pytest.raises(IntegrityError, match=r"^https://host/a\.tgz: not a readable \.tgz .*; fetch it again$"):
        unpacked(tmp_path, damaged)
