"""A cache that belongs to somebody else: what is in it can be used, what cannot be written is told in one line."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, built

from tutti.datasets.locks import READ_ONLY
from tutti.datasets.locks import lock as hold

FLAGS = ("--dataset", "irmas", "--limit", "12", "--embedder", "logmel")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, sample_mirror):
    """A cache with all that a build needs, which may only be read: (folder, summary of its owner's build)."""
    folder = tmp_path_factory.mktemp("theirs")
    places = ("--mirror", str(sample_mirror), "--cache-dir", str(folder / "cache"))
    summary = built(*FLAGS, *places, "--output", str(folder / "theirs"))
    for below in (folder / "cache", *(folder / "cache").rglob("*")):
        below.chmod(0o555 if below.is_dir() else 0o444)
    yield folder, summary
    for below in (folder / "cache", *(folder / "cache").rglob("*")):
        below.chmod(0o755)


def bound_by_permissions(*command):
    """Run a command as a user whom permissions bind; root gives up the right to pass them by."""
    without = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner") if os.geteuid() == 0 else ()
    if without and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, or a user who is not root")
    return subprocess.run(
        [*without, sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_a_cache_that_cannot_be_written_serves_a_build_that_lacks_nothing(theirs, sample_mirror, tmp_path):
    folder, summary = theirs
    places = ("--mirror", str(sample_mirror), "--cache-dir", str(folder / "cache"))

    result = bound_by_permissions("pipelines.build", *FLAGS, *places, "--output", str(tmp_path / "ours"))

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["root_digest"] == summary["root_digest"]


def test_a_build_that_lacks_something_says_in_one_line_that_the_cache_cannot_be_written(
    theirs, sample_mirror, tmp_path
):
    folder, _ = theirs
    places = ("--mirror", str(sample_mirror), "--cache-dir", str(folder / "cache"))
    more = ("--dataset", "irmas", "--limit", "16", "--embedder", "logmel")

    result = bound_by_permissions("pipelines.build", *more, *places, "--output", str(tmp_path / "ours"))

    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.returncode, len(errors), "Traceback" in result.stderr) == (74, 1, False)
    assert "Permission denied" in errors[0]
    assert str(folder / "cache") in errors[0]
    assert "check the permissions" in errors[0]


def test_a_lock_of_somebody_elses_can_be_held(tmp_path):
    """For a reader as well: two builds of two users still wait for each other."""
    lock = tmp_path / "locks" / "a.lock"
    with hold(lock):
        pass
    lock.chmod(0o444)
    lock.parent.chmod(0o555)
    try:
        with hold(lock, unless=READ_ONLY) as descriptor:
            assert descriptor >= 0
    finally:
        lock.parent.chmod(0o755)


def test_files_of_a_cache_have_the_rights_that_the_umask_leaves(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from tutti.pipelines.cache.store import Cache\n"
        "os.umask(0o002); cache = Cache(Path(sys.argv[1])); blob = cache.put_blob(b'abc')\n"
        "cache.remember('embed', '0a1b', {'blob': blob}); cache.receive([b'x'], label='x', sha256=None, md5=None)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "cache")], cwd=ROOT, check=True)

    found = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (tmp_path / "cache").rglob("*")}
    assert found == {(True, 0o775), (False, 0o664)}
