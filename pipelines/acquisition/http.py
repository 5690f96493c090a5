"""Files over http(s): whole, resumed, polite; and a plain word where a server does not give them.

`fetch_file` brings a file to a path that outlives failures and processes: what is there is kept and the next call
goes on from its end, if the server proves that the file is still the same one (RFC 9110: Range, If-Range,
Content-Range). Beside it lie `.state`, which says what the bytes are of, and while somebody writes, `.lock`.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth
from urllib3.exceptions import HTTPError

from tutti.datasets.addresses import Credentials, shown
from tutti.datasets.bounded import read_json
from tutti.datasets.errors import BlockedError, IntegrityError, NetworkError, StorageError, TryLaterError, UsageError
from tutti.datasets.files import write_file
from tutti.datasets.heartbeat import beat, pause
from tutti.datasets.os_errors import storage_error
from tutti.datasets.typed_json import read_as
from tutti.pipelines.acquisition.host_slots import host_slot, one_writer
from tutti.pipelines.acquisition.http_answers import (
    USER_AGENT,
    RemoteVersion,
    asked_wait_s,
    blocked,
    can_resume,
    check_allowed,
    content_range,
    host_of,
    is_loopback,
    is_named_page,
    is_packed,
    is_page,
    redirect_target,
    remote_version_of,
    root_cause,
    same_server,
    with_query,
)
from tutti.pipelines.acquisition.http_connection import Session, watched

RECEIVED_BYTES = 1 << 18  # at most this much is read at once; less where less has come
HEAD_BYTES = 512  # enough to tell a page for people from a file
MAX_REDIRECTS = 5
SLOW_S = 300.0  # a pause of the network passes within this
STATE_BYTES = 1 << 16  # of a part: an address and a few words
SMALL_BYTES = 64 << 20  # a SHA256SUMS of 500,000 files
REDIRECTS = (301, 302, 303, 307, 308)
REFUSALS = (401, 403, 451)
PASSING = (408, 425, 429)  # client errors that go away by themselves, like all of 5xx

Result = TypeVar("Result")


class NotFound(Exception):  # noqa: N818 - an answer rather than an error
    """The server says that there is no such file (404, 410)."""


@dataclass(frozen=True)
class HttpRules:
    """Limits, retries and hosts of requests to a server."""

    slots: Path | None  # folder of the locks that count the users of a host; one for all builds of a machine
    hosts: tuple[str, ...] = ()  # host or host:port that a redirect may lead to, besides the URL's own
    attempts: int = 5  # in a row without a new byte
    backoff_s: float = 2.0  # after the first failure; doubles with each
    max_backoff_s: float = 60.0
    longest_wait_s: float = 900.0  # asked for by a server; with more the build ends, and says until when
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0  # of silence, and for the whole head of an answer
    total_s: float = math.inf  # for one answer with its body
    slowest_bytes_per_s: float = 1024.0  # over SLOW_S: below that, a server only keeps us waiting
    per_host: int = 2  # downloads at once; what Zenodo's users report as tolerated
    credentials: Credentials = field(default_factory=Credentials)  # for the URL's own server and no other

    def __post_init__(self) -> None:
        """Refuse rules under which no request would ever be made."""
        if self.attempts < 1 or self.per_host < 1:
            raise ValueError(f"attempts {self.attempts} and per_host {self.per_host} must be at least 1")


class Retry(Exception):  # noqa: N818 - caught here, always
    """An attempt failed in a way that may pass; holds the wait in s that the server asks for, if any."""

    def __init__(self, problem: str, wait_s: float | None = None, *, rate_limited: bool = False) -> None:
        super().__init__(problem)
        self.wait_s, self.rate_limited = wait_s, rate_limited


def ignore(num_bytes: int, total_bytes: int | None) -> None:
    """Ignore progress."""


def fetch_file(url: str, part: Path, *, rules: HttpRules, progress: Callable[[int, int | None], None] = ignore) -> None:
    """Fetch a whole file to `part`, going on from what an earlier call left there.

    One process writes a part at a time; the others wait. Who moves the file away afterwards should
    hold `one_writer(part)` around this call and the move, and look before the call whether somebody
    else has done both meanwhile.

    Args:
        url: http or https.
        part: where the file grows; synced when this returns. `discard` removes it with its state.
        rules: see `HttpRules`.
        progress: called with the bytes there and those of the whole file, if known. A server that
            states no length cannot be caught hanging up early; a checksum can.

    Raises:
        NotFound: the server has no such file.
        BlockedError: the server refuses us, sends a page for people, or a redirect to another host.
        TryLaterError: the server asks for a longer pause than the rules allow, or for too many.
        StorageError: the server or the disk failed; what has come is kept.
        UsageError: the address is none, or TUTTI_OFFLINE forbids to open it.
    """
    with _storage(part), one_writer(part):
        with_retries(url, rules, lambda open_: _download_once(url, part, rules, progress, open_), lambda: _size(part))


def get_small(url: str, *, rules: HttpRules, limit_bytes: int = SMALL_BYTES) -> bytes | None:
    """Fetch a small file's content, None where the server has no such file; otherwise like `fetch_file`."""
    content = bytearray()

    def attempt(open_: ExitStack) -> bytes:
        content.clear()
        response = request(url, {}, rules, open_)
        for chunk in body_of(url, response, rules):
            content.extend(chunk)
            if len(content) > limit_bytes:
                raise StorageError(f"{url}: larger than {limit_bytes} bytes; is this the file that is meant?")
        return bytes(content)

    try:
        with _storage(rules.slots or Path(url)):
            return with_retries(url, rules, attempt, lambda: len(content))
    except NotFound:
        return None


