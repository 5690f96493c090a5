"""Workers and schedulers that die or stand still: one line, exit code 75, and the same command ends as ever.

After each fault nothing is left in the temporary folder, in the working directory or of unfinished work.
"""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from conftest import built
from faulty_builds import TWO_WORKERS, Cluster, Place, ended, one_error, workers_of

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.engine.runner_errors import dead_worker

ONE_THREAD = ("env", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")  # as many as all machines have
STALL = ("--stall-timeout", "5")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, sample_mirror: Path) -> str:
    """Root digest of a build that nothing happened to."""
    digest: str = built(*Place(tmp_path_factory.mktemp("undisturbed"), sample_mirror).arguments)["root_digest"]
    return digest


@pytest.fixture
def place(tmp_path: Path, sample_mirror: Path) -> Place:
    return Place(tmp_path, sample_mirror)


def assert_it_converges(place: Place, undisturbed: str) -> None:
    assert place.left() == []
    assert place.run_again() == 0
    assert read_manifest(place.root / "out").root_digest == undisturbed
    assert place.left() == []


@pytest.mark.slow
def test_a_worker_that_stands_still_is_named_and_ends_the_build(place: Place, undisturbed: str) -> None:
    process = place.start(*TWO_WORKERS, *STALL)
    place.wait_for_prepared_clips()
    workers = workers_of(process)
    workers[0].suspend()
    _, stderr = process.communicate(timeout=90)

    assert process.returncode == 75
    assert "the build has stood still for" in one_error(stderr)
    assert f"worker pid {workers[0].pid} is stopped" in one_error(stderr)
    assert "note: nothing has moved for " in stderr
    assert ended(workers)
    assert_it_converges(place, undisturbed)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_build_at_once(place: Place, undisturbed: str) -> None:
    process = place.start(*TWO_WORKERS)
    place.wait_for_prepared_clips()
    workers = workers_of(process)
    workers[0].kill()
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == 75
    assert "a worker process died (SIGKILL): free memory or use fewer workers" in one_error(stderr)
    assert ended(workers)
    assert_it_converges(place, undisturbed)


@pytest.mark.parametrize("flags", [(), TWO_WORKERS])
@pytest.mark.slow
def test_a_build_that_is_killed_leaves_nothing_once_it_was_run_again(
    place: Place, undisturbed: str, flags: tuple[str, ...]
) -> None:
    process = place.start(*flags)
    place.wait_for_prepared_clips()
    process.kill()
    process.communicate()

    assert place.run_again() == 0
    assert read_manifest(place.root / "out").root_digest == undisturbed
    assert place.left() == []


