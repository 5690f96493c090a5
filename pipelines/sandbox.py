"""Media are decoded in a child process: a crash, a hang or a leak costs one recording, not the build.

Each process of a build keeps a child for each of its threads that decodes (`pipelines/sandboxed.py`)
and talks to it over a socket pair: JSON and raw bytes in both directions, nothing that is executed.
A child that misbehaves is killed and replaced, and the call is tried once more in a fresh one.
Children are started, never forked (workers have threads), and end with their parent.
"""

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.decode_error import DecodeError
from datasets.errors import StorageError
from datasets.heartbeat import beat
from datasets.record import Seconds
from pipelines.heap import decoder_environment
from pipelines.sandboxed import write_frame

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
START_S = 120.0  # imports from a cold disk, on a machine that is busy with other workers
ATTEMPTS = 2  # the second in a fresh child: what a leak of earlier calls caused does not come back
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Limits:
    """What one call may take; times grow with the size of the file."""

    memory_bytes: int = 4 << 30  # address space; a clip of 30 min in stereo float32 at 48 kHz takes 0.7 GB
    cpu_s: float = 60.0  # a clip of 10 s takes 0.02 s
    cpu_s_per_mib: float = 5.0  # Opus at 32 kbit/s: 262 s of sound, decoded in 1.3 s on one core of 2026
    wall_factor: float = 5.0  # times the above: on a busy machine a decoder gets a part of a core, it never waits
    output_bytes: int = 256 * MIB  # two hours of 16-bit audio at 16 kHz

    def __post_init__(self) -> None:
        """Refuse limits that nothing can keep."""
        if min(self.memory_bytes, self.cpu_s, self.wall_factor, self.output_bytes) <= 0 or self.cpu_s_per_mib < 0:
            raise ValueError(f"limits must be above zero: {self}")

    def times_s(self, num_bytes: int) -> tuple[Seconds, Seconds]:
        """Processor time and wall time for a file of this size."""
        cpu_s = self.cpu_s + self.cpu_s_per_mib * num_bytes / MIB
        return cpu_s, cpu_s * self.wall_factor


DEFAULT_LIMITS = Limits()


class SandboxError(DecodeError):
    """A decoder did not survive a file, or did not come to its end within the limits.

    Attributes:
        lasting: False where the machine may have been the cause, not the file: try again in another build.
    """

    def __init__(self, message: str, *, lasting: bool = True) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(frozen=True)
class Probed:
    """What a file holds, decoded from end to end."""

    duration_s: Seconds
    sample_rate: int
    num_channels: int
    codec: str
    complete: bool  # False: the container ends before its own end mark


def probe(data: bytes, name: str = "media", limits: Limits = DEFAULT_LIMITS) -> Probed:
    """Decode a file in the sandbox and tell what it holds; needs memory for a few seconds of it.

    Raises:
        DecodeError: it is no audio, or (`SandboxError`) no decoder survives it.
    """
    answer, _ = call("probe", {"name": name}, [data], limits)
    return Probed(**answer)


def call(
    function: str, arguments: dict[str, Any], blobs: Sequence[bytes] = (), limits: Limits = DEFAULT_LIMITS
) -> tuple[dict[str, Any], list[bytes]]:
    """Run a function of the registry (`pipelines/sandboxed.py`) in a child process of this thread's own.

    Args:
        function: "prepare" or "probe".
        arguments: JSON; its `name` is what errors call the file.
        blobs: bytes that go with it, of any size.
        limits: what it may take.

    Returns:
        The function's answer: JSON and blobs.

    Raises:
        DecodeError: the function says that the file is no audio.
        SandboxError: the child crashed, or passed a limit, twice.
        StorageError: no child can be started on this machine.
        RuntimeError: the function raised what nobody foresaw.
    """
    for attempt in range(ATTEMPTS):
        child = _take(limits.memory_bytes) if attempt == 0 else _Child(limits.memory_bytes)
        try:
            answer, results = child.call(function, arguments, blobs, limits)
        except SandboxError as error:
            child.kill()
            problem = error
        except BaseException:
            child.kill()  # between two frames it is of no use
            raise
        else:
            _give_back(child)
            break
    else:
        raise SandboxError(f"{arguments.get('name', function)}: {problem}", lasting=problem.lasting) from problem
    if answer.get("failure") == "decode":
        raise DecodeError(answer["message"])
    if "failure" in answer:
        raise RuntimeError(answer.get("message"))
    return answer, results


