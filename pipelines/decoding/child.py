"""The child process that decodes: `python -m pipelines.decoding.child`, started by `pipelines/decoding/sandbox.py`.

Whatever a hostile file makes of the C decoders, this process can do little: it has one socket, and it is confined
before it reads from that (`pipelines/decoding/confinement.py`). Requests and answers are frames, see `read_frame`;
an answer may come in parts, a clip at a time.
"""

import importlib
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

from tutti.datasets.machine import machine_reason
from tutti.pipelines.decoding.confinement import confine, name_process
from tutti.pipelines.decoding.frames import Answer, Function, Send, envelope_of, read_frame

# Exit codes of a start that the machine has no room for.
EXIT_CODES = {"out_of_memory": 71, "out_of_processes": 72}
Functions: TypeAlias = dict[str, Function]
Decorate: TypeAlias = Callable[[Functions], Functions]


def main(memory_bytes: int, *, decorate: Decorate = dict, without: Collection[str] = ()) -> None:
    """Serve the socket on standard input until the parent is gone.

    Args:
        memory_bytes: of address space.
        decorate: wraps or adds functions before the first request.
        without: confinements to leave out (`pipelines.decoding.confinement.confine`).
    """
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # ends the process, whatever our parent inherited
    channel = socket.socket(fileno=0)

    def send(header: dict[str, Any], blobs: Sequence[bytes]) -> None:
        channel.sendall(envelope_of(header, blobs))
        for blob in blobs:  # big ones are never copied together
            channel.sendall(blob)

    try:
        functions = decorate(_functions())
        name_process()
        confinements = confine(memory_bytes, _die_with_parent, without)
    except Exception as error:
        if (code := EXIT_CODES.get(machine_reason(error) or "")) is not None:
            os._exit(code)
        raise
    send({"ready": True, "confinements": confinements}, [])
    requests = channel.makefile("rb")
    while (request := read_frame(requests)) is not None:
        header, blobs = request
        if (cpu_s := header.get("cpu_s")) is not None:  # a system where only a process itself can do so
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        send(*_answer(functions, header, blobs, send))
        del request, blobs


def _die_with_parent() -> None:
    # Not PR_SET_PDEATHSIG: that fires when the thread that started us ends, and workers come and go.
    hangup = select.poll()
    hangup.register(0, 0)
    hangup.poll()
    os._exit(1)


def _answer(functions: Functions, header: dict[str, Any], blobs: list[bytes], send: Send) -> Answer:
    """Call the function that a request names; an exception becomes an answer that says why it failed."""
    from tutti.datasets.decode_error import DecodeError

    def part(answer: dict[str, Any], files: Sequence[bytes]) -> None:
        send({"part": answer}, files)

    try:
        return functions[header["function"]](header["arguments"], blobs, part)
    except DecodeError as error:
        if machine_reason(error) is None:
            return {"failure": "decode", "message": str(error)}, []
        return {"failure": "memory"}, []
    except Exception as error:
        if machine_reason(error) == "out_of_memory":
            return {"failure": "memory"}, []
        return {"failure": "error", "message": f"{type(error).__name__}: {error}"}, []


def _prepare(arguments: dict[str, Any], blobs: list[bytes], send: Send) -> Answer:
    from tutti.datasets.record import Note
    from tutti.pipelines.decoding.config import PrepareConfig
    from tutti.pipelines.decoding.normalize import measure_alignment, prepare_aligned, prepare_spans

    def take(place: int, facts: dict[str, Any], file: bytes) -> None:
        send({"clip": place, "facts": facts}, [file])

    spans = [(start_s, end_s) for start_s, end_s in arguments["spans"]]
    config, name = PrepareConfig(**arguments["config"]), arguments["name"]
    notes = [Note(on, off, pitch, program, None, 1) for on, off, pitch, program in arguments.get("score", [])]
    alignment = measure_alignment(blobs[0], name, notes, config) if notes else None
    found = None if alignment is None else {"delay_s": alignment.delay_s, "score": alignment.score}
    if alignment is None:
        stream = prepare_spans(blobs[0], name, spans, config, take, stems=arguments.get("stems", False))
    elif alignment.score < config.min_alignment:
        return {"duration_s": None, "complete": None, "alignment": found}, []
    else:
        stream = prepare_aligned(blobs[0], name, spans, config, alignment, take)
    return {"duration_s": stream.duration_s, "complete": stream.complete, "alignment": found}, []


def _probe(arguments: dict[str, Any], blobs: list[bytes], _: Send) -> Answer:
    from tutti.datasets.decoder import decode_spans

    stream, _spans = decode_spans(blobs[0], arguments["name"], [])
    return {
        "duration_s": stream.duration_s,
        "sample_rate": stream.sample_rate,
        "num_channels": stream.num_channels,
        "codec": stream.codec,
        "complete": stream.complete,
    }, []


def _functions() -> Functions:
    """Import all that can be called and run it once, because no file can be opened later."""
    import av
    import numpy as np

    from tutti.datasets import audio
    from tutti.datasets.decode_error import DecodeError

    for module in pkgutil.walk_packages(av.__path__, "av."):
        importlib.import_module(module.name)  # PyAV imports some only when a file has such a stream
    samples = audio.to_int16(np.linspace(-0.5, 0.5, 22_050, dtype=np.float32))
    flac = audio.encode(samples, 44_100, "flac")
    asked = {"name": "warm-up", "config": {}, "spans": [(0.0, None)]}
    for request in (asked, asked | {"score": [(0.1, 0.2, 69, 0)]}):
        _prepare(request, [flac], lambda *_: None)
    for unreadable in (b"", b"\x1a\x45\xdf\xa3", b"\0\0\0\x20ftyp"):
        try:
            _probe({"name": "warm-up"}, [unreadable], lambda *_: None)
        except DecodeError:
            continue
    return {"prepare": _prepare, "probe": _probe}


if __name__ == "__main__":
    main(int(sys.argv[1]))
