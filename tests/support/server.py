"""A loopback http server that does what a test tells it: per path a script of answers.

    with Server() as server:
        server.script("/zenodo.org/a.zip", Answer(status=500), Answer(body=b"..."))
        requests.get(server.url + "/zenodo.org/a.zip")
        server.requests  # what was asked for, in order

Each request for a path takes the next answer of its script; the last one stays. A path without a
script is looked up in the folder served, if any, else it is 404. Every connection is closed after
its answer. `flaky` makes the files of the folder hard to get, the same way for the same seed.
"""

import contextlib
import hashlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep  # by name: a test that records the code's `time.sleep` must not stop our pauses
from types import TracebackType
from typing import Literal
from urllib.parse import unquote, urlsplit

CHUNK_BYTES = 1 << 16
TICK_S = 0.02  # a throttled body goes out in pieces of this length

# What is done with a Range: "honour" as RFC 9110 says (If-Range, 206, 416); "ignore": 200 with the
# whole body, though the headers promise ranges; "wrong_start": 206 from another byte than asked
# for; "none": 200, and the headers say so.
Ranges = Literal["honour", "ignore", "wrong_start", "none"]


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int = 200
    body: bytes | Path = b""  # a file is read when it is asked for, never as a whole
    headers: Mapping[str, str | None] = field(
        default_factory=dict
    )  # win over what follows from the rest; None: left out
    truncate: int | None = None  # bytes of the body to send before hanging up; Content-Length promises all
    delay_s: float = 0.0  # before the status line
    etag: str | None = None  # with its quotes
    last_modified: str | None = None
    ranges: Ranges = "none"
    throttle: float | None = None  # bytes per second
    disconnect: bool = False  # reset the connection instead of answering


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    path: str  # decoded, without the query
    query: str
    headers: Mapping[str, str]  # names in lower case
    method: str = "GET"


@dataclass(frozen=True)
class Flaky:
    """How hard the files of a folder are to get; shares are of all requests."""

    seed: int
    fail: float
    truncate: float
    throttle: float | None

    def applied(self, answer: Answer, path: str, turn: int) -> Answer:
        """The answer to the request number `turn` for a path: no other request has a say in it."""
        rng = random.Random(f"{self.seed} {path} {turn}")
        kind, where = rng.random(), rng.random()
        if kind < self.fail / 2:
            return Answer(status=503)
        if kind < self.fail:
            return Answer(disconnect=True)
        if kind < self.fail + self.truncate:
            return replace(answer, truncate=int(where * size_of(answer.body)), throttle=self.throttle)
        return replace(answer, throttle=self.throttle)