class _Child:
    """One child process and our end of the socket to it."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self._channel, theirs = socket.socketpair()
        for end in (self._channel, theirs):
            end.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, 1 * MIB
            )  # fewer turns for a file; the default is 208 KiB
        command = [sys.executable, "-m", "pipelines.sandboxed", str(memory_bytes)]
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,  # where libraries print
                cwd=ROOT,
                env={**decoder_environment(), **ONE_THREAD},
                start_new_session=True,  # Ctrl-C is for the build to handle
            )
        try:
            self._receive(time.monotonic() + START_S, 1 * MIB)
        except (SandboxError, OSError) as error:
            problem = error if isinstance(error, (SandboxError, TimeoutError)) else self._obituary(0, 0)
            self.kill()
            raise StorageError(
                f"cannot start the decoder process: {problem}; stderr or the build's log says why"
            ) from error

    def call(
        self,
        function: str,
        arguments: dict[str, Any],
        blobs: Sequence[bytes],
        limits: Limits,
    ) -> tuple[dict[str, Any], list[bytes]]:
        cpu_s, wall_s = limits.times_s(sum(map(len, blobs)))
        deadline_s = time.monotonic() + wall_s
        request = {"function": function, "arguments": arguments, "cpu_s": cpu_s, "wall_s": wall_s}
        try:
            self._channel.settimeout(wall_s)
            write_frame(self._channel, request, blobs)
            answer, results = self._receive(deadline_s, limits.output_bytes)
        except TimeoutError as error:
            raise SandboxError(f"the decoder took longer than {wall_s:.0f} s", lasting=False) from error
        except OSError as error:
            raise self._obituary(cpu_s, wall_s) from error
        if answer.get("failure") == "memory":
            raise SandboxError(f"the decoder needs more than {self.memory_bytes / (1 << 30):.3g} GiB of memory")
        return answer, results

    def _receive(self, deadline_s: float, most_bytes: int) -> tuple[dict[str, Any], list[bytes]]:
        """One frame; nothing that the child says of itself is believed."""
        (size,) = struct.unpack(">I", self._exactly(4, deadline_s))
        _check_size(size, most_bytes)
        try:
            envelope = json.loads(self._exactly(size, deadline_s))
            header, sizes = envelope["header"], [int(length) for length in envelope["blobs"]]
            well_formed = isinstance(header, dict) and min(sizes, default=0) >= 0
        except (ValueError, KeyError, TypeError, RecursionError):
            well_formed = False
        if not well_formed:
            raise SandboxError("the decoder's answer makes no sense")
        _check_size(size + sum(sizes), most_bytes)
        return header, [bytes(self._exactly(length, deadline_s)) for length in sizes]

    def _exactly(self, num_bytes: int, deadline_s: float) -> bytearray:
        content = bytearray(num_bytes)
        rest = memoryview(content)
        while rest:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("it did not answer in time")
            self._channel.settimeout(left_s)
            received = self._channel.recv_into(rest)
            if not received:
                raise ConnectionResetError("it ended before its answer did")
            rest = rest[received:]
            beat()
        return content

    def _obituary(self, cpu_s: float, wall_s: float) -> SandboxError:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return SandboxError("the decoder closed its connection", lasting=False)
        if code == -signal.SIGXCPU:
            return SandboxError(f"the decoder took more than {cpu_s:.0f} s of processor time")
        if code == -signal.SIGALRM:
            return SandboxError(f"the decoder took longer than {wall_s:.0f} s", lasting=False)
        if code == -signal.SIGKILL:  # no limit of ours does that: the machine ran out of memory, or somebody did
            return SandboxError("the decoder was killed (SIGKILL)", lasting=False)
        if code < 0:
            return SandboxError(f"the decoder crashed ({signal.Signals(-code).name})")
        return SandboxError(f"the decoder ended (exit code {code})")

    def kill(self) -> None:
        """End it now; it holds nothing that anybody would miss."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


def _check_size(num_bytes: int, most_bytes: int) -> None:
    if num_bytes > most_bytes:
        raise SandboxError(f"the decoder's answer is larger than {most_bytes} bytes")


_lock = threading.Lock()
_idle: list[_Child] = []  # the children of this process that no thread uses now


def _take(memory_bytes: int) -> _Child:
    with _lock:
        for child in reversed(_idle):  # the one whose memory is warm
            if child.memory_bytes == memory_bytes:
                _idle.remove(child)
                return child
    return _Child(memory_bytes)


def _give_back(child: _Child) -> None:
    with _lock:
        _idle.append(child)


def close() -> None:
    """End the idle children; the next call starts new ones."""
    with _lock:
        children = _idle[:]
        _idle.clear()
    for child in children:
        child.kill()


def _forget() -> None:
    """After a fork the children are the parent's."""
    global _lock
    _lock = threading.Lock()
    for child in _idle:
        child._channel.close()
    _idle.clear()


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
