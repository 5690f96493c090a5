"""How much memory a Parquet file can take when it is read, from the headers of its pages: before any page is.

    problem = expansion_problem(descriptor, metadata, max_bytes=...)      None: it can be read

A footer may lie about its pages, and a page of a few bytes may stand for gigabytes: a run of one dictionary entry,
deltas without bits, nulls. So every page is looked at as the readers do: header by header, in Thrift's compact
protocol. What this file cannot follow is not read at all.
https://github.com/apache/parquet-format, https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

import os
from typing import Any, TypeAlias

import pyarrow.parquet as pq

Struct: TypeAlias = dict[int, Any]  # by field id

MAX_HEADER_BYTES = 1 << 20  # of a page; statistics hold values as long as an id
SLOT_BYTES = 16  # per value: offset or number, and its two levels

_PAGES_PER_CHUNK, _BYTES_PER_PAGE = 8, 4096  # at most so many pages: writers fill them with a megabyte
_FIRST_BYTES = 512  # read for a header at first; nearly all have less than 100
_MAX_DEPTH = 8
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # PageType
_PLAIN, _PLAIN_DICTIONARY, _RLE, _DELTA_BINARY, _DELTA_LENGTH, _RLE_DICTIONARY, _STREAM_SPLIT = 0, 2, 3, 5, 6, 8, 9
_AS_LONG_AS_THEIR_BYTES = (_PLAIN, _RLE, _DELTA_BINARY, _DELTA_LENGTH, _STREAM_SPLIT)  # and a slot per value
_BY_DICTIONARY = (_PLAIN_DICTIONARY, _RLE_DICTIONARY)


def expansion_problem(descriptor: int, metadata: pq.FileMetaData, *, max_bytes: int) -> str | None:
    """What forbids to read a Parquet file, in words; None where all of it takes at most `max_bytes`.

    Args:
        descriptor: of the open file.
        metadata: its footer.
        max_bytes: of all columns of all row groups, decoded.
    """
    num_bytes = os.fstat(descriptor).st_size
    expanded = packed = pages = 0
    most_pages = _PAGES_PER_CHUNK * metadata.num_row_groups * metadata.num_columns + num_bytes // _BYTES_PER_PAGE
    try:
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            for number in range(group.num_columns):
                chunk = group.column(number)
                packed += chunk.total_compressed_size
                if packed > num_bytes:
                    return "its columns overlap"
                more, count = _expanded(descriptor, chunk, num_bytes, most_pages - pages)
                expanded, pages = expanded + more, pages + count
                if expanded > max_bytes:
                    return f"its pages stand for more than {max_bytes:,} bytes"
    except ValueError as error:
        return f"row group {index}: {error}"
    return None


def _expanded(descriptor: int, chunk: pq.ColumnChunkMetaData, num_bytes: int, most_pages: int) -> tuple[int, int]:
    """Most bytes that a column of a row group takes in memory, and the number of its pages; all are looked at."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    stop = start + chunk.total_compressed_size
    if not 4 <= start <= stop <= num_bytes:
        raise ValueError(f"column {chunk.path_in_schema} lies outside the file")
    expanded = num_values = dictionary_bytes = pages = 0
    while start < stop:
        pages += 1
        if pages > most_pages:
            raise ValueError("far more pages than data")
        header, length = _read_header(descriptor, start, stop)
        kind, size, packed = (_number(header, field) for field in (1, 2, 3))
        start += length + packed
        if size < 0 or packed < 0 or start > stop:
            raise ValueError(f"a page of column {chunk.path_in_schema} is larger than its column")
        if kind == _DICTIONARY:
            dictionary_bytes = size + SLOT_BYTES * _count(_struct(header, 7))
            expanded += dictionary_bytes
        elif kind in (_DATA, _DATA_V2):
            values = _struct(header, 5 if kind == _DATA else 8)
            count, encoding = _count(values), _number(values, 2 if kind == _DATA else 4)
            num_values += count
            if encoding not in (*_AS_LONG_AS_THEIR_BYTES, *_BY_DICTIONARY):
                raise ValueError(f"column {chunk.path_in_schema} has the encoding {encoding}, which is not read")
            each = dictionary_bytes if encoding in _BY_DICTIONARY else 0
            expanded += size + count * (SLOT_BYTES + each)
        else:
            raise ValueError(f"column {chunk.path_in_schema} has a page of kind {kind}")
    if num_values != chunk.num_values:
        raise ValueError(f"column {chunk.path_in_schema} has {num_values} values, its footer says {chunk.num_values}")
    return expanded, pages


def _number(struct: Struct, field: int) -> int:
    value = struct.get(field)
    if type(value) is not int:
        raise ValueError("a page without a complete header")
    return value


def _struct(struct: Struct, field: int) -> Struct:
    value = struct.get(field)
    if not isinstance(value, dict):
        raise ValueError("a page without a complete header")
    return value


def _count(values: Struct) -> int:
    count = _number(values, 1)
    if count < 0:
        raise ValueError("a page with less than no values")
    return count


def _read_header(descriptor: int, start: int, stop: int) -> tuple[Struct, int]:
    """The header of the page at `start`, and its length."""
    wanted = min(_FIRST_BYTES, stop - start)
    while True:
        data = os.pread(descriptor, wanted, start)
        try:
            return _parsed(data, 0, 0)
        except IndexError:  # longer than what was read
            if wanted >= min(MAX_HEADER_BYTES, stop - start) or len(data) < wanted:
                raise ValueError("the header of a page has no end") from None
            wanted = min(MAX_HEADER_BYTES, stop - start)


def _parsed(data: bytes, at: int, depth: int) -> tuple[Struct, int]:
    """A struct of the compact protocol, and where it ends.

    Raises:
        IndexError: the data end first.
        ValueError: fields that are out of order, or of a kind that no page header has.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("the header of a page is nested too deeply")
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
            field_before = field
            field, at = _zigzag(data, at)
            if field <= field_before:  # a field twice: readers may take either
                raise ValueError("the header of a page has fields out of order")
        if kind in (1, 2):
            struct[field] = kind == 1
        elif kind in (3, 4, 5, 6):
            struct[field], at = (data[at], at + 1) if kind == 3 else _zigzag(data, at)
        elif kind == 8:  # bytes: of statistics, not asked for
            length, at = _varint(data, at)
            at += length
            if at > MAX_HEADER_BYTES:
                raise ValueError("the header of a page is too long")
        elif kind == 12:
            struct[field], at = _parsed(data, at, depth + 1)
        else:
            raise ValueError(f"the header of a page has a field of kind {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("the header of a page has a number of more than 64 bits")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
