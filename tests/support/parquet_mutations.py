"""Seeded mutations of a Parquet shard: of its pages, of the footer, of the sizes at its end, and of what rows say."""

import io
import random
import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NASTY: dict[str, tuple[Any, ...]] = {
    "sample_rate": (0, -1, 1, 2**31 - 1, None, 8_000),
    "num_samples": (0, -1, 1, 2**62, 1 << 40, None),
    "start_s": (-1.0, float("nan"), float("inf"), 1e300, None),
    "end_s": (-1.0, float("nan"), float("inf"), 1e300),
    "presence": (None, [2] * 4, [-128] * 4, [None] * 4, [1, 0, -1, 1]),
    "confidence": ([float("nan")] * 4, [-1.0] * 4, [2.0] * 4, None),
    "label_origin": (None, [None] * 4, [""] * 4),
    "quality": (float("nan"), float("inf"), -5.0),
    "loudness_lufs": (float("nan"), float("-inf"), 1e30),
    "gain_db": (float("nan"), float("inf"), -1e30, None),
    "id": (None, "", "x" * 100_000, "=1+1", "\x1b[2J", "../../x", "fixture/train/000@0"),
    "group": (None, "", "\u202e"),
    "license": (None, "", "<script>"),
    "audio_sha256": (None, "", "0" * 64, "A" * 64),
    "audio": (None, {"bytes": None, "path": None}, {"bytes": b"", "path": "x"}, {"bytes": b"fLaC", "path": "../x"}),
}


def mutated(shard: bytes, rng: random.Random) -> bytes:
    """One to eight mutations of one kind."""
    (footer,) = struct.unpack("<I", shard[-8:-4])
    pages, end = (4, len(shard) - 8 - footer), (len(shard) - 8 - footer, len(shard) - 8)
    kind = rng.choice(("pages", "pages", "footer", "footer", "sizes", "cut", "rows", "schema"))
    if kind == "rows":
        return _other_value(shard, rng)
    if kind == "schema":
        return _other_schema(shard, rng)
    if kind == "cut":
        first, last = sorted(rng.sample(range(len(shard)), 2))
        return shard[:first] + shard[last:] if rng.random() < 0.5 else shard[:last] + shard[first:]
    content = bytearray(shard)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(*{"pages": pages, "footer": end, "sizes": (len(shard) - 8, len(shard))}[kind])
        if rng.random() < 0.5:
            content[place] ^= 1 << rng.randrange(8)
        else:
            content[place] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    return bytes(content)


def _other_value(shard: bytes, rng: random.Random) -> bytes:
    table = pq.read_table(io.BytesIO(shard))
    name = rng.choice(list(NASTY))
    field = table.schema.field(name)
    values = table[name].to_pylist()
    values[rng.randrange(len(values))] = rng.choice(NASTY[name])
    column = pa.array(values, field.type)
    return _written(table.set_column(table.schema.get_field_index(name), field, column), rng)


def _other_schema(shard: bytes, rng: random.Random) -> bytes:
    """Columns that are missing, twice, of another type, nested, or in another order; metadata that are not ours."""
    table = pq.read_table(io.BytesIO(shard))
    name = rng.choice(table.column_names)
    place = table.schema.get_field_index(name)
    others: tuple[Callable[[], pa.Table], ...] = (
        lambda: table.drop_columns([name]),
        lambda: table.append_column(name, table[name]),
        lambda: table.append_column("more", table[name]),
        lambda: table.set_column(place, name, pa.array([[[[n]]] for n in range(len(table))])),
        lambda: table.set_column(place, name, pa.array(["1"] * len(table))),
        lambda: table.set_column(place, name, pa.nulls(len(table))),
        lambda: table.select(rng.sample(table.column_names, len(table.column_names))),
        lambda: table.replace_schema_metadata(None),
        lambda: table.replace_schema_metadata({"tutti": rng.choice(("", "[]", "1", "{", "[" * 5_000, '{"a":1}'))}),
        lambda: table.replace_schema_metadata({"tutti": '{"schema_version":1,"instruments":{"a":[1]}}'}),
        lambda: pa.concat_tables([table, table]),
        lambda: table.slice(0, 0),
    )
    return _written(rng.choice(others)(), rng)


def _written(table: pa.Table, rng: random.Random) -> bytes:
    stream = io.BytesIO()
    compression = rng.choice(("none", "snappy", "zstd", "gzip"))
    pq.write_table(table, stream, compression=compression, use_dictionary=rng.random() < 0.5, row_group_size=4)
    return stream.getvalue()
