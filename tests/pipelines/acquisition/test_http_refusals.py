"""What a server does not give over http, and what we do not ask: walls, pauses, redirects, offline."""

import time

import pytest
from fetching import BODY, PATH, TAG, fetch, leave, refused, rules_beside
from server import Answer, Server

from tutti.datasets.errors import BlockedError, StorageError, TryLaterError, UsageError
from tutti.pipelines.acquisition.http import NotFound, fetch_file, get_small
from tutti.pipelines.acquisition.http_answers import asked_wait_s, check_allowed, is_page, redirect_target

PAGE = b"\n<!DOCTYPE html><html>are you a robot?</html>"


# --- fault 9, html_as_zip, and other refusals


@pytest.mark.parametrize("status", [401, 403, 451])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
def test_a_refusal_is_blocked_at_once_and_leaves_nothing(server, part, waits, status, kind):
    server.script(PATH, Answer(status=status, body=PAGE, headers={"Content-Type": kind}))

    message = refused(BlockedError, server, part)

    assert message.startswith(f"{server.url}{PATH}: blocked: HTTP status {status}")
    for named in ("tutti/0.1", "--mirror", "--data-from", "later"):
        assert named in message
    assert not part.exists()
    assert (server.asked(PATH), waits) == (1, [])


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html"}, {"Content-Type": "application/zip"}, {}])
def test_a_page_with_status_200_is_blocked_and_leaves_nothing(server, part, waits, headers):
    server.script(PATH, Answer(body=PAGE, headers=headers))

    assert f"{server.url}{PATH}: blocked: HTTP status 200, a page for people" in refused(BlockedError, server, part)
    assert not part.exists()
    assert (server.asked(PATH), waits) == (1, [])


def test_a_page_that_is_meant_to_be_one_is_a_file(server, part):
    server.script("/report.html", Answer(body=PAGE, headers={"Content-Type": "text/html"}))

    fetch(server, part, "/report.html")

    assert part.read_bytes() == PAGE


@pytest.mark.parametrize(
    "answer", [Answer(status=403, body=PAGE), Answer(body=PAGE), Answer(status=404), Answer(status=500)]
)
def test_a_wall_in_the_way_does_not_cost_the_bytes_that_are_there(server, part, answer, waits):
    leave(server, part, 150_000, **TAG)
    server.script(PATH, answer)
    refused((BlockedError, NotFound, StorageError), server, part)
    server.script(PATH, Answer(body=BODY, **TAG))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert server.num_bytes[PATH] - len(answer.body) == 50_000


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_not_found_at_once(server, part, waits, status):
    server.script(PATH, Answer(status=status, body=PAGE, headers={"Content-Type": "text/html"}))

    assert refused(NotFound, server, part) == f"{server.url}{PATH}: HTTP status {status}, no such file"
    assert (server.asked(PATH), waits) == (1, [])


@pytest.mark.parametrize("status", [400, 405, 418, 204, 300])
def test_any_other_answer_is_a_storage_error_at_once(server, part, waits, status):
    server.script(PATH, Answer(status=status))

    assert f"{PATH}: HTTP status {status}; try again later, or pass --mirror" in refused(StorageError, server, part)
    assert (server.asked(PATH), waits) == (1, [])


@pytest.mark.parametrize(
    ("head", "page"),
    [
        (b"<html>", True), (b"\xef\xbb\xbf \r\n<!DOCTYPE HTML PUBLIC", True), (b"<head><title>", True),
        (b"PK\x03\x04", False), (b"", False), (b"<?xml version", False), (b"a <html>", False),
    ],
)  # fmt: skip
def test_a_page_is_known_by_its_first_bytes(head, page):
    assert is_page(head) is page


# --- fault 12, 429_storm, and servers in trouble

NOON = 1_784_000_000.0  # 2026-07-14 03:33:20 UTC


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"Retry-After": "7", "X-RateLimit-Reset": "12"}, 7.0),
        ({"Retry-After": "Tue, 14 Jul 2026 03:34:20 GMT"}, 60.0),
        ({"Retry-After": "Tue, 14 Jul 2026 03:33:00 GMT"}, None),  # over already
        ({"Retry-After": "0"}, None),
        ({"Retry-After": "soon"}, None),
        ({"X-RateLimit-Reset": "1784000045"}, 45.0),
        ({"X-RateLimit-Reset": "1783999999"}, None),
        ({"X-RateLimit-Reset": "12"}, 12.0),
        ({"X-RateLimit-Reset": "nan"}, None),
        ({"Retry-After": "soon", "X-RateLimit-Reset": "12"}, 12.0),
    ],
)
def test_how_long_a_server_asks_to_wait(headers, wait_s):
    assert asked_wait_s(headers, NOON) == wait_s


