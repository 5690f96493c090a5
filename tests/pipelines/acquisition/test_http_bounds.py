"""What a server may cost us: time, bytes, and a look into our own network. Raw sockets on loopback."""

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from fetching import BODY, PATH, fetch, refused, rules_beside
from server import Answer, Server

from tutti.datasets.addresses import Credentials
from tutti.datasets.errors import BlockedError, IntegrityError, StorageError
from tutti.pipelines.acquisition import http, http_connection
from tutti.pipelines.acquisition.http import get_small
from tutti.pipelines.acquisition.http_connection import is_inner
from tutti.pipelines.acquisition.mirror_look import look_of_mirror
from tutti.pipelines.acquisition.own_index import parse_sums

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
DIGEST = "0" * 64


@contextlib.contextmanager
def speaking(say: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[str]:
    """Address of a server that says what it is told to, to everybody."""
    listener = socket.create_server((host, 0))
    opened: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            opened.append(connection)
            threading.Thread(target=quietly, args=(connection,), daemon=True).start()

    def quietly(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if connection.recv(65536):
                say(connection)
            connection.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        listener.close()
        for connection in opened:
            connection.close()


def nothing(connection: socket.socket) -> None:
    time.sleep(30)


def drips_the_head(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def drips_the_body(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"0")
        time.sleep(0.05)


def has_no_end(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    line = f"{DIGEST}  a\n".encode() * 10_000
    while True:
        connection.sendall(line)


def redirects_inside(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n")


# --- a build that has nothing to do looks at its mirror


def test_the_look_at_a_mirror_is_the_digest_of_its_checksums(server):
    server.script("/root/SHA256SUMS", Answer(body=b"listed"))

    assert look_of_mirror(f"{server.url}/root/", Credentials()) == hashlib.sha256(b"listed").hexdigest()
    assert look_of_mirror(server.url, Credentials()) is None


@pytest.mark.parametrize("say", [nothing, drips_the_head, drips_the_body, has_no_end, redirects_inside])
def test_a_mirror_that_hangs_drips_or_never_ends_holds_nobody_up(say):
    with speaking(say) as url:
        start_s = time.monotonic()
        assert look_of_mirror(url, Credentials(), limit_s=1.0) is None
        assert time.monotonic() - start_s < 3


def test_a_mirror_is_not_asked_offline(server, monkeypatch):
    monkeypatch.setenv("TUTTI_OFFLINE", "1")

    assert look_of_mirror("http://192.0.2.1", Credentials()) is None


# --- bounds of every request


def test_a_head_that_drips_is_no_answer(part):
    with speaking(drips_the_head) as url:
        start_s = time.monotonic()
        with pytest.raises(StorageError, match=r"no answer within 0\.7 s; try again later"):
            get_small(url, rules=rules_beside(part, attempts=1, connect_timeout_s=0.2, read_timeout_s=0.5))
        assert time.monotonic() - start_s < 3


def test_a_body_that_drips_ends_with_the_time_for_all_of_it(part):
    with speaking(drips_the_body) as url, pytest.raises(StorageError, match=r"not whole within 0\.5 s"):
        get_small(url, rules=rules_beside(part, attempts=1, total_s=0.5))


def test_a_download_slower_than_the_slowest_is_given_up_and_what_came_is_kept(server, part, monkeypatch):
    monkeypatch.setattr(http, "SLOW_S", 0.3)
    server.script(PATH, Answer(body=BODY, throttle=20_000, etag='"v1"', ranges="honour"))

    message = refused(StorageError, server, part, slowest_bytes_per_s=100_000)

    assert "sends less than 100000 bytes a second, what has come is kept" in message
    assert 0 < part.stat().st_size < len(BODY)
    server.script(PATH, Answer(body=BODY, etag='"v1"', ranges="honour"))
    fetch(server, part)
    assert part.read_bytes() == BODY


def test_checksums_without_an_end_are_given_up(part):
    with speaking(has_no_end) as url, pytest.raises(StorageError, match="larger than 1000000 bytes"):
        get_small(url, rules=rules_beside(part, attempts=1), limit_bytes=1_000_000)


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("127.0.0.1", True), ("::1", True), ("10.1.2.3", True), ("192.168.0.1", True), ("169.254.169.254", True),
        ("100.64.0.1", True), ("fe80::1%eth0", True), ("fd00::1", True), ("::ffff:10.0.0.1", True), ("0.0.0.0", True),
        ("/run/socket", True), ("8.8.8.8", False), ("2001:4860:4860::8888", False), ("::ffff:8.8.8.8", False),
    ],
)  # fmt: skip
def test_inner_addresses_are_those_that_the_internet_does_not_know(address, inner):
    assert is_inner(address) == inner


def test_a_redirect_from_outside_to_an_inner_address_is_refused_before_anything_is_sent(server, part, monkeypatch):
    asked = []

    def answer(connection: socket.socket) -> None:
        asked.append(connection)

    # On loopback all is inner: for this test, 127.0.0.1 is the internet.
    monkeypatch.setattr(http_connection, "is_inner", lambda address: address != "127.0.0.1")
    with speaking(answer, "127.0.0.2") as inside:
        server.script(PATH, Answer(status=302, headers={"Location": f"{inside}/x"}))
        message = refused(BlockedError, server, part, hosts=(inside.removeprefix("http://"),))

    assert f"redirect to {inside}/x refused: InnerAddressError: it leads to an address of this machine" in message
    assert asked == []


def test_a_mirror_of_our_own_network_may_redirect_within_it(server, part):
    with Server() as other:
        other.script("/x", Answer(body=BODY))
        server.script(PATH, Answer(status=302, headers={"Location": f"{other.url}/x"}))
        fetch(server, part, hosts=(other.host,))

    assert part.read_bytes() == BODY


# --- SHA256SUMS


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "..", "./../x", "a\0b", "a\x1b[2Jb", "a\tb", "x" * 5000, "a\rb"]
)
def test_a_path_that_leaves_the_mirror_or_holds_control_characters_is_refused(path):
    with pytest.raises(IntegrityError, match=r"^root/SHA256SUMS:2: expected ") as caught:
        parse_sums(f"{DIGEST}  good\n{DIGEST}  {path}\n".encode(), "root/SHA256SUMS")

    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("line", ["", "0" * 63 + "  a", "g" * 64 + "  a", "A" * 64 + "  a", f"{DIGEST}", "<html>"])
def test_a_line_that_is_none_is_named(line):
    with pytest.raises(IntegrityError, match=r"^s:2: expected '<sha256>  <path>', got "):
        parse_sums(f"{DIGEST}  a\n{line}\n{DIGEST}  b\n".encode(), "s")


def test_a_path_with_two_digests_is_refused_and_the_same_twice_is_not():
    twice = f"{DIGEST}  a\n{DIGEST}  a\n".encode()

    assert parse_sums(twice, "s") == {"a": DIGEST}
    with pytest.raises(IntegrityError, match=r"^s:3: 'a' has another digest further up"):
        parse_sums(twice + f"{'1' * 64}  a\n".encode(), "s")


def test_more_lines_than_any_mirror_has_are_refused():
    with pytest.raises(IntegrityError, match=r"more than 1,000,000 lines"):
        parse_sums(b"\n" * 1_000_001, "s")
