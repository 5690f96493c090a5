"""Bad input: every error names the item and the remedy, has its exit code, and leaves nothing visible."""

import json
from pathlib import Path

import pytest
from mirrors import AUDIOSET_EVAL, IRMAS_TEST1, IRMAS_TRAIN, OPENMIC, copy_mirror, replace_file, retar, rezip

from tutti.datasets.manifest import read_manifest
from tutti.pipelines.build.__main__ import main


@pytest.fixture
def mirror(sample_mirror: Path, tmp_path: Path) -> Path:
    return copy_mirror(sample_mirror, tmp_path / "mirror")


@pytest.fixture
def build(tmp_path: Path, mirror: Path, capsys: pytest.CaptureFixture[str]):
    """Runs the command on the mirror; answers (exit code, stderr)."""

    def run(*arguments: str) -> tuple[int, str]:
        places = ("--mirror", str(mirror), "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
        code = main([*arguments, *places])
        assert code == 0 or not (tmp_path / "out" / "current").exists()
        assert code == 0 or not (tmp_path / "out" / ".building").exists()
        return code, capsys.readouterr().err

    return run


def test_an_unknown_dataset_is_a_usage_error_that_names_the_nearest(build) -> None:
    assert build("--dataset", "ultimat")[0] == 2
    assert "unknown dataset 'ultimat' (did you mean 'ultimate'?)" in build("--dataset", "ultimat")[1]


def test_an_unknown_flag_is_a_usage_error_that_names_the_nearest(build) -> None:
    code, error = build("--dataset", "irmas", "--mirorr", "x")
    assert (code, "unknown flag --mirorr (did you mean '--mirror'?)" in error) == (2, True)


def test_an_unknown_beam_flag_is_a_usage_error_too(build) -> None:
    code, error = build("--dataset", "irmas", "--direct_num_worker=2")
    assert (code, "did you mean '--direct_num_workers'?" in error) == (2, True)


def test_a_missing_archive_names_the_path_where_it_was_looked_for(build, mirror: Path) -> None:
    (mirror / IRMAS_TRAIN).unlink()
    code, error = build("--dataset", "irmas")
    assert (code, f"the mirror lacks {IRMAS_TRAIN}" in error) == (2, True)


def test_a_wrong_checksum_is_an_integrity_error_and_does_not_poison_the_cache(
    build, mirror: Path, sample_mirror: Path
) -> None:
    good = (sample_mirror / IRMAS_TEST1).read_bytes()
    replace_file(mirror, IRMAS_TEST1, good[:-1] + bytes([good[-1] ^ 1]), list_it=False)
    code, error = build("--dataset", "irmas")
    assert (code, "IRMAS-TestingData-Part1.zip: sha256 is" in error) == (3, True)
    replace_file(mirror, IRMAS_TEST1, good)
    assert build("--dataset", "irmas")[0] == 0


def test_an_unreadable_zip_is_an_integrity_error(build, mirror: Path) -> None:
    replace_file(mirror, IRMAS_TEST1, b"PK\x03\x04 this is no zip")
    code, error = build("--dataset", "irmas")
    assert (code, "IRMAS-TestingData-Part1.zip: not a readable zip" in error) == (3, True)


def test_a_truncated_tgz_is_an_integrity_error(build, mirror: Path) -> None:
    replace_file(mirror, OPENMIC, (mirror / OPENMIC).read_bytes()[:100_000])
    code, error = build("--dataset", "openmic2018")
    assert (code, "openmic-2018-v1.0.0.tgz: not a readable .tgz" in error) == (3, True)


def test_a_damaged_row_of_a_segment_list_names_file_and_line(build, mirror: Path) -> None:
    lines = (mirror / AUDIOSET_EVAL).read_text().splitlines()
    lines[4] = lines[4].replace(", ", " ", 1)
    replace_file(mirror, AUDIOSET_EVAL, "\n".join(lines).encode())
    code, error = build("--dataset", "audioset")
    assert (code, "eval_segments.csv:5:" in error) == (3, True)


def test_an_unknown_label_code_names_the_annotation_and_line(build, mirror: Path) -> None:
    def spoil(name: str, data: bytes) -> bytes:
        return b"xyl\t\n" if name.endswith("-3.txt") else data

    replace_file(mirror, IRMAS_TEST1, rezip((mirror / IRMAS_TEST1).read_bytes(), spoil))
    code, error = build("--dataset", "irmas")
    assert (code, "-3.txt:1: unknown instrument 'xyl'" in error) == (3, True)


def test_a_damaged_openmic_label_row_names_file_and_line(build, mirror: Path) -> None:
    def spoil(name: str, data: bytes) -> bytes:
        return data + b"000000_0,piano,maybe,3\n" if name.endswith("aggregated-labels.csv") else data

    replace_file(mirror, OPENMIC, retar((mirror / OPENMIC).read_bytes(), spoil))
    code, error = build("--dataset", "openmic2018")
    assert (code, "openmic-2018-aggregated-labels.csv:" in error) == (3, True)


def test_a_source_that_keeps_no_clip_fails_with_exit_code_5(build, mirror: Path) -> None:
    for video in (mirror / "www.youtube.com" / "watch").iterdir():
        video.unlink()
    code, error = build("--dataset", "audioset")
    assert (code, "audioset: no clip was kept; reasons: {'not_in_mirror':" in error) == (5, True)


def test_an_output_that_cannot_be_written_fails_with_exit_code_74(
    sample_mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    code = main(["--dataset", "irmas", "--mirror", str(sample_mirror), "--output", str(tmp_path / "file" / "out")])
    assert (code, "cannot write to" in capsys.readouterr().err) == (74, True)


def test_a_failed_build_leaves_the_earlier_version_in_place(build, mirror: Path, tmp_path: Path) -> None:
    assert build("--dataset", "irmas")[0] == 0
    before = read_manifest(tmp_path / "out").version
    replace_file(mirror, IRMAS_TEST1, b"PK\x03\x04 this is no zip")
    places = ("--mirror", str(mirror), "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    assert main(["--dataset", "irmas", *places]) == 3
    assert read_manifest(tmp_path / "out").version == before


def test_the_summary_is_one_json_object_on_stdout(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ("--mirror", str(mirror), "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    assert main(["--dataset", "irmas", "--limit", "12", *places]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary.keys() == {
        "dataset", "version", "root_digest", "output", "changed", "clips", "splits", "sources", "seconds", "work",
    }  # fmt: skip
    assert summary["clips"]["kept"] + sum(summary["clips"]["rejected"].values()) == 12
    assert main(["--dataset", "irmas", "--limit", "12", *places]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["changed"], again["version"]) == (False, summary["version"])
