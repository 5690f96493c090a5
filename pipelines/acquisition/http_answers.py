"""Parsing of http addresses and answers, and rules which of them to follow: nothing here opens a socket.

RFC 9110: validators (8.8), Range and If-Range (13.1.5, 14), Retry-After (10.2.3).
"""

import contextlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from tutti.datasets.addresses import shown, without_secrets
from tutti.datasets.environment import switch
from tutti.datasets.errors import BlockedError, UsageError

USER_AGENT = "tutti/0.1 (+builds music research datasets; contact: whoever runs it at this address)"
EPOCH_FROM_S = 1e9  # an X-RateLimit-Reset from here on is a point in time (2001 or later), below a pause


@dataclass(frozen=True)
class RemoteVersion:
    """A file on a server, as one of its answers describes it."""

    url: str
    etag: str | None  # strong ones only
    last_modified: str | None
    length: int | None  # bytes of the whole file

    @property
    def validator(self) -> str | None:
        """The validator by which the server recognizes that the same bytes are meant; None: there is none."""
        return self.etag or self.last_modified


def check_allowed(url: str) -> None:
    """Refuse an address that must not be opened; called before any socket is made.

    Raises:
        UsageError: it is not an http(s) address, or TUTTI_OFFLINE is set and it is another machine's.
    """
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise UsageError(f"{shown(url)}: is not an http(s) address; correct it")
    if switch("TUTTI_OFFLINE") and not is_loopback(url):
        raise UsageError(
            f"{shown(url)}: TUTTI_OFFLINE is set, so no other machine is asked; "
            "unset it, or pass --mirror PATH or --data-from DIR with a copy"
        )


def asked_wait_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Parse the wait in seconds that a server requests: Retry-After, else X-RateLimit-Reset; None if neither.

    Args:
        headers: of the answer.
        now_s: seconds since 1970.
    """
    retry_after = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,18}", retry_after):
        return float(retry_after) or None
    with contextlib.suppress(ValueError):
        moment = parsedate_to_datetime(retry_after)
        wait_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
        return wait_s if wait_s > 0 else None
    reset = headers.get("X-RateLimit-Reset", "").strip()
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]+)?", reset):
        wait_s = float(reset) - (now_s if float(reset) >= EPOCH_FROM_S else 0)
        return wait_s if wait_s > 0 else None
    return None


def host_of(url: str) -> str:
    """Parse the host of an address, in lower case, with its port unless that is the scheme's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, 80 if parts.scheme == "http" else 443) else f"{host}:{parts.port}"


def redirect_target(url: str, current: str, location: str, hosts: tuple[str, ...]) -> str:
    """Resolve the address that a redirect leads to, and check that it is allowed.

    Args:
        url: what was asked for in the first place; its host may be returned to.
        current: the address that answers with the redirect.
        location: as the server says it, absolute or relative.
        hosts: see `HttpRules`.

    Raises:
        BlockedError: it leads to another host, another protocol, or from https to http.
    """
    try:
        target = urljoin(current, location)
        scheme, host = urlsplit(target).scheme, host_of(target)
        # Parsers differ about which host such an address names: http://allowed\@other/
        plain = "@" not in urlsplit(target).netloc and not re.search(r"[\x00-\x1f\x7f\\]", location)
    except ValueError:
        raise BlockedError(blocked(url, f"redirect to {shown(location)!r} refused: not an address")) from None
    told = shown(target)
    if scheme not in ("http", "https") or not plain:
        raise BlockedError(blocked(url, f"redirect to {told!r} refused: not a plain http(s) address"))
    if scheme == "http" and urlsplit(current).scheme == "https":
        raise BlockedError(blocked(url, f"redirect to {told} refused: from https to http"))
    if host not in {host_of(url), *(name.lower() for name in hosts)}:
        raise BlockedError(blocked(url, f"redirect to {told} refused: {host} is not a host of this file"))
    return target


def same_server(url: str, address: str) -> bool:
    """Whether two addresses are of one server, so that one's password is for the other too."""
    return (urlsplit(url).scheme, host_of(url)) == (urlsplit(address).scheme, host_of(address))


def with_query(address: str, query: str) -> str:
    """Append a query to an address, unless it is part of its own already."""
    parts = urlsplit(address)
    if not query or query in parts.query:
        return address
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))


def is_page(head: bytes) -> bool:
    """Whether a file begins like a page for people."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head"))


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_named_page(url: str) -> bool:
    """Whether the name promises a page, so that a page is what is meant."""
    return urlsplit(url).path.lower().endswith((".html", ".htm"))


def is_packed(url: str) -> bool:
    """Whether the name promises gzip, which some servers also declare as a coding."""
    return urlsplit(url).path.lower().endswith((".gz", ".tgz"))


def blocked(url: str, what: str) -> str:
    """Format the message of a refusal, with what a user can do."""
    return (
        f"{shown(url)}: blocked: {what}; we call ourselves {USER_AGENT!r}; fetch the file by hand and pass "
        "--data-from DIR or --mirror ROOT with it, or try again later"
    )


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Parse the first byte and the whole length of a Content-Range; None for what it does not state."""
    match = re.fullmatch(
        r"bytes +(?:([0-9]+)-[0-9]+|\*)/([0-9]+|\*)", response.headers.get("Content-Range", "").strip(), re.IGNORECASE
    )
    first, total = match.groups() if match else (None, None)
    return int(first) if first else None, int(total) if total and total != "*" else None


def remote_version_of(url: str, response: requests.Response) -> RemoteVersion:
    """Collect what the headers of an answer state about a whole file: address, validators, length."""
    headers = response.headers
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    length = headers.get("Content-Length", "")
    return RemoteVersion(
        url,
        etag if etag and etag.startswith('"') else None,  # W/"...": equal to people, not byte for byte
        modified if modified and not etag and _is_settled(modified, headers.get("Date")) else None,
        int(length) if re.fullmatch(r"[0-9]+", length) else None,
    )


def _is_settled(modified: str, date: str | None) -> bool:
    """Whether a file is older than a second: changed within it, it may change again (RFC 9110, 8.8.2.2)."""
    try:
        return date is None or parsedate_to_datetime(date) - parsedate_to_datetime(modified) >= timedelta(seconds=1)
    except (ValueError, TypeError):  # no dates, or one of them without a time zone
        return False


def can_resume(state: RemoteVersion, have: int, response: requests.Response) -> bool:
    """Whether an answer goes on exactly where our part ends, or says that it is whole."""
    first, total = content_range(response)
    etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
    same = (etag == state.etag or etag is None) if state.etag else modified in (None, state.last_modified)
    if response.status_code == 416:
        return same and total == have and state.length in (None, have)
    return same and first == have and (total is None or state.length in (None, total))


def root_cause(error: BaseException) -> str:
    """Describe the innermost of a chain of exceptions, without addresses of objects."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return without_secrets(re.sub(r"<[^>]* at 0x[0-9a-f]+>:? ?", "", f"{type(error).__name__}: {error}"))
