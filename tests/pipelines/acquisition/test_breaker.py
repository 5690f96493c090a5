"""The circuit breaker stops a source in time, for all processes, and lets it go again."""

import logging
import multiprocessing

import pytest

from tutti.datasets.errors import TryLaterError, UsageError
from tutti.pipelines.acquisition.budget import Breaker
from tutti.pipelines.acquisition.reasons import REASONS, WALLS

T0 = 1_763_700_000.0  # seconds since the epoch: an evening in November 2025
DAY = 86_400.0

forks = multiprocessing.get_context("fork")  # as Beam's workers on Linux


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "youtube.json"


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return caplog


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


# --- the breaker


class Waited(Exception):
    """The breaker let its caller wait for another one's trial."""


def enter(breaker, now_s):
    """Enter at a moment, without waiting."""

    def refuse(seconds):
        raise Waited

    breaker.enter(refuse, lambda: now_s)


def walls(breaker, number, now_s=T0, reason="bot"):
    for _ in range(number):
        enter(breaker, now_s)
        breaker.record(reason, now_s)


def is_open(breaker, now_s=T0):
    try:
        enter(breaker, now_s)
    except (TryLaterError, Waited):
        return True
    return False


def test_five_walls_in_a_row_stop_the_source_with_all_that_one_can_do(path):
    breaker = Breaker(path)
    walls(breaker, 4)
    assert not is_open(breaker)
    walls(breaker, 1, reason="http_429")

    with pytest.raises(TryLaterError) as caught:
        enter(breaker, T0 + 60)

    assert caught.value.exit_code == 75
    assert str(caught.value) == (
        "youtube: refused us 5 times in a row (last reason: http_429), so we leave it in peace until "
        "2025-11-21 04:55:00 UTC (14 min); nothing is lost: run the same command again then, or pass "
        "--cookies FILE of a browser that is let in, another --proxy URL, a lower --videos-per-hour, "
        "or --data-from DIR with audio that you have"
    )


@pytest.mark.parametrize("reason", ["bot", "rate_limited", "http_429"])
def test_every_kind_of_wall_counts(path, reason):
    breaker = Breaker(path, limit=2)
    walls(breaker, 2, reason=reason)

    assert is_open(breaker)


def test_a_success_begins_the_count_again(path):
    breaker = Breaker(path)
    walls(breaker, 4)
    breaker.record(None, T0)
    walls(breaker, 4)

    assert not is_open(breaker)


@pytest.mark.parametrize("reason", sorted(REASONS - WALLS))
def test_an_answer_that_is_told_on_both_sides_of_a_wall_leaves_the_count_as_it_is(path, reason):
    breaker = Breaker(path)
    walls(breaker, 4)
    breaker.record(reason, T0)
    assert not is_open(breaker)
    walls(breaker, 1)

    assert is_open(breaker)


def test_a_trial_that_learns_nothing_of_the_wall_passes_to_the_next_caller_at_once(path):
    breaker = Breaker(path, limit=1, cool_down_s=10.0)
    walls(breaker, 1)
    enter(breaker, T0 + 11)
    breaker.record("removed", T0 + 11)

    enter(breaker, T0 + 12)  # may try, too
    with pytest.raises(Waited):
        enter(breaker, T0 + 12)


def test_the_breaker_stays_open_for_other_processes_and_later_runs_until_it_has_cooled_down(path):
    walls(Breaker(path, cool_down_s=900), 5)

    assert is_open(Breaker(path), T0 + 899)
    assert not is_open(Breaker(path), T0 + 900)


def test_after_the_cool_down_one_caller_tries_and_the_others_wait(path):
    breaker = Breaker(path)
    walls(breaker, 5)

    assert [is_open(breaker, T0 + 900 + second) for second in range(3)] == [False, True, True]
    with pytest.raises(Waited):
        enter(breaker, T0 + 902)


def test_a_success_closes_the_breaker(path):
    breaker = Breaker(path)
    walls(breaker, 5)
    enter(breaker, T0 + 900)
    breaker.record(None, T0 + 905)

    walls(breaker, 4, T0 + 906)
    assert not is_open(breaker, T0 + 906)


