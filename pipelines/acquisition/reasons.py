"""Reasons of failed downloads of videos: one vocabulary, and the rules that find the reason of an error.

The type of an exception and a status code decide first; texts that YouTube shows decide second,
because they are the only thing that tells a private video from a removed one. What no rule knows is
`extractor_bug`: an unknown text never makes a video count as gone.
"""

import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from yt_dlp.cookies import CookieLoadError
from yt_dlp.networking.exceptions import (
    CertificateVerifyError,
    HTTPError,
    NoSupportingHandlers,
    RequestError,
    TransportError,
    UnsupportedRequest,
)
from yt_dlp.utils import (
    ContentTooShortError,
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnavailableVideoError,
)

from tutti.datasets.errors import StorageError
from tutti.datasets.os_errors import remedy, words

PERMANENT = frozenset({"private", "removed", "terminated", "copyright"})  # of the video itself
VANTAGE = frozenset({"geo", "age", "members"})  # another country or account would see it
TRANSIENT = frozenset(
    {"bot", "rate_limited", "http_403", "http_429", "http_5xx", "timeout"}
    | {"no_formats", "extractor_setup", "extractor_bug"}
)
REASONS = PERMANENT | VANTAGE | TRANSIENT
WALLS = frozenset({"bot", "rate_limited", "http_429"})  # aimed at us, not at one video: a circuit breaker counts them

MAX_DETAIL_CHARS = 200  # one line of a terminal or a journal


@dataclass(frozen=True)
class Failure:
    """One failed attempt. `detail` is for people: one line without addresses, colors or secrets."""

    reason: str  # one of REASONS
    detail: str

    def __post_init__(self) -> None:
        """Refuse words outside the vocabulary."""
        if self.reason not in REASONS:
            raise ValueError(f"reason {self.reason!r} is not one of {', '.join(sorted(REASONS))}")


class RefusedAddressError(RequestError):  # type: ignore[misc]  # yt-dlp carries no types
    """A request that would have left the allowed hosts; it was not sent."""

    def __init__(self, *, is_wall: bool) -> None:
        whose = "Google's captcha page" if is_wall else "a host that is neither YouTube's nor listed as a media host"
        super().__init__(f"an address was refused: it leads to {whose}")
        self.is_wall = is_wall


class TooMuchError(TransportError):  # type: ignore[misc]
    """A download that takes too long."""


# First match wins, so the special stands before the general: "blocked it in your country on
# copyright grounds" is geo, "account ... terminated ... copyright infringement" is terminated.
# Texts: the playability reasons that YouTube shows, and the messages of yt-dlp's YouTube extractor.
_TEXTS: tuple[tuple[str, str], ...] = (
    ("bot", r"not a bot|captcha|ip is likely being blocked|unusual traffic|please sign in\b"),
    ("rate_limited", r"rate-limited by youtube|content isn't available, try again later|content isn't available\.?$"),
    ("geo", r"(in|from) your (country|location|region)|geo.?restrict"),
    ("age", r"confirm your age|age.?restricted|age.?verification|inappropriate for some users"),
    ("members", r"members.?only|available to this channel's members|join this channel|music premium members"),
    ("members", r"requires payment|rent or purchase|only available for registered users"),
    ("private", r"private video|video is private"),
    ("terminated", r"account associated with this video has been (terminated|closed)|closed their youtube account"),
    ("terminated", r"account has been terminated"),
    ("copyright", r"copyright"),
    ("no_formats", r"premiere|live (event|stream)|^offline|not currently live|processing this video|drm.protected"),
    ("extractor_setup", r"po.?token|\bn.?sig|\b(n|signature|js|javascript) (challenge|extraction|solving)"),
    ("extractor_setup", r"javascript runtime|challenge solver|impersonate target|ffmpeg is not installed|proxy type"),
    ("no_formats", r"format is not available|only images are available|no video formats|other websites"),
    ("removed", r"video (has been|was) removed|removed by the uploader|video does not exist"),
    ("removed", r"(video|it) is no longer available|video isn't available any ?more"),
    ("removed", r"video is (unavailable|not available)|^video unavailable\.?$"),
    ("timeout", r"got error: |network error has occurred|timed out|connection (was )?(reset|refused|aborted|broken)"),
    ("timeout", r"name resolution|name or service not known|incompleteread|more expected|remote end closed"),
)
_RULES = tuple((reason, re.compile(pattern)) for reason, pattern in _TEXTS)
_STATUS = re.compile(r"http error (\d{3})")
# The extractor asks several clients and says only in warnings why each of them failed.
_SAYS_LITTLE = re.compile(r"player response|format is not available|only images|no video formats")

_NETWORK_WORDS = (
    ("connection refused", "refused"),
    ("connection reset", "reset by peer|connection aborted|remote end closed"),
    ("the time limit passed", "timed? ?out"),
    ("host name not found", "name resolution|name or service|failed to resolve|getaddrinfo"),
    ("the proxy failed", "proxy"),
    ("the body broke off", "more expected|incompleteread|connection broken|expected \\d+ bytes"),
)


def classify(error: BaseException, warnings: Sequence[str] = ()) -> Failure:
    """Classify a failed attempt by its reason.

    Args:
        error: what yt-dlp raised.
        warnings: what it warned of before, oldest first.

    Raises:
        StorageError: the local disk failed, which says nothing about the video.
    """
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, OSError) and not _is_network(link):
            raise StorageError(
                f"videos: cannot write a download ({words(link)}); {remedy(link)}, then run the build again"
            ) from error
    for link in chain:
        if (failure := _by_type(link, chain)) is not None:
            return failure
    return _by_text(_message(error), warnings)


