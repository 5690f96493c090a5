"""Rebuilding what a manifest lists, and how near the result comes."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run_build
from rows import clip, stored
from whole_manifest import manifest_content

from tutti.datasets.clip_line import encode
from tutti.datasets.files import write_file
from tutti.datasets.manifest import Manifest, bucket_of, canonical_json, clip_row, file_sha256, read_manifest
from tutti.datasets.record import Rejected
from tutti.datasets.shard_info import ShardInfo
from tutti.pipelines.recipe import as_json, load_recipe, recipe_from_json, recipe_names
from tutti.pipelines.stages.frozen import bucket_names, classify


def frozen(manifest, mirror, folder, *flags, env=None):
    places = ("--output", str(folder / "out"), "--cache-dir", str(folder / "cache"))
    return run_build("--frozen", str(manifest), "--mirror", str(mirror), *places, *flags, env=env)


def summary_of(result):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def only_the_manifest(build, folder):
    """What is published: no audio."""
    shutil.copytree(build / "current" / "manifest", folder / "manifest")
    return folder / "manifest" / "manifest.json"


@pytest.mark.slow
def test_a_manifest_alone_and_an_empty_cache_give_the_same_files_elsewhere(sample_build, sample_mirror, tmp_path):
    manifest = only_the_manifest(sample_build, tmp_path / "published")
    flags = ("--direct-running-mode", "multi_processing", "--direct-num-workers", "2")
    env = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    summary = summary_of(frozen(manifest, sample_mirror, tmp_path, *flags, env=env))

    assert summary["frozen"] == {"level": "EXACT", "gone": 0, "equivalent": 0, "changed": 0}
    assert summary["version"] == read_manifest(sample_build).version


@pytest.fixture
def poorer_mirror(sample_mirror, tmp_path):
    """The mirror without two videos that the sample build kept."""
    root = tmp_path / "mirror"
    shutil.copytree(sample_mirror, root)
    return root


def videos_of(manifest):
    return [row for row in manifest.clip_rows() if row["source"] == "audioset" and row["status"] == "kept"]


def files_of(mirror, row):
    return sorted((mirror / "www.youtube.com" / "watch").glob(f"{row['recording']}.*"))


@pytest.mark.slow
def test_what_is_gone_is_named_and_nothing_else_changes(sample_build, poorer_mirror, tmp_path):
    listed = read_manifest(sample_build)
    lost = videos_of(listed)[0]
    for path in files_of(poorer_mirror, lost):
        path.unlink()
    result = frozen(sample_build, poorer_mirror, tmp_path)

    assert summary_of(result)["frozen"] == {"level": "SUBSET", "gone": 1, "equivalent": 0, "changed": 0}
    assert f"gone: {lost['id']} (not_in_mirror)" in result.stderr
    rebuilt = read_manifest(tmp_path / "out")
    before = {row["id"]: row for row in listed.clip_rows()}
    after = {row["id"]: row for row in rebuilt.clip_rows()}
    assert [clip_id for clip_id in before if before[clip_id] != after[clip_id]] == [lost["id"]]
    assert (after[lost["id"]]["status"], after[lost["id"]]["reason"]) == ("gone", "not_in_mirror")
    shards = {info.path: info.sha256 for info in listed.shards()}
    changed = [info.path for info in rebuilt.shards() if info.sha256 != shards[info.path]]
    assert changed == [f"data/{lost['split']}-00000-of-00001.parquet"]
    assert rebuilt.content["release"] == "2.0.0"
    assert rebuilt.content["parent"]["root_digest"] == listed.root_digest


@pytest.mark.slow
def test_other_audio_under_a_clips_name_is_no_rebuild(sample_build, poorer_mirror, tmp_path):
    one, other = videos_of(read_manifest(sample_build))[:2]
    (target,), (source,) = files_of(poorer_mirror, one), files_of(poorer_mirror, other)
    shutil.copy(source, target)
    sums = poorer_mirror / "SHA256SUMS"
    lines = [line.split(maxsplit=1) for line in sums.read_text().splitlines()]
    replaced = str(target.relative_to(poorer_mirror))
    new = file_sha256(target)
    sums.write_text("".join(f"{new if path == replaced else digest}  {path}\n" for digest, path in lines))
    result = frozen(sample_build, poorer_mirror, tmp_path)

    assert result.returncode == 3
    assert f"1 clips hold other audio than the manifest says, first {one['id']}" in result.stderr
    assert not (tmp_path / "out" / "current").exists()


# --- levels


def version(folder: Path, rows, shard_sha256="a") -> Manifest:
    """A manifest with one bucket."""
    path = folder / "manifest" / "clips" / "00.jsonl"
    write_file(path, "".join(encode(row) + "\n" for row in rows).encode())
    shard = ShardInfo("data/train-00000-of-00001.parquet", "train", len(rows), 1, shard_sha256 * 64, "0" * 64)
    files = [{"path": "manifest/clips/00.jsonl", "num_rows": len(rows), "sha256": file_sha256(path)}]
    return Manifest(folder, manifest_content([shard], corpora=["x"], clips=files))


def kept(name="x/a@0", pcm="1", sketch="0" * 16):
    return clip_row(clip(name, audio=stored(pcm_sha256=pcm * 64, sketch=sketch), split="train"), ())


def lost(name, reason):
    return clip_row(Rejected(clip(name, audio=None), "download", reason, status="gone"), ())


@pytest.mark.parametrize(
    ("row", "shard", "level"),
    [
        (kept(), "a", "EXACT"),
        (kept(), "b", "AUDIO"),
        (kept(pcm="2", sketch="0" * 15 + "7"), "b", "EQUIVALENT"),
        (kept(pcm="2", sketch="f" * 16), "b", "CHANGED"),
        (lost("x/a@0", "removed"), "b", "SUBSET"),
    ],
)
def test_the_level_says_how_near_the_rebuild_comes(tmp_path, row, shard, level):
    assert classify(version(tmp_path / "a", [kept()]), version(tmp_path / "b", [row], shard)).level == level


def test_a_subset_may_hold_reencoded_clips_too(tmp_path):
    before = version(tmp_path / "a", [kept("x/a@0"), kept("x/b@0")])
    after = version(tmp_path / "b", [kept("x/a@0", pcm="2"), lost("x/b@0", "silent")])
    verdict = classify(before, after)

    assert (verdict.level, verdict.gone, verdict.equivalent) == ("SUBSET", (("x/b@0", "silent"),), ("x/a@0",))


def test_every_bucket_of_the_manifest_is_written(sample_build):
    manifest = read_manifest(sample_build)

    assert sorted(bucket_names(manifest.folder)) == sorted({bucket_of(row["id"]) for row in manifest.clip_rows()})


# --- the recipe in a manifest


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_survives_its_json(name):
    recipe = load_recipe(name)

    assert as_json(recipe_from_json(json.loads(canonical_json(as_json(recipe))))) == as_json(recipe)


def test_a_recipe_of_other_code_is_refused():
    content = as_json(load_recipe("irmas"))
    content["clean"]["shyness"] = 1

    from tutti.datasets.errors import UsageError

    with pytest.raises(UsageError, match="does not fit this version of tutti"):
        recipe_from_json(content)


# --- flags


@pytest.mark.parametrize("flag", [("--limit", "3"), ("--seed", "1"), ("--set", "clean.min_duration_s=2")])
def test_a_frozen_build_takes_its_recipe_from_the_manifest_only(sample_build, flag):
    result = run_build("--frozen", str(sample_build), *flag)

    assert result.returncode == 2
    assert f"{flag[0]}: --frozen takes everything from the manifest" in result.stderr


def test_a_manifest_that_is_none_is_named(tmp_path):
    result = run_build("--frozen", str(tmp_path))

    assert result.returncode == 2
    assert f"{tmp_path}: no dataset here" in result.stderr


def test_an_unknown_parent_is_named(sample_mirror, tmp_path):
    places = ("--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    result = run_build("--dataset", "irmas", "--mirror", str(sample_mirror), *places, "--parent", str(tmp_path))

    assert result.returncode == 2
    assert "no dataset here" in result.stderr


# --- the published sample


@pytest.mark.slow
def test_the_published_manifest_of_the_sample_is_rebuilt_from_nothing(tmp_path):
    places = ("--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    published = ROOT / "manifests" / "sample"
    result = run_build("--frozen", str(published), "--mirror", "sample", *places)
    level = summary_of(result)["frozen"]["level"]

    # Another processor may round a resampled value otherwise; the audio is then equivalent, and never gone or other.
    assert level in ("EXACT", "AUDIO", "EQUIVALENT")
    if level == "EXACT":
        assert read_manifest(tmp_path / "out").root_digest == read_manifest(published).root_digest
