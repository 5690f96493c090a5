"""A built dataset in one screen."""

import json
from pathlib import Path

import pytest
from damage import edit_manifest, sealed_copy

from tutti.datasets.manifest import read_manifest
from tutti.datasets.printable import readable
from tutti.pipelines.info import changed_settings, describe, main, text


def test_every_kept_clip_is_counted_by_source_and_split(sample_build: Path) -> None:
    manifest = read_manifest(sample_build)
    rows = [row for row in manifest.clip_rows() if row["status"] == "kept"]
    info = describe(manifest)

    assert info.kept == len(rows)
    assert {source: sum(splits.values()) for source, splits in info.splits.items()} == {
        source: sum(row["source"] == source for row in rows) for source in ("audioset", "irmas", "openmic2018")
    }
    assert info.splits["irmas"]["test"] == 0
    assert info.present["cello"]["train"] == sum(
        row["split"] == "train" and row["labels"].get("cello", [0])[0] == 1 for row in rows
    )
    assert sum(info.licenses.values()) == len(rows)
    assert info.num_bytes == sum(path.stat().st_size for path in manifest.folder.glob("data/*"))
    assert sum(info.duration_s.values()) == pytest.approx(
        sum(row["audio"]["num_samples"] for row in rows) / 16_000, abs=0.01
    )


def test_reasons_are_listed_by_source(sample_build: Path) -> None:
    info = describe(read_manifest(sample_build))

    assert info.rejected["audioset"]["not_in_mirror"] > 0
    assert info.rejected["irmas"]["silent"] > 0


def test_settings_that_differ_from_the_recipe_are_shown(sample_build: Path) -> None:
    assert describe(read_manifest(sample_build)).changed_settings["embed.embedder"] == ["ast", "none"]


def test_a_recipe_of_an_unknown_name_has_no_defaults_to_differ_from() -> None:
    assert changed_settings({"name": "of_my_own", "seed": 3}) == {}


def test_all_of_it_fits_on_one_screen(sample_build: Path) -> None:
    info = describe(read_manifest(sample_build))
    lines = text(info).splitlines()

    assert len(lines) <= 50
    assert max(map(len, lines)) <= 120
    assert lines[0] == f"ultimate {info.version} (from a mirror)"
    assert f"  root digest {info.root_digest}" in lines
    assert [line.split() for line in lines if line.startswith("  irmas ")] == [
        ["irmas", *(str(info.splits["irmas"][split]) for split in ("train", "validation", "test"))]
    ]
    assert any(line.startswith("  not kept, irmas ") and "silent" in line for line in lines)


def test_the_command_prints_text_or_one_json_object(sample_build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sample_build)]) == 0
    assert capsys.readouterr().out.startswith("ultimate ")
    assert main([str(sample_build), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["irmas"]["test"] == 0


def test_a_manifest_without_its_shards_is_enough(sample_build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sample_build / "current" / "manifest"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == describe(read_manifest(sample_build)).kept


def test_a_manifest_that_lacks_a_field_is_told_by_its_name(
    sample_build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = sealed_copy(sample_build, tmp_path)
    edit_manifest(version, lambda content: content.pop("tools"))

    assert main([str(version)]) == 3
    assert (
        "manifest.json: not a manifest: the object: 'tools' is a required property; restore it from a copy"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(("num_bytes", "words"), [(999, "999 B"), (1_500, "1.5 kB"), (2_500_000_000, "2.5 GB")])
def test_sizes_are_in_powers_of_ten(num_bytes: int, words: str) -> None:
    assert readable(num_bytes) == words
