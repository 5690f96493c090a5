"""The availability ledger: what became of every attempt to fetch a recording, kept across builds.

    folder/00.jsonl .. ff.jsonl     one line of JSON per attempt; bucket = sha256(key)[:2]

A journal only grows: whole lines are appended under a lock and synced, so a process that dies at
any moment takes at most the line that it was writing. Whoever writes next ends such a torn line;
readers skip it with a warning. What the attempts mean is computed when asked for (`availability_from`).
"""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from tutti.datasets.errors import UsageError
from tutti.datasets.locks import lock
from tutti.datasets.os_errors import storage_error
from tutti.datasets.record import Seconds
from tutti.datasets.settings import nearest
from tutti.datasets.typed_json import Amount, Digest, Text, Word, predicate
from tutti.pipelines.acquisition.reasons import PERMANENT, REASONS, VANTAGE

SECOND_SIGHTING_S = 86_400.0  # 24 h: a channel may be hidden or a site broken for an evening
LATEST_S = 1e11  # year 5138: what lies beyond is damage, and no calendar takes it
MAX_JOURNAL_BYTES = 1 << 30  # a million attempts have 0.2 GB, in 256 journals
DETAIL_CHARACTERS = 500  # of a message; some errors quote a whole page
OUTCOMES = ("fetched", "failed")

logger = logging.getLogger(__name__)


is_digest, is_text, is_word = predicate(Digest), predicate(Text), predicate(Word)
is_size = predicate(Amount)


@dataclass(frozen=True)
class Attempt:
    """One line of the ledger; None where a field says nothing."""

    key: str  # what was asked for, such as "youtube/<id>"
    time_s: Seconds  # when it ended, since the epoch
    outcome: str  # "fetched" or "failed"
    reason: str | None = None  # why it failed, one word of reasons.py
    detail: str | None = None  # the message, for people
    sha256: str | None = None  # of the file that was fetched
    num_bytes: int | None = None  # of that file
    method: str | None = None  # how it was fetched: "full", "section", ...
    offset_s: Seconds | None = None  # where in the recording the file begins
    duration_s: Seconds | None = None  # of the audio in the file

    def __post_init__(self) -> None:
        """Refuse what could not be judged later."""
        if not isinstance(self.key, str) or not self.key:
            raise ValueError(f"an attempt needs a key, got {self.key!r}")
        if self.outcome not in OUTCOMES or (self.outcome == "failed") != bool(self.reason):
            raise ValueError(f"{self.key}: a failure has a reason, a fetched file has none; got {self.outcome!r}")
        if not abs(self.time_s) <= LATEST_S:
            raise ValueError(f"{self.key}: time_s must be finite, and a time of this age, got {self.time_s}")
        if self.sha256 is not None and not is_digest(self.sha256):
            raise ValueError(f"{self.key}: expected a sha256, got {self.sha256[:80]!r}")
        sizes = (self.num_bytes, self.offset_s, self.duration_s)
        if any(size is not None and not is_size(size) for size in sizes):
            raise ValueError(f"{self.key}: sizes and times are numbers above zero, got {sizes}")
        if not is_text(self.key):
            raise ValueError(f"{self.key[:80]!r}: a key is text that can be written")
        if not all(is_word(word) for word in (self.reason, self.method) if word is not None):
            raise ValueError(f"{self.key}: reason and method are one word, got {self.reason!r}, {self.method!r}")


@dataclass(frozen=True)
class Availability:
    """Conclusion from all attempts for one key."""

    key: str
    status: str = "unknown"  # "unknown" (never tried), "fetched", "gone" or "pending"
    reason: str | None = None  # why it is gone or pending
    detail: str | None = None  # the message that came with the reason
    first_seen_s: Seconds | None = None  # time of the first attempt
    last_seen_s: Seconds | None = None  # time of the last attempt
    last_ok_s: Seconds | None = None  # time of the last success
    attempts: int = 0
    sha256: str | None = None  # of the last success, like the next three
    method: str | None = None
    offset_s: Seconds | None = None
    duration_s: Seconds | None = None


