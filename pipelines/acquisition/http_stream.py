"""A file on a server, read in order while it comes: nothing of it is kept, and broken connections are taken up again.

    with HttpStream(url, rules) as stream:
        stream.read(512)
        stream.seek(5_000_000)      what lies between is passed over: by a new request where the server honours ranges

By the rules of `http.py`: bounded attempts, pauses that a server asks for, one slot of its host. Where the server
cannot prove that a file is still the same (RFC 9110: Range, If-Range), it is read again from its first byte.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType

from tutti.datasets.errors import NetworkError
from tutti.pipelines.acquisition.http import HttpRules, Retry, body_of, ignore, request, with_retries
from tutti.pipelines.acquisition.http_answers import RemoteVersion, can_resume, content_range, remote_version_of

SKIP_BYTES = 4 << 20  # less is read and dropped: a new request takes as long


class ChangedFileError(NetworkError):
    """The server has another file by now than when we began to read."""


class HttpStream:
    """Bytes of a file on a server.

    Args:
        url: http or https.
        rules: see `HttpRules`.
        known: what the server said of the file another time; it must be that one still.
        whole: read every byte, so that there is a digest of all.
        progress: called with the place that was reached and the bytes of the whole file, if known.
    """

    def __init__(
        self,
        url: str,
        rules: HttpRules,
        *,
        known: RemoteVersion | None = None,
        whole: bool = False,
        progress: Callable[[int, int | None], None] = ignore,
    ) -> None:
        self._progress = progress
        self._url, self._rules, self._whole = url, rules, whole
        self.version = known
        self._position = 0  # of the next byte handed out
        self._at = 0  # of the next byte that the connection brings
        self._buffer = b""  # what it brought and was not handed out: from `_position` up to `_at`
        self._body: Iterator[bytes] | None = None
        self._connection = ExitStack()
        self._ranges = True  # until the server shows otherwise
        self._furthest = 0  # of what ever came
        self._sha256, self._hashed = hashlib.sha256(), 0
        self._ended = False

    def __enter__(self) -> "HttpStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disconnect()
        if self.length is not None:
            self._progress(self.length, self.length)  # it is not shown any more

    @property
    def length(self) -> int | None:
        """Bytes of the whole file; None: the server does not say, or was not asked yet."""
        return None if self.version is None else self.version.length

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._position

    def seek(self, position: int) -> None:
        """Move to a byte further on."""
        if position < self._position:
            raise ValueError(f"{self._url}: a stream goes onwards, not from byte {self._position} to {position}")
        self._buffer = self._buffer[position - self._position :]
        self._position = position

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end of the file.

        Raises:
            NotFound: the server has no such file.
            ChangedFileError: it has another one by now.
            NetworkError: the server failed too often in a row.
            TryLaterError: it asks for a longer pause than the rules allow, or refuses us.
        """
        parts, left = [], size
        while left > 0 and (self._buffer or self._fill()):
            taken, self._buffer = self._buffer[:left], self._buffer[left:]
            self._position += len(taken)
            left -= len(taken)
            parts.append(taken)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def connect(self) -> None:
        """Request the file, so that its length is known; raises as `read`."""
        if not self._buffer:
            self._fill()

    def sha256(self) -> str | None:
        """Read the rest and return the digest of the whole file; None where bytes were passed over unread."""
        while self._fill():
            self._position, self._buffer = self._at, b""
        return self._sha256.hexdigest() if self._hashed == self._at and self._ended else None

    def _fill(self) -> bool:
        """Receive bytes from `_position` on; False: there are no more."""
        if self._ended and self._position >= self._at:
            return False
        if (
            self._position - self._at > SKIP_BYTES
            and not self._whole
            and self._ranges
            and self._validator() is not None
        ):
            self._disconnect()
        begin, chunk = with_retries(self._url, self._rules, self._receive, lambda: self._furthest)
        if not chunk:
            self._ended = True
            return False
        self._buffer = chunk[max(0, self._position - begin) :]
        return True

    def _validator(self) -> str | None:
        return None if self.version is None else self.version.validator

    def _receive(self, _: ExitStack) -> tuple[int, bytes]:
        """Receive until something comes from beyond `_position`: where it begins and what it is; empty at the end."""
        try:
            if self._body is None:
                self._body = self._connect()
            for chunk in self._body:
                begin, self._at = self._at, self._at + len(chunk)
                self._furthest = max(self._furthest, self._at)
                self._progress(self._at, self.length)
                if begin <= self._hashed < self._at:
                    self._sha256.update(chunk[self._hashed - begin :])
                    self._hashed = self._at
                if self._at > self._position:
                    return begin, chunk
            if self.length is not None and self._at < self.length:
                raise Retry(f"{self._at} bytes came of {self.length}")
        except BaseException:
            self._disconnect()
            raise
        return self._at, b""

    def _connect(self) -> Iterator[bytes]:
        start = self._hashed if self._whole else self._position
        ranged = start > 0 and self._ranges and self._validator() is not None
        headers = {"Range": f"bytes={start}-", "If-Range": self._validator() or ""} if ranged else {}
        response = request(self._url, headers, self._rules, self._connection)
        if response.status_code == 200:
            found = remote_version_of(self._url, response)
            if self.version is not None and not _is_same(self.version, found):
                raise ChangedFileError(f"{self._url}: has changed while it was read; run the build again")
            self._ranges = not ranged and self._ranges  # asked for a part it sent all
            self.version, self._at = found, 0
        elif self.version is not None and response.status_code == 206 and can_resume(self.version, start, response):
            self._at = start
        elif response.status_code == 206 and content_range(response)[0] != start:
            self._ranges = False
            raise Retry("the server sent another part than it was asked for")
        else:
            raise ChangedFileError(f"{self._url}: has changed while it was read; run the build again")
        return body_of(self._url, response, self._rules)

    def _disconnect(self) -> None:
        self._body = None
        self._connection.close()
        self._connection = ExitStack()


def _is_same(before: RemoteVersion, now: RemoteVersion) -> bool:
    """Whether two answers may be about one file: a server that proves nothing is taken by its word on the length."""
    proofs = (before.etag, now.etag), (before.last_modified, now.last_modified), (before.length, now.length)
    return all(a is None or b is None or a == b for a, b in proofs)
