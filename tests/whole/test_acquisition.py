"""Whole builds of AudioSet from YouTube: what is kept, what is pending, and what never gets out."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, run_build
from server import Server
from youtube_site import Site, fails, plays

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.build.__main__ import main

WATCH = "www.youtube.com/watch"


@pytest.fixture
def labels(sample_mirror: Path, tmp_path: Path) -> Path:
    """A folder of the user's own: AudioSet's label files with their SHA256SUMS, and no audio."""
    folder = tmp_path / "labels"
    for host in ("storage.googleapis.com", "raw.githubusercontent.com"):
        shutil.copytree(sample_mirror / host, folder / host)
    sums = (sample_mirror / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in sums if WATCH not in line))
    return folder


@pytest.fixture
def site(sample_mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A YouTube that has what the mirror has, and says of the rest that it was removed."""
    monkeypatch.delenv("TUTTI_OFFLINE", raising=False)
    with Server() as server:
        server.serve_folder(sample_mirror)
        site = Site(tmp_path / "site", server)
        site.every(".*", fails("Video unavailable. This video has been removed by the uploader"))
        for media in sorted((sample_mirror / WATCH).iterdir()):
            site.answers(media.stem, plays(f"{server.url}/{WATCH}/{media.name}"))
        site.enter(monkeypatch)
        yield site


@pytest.fixture
def arguments(labels: Path, tmp_path: Path) -> list[str]:
    return [
        "--dataset", "audioset", "--data-from", str(labels), "--output", str(tmp_path / "out"),
        "--cache-dir", str(tmp_path / "cache"), "--videos-per-hour", "inf", "--media-host", "127.0.0.1",
    ]  # fmt: skip


def summary(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_audioset_from_youtube_is_the_dataset_that_a_mirror_gives(site, arguments, sample_mirror, tmp_path, capsys):
    assert main(arguments) == 0
    fetched = summary(capsys)
    places = ("--output", str(tmp_path / "mirrored"), "--cache-dir", str(tmp_path / "cache2"))
    assert main(["--dataset", "audioset", "--mirror", str(sample_mirror), *places]) == 0
    mirrored = summary(capsys)

    assert fetched["root_digest"] == mirrored["root_digest"]
    gone = mirrored["sources"]["audioset"].pop("gone")
    assert gone > 0
    assert fetched["sources"]["audioset"]["gone"] == 0  # one sighting is not enough
    assert fetched["clips"]["rejected"]["removed"] == gone
    rows = {row["id"]: row for row in read_manifest(tmp_path / "out").clip_rows()}
    assert {row.get("acquired") for row in rows.values() if row["status"] == "kept"} == {"full"}
    assert {row["status"] for row in rows.values() if row.get("reason") == "removed"} == {"pending"}
    assert {json.loads(line)["url"][:5] for line in [json.dumps(file) for file in sources(tmp_path)]} == {"https"}


def sources(folder: Path) -> list[dict]:
    files: list[dict] = read_manifest(folder / "out").content["sources"]["audioset"]["files"]
    assert {file["verified_by"] for file in files} == {"own"}
    return files


def test_a_second_build_asks_youtube_for_nothing_that_it_answered(site, arguments, tmp_path, capsys):
    assert main(arguments) == 0
    first, asked = summary(capsys), site.calls()
    broken = [row for row in read_manifest(tmp_path / "out").clip_rows() if row.get("reason") == "no_formats"]

    assert main(arguments) == 0
    second = summary(capsys)

    # What no decoder reads may have broken on its way: that is asked for once more.
    assert site.calls() == asked + Counter(row["recording"] for row in broken)
    assert (second["changed"], second["version"]) == (False, first["version"])


def test_a_wall_ends_the_build_with_75_and_the_next_one_goes_on(site, arguments, sample_mirror, tmp_path, capsys):
    videos = sorted(media.stem for media in (sample_mirror / WATCH).iterdir())
    answers = {video: site._script["videos"][video] for video in videos}
    for video in videos:
        site.fails(video, "Sign in to confirm you're not a bot")

    assert main(arguments) == 75
    assert "youtube" in capsys.readouterr().err
    assert not (tmp_path / "out" / "current").exists()

    for video in videos:
        site.answers(video, *answers[video])
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n")
    assert main([*arguments, "--cookies", str(cookies)]) == 0
    assert summary(capsys)["clips"]["kept"] > 0


def test_a_source_whose_every_video_fails_is_never_an_empty_success(site, arguments, tmp_path, capsys):
    for video in list(site._script["videos"]):
        site.fails(video, "Private video. Sign in if you've been granted access to this video")

    assert main(arguments) == 5
    assert "audioset: no clip was kept; reasons: {'private':" in capsys.readouterr().err
    assert not (tmp_path / "out" / "current").exists()


def test_a_yield_below_the_minimum_is_not_published(site, arguments, tmp_path, capsys):
    assert main([*arguments, "--min-yield", "0.99"]) == 5
    error = capsys.readouterr().err
    assert "less than --min-yield 0.99; reasons: {" in error
    assert not (tmp_path / "out" / "current").exists()

    assert main([*arguments, "--min-yield", "0.1"]) == 0


def test_what_the_user_excludes_is_never_asked_for_and_leaves_a_trace(site, arguments, tmp_path, capsys):
    video = sorted(site._script["videos"])[0]
    exclusions = tmp_path / "takedowns.txt"
    exclusions.write_text(f"# by request\n\naudioset/{video}\n")

    assert main([*arguments, "--exclude", str(exclusions)]) == 0
    summary(capsys)
    manifest = read_manifest(tmp_path / "out")
    rows = [row for row in manifest.clip_rows() if row["recording"] == video]

    assert [(row["status"], row["stage"], row["reason"]) for row in rows] == [("rejected", "select", "excluded")]
    assert manifest.content["recipe"]["select"]["exclude"] == [f"audioset/{video}"]
    assert site.calls()[video] == 0


def test_how_youtube_is_reached_stays_out_of_every_file_of_the_output(site, arguments, tmp_path, capsys):
    cookies = tmp_path / "my-cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t2147483647\tSID\tsecret-of-mine\n")

    assert main([*arguments, "--cookies", str(cookies), "--ytdlp", "sleep_interval_requests=0.001"]) == 0
    shown = capsys.readouterr()

    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for secret in ("secret-of-mine", "my-cookies", "sleep_interval_requests", "127.0.0.1"):
        assert secret.encode() not in written
        assert secret not in shown.out + shown.err


