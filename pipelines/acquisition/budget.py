"""A budget of requests to a site, over all processes and across runs, and a breaker that ends them.

`Budget` is a token bucket: every video costs a token, tokens come back at a steady rate, and a few
may be saved up. `Breaker` stops a source that keeps answering "are you a robot?": going on would
only make it worse. Both keep their state in a small file that a lock guards, so builds, workers
and machines that share a cache count together; a process that dies loses nothing but its token.

    budget.wait()                       first: a wait may last longer than a breaker lets one try
    breaker.enter()
    ...                                 ask the site
    breaker.record(reason, time.time())  always, or the others wait for it
"""

import hashlib
import json
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tutti.datasets.errors import TryLaterError, UsageError
from tutti.datasets.heartbeat import pause
from tutti.datasets.record import Seconds
from tutti.pipelines.acquisition.ledger import locked_file
from tutti.pipelines.acquisition.reasons import WALLS

Verdict: TypeAlias = Literal["go", "wait", "stop"]

HOUR_S = 3600.0
CLOCK_SKEW_S = 60.0  # clocks of machines that share a cache differ by less; a larger step is a clock set anew
JITTER_SHARE = 0.25  # of the time that a token takes: enough that waiting processes stop marching in step
MIN_PAUSE_S = 0.001  # rounding may ask for less than the clock can tell
MAX_PAUSE_S = 60.0  # then look again: the clock may have been set, the laptop may have slept
TRIAL_S = 300.0  # a long video takes minutes; after this, the process with the trial is taken for dead
TRIAL_POLL_S = 1.0
STATE_BYTES = 128  # one write of always the same length is never torn by a process that dies

_jitter = secrets.SystemRandom()  # forked workers would share the state of any other
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """State of a bucket."""

    tokens: float  # in it at time_s
    time_s: Seconds  # since the epoch


def take(state: Tokens, now_s: Seconds, per_hour: float, burst: int) -> tuple[Tokens, Seconds]:
    """Take a token if there is one.

    Over any T hours at most `burst + per_hour * T` are taken, as long as clocks agree within
    `CLOCK_SKEW_S`; each time that a clock is set anew adds `burst` at most.

    Args:
        state: the bucket as it was last seen.
        now_s: time since the epoch.
        per_hour: tokens that come back.
        burst: tokens that the bucket holds at most.

    Returns:
        The new state, and how long to wait before trying again; 0: a token was taken.
    """
    behind_s = state.time_s - now_s
    behind_s = behind_s if 0 < behind_s <= CLOCK_SKEW_S else 0.0
    time_s = now_s + behind_s  # refilling twice for the same seconds would exceed the rate
    refill = max(0.0, time_s - state.time_s) / HOUR_S * per_hour
    tokens = min(float(burst), state.tokens + refill)
    if tokens >= 1 - 1e-9:  # rounding: the debt stays in the bucket
        return Tokens(tokens - 1, time_s), 0.0
    return Tokens(tokens, time_s), behind_s + (1 - tokens) * HOUR_S / per_hour


@dataclass(frozen=True)
class Budget:
    """At most so many per hour, over all processes that name the same file."""

    path: Path  # of the state; its folder is created
    per_hour: float = 240.0  # a polite pace; inf: no limit
    burst: int = 8  # tokens saved up while idle: two minutes' worth

    def __post_init__(self) -> None:
        """Refuse a budget that lets nothing through."""
        if not self.per_hour > 0:
            raise UsageError(f"a budget of {self.per_hour} per hour fetches nothing; give a number above 0, or inf")
        if self.burst < 1:
            raise UsageError(f"a budget needs a burst of at least 1, got {self.burst}")

    def wait(self, sleep: Callable[[Seconds], None] = pause, now: Callable[[], Seconds] = time.time) -> Seconds:
        """Take one token; sleep until there is one.

        Returns:
            Seconds slept.

        Raises:
            StorageError: the state cannot be read or written.
        """
        slept_s = 0.0
        while pause_s := self._try(now):
            pause_s += _jitter.uniform(0, min(JITTER_SHARE * HOUR_S / self.per_hour, MAX_PAUSE_S))
            pause_s = min(max(pause_s, MIN_PAUSE_S), MAX_PAUSE_S)
            sleep(pause_s)
            slept_s += pause_s
        return slept_s

    def _try(self, now: Callable[[], Seconds]) -> Seconds:
        if math.isinf(self.per_hour):
            return 0.0
        with locked_state(self.path) as state:
            now_s = now()  # only now: another process may have held the lock since before
            before = Tokens(self.burst, now_s) if state.is_new else _tokens_of(state, now_s)
            after, wait_s = take(before, now_s, self.per_hour, self.burst)
            state.write(asdict(after))
        return wait_s


def _tokens_of(state: "LockedJson", now_s: Seconds) -> Tokens:
    match state.content:
        case {"tokens": int() | float() as tokens, "time_s": int() | float() as time_s}:
            if tokens >= -1 and math.isfinite(time_s):
                return Tokens(tokens, time_s)
    logger.warning("%s: damaged; the budget starts again from nothing", state.path)
    return Tokens(0.0, now_s)


@dataclass(frozen=True)
class BreakerState:
    """State of a circuit breaker: closed, open, or half open."""

    count: int = 0  # refusals in a row
    reason: str = ""  # of the last one
    opened_s: Seconds | None = None  # since when no request may be made; None: closed
    trial_s: Seconds | None = None  # since when a process tries whether the site answers again


