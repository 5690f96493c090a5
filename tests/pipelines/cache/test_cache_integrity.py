"""The cache never hands out what is damaged, and never loses what it put aside."""

import hashlib
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from tutti.datasets.errors import IntegrityError, TryLaterError
from tutti.datasets.files import sweep, write_file
from tutti.datasets.manifest import digest_of
from tutti.pipelines.cache.soundness import Blob
from tutti.pipelines.cache.store import Cache

URL = "https://host/file.zip"
ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABC_MD5 = "900150983cd24fb0d6963f7d28e17f72"
ABD_SHA256 = "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- finished downloads


def finished_part(cache, content=b"abc", label=URL):
    part = cache.part_path(label)
    write_file(part, content)
    return part


@pytest.mark.parametrize(
    ("sha256", "md5"), [(None, None), (ABC_SHA256, None), (None, ABC_MD5), (ABC_SHA256, ABC_MD5)]
)  # fmt: skip
def test_a_finished_part_becomes_a_blob(cache, sha256, md5):
    blob = cache.receive_file(finished_part(cache), label=URL, sha256=sha256, md5=md5)

    assert blob == Blob(ABC_SHA256, ABC_MD5, 3)
    assert files_below(cache.root) == [f"blobs/ba/{ABC_SHA256}"]


def test_a_part_survives_between_attempts_under_a_name_of_its_label(cache):
    assert cache.part_path(URL) == cache.part_path(URL) != cache.part_path(URL + "x")
    assert cache.part_path(URL).parent == cache.root / "incoming"
    finished_part(cache)

    sweep(cache.incoming)

    assert cache.part_path(URL).read_bytes() == b"abc"


def test_a_part_that_another_process_took_is_a_file_not_found(cache):
    with pytest.raises(FileNotFoundError):
        cache.receive_file(cache.part_path(URL), label=URL, sha256=None, md5=None)


# --- fault 10: a wrong checksum does not poison the cache


@pytest.mark.parametrize(("sha256", "md5", "named"), [(ABC_SHA256, None, "sha256"), (None, ABC_MD5, "md5")])
def test_a_part_with_a_wrong_digest_is_kept_for_inspection_and_fetched_anew(cache, sha256, md5, named):
    part = finished_part(cache, b"abd")

    with pytest.raises(IntegrityError) as caught:
        cache.receive_file(part, label=URL, sha256=sha256, md5=md5)

    found, wanted = (
        (ABD_SHA256, ABC_SHA256) if named == "sha256" else ("4911e516e5aa21d327512e0c8b197616", ABC_MD5)
    )  # fmt: skip
    assert str(caught.value).startswith(f"{URL}: {named} is {found}, expected {wanted} (sha256 {ABD_SHA256}, kept as ")
    (kept,) = (cache.root / "quarantine").iterdir()
    assert str(kept) in str(caught.value)
    assert kept.name == f"{digest_of(URL)[:32]}.{ABD_SHA256[:16]}"
    assert kept.read_bytes() == b"abd"
    assert not part.exists()
    assert not cache.has_blob(ABD_SHA256)
    assert cache.receive_file(finished_part(cache), label=URL, sha256=sha256, md5=md5).sha256 == ABC_SHA256


def test_of_each_label_the_last_wrong_file_is_kept(cache):
    for label, content in ((URL, b"1"), (URL, b"2"), ("other", b"3")):
        with pytest.raises(IntegrityError):
            cache.receive_file(finished_part(cache, content, label), label=label, sha256=ABC_SHA256, md5=None)

    kept = sorted(path.read_bytes() for path in (cache.root / "quarantine").iterdir())
    assert kept == [b"2", b"3"]


# --- fault 11: bit rot


def rot(path, content=b"abd"):
    """Another byte, under another time of change."""
    path.write_bytes(content)
    os.utime(path, (1, 1))


def test_a_sound_blob_is_handed_out(cache):
    cache.put_blob(b"abc")

    assert cache.verified_blob(ABC_SHA256) == cache.blob_path(ABC_SHA256)


def test_a_damaged_blob_is_put_aside_so_that_it_is_fetched_again(cache, caplog):
    cache.receive([b"abc"], label=URL, sha256=None, md5=None)
    rot(cache.blob_path(ABC_SHA256))

    assert cache.verified_blob(ABC_SHA256) is None

    assert not cache.has_blob(ABC_SHA256)
    assert [path.read_bytes() for path in (cache.root / "quarantine").iterdir()] == [b"abd"]
    assert f"blob {ABC_SHA256} was damaged (sha256 {ABD_SHA256})" in caplog.text


