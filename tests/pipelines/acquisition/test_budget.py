"""The rate budget holds over all processes, all runs and any clock."""

import logging
import multiprocessing
import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.errors import StorageError, UsageError
from tutti.pipelines.acquisition.budget import Budget, Tokens, take

T0 = 1_763_700_000.0  # seconds since the epoch: an evening in November 2025
HOUR, DAY = 3_600.0, 86_400.0

forks = multiprocessing.get_context("fork")  # as Beam's workers on Linux


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self, now_s=T0):
        self.now_s = now_s
        self.slept = []

    def now(self):
        return self.now_s

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "youtube.json"


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return caplog


def wait(budget, clock):
    return budget.wait(clock.sleep, clock.now)


def taken_at(budget, clock, number):
    """Seconds since T0 at which tokens were had."""
    times_s = []
    for _ in range(number):
        wait(budget, clock)
        times_s.append(clock.now_s - T0)
    return times_s


def run(number, function, *arguments):
    """Several processes that begin together; each must end well."""
    start = forks.Event()
    workers = [forks.Process(target=function, args=(start, worker, *arguments)) for worker in range(number)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * number


# --- one token


def test_a_token_is_taken_without_waiting_where_there_is_one():
    assert take(Tokens(1.0, T0), T0, per_hour=240, burst=8) == (Tokens(0.0, T0), 0.0)


def test_an_empty_bucket_tells_how_long_the_next_token_takes():
    assert take(Tokens(0.0, T0), T0, per_hour=240, burst=8) == (Tokens(0.0, T0), 15.0)
    assert take(Tokens(0.25, T0), T0 + 3.75, per_hour=240, burst=8) == (Tokens(0.5, T0 + 3.75), 7.5)
    assert take(Tokens(0.5, T0), T0 + 7.5, per_hour=240, burst=8) == (Tokens(0.0, T0 + 7.5), 0.0)


@pytest.mark.parametrize("pause_s", [120.0, DAY, 75 * 365 * DAY], ids=["two minutes", "a day", "75 years"])
def test_no_pause_and_no_jump_ahead_saves_up_more_than_the_burst(pause_s):
    assert take(Tokens(0.0, T0), T0 + pause_s, per_hour=240, burst=8) == (Tokens(7.0, T0 + pause_s), 0.0)


@pytest.mark.parametrize("jump_s", [-HOUR, -DAY, -T0])
def test_a_clock_that_was_set_back_neither_refills_nor_starves(jump_s):
    assert take(Tokens(0.0, T0), T0 + jump_s, per_hour=240, burst=8) == (Tokens(0.0, T0 + jump_s), 15.0)


def test_the_same_seconds_do_not_refill_twice_where_clocks_differ_a_little():
    assert take(Tokens(0.0, T0), T0 - 5, per_hour=240, burst=8) == (Tokens(0.0, T0), 20.0)
    assert take(Tokens(0.5, T0), T0 + 7.5, per_hour=240, burst=8) == (Tokens(0.0, T0 + 7.5), 0.0)


@given(
    st.lists(st.floats(0, 120), min_size=1, max_size=60),
    st.floats(1, 1e5),
    st.integers(1, 10),
    st.floats(0, 20),
    st.lists(st.floats(-30, 30), min_size=1, max_size=5),
)
def test_over_any_window_no_more_than_burst_and_rate_allow(steps_s, per_hour, burst, begin, skews_s):
    """Whoever asks, in whatever order, on machines whose clocks differ by up to a minute."""
    state, true_s, granted_s = Tokens(min(begin, burst), T0), 0.0, []
    for index, step_s in enumerate(steps_s):
        true_s += step_s
        for _ in range(2 * burst):
            state, wait_s = take(state, T0 + true_s + skews_s[index % len(skews_s)], per_hour, burst)
            if wait_s > 0:
                break
            granted_s.append(true_s)

    spread_s = max(skews_s) - min(skews_s) if len(skews_s) > 1 else 0.0
    first_s = max(skews_s[0], 0.0)  # the bucket was last seen at T0 by a clock without skew
    for first, begin_s in enumerate(granted_s):
        for last in range(first, len(granted_s)):
            seen_s = granted_s[last] - begin_s + max(spread_s, first_s)
            assert last - first + 1 <= burst + per_hour * seen_s / HOUR + 1e-3


@given(st.lists(st.floats(-2 * T0, 2 * T0), min_size=1, max_size=20), st.integers(1, 10))
def test_no_jump_of_the_clock_ever_grants_more_than_the_burst(times_s, burst):
    state = Tokens(burst, T0)
    for time_s in times_s:
        granted = 0
        while granted <= burst:
            state, wait_s = take(state, time_s, 240, burst)
            if wait_s > 0:
                break
            granted += 1
        assert granted <= burst
        assert 0 < wait_s <= 15 + 60  # the time of a token, and the skew that is waited for


@given(st.floats(0, 1), st.floats(1e-3, 1e6), st.floats(-59, 1e6))
def test_after_the_wait_that_was_told_there_is_a_token(tokens, per_hour, step_s):
    state, wait_s = take(Tokens(tokens, T0), T0 + step_s, per_hour, 8)

    if wait_s > 0:
        later_s = T0 + step_s + wait_s + max(1e-6 * wait_s, 1e-6)  # a clock tells less than a microsecond
        assert take(state, later_s, per_hour, 8)[1] == 0


# --- waiting for it


def test_the_burst_is_free_and_then_the_rate_holds(path, clock):
    times_s = taken_at(Budget(path, per_hour=240, burst=8), clock, 108)

    assert times_s[:8] == [0.0] * 8
    assert all(time_s >= 15 * number for number, time_s in enumerate(times_s[8:], start=1))
    assert 1500 <= times_s[-1] <= 1500 + 15 / 4 + 1  # jitter delays, but slows nothing down in the long run
    assert max(clock.slept) <= 15 * 1.25


def test_pauses_are_spread_so_that_processes_do_not_march_in_step(path, clock):
    times_s = taken_at(Budget(path, per_hour=240, burst=1), clock, 20)

    assert len({round(time_s % 15, 3) for time_s in times_s}) > 10


def test_it_tells_how_long_it_slept(path, clock):
    budget = Budget(path, per_hour=240, burst=1)
    assert wait(budget, clock) == 0
    assert wait(budget, clock) == sum(clock.slept) >= 15


def test_a_long_wait_looks_at_the_clock_every_minute(path, clock):
    budget = Budget(path, per_hour=1, burst=1)
    wait(budget, clock)
    assert wait(budget, clock) >= HOUR

    assert max(clock.slept) == 60.0


def test_the_state_outlives_the_process_and_the_budget(path, clock):
    taken_at(Budget(path, per_hour=240, burst=8), clock, 8)

    assert wait(Budget(path, per_hour=240, burst=8), clock) >= 15


def test_a_changed_rate_takes_effect_at_once(path, clock):
    taken_at(Budget(path, per_hour=1, burst=1), clock, 1)

    assert 1 <= wait(Budget(path, per_hour=3600, burst=1), clock) <= 1.25


def test_a_smaller_burst_takes_effect_at_once(path, clock):
    taken_at(Budget(path, per_hour=240, burst=8), clock, 1)

    assert taken_at(Budget(path, per_hour=240, burst=2), clock, 3)[1:] == [0.0, clock.now_s - T0]
    assert clock.now_s >= T0 + 15


def test_an_infinite_rate_is_no_limit_and_needs_no_file(path, clock):
    assert taken_at(Budget(path, per_hour=float("inf")), clock, 100) == [0.0] * 100
    assert not path.exists()


@pytest.mark.parametrize("per_hour", [0, -240, float("nan"), float("-inf")])
def test_a_rate_that_lets_nothing_through_is_a_usage_error(path, per_hour):
    with pytest.raises(UsageError, match="per hour fetches nothing; give a number above 0, or inf"):
        Budget(path, per_hour=per_hour)


def test_a_burst_of_none_is_a_usage_error(path):
    with pytest.raises(UsageError, match="burst of at least 1, got 0"):
        Budget(path, burst=0)


def test_a_state_torn_at_any_byte_is_an_empty_bucket(path, clock, warnings):
    budget = Budget(path, per_hour=240, burst=8)
    wait(budget, clock)
    whole = path.read_bytes()

    for size in range(1, len(whole.rstrip())):
        path.write_bytes(whole[:size])
        assert wait(budget, clock) >= 15, size
        assert len(path.read_bytes()) == len(whole), size

    assert set(warnings.messages) == {f"{path}: damaged; the budget starts again from nothing"}


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 128,
        b"\xff\xfe",
        b"[]",
        b'{"tokens": 8}',
        b'{"tokens": "8", "time_s": 0}',
        b'{"tokens": NaN, "time_s": 0}',
        b'{"tokens": -1e9, "time_s": 0}',
        b'{"tokens": 8, "time_s": Infinity}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:30].decode(errors="replace").replace("\0", "0"),
)
def test_a_damaged_state_is_an_empty_bucket(path, clock, warnings, content):
    path.parent.mkdir()
    path.write_bytes(content)

    assert 15 <= wait(Budget(path, per_hour=240, burst=8), clock) <= 15 * 1.25
    assert warnings.messages == [f"{path}: damaged; the budget starts again from nothing"]


