"""What a stage makes of the results and the exceptions of its function."""

import errno

import pytest
from rows import clip

from datasets.errors import IntegrityError, StorageError, TryLaterError, TuttiError, UsageError
from datasets.record import Media, Recording, Rejected
from pipelines.stage import apply, clips_of

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
