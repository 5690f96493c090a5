"""Structs of Thrift's compact protocol, as Parquet writes its footer and the headers of its pages; nothing is believed.

    struct, end = read_struct(data, 0)       {1: 2, 2: [{4: b"schema", 5: 17}, ...], ...} by field id

Fields must ascend, as every writer has them: of one that stands twice, readers may take either.
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any, TypeAlias

Struct: TypeAlias = dict[int, Any]  # by field id

MAX_DEPTH = 12  # of structs and lists; Parquet's footer has 8

_TRUE, _FALSE, _BYTE, _DOUBLE, _BYTES, _LIST, _STRUCT = 1, 2, 3, 7, 8, 9, 12
_NUMBERS = (4, 5, 6)  # of 16, 32 and 64 bits


def read_struct(data: bytes, at: int, depth: int = 0) -> tuple[Struct, int]:
    """Read a struct that begins at byte `at`, and find its end; integers of 64 bits at most, floats are left out.

    Raises:
        IndexError: the data end first.
        ValueError: it is none of Parquet's.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    struct: Struct = {}
    field = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return struct, at
        kind, step = head & 15, head >> 4
        if step:
            field += step
        else:
            before = field
            field, at = _zigzag(data, at)
            if field <= before:
                raise ValueError("fields out of order")
        if kind in (_TRUE, _FALSE):
            struct[field] = kind == _TRUE
        else:
            struct[field], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _NUMBERS:
        return _zigzag(data, at)
    if kind == _BYTES:
        length, at = _varint(data, at)
        if at + length > len(data):
            raise IndexError
        return data[at : at + length], at + length
    if kind == _STRUCT:
        return read_struct(data, at, depth + 1)
    if kind == _LIST:
        return _list(data, at, depth + 1)
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BYTE:
        return data[at], at + 1
    raise ValueError(f"a field of kind {kind}")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    head = data[at]
    kind, count = head & 15, head >> 4
    at += 1
    if count == 15:
        count, at = _varint(data, at)
    if count > len(data) - at:  # an item has a byte at least
        raise IndexError
    items = []
    for _ in range(count):
        if kind in (_TRUE, _FALSE):
            item, at = data[at] == _TRUE, at + 1
        else:
            item, at = _value(data, at, kind, depth)
        items.append(item)
    return items, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    if byte < 128:
        return byte, at
    value, shift = byte & 127, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
