"""Sizes that a writer left open, filled in for decoders that believe them and find no samples.

A pipe cannot be sought back, and a recorder that is killed does not come to it. libsndfile takes most such files as
they are, but not a WAV whose `data` has the size 0, nor what FFmpeg pipes as RF64, W64 or CAF.
"""

import struct
from collections.abc import Iterator

from tutti.datasets.containers.caf import chunks_of_caf
from tutti.datasets.containers.read import read_claim
from tutti.datasets.containers.riff import W64_MAGIC, chunks_of_riff, chunks_of_w64
from tutti.datasets.containers.sizes import is_placeholder
from tutti.datasets.containers.tags import skip_leading_tags

_HIGHEST = 0xFFFFFFFF


def mended(data: bytes) -> bytes:
    """Return a file whose header states what is there; the same object where no size is open or it does no harm."""
    start = skip_leading_tags(data)
    mark = data[start : start + 4]
    if mark not in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"caff", b"riff", b".snd", b"dns."):
        return data
    claim = read_claim(data)
    is_open = claim is not None and claim.num_samples is None and not claim.breaks_off
    try:
        if mark == b"caff":
            return _with(data, _size_of_caf(data, start))
        return _with(data, _sizes(data, start, mark)) if is_open else data
    except (ValueError, struct.error):
        return data


def _with(data: bytes, sizes: dict[int, bytes]) -> bytes:
    if not sizes:
        return data
    changed = bytearray(data)
    for position, content in sizes.items():
        changed[position : position + len(content)] = content
    return bytes(changed)


def _sizes(data: bytes, start: int, mark: bytes) -> dict[int, bytes]:
    """Compute the fields to change: their bytes by position."""
    end = len(data)
    if mark in (b".snd", b"dns."):
        order = ">" if mark == b".snd" else "<"
        (first,) = struct.unpack_from(f"{order}I", data, start + 4)
        return {start + 8: struct.pack(f"{order}I", min(max(0, end - start - first), _HIGHEST))}
    if mark == b"riff":
        if data[start : start + 16] != W64_MAGIC:
            return {}
        first = _content(chunks_of_w64(data, start), b"data")
        return {start + 16: struct.pack("<Q", end - start), first - 8: struct.pack("<Q", end - first + 24)}
    first = _content(chunks_of_riff(data, start), b"data")
    if mark in (b"RF64", b"BW64"):
        at = _content(chunks_of_riff(data, start), b"ds64")
        return {at: struct.pack("<QQ", end - start - 8, end - first), first - 4: struct.pack("<I", _HIGHEST)}
    if data[first - 4 : first] != bytes(4):
        return {}
    return {first - 4: struct.pack(">I" if mark == b"RIFX" else "<I", min(end - first, _HIGHEST))}


def _size_of_caf(data: bytes, start: int) -> dict[int, bytes]:
    """Compute the size of `data` where it says another than what is there: libsndfile refuses one that is too high."""
    first = _content(chunks_of_caf(data, start), b"data")
    (size,) = struct.unpack_from(">q", data, first - 8)
    there = len(data) - first
    return {first - 8: struct.pack(">q", there)} if is_placeholder(size) or size > there else {}


def _content(chunks: Iterator[tuple[bytes, int, int]], name: bytes) -> int:
    """Find the first byte of the content of a chunk.

    Raises:
        ValueError: there is none of that name.
    """
    for kind, _, position in chunks:
        if kind == name:
            return position
    raise ValueError(f"no chunk {name!r}")
