"""Media are decoded in a child process: a crash, a hang or a leak costs one recording, not the build.

Each process of a build keeps a child for each of its threads that decodes (`pipelines/decoding/child.py`)
and talks to it over a socket pair: JSON and raw bytes in both directions, nothing that is executed.
Children are started, never forked (workers have threads), and end with their parent.

Only the answer of a living decoder is a verdict on the bytes (`DecodeError`). A child that dies, hangs, lacks
memory or answers nonsense is ended, and the call is tried once more: in a fresh child, with twice the room, while no
other decoder of this process runs. What fails then too is a `SandboxError`: the machine's, to be tried by another
build, and never remembered.
"""

import atexit
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.errors import TryLaterError
from tutti.datasets.machine import MACHINE_REASONS
from tutti.datasets.record import Seconds
from tutti.datasets.typed_json import read_as
from tutti.pipelines.decoding.process import DEFAULT_LIMITS as DEFAULT_LIMITS
from tutti.pipelines.decoding.process import CannotStartError, Child, Limits, Request, SandboxError, nonsense

MAX_MESSAGE_CHARS = 1_000
MAX_WORD_CHARS = 200  # of a fact

Kept = TypeVar("Kept")
Facts = TypeVar("Facts")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probed:
    """Facts of a file, decoded from end to end."""

    duration_s: Seconds
    sample_rate: int
    num_channels: int
    codec: str
    complete: bool  # False: the container ends before its own end mark


def probe(data: bytes, name: str = "media", limits: Limits = DEFAULT_LIMITS) -> Probed:
    """Decode a file in the sandbox and return its facts; needs memory for a few seconds of it.

    Raises:
        DecodeError: it is no audio.
        SandboxError: no decoder reached a verdict on it.
    """
    answer, _ = call("probe", {"name": name}, [data], limits)
    return typed(Probed, answer)


def call(
    function: str, arguments: dict[str, Any], blobs: Sequence[bytes] = (), limits: Limits = DEFAULT_LIMITS
) -> tuple[dict[str, Any], list[bytes]]:
    """Run a function of the registry (`pipelines/decoding/child.py`) in a child process of this thread's own.

    Args:
        function: "prepare" or "probe".
        arguments: JSON; its `name` is what errors call the file.
        blobs: bytes that go with it, of any size.
        limits: what it may take.

    Returns:
        The function's answer: JSON and blobs.

    Raises:
        DecodeError: the function says that the file is no audio.
        SandboxError: the child crashed, passed a limit or answered nonsense, twice.
        TryLaterError: the machine has no room for a child.
        StorageError: no child can be started on this machine.
        RuntimeError: the function raised an unforeseen error.
    """
    answer, results, _ = _called(Request(function, arguments, blobs, limits), _take_nothing, most_parts=0)
    return answer, results


