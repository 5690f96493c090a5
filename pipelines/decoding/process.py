"""One child process that decodes, and our end of the socket to it; see `pipelines/decoding/sandbox.py`."""

import contextlib
import json
import logging
import math
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from tutti import HOME
from tutti.datasets.errors import StorageError
from tutti.datasets.heartbeat import beat
from tutti.datasets.machine import MachineError, machine_reason
from tutti.datasets.record import Seconds
from tutti.pipelines.decoding.child import EXIT_CODES
from tutti.pipelines.decoding.frames import envelope_of
from tutti.pipelines.engine.heap import decoder_environment

CHILD: Sequence[str] = ("tutti.pipelines.decoding.child",)  # the module that decodes, and its arguments
MIB = 1 << 20
START_S = 120.0  # imports from a cold disk, on a machine that is busy with other workers
MAX_STILLBORN = 6  # children in a row that were killed, or crashed, at their start: three files
LOOK_S = 5.0  # of silence, after which we look whether somebody stopped the child
# Of address space that must have been left: then no allocation of a usual size can have failed within a decoder.
HEADROOM_BYTES = 128 * MIB
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Limits of a call: memory as a whole, bytes and time for each part of its answer, such as a clip.

    Times grow with the size of the file.
    """

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
        """Compute processor time and wall time for a part of the answer about a file of this size."""
        cpu_s = self.cpu_s + self.cpu_s_per_mib * num_bytes / MIB
        return cpu_s, cpu_s * self.wall_factor

    def wider(self) -> "Limits":
        """Double the times, and the memory where the machine has it, for the second attempt."""
        most_bytes = max(self.memory_bytes, psutil.virtual_memory().total + psutil.swap_memory().total)
        return replace(
            self,
            memory_bytes=min(2 * self.memory_bytes, most_bytes),
            cpu_s=2 * self.cpu_s,
            cpu_s_per_mib=2 * self.cpu_s_per_mib,
        )


DEFAULT_LIMITS = Limits()


class SandboxError(MachineError):
    """A decoder reached no verdict on the bytes, twice."""


class CannotStartError(SandboxError):
    """There is no room for a decoder at all."""


def nonsense(what: str) -> SandboxError:
    """Make the error of an answer that no decoder of ours gives."""
    return SandboxError(f"the decoder's answer makes no sense ({what})", "decoder_crashed")


@dataclass(frozen=True)
class Request:
    """A call of a function in the child."""

    function: str
    arguments: dict[str, Any]
    blobs: Sequence[bytes]
    limits: Limits


_stillborn: list[SandboxError] = []  # in a row


class Child:
    """One child process and our end of the socket to it."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        hard_bytes = resource.getrlimit(resource.RLIMIT_AS)[1]
        self.room_bytes = memory_bytes if hard_bytes == resource.RLIM_INFINITY else min(memory_bytes, hard_bytes)
        self._seen_s: Seconds = 0.0  # of processor time, when it was last looked at
        self._hard_cpu_s = resource.getrlimit(resource.RLIMIT_CPU)[1]
        self._channel, theirs = socket.socketpair()
        for end in (self._channel, theirs):
            # Fewer turns for a file; the default is 208 KiB.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 * MIB)
        command = [sys.executable, "-m", *CHILD, str(memory_bytes)]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,  # where libraries print
                    cwd=HOME,
                    env={**decoder_environment(), **ONE_THREAD},
                    start_new_session=True,  # Ctrl-C is for the build to handle
                )
        except OSError as error:
            self._channel.close()
            if (reason := machine_reason(error)) is None:
                raise
            raise CannotStartError(f"{error.strerror}", reason) from error
        self._seen = psutil.Process(self._process.pid)  # there until it is waited for
        try:
            header, _ = self._receive(time.monotonic() + START_S, 1 * MIB)
        except TimeoutError as error:
            self.kill()
            raise CannotStartError(f"it did not start within {START_S:.0f} s", "out_of_time") from error
        except (SandboxError, OSError) as error:
            raise self._why_stillborn(error) from error
        _stillborn.clear()
        _warn_of_missing_confinement(header.get("confinements"))

    def _why_stillborn(self, error: Exception) -> Exception:
        """Explain a failed start: for want of room, or because something is wrong with this installation."""
        problem = error if isinstance(error, SandboxError) else self._death_message(0)
        code = self._process.poll()
        self.kill()
        for reason, number in EXIT_CODES.items():
            if code == number:
                return CannotStartError(reason.replace("_", " "), reason)
        if problem.reason == "out_of_time":
            return CannotStartError(str(problem), problem.reason)
        if self.room_bytes < self.memory_bytes:  # `ulimit -v` is less than we would let it have
            return CannotStartError(f"{self.room_bytes / (1 << 30):.3g} GiB of memory do not suffice", "out_of_memory")
        if code is not None and code >= 0:
            return StorageError(f"cannot start the decoder process: {problem}; stderr or the build's log says why")
        _stillborn.append(problem)
        return CannotStartError(str(problem), problem.reason) if len(_stillborn) >= MAX_STILLBORN else problem

    def answers(self, request: Request) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
        """Yield the frames of an answer, the last of which is no part."""
        cpu_s, wall_s = request.limits.times_s(sum(map(len, request.blobs)))
        deadline_s, renewed_s = time.monotonic() + wall_s, time.monotonic()
        header = {"function": request.function, "arguments": request.arguments}
        try:
            self._send(envelope_of(header | self._allow(cpu_s), request.blobs), deadline_s)
            for blob in request.blobs:
                self._send(blob, deadline_s)
            while True:
                yield self._receive(deadline_s, request.limits.output_bytes)
                now_s = time.monotonic()
                deadline_s = now_s + wall_s
                if now_s - renewed_s > cpu_s / 4:
                    self._allow(cpu_s)
                    renewed_s = now_s
        except TimeoutError as error:
            raise SandboxError(f"the decoder took longer than {wall_s:.0f} s", "out_of_time") from error
        except OSError as error:
            raise self._death_message(cpu_s) from error

    def _allow(self, cpu_s: Seconds) -> dict[str, Any]:
        """Allow processor time until the next answer; the kernel ends the child when it is up, in whatever C code.

        Returns:
            What the child is to set itself, where systems let only a process itself do so.
        """
        until_s = math.ceil(self._used_s() + cpu_s)
        if self._hard_cpu_s != resource.RLIM_INFINITY:
            until_s = min(until_s, self._hard_cpu_s)
        if sys.platform != "linux":
            return {"cpu_s": until_s}
        with contextlib.suppress(OSError):  # it has ended, or the system does not let us: wall time is left
            resource.prlimit(self._process.pid, resource.RLIMIT_CPU, (until_s, self._hard_cpu_s))
        return {}

    def _used_s(self) -> Seconds:
        try:
            times = self._seen.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def is_worn(self) -> bool:
        """Whether it has used half of the processor time that the user lets any process have (`ulimit -t`)."""
        return self._hard_cpu_s != resource.RLIM_INFINITY and self._used_s() > self._hard_cpu_s / 2

    def check_room(self, *, doubtful: bool) -> None:
        """Refuse an answer that came about with hardly any memory left: libraries do not always report that.

        Args:
            doubtful: the answer is that something is wrong with the bytes.

        Raises:
            SandboxError: memory was short, so nothing is known.
        """
        if not doubtful and self.room_bytes == self.memory_bytes:
            return
        peak_bytes = _peak_bytes(self._process.pid)
        if peak_bytes is not None and self.room_bytes - peak_bytes < HEADROOM_BYTES:
            gib = self.room_bytes / (1 << 30)
            raise SandboxError(f"the decoder had hardly enough memory ({gib:.3g} GiB)", "out_of_memory")

    def _send(self, content: bytes, deadline_s: float) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[self._patiently(deadline_s, self._channel.send, rest) :]

    def _receive(self, deadline_s: float, most_bytes: int) -> tuple[dict[str, Any], list[bytes]]:
        """Receive one frame and check all that the child claims in it."""
        (size,) = struct.unpack(">I", self._exactly(4, deadline_s))
        _check_size(size, most_bytes)
        try:
            envelope = json.loads(self._exactly(size, deadline_s))
            header, sizes = envelope["header"], [int(length) for length in envelope["blobs"]]
            well_formed = isinstance(header, dict) and min(sizes, default=0) >= 0
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            well_formed = False
        if not well_formed:
            raise nonsense("a frame")
        _check_size(size + sum(sizes), most_bytes)
        return header, [bytes(self._exactly(length, deadline_s)) for length in sizes]

    def _exactly(self, num_bytes: int, deadline_s: float) -> bytearray:
        content = bytearray(num_bytes)
        rest = memoryview(content)
        while rest:
            received = self._patiently(deadline_s, self._channel.recv_into, rest)
            if not received:
                raise ConnectionResetError("it ended before its answer did")
            rest = rest[received:]
            beat()
        return content

    def _patiently(self, deadline_s: float, move: Callable[[memoryview], int], rest: memoryview) -> int:
        """Send or receive what goes at once, at the latest by the deadline, unless the child was stopped (SIGSTOP)."""
        while True:
            left_s = deadline_s - time.monotonic()
            self._channel.settimeout(min(max(left_s, 0.01), LOOK_S))
            try:
                return move(rest)
            except TimeoutError:
                if left_s <= LOOK_S:
                    raise
                if self._is_stopped():
                    raise SandboxError("the decoder was stopped (SIGSTOP)", "out_of_time") from None
                if (used_s := self._used_s()) > self._seen_s:  # it works, though it has not answered yet
                    self._seen_s = used_s
                    beat()

    def _is_stopped(self) -> bool:
        try:
            return bool(self._seen.status() == psutil.STATUS_STOPPED)
        except psutil.Error:
            return False

    def _death_message(self, cpu_s: float) -> SandboxError:
        """Describe how a child ended that closed its connection."""
        deadline_s = time.monotonic() + 10
        while not self._has_ended():
            if time.monotonic() > deadline_s:
                return SandboxError("the decoder closed its connection", "decoder_crashed")
            time.sleep(0.005)
        used_s = self._used_s()  # before it is waited for
        code = self._process.wait()
        limited = self._hard_cpu_s != resource.RLIM_INFINITY
        if code in (-signal.SIGXCPU, -signal.SIGKILL) and limited and used_s > self._hard_cpu_s - 2:
            return SandboxError(f"the decoder used up the {self._hard_cpu_s} s of `ulimit -t`", "out_of_time")
        if code == -signal.SIGXCPU and cpu_s > 0:  # else it had no limit of ours yet: somebody sent it
            return SandboxError(f"the decoder took more than {cpu_s:.0f} s of processor time", "out_of_time")
        if code == -signal.SIGKILL:  # no limit of ours does that: the machine ran out of memory, or somebody did
            return SandboxError("the decoder was killed (SIGKILL)", "decoder_killed")
        if code < 0:
            return SandboxError(f"the decoder crashed ({signal.Signals(-code).name})", "decoder_crashed")
        return SandboxError(f"the decoder ended (exit code {code})", "decoder_crashed")

    def _has_ended(self) -> bool:
        """Whether it is dead; it is not waited for yet."""
        if self._process.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def kill(self) -> None:
        """End it now; it holds nothing that anybody would miss."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


def _check_size(num_bytes: int, most_bytes: int) -> None:
    if num_bytes > most_bytes:
        raise SandboxError(f"the decoder's answer is larger than {most_bytes} bytes", "decoder_crashed")


def _peak_bytes(pid: int) -> int | None:
    """Read the most address space that a process has had; None where the system has no such number."""
    try:
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"VmPeak:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    return None


_warned: set[str] = set()


def _warn_of_missing_confinement(confinements: object) -> None:
    """Log once per process which confinement this kernel lacks."""
    present = confinements if isinstance(confinements, list) else []
    if "seccomp" in present or "seccomp" in _warned:
        return
    _warned.add("seccomp")
    left = "Landlock and resource limits" if "landlock" in present else "resource limits"
    page = "pipelines/decoding/confinement.py"
    _log.warning("decoders: this kernel has no seccomp; %s alone confine them (see %s)", left, page)
