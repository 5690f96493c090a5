"""As much of Thrift's compact protocol as it takes to write Parquet files that no writer would."""

import struct
from collections.abc import Sequence

I32, I64, BYTES, LIST, STRUCT = 5, 6, 8, 9, 12
Field = tuple[int, int, bytes]  # id, type, value


def varint(value: int) -> bytes:
    content = b""
    while value > 127:
        content, value = content + bytes([value & 127 | 128]), value >> 7
    return content + bytes([value])


def number(value: int) -> bytes:
    return varint((value << 1) ^ (value >> 63))


def text(value: bytes) -> bytes:
    return varint(len(value)) + value


def array(kind: int, items: Sequence[bytes]) -> bytes:
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + varint(len(items))
    return head + b"".join(items)


def struct_of(*fields: Field) -> bytes:
    content, last = b"", 0
    for field, kind, value in fields:
        step = field - last
        content += (bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + number(field)) + value
        last = field
    return content + b"\0"


def element(name: bytes, *, children: int | None = None, kind: int | None = None, repetition: int = 0) -> bytes:
    """A node of the schema."""
    fields: list[Field] = [] if kind is None else [(1, I32, number(kind))]
    fields += [(3, I32, number(repetition)), (4, BYTES, text(name))]
    return struct_of(*fields, *([] if children is None else [(5, I32, number(children))]))


def page(kind: int, content: bytes, *, values: int, encoding: int, size: int | None = None) -> bytes:
    """A data page (0) or a dictionary (2), uncompressed."""
    inner: list[Field] = [(1, I32, number(values)), (2, I32, number(encoding))]
    inner += [(3, I32, number(3)), (4, I32, number(3))] if kind == 0 else []
    length = number(len(content) if size is None else size)
    head = struct_of((1, I32, number(kind)), (2, I32, length), (3, I32, length),
                     (5 if kind == 0 else 7, STRUCT, struct_of(*inner)))  # fmt: skip
    return head + content


def parquet(
    schema: Sequence[bytes], columns: Sequence[tuple[bytes, int, bytes, int]] = (), *, num_rows: int = 0
) -> bytes:
    """A file of one row group; a column is its name, physical type, pages and number of values."""
    body, chunks = b"PAR1", []
    for name, kind, pages, values in columns:
        metadata = struct_of(
            (1, I32, number(kind)), (2, LIST, array(I32, [number(0)])), (3, LIST, array(BYTES, [text(name)])),
            (4, I32, number(0)), (5, I64, number(values)), (6, I64, number(len(pages))), (7, I64, number(len(pages))),
            (9, I64, number(len(body))),
        )  # fmt: skip
        chunks.append(struct_of((2, I64, number(len(body))), (3, STRUCT, metadata)))
        body += pages
    group = struct_of((1, LIST, array(STRUCT, chunks)), (2, I64, number(len(body))), (3, I64, number(num_rows)))
    groups = [group] if columns else []
    footer = struct_of(
        (1, I32, number(2)), (2, LIST, array(STRUCT, schema)), (3, I64, number(num_rows)),
        (4, LIST, array(STRUCT, groups)),
    )  # fmt: skip
    return body + footer + struct.pack("<I", len(footer)) + b"PAR1"