def availability_from(key: str, attempts: Sequence[Attempt]) -> Availability:
    """Derive a key's availability from its attempts, which come in the order of the journal.

    A success ends all doubts before it. After it, or without one, the key is gone once permanent
    reasons were seen 24 h apart (see `_is_gone`), whatever else was seen between or since: its
    reason is the last permanent one. Otherwise it is pending, for the reason of the last attempt.
    """
    if not attempts:
        return Availability(key)
    successes = [index for index, one in enumerate(attempts) if one.outcome == "fetched"]
    success = attempts[successes[-1]] if successes else None
    failures = attempts[successes[-1] + 1 :] if successes else attempts
    if not failures:
        status, shown = "fetched", attempts[-1]
    elif _is_gone(failures):
        status, shown = "gone", next(one for one in reversed(failures) if one.reason in PERMANENT)
    else:
        status, shown = "pending", failures[-1]
    found = Availability(
        key, status, shown.reason, shown.detail, attempts[0].time_s, attempts[-1].time_s, attempts=len(attempts)
    )
    if success is None:
        return found
    return replace(
        found,
        last_ok_s=success.time_s,
        sha256=success.sha256,
        method=success.method,
        offset_s=success.offset_s,
        duration_s=success.duration_s,
    )


def _is_gone(failures: Sequence[Attempt]) -> bool:
    """Whether permanent reasons were seen on two days, 24 h apart; the two may differ.

    A clock that is set wrong and then right again makes a day pass in no time. It also steps back
    once, before or after, so every step back calls for one more day. Only a clock that stays
    ahead cannot be told from a day that passed.
    """
    days = steps_back = 0
    counted_from_s: Seconds | None = None
    previous_s = failures[0].time_s
    for attempt in failures:
        if attempt.time_s < previous_s:
            steps_back += 1
            counted_from_s = None if counted_from_s is None else min(counted_from_s, attempt.time_s)
        previous_s = attempt.time_s
        if attempt.reason not in PERMANENT:
            continue
        if counted_from_s is None:
            counted_from_s = attempt.time_s
        elif attempt.time_s - counted_from_s >= SECOND_SIGHTING_S:
            days += 1
            counted_from_s = attempt.time_s
    return days > steps_back


def is_due(availability: Availability, now_s: Seconds, retry: frozenset[str] = frozenset()) -> bool:
    """Whether to try the network (again).

    Args:
        availability: what is known.
        now_s: time since the epoch.
        retry: reasons, "gone", "pending" or "all": what the user wants asked again (`parse_retry`).

    Returns:
        True for what was never tried, for a fetched file (ask only if it is lost) and for transient
        failures. A first permanent sighting waits for 24 h: earlier, the answer would not count.
        What is gone, or out of reach from here, is asked for again only where `retry` says so.
    """
    if availability.status in ("unknown", "fetched"):
        return True
    if retry & {"all", availability.status, availability.reason}:
        return True
    if availability.status == "gone" or availability.reason in VANTAGE:
        return False
    if availability.reason in PERMANENT:
        # A last sighting far in the future comes from a wrong clock: it must not hold us for years.
        return abs(now_s - (availability.last_seen_s or 0.0)) >= SECOND_SIGHTING_S
    return True


def parse_retry(text: str) -> frozenset[str]:
    """Read `--retry-status bot,http_403`: reasons, `gone`, `pending` or `all`; `-` counts as `_`.

    Raises:
        UsageError: a word is none of these.
    """
    known = sorted(REASONS | {"gone", "pending", "all"})
    words = {word.strip().lower().replace("-", "_") for word in text.split(",")} - {""}
    if unknown := sorted(words - set(known)):
        named = ", ".join(f"{word!r}{nearest(word, known)}" for word in unknown)
        raise UsageError(f"--retry-status: unknown {named}; known are {', '.join(known)}")
    return frozenset(words)


