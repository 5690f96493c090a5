"""Datasets of the papers, built offline from the built-in sample; what is missing ends a build before it begins."""

from pathlib import Path

import pytest
from conftest import built, run_build

from tutti.datasets.manifest import Manifest, read_manifest
from tutti.pipelines.recipe import load_recipe

OF_THE_SAMPLE = ("audioset", "boosted_irmas", "irmas", "irmas_audioset", "irmas_openmic", "lumen", "openmic2018")


def build(dataset: str, mirror: Path, root: Path, *flags: str) -> Manifest:
    places = ["--mirror", str(mirror), "--output", str(root / "out"), "--cache-dir", str(root / "cache")]
    built("--dataset", dataset, "--embedder", "none", *places, *flags, env={"TUTTI_OFFLINE": "1"})
    return read_manifest(root / "out")


@pytest.mark.slow
@pytest.mark.parametrize("dataset", OF_THE_SAMPLE)
def test_every_dataset_of_its_corpora_is_built_from_the_sample(dataset, sample_mirror, tmp_path):
    manifest = build(dataset, sample_mirror, tmp_path)

    kept = [row for row in manifest.clip_rows() if row["status"] == "kept"]
    assert {row["source"] for row in kept} == set(load_recipe(dataset).sources)
    assert {"train", "validation"} <= {row["split"] for row in kept}


@pytest.mark.slow
def test_lumen_gives_one_new_song_a_split_and_leaves_the_others(sample_mirror, tmp_path):
    songs = {row["group"]: row["id"] for row in build("lumen", sample_mirror, tmp_path / "all").clip_rows()}
    new = next(group for group, clip in sorted(songs.items()) if "TestingData" in clip)
    clips = [row for row in read_manifest(tmp_path / "all" / "out").clip_rows() if row["group"] == new]
    without = ",".join(row["id"] for row in clips)

    first = build("lumen", sample_mirror, tmp_path, "--set", f"select.exclude={without}")
    second = build("lumen", sample_mirror, tmp_path)

    before = {row["id"]: row["split"] for row in first.clip_rows() if row["status"] == "kept"}
    after = {row["id"]: row["split"] for row in second.clip_rows() if row["status"] == "kept"}
    assert before.items() <= after.items()
    assert {after[row["id"]] for row in clips if row["id"] in after} <= {"train", "validation"}
    assert after.keys() - before.keys() == {row["id"] for row in clips if row["status"] == "kept"} != set()


@pytest.mark.parametrize(
    ("dataset", "embedder", "module", "package"),
    [("lumen", "none", "skmultilearn", "scikit-multilearn"), ("ultimate", "logmel", "cleanlab", "cleanlab")],
)
def test_a_missing_package_is_one_line_before_anything_is_downloaded(
    dataset, embedder, module, package, sample_mirror, tmp_path
):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    places = ["--mirror", str(sample_mirror), "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]

    result = run_build(
        "--dataset", dataset, "--embedder", embedder, *places, env={"PYTHONPATH": str(tmp_path / "hook")}
    )  # fmt: skip

    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {dataset}: {package} ")
    assert f"is not installed; install it, for instance with `pip install {package}`" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").glob("**/blobs/**/*"))