def test_a_blob_that_is_not_there_is_none(cache):
    assert cache.verified_blob(ABC_SHA256) is None


CHANGED_BEHIND_OUR_BACK = """
import os, sys
from pathlib import Path
from tutti.pipelines.cache.store import Cache
cache, sha256 = Cache(Path(sys.argv[1])), sys.argv[2]
path = cache.blob_path(sha256)
print(cache.verified_blob(sha256) is not None)
before = path.stat()
path.write_bytes(b"abd")
os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
print(cache.verified_blob(sha256) is not None)
"""


def test_size_and_time_of_change_are_trusted_within_one_process_only(cache):
    cache.put_blob(b"abc")

    result = subprocess.run(
        [sys.executable, "-c", CHANGED_BEHIND_OUR_BACK, str(cache.root), ABC_SHA256],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert result.stdout == "True\nTrue\n"  # not hashed twice
    assert cache.verified_blob(ABC_SHA256) is None  # but here, for the first time


def unpacking(calls):
    def unpack(stream):
        calls.append(1)
        stream.write(b"plain tar")

    return unpack


def test_a_plain_tar_is_made_once(cache):
    calls = []

    paths = {cache.derived("gunzip", ABC_SHA256, unpacking(calls)) for _ in range(3)}

    assert paths == {cache.derived_path("gunzip", ABC_SHA256)}
    assert cache.derived_path("gunzip", ABC_SHA256).read_bytes() == b"plain tar"
    assert calls == [1]


@pytest.mark.parametrize("damage", [b"plain tbr", b"plain", b""], ids=["bit", "cut", "empty"])
def test_a_damaged_plain_tar_is_made_again(cache, damage):
    calls = []
    path = cache.derived("gunzip", ABC_SHA256, unpacking(calls))
    rot(path, damage)

    assert cache.derived("gunzip", ABC_SHA256, unpacking(calls)).read_bytes() == b"plain tar"
    assert calls == [1, 1]
    assert [kept.read_bytes() for kept in (cache.root / "quarantine").iterdir()] == [damage]


def test_a_plain_tar_that_nobody_vouches_for_is_made_again(cache):
    write_file(cache.derived_path("gunzip", ABC_SHA256), b"of an older version")

    assert cache.derived("gunzip", ABC_SHA256, unpacking([])).read_bytes() == b"plain tar"


def test_a_plain_tar_that_cannot_be_made_leaves_nothing(cache):
    def unpack(stream):
        stream.write(b"half")
        raise IntegrityError("not a readable .tgz")

    with pytest.raises(IntegrityError, match=r"not a readable \.tgz"):
        cache.derived("gunzip", ABC_SHA256, unpack)

    assert files_below(cache.root) == []


# --- fault 42: hostile names

HOSTILE = [
    "-abcdefghij",
    "_",
    "___________",
    "abc",
    "ABC",
    "Abc",
    "caf\u00e9",
    "cafe\u0301",
    "CON",
    "nul.txt",
    "../x",
    "/",
]


def test_hostile_labels_have_parts_and_results_of_their_own_on_any_file_system(cache):
    for label in HOSTILE:
        finished_part(cache, label.encode(), label)
        cache.remember("download", digest_of(label), {"url": label, "sha256": ABC_SHA256})

    files = files_below(cache.root)
    assert len({file.casefold() for file in files}) == 2 * len(HOSTILE)
    assert all(
        re.fullmatch(r"incoming/[0-9a-f]{32}\.part|stages/download/[0-9a-f]{2}/[0-9a-f]{64}\.json", f) for f in files
    )
    for label in HOSTILE:
        assert cache.result("download", digest_of(label)) == {"url": label, "sha256": ABC_SHA256}
        blob = cache.receive_file(cache.part_path(label), label=label, sha256=None, md5=None)
        assert blob.sha256 == hashlib.sha256(label.encode()).hexdigest()
        assert cache.read_blob(blob.sha256) == label.encode()


# --- use and collection exclude each other


def test_builds_share_the_cache_and_nothing_is_collected_meanwhile(cache):
    with (
        cache.in_use(),
        cache.in_use(),
        pytest.raises(TryLaterError, match="a build uses this cache"),
        cache.exclusive(),
    ):
        pass

    with cache.exclusive():
        assert (cache.root / ".lock").is_file()