def _chain(error: BaseException) -> Iterable[BaseException]:
    """List an error and its stated causes, outermost first.

    Only stated causes count: what an extractor happened to be handling when it raised is not the
    reason. yt-dlp's own wrappers state theirs by raising while they handle it. Below an error of
    the network lie sockets, whose OSErrors are not the disk's.
    """
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        yield link
        if isinstance(link, RequestError):
            return
        stated = link.__cause__ or getattr(link, "cause", None)
        if stated is None and isinstance(link, DownloadError | UnavailableVideoError):
            stated = link.__context__ or (getattr(link, "exc_info", None) or (None, None))[1]
        link = stated if isinstance(stated, BaseException) else None


def _is_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError | socket.gaierror | ssl.SSLError)


def _by_type(error: BaseException, chain: Sequence[BaseException]) -> Failure | None:
    match error:
        case GeoRestrictedError():
            return Failure("geo", clean(error.orig_msg))
        case HTTPError():
            is_page = any(isinstance(link, ExtractorError) for link in chain)
            return _by_status(error.status, "the site" if is_page else "the media server", is_media=not is_page)
        case RefusedAddressError():
            return Failure("bot" if error.is_wall else "extractor_bug", clean(str(error)))
        case CertificateVerifyError():
            return Failure("extractor_setup", "the server's certificate is not trusted on this machine")
        case TooMuchError():
            return Failure("timeout", clean(str(error)))
        case TransportError() | OSError() | ContentTooShortError():
            return Failure("timeout", _network_words(str(error)))
        case NoSupportingHandlers() | UnsupportedRequest():
            return Failure("extractor_setup", "yt-dlp cannot send this request; check the proxy's address")
        case CookieLoadError():  # its message holds the path, or a line of the file
            return Failure("extractor_setup", "the cookies file cannot be read as Netscape format")
    return None


def _by_status(status: int, whose: str, *, is_media: bool) -> Failure:
    detail = f"HTTP status {status} from {whose}"
    if status in (403, 429):
        return Failure(f"http_{status}", detail)
    if status >= 500:
        return Failure("http_5xx", detail)
    # A media address expires or moves: its 404 says nothing about the video.
    return Failure("no_formats" if is_media else "extractor_bug", detail)


def _by_text(message: str, warnings: Sequence[str]) -> Failure:
    if (status := _STATUS.search(plain(message))) is not None:
        is_media = "got error: " in plain(message)  # how the downloader gives up; the exception is lost there
        return _by_status(int(status[1]), "the media server" if is_media else "the site", is_media=is_media)
    reason = _rule(message)
    if reason in (None, "no_formats") and _SAYS_LITTLE.search(plain(message)):
        for warning in warnings:
            told = _rule(warning)
            if told is not None and told not in PERMANENT and told != "no_formats":
                return Failure(told, clean(f"{_core(message)}; {_core(warning)}"))
    if reason == "timeout":
        return Failure(reason, _network_words(message))
    return Failure(reason or "extractor_bug", clean(_core(message)))


def _rule(message: str) -> str | None:
    text = plain(_core(message))
    if (status := _STATUS.search(text)) is not None:
        return _by_status(int(status[1]), "", is_media=False).reason
    return next((reason for reason, pattern in _RULES if pattern.search(text)), None)


def _message(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _network_words(message: str) -> str:
    text = plain(message)
    return next((words for words, pattern in _NETWORK_WORDS if re.search(pattern, text)), "the connection failed")


_STRAIGHT = str.maketrans("\u2018\u2019\u02bc\u201c\u201d", "'''\"\"")  # YouTube writes curly quotes, and at times not


def plain(text: str) -> str:
    """Normalize text for comparison: lower case, straight quotes, single spaces."""
    return " ".join(text.translate(_STRAIGHT).casefold().split())


_COLORS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PREFIX = re.compile(r"^\W*(?:error|warning):\s*|^\s*\[[\w:+.-]+\]\s+(?!got error)(?:[\w-]{11}: )?", re.IGNORECASE)
# What yt-dlp appends for users of its command line: hints that are wrong for us, and its caller's bug reports.
_TAIL = re.compile(
    r"(?:; please report this issue on|\s+Use --cookies|\s+You might want to use a VPN|\s+See\s+https?:"
    r"|\s+For more (?:information|details)|\s+\(caused by).*",
    re.DOTALL,
)
_SECRETS = (
    re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE),  # addresses, with what signs them
    re.compile(r"\burl: \S+|\bhost='[^']*'|\S*[?&][\w.-]+=\S*"),  # the same in pieces
    re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\b0x[0-9a-f]{6,}\b", re.IGNORECASE),
    re.compile(r"\b(?:cookie|authorization|set-cookie)\b\s*[:=].*", re.IGNORECASE),
)


def _core(message: str) -> str:
    """Strip yt-dlp's decoration from a message."""
    text = _COLORS.sub("", message)
    while (stripped := _PREFIX.sub("", text, count=1)) != text:
        text = stripped
    return _TAIL.sub("", text).strip()


def clean(message: str) -> str:
    """Shorten a message to one line of at most MAX_DETAIL_CHARS, without colors, addresses, cookies or signatures."""
    text = _COLORS.sub("", message)
    for secret in _SECRETS:
        text = secret.sub("...", text)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= MAX_DETAIL_CHARS else text[: MAX_DETAIL_CHARS - 3] + "..."
