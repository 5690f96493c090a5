"""Others read what we publish: Hugging Face datasets and DuckDB."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter

import duckdb
import pytest
from conftest import ROOT

from tutti.datasets.manifest import read_manifest


@pytest.fixture(scope="module")
def manifest(sample_build):
    return read_manifest(sample_build)


@pytest.fixture(scope="module")
def kept(manifest):
    """Rows of the manifest whose audio is in the shards."""
    return [row for row in manifest.clip_rows() if row["status"] == "kept"]


@pytest.fixture(scope="module")
def huggingface(manifest, tmp_path_factory):
    """What check_huggingface.py reports, in a process without anything of ours, in another folder, offline."""
    if importlib.util.find_spec("torchcodec") is None:
        pytest.skip("needs Hugging Face datasets and torchcodec: make setup")
    elsewhere = tmp_path_factory.mktemp("huggingface")
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "tests" / "support" / "check_huggingface.py", manifest.folder],
        cwd=elsewhere,
        env={**os.environ, "HF_HOME": str(elsewhere), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_hugging_face_plays_every_clip_sample_by_sample(kept, huggingface):
    rows = Counter(row["split"] for row in kept)

    for split, report in huggingface["splits"].items():
        num_samples = sum(row["audio"]["num_samples"] for row in kept if row["split"] == split)
        assert report == {
            "rows": rows[split],
            "feature": "Audio",
            "sampling_rate": 16_000,
            "seconds": pytest.approx(num_samples / 16_000, abs=0.01),
            "exact": rows[split],
        }
    assert huggingface["splits"].keys() == rows.keys()


def test_hugging_face_finds_the_splits_by_the_dataset_card(kept, huggingface):
    assert huggingface["card"] == Counter(row["split"] for row in kept)


def test_duckdb_counts_the_rows_of_each_split_that_the_manifest_counts(manifest, kept):
    paths = str(manifest.folder / "data" / "*.parquet")
    query = (
        "SELECT regexp_extract(filename, '([a-z]+)-[^/]*$', 1), count(*) FROM read_parquet(?, filename=true) GROUP BY 1"
    )

    counted = dict(duckdb.execute(query, [paths]).fetchall())

    assert counted == Counter(row["split"] for row in kept)


def test_duckdb_selects_by_label_as_the_manifest_does(manifest, kept):
    instrument = manifest.instruments[0]
    paths = [str(manifest.folder / shard.path) for shard in manifest.shards()]

    selected = duckdb.execute("SELECT id FROM read_parquet(?) WHERE presence[1] = 1 ORDER BY id", [paths]).fetchall()

    present = sorted(row["id"] for row in kept if row["labels"].get(instrument, [0])[0] == 1)
    assert present
    assert selected == [(clip_id,) for clip_id in present]
