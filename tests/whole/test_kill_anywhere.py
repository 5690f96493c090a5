"""Kill a build anywhere and run it again: it ends where an undisturbed one ends.

`TUTTI_KILLS` says how many random kills there are (15 without it): so many, as builds that end before do not count.
"""

import math
import os
import random
import shutil
import signal

import pytest
from conftest import built, run_build
from killer import kill_after, leftovers, start, stopwatch, visible_version, wait_for_lock

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.build.__main__ import main

KILLS = int(os.environ.get("TUTTI_KILLS", "15"))
KILLS_PER_BUILD = 5
STRIDE = next(step for step in (7, 11, 13, 17, 19) if math.gcd(step, KILLS) == 1)


@pytest.mark.slow
def test_a_build_killed_at_any_instant_ends_with_the_version_of_an_undisturbed_one(tmp_path, sample_mirror):
    output, cache, temporary = tmp_path / "out", tmp_path / "cache", tmp_path / "temporary"
    arguments = ["--dataset", "irmas", "--limit", "12", "--mirror", str(sample_mirror)]
    arguments += ["--output", str(output), "--cache-dir", str(cache)]
    temporary.mkdir()
    clean = start(arguments)
    wait_for_lock(clean, output)
    begun = stopwatch()
    assert kill_after(clean, 120) == 0
    clean_s = stopwatch() - begun
    version, root_digest = visible_version(output), read_manifest(output).root_digest
    shutil.rmtree(output)
    shutil.rmtree(cache)

    lengths_s = {"from nothing": clean_s, "going on": clean_s / 2}  # of work, the shortest that was seen
    instants, killed, ended, kind = random.Random(0), 0, 0, "from nothing"
    while killed < KILLS:
        # One kill in each of as many equal parts of a build's work, all parts in an order of no meaning.
        part = killed * STRIDE % KILLS
        process = start(arguments, TMPDIR=str(temporary))
        wait_for_lock(process, output)
        begun = stopwatch()
        status = kill_after(process, lengths_s[kind] * (part + instants.random()) / KILLS)
        assert visible_version(output) in (None, version)
        assert status in (0, -signal.SIGKILL)
        if status == 0:
            ended += 1
            assert ended <= KILLS, "builds end before they are killed"
            lengths_s[kind] = 0.95 * min(lengths_s[kind], stopwatch() - begun)
        else:
            killed += 1
        kind = "going on"
        if status == 0 or killed % KILLS_PER_BUILD == 0 or killed == KILLS:
            assert main(arguments) == 0
            assert read_manifest(output).root_digest == root_digest
            assert visible_version(output) == version
            assert leftovers(output, cache) == []
            assert list(temporary.iterdir()) == []
            shutil.rmtree(output)
            shutil.rmtree(cache)
            kind = "from nothing"


POINTS = [
    "written:*/blobs/*",
    "synced:*/blobs/*",
    "renamed:*/blobs/*",
    "renamed:*/stages/prepare/*",
    "written:*.parquet",
    "renamed:*.parquet",
    "renamed:*.jsonl",
    "synced:*/manifest.json",
    "renamed:*/manifest.json",
    "synced:*/versions/*",
    "renamed:*/versions/*",
    "synced:*/current",
    "renamed:*/current",
]


@pytest.fixture(scope="module")
def versions(tmp_path_factory, sample_mirror):
    """An output that holds an older version of IRMAS, and the version that an undisturbed build ends with."""
    folder = tmp_path_factory.mktemp("versions")
    common = ("--dataset", "irmas", "--mirror", str(sample_mirror), "--cache-dir", str(folder / "cache"))
    older = built(*common, "--limit", "20", "--output", str(folder / "older"))
    shutil.copytree(folder / "older", folder / "wanted", symlinks=True)  # which version it comes from is recorded
    wanted = built(*common, "--output", str(folder / "wanted"))
    return folder / "older", older["version"], wanted["version"]


@pytest.fixture
def rebuild(tmp_path, sample_mirror, versions):
    """Arguments of the build that replaces the older version, from an empty cache."""
    output, cache = tmp_path / "out", tmp_path / "cache"
    shutil.copytree(versions[0], output, symlinks=True)
    places = ["--output", str(output), "--cache-dir", str(cache)]
    return ["--dataset", "irmas", "--mirror", str(sample_mirror), *places], output, cache


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_build_that_dies_at_a_named_point_shows_the_old_or_the_new_version_and_converges(rebuild, versions, point):
    arguments, output, cache = rebuild
    _, older, wanted = versions

    status = kill_after(start(arguments, TUTTI_CRASH_AT=point), 120)

    assert status == -signal.SIGKILL
    assert visible_version(output) == (wanted if point == "renamed:*/current" else older)
    assert main(arguments) == 0
    assert visible_version(output) == wanted
    assert leftovers(output, cache) == []


@pytest.mark.parametrize(
    "point", ["written:*/blobs/*", "synced:*/blobs/*", "written:*.parquet", "synced:*/manifest.json"]
)
def test_a_disk_that_is_full_ends_the_build_with_74_and_the_bytes_needed(rebuild, versions, point):
    arguments, output, cache = rebuild
    _, older, wanted = versions
    full = run_build(*arguments, env={"TUTTI_FAIL_AT": point})
    assert full.returncode == 74
    error = full.stderr

    assert "No space left on device; it needs more than" in error
    assert "free space, then run the same command again" in error
    assert visible_version(output) == older
    assert run_build(*arguments).returncode == 0
    assert visible_version(output) == wanted
    assert leftovers(output, cache) == []
