"""The availability ledger: what the attempts for one key mean, and what is asked for again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.errors import UsageError
from tutti.pipelines.acquisition.ledger import Attempt, Availability, availability_from, is_due, parse_retry
from tutti.pipelines.acquisition.reasons import PERMANENT, TRANSIENT, VANTAGE

T0 = 1_763_700_000.0  # seconds since the epoch: an evening in November 2025
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
KEY = "youtube/video-017"


def failed(reason, time_s=0.0, detail=None):
    return Attempt(KEY, T0 + time_s, "failed", reason, detail)


def fetched(time_s=0.0, sha256="5e" * 32):
    return Attempt(
        KEY, T0 + time_s, "fetched", sha256=sha256, num_bytes=160_000, method="full", offset_s=0.0, duration_s=10.5
    )


def judged(*attempts):
    found = availability_from(KEY, attempts)
    return found.status, found.reason


# --- what attempts mean


def test_what_was_never_tried_is_unknown():
    assert availability_from(KEY, []) == Availability(KEY, "unknown")


def test_a_success_is_fetched_and_says_what_was_fetched():
    assert availability_from(KEY, [failed("timeout"), fetched(60)]) == Availability(
        key=KEY,
        status="fetched",
        reason=None,
        detail=None,
        first_seen_s=T0,
        last_seen_s=T0 + 60,
        last_ok_s=T0 + 60,
        attempts=2,
        sha256="5e" * 32,
        method="full",
        offset_s=0.0,
        duration_s=10.5,
    )


@pytest.mark.parametrize("reason", sorted(PERMANENT | VANTAGE | TRANSIENT))
def test_one_sighting_is_pending_whatever_the_reason(reason):
    assert judged(failed(reason)) == ("pending", reason)


@pytest.mark.parametrize("reason", ["private", "removed", "terminated", "copyright"])
def test_a_permanent_reason_seen_twice_24_hours_apart_is_gone(reason):
    assert judged(failed(reason), failed(reason, DAY)) == ("gone", reason)


def test_a_permanent_reason_seen_twice_within_24_hours_is_pending():
    assert judged(failed("removed"), failed("removed", DAY - 1)) == ("pending", "removed")


def test_sightings_in_small_steps_count_from_the_first_one():
    assert judged(failed("removed"), failed("removed", 12 * HOUR)) == ("pending", "removed")
    assert judged(failed("removed"), failed("removed", 12 * HOUR), failed("removed", DAY)) == ("gone", "removed")


def test_two_different_permanent_reasons_count_together_and_the_last_one_is_the_reason():
    assert judged(failed("private"), failed("terminated", DAY)) == ("gone", "terminated")


@pytest.mark.parametrize("reason", sorted(VANTAGE | TRANSIENT | {"a_word_of_a_later_version"}))
def test_no_other_reason_is_ever_gone(reason):
    assert judged(*[failed(reason, day * DAY) for day in range(9)]) == ("pending", reason)


@pytest.mark.parametrize("between", ["timeout", "bot", "geo"])
def test_other_failures_between_two_sightings_change_nothing(between):
    assert judged(failed("removed"), failed(between, HOUR), failed("removed", DAY)) == ("gone", "removed")


def test_what_is_pending_is_pending_for_the_last_reason():
    assert judged(failed("removed"), failed("http_429", DAY)) == ("pending", "http_429")


def test_what_is_gone_stays_gone_for_its_permanent_reason_when_later_attempts_fail_otherwise():
    attempts = [failed("removed", 0, "first"), failed("removed", DAY, "second"), failed("timeout", 2 * DAY, "third")]

    assert availability_from(KEY, attempts) == Availability(
        KEY, "gone", "removed", "second", first_seen_s=T0, last_seen_s=T0 + 2 * DAY, attempts=3
    )


def test_a_success_between_two_sightings_makes_the_second_one_the_first():
    assert judged(failed("removed"), fetched(HOUR), failed("removed", 2 * DAY)) == ("pending", "removed")


def test_a_success_after_it_was_gone_is_fetched():
    assert judged(failed("removed"), failed("removed", DAY), fetched(2 * DAY)) == ("fetched", None)


def test_what_goes_after_a_success_remembers_the_success():
    attempts = [fetched(), failed("private", DAY), failed("private", 2 * DAY, "Private video")]

    assert availability_from(KEY, attempts) == Availability(
        KEY, "gone", "private", "Private video", T0, T0 + 2 * DAY, T0, 3, "5e" * 32, "full", 0.0, 10.5
    )


def test_the_last_of_several_successes_counts():
    found = availability_from(KEY, [fetched(), fetched(HOUR, sha256="a0" * 32), failed("timeout", DAY)])

    assert (found.status, found.sha256, found.last_ok_s) == ("pending", "a0" * 32, T0 + HOUR)


# --- wrong clocks


@pytest.mark.parametrize(
    "times_s",
    [
        (0, 10 * MINUTE - DAY),
        (0, 10 * MINUTE - DAY, 20 * MINUTE),
        (0, 10 * MINUTE + DAY, 20 * MINUTE),
        (DAY, 10 * MINUTE),
        (0, HOUR, -HOUR, 2 * HOUR),  # daylight saving time, taken for the clock
        (0, -T0, 10 * MINUTE),  # a clock that began at the epoch after a power cut
    ],
    ids=["back", "back and right again", "ahead and right again", "was ahead", "summer time", "epoch"],
)
def test_a_clock_that_jumps_makes_nothing_gone(times_s):
    assert judged(*[failed("removed", time_s) for time_s in times_s]) == ("pending", "removed")


def test_a_later_failure_of_any_kind_can_prove_that_the_clock_was_ahead():
    ahead = [failed("removed"), failed("removed", DAY + 10 * MINUTE)]

    assert judged(*ahead, failed("timeout", 20 * MINUTE)) == ("pending", "timeout")


def test_after_a_step_back_two_days_are_needed_and_suffice():
    year_2100 = failed("removed", 75 * 365 * DAY)

    assert judged(year_2100, failed("removed"), failed("removed", DAY)) == ("pending", "removed")
    assert judged(year_2100, *[failed("removed", day * DAY) for day in range(3)]) == ("gone", "removed")


reasons = st.sampled_from(["removed", "private", "timeout", "geo"])


@given(
    st.lists(st.tuples(st.floats(0, DAY - 1), st.booleans(), reasons), min_size=2, max_size=8),
    st.sampled_from([-400 * DAY, -DAY, -HOUR, HOUR, DAY, 400 * DAY]),
)
def test_no_wrong_clock_that_is_set_right_makes_something_gone_within_a_day(attempts, offset_s):
    attempts = sorted(attempts, key=lambda attempt: attempt[0])
    last = len(attempts) - 1
    stamped = [
        failed(reason, true_s + (offset_s if is_wrong and 0 < index < last else 0))
        for index, (true_s, is_wrong, reason) in enumerate(attempts)
    ]

    assert availability_from(KEY, stamped).status == "pending"


@given(st.lists(st.tuples(st.floats(0, 3 * DAY), reasons), min_size=1, max_size=8))
def test_with_a_right_clock_gone_means_that_the_first_and_the_last_sighting_are_24_hours_apart(attempts):
    attempts = sorted(attempts)
    sightings = [T0 + true_s for true_s, reason in attempts if reason in ("removed", "private")]
    is_gone = bool(sightings) and sightings[-1] - sightings[0] >= DAY

    assert (availability_from(KEY, [failed(reason, true_s) for true_s, reason in attempts]).status == "gone") == is_gone


# --- what is asked for again


@pytest.mark.parametrize(
    ("status", "reason", "age_s", "expected"),
    [
        ("unknown", None, 0, True),
        ("fetched", None, 0, True),  # the caller found that the file is lost
        ("pending", "bot", 0, True),
        ("pending", "http_403", 1, True),
        ("pending", "a_word_of_a_later_version", 1, True),
        ("pending", "removed", DAY - 1, False),
        ("pending", "removed", DAY, True),
        ("pending", "private", -DAY + 1, False),
        ("pending", "private", -75 * 365 * DAY, True),  # the last stamp came from a wrong clock
        ("pending", "geo", 365 * DAY, False),
        ("pending", "age", 365 * DAY, False),
        ("pending", "members", 365 * DAY, False),
        ("gone", "removed", 365 * DAY, False),
    ],
)
def test_what_is_due_without_asking_for_it(status, reason, age_s, expected):
    assert is_due(Availability(KEY, status, reason, last_seen_s=T0), T0 + age_s) is expected


@pytest.mark.parametrize(
    ("status", "reason", "retry", "expected"),
    [
        ("gone", "removed", {"gone"}, True),
        ("gone", "removed", {"removed"}, True),
        ("gone", "removed", {"all"}, True),
        ("gone", "removed", {"private", "pending", "geo"}, False),
        ("pending", "removed", {"pending"}, True),
        ("pending", "removed", {"removed"}, True),
        ("pending", "removed", {"gone"}, False),
        ("pending", "geo", {"geo"}, True),
        ("pending", "geo", {"pending"}, True),
        ("pending", "geo", {"all"}, True),
        ("pending", "geo", {"age", "gone"}, False),
        ("pending", "bot", {"gone"}, True),
    ],
)
def test_retry_asks_again_by_reason_and_by_status(status, reason, retry, expected):
    assert is_due(Availability(KEY, status, reason, last_seen_s=T0), T0 + 1, frozenset(retry)) is expected


def test_retry_is_a_list_of_words_in_any_spelling():
    assert parse_retry("bot, HTTP-403,gone,") == frozenset({"bot", "http_403", "gone"})
    assert parse_retry("") == frozenset()


def test_an_unknown_word_to_retry_is_a_usage_error_that_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        parse_retry("bot,privat,xyzzy")

    assert str(caught.value) == (
        "--retry-status: unknown 'privat' (did you mean 'private'?), 'xyzzy'; known are age, all, bot, copyright, "
        "extractor_bug, extractor_setup, geo, gone, http_403, http_429, http_5xx, members, no_formats, pending, "
        "private, rate_limited, removed, terminated, timeout"
    )