def test_another_wall_opens_it_again_for_the_whole_cool_down(path):
    breaker = Breaker(path)
    walls(breaker, 5)
    walls(breaker, 1, T0 + 900)

    assert is_open(breaker, T0 + 1799)
    with pytest.raises(TryLaterError, match="refused us 6 times in a row"):
        enter(breaker, T0 + 901)
    assert not is_open(breaker, T0 + 1800)


def test_a_trial_whose_process_died_passes_to_the_next_after_five_minutes(path):
    breaker = Breaker(path)
    walls(breaker, 5)
    enter(breaker, T0 + 900)

    assert [is_open(breaker, T0 + 900 + second) for second in (299, 300, 301)] == [True, False, True]


def test_new_cookies_or_another_proxy_get_a_breaker_of_their_own(path):
    walls(Breaker(path, vantage="no cookies"), 5)

    assert not is_open(Breaker(path, vantage="with cookies"))
    assert is_open(Breaker(path, vantage="no cookies"))


@pytest.mark.parametrize("jump_s", [-T0, -DAY, -1])
def test_a_clock_that_was_set_back_prolongs_nothing_beyond_the_cool_down(path, jump_s):
    breaker = Breaker(path)
    walls(breaker, 5)

    assert is_open(breaker, T0 + jump_s)
    assert not is_open(breaker, T0 + jump_s + 900)
    assert is_open(breaker, T0 + jump_s - DAY)  # back again while one tries
    assert not is_open(breaker, T0 + jump_s - DAY + 900)


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 128,
        b'{"count": 5, "reason": "bot", "opened_s": 1763',
        b"[]",
        b'{"count": "5", "reason": "bot", "opened_s": 0, "trial_s": null}',
        b'{"count": 5, "reason": "bot", "opened_s": NaN, "trial_s": null}',
        b'{"count": 5, "reason": "bot", "opened_s": "now", "trial_s": null}',
    ],
    ids=["nul", "cut", "list", "count", "nan", "text"],
)
def test_a_damaged_state_counts_anew(path, warnings, content):
    breaker = Breaker(path)
    walls(breaker, 1)
    (file,) = path.parent.iterdir()
    file.write_bytes(content)

    walls(breaker, 4)
    assert not is_open(breaker)
    walls(breaker, 1)
    assert is_open(breaker)
    assert warnings.messages == [f"{file}: damaged; walls are counted anew"]


def test_a_breaker_that_never_closes_is_a_usage_error(path):
    with pytest.raises(UsageError, match="youtube: a breaker needs a limit of at least 1 wall, got 0"):
        Breaker(path, limit=0)


def entering_while_another_tries(breaker, outcome):
    """The sleeps of a second caller, where the first one finds the outcome after ten of them."""
    walls(breaker, 5)
    enter(breaker, T0 + 900)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 10:
            breaker.record(outcome, T0 + 910)

    try:
        breaker.enter(sleep, lambda: T0 + 901 + sum(slept))
    finally:
        assert slept == [1.0] * 10


def test_who_enters_while_another_tries_waits_and_goes_on_after_its_success(path):
    entering_while_another_tries(Breaker(path), outcome=None)


def test_who_enters_while_another_tries_waits_and_stops_after_its_wall(path):
    with pytest.raises(TryLaterError, match="refused us 6 times in a row"):
        entering_while_another_tries(Breaker(path), outcome="bot")


def test_who_enters_while_the_breaker_is_open_is_refused_without_waiting(path):
    walls(Breaker(path), 5)

    with pytest.raises(TryLaterError):
        Breaker(path).enter(pytest.fail, lambda: T0 + 899)


# --- the breaker, in several processes


def hit_walls(start, worker, breaker):
    start.wait()
    for _ in range(50):
        breaker.record("bot", T0)


def test_walls_of_all_processes_count_together(path):
    breaker = Breaker(path, limit=201)
    run(4, hit_walls, breaker)
    assert not is_open(breaker)

    breaker.record("bot", T0)
    assert is_open(breaker)


def try_once(start, worker, breaker, folder):
    start.wait()
    if not is_open(breaker, T0 + 900):
        (folder / f"{worker}.tries").touch()


def test_of_four_processes_only_one_tries_after_the_cool_down(path, tmp_path):
    breaker = Breaker(path)
    walls(breaker, 5)
    run(4, try_once, breaker, tmp_path)

    assert len(list(tmp_path.glob("*.tries"))) == 1
