"""Merging what several machines found out: nothing lost, nothing doubled, in an order that means the same."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rotting import to_endless, to_folder, to_pipe

from tutti.datasets.errors import StorageError, TryLaterError, UsageError
from tutti.datasets.files import write_file
from tutti.datasets.manifest import bucket_of
from tutti.pipelines.acquisition.ledger import Attempt, Ledger, availability_from, line_of
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.merge import LEDGER, ledger_of, main, merge, merge_attempts

T0 = 1_763_700_000.0  # seconds since the epoch: an evening in November 2025
HOUR, DAY = 3_600.0, 86_400.0
KEY = "youtube/video-017"


def failed(reason: str, time_s: float = 0.0, key: str = KEY) -> Attempt:
    return Attempt(key, T0 + time_s, "failed", reason)


def fetched(time_s: float = 0.0, key: str = KEY, sha256: str = "5e" * 32) -> Attempt:
    return Attempt(
        key, T0 + time_s, "fetched", sha256=sha256, num_bytes=3, method="full", offset_s=0.0, duration_s=10.5
    )


def cache_with(folder: Path, *attempts: Attempt) -> Cache:
    for attempt in attempts:
        Ledger(folder / LEDGER).record(attempt)
    return Cache(folder)


# --- two histories of one video


def test_attempts_of_two_ledgers_are_interleaved_by_time() -> None:
    assert merge_attempts([failed("timeout"), fetched(2 * HOUR)], [failed("http_403", HOUR)]) == [
        failed("timeout"),
        failed("http_403", HOUR),
        fetched(2 * HOUR),
    ]


def test_an_attempt_that_both_have_counts_once() -> None:
    shared = [failed("removed"), failed("timeout", HOUR)]

    assert merge_attempts([*shared, fetched(DAY)], shared) == [*shared, fetched(DAY)]
    assert merge_attempts(shared, [*shared, fetched(DAY)]) == [*shared, fetched(DAY)]


def test_two_sightings_of_two_machines_a_day_apart_make_a_video_gone() -> None:
    assert availability_from(KEY, merge_attempts([failed("removed")], [failed("removed", DAY)])).status == "gone"
    assert availability_from(KEY, merge_attempts([failed("removed")], [failed("removed", HOUR)])).status == "pending"


def test_the_success_of_one_machine_answers_the_doubts_of_the_other() -> None:
    assert availability_from(KEY, merge_attempts([failed("removed")], [fetched(HOUR)])).status == "fetched"


def test_a_clock_that_was_set_back_stays_visible() -> None:
    wrong_clock = [failed("removed", 30 * DAY), failed("removed", 0.0), failed("removed", HOUR)]

    assert availability_from(KEY, wrong_clock).status == "pending"
    assert merge_attempts(wrong_clock, [failed("timeout", 2 * HOUR)])[-3:] == wrong_clock
    assert availability_from(KEY, merge_attempts(wrong_clock, [failed("timeout", 2 * HOUR)])).status == "pending"


REASONS, HOURS = st.sampled_from(["removed", "timeout", "bot"]), st.integers(0, 40)
ATTEMPTS = st.lists(
    st.builds(lambda reason, hour: failed(reason, hour * HOUR), REASONS, HOURS), unique=True, max_size=8
).map(lambda attempts: sorted(attempts, key=lambda one: (one.time_s, one.reason)))


@given(ATTEMPTS, ATTEMPTS, ATTEMPTS)
def test_merging_does_not_depend_on_order_or_repetition(a: list[Attempt], b: list[Attempt], c: list[Attempt]) -> None:
    assert merge_attempts(a, b) == merge_attempts(b, a)
    assert merge_attempts(merge_attempts(a, b), c) == merge_attempts(a, merge_attempts(b, c))
    assert merge_attempts(merge_attempts(a, b), b) == merge_attempts(a, b)
    assert set(merge_attempts(a, b)) == set(a) | set(b)


# --- caches


def test_a_line_is_written_as_the_ledger_writes_it(tmp_path: Path) -> None:
    cache_with(tmp_path, fetched(), failed("timeout", HOUR))
    (journal,) = (tmp_path / LEDGER).glob("*.jsonl")

    assert journal.read_bytes() == line_of(fetched()) + line_of(failed("timeout", HOUR))


def test_a_merge_brings_knowledge_and_files(tmp_path: Path) -> None:
    theirs = Cache(tmp_path / "theirs")
    blob = theirs.put_blob(b"abc")
    cache_with(theirs.root, fetched(HOUR, sha256=blob), failed("private", key="youtube/b"))
    ours = cache_with(tmp_path / "ours", failed("timeout"), fetched(key="youtube/c"))

    merged = merge([theirs.root], ours)
    assert (merged.recordings, merged.new_attempts, merged.new_files, merged.num_bytes) == (3, 2, 1, 3)
    assert merged.statuses == {"fetched": 2, "pending": 1}
    assert ours.read_blob(blob) == b"abc"
    ledger = Ledger(ours.root / LEDGER)
    assert ledger.attempts(KEY) == [failed("timeout"), fetched(HOUR, sha256=blob)]
    assert ledger.availability("youtube/b").reason == "private"


def test_merging_again_changes_no_byte(tmp_path: Path) -> None:
    theirs = cache_with(tmp_path / "theirs", failed("timeout"), failed("bot", key="youtube/b"))
    ours = cache_with(tmp_path / "ours", fetched(HOUR))
    merge([theirs.root], ours)
    before = {path.name: path.read_bytes() for path in (ours.root / LEDGER).iterdir()}

    assert merge([theirs.root], ours).new_attempts == 0
    assert {path.name: path.read_bytes() for path in (ours.root / LEDGER).iterdir()} == before


def test_the_sources_are_left_as_they_are(tmp_path: Path) -> None:
    theirs = cache_with(tmp_path / "theirs", failed("timeout"))
    before = {path: path.read_bytes() for path in theirs.root.rglob("*") if path.is_file()}
    merge([theirs.root], cache_with(tmp_path / "ours", fetched(HOUR)))

    assert {path: path.read_bytes() for path in theirs.root.rglob("*") if path.is_file()} == before


def test_a_damaged_file_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = Cache(tmp_path / "theirs")
    blob = theirs.put_blob(b"abc")
    theirs.blob_path(blob).write_bytes(b"abd")
    cache_with(theirs.root, fetched(sha256=blob))
    ours = Cache(tmp_path / "ours")

    assert merge([theirs.root], ours).new_files == 0
    assert not ours.has_blob(blob)
    assert f"expected {blob}" in capsys.readouterr().err


def test_a_file_that_is_larger_than_its_ledger_says_is_not_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = Cache(tmp_path / "theirs")
    blob = theirs.put_blob(b"abc")
    with theirs.blob_path(blob).open("r+b") as stream:
        stream.truncate(1 << 42)
    cache_with(theirs.root, fetched(sha256=blob))

    assert merge([theirs.root], Cache(tmp_path / "ours")).new_files == 0
    assert "bytes, the ledger says 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [
        {"sha256": "../../../etc/passwd"},
        {"sha256": "A" * 64},
        {"num_bytes": -1},
        {"duration_s": 1e300 * 10},
        {"offset_s": float("nan")},
        {"method": "../x"},
        {"time_s": 1e200},
        {"key": "\ud800"},
        {"outcome": "failed", "reason": "\x1b[2J"},
    ],
)
def test_a_line_that_a_stranger_made_up_is_left_out(tmp_path: Path, said: dict[str, object]) -> None:
    line = json.dumps({**json.loads(line_of(fetched())), **said})
    journal = tmp_path / "theirs" / LEDGER / f"{bucket_of(KEY)}.jsonl"
    write_file(journal, f"{line}\n".encode() + line_of(failed("timeout", HOUR)))
    ours = Cache(tmp_path / "ours")

    assert merge([tmp_path / "theirs"], ours).new_attempts == 1
    assert Ledger(ours.root / LEDGER).attempts(KEY) == [failed("timeout", HOUR)]


@pytest.mark.parametrize("damage", [to_endless, to_pipe, to_folder])
def test_a_ledger_that_is_no_file_is_an_error_at_once(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    cache_with(tmp_path / "theirs", fetched())
    damage(tmp_path / "theirs" / LEDGER / f"{bucket_of(KEY)}.jsonl")

    with pytest.raises(StorageError, match=r"\.jsonl: "):
        merge([tmp_path / "theirs"], Cache(tmp_path / "ours"))


def test_without_files_only_the_ledger_grows(tmp_path: Path) -> None:
    theirs = Cache(tmp_path / "theirs")
    blob = theirs.put_blob(b"abc")
    cache_with(theirs.root, fetched(sha256=blob))
    ours = Cache(tmp_path / "ours")

    assert main([str(theirs.root), "--into", str(ours.root), "--ledger-only"]) == 0
    assert not ours.has_blob(blob)
    assert Ledger(ours.root / LEDGER).availability(KEY).status == "fetched"


def test_a_cache_that_a_build_uses_is_not_touched(tmp_path: Path) -> None:
    theirs, ours = cache_with(tmp_path / "theirs", failed("timeout")), Cache(tmp_path / "ours")

    with ours.in_use(), pytest.raises(TryLaterError, match="a build uses this cache"):
        merge([theirs.root], ours)
    assert not (ours.root / LEDGER).exists()


# --- the command


def test_the_command_takes_several_sources_and_prints_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    caches = [cache_with(tmp_path / name, failed("timeout", key=f"youtube/{name}")) for name in ("a", "b")]

    assert main([*(str(cache.root) for cache in caches), "--into", str(tmp_path / "new")]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "recordings": 2, "new_attempts": 2, "statuses": {"pending": 2}, "new_files": 0, "num_bytes": 0
    }  # fmt: skip


def test_a_folder_of_journals_is_a_source_too(tmp_path: Path) -> None:
    cache_with(tmp_path / "theirs", failed("timeout"))

    assert ledger_of(tmp_path / "theirs" / LEDGER).attempts(KEY) == [failed("timeout")]


def test_datasets_are_not_merged(sample_build: Path) -> None:
    for path in (sample_build, sample_build / "current", sample_build / "current" / "manifest"):
        with pytest.raises(UsageError, match="datasets are not merged: merge the caches, then build again"):
            ledger_of(path)


def test_a_folder_without_a_ledger_and_the_target_itself_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--into", str(tmp_path / "new")]) == 2
    assert "no ledger here" in capsys.readouterr().err
    assert main([str(tmp_path), "--into", str(tmp_path)]) == 2
    assert "is the cache to merge into" in capsys.readouterr().err
