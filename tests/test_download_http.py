"""Download from an http mirror: retries, broken connections, and what needs no request at all."""

import pytest
from downloads import BODY, MD5, PATH, SHA256, VIDEO_STEM, fetched, get, remote, stored_files, sums_of
from server import Answer, Server

from datasets.errors import IntegrityError, StorageError, TryLaterError, UsageError
from datasets.source import RemoteFile
from pipelines.cache import Cache
from pipelines.download import Origins, download_file


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        yield running


@pytest.fixture
def waits(monkeypatch):
    """Seconds that the code would have slept."""
    seconds = []
    monkeypatch.setattr("pipelines.download.time.sleep", seconds.append)
    return seconds


# --- over http


def test_a_file_of_an_http_mirror_comes_into_the_cache(server, cache):
    server.script(f"/{PATH}", Answer(body=BODY))

    file = get(remote(md5=MD5), server.url, cache)

    assert (file.sha256, file.verified_by) == (SHA256, "md5")
    assert file.path.read_bytes() == BODY


def test_a_slash_at_the_end_of_the_address_does_not_matter(server, cache):
    server.script(f"/{PATH}", Answer(body=BODY))

    assert get(remote(), server.url + "/", cache).sha256 == SHA256


def test_the_sums_of_an_http_mirror_replace_the_pins(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({PATH: SHA256})))
    server.script(f"/{PATH}", Answer(body=BODY))

    assert get(remote(md5="0" * 32), server.url, cache).verified_by == "mirror"


def test_we_say_who_we_are(server, cache):
    server.script(f"/{PATH}", Answer(body=BODY))

    get(remote(), server.url, cache)

    assert all(request.headers["user-agent"].startswith("tutti/") for request in server.requests)


def test_a_path_with_odd_characters_is_asked_for_as_such(server, cache):
    server.script("/zenodo.org/a b[ü].csv", Answer(body=BODY))
    pinned = RemoteFile("labels", "https://zenodo.org/a b[ü].csv")

    assert get(pinned, server.url, cache).sha256 == SHA256


@pytest.mark.parametrize("status", [404, 410])
def test_what_an_http_mirror_lacks_is_a_usage_error_at_once(server, cache, status):
    server.script(f"/{PATH}", Answer(status=status))

    with pytest.raises(UsageError, match=f"irmas: the mirror lacks {PATH}"):
        get(remote(), server.url, cache)

    assert server.asked(f"/{PATH}") == 1


@pytest.mark.parametrize("status", [500, 502, 503])
def test_errors_of_the_server_are_tried_again_with_growing_pauses(server, cache, waits, status):
    server.script(f"/{PATH}", Answer(status=status), Answer(status=status), Answer(body=BODY))

    assert get(remote(), server.url, cache).sha256 == SHA256
    assert server.asked(f"/{PATH}") == 3
    assert waits == [2, 4]


def test_a_server_that_stays_broken_is_a_storage_error_that_names_url_and_remedy(server, cache, waits):
    server.script(f"/{PATH}", Answer(status=503))

    with pytest.raises(StorageError) as caught:
        get(remote(), server.url, cache)

    assert str(caught.value) == (f"{server.url}/{PATH}: HTTP status 503; try again later, or pass --mirror with a copy")
    assert server.asked(f"/{PATH}") == 4
    assert waits == [2, 4, 8]


def test_a_server_that_keeps_asking_to_come_back_later_is_a_try_later_error(server, cache, waits):
    server.script(f"/{PATH}", Answer(status=429, headers={"Retry-After": "7"}))

    with pytest.raises(TryLaterError, match="429"):  # exit code 75: rate limited
        get(remote(), server.url, cache)

    assert len(waits) == 3


def test_what_the_server_forbids_is_not_tried_again(server, cache, waits):
    server.script(f"/{PATH}", Answer(status=403, body=b"<html>"))

    with pytest.raises(StorageError, match="HTTP status 403"):
        get(remote(), server.url, cache)

    assert server.asked(f"/{PATH}") == 1
    assert waits == []