def test_offline_only_what_is_here_is_used_and_the_rest_is_pending(site, arguments, tmp_path, monkeypatch, capsys):
    assert main(arguments) == 0
    kept = summary(capsys)["clips"]["kept"]
    asked = site.calls()
    monkeypatch.setenv("TUTTI_OFFLINE", "1")
    shutil.rmtree(tmp_path / "cache" / "ledger")

    assert main(arguments) == 5  # the ledger names the files: without it they are strangers
    assert "'offline':" in capsys.readouterr().err
    assert site.calls() == asked
    assert kept > 0


RECORD_CONNECTIONS = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["CONNECTIONS"], "a") as log:
            log.write(f"{event} {arguments[0 if 'get' in event else 1]!r}\\n")
sys.addaudithook(hook)
"""


@pytest.mark.parametrize("offline", [False, True], ids=["mirror", "mirror and TUTTI_OFFLINE"])
def test_a_build_from_a_mirror_opens_no_foreign_socket(sample_mirror, tmp_path, offline):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(RECORD_CONNECTIONS)
    log = tmp_path / "connections.txt"
    log.touch()
    env = {"PYTHONPATH": str(tmp_path / "hook"), "CONNECTIONS": str(log), "NO_PROXY": "127.0.0.1"}
    with Server() as server:
        server.serve_folder(sample_mirror)
        result = run_build(
            "--dataset", "ultimate", "--embedder", "none", "--limit", "4", "--mirror", server.url,
            "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"),
            env=env | ({"TUTTI_OFFLINE": "1"} if offline else {}),
        )  # fmt: skip
    asked = log.read_text().splitlines()

    assert result.returncode == 0, result.stderr
    assert any("127.0.0.1" in line for line in asked)  # the hook works
    assert [line for line in asked if "127.0.0.1" not in line] == []


def test_offline_without_a_mirror_is_a_usage_error_that_names_the_remedies(tmp_path):
    places = ("--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    result = run_build("--dataset", "irmas", *places, env={"TUTTI_OFFLINE": "1"})

    assert result.returncode == 2
    for word in ("TUTTI_OFFLINE", "--mirror", "--data-from"):
        assert word in result.stderr


@pytest.mark.slow
def test_a_server_that_fails_truncates_and_throttles_gives_the_same_root_digest(sample_mirror, sample_build, tmp_path):
    with Server() as server:
        server.serve_folder(sample_mirror)
        server.flaky(seed=1, fail=0.2, truncate=0.1, throttle=20_000_000)
        result = run_build(
            "--dataset", "ultimate", "--mirror", server.url, "--embedder", "none",
            "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"), env={"NO_PROXY": "127.0.0.1"},
        )  # fmt: skip
        requests = len(server.requests)

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["root_digest"] == read_manifest(sample_build).root_digest
    assert requests > sum(path.is_file() for path in sample_mirror.rglob("*"))  # some were needed twice


# --- limits of the machine


def limited(limit: str, value: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A build under a limit of the operating system."""
    code = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.{limit}, ({value}, {value})); sys.argv = ['build', *sys.argv[1:]]; "
        "runpy.run_module('pipelines.build', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120
    )


