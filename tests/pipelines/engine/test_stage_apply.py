"""What a stage makes of the results and the exceptions of its function."""

import errno
from concurrent.futures import BrokenExecutor

import pytest
from rows import clip

from tutti.datasets.errors import IntegrityError, StorageError, TryLaterError, TuttiError, UsageError
from tutti.datasets.machine import MachineError
from tutti.datasets.record import Media, Recording, Rejected
from tutti.pipelines.engine.stage import apply, clips_of

ONE = clip("a/1@0")
RECORDING = Recording(Media("https://host/a.zip", "a.wav"), (clip("a/1@0"), clip("a/1@1000")))


def raising(error):
    def function(row):
        raise error

    return function


@pytest.mark.parametrize(
    ("result", "rows"),
    [
        (ONE, [ONE]),
        (None, []),
        ([], []),
        ([ONE, RECORDING], [ONE, RECORDING]),
        ((ONE, RECORDING), [(ONE, RECORDING)]),  # a tuple is one row
        ("irmas", ["irmas"]),
        ({"a": 1}, [{"a": 1}]),
    ],
)
def test_one_row_several_or_none_come_out(result, rows):
    assert apply("clean", lambda row: result, ONE) == rows


def test_a_generator_gives_its_rows():
    assert apply("prepare", lambda recording: (c for c in recording.clips), RECORDING) == list(RECORDING.clips)


@pytest.mark.parametrize("error", [UsageError("u"), IntegrityError("i"), TryLaterError("t"), TuttiError("x")])
def test_an_error_that_concerns_the_whole_build_ends_it_as_it_is(error):
    with pytest.raises(type(error)) as caught:
        apply("download", raising(error), ONE)

    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/cache/blobs/x"),
            "prepare: /cache/blobs/x: No space left on device; free space, then run the build again",
        ),
        (PermissionError("denied"), "prepare: denied; check the permissions, then run the build again"),
    ],
)
def test_a_full_or_forbidden_disk_is_a_storage_error_with_the_remedy(error, told):
    with pytest.raises(StorageError) as caught:
        apply("prepare", raising(error), ONE)

    assert str(caught.value) == told
    assert caught.value.exit_code == 74


def test_any_other_exception_rejects_the_clip_with_its_message():
    assert apply("clean", raising(ZeroDivisionError("division by zero")), ONE) == [
        Rejected(ONE, stage="clean", reason="error:clean", detail="ZeroDivisionError: division by zero")
    ]


def test_an_exception_rejects_all_clips_of_a_recording():
    rows = apply("prepare", raising(ValueError("bad")), RECORDING)

    assert [(row.clip.id, row.reason, row.status) for row in rows] == [
        ("a/1@0", "error:prepare", "rejected"),
        ("a/1@1000", "error:prepare", "rejected"),
    ]


def test_an_exception_after_the_first_row_rejects_them_all_and_none_twice():
    def function(recording):
        yield recording.clips[0]
        raise ValueError("bad")

    rows = apply("prepare", function, RECORDING)

    assert [(type(row), row.clip.id) for row in rows] == [(Rejected, "a/1@0"), (Rejected, "a/1@1000")]


def test_the_detail_holds_no_address_in_memory():
    (row,) = apply("clean", lambda row: object() + 1, ONE)
    (other,) = apply("clean", raising(ValueError(f"cannot read {object()!r} or {object()!r}")), ONE)

    assert row.reason == "error:clean"
    assert other.detail == "ValueError: cannot read <object object> or <object object>"


def test_an_exception_in_a_row_without_clips_is_raised():
    with pytest.raises(ZeroDivisionError):
        apply("split", raising(ZeroDivisionError()), ["summary"])


def test_interruptions_are_never_swallowed():
    with pytest.raises(KeyboardInterrupt):
        apply("clean", raising(KeyboardInterrupt()), ONE)


def test_a_row_stands_for_its_clips():
    assert clips_of(ONE) == (ONE,)
    assert clips_of(RECORDING) == RECORDING.clips
    assert clips_of("irmas") == ()


# --- what the machine lacks

LACKS = {
    "out_of_memory": [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("std::bad_alloc"),
        ImportError("libfoo.so: failed to map segment from shared object"),
        BrokenExecutor("A process in the process pool was terminated abruptly"),
    ],
    "out_of_processes": [
        RuntimeError("can't start new thread"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
    "out_of_time": [MachineError("the decoder took longer than 1 s", "out_of_time")],
}


@pytest.mark.parametrize(
    ("reason", "error"), [(reason, error) for reason, errors in LACKS.items() for error in errors], ids=repr
)
def test_what_the_machine_lacks_leaves_the_clips_pending(reason, error):
    rows = apply("embed", raising(error), RECORDING)

    assert [(row.clip.id, row.stage, row.reason, row.status) for row in rows] == [
        ("a/1@0", "embed", reason, "pending"),
        ("a/1@1000", "embed", reason, "pending"),
    ]


def test_a_need_of_the_machine_is_found_as_the_stated_cause_of_another_error():
    def function(row):
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("cannot decode") from error

    assert apply("embed", function, ONE)[0].reason == "out_of_memory"


def test_what_the_machine_lacked_once_is_tried_again_and_nobody_notices():
    attempts = []

    def function(row):
        attempts.append(row)
        if len(attempts) == 1:
            raise MemoryError
        return row

    assert apply("embed", function, ONE) == [ONE]


def test_a_row_without_clips_that_the_machine_cannot_work_on_ends_the_build_with_try_later_and_the_remedy():
    with pytest.raises(TryLaterError) as caught:
        apply("write", raising(MemoryError("Unable to allocate 1 GiB")), ["shard"])

    assert str(caught.value) == (
        "write: out of memory (MemoryError: Unable to allocate 1 GiB); free memory, raise `ulimit -v`, or use fewer "
        "workers; then run the build again, it goes on where it was"
    )
    assert caught.value.exit_code == 75