def test_a_build_without_threads_ends_with_75_and_says_so(place: Place, undisturbed: str) -> None:
    process = place.start(*STALL, before=few_processes(1))
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 75
    assert "can't start new thread" in one_error(stderr)
    assert "raise `ulimit -u`" in one_error(stderr)
    assert_it_converges(place, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("most", [16, 40])  # for Beam's server in the driver; for its workers
def test_workers_without_threads_end_the_build_with_75(place: Place, undisturbed: str, most: int) -> None:
    process = place.start(*TWO_WORKERS, *STALL, before=few_processes(most))
    _, stderr = process.communicate(timeout=120)

    assert process.returncode == 75
    assert "raise `ulimit -u`" in one_error(stderr)
    assert_it_converges(place, undisturbed)


def few_processes(most: int) -> tuple[str, ...]:
    """Run what follows as a user that may have so many processes and threads; root may write files as before."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to count the processes of a user that has no others")
    keep = "+dac_override,+dac_read_search,+fowner"
    drop = "-sys_admin,-sys_resource,-setuid"
    privileges = ("--clear-groups", "--bounding-set", drop, "--inh-caps", keep, "--ambient-caps", keep)
    # A user of its own for each test process: limits count all processes of a user.
    user = str(500_000 + os.getpid() % 100_000)
    return ("setpriv", "--reuid", user, *privileges, "bash", "-c", f'ulimit -u {most}; exec "$@"', "bash", *ONE_THREAD)


# --- what a worker died of


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        (-9, 75, "died (SIGKILL): free memory or use fewer workers"),
        (137, 75, "died (SIGKILL)"),  # as a shell says it
        (-15, 75, "died (SIGTERM); run the build again"),
        (-11, 1, "died (SIGSEGV); "),
        (134, 1, "died (SIGABRT); "),
        (3, 1, "died (exit code 3); "),
    ],
)
def test_what_ends_a_worker_from_outside_is_a_bad_day_and_its_own_crash_an_error(
    tmp_path: Path, code: int, exit_code: int, words: str
) -> None:
    (tmp_path / "run.log").write_text("Fatal Python error: Segmentation fault\n")
    error = dead_worker(code, tmp_path / "run.log")

    assert error.exit_code == exit_code
    assert words in str(error)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("E1130 thd.cc:157] pthread_create failed: Resource temporarily unavailable", "raise `ulimit -u`"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "free memory"),
        ("MemoryError", "free memory"),
        ("/bin/sh: 1: Cannot fork", "raise `ulimit -u`"),
    ],
)
def test_a_crash_for_want_of_something_is_a_bad_day(tmp_path: Path, line: str, remedy: str) -> None:
    (tmp_path / "run.log").write_text(f"INFO: starting\n{line}\nAborted\n")
    error = dead_worker(134, tmp_path / "run.log")

    assert error.exit_code == 75
    assert remedy in str(error)


# --- Dask


@pytest.fixture
def cluster(tmp_path: Path):
    """Starts a scheduler with workers."""
    pytest.importorskip("distributed")
    started: list[Cluster] = []

    def start(num_workers: int) -> Cluster:
        (tmp_path / "cluster").mkdir()
        started.append(Cluster(tmp_path / "cluster", num_workers))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.slow
def test_dask_workers_that_die_are_made_up_for_by_others_and_the_last_one_ends_the_build(
    place: Place, tmp_path: Path, undisturbed: str, cluster
) -> None:
    dask = cluster(2)
    process = place.start(*dask.flags, "--stall-timeout", "60")
    place.wait_for_prepared_clips()
    dask.workers[0].kill()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert read_manifest(place.root / "out").root_digest == undisturbed
    assert place.left() == []

    (tmp_path / "second").mkdir()
    second = Place(tmp_path / "second", place.mirror)
    process = second.start(*dask.flags, "--stall-timeout", "60")
    second.wait_for_prepared_clips()
    dask.workers[1].kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "no Dask worker is left at tcp://127.0.0.1:" in one_error(stderr)
    assert "(there were 1): start workers" in one_error(stderr)
    assert_it_converges(second, undisturbed)


@pytest.mark.slow
def test_a_dask_worker_that_stands_still_and_a_scheduler_that_dies_end_the_build(
    place: Place, tmp_path: Path, undisturbed: str, cluster
) -> None:
    dask = cluster(1)
    process = place.start(*dask.flags, *STALL)
    place.wait_for_prepared_clips()
    dask.workers[0].send_signal(signal.SIGSTOP)
    _, stderr = process.communicate(timeout=90)
    dask.workers[0].send_signal(signal.SIGCONT)
    assert process.returncode == 75
    assert "the build has stood still for" in one_error(stderr)
    assert "has 1 workers" in one_error(stderr)
    deadline = time.monotonic() + 30
    while place.left() and time.monotonic() < deadline:  # the worker, alive again, ends what it was writing
        time.sleep(0.1)
    assert_it_converges(place, undisturbed)

    (tmp_path / "second").mkdir()
    second = Place(tmp_path / "second", place.mirror)
    process = second.start(*dask.flags, "--stall-timeout", "60")
    second.wait_for_prepared_clips()
    dask.scheduler.kill()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "the connection to the Dask scheduler is lost" in one_error(stderr)
    assert_it_converges(second, undisturbed)
