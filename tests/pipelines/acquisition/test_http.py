"""A file over http comes whole, and what an attempt has brought is gone on from: a real server on loopback."""

import tempfile
from pathlib import Path

import pytest
from fetching import BODY, DATED, OTHER, PATH, TAG, fetch, leave, ranges, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from server import Answer, Server

from tutti.datasets.errors import StorageError
from tutti.pipelines.acquisition.http import discard

# --- a file as it should be


def test_a_file_comes_whole_and_we_say_who_we_are(server, part):
    server.script(PATH, Answer(body=BODY))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert server.requests[0].headers["user-agent"].startswith("tutti/0.1 (+")
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert ranges(server) == [(None, None)]


def test_an_empty_file_is_a_file(server, part):
    server.script(PATH, Answer(body=b""))

    fetch(server, part)

    assert part.read_bytes() == b""


def test_progress_tells_bytes_and_total_and_begins_with_what_was_there(server, part, waits):
    leave(server, part, 150_000, **TAG)
    server.script(PATH, Answer(body=BODY, **TAG))
    told = []

    fetch(server, part, progress=lambda *numbers: told.append(numbers))

    assert told[0] == (150_000, 200_000)
    assert told[-1] == (200_000, 200_000)
    assert told == sorted(told)


def test_no_lock_stays_behind(server, part):
    server.script(PATH, Answer(body=BODY))

    fetch(server, part)

    assert sorted(path.name for path in part.parent.iterdir()) == ["a.part", "a.part.state", "slots"]
    discard(part)
    assert [path.name for path in part.parent.iterdir()] == ["slots"]


def test_a_packed_file_that_is_declared_as_coded_comes_as_it_is(server, part):
    server.script("/a.tgz", Answer(body=BODY, headers={"Content-Encoding": "x-gzip"}))
    fetch(server, part, "/a.tgz")
    assert part.read_bytes() == BODY

    server.script("/a.csv", Answer(body=BODY, headers={"Content-Encoding": "br"}))
    assert "comes coded as br" in refused(StorageError, server, part, "/a.csv")


# --- fault 4, short_body: kept, and gone on from


def test_a_short_body_is_gone_on_from_with_a_range(server, part, waits):
    server.script(PATH, Answer(body=BODY, truncate=100_000, **TAG), Answer(body=BODY, **TAG))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert ranges(server) == [(None, None), ("bytes=100000-", '"v1"')]
    assert server.num_bytes[PATH] == 200_000  # nothing twice
    assert waits == [2]


@pytest.mark.parametrize(("kind", "condition"), [(TAG, '"v1"'), (DATED, "Wed, 01 Jul 2026 10:00:00 GMT")])
def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, part, kind, condition, waits):
    leave(server, part, 150_000, **kind)
    server.script(PATH, Answer(body=BODY, **kind))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert ranges(server) == [("bytes=150000-", condition)]
    assert server.num_bytes[PATH] == 50_000


def test_a_part_that_is_whole_costs_one_answer_without_a_body(server, part):
    server.script(PATH, Answer(body=BODY, **TAG))
    for _ in range(2):
        fetch(server, part)

    assert part.read_bytes() == BODY
    assert ranges(server)[1] == ("bytes=200000-", '"v1"')
    assert server.num_bytes[PATH] == 200_000


@pytest.mark.parametrize(
    "kind",
    [
        {"ranges": "honour"},
        {"etag": 'W/"v1"', "ranges": "honour"},
        {"etag": 'W/"v1"', **DATED},  # RFC 9110, 13.1.5: no date where there is a tag
        {"ranges": "honour", "headers": {"Last-Modified": "Wed, 01 Jul 2026 10:00:00 GMT",
                                         "Date": "Wed, 01 Jul 2026 10:00:00 GMT"}},
    ],
    ids=["none", "weak tag", "weak tag and date", "changed in this second"],
)  # fmt: skip
def test_without_proof_that_the_file_is_the_same_it_is_fetched_anew(server, part, kind, waits):
    leave(server, part, 150_000, **kind)
    server.script(PATH, Answer(body=BODY, **kind))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert ranges(server) == [(None, None)]


def test_a_part_of_another_url_is_dropped(server, part, waits):
    leave(server, part, 150_000, **TAG)
    server.script("/b.zip", Answer(body=OTHER, **TAG))

    fetch(server, part, "/b.zip")

    assert part.read_bytes() == OTHER
    assert ranges(server) == [(None, None)]


@pytest.mark.parametrize("state", [None, b"", b"{}", b"[1]", b'{"url": "x'])
def test_a_part_that_is_too_long_or_of_unknown_origin_is_dropped(server, part, state):
    server.script(PATH, Answer(body=BODY, **TAG))
    fetch(server, part)
    if state is None:
        part.write_bytes(BODY + b"more")
    else:
        part.with_name("a.part.state").write_bytes(state)

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert ranges(server)[1] == (None, None)


def test_attempts_are_counted_from_the_last_new_byte(server, part, waits):
    short = Answer(body=BODY, truncate=50_000, **TAG)
    bad = Answer(status=500)
    server.script(PATH, bad, bad, short, bad, bad, short, bad, bad, short, short)

    fetch(server, part, attempts=3)

    assert part.read_bytes() == BODY
    assert waits == [2, 4, 2, 2, 4, 2, 2, 4, 2]