def test_a_server_that_is_not_there_is_a_storage_error(cache, waits, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        address = server.url

    with pytest.raises(StorageError, match=r"^http://127\.0\.0\.1:\d+/zenodo"):
        download_file("irmas", remote(), Origins(address), cache)

    assert waits == [2, 4, 8]


def test_a_body_that_breaks_off_is_a_storage_error_and_nothing_is_stored(server, cache):
    server.script(f"/{PATH}", Answer(body=BODY * 100, truncate=700), Answer(body=BODY))
    with pytest.raises(StorageError, match=r"labels\.csv: the connection broke .*run the build again"):
        get(remote(), server.url, cache)
    assert stored_files(cache) == []

    assert get(remote(md5=MD5), server.url, cache).sha256 == SHA256  # the next run


def test_a_page_instead_of_an_archive_is_an_integrity_error(server, cache):
    server.script(f"/{PATH}", Answer(body=b"<html>are you a robot?</html>", headers={"Content-Type": "text/html"}))

    with pytest.raises(IntegrityError, match="md5 is"):
        get(remote(md5=MD5), server.url, cache)

    assert stored_files(cache) == []


# --- what is in the cache already


@pytest.mark.parametrize("pins", [{"md5": MD5}, {"sha256": SHA256}])
def test_a_pinned_file_is_found_in_the_cache_without_its_server(server, cache, pins):
    server.script(f"/{PATH}", Answer(body=BODY))
    first = get(remote(**pins), server.url, cache)

    again = download_file("irmas", remote(**pins), Origins("http://127.0.0.1:9/nothing-listens-here"), cache)

    assert (again.sha256, again.path, again.size_bytes) == (first.sha256, first.path, 14)
    assert server.asked(f"/{PATH}") == 1


def test_a_listed_file_is_found_in_the_cache_without_asking_for_it(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({PATH: SHA256})))
    server.script(f"/{PATH}", Answer(body=BODY))

    for _ in range(2):
        get(remote(), server.url, cache)

    assert server.asked(f"/{PATH}") == 1


# --- videos


def test_the_extension_of_a_video_is_found_in_the_sums_over_http(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({f"{VIDEO_STEM}.m4a": SHA256})))
    server.script(f"/{VIDEO_STEM}.m4a", Answer(body=BODY))

    assert fetched(server.url, cache).media.sha256 == SHA256
    assert [request.path for request in server.requests if "watch" in request.path] == [f"/{VIDEO_STEM}.m4a"]


def test_a_video_in_the_cache_is_not_asked_for_again(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({f"{VIDEO_STEM}.m4a": SHA256})))
    server.script(f"/{VIDEO_STEM}.m4a", Answer(body=BODY))

    for _ in range(2):
        assert fetched(server.url, cache).media.sha256 == SHA256

    assert server.asked(f"/{VIDEO_STEM}.m4a") == 1


def test_a_video_that_an_http_mirror_lacks_is_gone_without_guessing_extensions(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({"www.youtube.com/watch/other.m4a": SHA256})))

    assert [row.status for row in fetched(server.url, cache)] == ["gone", "gone"]
    assert {request.path for request in server.requests} == {"/SHA256SUMS"}


def test_a_video_that_is_listed_but_not_there_is_gone(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({f"{VIDEO_STEM}.m4a": SHA256})))

    assert [row.reason for row in fetched(server.url, cache)] == ["not_in_mirror", "not_in_mirror"]


def test_a_video_whose_body_breaks_off_is_a_storage_error(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({f"{VIDEO_STEM}.m4a": SHA256})))
    server.script(f"/{VIDEO_STEM}.m4a", Answer(body=BODY, truncate=5))

    with pytest.raises(StorageError, match="the connection broke"):
        fetched(server.url, cache)

    assert stored_files(cache) == []
