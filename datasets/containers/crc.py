"""Checksums that containers use and Python's library lacks: CRC-8 and CRC-16 of FLAC, CRC-32 of Ogg."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LONGEST = 1 << 17  # bytes of a frame whose checksum is computed: each costs a step in Python


def _table(polynomial: int, bits: int) -> list[int]:
    top, mask = 1 << bits - 1, (1 << bits) - 1
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
        table.append(value)
    return table


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)
_CRC16_ARRAY = np.array(_CRC16, np.uint16)
REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))  # each byte with its bits in the other order


def crc8(data: bytes) -> int:
    """Compute the CRC-8 of a frame's header (RFC 9639, 9.1.8)."""
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def crc16(data: bytes) -> int:
    """Compute the CRC-16 of a frame (RFC 9639, 9.3); with its own checksum behind it that is 0."""
    value = 0
    for byte in data:
        value = (value & 0xFF) << 8 ^ _CRC16[value >> 8 ^ byte]
    return value


def are_right(data: bytes, ends: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Check the CRC-16 of many frames at once.

    Args:
        data: the file.
        ends: [first, end) bytes of each frame, its checksum included.

    Returns:
        Whether each is right; longer ones than any real frame are not.
    """
    content = np.frombuffer(data, np.uint8)
    bounds = np.array(ends, np.int64).reshape(-1, 2)
    lengths = bounds[:, 1] - bounds[:, 0]
    value = np.zeros(len(bounds), np.uint16)
    order = np.argsort(-lengths, kind="stable")  # longest first: those that have begun are always the first of them
    order = order[lengths[order] <= _LONGEST]
    stops, sizes = bounds[order, 1], lengths[order]
    running = np.zeros(len(order), np.uint16)
    begun = 0
    for left in range(int(sizes.max(initial=0)), 0, -1):  # a checksum that begins with 0 may begin later
        while begun < len(order) and sizes[begun] >= left:
            begun += 1
        now = running[:begun]
        byte = content[stops[:begun] - left]
        running[:begun] = now << 8 ^ _CRC16_ARRAY[now >> 8 ^ byte]
    value[:] = 1
    value[order] = running
    right: NDArray[np.bool_] = value == 0
    return right


def ogg_crc(page: bytes) -> int:
    """Compute the CRC-32 of a page of Ogg (RFC 3533) whose own field is 0: that of zlib, with bits in the other order.

    Args:
        page: its bytes, translated by `REVERSED`.
    """
    value = zlib.crc32(page, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(REVERSED), "big")
