"""Exports are read by the libraries that they are for: mlcroissant, webdataset, lhotse, Hugging Face datasets.

check_exports.py runs in a process of its own, without anything of ours, offline, in another folder.
"""

import functools
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from exported import CC_BY, kept, presence, small_shards

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.export.__main__ import export

READERS = ("croissant", "huggingface", "lhotse", "webdataset")
MISSING = 77  # exit code of check_exports.py where a library is not installed


@pytest.fixture(scope="module")
def version(session_folder: Path, sample_mirror: Path) -> Path:
    return small_shards(session_folder, sample_mirror)


def read_by(name: str, folder: Path, elsewhere: Path) -> dict:
    """What check_exports.py reports of an export."""
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "tests" / "support" / "check_exports.py", name, folder],
        cwd=elsewhere,
        env={**os.environ, "HF_HOME": str(elsewhere), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == MISSING:
        pytest.skip(f"{done.stderr.strip()}: make setup")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expected(version: Path, licenses: tuple[str, ...] | None = None) -> dict:
    """Split -> id -> what a reader must find, from the manifest alone."""
    instruments = read_manifest(version).instruments
    clips: dict = {}
    for row in kept(version):
        if licenses is None or row["license"] in licenses:
            clips.setdefault(row["split"], {})[row["id"]] = {
                "sha256": row["audio"]["pcm_sha256"],
                "presence": presence(row, instruments),
                "license": row["license"],
            }
    return clips


@pytest.fixture(scope="module")
def report(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict]:
    """What a reader reports of an export of everything; each reads once."""

    @functools.cache
    def read(name: str) -> dict:
        folder = tmp_path_factory.mktemp(name)
        export(version, name, folder / "out")
        return read_by(name, folder / "out", folder)

    return read


@pytest.mark.parametrize("name", READERS)
def test_a_reader_finds_every_clip_sample_by_sample_with_its_labels(version: Path, report, name: str) -> None:
    assert report(name)["clips"] == expected(version)


@pytest.mark.parametrize("name", ["croissant", "huggingface"])  # whose description names splits and files
def test_a_reader_finds_only_the_allowed_licence(version: Path, tmp_path: Path, name: str) -> None:
    export(version, name, tmp_path / "out", licenses=[CC_BY])

    assert read_by(name, tmp_path / "out", tmp_path)["clips"] == expected(version, (CC_BY,))


def test_mlcroissant_validates_and_misses_only_the_date_that_we_do_not_know(version: Path, report) -> None:
    about = report("croissant")["about"]

    assert about["errors"] == []
    assert about["warnings"] == [
        '[Metadata(ultimate)] Property "https://schema.org/datePublished" is recommended, but does not exist.'
    ]
    assert about["conforms_to"] == "http://mlcommons.org/croissant/1.1"
    assert about["instruments"] == read_manifest(version).instruments


def test_mlcroissant_finds_each_file_with_its_digest(version: Path, report) -> None:
    files = report("croissant")["about"]["files"]

    assert files == {f"data/{path.name}": True for path in (version / "data").iterdir()}


def test_hugging_face_agrees_with_the_features_on_the_card(report) -> None:
    assert report("huggingface")["about"] == {
        "license": [
            "cc-by-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-sa-3.0", "cc0-1.0", "other",
        ],
        "task_categories": ["audio-classification"],
        "card_features": True,
        "audio": "Audio",
    }  # fmt: skip


def test_webdataset_finds_a_tar_for_every_16_clips(version: Path, report) -> None:
    rows = Counter(row["split"] for row in kept(version))

    assert report("webdataset")["about"]["tars"] == [
        f"{split}-{index:06d}.tar" for split in sorted(rows) for index in range(math.ceil(rows[split] / 16))
    ]
