"""The journals of the availability ledger: no line is ever lost, whoever dies and whatever is damaged."""

import fcntl
import json
import logging
import multiprocessing
import os
import random
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tutti.datasets.errors import StorageError
from tutti.pipelines.acquisition.ledger import Attempt, Availability, Ledger, locked_file

T0 = 1_763_700_000.0  # seconds since the epoch: an evening in November 2025
HOUR, DAY = 3_600.0, 86_400.0
KEY, NEIGHBOR = "youtube/video-017", "youtube/video-019"  # both in bucket 72
ELSEWHERE = "youtube/video-000"  # in bucket fe

forks = multiprocessing.get_context("fork")  # as Beam's workers on Linux


def failed(reason, time_s=0.0, detail=None, key=KEY):
    return Attempt(key, T0 + time_s, "failed", reason, detail)


def fetched(time_s, key=KEY):
    return Attempt(key, T0 + time_s, "fetched", None, None, "5e" * 32, 160_000, "full", 0.0, 10.5)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return caplog


# --- the journal


def test_an_attempt_is_one_line_of_json_in_the_bucket_of_its_key(ledger):
    ledger.record(failed("private", 0.25, "Private “video”\nsign in"))
    ledger.record(fetched(60, ELSEWHERE))

    assert {path.name: path.read_text() for path in ledger.folder.iterdir()} == {
        "72.jsonl": '{"detail":"Private \\u201cvideo\\u201d\\nsign in","key":"youtube/video-017",'
        '"outcome":"failed","reason":"private","time_s":1763700000.25}\n',
        "fe.jsonl": '{"duration_s":10.5,"key":"youtube/video-000","method":"full","num_bytes":160000,"offset_s":0.0,'
        f'"outcome":"fetched","sha256":"{"5e" * 32}","time_s":1763700060.0}}\n',
    }


def test_attempts_come_back_as_they_were_in_their_order_and_apart_from_their_neighbors(ledger):
    recorded = [failed("timeout"), failed("removed", 7, NEIGHBOR), fetched(3)]
    for attempt in recorded:
        ledger.record(attempt)
        ledger.record(replace(attempt, key=NEIGHBOR, time_s=1.0, detail=KEY))

    assert ledger.attempts(KEY) == recorded
    assert ledger.attempts("youtube/video-01") == []
    assert ledger.availability(NEIGHBOR).attempts == 3


def test_an_attempt_is_synced_with_its_folder_before_record_returns(ledger, monkeypatch):
    synced, fsync = [], os.fsync

    def spy(descriptor):
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    ledger.record(failed("timeout"))
    ledger.record(failed("timeout"))

    assert [(name, size) for name, size in synced if name != "ledger"] == [("72.jsonl", 88), ("72.jsonl", 176)]
    assert [name for name, _ in synced] == ["72.jsonl", "ledger", "72.jsonl"]


def test_an_empty_ledger_knows_nothing(ledger):
    assert ledger.attempts(KEY) == []
    assert ledger.availability(KEY) == Availability(KEY)
    assert list(ledger.all()) == []
    assert not ledger.folder.exists()


def test_all_lists_every_key_once_by_bucket_then_key(ledger):
    for attempt in [failed("bot", key=ELSEWHERE), failed("geo", key=NEIGHBOR), failed("removed"), fetched(DAY)]:
        ledger.record(attempt)

    assert [(found.key, found.status, found.attempts) for found in ledger.all()] == [
        (KEY, "fetched", 2),
        (NEIGHBOR, "pending", 1),
        (ELSEWHERE, "pending", 1),
    ]


@pytest.mark.parametrize("key", ['quo"te', "back\\slash", "line\nbreak", "nul\0", "\N{GRINNING FACE}", "-abc_", " "])
def test_any_text_can_be_a_key(ledger, key):
    ledger.record(failed("bot", key=key))

    assert ledger.attempts(key) == [failed("bot", key=key)]
    assert [found.key for found in ledger.all()] == [key]


def test_a_message_of_a_whole_page_is_cut(ledger):
    ledger.record(failed("extractor_bug", detail="<" * 100_000))

    assert ledger.attempts(KEY)[0].detail == "<" * 500


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"key": ""}, "needs a key"),
        ({"outcome": "gone"}, "got 'gone'"),
        ({"reason": None}, "a failure has a reason"),
        ({"outcome": "fetched"}, "a fetched file has none"),
        ({"time_s": float("nan")}, "time_s must be finite"),
    ],
)
def test_an_attempt_that_could_not_be_judged_is_refused(fields, named):
    with pytest.raises(ValueError, match=named):
        Attempt(**{"key": KEY, "time_s": T0, "outcome": "failed", "reason": "bot", **fields})


# --- damage


