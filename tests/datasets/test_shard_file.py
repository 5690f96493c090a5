"""Shards that were made to harm: what a reader would trip over is refused before it is read."""

import hashlib
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import ROOT
from thrift import BYTES, I32, STRUCT, element, number, page, parquet, struct_of, text, varint

from tutti.datasets.errors import IntegrityError
from tutti.datasets.parquet_pages import Chunk, Footer, expansion_problem, read_footer
from tutti.datasets.shard import open_shard
from tutti.datasets.shard_audio import decode_audio

INT32, INT64, BYTE_ARRAY = 1, 2, 6  # physical types
PLAIN, DELTA_BINARY, DELTA_BYTES, DICTIONARY = 0, 5, 7, 8


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    return path


def one_column(pages: bytes, *, kind: int = BYTE_ARRAY, values: int) -> bytes:
    schema = [element(b"schema", children=1), element(b"id", kind=kind)]
    return parquet(schema, [(b"id", kind, pages, values)], num_rows=values)


def problem(content: bytes, tmp_path: Path) -> str | None:
    """What the pages say, before any of them is read."""
    path = written(tmp_path, content)
    with path.open("rb") as file:
        return expansion_problem(file.fileno(), read_footer(file.fileno()), max_bytes=1 << 20)


def string(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


def run_of(index: int, count: int, bits: int = 1) -> bytes:
    """Indices of a dictionary: the same one, `count` times, in a few bytes."""
    return bytes([bits]) + varint(count << 1) + bytes([index])


def test_an_honest_page_is_read(tmp_path: Path) -> None:
    content = one_column(page(0, string(b"a") + string(b"bc"), values=2, encoding=PLAIN), values=2)

    assert problem(content, tmp_path) is None
    assert pq.read_table(written(tmp_path, content)).to_pydict() == {"id": [b"a", b"bc"]}


def test_a_run_of_one_long_entry_of_a_dictionary_is_not_unpacked(tmp_path: Path) -> None:
    entry = page(2, string(b"x" * 1_000), values=1, encoding=PLAIN)
    content = one_column(entry + page(0, run_of(0, 1_000_000), values=1_000_000, encoding=DICTIONARY), values=1_000_000)

    assert len(content) < 2_000  # a gigabyte of text
    assert problem(content, tmp_path) == "its pages stand for more than 1,048,576 bytes"
    with pytest.raises(IntegrityError, match=r"x\.parquet: not a readable shard \(its pages stand for more than"):
        open_shard(tmp_path / "x.parquet")


def test_numbers_without_bits_are_counted_as_they_would_lie_in_memory(tmp_path: Path) -> None:
    count = 1 << 30
    deltas = varint(128) + varint(4) + varint(count) + number(7)
    content = one_column(page(0, deltas, values=count, encoding=DELTA_BINARY), kind=INT64, values=count)

    assert problem(content, tmp_path) == "its pages stand for more than 1,048,576 bytes"


def test_an_encoding_that_repeats_prefixes_is_not_read(tmp_path: Path) -> None:
    content = one_column(page(0, b"\0" * 40, values=2, encoding=DELTA_BYTES), values=2)

    assert problem(content, tmp_path) == "row group 0, column 0: has the encoding 7, which is not read"


@pytest.mark.parametrize(
    ("pages", "values", "expected"),
    [
        (page(0, b"", values=1, encoding=PLAIN, size=1 << 30), 1, "a page is larger than its column"),
        (page(0, b"", values=1, encoding=PLAIN, size=-5), 1, "a page is larger than its column"),
        (page(0, string(b"a"), values=1, encoding=PLAIN), 9, "has 1 values, its footer says 9"),
        (page(0, string(b"a"), values=-1, encoding=PLAIN), 1, "a page with less than no values"),
        (page(1, b"", values=1, encoding=PLAIN), 1, "has a page of kind 1"),
        (struct_of((1, I32, number(0))), 1, "incomplete"),
        (b"\x15", 1, "the header of a page has no end"),
        (b"\xff" * 700, 1, "the header of a page: a field of kind 15"),
        (b"\x1c" * 700, 1, "the header of a page: nested too deeply"),
        (struct_of((1, I32, number(0)), (1, I32, number(2))), 1, "the header of a page: fields out of order"),
        (struct_of((1, BYTES, varint(1 << 40))), 1, "the header of a page has no end"),
        (struct_of((1, I32, b"\xff" * 12)), 1, "the header of a page: a number of more than 64 bits"),
        (struct_of((5, STRUCT, struct_of((1, BYTES, text(b"x"))))), 1, "incomplete"),
    ],
)
def test_headers_that_lie_or_break_off_are_refused(tmp_path: Path, pages: bytes, values: int, expected: str) -> None:
    assert problem(one_column(pages, values=values), tmp_path) == f"row group 0, column 0: {expected}"


def test_pages_without_end_are_not_counted_to_their_end(tmp_path: Path) -> None:
    content = one_column(page(0, b"", values=0, encoding=PLAIN) * 20_000, values=0)

    assert problem(content, tmp_path) == "row group 0, column 0: far more pages than data"


def test_columns_that_are_all_the_same_bytes_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, one_column(page(0, string(b"a"), values=1, encoding=PLAIN), values=1))
    with path.open("rb") as file:
        ((_, (chunk,)),) = read_footer(file.fileno()).groups
        twins = Footer(1, ((1, (chunk,) * 100),))
        assert chunk == Chunk(first=4, num_bytes=chunk.num_bytes, num_values=1)
        assert expansion_problem(file.fileno(), twins, max_bytes=1 << 20) == "its columns overlap"


