"""The user's own files become blobs once, until they change; what is remembered of them never hides a change."""

import os
import time

import pytest
from rotting import rot_one_bit

from tutti.datasets.errors import IntegrityError
from tutti.pipelines.acquisition.own_copy import known_length, measure_length, receive_own
from tutti.pipelines.cache.store import Cache

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABD = "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """A file that counts as unchanged for a while though it was just made."""
    path = tmp_path / "song.wav"
    path.write_bytes(b"abc")
    monkeypatch.setattr("tutti.pipelines.acquisition.own_copy.SETTLED_S", -10.0)
    return path


def test_a_file_that_looks_as_it_did_is_not_read_again(cache, settled):
    receive_own(settled, cache, label="song")
    blob = cache.blob_path(ABC)
    before = blob.stat()

    assert receive_own(settled, cache, label="song").sha256 == ABC

    assert (blob.stat().st_ino, blob.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # not copied either


def test_a_file_that_changed_is_read_again_though_size_and_time_are_the_same(cache, settled):
    receive_own(settled, cache, label="song")
    status = settled.stat()
    settled.write_bytes(b"abd")
    os.utime(settled, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert receive_own(settled, cache, label="song").sha256 == ABD


def test_another_file_in_its_place_is_read(cache, settled):
    receive_own(settled, cache, label="song")
    other = settled.with_name("other")
    other.write_bytes(b"abd")
    other.replace(settled)

    assert receive_own(settled, cache, label="song").sha256 == ABD


def test_what_changed_just_before_it_was_read_is_not_remembered(cache, tmp_path):
    """Within one tick of the file system's clock a file can change twice and look the same."""
    path = tmp_path / "song.wav"
    path.write_bytes(b"abc")
    receive_own(path, cache, label="song")
    assert not (cache.root / "stages").exists()

    time.sleep(2.1)
    receive_own(path, cache, label="song")
    assert len(list((cache.root / "stages" / "own").rglob("*.json"))) == 1


def test_a_blob_that_is_gone_is_copied_again(cache, settled):
    receive_own(settled, cache, label="song")
    cache.blob_path(ABC).unlink()

    receive_own(settled, cache, label="song")
    assert cache.read_blob(ABC) == b"abc"


def test_a_wary_cache_copies_a_damaged_blob_again(cache, settled):
    receive_own(settled, cache, label="song")
    rot_one_bit(cache.blob_path(ABC))
    os.utime(cache.blob_path(ABC), (1, 1))

    receive_own(settled, Cache(cache.root, wary=True), label="song")
    assert cache.read_blob(ABC) == b"abc"


def test_a_checksum_that_the_remembered_digest_does_not_have_is_held_against_the_file(cache, settled):
    receive_own(settled, cache, label="song")

    with pytest.raises(IntegrityError, match=f"song: sha256 is {ABC}, expected {ABD}"):
        receive_own(settled, cache, label="song", sha256=ABD)


def test_no_name_of_the_users_is_written_into_the_cache(cache, settled):
    receive_own(settled, cache, label="song")

    written = [path for path in cache.root.rglob("*") if path.is_file()]
    assert not any(b"song" in path.read_bytes() or "song" in path.name for path in written)


def test_a_length_is_measured_once_for_the_same_content(cache, settled):
    assert known_length(settled, None, cache) is None

    assert measure_length(b"abc", cache=cache, probe=lambda data: 2.5) == 2.5
    receive_own(settled, cache, label="song")

    assert known_length(settled, None, cache) == 2.5
    assert known_length(settled, ABD, cache) is None  # SHA256SUMS wants another file
    settled.write_bytes(b"abd")
    assert known_length(settled, None, cache) is None
