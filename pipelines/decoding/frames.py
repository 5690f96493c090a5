"""Frames between a decoder and its parent: requests and answers."""

import json
import struct
from collections.abc import Callable, Sequence
from typing import IO, Any, TypeAlias

Answer: TypeAlias = tuple[dict[str, Any], list[bytes]]


Send: TypeAlias = Callable[[dict[str, Any], Sequence[bytes]], object]  # a part of the answer


Function: TypeAlias = Callable[[dict[str, Any], list[bytes], Send], Answer]


def read_frame(stream: IO[bytes]) -> Answer | None:
    """Read one request; None at the end.

    It is a four-byte length, JSON {"header": ..., "blobs": [length, ...]}, and the blobs.
    """
    prefix = stream.read(4)
    if len(prefix) < 4:
        return None
    envelope = json.loads(stream.read(struct.unpack(">I", prefix)[0]))
    return envelope["header"], [stream.read(size) for size in envelope["blobs"]]


def envelope_of(header: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    """Encode what goes before the blobs of a frame."""
    envelope = json.dumps({"header": header, "blobs": [len(blob) for blob in blobs]}).encode()
    return struct.pack(">I", len(envelope)) + envelope