def discard(part: Path) -> None:
    """Remove a part and its state, if they are there."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def backoff_s(failures: int, rules: HttpRules) -> float:
    """Compute the wait after so many attempts without a new byte where the server states none: 2, 4, 8, ... 60 s."""
    return min(rules.max_backoff_s, rules.backoff_s * 2.0 ** max(0, failures - 1))


# --- the part on the disk


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.state")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _read_state(part: Path) -> RemoteVersion | None:
    try:
        said = read_json(_state_path(part), STATE_BYTES, what="a state")
        return cast(RemoteVersion, read_as(RemoteVersion, said, "state"))
    except (FileNotFoundError, IntegrityError, ValueError, TypeError):
        return None


def _resumable(url: str, part: Path) -> tuple[RemoteVersion | None, int]:
    """Find what an earlier attempt left, and its bytes; remove what cannot be continued."""
    state, have = _read_state(part), _size(part)
    if state is None or state.url != url or not state.validator or (state.length is not None and have > state.length):
        discard(part)
        return None, 0
    return (state, have) if have else (None, 0)


def _download_once(
    url: str, part: Path, rules: HttpRules, progress: Callable[[int, int | None], None], open_: ExitStack
) -> None:
    state, have = _resumable(url, part)
    ranged = {"Range": f"bytes={have}-", "If-Range": state.validator or ""} if state else {}
    response = request(url, ranged, rules, open_)
    if response.status_code == 200:
        body = body_of(url, response, rules)
        head = next(body, b"")  # before anything is written: a page must not replace what we have
        state = remote_version_of(url, response)
        with part.open("wb") as emptied:  # first: old bytes under a new state would be taken for new ones
            os.fsync(emptied.fileno())
        write_file(_state_path(part), json.dumps(asdict(state)).encode())
        _append(part, chain((head,), body), state.length, progress)
    elif state is None:
        raise NetworkError(f"{url}: HTTP status {response.status_code} to a request for the whole; pass --mirror")
    elif not can_resume(state, have, response):
        discard(part)
        open_.close()
        _download_once(url, part, rules, progress, open_)  # without a Range now, so not for ever
    else:
        total = state.length if state.length is not None else content_range(response)[1]
        rest = body_of(url, response, rules) if response.status_code == 206 else iter(())  # 416: nothing is missing
        _append(part, rest, total, progress)


def _append(
    part: Path, chunks: Iterator[bytes], total: int | None, progress: Callable[[int, int | None], None]
) -> None:
    size = _size(part)
    progress(size, total)
    with part.open("ab") as stream:
        for chunk in chunks:
            stream.write(chunk)
            size += len(chunk)
            progress(size, total)
        stream.flush()
        os.fsync(stream.fileno())
    if total is not None and size != total:
        if size > total:
            discard(part)
        raise Retry(f"{size} bytes came of {total}")


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Convert OSErrors of the block to StorageErrors; failures of the network are converted before."""
    try:
        yield
    except OSError as error:
        then = "then run it again: what has come is kept"
        raise storage_error(error, error.filename or path, then=then) from error


