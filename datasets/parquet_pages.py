"""Bounds of the memory that a Parquet file takes, from its footer and page headers, before a library reads it.

    footer = read_footer(descriptor)
    problem = expansion_problem(descriptor, footer, max_bytes=...)      None: it can be read

A footer may lie about its pages, and a page of a few bytes may stand for gigabytes: a run of one dictionary entry,
deltas without bits, nulls. A footer can also end the process: pyarrow has no catch around sizes that do not fit, and
follows a schema until its stack is full. So footer and headers of pages are taken apart here, and what this file
cannot follow is not read at all. https://github.com/apache/parquet-format
"""

import os
import struct
from dataclasses import dataclass

from tutti.datasets.thrift_compact import Struct, read_struct

MAX_FOOTER_BYTES = 1 << 23
MAX_ROW_GROUPS = 2048
MAX_SCHEMA_ELEMENTS = 256  # a shard has 50
MAX_HEADER_BYTES = 1 << 20  # of a page; statistics hold values as long as an id
SLOT_BYTES = 16  # per value: offset or number, and its two levels

_MAGIC = b"PAR1"
_PAGES_PER_CHUNK, _BYTES_PER_PAGE = 8, 4096  # at most so many pages: writers fill them with a megabyte
_FIRST_BYTES = 512  # read for a header at first; nearly all have less than 100
_REPEATED = 2  # FieldRepetitionType
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # PageType
_PLAIN, _PLAIN_DICTIONARY, _RLE, _DELTA_BINARY, _DELTA_LENGTH, _RLE_DICTIONARY, _STREAM_SPLIT = 0, 2, 3, 5, 6, 8, 9
_AS_LONG_AS_THEIR_BYTES = (_PLAIN, _RLE, _DELTA_BINARY, _DELTA_LENGTH, _STREAM_SPLIT)  # and a slot per value
_BY_DICTIONARY = (_PLAIN_DICTIONARY, _RLE_DICTIONARY)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The pages of a column in a row group."""

    first: int  # byte of the file
    num_bytes: int
    num_values: int


@dataclass(frozen=True, slots=True)
class Footer:
    """The parts of a footer that bounds need."""

    num_rows: int
    groups: tuple[tuple[int, tuple[Chunk, ...]], ...]  # rows and columns of each row group


def read_footer(descriptor: int) -> Footer:
    """Read the footer of an open Parquet file.

    Raises:
        ValueError: it is no Parquet file, or has a footer that no shard has; the message says which.
    """
    num_bytes = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 8, max(0, num_bytes - 8))
    if num_bytes < 12 or os.pread(descriptor, 4, 0) != _MAGIC or tail[4:] != _MAGIC:
        raise ValueError("not a Parquet file")
    (size,) = struct.unpack("<I", tail[:4])
    if size > min(MAX_FOOTER_BYTES, num_bytes - 12):
        raise ValueError(f"a footer of {size:,} bytes")
    try:
        content, _ = read_struct(os.pread(descriptor, size, num_bytes - 8 - size), 0)
        return _footer(content)
    except IndexError:
        raise ValueError("its footer has no end") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"its footer is damaged: {error}") from error


def _footer(content: Struct) -> Footer:
    elements, groups = content[2], content[4]
    if len(elements) > MAX_SCHEMA_ELEMENTS or len(groups) > MAX_ROW_GROUPS:
        raise ValueError(f"{len(elements):,} columns, {len(groups):,} row groups")
    repeated = _repeated_leaves(elements)
    found = []
    for number, group in enumerate(groups):
        num_rows, chunks = _number(group, 3), tuple(_chunk(column) for column in group[1])
        if len(chunks) != len(repeated):
            raise ValueError(f"row group {number} has {len(chunks)} columns, the schema {len(repeated)}")
        if num_rows < 0 or any(
            chunk.num_values != num_rows for chunk, lists in zip(chunks, repeated, strict=True) if not lists
        ):  # readers make room for them
            raise ValueError(f"row group {number}: its columns have other numbers of rows than {num_rows}")
        found.append((num_rows, chunks))
    num_rows = _number(content, 3)
    if num_rows != sum(rows for rows, _ in found):
        raise ValueError(f"its row groups have {sum(rows for rows, _ in found)} rows, its footer says {num_rows}")
    return Footer(num_rows, tuple(found))


def _repeated_leaves(elements: list[Struct]) -> list[bool]:
    """Flag the columns that are inside lists, in the order of the schema: a tree, each node before its children."""
    leaves = []
    open_nodes = [[_children(elements[0]), False]]
    for element in elements[1:]:
        while open_nodes and open_nodes[-1][0] == 0:
            open_nodes.pop()
        if not open_nodes:
            raise ValueError("a schema with columns outside of it")
        open_nodes[-1][0] -= 1
        repeated = bool(open_nodes[-1][1]) or element.get(3) == _REPEATED
        if children := _children(element):
            open_nodes.append([children, repeated])
        else:
            leaves.append(repeated)
    if any(left for left, _ in open_nodes):
        raise ValueError("a schema that lacks columns")
    return leaves


def _children(element: Struct) -> int:
    count = element.get(5, 0)
    if type(count) is not int or count < 0:
        raise ValueError("a schema with less than no columns")
    return count


def _chunk(column: Struct) -> Chunk:
    if 1 in column or 8 in column or 9 in column:
        raise ValueError("a column in another file, or encrypted")
    metadata = column[3]
    first, dictionary = _number(metadata, 9), metadata.get(11)
    if dictionary is not None and 0 < _number(metadata, 11) < first:
        first = dictionary
    return Chunk(first, _number(metadata, 7), _number(metadata, 5))


def expansion_problem(descriptor: int, footer: Footer, *, max_bytes: int) -> str | None:
    """Describe why a Parquet file may not be read; None where all of it takes at most `max_bytes`.

    Args:
        descriptor: of the open file.
        footer: its footer.
        max_bytes: of all columns of all row groups, decoded.
    """
    num_bytes = os.fstat(descriptor).st_size
    expanded = packed = pages = 0
    most_pages = _PAGES_PER_CHUNK * sum(len(chunks) for _, chunks in footer.groups) + num_bytes // _BYTES_PER_PAGE
    for index, (_, chunks) in enumerate(footer.groups):
        for number, chunk in enumerate(chunks):
            packed += max(0, chunk.num_bytes)
            if packed > num_bytes:
                return "its columns overlap"
            try:
                more, count = _expanded(descriptor, chunk, num_bytes, most_pages - pages)
            except ValueError as error:
                return f"row group {index}, column {number}: {error}"
            expanded, pages = expanded + more, pages + count
            if expanded > max_bytes:
                return f"its pages stand for more than {max_bytes:,} bytes"
    return None


def _expanded(descriptor: int, chunk: Chunk, num_bytes: int, most_pages: int) -> tuple[int, int]:
    """Sum the most bytes that a column of a row group takes in memory, and its pages; reads every page header."""
    start, stop = chunk.first, chunk.first + chunk.num_bytes
    if not 4 <= start <= stop <= num_bytes:
        raise ValueError("lies outside the file")
    expanded = num_values = dictionary_bytes = pages = 0
    while start < stop:
        pages += 1
        if pages > most_pages:
            raise ValueError("far more pages than data")
        header, length = _read_header(descriptor, start, stop)
        kind, size, packed = (_number(header, field) for field in (1, 2, 3))
        start += length + packed
        if size < 0 or packed < 0 or start > stop:
            raise ValueError("a page is larger than its column")
        if kind == _DICTIONARY:
            dictionary_bytes = size + SLOT_BYTES * _count(_struct(header, 7))
            expanded += dictionary_bytes
        elif kind in (_DATA, _DATA_V2):
            values = _struct(header, 5 if kind == _DATA else 8)
            count, encoding = _count(values), _number(values, 2 if kind == _DATA else 4)
            num_values += count
            if encoding not in (*_AS_LONG_AS_THEIR_BYTES, *_BY_DICTIONARY):
                raise ValueError(f"has the encoding {encoding}, which is not read")
            each = dictionary_bytes if encoding in _BY_DICTIONARY else 0
            expanded += size + count * (SLOT_BYTES + each)
        else:
            raise ValueError(f"has a page of kind {kind}")
    if num_values != chunk.num_values:
        raise ValueError(f"has {num_values} values, its footer says {chunk.num_values}")
    return expanded, pages


def _number(fields: Struct, field: int) -> int:
    value = fields.get(field)
    if type(value) is not int:
        raise ValueError("incomplete")
    return value


def _struct(fields: Struct, field: int) -> Struct:
    value = fields.get(field)
    if not isinstance(value, dict):
        raise ValueError("incomplete")
    return value


def _count(values: Struct) -> int:
    count = _number(values, 1)
    if count < 0:
        raise ValueError("a page with less than no values")
    return count


def _read_header(descriptor: int, start: int, stop: int) -> tuple[Struct, int]:
    """Read the header of the page at `start`, and its length in bytes."""
    wanted = min(_FIRST_BYTES, stop - start)
    while True:
        data = os.pread(descriptor, wanted, start)
        try:
            return read_struct(data, 0)
        except IndexError:  # longer than what was read
            if wanted >= min(MAX_HEADER_BYTES, stop - start) or len(data) < wanted:
                raise ValueError("the header of a page has no end") from None
            wanted = min(MAX_HEADER_BYTES, stop - start)
        except ValueError as error:
            raise ValueError(f"the header of a page: {error}") from None