class Server:
    """Serves on a free port of 127.0.0.1 from `with` to the end of its block."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.num_bytes: Counter[str] = Counter()  # bytes of bodies that were sent, by path
        self._scripts: dict[str, list[Answer]] = {}
        self._turns: Counter[str] = Counter()
        self._folder: Path | None = None
        self._flaky: Flaky | None = None
        self._protection: tuple[str, str] | None = None
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="test server", daemon=True
        )

    @property
    def host(self) -> str:
        """Name and port."""
        return f"127.0.0.1:{self._http.server_port}"

    @property
    def url(self) -> str:
        """Address without a slash at its end."""
        return f"http://{self.host}"

    def script(self, path: str, *answers: Answer) -> None:
        """Answer requests for a path with these, one after the other."""
        with self._lock:
            self._scripts[path] = list(answers)

    def serve_folder(self, folder: Path) -> None:
        """Answer with the files of a folder, below the root, as they are when asked for; ranges work."""
        self._folder = folder.resolve()

    def flaky(self, seed: int, fail: float = 0.2, truncate: float = 0.1, throttle: float | None = None) -> None:
        """Make the folder's files hard to get from now on.

        Args:
            seed: of what happens to which request.
            fail: share of requests answered with 503 or a reset connection, one half each.
            truncate: share of requests whose body breaks off somewhere.
            throttle: bytes per second of each connection, or None.
        """
        self._flaky = Flaky(seed, fail, truncate, throttle)

    def protect(self, authorization: str = "", query: str = "") -> None:
        """Answer 401 to requests without this header or this in their query, from now on."""
        self._protection = (authorization, query)

    def asked(self, path: str) -> int:
        """How often a path was requested."""
        return sum(request.path == path for request in self.requests)

    def _next(self, path: str) -> Answer:
        with self._lock:
            if answers := self._scripts.get(path):
                return answers.pop(0) if len(answers) > 1 else answers[0]
            file = None if self._folder is None else (self._folder / path.lstrip("/")).resolve()
            if file is None or not file.is_file() or not file.is_relative_to(self._folder):
                return Answer(status=404)
            stat = file.stat()
            tag = hashlib.sha256(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
            answer = Answer(body=file, etag=f'"{tag}"', ranges="honour")
            self._turns[path] += 1
            return self._flaky.applied(answer, path, self._turns[path]) if self._flaky else answer

    def _admits(self, headers: Mapping[str, str], query: str) -> bool:
        authorization, wanted = self._protection or ("", "")
        return authorization in ("", headers.get("authorization")) and wanted in query

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # of a client that a test killed
                    self._answer()

            do_HEAD = do_GET

            def _answer(self) -> None:
                parts = urlsplit(self.path)
                path = unquote(parts.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requests.append(Request(path, parts.query, headers, self.command))
                answer = server._next(path) if server._admits(headers, parts.query) else Answer(status=401)
                sleep(answer.delay_s)
                if answer.disconnect:
                    # Closed with a linger time of 0 s, a connection is reset.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                answer, start = ranged(answer, headers)
                self.send_response_only(answer.status)
                for name, value in {"Date": self.date_time_string(), **headers_of(answer, start)}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    for chunk in paced(chunks_of(answer, start), answer.throttle):
                        with server._lock:  # before they go: who has them may look at the number
                            server.num_bytes[path] += len(chunk)
                        self.wfile.write(chunk)

            def log_message(self, format: str, *arguments: object) -> None:
                """Keep quiet."""

        return Handler

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def size_of(body: bytes | Path) -> int:
    """Bytes of a body."""
    return body.stat().st_size if isinstance(body, Path) else len(body)


def ranged(answer: Answer, headers: Mapping[str, str]) -> tuple[Answer, int]:
    """The answer to a request with these headers, and the byte that it starts from."""
    match = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    if answer.status != 200 or answer.ranges in ("none", "ignore") or match is None:
        return answer, 0
    start, condition = int(match[1]), headers.get("if-range")
    if answer.ranges == "wrong_start":
        return replace(answer, status=206), start // 2
    strong = (tag for tag in (answer.etag, answer.last_modified) if tag is not None and not tag.startswith("W/"))
    if condition is not None and condition not in strong:
        return answer, 0
    return replace(answer, status=206 if start < size_of(answer.body) else 416), start


def headers_of(answer: Answer, start: int) -> dict[str, str]:
    """The headers that follow from an answer, under those that it names."""
    size = size_of(answer.body)
    empty = answer.status == 416 and answer.ranges != "none"
    headers = {"Content-Length": str(0 if empty else size - start)}
    if answer.ranges != "none":
        headers["Accept-Ranges"] = "bytes"
    if answer.status == 206:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    if empty:
        headers["Content-Range"] = f"bytes */{size}"
    for name, value in (("ETag", answer.etag), ("Last-Modified", answer.last_modified)):
        if value is not None:
            headers[name] = value
    return {name: value for name, value in {**headers, **answer.headers}.items() if value is not None}


def chunks_of(answer: Answer, start: int) -> Iterator[bytes]:
    """The body from a byte on, up to where this answer breaks off."""
    if answer.status == 416 and answer.ranges != "none":
        return
    end = size_of(answer.body) if answer.truncate is None else start + answer.truncate
    if isinstance(answer.body, bytes):
        yield answer.body[start:end]
        return
    with answer.body.open("rb") as stream:
        stream.seek(start)
        while start < end and (chunk := stream.read(min(CHUNK_BYTES, end - start))):
            yield chunk
            start += len(chunk)


def paced(chunks: Iterator[bytes], throttle: float | None) -> Iterator[bytes]:
    """The same bytes at a rate in bytes per second."""
    if throttle is None:
        yield from chunks
        return
    piece = max(1, int(throttle * TICK_S))
    for chunk in chunks:
        for start in range(0, len(chunk), piece):
            yield chunk[start : start + piece]
            sleep(len(chunk[start : start + piece]) / throttle)