@dataclass(frozen=True)
class Ledger:
    """A folder of journals. Holds no state, so it can travel to any worker."""

    folder: Path

    def record(self, attempt: Attempt) -> None:
        """Append an attempt; when this returns, it survives a power cut.

        Raises:
            StorageError: the disk is full or not writable.
        """
        if attempt.detail:
            attempt = replace(attempt, detail=attempt.detail[:DETAIL_CHARACTERS])
        line = line_of(attempt)
        with locked_file(self._path(attempt.key), os.O_RDWR | os.O_CREAT | os.O_APPEND) as descriptor:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a writer died within its line
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "the line was cut")
            os.fsync(descriptor)
            if not size:
                _sync(self.folder)

    def attempts(self, key: str) -> list[Attempt]:
        """Read all attempts for a key, in the order in which they were recorded."""
        return [one for one in _read(self._path(key), json.dumps(key).encode()) if one.key == key]

    def availability(self, key: str) -> Availability:
        """Derive the availability of a key from its attempts."""
        return availability_from(key, self.attempts(key))

    def all(self) -> Iterator[Availability]:
        """Yield the availability of every key, by bucket, then key; one bucket at a time is in memory."""
        for path in sorted(self.folder.glob("[0-9a-f][0-9a-f].jsonl")):
            attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
            for attempt in _read(path):
                attempts[attempt.key].append(attempt)
            for key in sorted(attempts):
                yield availability_from(key, attempts[key])

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:2]}.jsonl"


def line_of(attempt: Attempt) -> bytes:
    """Write an attempt as a line of a journal: ASCII, so that a line is torn between characters, never within one."""
    said = {name: value for name, value in asdict(attempt).items() if value is not None}
    return json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


_FIELDS = tuple(field.name for field in fields(Attempt))
_NUMBERS = {"time_s", "num_bytes", "offset_s", "duration_s"}


def _parse(line: bytes) -> Attempt | None:
    try:
        said = json.loads(line)
        known = {name: said[name] for name in _FIELDS if said.get(name) is not None}  # newer versions may say more
        sound = all(isinstance(value, (int, float) if name in _NUMBERS else str) for name, value in known.items())
        return Attempt(**known) if sound else None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _read(path: Path, needle: bytes = b"") -> Iterator[Attempt]:
    """Read the attempts of a journal whose line holds the needle; most lines are about other keys."""
    try:
        with locked_file(path, os.O_RDONLY) as descriptor, open(descriptor, "rb", closefd=False) as stream:
            size = os.fstat(descriptor).st_size
            if size > MAX_JOURNAL_BYTES:
                raise OSError(errno.EFBIG, f"a journal of {size:,} bytes is none of ours")
            content = stream.read()
    except FileNotFoundError:
        return
    for start, line in _lines_with(content, needle):
        attempt = _parse(line)
        if attempt is not None:
            yield attempt
        elif line.strip():
            _warn(path, start)


def _lines_with(content: bytes, needle: bytes) -> Iterable[tuple[int, bytes]]:
    """Find offsets and lines that hold the needle, and a last line that was not ended."""
    tail = content.rfind(b"\n") + 1  # 0 bytes long in a healthy journal
    found = content.find(needle, 0, tail)
    while 0 <= found < tail:
        start = content.rfind(b"\n", 0, found) + 1
        end = content.index(b"\n", found)
        yield start, content[start:end]
        found = content.find(needle, end + 1, tail)
    yield tail, content[tail:]


@functools.lru_cache(maxsize=1024)  # once per place and process: a journal is read for every key
def _warn(path: Path, offset: int) -> None:
    logger.warning("%s: the line at byte %d is torn or damaged; skipped, that file is asked for again", path, offset)


@contextlib.contextmanager
def locked_file(path: Path, flags: int) -> Iterator[int]:
    """Open a file that no other process writes (or, unless read only, reads) within the block; yields a descriptor.

    The lock ends with the process, however it ends.

    Args:
        path: with O_CREAT its folder is created as well.
        flags: of os.open; O_RDONLY shares the lock with other readers.

    Raises:
        FileNotFoundError: it is not there, and not to be created.
        StorageError: it cannot be opened, locked, read or written.
    """
    try:
        with lock(path, shared=not flags & os.O_RDWR, owner=False, flags=flags) as descriptor:
            yield descriptor
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not flags & os.O_CREAT:
            raise
        raise storage_error(error, path) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
