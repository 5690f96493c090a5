"""Files of unknown origin: only regular ones are opened, only so much is read, JSON holds no surprises.

content = read_bounded(path, MANIFEST_BYTES)     never blocks, never more memory than that
value = parse_json(content)                      depth, size and numbers bounded; no NaN, no key twice

Whoever knows the path by a manifest's word asks `Manifest.path` for it first.
"""

import errno
import io
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutti.datasets.errors import IntegrityError

CHUNK_BYTES = 1 << 20  # of a long file, read at once
MAX_DEPTH = 32  # of nested arrays and objects; a recipe has 6
MAX_CONTAINERS = 1 << 20  # arrays and objects of one text: 100 MB of memory
MAX_ITEMS = 1 << 22
MAX_DIGITS = 400  # of a number
SPARSE_BYTES = 1 << 26  # smaller files are read whatever they hold

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def regular_status(path: Path) -> os.stat_result:
    """Read the status of a regular file without opening it.

    Raises:
        FileNotFoundError: there is nothing.
        IntegrityError: it is a folder, a pipe, a device, a loop of links, or mostly holes.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise IntegrityError(f"{path}: not a file ({error.strerror}); restore it from a copy") from error
        raise
    return _checked(path, status)


def _checked(path: Path, status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for matches, name in _KINDS if matches(status.st_mode)), "something else")
        raise IntegrityError(f"{path}: is {kind}, not a file; restore it from a copy")
    # A file system that packs or inlines files may claim few blocks, but audio does not pack; 0: it does not tell.
    if status.st_size > SPARSE_BYTES and 0 < status.st_blocks * 512 < status.st_size // 8:
        raise IntegrityError(f"{path}: {status.st_size:,} bytes, nearly all of them holes; restore it from a copy")
    return status


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; never waits, whatever lies there.

    Raises:
        FileNotFoundError: there is nothing.
        IntegrityError: it is no regular file.
    """
    regular_status(path)  # before it is opened: that alone may do something to a device
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY), "rb")
    try:
        _checked(path, os.fstat(stream.fileno()))
    except BaseException:
        stream.close()
        raise
    return stream


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read all bytes of a regular file that has no more than `max_bytes`.

    Raises:
        FileNotFoundError: there is nothing.
        IntegrityError: it is no regular file, or larger.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > max_bytes:
            raise IntegrityError(f"{path}: has {size:,} bytes, at most {max_bytes:,} are read; restore it from a copy")
        content = stream.read(size + 1)
    if len(content) != size:
        raise IntegrityError(f"{path}: has {len(content):,} bytes and claims {size:,}; restore it from a copy")
    return content


def parse_json(content: bytes) -> Any:
    """Parse a JSON text in UTF-8, within bounds of depth, size and numbers.

    Raises:
        ValueError: it is none, or nested too deep, too large, with a number that is not finite or too long, a key
            that stands twice, or half a character; the message says which.
    """
    containers, items = content.count(b"{") + content.count(b"["), content.count(b",")
    if containers > MAX_CONTAINERS or items > MAX_ITEMS:
        raise ValueError(f"not a JSON text of ours: {containers:,} arrays and objects, {items:,} commas")
    try:
        value = _DECODER.decode(content.decode("utf-8"))
        if b"\\u" in content:  # half a surrogate pair can only be written so
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from None
    except UnicodeError as error:
        raise ValueError(f"not UTF-8 ({error})") from None
    if depth_exceeds(value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    return value


def read_json(path: Path, max_bytes: int, *, what: str) -> Any:
    """Read and parse a JSON file.

    Raises:
        FileNotFoundError: there is nothing.
        IntegrityError: it is not `what` it should be; the message says why.
    """
    try:
        return parse_json(read_bounded(path, max_bytes))
    except ValueError as error:
        raise IntegrityError(f"{path}: not {what} ({error}); restore it from a copy") from error


def depth_exceeds(value: Any, limit: int) -> bool:
    """Whether arrays and objects lie more than `limit` deep in each other."""
    level = [value]
    for _ in range(limit):
        level = [
            item
            for holder in level
            if isinstance(holder, (dict, list))
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return False
    return any(isinstance(item, (dict, list)) for item in level)


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of a JSON object's pairs, in which no key stands twice.

    Raises:
        ValueError: one stands twice; readers would disagree about its value.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name[:40]!r} stands twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or len(text) > MAX_DIGITS:
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _short_integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"the number {text[:20]}... has {len(text)} digits")
    return int(text)


def no_number(text: str) -> float:
    """Refuse NaN and the infinities, which JSON lacks.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{text} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_float=_finite, parse_int=_short_integer, parse_constant=no_number
)
