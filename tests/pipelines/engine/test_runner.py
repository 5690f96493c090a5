"""The build stays in charge: signals, locks, and an error that looks like one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, built

from tutti.datasets.errors import IntegrityError, StorageError, TuttiError, UsageError
from tutti.datasets.manifest import read_manifest
from tutti.pipelines.build.output import Output
from tutti.pipelines.engine.runner import pipeline_options, unwrap_runner_error


@pytest.fixture
def start(sample_mirror: Path, tmp_path: Path):
    """Starts a build from nothing in a process of its own."""

    def run(*flags: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "pipelines.build",
            "--dataset",
            "ultimate",
            "--embedder",
            "none",
            "--mirror",
            str(sample_mirror),
        ]
        command += ["--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"), *flags]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


def wait_for_prepared_clips(folder: Path, count: int = 5) -> None:
    """Until the build is in the middle of its work."""
    deadline = time.monotonic() + 60
    while len(list(folder.glob("cache/stages/prepare/*/*.json"))) < count:
        assert time.monotonic() < deadline, "the build did not get to work"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_build_with_its_exit_code(start, tmp_path: Path, number: int, code: int) -> None:
    process = start()
    wait_for_prepared_clips(tmp_path)
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, "it goes on where it was" in error) == (code, True)
    assert not (tmp_path / "out" / "current").exists()


def test_a_summary_that_nobody_reads_is_an_error_but_the_version_is_there(start, tmp_path: Path) -> None:
    process = start()
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, error = process.communicate(timeout=120)
    assert (process.returncode, "nobody reads stdout any more" in error) == (74, True), error
    assert (tmp_path / "out" / "current" / "manifest" / "manifest.json").is_file()


def test_a_killed_build_goes_on_where_it_was_and_ends_with_the_same_digest(
    start, tmp_path: Path, sample_build: Path
) -> None:
    process = start()
    wait_for_prepared_clips(tmp_path)
    process.kill()
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/stages/prepare/*/*.json")}
    output, error = start().communicate(timeout=120)
    assert json.loads(output)["root_digest"] == read_manifest(sample_build).root_digest, error
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_second_build_of_the_same_output_is_turned_away_with_the_holder_named(start, tmp_path: Path) -> None:
    with Output(tmp_path / "out").locked(wait_s=0):
        second = start()
        _, error = second.communicate(timeout=60)
    assert (second.returncode, f"is being built by pid {os.getpid()} on " in error) == (75, True)


def test_an_error_of_ours_keeps_its_kind_and_message_through_a_runner() -> None:
    wrapped = RuntimeError(
        "Traceback (most recent call last):\n  File ...\n"
        "tutti.datasets.errors.IntegrityError: eval.csv:5: 3 fields; fetch it again "
        "[while running 'select/ParDo(_Apply)-ptransform-7']\n"
    )
    translated = unwrap_runner_error(wrapped)
    assert type(translated) is IntegrityError
    assert str(translated) == "eval.csv:5: 3 fields; fetch it again"


def test_a_full_disk_is_a_storage_error() -> None:
    assert isinstance(unwrap_runner_error(OSError(28, "No space left on device")), StorageError)


def test_an_unexpected_error_is_passed_on_as_it_is() -> None:
    error = ZeroDivisionError("division by zero")
    assert unwrap_runner_error(error) is error
    assert not isinstance(unwrap_runner_error(error), TuttiError)


def test_no_network_is_used_when_a_mirror_is_given(sample_mirror: Path, tmp_path: Path) -> None:
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    summary = built(
        "--dataset", "irmas", "--limit", "3", "--mirror", str(sample_mirror),
        "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"), env=nowhere,
    )  # fmt: skip
    assert summary["clips"]["kept"] > 0


def test_a_runner_that_does_not_exist_is_a_usage_error_that_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown runner 'FlnkRunner' \(did you mean 'FlinkRunner'\?\)"):
        pipeline_options(["--runner=FlnkRunner"])
    with pytest.raises(UsageError, match=r"unknown runner 'no.such.Runner'"):
        pipeline_options(["--runner", "no.such.Runner"])


@pytest.mark.parametrize("name", ["DaskRunner", "dask"])
def test_dask_is_known_by_its_name(name: str) -> None:
    pytest.importorskip("distributed")
    chosen = pipeline_options([f"--runner={name}"]).get_all_options()["runner"]
    assert chosen == "apache_beam.runners.dask.dask_runner.DaskRunner"
