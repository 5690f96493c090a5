"""`python -m pipelines.cache`: what it counts, finds, frees and forgets, and what it leaves alone."""

import hashlib
import json
import subprocess
import sys

import pytest
from caches import DAY_S, files, prepared, rot, run
from conftest import ROOT

from tutti.datasets.files import write_file
from tutti.datasets.manifest import digest_of
from tutti.pipelines.acquisition.ledger import Attempt, Ledger
from tutti.pipelines.cache.__main__ import main
from tutti.pipelines.cache.store import Cache


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path / "cache")
    (cache.root / "blobs").mkdir(parents=True)
    return cache


# --- the command line


@pytest.mark.parametrize("arguments", [["--cache-dir", "{}", "list"], ["list", "--cache-dir", "{}"]])
def test_the_module_is_a_command_and_the_folder_may_come_before_or_after(cache, arguments):
    command = [sys.executable, "-m", "pipelines.cache", *(argument.format(cache.root) for argument in arguments)]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == str(cache.root)


def test_without_a_folder_the_default_cache_is_meant(cache, capsys, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE_DIR", str(cache.root))

    assert main(["list"]) == 0
    assert capsys.readouterr().out.startswith(f"{cache.root}\n")


@pytest.mark.parametrize("command", [["list"], ["verify"], ["gc"], ["forget", "http://h/x"], ["availability"]])
def test_a_folder_that_is_no_cache_is_a_usage_error_and_stays_as_it_is(tmp_path, capsys, command):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()

    for folder, complaint in (("photos", "is no cache of ours"), ("absent", "no cache here")):
        assert main([*command, "--cache-dir", str(tmp_path / folder)]) == 2
        assert f"{folder}: {complaint}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["photos", "a.jpg"]


@pytest.mark.parametrize("arguments", [[], ["lst"], ["gc", "--older-than", "soon"], ["gc", "--older-than", "-1"]])
def test_a_wrong_command_line_is_a_usage_error(cache, capsys, arguments):
    assert main(["--cache-dir", str(cache.root), *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


# --- list


def test_everything_is_counted_under_its_kind(cache, capsys):
    prepared(cache)
    cache.receive([b"archive"], label="archive", sha256=None, md5=None)
    cache.derived("gunzip", hashlib.sha256(b"archive").hexdigest(), lambda stream: stream.write(b"0123456789"))
    write_file(cache.part_path("http://h/x"), b"12345")
    write_file(cache.root / "quarantine" / "a.b", b"123")
    write_file(cache.root / "sample" / "key" / "zenodo.org" / "a.zip", b"12")
    write_file(cache.root / "blobs" / "xx" / "stray", b"1")
    write_file(cache.root / "locks" / "a.lock", b"")
    Ledger(cache.root / "ledger" / "youtube").record(Attempt("youtube/a", 0.0, "failed", "bot"))

    code, (line,), _ = run(cache, capsys, "list", "--json")
    listed = json.loads(line)

    assert code == 0
    assert {kind: found["count"] for kind, found in listed["kinds"].items()} == {
        "upstream": 2, "audio": 1, "stray": 1, "derived": 1, "result": 2, "part": 1, "quarantine": 1, "sample": 1,
        "hot": 0, "ledger": 1, "other": 1,
    }  # fmt: skip
    sizes = {kind: found["num_bytes"] for kind, found in listed["kinds"].items()}
    assert [sizes[kind] for kind in ("upstream", "derived", "part", "quarantine", "sample", "stray")] == [
        32_044 + 7, 10, 5, 3, 2, 1,
    ]  # fmt: skip
    assert listed["num_bytes"] == sum((cache.root / path).stat().st_size for path in files(cache))
    assert "  upstream           2    32.1 kB  archives, label files and videos" in run(cache, capsys, "list")[1]


# --- verify (fault 11)


def test_a_sound_cache_is_said_to_be_sound(cache, capsys):
    prepared(cache)

    assert run(cache, capsys, "verify") == (0, ["3 files, all sound"], "")


def test_every_damaged_file_is_named_put_aside_and_made_again_by_the_next_build(cache, capsys):
    upstream, audio = prepared(cache)
    archive = cache.receive([b"archive"], label="archive", sha256=None, md5=None).sha256
    tar = cache.derived("gunzip", archive, lambda stream: stream.write(b"tar"))
    (result,) = (cache.root / "stages" / "prepare").rglob("*.json")
    for path in (cache.blob_path(upstream), cache.blob_path(audio.blob), tar):
        rot(path)
    result.write_bytes(b'{"audio": ')

    code, lines, _ = run(cache, capsys, "verify")

    assert code == 3
    assert sorted(line.split(" (")[0] for line in lines[:-1]) == sorted(
        [f"damaged: blob {upstream}", f"damaged: blob {audio.blob}", f"damaged: gunzip of {archive}",
         f"damaged: result {result}"]
    )  # fmt: skip
    assert lines[-1] == (
        "4 of 6 files are damaged; they lie in the quarantine: the next build makes or fetches them again"
    )
    assert len(list((cache.root / "quarantine").iterdir())) == 4
    assert run(cache, capsys, "verify") == (0, ["2 files, all sound"], "")
    assert prepared(cache) == (upstream, audio)
    assert run(cache, capsys, "verify") == (0, ["5 files, all sound"], "")


def test_a_dry_run_of_verify_finds_the_same_and_moves_nothing(cache, capsys):
    upstream, _ = prepared(cache)
    rot(cache.blob_path(upstream))
    before = files(cache)

    code, lines, _ = run(cache, capsys, "verify", "--dry-run")

    assert (code, len(lines), files(cache)) == (3, 2, before)
    assert "run without --dry-run" in lines[-1]


# --- forget


@pytest.mark.parametrize("query", ["", "?download=1"])
def test_a_checksum_of_first_use_is_forgotten(cache, capsys, query):
    cache.remember("first_use", digest_of("http://h/x.csv"), {"sha256": "0" * 64})

    assert run(cache, capsys, "forget", f"http://h/x.csv{query}")[0] == 0

    assert cache.result("first_use", digest_of("http://h/x.csv")) is None
    code, _, err = run(cache, capsys, "forget", "http://h/x.csv")
    assert (code, "no checksum is remembered" in err) == (2, True)


# --- availability


def test_the_ledger_is_printed_with_its_counts_first(cache, capsys):
    ledger = Ledger(cache.root / "ledger" / "youtube")
    for key, time_s, reason in (
        ("youtube/a", 0, "private"), ("youtube/a", 2 * DAY_S, "removed"),
        ("youtube/b", 0, "bot"), ("youtube/c", 0, "bot"),
    ):  # fmt: skip
        ledger.record(Attempt(key, float(time_s), "failed", reason))
    ledger.record(Attempt("youtube/d", 0.0, "fetched", sha256="0" * 64, method="full"))

    code, lines, _ = run(cache, capsys, "availability")

    assert code == 0
    assert lines[:4] == [
        "1 fetched",
        "1 gone removed",
        "2 pending bot",
        "recording status reason first-seen last-seen attempts",
    ]
    assert sorted(lines[4:]) == [
        "youtube/a gone removed 1970-01-01 1970-01-03 2",
        "youtube/b pending bot 1970-01-01 1970-01-01 1",
        "youtube/c pending bot 1970-01-01 1970-01-01 1",
        "youtube/d fetched - 1970-01-01 1970-01-01 1",
    ]
    shown = [json.loads(line) for line in run(cache, capsys, "availability", "--status", "gone", "--json")[1]]
    assert [(one["key"], one["status"], one["reason"], one["attempts"]) for one in shown] == [
        ("youtube/a", "gone", "removed", 2)
    ]


def test_a_reader_that_has_seen_enough_is_no_error(cache):
    folder = cache.root / "stages" / "prepare" / "00"
    folder.mkdir(parents=True)
    for number in range(1_000):  # more lines than a pipe holds
        (folder / f"{number:064x}.json").write_bytes(b"{")
    command = f"{sys.executable} -m pipelines.cache verify --dry-run --cache-dir {cache.root} | head -1"

    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)

    assert (result.stdout.count("\n"), result.stderr) == (1, "")


# --- fault 26: few descriptors

FEW = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import tutti.datasets.sample
from tutti.pipelines.cache.__main__ import main
if sys.argv.pop(1) == "none left":
    try:
        while True:
            os.open("/dev/null", os.O_RDONLY)
    except OSError:
        pass
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["list", "verify", "gc"])
@pytest.mark.parametrize(("left", "code"), [("64", 0), ("none left", 74)])
def test_few_file_descriptors_suffice_and_none_is_a_clear_error(cache, command, left, code):
    for number in range(300):
        cache.remember("embed", f"{number:064x}", {"blob": cache.put_blob(b"%d" % number)})
    before = files(cache)

    result = subprocess.run(
        [sys.executable, "-c", FEW, left, command, "--cache-dir", str(cache.root)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert result.returncode == code
    assert (result.stderr == "") if code == 0 else ("Too many open files" in result.stderr)
    assert ("ulimit -n" in result.stderr) == (code == 74)
    assert files(cache) == before
