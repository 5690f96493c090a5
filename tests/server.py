"""A loopback http server that does what a test tells it: per path a script of answers.

    with Server() as server:
        server.script("/zenodo.org/a.zip", Answer(status=500), Answer(body=b"..."))
        requests.get(server.url + "/zenodo.org/a.zip")
        server.requests  # what was asked for, in order

Each request for a path takes the next answer of its script; the last one stays. A path without a
script is 404. Every connection is closed after its answer.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    truncate: int | None = None  # bytes of the body to send before hanging up; Content-Length promises all
    delay_s: float = 0.0  # before the status line


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    path: str  # decoded, without the query
    query: str
    headers: Mapping[str, str]  # names in lower case


class Server:
    """Serves on a free port of 127.0.0.1 from `with` to the end of its block."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._scripts: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="test server", daemon=True
        )

    @property
    def url(self) -> str:
        """Address without a slash at its end."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def script(self, path: str, *answers: Answer) -> None:
        """Answer requests for a path with these, one after the other."""
        with self._lock:
            self._scripts[path] = list(answers)

    def serve_folder(self, folder: Path) -> None:
        """Answer with the files of a folder, below the root."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.script(f"/{file.relative_to(folder).as_posix()}", Answer(body=file.read_bytes()))

    def asked(self, path: str) -> int:
        """How often a path was requested."""
        return sum(request.path == path for request in self.requests)

    def _next(self, path: str) -> Answer:
        with self._lock:
            answers = self._scripts.get(path)
            if not answers:
                return Answer(status=404)
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requests.append(Request(unquote(parts.path), parts.query, headers))
                answer = server._next(unquote(parts.path))
                if answer.delay_s:
                    time.sleep(answer.delay_s)
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body[: answer.truncate])

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