# --- the network


def with_retries(
    url: str, rules: HttpRules, attempt: Callable[[ExitStack], Result], num_bytes: Callable[[], int]
) -> Result:
    """Repeat an attempt as the rules say; only bytes beyond all that ever were there count as progress."""
    most, failures = num_bytes(), 0
    while True:
        with ExitStack() as open_:  # the host's slot and the connection; kept while the host asks for a pause
            try:
                return attempt(open_)
            except Retry as again:
                failures = 0 if num_bytes() > most else failures + 1
                most = max(most, num_bytes())
                _wait(url, rules, again, failures)


def _wait(url: str, rules: HttpRules, again: Retry, failures: int) -> None:
    if again.wait_s is not None and again.wait_s > rules.longest_wait_s:
        until = datetime.fromtimestamp(time.time() + min(again.wait_s, 1e9), UTC).isoformat(timespec="seconds")
        raise TryLaterError(
            f"{url}: {again}; the server asks to wait until {until}: run it again then, or pass --mirror"
        )
    if failures >= rules.attempts:
        kind = TryLaterError if again.rate_limited else NetworkError
        raise kind(f"{url}: {again}; try again later, or pass --mirror with a copy")
    wait_s = backoff_s(failures, rules) if again.wait_s is None else again.wait_s
    pause(wait_s, f"{host_of(url)}, which wants a pause of {wait_s:.0f} s")


def request(url: str, headers: dict[str, str], rules: HttpRules, open_: ExitStack) -> requests.Response:
    """Request an address through its redirects; the answer is 200, 206 or 416, its body not read."""
    address, outside = url, False
    for _ in range(MAX_REDIRECTS + 1):
        check_allowed(address)
        if rules.slots is not None:
            open_.enter_context(host_slot(rules.slots, host_of(address), rules.per_host))
        known = rules.credentials if same_server(url, address) else Credentials()
        response, is_inner = _get(url, address, headers, rules, known, outside=outside)
        open_.enter_context(response)
        outside = outside or not is_inner  # a server of the internet has no business with machines of our network
        location = response.headers.get("Location")
        if response.status_code not in REDIRECTS or location is None:
            try:
                _raise_for_answer(url, response)
            except BaseException:
                response.close()  # not kept open over a pause
                raise
            return response
        address = redirect_target(url, address, location.encode("latin-1").decode("utf-8", "replace"), rules.hosts)
        open_.close()
    raise NetworkError(f"{url}: more than {MAX_REDIRECTS} redirects; pass --mirror with a copy")