def next_verdict(state: BreakerState, now_s: Seconds, cool_down_s: Seconds) -> tuple[BreakerState, Verdict]:
    """Decide about the next request: go, wait for another process's trial, or stop; return the new state, too."""
    if state.opened_s is None:
        return state, "go"
    # A clock that was set back must not keep the breaker open for longer than the cool-down.
    opened_s = min(state.opened_s, now_s)
    trial_s = None if state.trial_s is None else min(state.trial_s, now_s)
    state = replace(state, opened_s=opened_s, trial_s=trial_s)
    if now_s - opened_s < cool_down_s:
        return state, "stop"
    if trial_s is not None and now_s - trial_s < TRIAL_S:
        return state, "wait"
    return replace(state, trial_s=now_s), "go"


def after_attempt(state: BreakerState, reason: str | None, now_s: Seconds, limit: int) -> BreakerState:
    """Return the state after an answer.

    Only a success closes the breaker: a site that refuses us still says that a video was removed.
    """
    if reason is None:
        return BreakerState()
    if reason not in WALLS:
        return replace(state, trial_s=None)
    refusals = state.count + 1
    return BreakerState(refusals, str(reason), opened_s=now_s if refusals >= limit else None)


@dataclass(frozen=True)
class Breaker:
    """Circuit breaker: stops a source after too many refusals in a row, over all processes that name the same file."""

    path: Path  # of the state; each vantage has its own file beside it
    limit: int = 5  # refusals in a row; one or two happen to honest visitors
    cool_down_s: Seconds = 900.0  # rate limits of large sites last a quarter of an hour and more
    vantage: str = ""  # digest of what the site sees of us (proxy, cookies): a new one starts afresh
    source: str = "youtube"  # for messages

    def __post_init__(self) -> None:
        """Refuse a breaker that never closes."""
        if self.limit < 1:
            raise UsageError(f"{self.source}: a breaker needs a limit of at least 1 wall, got {self.limit}")

    def enter(self, sleep: Callable[[Seconds], None] = pause, now: Callable[[], Seconds] = time.time) -> None:
        """Wait until an attempt may be made, right before it is (a token in hand).

        Once the cool-down is over, one caller tries whether the wall is still there; the others wait until it has told
        by `record` what came of it.

        Raises:
            TryLaterError: the breaker is open.
            StorageError: the state cannot be read or written.
        """
        while True:
            now_s = now()
            with locked_state(self._file) as state:
                breaker, verdict = next_verdict(_breaker_of(state), now_s, self.cool_down_s)
                state.write(asdict(breaker))
            if verdict == "go":
                return
            if verdict == "stop":
                raise TryLaterError(self._refusal(breaker, now_s))
            sleep(TRIAL_POLL_S)

    def record(self, reason: str | None, now_s: Seconds) -> None:
        """Record the outcome of an attempt: a reason of reasons.py, or None for a success."""
        with locked_state(self._file) as state:
            state.write(asdict(after_attempt(_breaker_of(state), reason, now_s, self.limit)))

    @property
    def _file(self) -> Path:
        digest = hashlib.sha256(self.vantage.encode()).hexdigest()[:12]
        return self.path.with_name(f"{self.path.stem}-{digest}{self.path.suffix}")

    def _refusal(self, breaker: BreakerState, now_s: Seconds) -> str:
        again_s = now_s + self.cool_down_s if breaker.opened_s is None else breaker.opened_s + self.cool_down_s
        again = datetime.fromtimestamp(math.ceil(again_s), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return (
            f"{self.source}: refused us {breaker.count} times in a row (last reason: {breaker.reason}), so we leave "
            f"it in peace until {again} ({math.ceil((again_s - now_s) / 60)} min); nothing is lost: run the same "
            "command again then, or pass --cookies FILE of a browser that is let in, another --proxy URL, a lower "
            "--videos-per-hour, or --data-from DIR with audio that you have"
        )


def _breaker_of(state: "LockedJson") -> BreakerState:
    if state.is_new:
        return BreakerState()
    match state.content:
        case {"count": int() as refusals, "reason": str() as reason, "opened_s": opened_s, "trial_s": trial_s}:
            times_s = [time_s for time_s in (opened_s, trial_s) if time_s is not None]
            finite = all(isinstance(time_s, (int, float)) and math.isfinite(time_s) for time_s in times_s)
            if finite and refusals >= 0:
                return BreakerState(refusals, reason, opened_s, trial_s)
    logger.warning("%s: damaged; walls are counted anew", state.path)
    return BreakerState()


class LockedJson:
    """The content of a small locked file; None where it is damaged."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        written = os.pread(descriptor, 2 * STATE_BYTES, 0)
        self.is_new = not written
        self.content: Any = None
        with suppress(ValueError):
            self.content = json.loads(written)

    def write(self, content: dict[str, Any]) -> None:
        """Replace the content in place; other files, such as temporary ones, are never needed."""
        line = json.dumps(content, separators=(",", ":")).ljust(STATE_BYTES - 1) + "\n"
        os.pwrite(self._descriptor, line.encode(), 0)
        os.ftruncate(self._descriptor, len(line))


@contextmanager
def locked_state(path: Path) -> Iterator[LockedJson]:
    """Open the state in a locked file, created if need be, for the block."""
    with locked_file(path, os.O_RDWR | os.O_CREAT) as descriptor:
        yield LockedJson(path, descriptor)
