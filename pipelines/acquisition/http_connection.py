"""Connections that say whom they reach, and end where an answer does not begin in time.

Time-outs of sockets count silence: a server that sends a byte now and then would hold us for ever. And a name says
nothing about the machine behind it: a redirect to a harmless name may lead to a device of our own network.
"""

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class InnerAddressError(OSError):
    """A name led to an address of our own machine or network."""


class Watch:
    """One request: from its connection to the head of its answer.

    Args:
        limit_s: seconds from the connection to the end of the head.
        outside: refuse addresses that only our own machine or network reaches.
    """

    def __init__(self, limit_s: float, *, outside: bool) -> None:
        self.outside = outside
        self.is_inner = False  # whether such an address was reached
        self.timed_out = False
        self._timer = threading.Timer(limit_s, self._end)
        self._timer.daemon = True
        self._handle: socket.socket | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Watch":
        self._token = _WATCH.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _WATCH.reset(self._token)
        self._timer.cancel()
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None

    def connected(self, opened: socket.socket, *, to_proxy: bool) -> None:
        """Check a fresh connection, over which nothing was sent yet.

        Raises:
            InnerAddressError: it leads inside, where only the outside is allowed.
        """
        if not to_proxy:
            self.is_inner = is_inner(opened.getpeername()[0])
            if self.is_inner and self.outside:
                raise InnerAddressError("it leads to an address of this machine or its network")
        with self._lock:
            self._handle = opened.dup()  # of the same connection, whatever wraps the other one
            with contextlib.suppress(RuntimeError):  # no thread to be had: silence alone ends the wait then
                self._timer.start()

    def _end(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._handle is not None:
                self.timed_out = True
                self._handle.shutdown(socket.SHUT_RDWR)


def is_inner(address: str) -> bool:
    """Whether an IP address is one that the internet does not know: loopback, private, link-local, reserved."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # of another family, such as a local socket
        return True
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return not (mapped or found).is_global


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


class _Watched:
    """Additions to urllib3's connections: each is checked and watched."""

    def _new_conn(self) -> socket.socket:
        opened: socket.socket = super()._new_conn()  # type: ignore[misc]  # of HTTPConnection
        if (watch := _WATCH.get()) is not None:
            try:
                watch.connected(opened, to_proxy=getattr(self, "proxy", None) is not None)
            except BaseException:
                opened.close()
                raise
        return opened


class _Http(_Watched, HTTPConnection):
    pass


class _Https(_Watched, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        if not type(manager).__name__.startswith("SOCKS"):
            manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager


class Session(requests.Session):
    """Leaves redirects alone; requests would read their whole bodies and follow their Location even then."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None, so that requests follows no redirect: we check each first."""
        return None


@contextlib.contextmanager
def watched(limit_s: float, *, outside: bool) -> Iterator[Watch]:
    """Watch what is connected within the block."""
    with Watch(limit_s, outside=outside) as watch:
        yield watch
