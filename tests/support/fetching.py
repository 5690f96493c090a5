"""A body of random bytes on a loopback server, and what fetching it does."""

import random
from pathlib import Path
from typing import Any

import pytest
from server import Answer, Server

from tutti.pipelines.acquisition.http import HttpRules, fetch_file

BODY = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(200_000)
PATH = "/records/7/files/a.zip"
TAG: dict[str, Any] = {"etag": '"v1"', "ranges": "honour"}
DATED: dict[str, Any] = {"last_modified": "Wed, 01 Jul 2026 10:00:00 GMT", "ranges": "honour"}


def rules_beside(part: Path, **rules: Any) -> HttpRules:
    """Rules with their locks beside a part."""
    return HttpRules(slots=part.parent / "slots", **rules)


def fetch(server: Server, part: Path, path: str = PATH, progress: Any = lambda done, total: None, **rules: Any) -> None:
    """Fetch a path of the server."""
    fetch_file(server.url + path, part, rules=rules_beside(part, **rules), progress=progress)


def refused(error: Any, server: Server, part: Path, path: str = PATH, **rules: Any) -> str:
    """The message of the error that ends a fetch."""
    with pytest.raises(error) as caught:
        fetch(server, part, path, **rules)
    return str(caught.value)


def leave(server: Server, part: Path, num_bytes: int, body: bytes = BODY, **answer: Any) -> None:
    """Leave the first bytes of a body as an interrupted process does, and forget that it asked."""

    def interrupt(done: int, total: int | None) -> None:
        if done == num_bytes:
            raise KeyboardInterrupt

    server.script(PATH, Answer(body=body, truncate=num_bytes, **answer))
    with pytest.raises(KeyboardInterrupt):
        fetch(server, part, progress=interrupt)
    assert part.read_bytes() == body[:num_bytes]
    server.requests.clear()
    server.num_bytes.clear()


def ranges(server: Server) -> list[tuple[str | None, str | None]]:
    """What each request asked for: its Range and its If-Range."""
    return [(request.headers.get("range"), request.headers.get("if-range")) for request in server.requests]
