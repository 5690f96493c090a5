"""A version with several shards per split, for the tests of exports, and its clips as the manifest tells them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conftest import built, once

from tutti.datasets.manifest import read_manifest, version_folder

FORMATS = ("croissant", "csv", "huggingface", "lhotse", "webdataset")
CC_BY = "https://creativecommons.org/licenses/by/4.0/"
IRMAS = "CC-BY-NC-SA-3.0"


def small_shards(session_folder: Path, sample_mirror: Path) -> Path:
    """The version folder of `ultimate` from the tiny mirror: 16 clips in a shard, 4 in a row group."""

    def make(output: Path) -> None:
        built(
            "--dataset", "ultimate", "--mirror", str(sample_mirror), "--embedder", "none",
            "--set", "write.rows_per_shard=16", "--set", "write.rows_per_group=4",
            "--output", str(output), "--cache-dir", str(session_folder / "sample-cache"),
        )  # fmt: skip

    return version_folder(once(session_folder, "small-shards", make))


def kept(version: Path) -> list[dict[str, Any]]:
    """Rows of the manifest whose audio is in the shards, sorted by id."""
    rows = [row for row in read_manifest(version).clip_rows() if row["status"] == "kept"]
    return sorted(rows, key=lambda row: row["id"])


def presence(row: Mapping[str, Any], instruments: list[str]) -> list[int]:
    """Labels of a manifest row in the order of the classes; -1: unknown."""
    return [row["labels"].get(name, [-1])[0] for name in instruments]


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