def test_a_server_that_always_breaks_off_at_the_same_byte_is_given_up(server, part, waits):
    server.script(PATH, Answer(body=BODY, truncate=100_000))

    assert "the connection broke" in refused(StorageError, server, part)
    assert server.asked(PATH) == 6  # the first one brought new bytes, the five after it none
    assert waits == [2, 2, 4, 8, 16]


def test_a_chunked_body_that_breaks_off_is_noticed(server, part, waits):
    chunked = {"Transfer-Encoding": "chunked", "Content-Length": None}
    server.script(PATH, Answer(body=b"5\r\nabcde\r\n9\r\nfgh", headers=chunked), Answer(body=BODY))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert server.asked(PATH) == 2


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 700), max_size=8),
    kind=st.sampled_from([TAG, DATED, {}, {"ranges": "ignore"}, {"etag": '"a"', "ranges": "wrong_start"}]),
    length=st.integers(0, 2000),
)
def test_any_sequence_of_broken_bodies_ends_with_equal_bytes(sizes, kind, length):
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        body = BODY[:length]
        server.script(PATH, *(Answer(body=body, truncate=size, **kind) for size in sizes), Answer(body=body, **kind))

        fetch(server, Path(folder) / "part", attempts=9, backoff_s=0)

        assert (Path(folder) / "part").read_bytes() == body


# --- faults 6, 7, 8: range_ignored, object_changed_mid_resume, wrong_content_range


def test_a_server_that_ignores_the_range_is_read_from_byte_0(server, part, waits):
    leave(server, part, 150_000, **TAG)
    server.script(PATH, Answer(body=BODY, etag='"v1"', ranges="ignore"))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert ranges(server) == [("bytes=150000-", '"v1"')]


@pytest.mark.parametrize("kind", [TAG, DATED])
def test_a_file_that_changed_meanwhile_is_fetched_anew(server, part, kind, waits):
    leave(server, part, 150_000, **kind)
    changed = {"etag": '"v2"'} if "etag" in kind else {"last_modified": "Wed, 08 Jul 2026 10:00:00 GMT"}
    leave(server, part, 170_000, OTHER, **{**kind, **changed})
    server.script(PATH, Answer(body=OTHER, **{**kind, **changed}))

    fetch(server, part)

    assert part.read_bytes() == OTHER
    assert ranges(server)[-1] == ("bytes=170000-", next(iter(changed.values())))


@pytest.mark.parametrize(
    ("kind", "changed"), [(TAG, {"ETag": '"v2"'}), (DATED, {"Last-Modified": "Wed, 08 Jul 2026 10:00:00 GMT"})]
)
def test_a_file_that_changed_is_noticed_where_the_server_overlooks_if_range(server, part, kind, changed, waits):
    leave(server, part, 150_000, **kind)
    careless = {**changed, "Content-Range": "bytes 150000-199999/200000"}
    server.script(PATH, Answer(status=206, body=OTHER[150_000:], headers=careless), Answer(body=OTHER, headers=changed))

    fetch(server, part)

    assert part.read_bytes() == OTHER
    assert [found for found, _ in ranges(server)] == ["bytes=150000-", None]


def test_a_part_that_starts_elsewhere_than_asked_is_refused(server, part, waits):
    leave(server, part, 150_000, **TAG)
    server.script(PATH, Answer(body=BODY, etag='"v1"', ranges="wrong_start"))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert [found for found, _ in ranges(server)] == ["bytes=150000-", None]
    assert waits == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=206, body=BODY[140_000:], headers={"Content-Range": "bytes 150000-199999/200000"}),
        Answer(status=206, body=BODY[150_000:], headers={"Content-Range": "bytes 150000-199999/200001"}),
        Answer(status=206, body=BODY[150_000:], headers={"Content-Range": "nonsense"}),
        Answer(status=416, headers={"Content-Range": "bytes */200000"}),
        Answer(status=416),
    ],
    ids=["too many bytes", "another total", "no content range", "416 though bytes are missing", "416 without a size"],
)
def test_an_answer_that_does_not_fit_the_part_is_refused(server, part, answer, waits):
    leave(server, part, 150_000, **TAG)
    server.script(PATH, answer, Answer(body=BODY, **TAG))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert [found for found, _ in ranges(server)] == ["bytes=150000-", None]


def test_less_than_the_range_asked_for_is_kept_and_gone_on_from(server, part, waits):
    leave(server, part, 150_000, **TAG)
    piece = {"Content-Range": "bytes 150000-169999/200000"}
    server.script(PATH, Answer(status=206, body=BODY[150_000:170_000], headers=piece), Answer(body=BODY, **TAG))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert [found for found, _ in ranges(server)] == ["bytes=150000-", "bytes=170000-"]


def test_a_length_that_the_server_did_not_state_is_learned_from_a_range(server, part, waits):
    unstated = {**TAG, "headers": {"Content-Length": None}}
    leave(server, part, 150_000, **unstated)
    too_short = Answer(status=416, headers={"Content-Range": "bytes */200000"})
    server.script(PATH, too_short, Answer(body=BODY, **TAG))
    fetch(server, part)
    assert part.read_bytes() == BODY
    assert [found for found, _ in ranges(server)] == ["bytes=150000-", None]

    discard(part)
    leave(server, part, 150_000, **unstated)
    server.script(PATH, Answer(body=BODY, truncate=30_000, **TAG), Answer(body=BODY, **TAG))
    fetch(server, part)
    assert part.read_bytes() == BODY
    assert [found for found, _ in ranges(server)] == ["bytes=150000-", "bytes=180000-"]