@pytest.mark.parametrize("status", [429, 503])
def test_we_wait_as_told_else_longer_each_time(server, part, waits, status):
    server.script(
        PATH,
        Answer(status=status, headers={"Retry-After": "7"}),
        Answer(status=status, headers={"X-RateLimit-Reset": "33"}),
        Answer(status=status),
        Answer(status=status),
        Answer(body=BODY),
    )

    fetch(server, part)

    assert waits == [7, 33, 8, 16]


def test_a_server_that_asks_for_too_long_a_pause_ends_it_at_once_and_says_until_when(server, part, waits):
    server.script(PATH, Answer(status=429, headers={"Retry-After": "901"}))
    soon = time.strftime("%Y-%m-%dT", time.gmtime(time.time() + 901))

    assert f"the server asks to wait until {soon}" in refused(TryLaterError, server, part)
    assert (server.asked(PATH), waits) == (1, [])


@pytest.mark.parametrize(("status", "error"), [(429, TryLaterError), (503, StorageError), (500, StorageError)])
def test_a_server_that_stays_in_trouble_is_given_up(server, part, waits, status, error):
    server.script(PATH, Answer(status=status))

    message = refused(error, server, part)

    assert message.startswith(f"{server.url}{PATH}: HTTP status {status}")
    assert message.endswith("; try again later, or pass --mirror with a copy")
    assert server.asked(PATH) == 5
    assert waits == [2, 4, 8, 16]


def test_pauses_are_capped(server, part, waits):
    server.script(PATH, Answer(status=502))

    refused(StorageError, server, part, attempts=8)

    assert waits == [2, 4, 8, 16, 32, 60, 60]


def test_a_connection_that_is_reset_and_a_server_that_is_silent_are_asked_again(server, part, waits):
    server.script(PATH, Answer(disconnect=True), Answer(delay_s=0.6), Answer(body=BODY))

    fetch(server, part, read_timeout_s=0.3)

    assert part.read_bytes() == BODY
    assert waits == [2, 4]


def test_a_server_that_is_not_there_is_named_with_the_reason(part, waits):
    with Server() as server:
        pass

    message = refused(StorageError, server, part)

    assert message == (
        f"{server.url}{PATH}: the connection failed (ConnectionRefusedError: [Errno 111] Connection refused); "
        "try again later, or pass --mirror with a copy"
    )
    assert waits == [2, 4, 8, 16]


# --- fault 24, ssrf_redirect


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_host_is_followed_with_its_range(server, part, waits, status):
    leave(server, part, 150_000, **TAG)
    server.script(PATH, Answer(status=status, headers={"Location": "../b.zip?download=1"}))
    server.script("/records/7/b.zip", Answer(body=BODY, **TAG))

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert [(request.path, request.query) for request in server.requests][1:] == [("/records/7/b.zip", "download=1")]
    assert server.num_bytes["/records/7/b.zip"] == 50_000


def test_a_redirect_to_a_listed_host_is_followed(server, part):
    with Server() as other:
        server.script(PATH, Answer(status=302, headers={"Location": f"{other.url}/b.zip"}))
        other.script("/b.zip", Answer(body=BODY))

        fetch(server, part, hosts=(other.host,))

    assert part.read_bytes() == BODY


