"""Files that are read as they come, from a server on loopback that breaks off, changes its mind, or lies."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from fetching import BODY, DATED, OTHER, PATH, TAG, ranges
from server import Answer, Server

from tutti.datasets.errors import BlockedError, NetworkError, TryLaterError
from tutti.pipelines.acquisition import http_stream
from tutti.pipelines.acquisition.http import HttpRules, NotFound
from tutti.pipelines.acquisition.http_answers import RemoteVersion
from tutti.pipelines.acquisition.http_stream import ChangedFileError, HttpStream


@pytest.fixture
def open_stream(server: Server, tmp_path: Path, waits: list[float]) -> Any:
    """Open PATH of the server; pauses take no time."""

    def run(**options: Any) -> HttpStream:
        rules = HttpRules(slots=tmp_path / "slots", **options.pop("rules", {}))
        return HttpStream(server.url + PATH, rules, **options)

    return run


def read_all(stream: HttpStream, size: int = 70_000) -> bytes:
    content = b""
    while piece := stream.read(size):
        content += piece
    return content


def test_a_file_is_read_in_pieces_of_any_size(server: Server, open_stream: Any) -> None:
    server.script(PATH, Answer(body=BODY))
    with open_stream() as stream:
        assert stream.read(0) == b""
        assert stream.read(512) == BODY[:512]
        assert stream.read(150_000) == BODY[512:150_512]
        assert stream.tell() == 150_512
        assert stream.read(1_000_000) == BODY[150_512:]
        assert stream.read(1) == b""
    assert len(server.requests) == 1


@pytest.mark.parametrize("proof", [TAG, DATED])
def test_a_connection_that_breaks_is_taken_up_where_it_ended(
    server: Server, open_stream: Any, proof: dict[str, Any]
) -> None:
    server.script(PATH, Answer(body=BODY, truncate=90_000, **proof), Answer(body=BODY, truncate=50_000, **proof),
                  Answer(body=BODY, **proof))  # fmt: skip
    with open_stream() as stream:
        assert read_all(stream) == BODY
    assert [asked for asked, _ in ranges(server)] == [None, "bytes=90000-", "bytes=140000-"]


@pytest.mark.parametrize(
    "answer", [{}, {"ranges": "ignore", "etag": '"v1"'}, {"ranges": "wrong_start", "etag": '"v1"'}]
)
def test_where_a_server_cannot_go_on_the_file_is_read_again_from_its_first_byte(
    server: Server, open_stream: Any, answer: dict[str, Any]
) -> None:
    server.script(PATH, Answer(body=BODY, truncate=90_000, **answer), Answer(body=BODY, **answer))
    with open_stream() as stream:
        assert read_all(stream) == BODY


def test_a_server_that_breaks_off_at_the_same_byte_for_ever_is_given_up(
    server: Server, open_stream: Any, waits: list[float]
) -> None:
    server.script(PATH, Answer(body=BODY, truncate=90_000))
    with open_stream() as stream, pytest.raises(NetworkError, match="90000 bytes read, 110000 more expected"):
        read_all(stream)
    assert len(server.requests) == 5
    assert waits == [2.0, 4.0, 8.0, 16.0]


def test_a_file_that_changes_while_it_is_read_is_refused(server: Server, open_stream: Any) -> None:
    server.script(PATH, Answer(body=BODY, truncate=90_000, **TAG), Answer(body=OTHER, etag='"v2"', ranges="honour"))
    with open_stream() as stream, pytest.raises(ChangedFileError, match="has changed while it was read"):
        read_all(stream)


def test_a_file_that_is_another_than_it_was_known_as_is_refused(server: Server, open_stream: Any) -> None:
    server.script(PATH, Answer(body=OTHER, etag='"v2"', ranges="honour"))
    known = RemoteVersion(server.url + PATH, '"v1"', None, len(BODY))
    with open_stream(known=known) as stream:
        stream.seek(50_000)
        with pytest.raises(ChangedFileError):
            stream.read(1)


def test_what_is_passed_over_is_not_sent_where_it_is_long(
    server: Server, open_stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_stream, "SKIP_BYTES", 100_000)
    body = BODY * 20  # 4 MB: more than sockets hold on the way
    server.script(PATH, Answer(body=body, **TAG))
    with open_stream() as stream:
        stream.read(10)
        stream.seek(3_900_000)
        assert stream.read(20) == body[3_900_000:3_900_020]
    assert [asked for asked, _ in ranges(server)] == [None, "bytes=3900000-"]


def test_what_is_passed_over_is_read_where_it_is_short_or_the_server_cannot_skip(
    server: Server, open_stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script(PATH, Answer(body=BODY, **TAG))
    with open_stream() as stream:
        stream.seek(150_000)
        stream.read(10)
        stream.seek(199_990)
        assert stream.read(20) == BODY[-10:]
    monkeypatch.setattr(http_stream, "SKIP_BYTES", 1000)
    server.script(PATH, Answer(body=BODY))
    with open_stream() as stream:
        stream.read(10)
        stream.seek(199_990)
        assert stream.read(20) == BODY[-10:]
    assert len(server.requests) == 2


def test_a_stream_goes_onwards_only(server: Server, open_stream: Any) -> None:
    server.script(PATH, Answer(body=BODY))
    with open_stream() as stream:
        stream.read(10)
        with pytest.raises(ValueError, match="goes onwards"):
            stream.seek(9)


@pytest.mark.parametrize("proof", [{}, TAG])
def test_a_file_read_whole_has_a_digest_also_if_the_connection_broke(
    server: Server, open_stream: Any, proof: dict[str, Any]
) -> None:
    server.script(PATH, Answer(body=BODY, truncate=90_000, **proof), Answer(body=BODY, **proof))
    with open_stream(whole=True) as stream:
        stream.read(10)
        stream.seek(120_000)
        assert stream.read(10) == BODY[120_000:120_010]
        assert stream.sha256() == hashlib.sha256(BODY).hexdigest()


def test_a_file_of_which_parts_were_not_read_has_no_digest(
    server: Server, open_stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_stream, "SKIP_BYTES", 1000)
    server.script(PATH, Answer(body=BODY * 20, **TAG))
    with open_stream() as stream:
        stream.read(10)
        stream.seek(3_900_000)
        assert stream.sha256() is None


def test_refusals_are_those_of_downloads(server: Server, open_stream: Any) -> None:
    for status, error in ((404, NotFound), (403, BlockedError), (500, NetworkError), (429, TryLaterError)):
        server.script(PATH, Answer(status=status))
        with open_stream() as stream, pytest.raises(error):
            stream.read(1)


def test_a_page_for_people_is_no_file(server: Server, open_stream: Any) -> None:
    server.script(PATH, Answer(body=b"<!doctype html><title>Log in</title>"))
    with open_stream() as stream, pytest.raises(BlockedError, match="a page for people"):
        stream.read(1)


def test_an_empty_file_ends_at_once(server: Server, open_stream: Any) -> None:
    server.script(PATH, Answer(body=b""))
    with open_stream(whole=True) as stream:
        assert stream.read(1) == b""
        assert stream.sha256() == hashlib.sha256(b"").hexdigest()


def test_a_file_without_a_stated_length_ends_where_the_connection_does(server: Server, open_stream: Any) -> None:
    server.script(PATH, Answer(body=BODY, headers={"Content-Length": None}))
    with open_stream() as stream:
        assert read_all(stream) == BODY
        assert stream.length is None