def test_a_footer_that_promises_rows_that_no_column_has_is_refused(tmp_path: Path) -> None:
    schema = [element(b"schema", children=1), element(b"id", kind=BYTE_ARRAY)]
    pages = page(0, string(b"a"), values=1, encoding=PLAIN)
    path = written(tmp_path, parquet(schema, [(b"id", BYTE_ARRAY, pages, 1)], num_rows=1 << 50))

    with pytest.raises(IntegrityError, match="its columns have other numbers of rows than 1125899906842624"):
        open_shard(path)


def test_a_schema_as_deep_as_no_stack_ends_in_an_error_and_not_the_process(tmp_path: Path) -> None:
    depth = 50_000  # the library's own readers follow it until their stack is full
    nested = [element(b"g", children=1, repetition=1)] * depth
    written(tmp_path, parquet([element(b"s", children=1), *nested, element(b"x", kind=INT32)]))
    script = "import pathlib, sys; from tutti.datasets.shard import open_shard; open_shard(pathlib.Path(sys.argv[1]))"

    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "x.parquet"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1  # the interpreter's own, for an error that nobody caught
    assert done.stderr.splitlines()[-1].startswith("tutti.datasets.errors.IntegrityError: ")


@pytest.mark.parametrize("make", ["pipe", "folder", "link"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.parquet"
    {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda place: os.symlink(place, place)}[make](path)

    with pytest.raises(IntegrityError, match=r"x\.parquet"):
        open_shard(path)


# --- audio


def flac(samples: np.ndarray, sample_rate: int = 16_000, subtype: str = "PCM_16", container: str = "FLAC") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, sample_rate, format=container, subtype=subtype)
    return stream.getvalue()


def claiming(audio: bytes, num_samples: int) -> bytes:
    """The same file with another number of samples in its STREAMINFO: 36 bits from bit 108 on."""
    bits = int.from_bytes(audio[18:26], "big")
    return audio[:18] + ((bits >> 36 << 36) | num_samples).to_bytes(8, "big") + audio[26:]


SOUND = flac(np.zeros(400, np.int16))


@pytest.mark.parametrize(
    ("audio", "num_samples", "expected"),
    [
        (claiming(SOUND, (1 << 36) - 1), 400, r"shape \(68719476735,\) at 16000 Hz, its row says 400 samples"),
        (claiming(SOUND, 1 << 26), 1 << 26, "ends before sample 67108864|cannot be decoded"),
        (flac(np.zeros(1 << 22, np.int16)), 400, r"shape \(4194304,\)"),  # four minutes in 12 kB
        (flac(np.zeros((400, 2), np.int16)), 400, r"shape \(400, 2\)"),
        (flac(np.zeros(400, np.int16), 8_000), 400, "at 8000 Hz, its row says 400 samples at 16000 Hz"),
        (flac(np.zeros(400, np.int16), subtype="PCM_24"), 400, "FLAC, PCM_24, expected 16-bit PCM"),
        (flac(np.zeros(400), subtype="VORBIS", container="OGG"), 400, "neither FLAC nor WAV"),
        (SOUND[:-9], 400, "ends before sample 400|cannot be decoded"),
        (b"fLaC", 400, "cannot be decoded"),
        (b"", 400, "neither FLAC nor WAV"),
        (None, 400, "cannot be decoded"),
    ],
)
def test_audio_that_is_not_what_its_row_says_takes_no_memory(audio: bytes, num_samples: int, expected: str) -> None:
    with pytest.raises(IntegrityError, match=rf"shard: clip a: .*({expected})"):
        decode_audio("shard: clip a", audio, 16_000, num_samples)


def test_sound_audio_is_decoded() -> None:
    samples = np.arange(400, dtype=np.int16)

    decoded = decode_audio("x", flac(samples), 16_000, 400)

    assert hashlib.sha256(decoded.tobytes()).digest() == hashlib.sha256(samples.tobytes()).digest()