def test_a_line_torn_at_any_byte_is_skipped_and_hides_nothing_before_or_after(ledger, warnings):
    path = ledger.folder / "72.jsonl"
    ledger.record(failed("timeout"))
    ledger.record(failed("timeout", key=NEIGHBOR))
    kept = path.read_bytes()
    ledger.record(failed("removed", HOUR))
    whole = path.read_bytes()

    for size in range(len(kept) + 1, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert ledger.attempts(KEY) == [failed("timeout")], size
        ledger.record(failed("bot", DAY))

        assert path.read_bytes().startswith(whole[:size] + b"\n{"), size
        assert ledger.attempts(KEY) == [failed("timeout"), failed("bot", DAY)], size
        assert [found.attempts for found in ledger.all()] == [2, 1], size

    assert warnings.messages == [
        f"{path}: the line at byte {len(kept)} is torn or damaged; skipped, that file is asked for again"
    ]


def test_a_line_that_lacks_only_its_end_counts(ledger, warnings):
    path = ledger.folder / "72.jsonl"
    ledger.record(failed("timeout"))
    path.write_bytes(path.read_bytes()[:-1])

    assert ledger.attempts(KEY) == [failed("timeout")]
    ledger.record(failed("bot", 1))
    assert ledger.attempts(KEY) == [failed("timeout"), failed("bot", 1)]
    assert warnings.messages == []


GOOD = {"key": KEY, "time_s": T0, "outcome": "failed", "reason": "bot"}


@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 200,
        b"\xff\xfe" + json.dumps(KEY).encode(),
        json.dumps([GOOD]).encode(),
        json.dumps(KEY).encode(),
        json.dumps({"key": KEY}).encode(),
        *(
            json.dumps(GOOD | {name: value}).encode()
            for name, value in {"reason": ["bot"], "time_s": "1", "key": [KEY], "outcome": "?"}.items()
        ),
        json.dumps(GOOD).replace(str(T0), "NaN").encode(),
        json.dumps(GOOD).replace(str(T0), "1" + "0" * 400).encode(),
        b"[" * 100_000 + json.dumps(KEY).encode(),
    ],
    ids=lambda line: line[:60].decode(errors="replace").replace("\0", "0"),
)
def test_a_damaged_line_is_skipped_with_one_warning_and_hides_no_other(ledger, warnings, line):
    ledger.record(failed("timeout"))
    path = ledger.folder / "72.jsonl"
    with path.open("ab") as stream:
        stream.write(line + b"\n")
    ledger.record(failed("bot", 1))

    for _ in range(2):
        assert ledger.attempts(KEY) == [failed("timeout"), failed("bot", 1)]
        assert [found.attempts for found in ledger.all()] == [2]

    assert [message.partition(": ")[2] for message in warnings.messages] == [
        "the line at byte 88 is torn or damaged; skipped, that file is asked for again"
    ]


def test_what_a_later_version_says_more_is_passed_over(ledger, warnings):
    ledger.folder.mkdir()
    (ledger.folder / "72.jsonl").write_text(json.dumps(GOOD | {"proxy_country": "CH", "detail": None}) + "\n\n")

    assert ledger.attempts(KEY) == [failed("bot")]
    assert warnings.messages == []


def test_a_ledger_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"72\.jsonl: File exists; move it away"):
        Ledger(tmp_path / "file").record(failed("bot"))


def run_forked(function, *arguments):
    process = forks.Process(target=function, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode == 0


def record_on_a_full_disk(ledger, limit_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    with pytest.raises(StorageError, match=r"72\.jsonl: .*free space"):
        ledger.record(failed("removed", 1))


def test_a_disk_that_fills_up_within_a_line_is_a_storage_error_and_costs_that_line_only(ledger, warnings):
    ledger.record(failed("timeout"))
    run_forked(record_on_a_full_disk, ledger, 120)
    assert (ledger.folder / "72.jsonl").stat().st_size == 120

    ledger.record(failed("bot", 2))

    assert ledger.attempts(KEY) == [failed("timeout"), failed("bot", 2)]
    assert len(list(ledger.all())) == 1
    assert len(warnings.messages) == 1


# --- several processes


def record_many(ledger, worker, start):
    start.wait()
    for number in range(200):
        detail = f"{worker}:{number} " + "x" * (number % 97)
        ledger.record(failed("timeout", number, detail, key=KEY if number % 2 else NEIGHBOR))


def test_four_processes_that_write_one_journal_lose_and_tear_no_line(ledger, warnings):
    start = forks.Event()
    workers = [forks.Process(target=record_many, args=(ledger, worker, start)) for worker in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    while any(worker.is_alive() for worker in workers):
        ledger.attempts(KEY)  # a reader sees whole lines only
    assert [worker.exitcode for worker in workers] == [0] * 4

    lines = (ledger.folder / "72.jsonl").read_bytes().splitlines()
    details = [attempt.detail.partition(" ")[0] for key in (KEY, NEIGHBOR) for attempt in ledger.attempts(key)]

    assert len(lines) == 800
    assert sorted(details) == sorted(f"{worker}:{number}" for worker in range(4) for number in range(200))
    for worker in "0123":  # and each process's lines are in its order
        own = [detail for detail in details if detail[0] == worker]
        assert own == [f"{worker}:{number}" for number in (*range(1, 200, 2), *range(0, 200, 2))]
    assert warnings.messages == []


def record_for_ever(ledger, pipe, first):
    number = first
    while True:
        ledger.record(failed("timeout", number, "x" * 400))
        os.write(pipe, f"{number}\n".encode())
        number += 1


def test_a_writer_that_is_killed_loses_nothing_that_it_had_recorded(ledger):
    rng = random.Random(0)
    recorded = []
    for _ in range(25):
        readable, writable = os.pipe()
        first = len(recorded)
        process = forks.Process(target=record_for_ever, args=(ledger, writable, first))
        process.start()
        os.close(writable)
        os.read(readable, 1)  # it has begun
        time.sleep(rng.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with os.fdopen(readable) as stream:
            told = stream.read().count("\n")

        found = [attempt.time_s - T0 for attempt in ledger.attempts(KEY)]
        assert found[:first] == recorded
        assert len(found) - first in (told, told + 1)  # it may die before it can tell
        assert found[first:] == list(range(first, len(found)))
        recorded = found

    assert len(recorded) > 25


def test_a_child_forked_while_the_lock_was_held_does_not_keep_it(tmp_path):
    path = tmp_path / "journal"
    with locked_file(path, os.O_RDWR | os.O_CREAT):
        child = forks.Process(target=time.sleep, args=(60,))
        child.start()
    try:
        descriptor = os.open(path, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError if it were held
        os.close(descriptor)
    finally:
        child.kill()
        child.join()
