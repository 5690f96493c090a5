"""What verify finds: exactly what is wrong with a built dataset."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import edit_manifest, flip, sealed_copy, swap

from tutti.datasets.manifest import manifest_path, read_manifest
from tutti.datasets.shard import open_shard
from tutti.pipelines.verify.__main__ import main
from tutti.pipelines.verify.check import verify
from tutti.pipelines.verify.findings import Finding, open_manifest

TEST_SHARD = "data/test-00000-of-00001.parquet"
TRAIN_SHARD = "data/train-00000-of-00001.parquet"


@pytest.fixture
def version(sample_build: Path, tmp_path: Path) -> Path:
    return sealed_copy(sample_build, tmp_path)


def problems(version: Path, level: str = "shards") -> list[str]:
    return [str(finding) for finding in verify(read_manifest(version), level)]


@pytest.mark.parametrize("level", ["manifest", "shards", "clips"])
def test_a_fresh_build_has_no_problems(version: Path, level: str) -> None:
    assert problems(version, level) == []
    assert main([str(version), "--level", level]) == 0
    assert main([str(version.parent.parent), "--level", level]) == 0  # the output root


def test_a_flipped_bit_in_the_audio_names_the_clip_and_is_exit_code_3(version: Path) -> None:
    content = (version / TEST_SHARD).read_bytes()
    flip(version / TEST_SHARD, 8 * (content.index(b"fLaC") + 20_000))
    first = open_shard(version / TEST_SHARD).read(["id"]).column("id")[0].as_py()

    assert problems(version) == [f"{TEST_SHARD}: corrupt: the audio of {first} is damaged"]
    assert main([str(version)]) == 3


def test_a_missing_shard_is_named(version: Path) -> None:
    (version / TEST_SHARD).unlink()

    assert problems(version) == [f"{TEST_SHARD}: missing"]


def test_a_stray_file_is_named_wherever_it_lies(version: Path) -> None:
    (version / "data" / "more.parquet").write_bytes(b"")
    (version / "notes").mkdir()
    (version / "notes" / "todo.txt").write_bytes(b"")

    assert problems(version) == [
        "data/more.parquet: stray: the manifest does not list it",
        "notes/todo.txt: stray: the manifest does not list it",
    ]


def test_two_shards_that_changed_names_are_swapped_not_damaged(version: Path) -> None:
    swap(version / TEST_SHARD, version / TRAIN_SHARD)

    assert problems(version) == [
        f"{TEST_SHARD}: swapped: it holds {TRAIN_SHARD}",
        f"{TRAIN_SHARD}: swapped: it holds {TEST_SHARD}",
    ]


def test_several_things_at_once_are_all_named_in_order(version: Path) -> None:
    (version / TEST_SHARD).unlink()
    (version / "README.md").write_text("mine")
    bucket = min(version.glob("manifest/clips/*"))
    bucket.unlink()
    (version / "data" / "a.parquet").write_bytes(b"")

    assert problems(version) == [
        "README.md: corrupt: its sha256 is not the manifest's",
        "data/a.parquet: stray: the manifest does not list it",
        f"{TEST_SHARD}: missing",
        f"manifest/clips/{bucket.name}: missing",
    ]


def test_a_shard_that_was_cut_is_unreadable(version: Path) -> None:
    content = (version / TEST_SHARD).read_bytes()
    (version / TEST_SHARD).write_bytes(content[: len(content) // 2])

    (problem,) = problems(version)
    assert problem.startswith(f"{TEST_SHARD}: corrupt: ")
    assert "not a readable shard" in problem


def test_the_same_rows_in_other_bytes_are_container_drift_not_damage(version: Path) -> None:
    table = open_shard(version / TEST_SHARD).read()
    pq.write_table(table, version / TEST_SHARD, compression="zstd")

    assert problems(version) == [f"{TEST_SHARD}: container drift: other bytes, same content"]


def test_swapped_rows_are_corruption(version: Path) -> None:
    table = open_shard(version / TEST_SHARD).read()
    swapped = pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)])
    pq.write_table(swapped, version / TEST_SHARD)

    first, second = table["id"].to_pylist()[:2]
    assert problems(version) == [f"{TEST_SHARD}: corrupt: clip {first}: follows {second}, ids must ascend"]


def test_a_changed_column_that_no_digest_covers_is_found_against_the_clip_rows(version: Path) -> None:
    table = open_shard(version / TEST_SHARD).read()
    licenses = ["CC0-1.0", *table.column("license").to_pylist()[1:]]
    changed = table.set_column(table.schema.get_field_index("license"), "license", pa.array(licenses))
    pq.write_table(changed.cast(table.schema), version / TEST_SHARD)
    first = table.column("id")[0].as_py()

    assert problems(version) == [f"{TEST_SHARD}: corrupt: the row of {first}: license of clip row and shard differ"]


def test_a_shard_without_a_row_names_the_clip_that_is_missing(version: Path) -> None:
    table = open_shard(version / TEST_SHARD).read()
    pq.write_table(table.slice(1), version / TEST_SHARD)
    first = table.column("id")[0].as_py()

    assert problems(version) == [
        f"{TEST_SHARD}: corrupt: it has {table.num_rows - 1} rows, the manifest says {table.num_rows}",
        f"{TEST_SHARD}: corrupt: the row of {first} is missing",
    ]


# --- manifest.json


def test_an_edited_manifest_is_told_from_the_name_of_its_folder(version: Path) -> None:
    edit_manifest(version, lambda content: content["tools"].update(numpy="1.0.0"))

    (problem,) = problems(version)
    assert problem.startswith("manifest/manifest.json: corrupt: its sha256 begins with ")
    assert f"its folder is {version.name}; nothing else was checked" in problem


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda content: content.update(root_digest="0" * 64),
            ["inconsistent: root_digest is not that of the clip rows"],
        ),
        (
            lambda content: content.update(split_digest="0" * 64),
            ["inconsistent: split_digest is not that of the clip rows"],
        ),
        (
            lambda content: content["counts"]["present"]["test"].update(cello=9),
            ["inconsistent: counts are not those of the clip rows"],
        ),
        (
            lambda content: content["recipe"].update(seed=7),
            ["inconsistent: recipe_sha256 is not the digest of its recipe"],
        ),
    ],
    ids=["root digest", "split digest", "counts", "recipe"],
)  # fmt: skip
def test_a_manifest_whose_folder_has_no_version_name_must_agree_with_itself(version, change, expected) -> None:
    version = version.rename(version.with_name("copy"))
    edit_manifest(version, change)

    assert problems(version) == [f"manifest/manifest.json: {problem}" for problem in expected]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda raw: b"\xef\xbb\xbf" + raw, "manifest/manifest.json: corrupt: "),
        (lambda raw: raw[:-1] + b"\r\n", "manifest/manifest.json: tampered: not canonical JSON: it ends lines"),
        (lambda raw: raw.replace(b'":', b'": ', 1), "manifest/manifest.json: tampered: not canonical JSON: keys"),
        (lambda raw: raw[:-9], "manifest/manifest.json: corrupt: "),
        (lambda raw: raw.replace(b'"schema_version":2', b'"schema_version":3'), "manifest/manifest.json: corrupt: "),
    ],
    ids=["BOM", "CR LF", "spaces", "cut", "schema version"],
)  # fmt: skip
def test_the_form_of_manifest_json_is_checked(version, change, expected, capsys) -> None:
    version = version.rename(version.with_name("copy"))
    manifest_path(version).write_bytes(change(manifest_path(version).read_bytes()))

    assert main([str(version)]) == 3
    assert capsys.readouterr().out.startswith(expected)


def test_a_manifest_without_its_dataset_is_checked_by_itself(version: Path, tmp_path: Path, capsys) -> None:
    published = tmp_path / "published"
    (version / "manifest").rename(published)

    assert verify(open_manifest(published)) == []
    assert main([str(published / "manifest.json")]) == 0
    assert version.name in capsys.readouterr().out
    bucket = min(published.glob("clips/*"))
    bucket.unlink()
    assert verify(open_manifest(published)) == [Finding(f"manifest/clips/{bucket.name}", 0, "missing")]


# --- the command


def test_json_has_one_object_per_finding(version: Path, capsys) -> None:
    (version / TEST_SHARD).unlink()

    assert main([str(version), "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {
        "version": version.name,
        "sound": False,
        "findings": [{"path": TEST_SHARD, "line": None, "kind": "missing", "detail": ""}],
    }


def test_a_folder_without_a_dataset_is_a_usage_error(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no dataset here" in capsys.readouterr().err
