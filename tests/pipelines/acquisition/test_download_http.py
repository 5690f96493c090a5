"""Download from an http mirror: retries, broken connections, and what needs no request at all."""

import hashlib

import pytest
from downloads import BODY, MD5, PATH, SHA256, VIDEO_STEM, fetched, get, put, remote, stored_files, sums_of
from server import Answer, Server

from tutti.datasets.errors import BlockedError, IntegrityError, StorageError, TryLaterError, UsageError
from tutti.datasets.source import RemoteFile
from tutti.pipelines.acquisition.origins import Origins
from tutti.pipelines.cache import __main__ as cache_command
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.download import download_file


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
    monkeypatch.setattr("tutti.pipelines.acquisition.http.time.sleep", seconds.append)
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
    assert server.asked(f"/{PATH}") == 5
    assert waits == [2, 4, 8, 16]


def test_a_server_that_keeps_asking_to_come_back_later_is_a_try_later_error(server, cache, waits):
    server.script(f"/{PATH}", Answer(status=429, headers={"Retry-After": "7"}))

    with pytest.raises(TryLaterError, match="429"):  # exit code 75: rate limited
        get(remote(), server.url, cache)

    assert waits == [7, 7, 7, 7]  # as told


def test_what_the_server_forbids_is_not_tried_again(server, cache, waits):
    server.script(f"/{PATH}", Answer(status=403, body=b"<html>"))

    with pytest.raises(BlockedError, match="blocked: HTTP status 403"):
        get(remote(), server.url, cache)

    assert server.asked(f"/{PATH}") == 1
    assert waits == []


