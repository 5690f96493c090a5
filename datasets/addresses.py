"""Addresses as they are shown and kept: without passwords, tokens and signatures."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

# What a query may say in the open: which video, which file, which part of a listing. Any other value may be a key.
OPEN = frozenset(("v", "t", "list", "download", "format", "page", "offset", "limit", "revision", "version"))
HIDDEN = "***"

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*:/{1,3})(.*)", re.IGNORECASE | re.DOTALL)  # slashes get lost, or doubled
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*:/{1,3}[^\s\"'<>|\\^`{}]+", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9a-f:.%]*\]|[^:\[\]]*)(:\d*\D?)?", re.IGNORECASE)  # with a port; and what ends a sentence
_PAIR = re.compile(r"([^&;=?#]*)(=?)([^&;#]*)")


@dataclass(frozen=True)
class Credentials:
    """Secrets of requests to one server, besides its address. Never written, never shown."""

    user: str = ""
    password: str = ""
    query: str = ""  # `token=...`: sent with every request, as it was given

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.user or self.password or self.query)

    def __repr__(self) -> str:
        """Hide the values: a traceback may show them."""
        return f"Credentials({HIDDEN if self else ''})"


def split_credentials(address: str) -> tuple[str, Credentials]:
    """Split an http(s) address into the address without user, password and query, and its credentials.

    Raises:
        ValueError: it cannot be told where the password ends; the message holds nothing of it.
    """
    encode = "write /, ?, # and @ of a password as %2F, %3F, %23 and %40"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # its message quotes the address
        raise ValueError(f"is not an address; {encode}") from None
    if "@" in parts.netloc.rpartition("@")[0] or ("@" in parts.netloc and "@" in address.partition(parts.netloc)[2]):
        raise ValueError(f"holds several @; {encode}")
    host = f"[{host}]" if ":" in host else host
    plain = urlunsplit((parts.scheme, host if port is None else f"{host}:{port}", parts.path, "", ""))
    return plain, Credentials(unquote(parts.username or ""), unquote(parts.password or ""), parts.query)


def shown(address: str) -> str:
    """Shorten an address for people: no user, no password, and of the query only what names the file."""
    if (parts := _SCHEME.fullmatch(address)) is None:
        return address
    head, rest = parts.groups()
    netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in netloc or ":" in netloc:  # up to the last @, wherever it is: a password may hold a / as it is
        rest = rest.rpartition("@")[2]
        netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not _HOST.fullmatch(netloc):  # `me:secret` of a password that was cut off: no host
        return f"{head}{HIDDEN}"
    before, mark, query = re.match(r"([^?#]*)([?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{head}{before}{mark}{_PAIR.sub(_masked, query)}"


def _masked(found: re.Match[str]) -> str:
    name, equals, value = found.groups()
    if not found[0]:
        return ""
    if not equals:
        return HIDDEN if len(name) > 1 and not name.isdecimal() else name
    return f"{name}={value if name in OPEN else HIDDEN if value else ''}"


def without_secrets(text: str) -> str:
    """Replace every address in a message by its `shown` form."""
    return _ADDRESS.sub(lambda found: shown(found[0]), text) if ":/" in text else text
