"""Files that a stranger may have made: nothing waits, nothing takes more memory than it is given."""

import os
import socket
from pathlib import Path

import pytest

from tutti.datasets.bounded import MAX_DEPTH, open_regular, parse_json, read_bounded, regular_status
from tutti.datasets.errors import IntegrityError
from tutti.datasets.manifest import Manifest, within
from tutti.datasets.shard_info import ShardInfo

SHARD = "data/train-00000-of-00001.parquet"


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name, word in (
            ("pipe", "is a named pipe"),
            ("zero", "is a device"),
            ("socket", "is a socket"),
            ("loop", "not a file"),
            ("file/below", "not a file"),
            ("", "is a folder"),
        ):
            for reader in (regular_status, open_regular, lambda path: read_bounded(path, 10)):
                with pytest.raises(IntegrityError, match=word):
                    reader(tmp_path / name)


def test_a_file_of_holes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    with path.open("wb") as stream:
        stream.write(b"PAR1")
        stream.truncate(1 << 40)

    with pytest.raises(IntegrityError, match=r"1,099,511,627,776 bytes, nearly all of them holes"):
        open_regular(path)


def test_a_larger_file_than_expected_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")

    assert read_bounded(tmp_path / "file", 4) == b"four"
    with pytest.raises(IntegrityError, match="has 4 bytes, at most 3 are read"):
        read_bounded(tmp_path / "file", 3)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "other", 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[" * 100_000, "nested deeper than 32"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper than 32"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "nested deeper than 32"),
        (b'{"a":1,"b":2,"a":3}', "the key 'a' stands twice"),
        (b"NaN", "NaN is no number of JSON"),
        (b"[-Infinity]", "-Infinity is no number of JSON"),
        (b"1e999", "the number 1e999 is too large"),
        (b"1" * 5_000, "has 5000 digits"),
        (b"[" + b"{}," * (1 << 20) + b"{}]", "1,048,578 arrays and objects"),
        (b"[" + b"0," * (1 << 23) + b"0]", "8,388,608 commas"),
        (rb'"\ud800"', "not UTF-8"),
        (b'"\xff"', "not UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "Expecting value"),
        (b"{", "Expecting property name"),
        (b"", "Expecting value"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_that_no_build_writes_is_a_value_error_that_says_why(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(text)


def test_json_within_the_bounds_is_read_as_it_stands() -> None:
    deep = b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH

    assert parse_json(b'{"a":[1,-2.5e3,"\\u00e9\\ud83d\\ude00",null,true]}') == {"a": [1, -2500.0, "é😀", None, True]}
    assert str(parse_json(deep)) == deep.decode()


# --- from a manifest's word to a file


def manifest_of(folder: Path) -> Manifest:
    return Manifest(folder, {"shards": []})


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x.parquet",
        "data/../../x",
        "data/train-00000-of-00001.parquet\n",
        "data/dev-00000-of-00001.parquet",
        "data/train-0-of-1.parquet",
        "data//train-00000-of-00001.parquet",
        "manifest/clips/../../x.jsonl",
        "manifest/clips/zz.jsonl",
        "report/../x",
        "report/.hidden",
        "report/a/b/c/d/e",
        "readme.md",
        "",
        "data/train-00000-of-00001.parquet\0",
    ],
)
def test_a_path_of_no_documented_form_is_never_looked_at(tmp_path: Path, path: str) -> None:
    with pytest.raises(IntegrityError, match="no version holds a file"):
        manifest_of(tmp_path).path(path)


@pytest.mark.parametrize("link", ["data", SHARD])
def test_a_link_out_of_the_version_folder_is_refused_wherever_on_the_way_it_lies(tmp_path: Path, link: str) -> None:
    outside, version = tmp_path / "outside", tmp_path / "version"
    (outside / "data").mkdir(parents=True)
    (outside / SHARD).write_bytes(b"")
    (version / link).parent.mkdir(parents=True)
    (version / link).symlink_to(outside / link)

    with pytest.raises(IntegrityError, match=r"is a link that leads out of .*version; put the file itself"):
        manifest_of(version).path(SHARD)


def test_a_link_within_the_version_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "stored").mkdir()
    (tmp_path / "data").symlink_to("stored")

    assert manifest_of(tmp_path).path(SHARD) == tmp_path / SHARD
    assert within(tmp_path, "data") == tmp_path / "data"


def test_a_shard_is_opened_only_where_it_is_as_long_as_the_manifest_says(tmp_path: Path) -> None:
    manifest, info = manifest_of(tmp_path), ShardInfo(SHARD, "train", 1, 4, "", "")
    with pytest.raises(IntegrityError, match=r"missing; run pipelines\.verify"):
        manifest.shard_file(info)
    (tmp_path / "data").mkdir()
    (tmp_path / SHARD).write_bytes(b"12345")
    with pytest.raises(IntegrityError, match="has 5 bytes, the manifest says 4"):
        manifest.shard_file(info)
    (tmp_path / SHARD).write_bytes(b"1234")
    assert manifest.shard_file(info) == tmp_path / SHARD
