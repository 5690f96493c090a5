"""The yt-dlp that we run: its parameters, the hosts that it may ask, and nothing of a user's own configuration."""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import BaseAdapter
from yt_dlp import YoutubeDL
from yt_dlp.globals import supported_js_runtimes
from yt_dlp.networking._requests import RequestsRH

from tutti.datasets.errors import UsageError
from tutti.datasets.heartbeat import beat
from tutti.datasets.record import Seconds
from tutti.datasets.user_text import decode_text, lines_of, problem_of
from tutti.pipelines.acquisition.reasons import RefusedAddressError, TooMuchError

YOUTUBE_HOSTS = ("youtube.com", "googlevideo.com")  # with all below them: pages, and the media servers
FORMAT = "bestaudio[protocol=https]/bestaudio[protocol=http]"  # no playlists of fragments: they hide lost pieces
MAX_FILE_BYTES = 2 << 30  # the best audio of 24 h has some 1.4 GB
MAX_DOWNLOAD_S: Seconds = 1800.0  # a server that drips bytes would otherwise hold a worker for ever
SOCKET_TIMEOUT_S: Seconds = 20.0
RETRIES = 3  # of one request, without pauses: the pauses between attempts are the caller's

# What a user may hand on to yt-dlp. Everything else could move or change the file that we promise.
OPTIONS = frozenset(
    {"extractor_args", "extractor_retries", "http_headers", "source_address", "socket_timeout", "retries"}
    | {"sleep_interval", "max_sleep_interval", "sleep_interval_requests", "retry_sleep_functions", "ratelimit"}
    | {"geo_bypass", "geo_bypass_country", "geo_bypass_ip_block", "geo_verification_proxy", "http_chunk_size"}
    | {"cookiesfrombrowser", "username", "password", "usenetrc", "netrc_location"}
    | {"client_certificate", "client_certificate_key", "client_certificate_password"}
    | {"nocheckcertificate", "legacyserverconnect", "js_runtimes", "remote_components", "compat_opts"}
)


@dataclass(frozen=True)
class Access:
    """Access of a user to YouTube. It depends on the place, not on what was fetched: no manifest holds it."""

    cookies: str | None = None  # path of a Netscape cookies file; only a copy of it is ever written to
    proxy: str | None = None  # http, https, socks4 or socks5 address; None: as the environment says
    options: tuple[tuple[str, str], ...] = ()  # yt-dlp parameters (OPTIONS), values in JSON or plain text
    media_hosts: tuple[str, ...] = ()  # host or host:port besides YouTube's that may be asked (a plugin's too)
    section_above_s: Seconds | None = None  # longer videos are fetched by section; None: none is

    def __post_init__(self) -> None:
        """Refuse options that would break what a download promises.

        Raises:
            UsageError: the option is not one of OPTIONS.
        """
        for key, _ in self.options:
            if key not in OPTIONS:
                raise UsageError(f"yt-dlp option {key}: cannot be set here; possible are {', '.join(sorted(OPTIONS))}")

    def __repr__(self) -> str:
        """Show counts without paths and secrets: a traceback may show it."""
        return (
            f"Access(cookies={self.cookies is not None}, proxy={self.proxy is not None}, options={len(self.options)})"
        )


def is_allowed(url: str, media_hosts: tuple[str, ...] = ()) -> bool:
    """Whether a request may go to this address: http(s), and YouTube's or a listed host."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host:
        return False
    known = any(host == name or host.endswith(f".{name}") for name in YOUTUBE_HOSTS)
    return known or host in media_hosts or f"{host}:{port}" in media_hosts


def check_address(url: str, media_hosts: tuple[str, ...]) -> None:
    """Refuse an address that is not allowed.

    Raises:
        RefusedAddressError: it is not, or it is Google's captcha page for suspected robots.
    """
    if not is_allowed(url, media_hosts):
        host, path = re.sub(r"^\w+:/*", "", url).partition("/")[::2]
        raise RefusedAddressError(is_wall=host.endswith(".google.com") and path.startswith("sorry"))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Log:
    """Takes yt-dlp's messages; keeps its warnings, which at times tell more than its errors."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        """Drop progress."""

    def warning(self, message: str) -> None:
        """Keep the beginning of the first hundred."""
        if len(self.warnings) < 100:
            self.warnings.append(message[:1000])

    def error(self, message: str) -> None:
        """Drop: errors are raised as well."""