def stream(
    function: str,
    arguments: dict[str, Any],
    blobs: Sequence[bytes],
    take: Callable[[dict[str, Any], list[bytes]], Kept],
    most_parts: int,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[dict[str, Any], list[Kept]]:
    """Call a function whose answer comes in parts, each taken as it comes: memory for one of them.

    Args:
        function: as above.
        arguments: as above.
        blobs: as above.
        take: gets every part, JSON and blobs; of a second attempt it gets all parts again. Raises SandboxError where
            a part makes no sense.
        most_parts: more are nonsense.
        limits: for the call, and for each part.

    Returns:
        The function's last answer, and the results of `take`.

    Raises:
        As above.
    """
    answer, _, kept = _called(Request(function, arguments, blobs, limits), take, most_parts)
    return answer, kept


def typed(kind: type[Facts], answer: dict[str, Any]) -> Facts:
    """Convert a child's answer to a dataclass of plain values: exactly its fields, of their types, finite, printable.

    Raises:
        SandboxError: it is none.
    """
    if len(answer) != len(fields(kind)):  # type: ignore[arg-type]  # unknown ones are refused below
        raise nonsense(f"no {kind.__name__}")
    try:
        found: Facts = read_as(kind, answer, kind.__name__)
    except (TypeError, ValueError) as error:
        raise nonsense(str(error)) from error
    for name, value in answer.items():
        if isinstance(value, str) and (len(value) > MAX_WORD_CHARS or not value.isprintable()):
            raise nonsense(f"{name} is no word")
    return found


def _take_nothing(part: dict[str, Any], files: list[bytes]) -> None:
    raise nonsense("a part")


def _called(
    request: Request, take: Callable[[dict[str, Any], list[bytes]], Kept], most_parts: int
) -> tuple[dict[str, Any], list[bytes], list[Kept]]:
    name = str(request.arguments.get("name", request.function))
    try:
        with _crowd.among_others():
            return _attempted(request, take, most_parts, _taken)
    except SandboxError as error:
        _log.info("%s: %s; trying again alone", name, error)
    try:
        with _crowd.alone():
            close()  # their memory is what it may have lacked
            return _attempted(replace(request, limits=request.limits.wider()), take, most_parts, Child)
    except CannotStartError as error:
        remedy = f"{MACHINE_REASONS[error.reason]}; then run it again"
        raise TryLaterError(f"cannot start the decoder process: {error}; {remedy}") from error
    except SandboxError as error:
        raise SandboxError(f"{name}: {error}", error.reason) from error


def _attempted(
    request: Request,
    take: Callable[[dict[str, Any], list[bytes]], Kept],
    most_parts: int,
    start: "Callable[[int], Child]",
) -> tuple[dict[str, Any], list[bytes], list[Kept]]:
    child = start(request.limits.memory_bytes)
    kept: list[Kept] = []
    try:
        for answer, results in child.answers(request):
            if "part" not in answer:
                break
            if len(kept) == most_parts:
                raise nonsense("too many parts")
            kept.append(take(answer["part"], results))
        failure = answer.get("failure")
        child.check_room(doubtful=failure == "decode" or answer.get("complete") is False)
    except BaseException:
        child.kill()  # between two frames it is of no use
        raise
    if start is _taken and failure != "memory":
        _give_back(child)
    else:
        child.kill()
    message = str(answer.get("message"))[:MAX_MESSAGE_CHARS]
    if failure == "memory":
        gib = child.room_bytes / (1 << 30)
        raise SandboxError(f"the decoder needs more than {gib:.3g} GiB of memory", "out_of_memory")
    if failure == "decode":
        raise DecodeError(message)
    if failure is not None:
        raise RuntimeError(message)
    return answer, results, kept


class _Crowd:
    """Lets many decoders run at once, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._is_alone = False

    @contextlib.contextmanager
    def among_others(self) -> Iterator[None]:
        """Wait until no decoder runs alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until all others are done; those that come wait."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone)
            self._is_alone = True
            self._changed.wait_for(lambda: self._running == 0)
        try:
            yield
        finally:
            with self._changed:
                self._is_alone = False
                self._changed.notify_all()


_crowd = _Crowd()
_lock = threading.Lock()
_idle: list[Child] = []  # the children of this process that no thread uses now


def _taken(memory_bytes: int) -> Child:
    with _lock:
        for child in reversed(_idle):  # the one whose memory is warm
            if child.memory_bytes == memory_bytes:
                _idle.remove(child)
                break
        else:
            child = None
    if child is not None and not child.is_worn():
        return child
    if child is not None:
        child.kill()
    return Child(memory_bytes)


def _give_back(child: Child) -> None:
    with _lock:
        _idle.append(child)


def close() -> None:
    """End the idle children; the next call starts new ones."""
    with _lock:
        children = _idle[:]
        _idle.clear()
    for child in children:
        child.kill()


def _drop_inherited_children() -> None:
    """Forget the children after a fork: they are the parent's."""
    global _lock, _crowd
    _lock, _crowd = threading.Lock(), _Crowd()
    for child in _idle:
        child._channel.close()
    _idle.clear()


atexit.register(close)
os.register_at_fork(after_in_child=_drop_inherited_children)