def test_files_that_may_not_grow_end_the_build_with_74_and_the_old_version_intact(sample_mirror, tmp_path, capsys):
    arguments = [
        "--dataset", "irmas", "--mirror", str(sample_mirror), "--output", str(tmp_path / "out"),
        "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip
    assert main([*arguments, "--limit", "5"]) == 0
    before = summary(capsys)["version"]

    result = limited("RLIMIT_FSIZE", 100_000, *arguments, "--cache-dir", str(tmp_path / "other"))

    assert (result.returncode, "it needs more than" in result.stderr) == (74, True), result.stderr
    assert read_manifest(tmp_path / "out").version == before
    assert main(arguments) == 0


def test_a_process_with_few_file_descriptors_builds_or_says_what_it_lacks(sample_mirror, tmp_path):
    result = limited(
        "RLIMIT_NOFILE", 64, "--dataset", "irmas", "--mirror", str(sample_mirror),
        "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip

    assert result.returncode in (0, 74), result.stderr
    assert result.returncode == 0 or "Too many open files" in result.stderr
    assert (tmp_path / "out" / "current").exists() == (result.returncode == 0)


def test_every_stage_run_twice_over_gives_the_same_dataset(sample_mirror, sample_build, tmp_path, monkeypatch, capsys):
    import tutti.pipelines.engine.stage as stage

    once, stages = stage.apply, set()

    def twice(name, function, row):
        first, second = once(name, function, row), once(name, function, row)
        stages.add(name)
        assert first == second
        return second

    monkeypatch.setattr(stage, "apply", twice)

    assert main(
        ["--dataset", "ultimate", "--mirror", str(sample_mirror), "--embedder", "none",
         "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    ) == 0  # fmt: skip
    assert summary(capsys)["version"] == read_manifest(sample_build).version
    assert {"download", "select", "fetch", "prepare", "clean", "split", "write", "clip_rows", "manifest"} <= stages


def test_own_audio_is_reported_file_by_file_before_and_after_a_build(
    labels, sample_mirror, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TUTTI_OFFLINE", "1")
    media = sorted((sample_mirror / WATCH).iterdir())
    mine = labels / WATCH
    mine.mkdir(parents=True)
    for file in media[:4]:
        shutil.copy(file, mine)
    (labels / f"A title-{media[0].stem}.webm").write_bytes(b"")
    command = [
        "--dataset", "audioset", "--data-from", str(labels), "--embedder", "none", "--output", str(tmp_path / "out"),
        "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip

    assert main([*command, "--dry-run"]) == 0
    foretold = capsys.readouterr().out
    assert main(command) == 0
    out, err = capsys.readouterr()

    report = json.loads(out.splitlines()[-1])["own_audio"]
    counted = f"your own audio of videos: {report['whole']} whole, {report['cut']} cut, {report['dismissed']} dismissed"
    assert report["whole"] + report["cut"] + report["dismissed"] == len(report["files"]) > 0
    assert report["whole"] > 0
    assert report["names_without_id"] == 1
    for told in (foretold, err):
        assert counted in told
        assert f"hold no video's id: A title-{media[0].stem}.webm" in told
