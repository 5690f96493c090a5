"""`python -m pipelines.cache gc`: what nothing refers to goes, all else stays."""

import signal
import subprocess
import sys

import pytest
from caches import age, files, prepared, rot, run
from conftest import ROOT

from tutti.datasets.clip_line import encode
from tutti.datasets.files import write_file
from tutti.datasets.manifest import canonical_json
from tutti.datasets.sample import sample_key
from tutti.pipelines.acquisition.ledger import Attempt, Ledger
from tutti.pipelines.cache.store import Cache


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path / "cache")
    (cache.root / "blobs").mkdir(parents=True)
    return cache


def build(folder, content):
    """The least that counts as a built version."""
    write_file(folder / "manifest" / "manifest.json", canonical_json(content).encode())
    return folder


def needed_and_not(cache):
    """Old things: (paths that something refers to, paths that nothing refers to)."""

    def blob(content):
        return cache.blob_path(cache.receive([content], label="x", sha256=None, md5=None).sha256)

    upstream, audio = prepared(cache)
    by_ledger, by_result, by_nobody = blob(b"video"), blob(b"archive"), blob(b"replaced")
    Ledger(cache.root / "ledger" / "youtube").record(
        Attempt("youtube/a", 0.0, "fetched", sha256=by_ledger.name, method="full", offset_s=0.0)
    )
    cache.remember("download", "md5-0", {"sha256": by_result.name})
    tar = cache.derived("gunzip", by_result.name, lambda stream: stream.write(b"tar"))
    orphan_tar = cache.derived("gunzip", by_nobody.name, lambda stream: stream.write(b"tar of it"))
    orphan_result = cache.root / "stages" / "gunzip" / by_nobody.name[:2] / f"{by_nobody.name}.json"
    gone = [cache.part_path("http://h/x"), cache.root / "quarantine" / "a.b", cache.root / "blobs" / "xx" / "stray"]
    gone += [cache.root / "sample" / "of-an-older-version" / "a.zip"]
    kept = [cache.root / "sample" / sample_key() / "a.zip", cache.root / "locks" / "a.lock"]
    kept += [cache.incoming / "a.part.lock", cache.root / "budget" / "youtube.json"]
    for path in (*gone, *kept):
        write_file(path, b"123")
    age(cache.root)
    kept += [cache.blob_path(upstream), cache.blob_path(audio.blob), by_ledger, by_result, tar]
    return kept, [*gone, by_nobody, orphan_tar, orphan_result]


def test_what_nothing_refers_to_goes_and_all_else_stays(cache, capsys):
    kept, gone = needed_and_not(cache)
    num_bytes = sum(path.stat().st_size for path in gone)

    code, lines, _ = run(cache, capsys, "gc")

    assert code == 0
    assert [path for path in kept if not path.is_file()] == []
    assert [path for path in gone if path.exists()] == []
    assert lines[-1].startswith(f"freed {num_bytes:,} bytes ")
    assert len(lines) == len(gone) + 1
    assert run(cache, capsys, "gc")[1] == ["freed 0 bytes (0 B): nothing"]


def test_a_dry_run_of_gc_names_the_same_and_removes_nothing(cache, capsys):
    needed_and_not(cache)
    before = files(cache)

    dry = run(cache, capsys, "gc", "--dry-run")[1]
    assert files(cache) == before
    real = run(cache, capsys, "gc")[1]

    assert dry[:-1] == real[:-1]
    assert dry[-1] == real[-1].replace("freed", "would free")


@pytest.mark.parametrize(
    ("days", "older_than", "goes"), [(29, [], False), (31, [], True), (2, ["--older-than", "1"], True)]
)
def test_what_is_younger_than_the_grace_stays(cache, capsys, days, older_than, goes):
    blob = cache.blob_path(cache.put_blob(b"of nobody"))
    age(blob, days)

    run(cache, capsys, "gc", *older_than)

    assert blob.exists() != goes


def test_what_was_put_aside_stays_for_the_grace_however_old_it_was(cache, capsys):
    blob = cache.blob_path(cache.put_blob(b"content"))
    rot(blob)
    age(blob)
    run(cache, capsys, "verify")

    run(cache, capsys, "gc")

    assert len(list((cache.root / "quarantine").iterdir())) == 1


def test_a_file_from_the_future_is_young(cache, capsys):
    blob = cache.blob_path(cache.put_blob(b"of nobody"))
    age(blob, -400)

    run(cache, capsys, "gc", "--older-than", "0")

    assert blob.exists()


@pytest.mark.parametrize("place", ["", "versions/0123456789ab"])
def test_what_a_kept_build_names_stays(cache, capsys, tmp_path, place):
    mirrored, other = cache.put_blob(b"archive of a mirror"), cache.put_blob(b"other")
    age(cache.root)
    build(tmp_path / "build" / place, {"sources": {"irmas": {"files": [{"sha256": mirrored}]}}})

    assert run(cache, capsys, "gc", "--keep-builds", str(tmp_path / "build"))[0] == 0

    assert (cache.has_blob(mirrored), cache.has_blob(other)) == (True, False)


def test_a_kept_build_that_is_none_is_a_usage_error_and_removes_nothing(cache, capsys, tmp_path):
    blob = cache.put_blob(b"of nobody")
    age(cache.root)

    code, _, err = run(cache, capsys, "gc", "--keep-builds", str(tmp_path / "typo"))

    assert (code, cache.has_blob(blob)) == (2, True)
    assert "typo: no dataset here" in err


def test_prepared_clips_of_no_kept_build_go_where_that_is_asked_for(cache, capsys, tmp_path):
    (used_upstream, used), (unused_upstream, unused) = prepared(cache, 440.0), prepared(cache, 880.0)
    age(cache.root)
    build(tmp_path / "build", {})
    audio = {"pcm_sha256": used.pcm_sha256, "source_sha256": used_upstream}
    row = {"id": "folder/a@0", "status": "kept", "audio": audio}
    write_file(tmp_path / "build" / "manifest" / "clips" / "00.jsonl", encode(row).encode() + b"\n")
    keep = ["gc", "--keep-builds", str(tmp_path / "build")]

    assert run(cache, capsys, *keep)[1] == ["freed 0 bytes (0 B): nothing"]
    lines = run(cache, capsys, *keep, "--stale-results")[1]

    assert lines[-1].endswith(": 1 upstream, 1 audio, 1 result") or lines[-1].endswith(
        ": 1 audio, 1 upstream, 1 result"
    )
    assert [cache.has_blob(digest) for digest in (used_upstream, used.blob, unused_upstream, unused.blob)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_stale_results_without_a_kept_build_is_a_usage_error(cache, capsys):
    assert run(cache, capsys, "gc", "--stale-results")[0] == 2


HOLDER = """
import sys
from pathlib import Path
from tutti.pipelines.cache.store import Cache
with Cache(Path(sys.argv[1])).in_use():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_nothing_is_removed_while_a_build_uses_the_cache_and_its_death_ends_that(cache, capsys):
    blob = cache.put_blob(b"of nobody")
    age(cache.root)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cache.root)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"

        code, _, err = run(cache, capsys, "gc")
        assert (code, cache.has_blob(blob)) == (75, True)
        assert "a build uses this cache" in err
        assert run(cache, capsys, "gc", "--dry-run")[0] == 0

        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert run(cache, capsys, "gc")[0] == 0
    assert not cache.has_blob(blob)