def test_a_state_that_cannot_be_written_is_a_storage_error(tmp_path, clock):
    with pytest.raises(StorageError, match="Is a directory; name a file, or move the folder away"):
        wait(Budget(tmp_path), clock)


# --- waiting, in several processes


def take_fifty(start, worker, budget, folder):
    start.wait()
    times_s = []
    for _ in range(50):
        budget.wait()
        times_s.append(time.time())
    (folder / f"{worker}.times").write_text("\n".join(map(repr, times_s)))


def test_four_processes_together_stay_within_one_budget(path, tmp_path):
    budget = Budget(path, per_hour=360_000, burst=8)  # 100 per second
    begin_s = time.time()
    run(4, take_fifty, budget, tmp_path)

    times_s = sorted(float(line) for file in tmp_path.glob("*.times") for line in file.read_text().split())
    assert len(times_s) == 200
    for number, time_s in enumerate(times_s, start=1):
        assert number <= 8 + 100 * (time_s - begin_s) + 1e-3
    assert times_s[-1] - begin_s < 4 * 1.92  # 192 tokens at 100 per second: all of the budget is used


def take_for_ever(start, worker, budget):
    start.set()
    while True:
        budget.wait()


def test_processes_that_are_killed_hold_no_lock_and_leave_a_whole_state(path, tmp_path, warnings):
    budget = Budget(path, per_hour=3.6e9, burst=1)  # a million per second: always at the file
    for number in range(25):
        start = forks.Event()
        victim = forks.Process(target=take_for_ever, args=(start, 0, budget))
        victim.start()
        start.wait(30)
        time.sleep(number * 0.0007)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        assert budget.wait() < 1

    assert [file.name for file in path.parent.iterdir()] == ["youtube.json"]
    assert warnings.messages == []


def sleep_in_the_wait(start, worker, budget, folder):
    def sleep(seconds):
        (folder / "asleep").touch()
        time.sleep(60)

    budget.wait(sleep=sleep)


def test_nobody_holds_the_lock_while_it_sleeps(path, tmp_path, clock):
    slow = Budget(path, per_hour=1e-3, burst=1)
    slow.wait()
    sleeper = forks.Process(target=sleep_in_the_wait, args=(None, 0, slow, tmp_path))
    sleeper.start()
    while not (tmp_path / "asleep").exists():
        time.sleep(0.01)
    begin_s = time.monotonic()

    Budget(path, per_hour=3.6e6, burst=1).wait()

    assert time.monotonic() - begin_s < 30
    assert sleeper.is_alive()
    sleeper.kill()
    sleeper.join()
