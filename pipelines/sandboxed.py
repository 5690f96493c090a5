"""The child process that decodes: `python -m pipelines.sandboxed`, started by `pipelines/sandbox.py`.

Whatever a hostile file makes of the C decoders, this process can do little: it has one socket, and
the kernel lets it open nothing else (no file, no connection), start nothing, write no file, and take
no more memory and time than it was given. Requests and answers are frames, see `read_frame`.
"""

import ctypes
import importlib
import json
import math
import os
import pkgutil
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, TypeAlias

Answer: TypeAlias = tuple[dict[str, Any], list[bytes]]
Function: TypeAlias = Callable[[dict[str, Any], list[bytes]], Answer]

PROCESS_NAME = b"tutti-decoder"
PR_SET_NAME = 15  # <sys/prctl.h>
GRACE_S = 5.0  # later than the parent's own limit, which has the better message


def read_frame(stream: IO[bytes]) -> Answer | None:
    """One request: a four-byte length, JSON {"header": ..., "blobs": [length, ...]}, the blobs; None at the end."""
    prefix = stream.read(4)
    if len(prefix) < 4:
        return None
    envelope = json.loads(stream.read(struct.unpack(">I", prefix)[0]))
    return envelope["header"], [stream.read(size) for size in envelope["blobs"]]


def write_frame(channel: socket.socket, header: dict[str, Any], blobs: Sequence[bytes]) -> None:
    """Send a frame; big blobs are never copied together."""
    envelope = json.dumps({"header": header, "blobs": [len(blob) for blob in blobs]}).encode()
    channel.sendall(struct.pack(">I", len(envelope)) + envelope)
    for blob in blobs:
        channel.sendall(blob)


def main() -> None:
    """Serve the socket on standard input until the parent is gone."""
    memory_bytes = int(sys.argv[1])
    for number in (signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # ends the process, whatever our parent inherited
    _name_process()
    channel = socket.socket(fileno=0)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    functions = _functions()
    _confine(memory_bytes)
    write_frame(channel, {"ready": True}, [])
    requests = channel.makefile("rb")
    while (request := read_frame(requests)) is not None:
        header, blobs = request
        _allow(header["cpu_s"], header["wall_s"])
        answer, results = _answer(functions, header, blobs)
        signal.setitimer(signal.ITIMER_REAL, 0)
        write_frame(channel, answer, results)
        del request, blobs, results


def _name_process() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, PROCESS_NAME, 0, 0, 0)


def _die_with_parent() -> None:
    # Not PR_SET_PDEATHSIG: that fires when the thread that started us ends, and workers come and go.
    hangup = select.poll()
    hangup.register(0, 0)
    hangup.poll()
    os._exit(1)


def _confine(memory_bytes: int) -> None:
    """Give up for good what no decoder needs."""
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),  # neither processes nor threads; does not bind root
        (resource.RLIMIT_NOFILE, 3),  # standard input is the socket: nothing more can be opened or connected
        (resource.RLIMIT_AS, memory_bytes),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _allow(cpu_s: float, wall_s: float) -> None:
    """Time for one call; the kernel ends this process when it is up, whatever C code it is in."""
    used_s = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used_s + cpu_s), resource.getrlimit(resource.RLIMIT_CPU)[1]))
    signal.setitimer(signal.ITIMER_REAL, wall_s + GRACE_S)


def _answer(functions: dict[str, Function], header: dict[str, Any], blobs: list[bytes]) -> Answer:
    from datasets.decode_error import DecodeError

    try:
        return functions[header["function"]](header["arguments"], blobs)
    except MemoryError:
        return {"failure": "memory"}, []
    except DecodeError as error:
        if isinstance(error.__cause__, MemoryError):
            return {"failure": "memory"}, []
        return {"failure": "decode", "message": str(error)}, []
    except Exception as error:
        return {"failure": "error", "message": f"{type(error).__name__}: {error}"}, []


def _functions() -> dict[str, Function]:
    """All that can be called; imported and run once, because nothing can be opened later."""
    import av
    import numpy as np

    from datasets import audio
    from datasets.decode_error import DecodeError
    from datasets.decoder import decode_spans
    from datasets.record import Note
    from pipelines.normalize import measure_alignment, prepare_aligned, prepare_spans
    from pipelines.prepare_config import PrepareConfig

    def prepare(arguments: dict[str, Any], blobs: list[bytes]) -> Answer:
        spans = [(start_s, end_s) for start_s, end_s in arguments["spans"]]
        config, name = PrepareConfig(**arguments["config"]), arguments["name"]
        notes = [Note(on, off, pitch, program, None, 1) for on, off, pitch, program in arguments.get("score", [])]
        alignment = measure_alignment(blobs[0], name, notes, config) if notes else None
        found = None if alignment is None else {"delay_s": alignment.delay_s, "score": alignment.score}
        if alignment is None:
            stream, stored = prepare_spans(blobs[0], name, spans, config)
        elif alignment.score < config.min_alignment:
            return {"duration_s": None, "clips": [], "alignment": found}, []
        else:
            stream, stored = prepare_aligned(blobs[0], name, spans, config, alignment)
        facts = [None if clip is None else clip[0] for clip in stored]
        answer = {"duration_s": stream.duration_s, "clips": facts, "alignment": found}
        return answer, [clip[1] for clip in stored if clip is not None]

    def probe(arguments: dict[str, Any], blobs: list[bytes]) -> Answer:
        stream, _ = decode_spans(blobs[0], arguments["name"], [])
        return {
            "duration_s": stream.duration_s,
            "sample_rate": stream.sample_rate,
            "num_channels": stream.num_channels,
            "codec": stream.codec,
            "complete": stream.complete,
        }, []

    for module in pkgutil.walk_packages(av.__path__, "av."):
        importlib.import_module(module.name)  # PyAV imports some only when a file has such a stream
    samples = audio.to_int16(np.linspace(-0.5, 0.5, 22_050, dtype=np.float32))
    flac = audio.encode(samples, 44_100, "flac")
    prepare_spans(flac, "warm-up", [(0.0, None)], PrepareConfig())
    measure_alignment(flac, "warm-up", [Note(0.1, 0.2, 69, 0, None, 1)], PrepareConfig())
    for unreadable in (b"", b"\x1a\x45\xdf\xa3", b"\0\0\0\x20ftyp"):
        try:
            decode_spans(unreadable, "warm-up", [])
        except DecodeError:
            continue
    functions: dict[str, Function] = {"prepare": prepare, "probe": probe}
    if os.environ.get("TUTTI_SANDBOX_TEST") == "1":
        from pipelines.sandbox_faults import with_faults

        return with_faults(functions)
    return functions


if __name__ == "__main__":
    main()
