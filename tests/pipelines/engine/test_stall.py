"""The watch over a build: what counts as getting on, when it speaks, when it ends the build."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tutti.datasets import heartbeat, locks
from tutti.datasets.errors import TryLaterError, TuttiError
from tutti.pipelines.engine.progress import HOST, Reporter, read_beats
from tutti.pipelines.engine.stall import Clock, StallWatch

TIMEOUT_S = 3.0  # the shortest that leaves room for looks, one a second


def hold(folder: Path, work: Callable[[], object]) -> list[str]:
    """What the watch says while a row is worked on; the row ends before this does."""
    said: list[str] = []
    own, watch = Reporter(folder), StallWatch(folder, TIMEOUT_S)

    def process() -> None:
        with own.measure("fetch", "youtube/abc"):
            work()

    row = threading.Thread(target=process, daemon=True)
    row.start()
    while row.is_alive():
        watch.look(said.append)
        row.join(0.05)
    return said


def test_a_row_that_only_waits_ends_the_build_with_75_and_is_named(tmp_path):
    with pytest.raises(TryLaterError) as error:
        hold(tmp_path, lambda: time.sleep(60))

    assert re.search(rf"fetch of youtube/abc for \d s in pid {os.getpid()}", str(error.value))
    assert "the build has stood still for 3 s" in str(error.value)
    assert "run the same command again" in str(error.value)
    assert "--stall-timeout" in str(error.value)


def test_a_pause_that_is_announced_is_no_standstill(tmp_path):
    assert hold(tmp_path, lambda: heartbeat.pause(TIMEOUT_S + 2, "the budget")) == []


def test_steps_within_a_long_row_are_no_standstill(tmp_path):
    def read_a_large_archive() -> None:
        for _ in range(10):
            time.sleep((TIMEOUT_S + 2) / 10)
            heartbeat.beat()

    assert hold(tmp_path, read_a_large_archive) == []


def test_a_row_that_computes_without_a_sign_has_four_times_as_long(tmp_path):
    def compute() -> None:
        end_s = time.monotonic() + TIMEOUT_S + 2
        while time.monotonic() < end_s:
            pass

    assert all("fetch of youtube/abc" in line for line in hold(tmp_path, compute))  # it speaks, but does not end it


HOLDER = """
import sys, time
from pathlib import Path
from tutti.datasets import heartbeat
from tutti.datasets import locks
from tutti.pipelines.engine.progress import Reporter
with Reporter(Path(sys.argv[2])).measure("download"), locks.lock(Path(sys.argv[1])):
    print("held", flush=True)
    for _ in range(int(sys.argv[3])):
        time.sleep(0.1)
        heartbeat.beat()
    time.sleep(float(sys.argv[4]))
"""


@pytest.fixture
def holder(tmp_path):
    """Starts another process that holds a lock: it gets on for some tenths of a second, then sleeps."""
    started = []

    def start(lock: Path, tenths: int, then_s: float) -> int:
        folder = tmp_path / "its progress"
        folder.mkdir()
        command = [sys.executable, "-c", HOLDER, str(lock), str(folder), str(tenths), str(then_s)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(lock: Path) -> None:
    with locks.lock(lock):
        pass


def test_waiting_for_a_lock_whose_holder_gets_on_is_no_standstill(tmp_path, holder):
    lock = tmp_path / "lock"
    holder(lock, tenths=50, then_s=0)

    assert hold(tmp_path, lambda: wait_for(lock)) == []


def test_waiting_for_a_lock_whose_holder_stands_still_names_it(tmp_path, holder):
    lock = tmp_path / "lock"
    pid = holder(lock, tenths=0, then_s=60)

    with pytest.raises(TryLaterError, match=f"waiting for the lock {lock}, held by pid {pid} on {HOST}"):
        hold(tmp_path, lambda: wait_for(lock))


def look_for(watch: StallWatch, seconds: float, said: list[str], lack: str | None = None) -> None:
    """Let it look every ten seconds, as if they had passed."""
    for _ in range(int(seconds / 10)):
        watch._looked_s -= 10
        watch.look(said.append, lambda: lack)


def test_time_in_which_the_watch_did_not_run_itself_does_not_count(tmp_path):
    watch = StallWatch(tmp_path, TIMEOUT_S)
    own = Reporter(tmp_path)
    with own.measure("prepare", "clip"):
        own.flush()
        watch._looked_s -= 3600  # a laptop that slept, a build that was stopped as a whole
        watch.look(pytest.fail)


def test_with_a_timeout_of_0_the_watch_speaks_after_five_minutes_and_ends_nothing(tmp_path):
    said: list[str] = []
    watch = StallWatch(tmp_path, 0)
    look_for(watch, 2500, said)

    assert [line.partition(":")[0] for line in said] == [
        "nothing has moved for 300 s", "nothing has moved for 600 s", "nothing has moved for 1,200 s",
        "nothing has moved for 2,400 s",
    ]  # fmt: skip
    assert "the build ends" not in said[0]


def test_what_made_nothing_move_is_told_soon(tmp_path):
    watch = StallWatch(tmp_path)  # half an hour
    watch.suspect(TuttiError("the thread reader of the runner died"))

    with pytest.raises(TuttiError, match="the thread reader of the runner died"):
        look_for(watch, 30, [])


def test_a_lack_that_the_log_speaks_of_is_told_soon(tmp_path):
    watch = StallWatch(tmp_path)

    with pytest.raises(TryLaterError, match="raise `ulimit -u`"):
        look_for(watch, 50, [], lack="out_of_processes")


def test_a_clock_starts_anew_with_every_step_and_counts_a_quarter_while_something_computes():
    clock = Clock()
    shown = []
    for steps, busy in [(1, False), (1, False), (1, True), (1, False), (2, False), (2, True)]:
        clock.tick(steps, 4.0, busy=busy)
        shown.append(clock.idle_s)

    assert shown == [0, 4, 5, 9, 0, 1]


def test_a_row_of_a_process_shows_its_stage_its_clip_and_what_it_waits_for(tmp_path):
    own = Reporter(tmp_path)
    with own.measure("fetch", "youtube/abc"), heartbeat.waiting("the lock x"):
        own.flush()

    (beat,) = read_beats(tmp_path).values()
    (row,) = beat.rows
    assert (beat.host, beat.pid, row.stage, row.item, row.wait) == (
        HOST, os.getpid(), "fetch", "youtube/abc", "the lock x"
    )  # fmt: skip
    assert 0 <= row.seconds < 5


def test_after_the_end_of_a_build_its_folder_of_progress_is_not_made_again(tmp_path):
    own = Reporter(tmp_path / "gone")
    with own.measure("prepare", "clip"):
        assert own.flush() is False

    assert not (tmp_path / "gone").exists()
