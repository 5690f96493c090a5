"""Upstream files against the manifest: in the cache, or in a mirror's folder."""

import shutil
from pathlib import Path

import pytest
from caches import rot

from tutti.datasets.manifest import read_manifest, version_folder
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.verify.__main__ import main
from tutti.pipelines.verify.sources import check_sources, upstream_files


@pytest.fixture
def cache(sample_build: Path, session_folder: Path, tmp_path: Path) -> Cache:
    shutil.copytree(session_folder / "sample-cache" / "blobs", tmp_path / "cache" / "blobs")
    return Cache(tmp_path / "cache")


def found(build: Path, cache: Cache, mirror: Path | None = None) -> list[str]:
    return [str(finding) for finding in check_sources(read_manifest(build), cache, mirror)]


def test_the_files_of_a_build_are_in_its_cache(sample_build: Path, cache: Cache) -> None:
    assert found(sample_build, cache) == []
    assert main([str(sample_build), "--level", "sources", "--cache-dir", str(cache.root)]) == 0


def test_archives_lists_and_videos_are_all_looked_for(sample_build: Path) -> None:
    names = [file.name for file in upstream_files(read_manifest(sample_build))]

    assert {"audioset/ontology", "irmas/train", "openmic2018/archive"} < set(names)
    assert sum(name.startswith("audioset/") for name in names) > 5 + 10  # videos, besides the five lists


def test_a_damaged_archive_is_named_with_both_digests_and_left_where_it_is(sample_build: Path, cache: Cache) -> None:
    file = next(file for file in upstream_files(read_manifest(sample_build)) if file.name == "irmas/train")
    rot(cache.blob_path(file.sha256))

    (problem,) = found(sample_build, cache)
    assert problem.startswith(f"irmas/train: corrupt: {cache.blob_path(file.sha256)} has sha256 ")
    assert problem.endswith(f"the manifest says {file.sha256}")
    assert cache.blob_path(file.sha256).is_file()
    assert main([str(sample_build), "--level", "sources", "--cache-dir", str(cache.root)]) == 3


def test_a_missing_video_and_a_missing_archive_are_named(sample_build: Path, cache: Cache) -> None:
    files = {file.name: file for file in upstream_files(read_manifest(sample_build))}
    video = next(file for file in files.values() if not file.url)
    for file in (video, files["openmic2018/archive"]):
        (blob,) = cache.blobs_beginning(file.sha256)
        blob.unlink()

    assert [problem.partition(";")[0] for problem in found(sample_build, cache)] == [
        f"{video.name}: missing: neither in the cache nor in the mirror",
        "openmic2018/archive: missing: neither in the cache nor in the mirror",
    ]


def test_a_mirror_stands_in_for_an_empty_cache(sample_build: Path, sample_mirror: Path, tmp_path: Path) -> None:
    problems = found(sample_build, Cache(tmp_path / "empty"), sample_mirror)

    assert problems  # videos: a mirror's names do not tell which of them a clip was cut from
    assert all(problem.startswith("audioset/") and "missing" in problem for problem in problems)


def test_the_version_folder_itself_is_not_needed_whole(sample_build: Path, cache: Cache, tmp_path: Path) -> None:
    bare = shutil.copytree(version_folder(sample_build) / "manifest", tmp_path / "manifest")

    assert main([str(bare), "--level", "sources", "--cache-dir", str(cache.root)]) == 0


def test_a_mirror_that_is_no_folder_is_a_usage_error(sample_build: Path, tmp_path: Path, capsys) -> None:
    assert main([str(sample_build), "--level", "sources", "--mirror", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