LOCATIONS = [
    "http://{other}/b.zip",
    "//{other}/b.zip",
    "http://{own}\\@{other}/b.zip",
    "http://{other}\\@{own}/b.zip",
    "http://{own}@{other}/b.zip",
    "http://user@{own}/b.zip",
    "http://{own}/a\\b.zip",
    "http://{own}/a\tb.zip",
    "http://[bad/",
    "http://169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "ftp://{own}/b.zip",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_redirect_elsewhere_is_refused_and_nobody_is_asked(server, part, waits, location):
    with Server() as other:
        other.script("/b.zip", Answer(body=BODY))
        location = location.format(other=other.host, own=server.host)
        server.script(PATH, Answer(status=302, headers={"Location": location}))

        message = refused(BlockedError, server, part)

        assert message.startswith(f"{server.url}{PATH}: blocked: redirect to ")
        assert " refused: " in message
        assert other.requests == []
    assert (server.asked(PATH), waits) == (1, [])
    assert not part.exists()


def test_a_redirect_may_go_to_https_but_not_back():
    assert redirect_target("http://a.org/x", "http://a.org/x", "https://A.org/y", ()) == "https://A.org/y"
    with pytest.raises(BlockedError, match=r"redirect to http://a\.org/x refused: from https to http"):
        redirect_target("http://a.org/x", "https://a.org/y", "http://a.org/x", ())


def test_more_than_five_redirects_are_not_followed(server, part, waits):
    server.script(PATH, Answer(status=302, headers={"Location": PATH}))

    assert "more than 5 redirects" in refused(StorageError, server, part)
    assert server.asked(PATH) == 6


def test_the_body_of_a_redirect_is_not_read(server, part):
    server.script(PATH, Answer(status=302, body=BODY, throttle=50_000, headers={"Location": "/b.zip"}))
    server.script("/b.zip", Answer(body=BODY))
    began_s = time.monotonic()

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert time.monotonic() - began_s < 3  # it would take 4 s


# --- offline, and proxies


@pytest.fixture
def proxied(monkeypatch, server):
    """The server as the proxy for everything."""
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    return server


def test_a_proxy_of_the_environment_is_used(proxied, part):
    proxied.script("/a.zip", Answer(body=BODY))

    fetch_file("http://data.example/a.zip", part, rules=rules_beside(part))

    assert part.read_bytes() == BODY
    assert proxied.requests[0].headers["host"] == "data.example"


def test_our_own_machine_is_asked_without_a_proxy(proxied, part):
    with Server() as mirror:
        mirror.script(PATH, Answer(body=BODY))
        for number, url in enumerate([mirror.url, mirror.url.replace("127.0.0.1", "localhost")]):
            fetch_file(url + PATH, part.with_suffix(f".{number}"), rules=rules_beside(part))

    assert mirror.asked(PATH) == 2
    assert proxied.requests == []


def test_offline_no_other_machine_is_asked_not_even_a_proxy(proxied, part, monkeypatch, waits):
    monkeypatch.setenv("TUTTI_OFFLINE", "1")
    proxied.script("/a.zip", Answer(body=BODY))

    with pytest.raises(UsageError, match=r"^http://data\.example/a\.zip: TUTTI_OFFLINE is set.*--mirror PATH"):
        fetch_file("http://data.example/a.zip", part, rules=rules_beside(part))
    with pytest.raises(UsageError, match="unset it"):
        get_small("http://data.example/SHA256SUMS", rules=rules_beside(part))

    assert (proxied.requests, waits) == ([], [])


def test_offline_a_redirect_to_another_machine_is_not_followed_even_if_listed(proxied, part, monkeypatch):
    monkeypatch.setenv("TUTTI_OFFLINE", "1")
    with Server() as mirror:
        mirror.script(PATH, Answer(status=302, headers={"Location": "http://data.example/a.zip"}))

        assert "TUTTI_OFFLINE" in refused(UsageError, mirror, part, hosts=("data.example",))

    assert proxied.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1:80", "[::1]:8080", "localhost", "LOCALHOST:1"])
def test_offline_our_own_machine_may_be_asked(monkeypatch, host):
    monkeypatch.setenv("TUTTI_OFFLINE", "1")

    check_allowed(f"http://{host}/a")


@pytest.mark.parametrize(
    "host", ["zenodo.org", "127.0.0.1.example", "localhost.example", "10.0.0.1", "[fe80::1]", "0.0.0.0"]
)
@pytest.mark.parametrize(("value", "allowed"), [("1", False), ("true", False), ("0", True), ("", True), (None, True)])
def test_offline_is_what_the_environment_says(monkeypatch, host, value, allowed):
    monkeypatch.delenv("TUTTI_OFFLINE", raising=False)
    if value is not None:
        monkeypatch.setenv("TUTTI_OFFLINE", value)

    if allowed:
        check_allowed(f"https://{host}/a")
    else:
        with pytest.raises(UsageError, match="TUTTI_OFFLINE"):
            check_allowed(f"https://{host}/a")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a.org/x", "zenodo.org/x", "http:///x", "http://a.org:x/"])
def test_what_is_no_http_address_is_a_usage_error(url, part):
    with pytest.raises(UsageError, match=r"is not an http\(s\) address"):
        fetch_file(url, part, rules=rules_beside(part))


# --- small files


def test_a_small_file_is_its_bytes_and_a_missing_one_none(server, part, waits):
    server.script("/SHA256SUMS", Answer(status=503), Answer(body=BODY, truncate=9), Answer(body=BODY))

    assert get_small(f"{server.url}/SHA256SUMS", rules=rules_beside(part)) == BODY
    assert waits == [2, 2]
    assert get_small(f"{server.url}/nothing", rules=rules_beside(part)) is None


def test_a_small_file_that_is_large_or_a_page_is_refused(server, part):
    server.script("/SHA256SUMS", Answer(body=BODY))
    server.script("/page", Answer(body=PAGE))

    with pytest.raises(StorageError, match="/SHA256SUMS: larger than 199999 bytes"):
        get_small(f"{server.url}/SHA256SUMS", rules=rules_beside(part), limit_bytes=199_999)
    assert get_small(f"{server.url}/SHA256SUMS", rules=rules_beside(part), limit_bytes=200_000) == BODY
    with pytest.raises(BlockedError):
        get_small(f"{server.url}/page", rules=rules_beside(part))