def test_a_server_that_is_not_there_is_a_storage_error(cache, waits, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        address = server.url

    with pytest.raises(StorageError, match=r"^http://127\.0\.0\.1:\d+/zenodo"):
        download_file("irmas", remote(), Origins(address), cache)

    assert waits == [2, 4, 8, 16]


def test_a_body_that_breaks_off_is_taken_up_where_it_ended(server, cache, waits):
    body = BODY * 100
    server.script(f"/{PATH}", Answer(body=body, truncate=700, etag='"1"'), Answer(body=body, etag='"1"'))

    assert get(remote(), server.url, cache).path.read_bytes() == body
    assert [request.headers.get("range") for request in server.requests if request.path == f"/{PATH}"] == [
        None,
        "bytes=700-",
    ]


def test_a_page_instead_of_an_archive_is_called_blocked_and_not_stored(server, cache):
    server.script(f"/{PATH}", Answer(body=b"<html>are you a robot?</html>", headers={"Content-Type": "text/html"}))

    with pytest.raises(BlockedError, match="a page for people instead of the file"):
        get(remote(md5=MD5), server.url, cache)

    assert stored_files(cache) == []


def test_a_wrong_checksum_puts_the_file_aside_and_the_next_run_fetches_it_again(server, cache):
    server.script(f"/{PATH}", Answer(body=b"tampered"), Answer(body=BODY))
    with pytest.raises(IntegrityError) as caught:
        get(remote(md5=MD5), server.url, cache)
    (aside,) = (cache.root / "quarantine").iterdir()
    assert (MD5 in str(caught.value), hashlib.md5(b"tampered").hexdigest() in str(caught.value)) == (True, True)
    assert aside.read_bytes() == b"tampered"

    assert get(remote(md5=MD5), server.url, cache).path.read_bytes() == BODY


# --- without any checksum


def test_what_has_no_checksum_is_trusted_on_first_use_and_not_asked_for_again(server, cache):
    server.script(f"/{PATH}", Answer(body=BODY))

    for _ in range(2):
        file = get(remote(), server.url, cache)
        assert (file.sha256, file.verified_by) == (SHA256, "first use")

    assert server.asked(f"/{PATH}") == 1


def test_what_changed_since_its_first_use_is_an_integrity_error_until_it_is_forgotten(server, cache):
    server.script(f"/{PATH}", Answer(body=b"old"), Answer(body=BODY))
    get(remote(), server.url, cache).path.unlink()

    with pytest.raises(IntegrityError, match="has changed since its first use") as caught:
        get(remote(), server.url, cache)
    command = str(caught.value).rpartition("python -m pipelines.cache ")[2].split()
    assert cache_command.main(["--cache-dir", str(cache.root), *command]) == 0

    assert get(remote(), server.url, cache).sha256 == SHA256


# --- from the publisher, or a mirror that the source lists


def published(server, *mirrors, **pins):
    return RemoteFile("labels", f"{server.url}/labels.csv", mirrors=mirrors, **pins)


@pytest.mark.parametrize(
    "failing", [Answer(status=404), Answer(status=403), Answer(status=400), Answer(body=b"tampered")]
)
def test_the_next_listed_mirror_is_asked_where_the_publisher_fails(server, cache, failing):
    server.script("/labels.csv", failing)
    server.script("/copy/labels.csv", Answer(body=BODY))
    pinned = published(server, f"{server.url}/copy/labels.csv", md5=MD5)

    file = download_file("irmas", pinned, Origins(), cache)

    assert (file.sha256, file.resolved_url) == (SHA256, f"{server.url}/copy/labels.csv")


def test_where_all_fail_the_first_failure_is_told(server, cache):
    server.script("/labels.csv", Answer(status=403))

    with pytest.raises(BlockedError, match=r"/labels\.csv: blocked: HTTP status 403"):
        download_file("irmas", published(server, f"{server.url}/copy/labels.csv", md5=MD5), Origins(), cache)


def test_where_all_lack_it_the_error_names_the_remedies(server, cache):
    with pytest.raises(UsageError, match=r"does not exist any more; look for a copy and pass it with --data-from"):
        download_file("irmas", published(server), Origins(), cache)


def test_a_redirect_to_a_host_that_the_source_does_not_list_is_refused_unasked(server, cache):
    with Server() as other:
        other.script("/labels.csv", Answer(body=BODY))
        server.script("/labels.csv", Answer(status=302, headers={"Location": f"{other.url}/labels.csv"}))
        with pytest.raises(BlockedError, match="redirect"):
            download_file("irmas", published(server, md5=MD5), Origins(), cache)
        assert other.requests == []

        listed = RemoteFile("labels", f"{server.url}/labels.csv", md5=MD5, redirect_hosts=(other.url[7:],))
        assert download_file("irmas", listed, Origins(), cache).sha256 == SHA256


# --- the user's own copies come first


def test_a_copy_of_ones_own_is_used_before_the_network(server, cache, tmp_path):
    put(tmp_path / "mine", "downloads/labels.csv", BODY)

    file = download_file("irmas", published(server, md5=MD5), Origins(own_roots=(str(tmp_path / "mine"),)), cache)

    assert (file.sha256, file.verified_by, server.requests) == (SHA256, "md5", [])


# --- bit rot


def test_a_blob_that_rotted_in_the_cache_is_found_put_aside_and_fetched_again(server, cache):
    server.script(f"/{PATH}", Answer(body=BODY))
    path = get(remote(md5=MD5), server.url, cache).path
    path.write_bytes(BODY[:-2] + b"2\n")

    assert get(remote(md5=MD5), server.url, cache).path.read_bytes() == BODY
    assert server.asked(f"/{PATH}") == 2


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

    assert [row.media.sha256 for row in fetched(server.url, cache)] == [SHA256]
    assert [request.path for request in server.requests if "watch" in request.path] == [f"/{VIDEO_STEM}.m4a"]


def test_a_video_in_the_cache_is_not_asked_for_again(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({f"{VIDEO_STEM}.m4a": SHA256})))
    server.script(f"/{VIDEO_STEM}.m4a", Answer(body=BODY))

    for _ in range(2):
        assert [row.media.sha256 for row in fetched(server.url, cache)] == [SHA256]

    assert server.asked(f"/{VIDEO_STEM}.m4a") == 1


def test_a_video_that_an_http_mirror_lacks_is_gone_without_guessing_extensions(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({"www.youtube.com/watch/other.m4a": SHA256})))

    assert [row.status for row in fetched(server.url, cache)] == ["gone", "gone"]
    assert {request.path for request in server.requests} == {"/SHA256SUMS"}


def test_a_video_that_is_listed_but_not_there_is_gone(server, cache):
    server.script("/SHA256SUMS", Answer(body=sums_of({f"{VIDEO_STEM}.m4a": SHA256})))

    assert [row.reason for row in fetched(server.url, cache)] == ["not_in_mirror", "not_in_mirror"]


def test_a_video_whose_body_breaks_off_is_taken_up_where_it_ended(server, cache, waits):
    server.script("/SHA256SUMS", Answer(body=sums_of({f"{VIDEO_STEM}.m4a": SHA256})))
    server.script(f"/{VIDEO_STEM}.m4a", Answer(body=BODY, truncate=5, etag='"1"'), Answer(body=BODY, etag='"1"'))

    assert [row.media.sha256 for row in fetched(server.url, cache)] == [SHA256]