class _Gate(BaseAdapter):
    """Lets a request pass to an adapter of `requests` only if its address is allowed; redirects too."""

    def __init__(self, inner: BaseAdapter, media_hosts: tuple[str, ...]) -> None:
        super().__init__()
        self.inner = inner
        self.media_hosts = media_hosts

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse before a socket is opened."""
        check_address(request.url, self.media_hosts)
        return self.inner.send(request, *args, **kwargs)

    def close(self) -> None:
        """Close the connections."""
        self.inner.close()


class _GatedRH(RequestsRH):  # type: ignore[misc]  # yt-dlp carries no types; it derives names from the suffix RH
    def __init__(self, *, media_hosts: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.media_hosts = media_hosts

    def _create_instance(self, **kwargs: Any) -> Any:
        session = super()._create_instance(**kwargs)
        for prefix, adapter in list(session.adapters.items()):
            session.mount(prefix, _Gate(adapter, self.media_hosts))
        session.mount("", _Gate(session.adapters["https://"], self.media_hosts))  # any other scheme: refused
        return session


class Session(YoutubeDL):  # type: ignore[misc]
    """yt-dlp with the YouTube extractor only, or what a plugin puts in its place, and gated requests."""

    def __init__(self, params: dict[str, Any], media_hosts: tuple[str, ...]) -> None:
        self.media_hosts = media_hosts
        super().__init__(params, auto_init=False)

    def urlopen(self, req: Any) -> Any:
        """Check the address again, for those that no handler would take."""
        check_address(req if isinstance(req, str) else req.url, self.media_hosts)
        return super().urlopen(req)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        """Use one kind of handler, whatever else is registered or installed."""
        return super().build_request_director([partial(_GatedRH, media_hosts=self.media_hosts)])


def parameters(access: Access, temporary: Path, log: Log) -> dict[str, Any]:
    """Build yt-dlp's parameters of one download; a user's options cannot override the later ones."""
    found = runtimes(os.environ.get("PATH", "")) or tuple(supported_js_runtimes.value)
    params: dict[str, Any] = {
        "js_runtimes": {name: {} for name in found},
        "socket_timeout": SOCKET_TIMEOUT_S,
        "retries": RETRIES,
        **{key: _value(text) for key, text in access.options},
        "paths": {"home": str(temporary)},
        "outtmpl": {"default": "media.%(ext)s"},
        "format": FORMAT,
        "max_filesize": MAX_FILE_BYTES,
        "allow_unplayable_formats": False,
        "enable_file_urls": False,
        "noplaylist": True,
        "fixup": "never",
        "postprocessors": [],
        "cachedir": False,
        "logger": log,
        "quiet": True,
        "noprogress": True,
        "color": "no_color",
        "updatetime": False,
        "progress_hooks": [_watch(time.monotonic)],
    }
    if access.proxy is not None:
        params["proxy"] = access.proxy
    if access.cookies is not None:
        params["cookiefile"] = str(_copy_cookies(access.cookies, temporary))
    return params


def read_cookies(path: str) -> str:
    """Read a Netscape cookies file, checked here because yt-dlp prints the lines that it cannot read.

    Raises:
        UsageError: the file or one of its lines cannot be read; neither is shown.
    """
    try:
        data = Path(path).read_bytes()
    except OSError:
        raise UsageError("the cookies file cannot be read; check the path given for it and its permissions") from None
    if (problem := problem_of(data)) is not None:
        found = next((encoding for encoding in ("UTF-16", "UTF-32") if f"is {encoding}" in problem), "something else")
        raise UsageError(f"the cookies file cannot be read: it is {found}, not UTF-8; export it again as plain text")
    text = "".join(f"{line}\n" for line in lines_of(decode_text(data, "the cookies file")))
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.removeprefix("#HttpOnly_")
        if not entry.strip() or entry.startswith(("#", "$")):
            continue
        fields = entry.split("\t")
        if len(fields) != 7 or not re.fullmatch(r"-?\d*(\.\d+)?", fields[4]):
            raise UsageError(
                f"the cookies file: line {number} is not a cookie in Netscape format (seven fields with tabs between); "
                "export the file again"
            )
    return text


def _copy_cookies(cookies: str, temporary: Path) -> Path:
    copy = temporary / "cookies.txt"  # yt-dlp writes the jar back when it is done
    copy.write_text(read_cookies(cookies), encoding="utf-8")
    return copy


def _watch(now_s: Callable[[], Seconds]) -> Callable[[dict[str, Any]], None]:
    """Make a progress hook that ends a download without end: too many bytes, or too slow."""
    started_s = now_s()

    def hook(progress: dict[str, Any]) -> None:
        beat()
        if (progress.get("downloaded_bytes") or 0) > MAX_FILE_BYTES:
            raise TooMuchError(f"more than {MAX_FILE_BYTES} bytes")
        if now_s() - started_s > MAX_DOWNLOAD_S:
            raise TooMuchError(f"not whole after {MAX_DOWNLOAD_S:.0f} s")

    return hook


@lru_cache(maxsize=8)
def runtimes(path: str) -> tuple[str, ...]:
    """List the JavaScript runtimes on PATH that this yt-dlp can use; looked up once, not per video."""
    found = ((name, runtime(path=None).info) for name, runtime in supported_js_runtimes.value.items())
    return tuple(name for name, info in found if info is not None and info.supported)
