"""Files are whole or not there; the cache holds what its names promise."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT

from tutti.datasets.errors import IntegrityError
from tutti.datasets.files import atomic_file, default_cache_folder, sweep, write_file
from tutti.pipelines.cache.soundness import Blob
from tutti.pipelines.cache.store import Cache

ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABC_MD5 = "900150983cd24fb0d6963f7d28e17f72"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_half(path, error):
    with atomic_file(path) as stream:
        stream.write(b"half")
        stream.flush()
        raise error


# --- files


@pytest.mark.parametrize("durable", [True, False])
def test_a_written_file_appears_whole_and_alone(tmp_path, durable):
    write_file(tmp_path / "new" / "folder" / "file.json", b"abc", durable=durable)

    assert files_below(tmp_path) == ["new/folder/file.json"]
    assert (tmp_path / "new" / "folder" / "file.json").read_bytes() == b"abc"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_exception_in_the_writer_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        write_half(tmp_path / "file", error)

    assert files_below(tmp_path) == []


def test_an_exception_in_the_writer_leaves_the_old_content(tmp_path):
    write_file(tmp_path / "file", b"old")

    with pytest.raises(ValueError, match="stop"):
        write_half(tmp_path / "file", ValueError("stop"))

    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_file_is_not_visible_before_the_block_ends(tmp_path):
    with atomic_file(tmp_path / "file") as stream:
        stream.write(b"abc")
        assert not (tmp_path / "file").exists()

    assert (tmp_path / "file").read_bytes() == b"abc"


def test_two_threads_can_write_one_file_at_once_and_the_last_to_finish_wins(tmp_path):
    with atomic_file(tmp_path / "file") as first:
        first.write(b"first")
        other = threading.Thread(target=write_file, args=(tmp_path / "file", b"second"))
        other.start()
        other.join()
        assert (tmp_path / "file").read_bytes() == b"second"

    assert (tmp_path / "file").read_bytes() == b"first"
    assert files_below(tmp_path) == ["file"]


# --- blobs


def test_the_cache_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE_DIR", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert default_cache_folder() == Path("/a")
    monkeypatch.delenv("TUTTI_CACHE_DIR")
    assert default_cache_folder() == Path("/b/tutti")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path("/c/.cache/tutti")


def test_a_blob_is_named_by_its_content(cache):
    assert cache.put_blob(b"abc") == ABC_SHA256
    assert cache.blob_path(ABC_SHA256) == cache.root / "blobs" / "ba" / ABC_SHA256
    assert cache.has_blob(ABC_SHA256)
    assert cache.read_blob(ABC_SHA256) == b"abc"
    assert files_below(cache.root) == [f"blobs/ba/{ABC_SHA256}"]


def test_a_damaged_blob_is_detected_and_removed(cache):
    cache.put_blob(b"abc")
    cache.blob_path(ABC_SHA256).write_bytes(b"abd")

    with pytest.raises(IntegrityError, match=rf"blob {ABC_SHA256} was damaged .*run the build again"):
        cache.read_blob(ABC_SHA256)

    assert not cache.has_blob(ABC_SHA256)


def test_a_blob_that_was_removed_can_be_put_again(cache):
    cache.put_blob(b"abc")
    cache.blob_path(ABC_SHA256).unlink()

    assert cache.put_blob(b"abc") == ABC_SHA256
    assert cache.read_blob(ABC_SHA256) == b"abc"


# --- received files


@pytest.mark.parametrize(
    ("sha256", "md5"), [(None, None), (ABC_SHA256, None), (None, ABC_MD5), (ABC_SHA256, ABC_MD5)]
)  # fmt: skip
def test_a_received_file_is_stored_under_its_sha256(cache, sha256, md5):
    blob = cache.receive([b"a", b"", b"bc"], label="https://host/file.zip", sha256=sha256, md5=md5)

    assert blob == Blob(ABC_SHA256, ABC_MD5, 3)
    assert files_below(cache.root) == [f"blobs/ba/{ABC_SHA256}"]
    assert cache.read_blob(ABC_SHA256) == b"abc"


@pytest.mark.parametrize(
    ("sha256", "md5", "named"), [("0" * 64, None, "sha256"), (None, "0" * 32, "md5"), (ABC_SHA256, "0" * 32, "md5")]
)
def test_a_file_with_a_wrong_digest_is_refused_and_leaves_nothing(cache, sha256, md5, named):
    with pytest.raises(IntegrityError) as caught:
        cache.receive([b"abc"], label="https://host/file.zip", sha256=sha256, md5=md5)

    found, wanted = (ABC_SHA256, "0" * 64) if named == "sha256" else (ABC_MD5, "0" * 32)
    assert str(caught.value).startswith(f"https://host/file.zip: {named} is {found}, expected {wanted}; ")
    assert files_below(cache.root) == []


def test_a_connection_that_breaks_leaves_nothing(cache):
    def chunks():
        yield b"ab"
        raise ConnectionResetError("peer")

    with pytest.raises(ConnectionResetError):
        cache.receive(chunks(), label="https://host/file.zip", sha256=None, md5=None)

    assert files_below(cache.root) == []


def test_a_file_received_twice_is_there_once(cache):
    for _ in range(2):
        cache.receive([b"abc"], label="https://host/file.zip", sha256=None, md5=None)

    assert files_below(cache.root) == [f"blobs/ba/{ABC_SHA256}"]


RECEIVER = """
import sys
from pathlib import Path
from tutti.pipelines.cache.store import Cache
cache = Cache(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(150):
    cache.receive([b"abc"], label="https://host/file.zip", sha256=None, md5=None)
"""


def test_a_process_killed_while_it_receives_leaves_only_what_the_next_build_sweeps(cache):
    code = (
        "import os, signal, sys; from pathlib import Path; from tutti.pipelines.cache.store import Cache\n"
        "def chunks():\n    yield b'ab'\n    os.kill(os.getpid(), signal.SIGKILL)\n    yield b'c'\n"
        "Cache(Path(sys.argv[1])).receive(chunks(), label='x', sha256=None, md5=None)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(cache.root)], cwd=ROOT).returncode == -9
    assert len(files_below(cache.incoming)) == 1

    sweep(cache.incoming)

    assert files_below(cache.root) == []


def test_two_builds_can_receive_the_same_file_into_one_cache_at_once(cache):
    builds = [
        subprocess.Popen(
            [sys.executable, "-c", RECEIVER, str(cache.root)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for build in builds:
        assert build.stdout.readline() == "ready\n"
    for build in builds:
        build.stdin.write("go\n")
        build.stdin.flush()

    errors = [build.communicate(timeout=60)[1][-300:] for build in builds]

    assert errors == ["", ""]
    assert files_below(cache.root) == [f"blobs/ba/{ABC_SHA256}"]


def test_an_archive_is_opened_as_a_plain_tar_where_there_is_one(cache):
    sha256 = cache.put_blob(b"packed")
    assert cache.archive_path(sha256) == cache.blob_path(sha256)

    cache.derived("gunzip", sha256, lambda stream: stream.write(b"plain"))

    assert cache.archive_path(sha256) == cache.derived_path("gunzip", sha256)


# --- results


def test_a_remembered_result_comes_back(cache):
    cache.remember("prepare", "0a1b", {"reason": "truncated", "value": 3.5, "detail": "é"})

    assert cache.result("prepare", "0a1b") == {"reason": "truncated", "value": 3.5, "detail": "é"}
    assert files_below(cache.root) == ["stages/prepare/0a/0a1b.json"]


def test_a_result_of_another_stage_or_key_is_none(cache):
    cache.remember("embed", "0a1b", {"blob": ABC_SHA256})

    assert cache.result("fingerprint", "0a1b") is None
    assert cache.result("embed", "0a1c") is None


def test_a_forgotten_result_is_none(cache):
    cache.remember("first_use", "0a1b", {"sha256": ABC_SHA256})

    assert [cache.forget("first_use", "0a1b"), cache.forget("first_use", "0a1b")] == [True, False]
    assert cache.result("first_use", "0a1b") is None


@pytest.mark.parametrize("content", [b"", b'{"audio": {"ga', b"\xff\xff"], ids=["empty", "cut", "no text"])
def test_a_damaged_result_counts_as_absent(cache, content):
    cache.remember("embed", "0a1b", {"blob": ABC_SHA256})
    (cache.root / "stages" / "embed" / "0a" / "0a1b.json").write_bytes(content)

    assert cache.result("embed", "0a1b") is None