def _get(
    url: str, address: str, headers: dict[str, str], rules: HttpRules, known: Credentials, *, outside: bool
) -> tuple[requests.Response, bool]:
    """Request one address; the body is not read. True if the answer comes from our own machine or network."""
    # Never through a proxy to our own machine: offline, even the proxy must not be asked.
    proxies = {"no_proxy": urlsplit(address).hostname or ""} if is_loopback(address) else None
    # As bytes: what is no Latin-1 could not be sent otherwise. None: requests looks into ~/.netrc.
    auth = HTTPBasicAuth(known.user.encode(), known.password.encode()) if known.user or known.password else None
    limit_s = min(rules.connect_timeout_s + rules.read_timeout_s, rules.total_s)
    with watched(limit_s, outside=outside) as watch:
        try:
            with Session() as session:
                response = session.get(
                    with_query(address, known.query),
                    headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},  # a .tgz as it is
                    timeout=(rules.connect_timeout_s, rules.read_timeout_s),
                    stream=True,
                    proxies=proxies,
                    auth=auth,
                )
        except ValueError as error:  # requests.InvalidURL and its kin, whose messages quote the address
            raise UsageError(f"{shown(address)}: is not an http(s) address; correct it") from error
        except requests.ConnectTimeout as error:
            raise Retry(f"no connection within {rules.connect_timeout_s:g} s") from error
        except requests.RequestException as error:
            if watch.is_inner and watch.outside:
                told = f"redirect to {shown(address)} refused: {root_cause(error)}"
                raise BlockedError(blocked(url, told)) from error
            if watch.timed_out or isinstance(error, requests.Timeout):
                told_s = limit_s if watch.timed_out else min(rules.read_timeout_s, limit_s)
                raise Retry(f"no answer within {told_s:g} s") from error
            raise Retry(f"the connection failed ({root_cause(error)})") from error
        if watch.timed_out:  # http.client takes a head that breaks off for a whole one
            response.close()
            raise Retry(f"no answer within {limit_s:g} s")
        return response, watch.is_inner


def _raise_for_answer(url: str, response: requests.Response) -> None:
    """Raise for every answer without bytes of the file."""
    status = response.status_code
    if status in (404, 410):
        raise NotFound(f"{url}: HTTP status {status}, no such file")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_html = kind in ("text/html", "application/xhtml+xml")
    if status in REFUSALS or (200 <= status < 300 and is_html and not is_named_page(url)):
        page = ", a page for people instead of the file" if is_html else ""
        raise BlockedError(blocked(url, f"HTTP status {status}{page}"))
    if status in (429, 503):
        problem = f"HTTP status {status}" + (", too many requests" if status == 429 else "")
        raise Retry(problem, asked_wait_s(response.headers, time.time()), rate_limited=status == 429)
    if status >= 500 or status in PASSING:
        raise Retry(f"HTTP status {status}")
    if status not in (200, 206, 416):
        raise NetworkError(f"{url}: HTTP status {status}; try again later, or pass --mirror with a copy")
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity") and not is_packed(url):
        raise NetworkError(f"{url}: comes coded as {coding}, though not asked to; pass --mirror with a copy")


def body_of(url: str, response: requests.Response, rules: HttpRules) -> Iterator[bytes]:
    """Yield the bytes as stored on the server, as soon as they come; a short body is an error."""
    chunks, head, broken = _paced(url, response.raw, rules), b"", None
    try:
        while len(head) < HEAD_BYTES and (chunk := next(chunks, b"")):
            head += chunk
    except Retry as again:
        broken = again  # what came before counts
    if response.status_code == 200 and is_page(head) and not is_named_page(url):
        raise BlockedError(blocked(url, "HTTP status 200, a page for people instead of the file"))
    yield head
    if broken is not None:
        raise broken
    yield from chunks


def _read(raw: Any) -> bytes:
    try:
        return bytes(raw.read1(RECEIVED_BYTES, decode_content=False))
    except (HTTPError, OSError) as error:
        raise Retry(f"the connection broke ({root_cause(error)})") from error


def _paced(url: str, raw: Any, rules: HttpRules) -> Iterator[bytes]:
    """Yield what a connection brings, until the time is up or it is too slow."""
    started_s = since_s = time.monotonic()
    num_bytes = 0
    while chunk := _read(raw):
        beat()
        yield chunk
        num_bytes += len(chunk)
        now_s = time.monotonic()
        if now_s - started_s > rules.total_s:
            raise Retry(f"not whole within {rules.total_s:g} s")
        if now_s - since_s > SLOW_S:
            if num_bytes < rules.slowest_bytes_per_s * (now_s - since_s):
                raise NetworkError(
                    f"{url}: sends less than {rules.slowest_bytes_per_s:g} bytes a second, what has come is kept; "
                    "try again later, or pass --mirror with a copy"
                )
            since_s, num_bytes = now_s, 0
