"""What verify finds: exactly what is wrong with a built dataset."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.manifest import read_manifest, version_folder
from datasets.shard import open_shard
from pipelines.verify import main, verify

TEST_SHARD = "data/test-00000-of-00001.parquet"


@pytest.fixture
def version(sample_build: Path, tmp_path: Path) -> Path:
    return shutil.copytree(version_folder(sample_build), tmp_path / "version")


def problems(version: Path) -> list[str]:
    return list(verify(read_manifest(version)))


def test_a_fresh_build_has_no_problems(version: Path) -> None:
    assert problems(version) == []
    assert main([str(version)]) == 0


def test_a_flipped_bit_in_the_audio_is_corruption_and_exit_code_3(version: Path) -> None:
    content = bytearray((version / TEST_SHARD).read_bytes())
    content[content.index(b"fLaC") + 20_000] ^= 1
    (version / TEST_SHARD).write_bytes(content)
    (problem,) = problems(version)
    assert problem.startswith(f"{TEST_SHARD}: corrupt: ")
    assert main([str(version)]) == 3


def test_a_missing_shard_is_named(version: Path) -> None:
    (version / TEST_SHARD).unlink()
    assert problems(version) == [f"{TEST_SHARD}: missing"]


def test_a_stray_file_is_named(version: Path) -> None:
    (version / "data" / "more.parquet").write_bytes(b"")
    assert problems(version) == ["data/more.parquet: stray: the manifest does not list it"]


def test_an_edited_label_breaks_the_file_digest_and_the_root_digest(version: Path) -> None:
    path = next(p for p in sorted(version.glob("manifest/clips/*")) if b'[1,null,"human"]' in p.read_bytes())
    path.write_bytes(path.read_bytes().replace(b'[1,null,"human"]', b'[0,null,"human"]', 1))
    assert problems(version) == [
        f"manifest/clips/{path.name}: corrupt: its sha256 is not the manifest's",
        "manifest/clips: their root digest is not the manifest's",
    ]


def test_a_cut_clip_row_names_its_line(version: Path) -> None:
    path = min(version.glob("manifest/clips/*"))
    path.write_bytes(path.read_bytes()[:-10])
    found = problems(version)
    assert any(f"{path}:" in problem and "not a JSON line" in problem for problem in found)


def test_the_same_rows_in_other_bytes_are_container_drift_not_damage(version: Path) -> None:
    table = open_shard(version / TEST_SHARD).read()
    pq.write_table(table, version / TEST_SHARD, compression="zstd")
    assert problems(version) == [f"{TEST_SHARD}: container drift: other bytes, same content"]


def test_swapped_rows_are_corruption(version: Path) -> None:
    table = open_shard(version / TEST_SHARD).read()
    swapped = pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)])
    pq.write_table(swapped, version / TEST_SHARD)
    assert problems(version) == [f"{TEST_SHARD}: corrupt: other rows"]


def test_checking_upstream_files_says_that_it_is_not_built_yet(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(version), "--level", "sources"]) == 2
    assert "not built yet" in capsys.readouterr().err
