"""Exports: what may go out, what must not, and that it is whole and the same every time."""

import gc
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from exported import CC_BY, FORMATS, IRMAS, digests, kept, small_shards

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import canonical_json, file_sha256, manifest_path, read_manifest
from tutti.datasets.shard import read_shard
from tutti.pipelines.export.__main__ import export, format_names, main

TRAIN_SHARD = "data/train-00001-of-00005.parquet"


@pytest.fixture(scope="module")
def version(session_folder: Path, sample_mirror: Path) -> Path:
    return small_shards(session_folder, sample_mirror)


@pytest.fixture
def damaged(version: Path, tmp_path: Path) -> Path:
    """A copy of the version, to be damaged."""
    return shutil.copytree(version, tmp_path / "damaged")


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines.export", *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the same every time


def test_every_file_of_the_exports_folder_is_a_format() -> None:
    assert format_names() == list(FORMATS)


def test_a_second_export_elsewhere_has_the_same_bytes_in_every_format(version: Path, tmp_path: Path) -> None:
    for name in FORMATS:
        export(version, name, tmp_path / "first" / name)
    script = (
        "import sys\nfrom pathlib import Path\nfrom tutti.pipelines.export.__main__ import export\n"
        "for name in sys.argv[3:]: export(Path(sys.argv[1]), name, Path(sys.argv[2]) / name)"
    )
    moved = shutil.copytree(version, tmp_path / "elsewhere" / "a version")

    subprocess.run(
        [sys.executable, "-c", script, moved, tmp_path / "second", *FORMATS],
        cwd=ROOT,
        env={**os.environ, "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7", "USER": "somebody"},
        check=True,
    )

    first = digests(tmp_path / "first")
    assert {path.split("/")[0] for path in first} == set(FORMATS)
    assert digests(tmp_path / "second") == first


@pytest.mark.parametrize("name", ["huggingface", "croissant"])
def test_shards_of_an_export_of_everything_are_those_of_the_version(version: Path, tmp_path: Path, name: str) -> None:
    export(version, name, tmp_path / "out")

    assert digests(tmp_path / "out" / "data") == digests(version / "data")


# --- licences and splits


def test_only_allowed_licences_go_out_and_the_rest_is_counted(version: Path, tmp_path: Path) -> None:
    licenses = Counter(row["license"] for row in kept(version))
    out = tmp_path / "out"

    done = command(
        str(version), "--format", "csv", "--output", str(out), "--license_allow", CC_BY, "--license-allow", IRMAS,
        "--json",
    )  # fmt: skip

    summary = json.loads(done.stdout)
    left_out = {name: count for name, count in sorted(licenses.items()) if name not in (CC_BY, IRMAS)}
    assert len(left_out) > 1
    assert done.returncode == 0
    assert summary["clips"] == {"exported": licenses[CC_BY] + licenses[IRMAS], "left_out": left_out}
    assert summary["licenses"] == {IRMAS: licenses[IRMAS], CC_BY: licenses[CC_BY]}
    assert summary["license_allow"] == [IRMAS, CC_BY]
    assert summary == json.loads((out / "export.json").read_text())
    assert done.stderr.splitlines() == [
        f"left out {sum(left_out.values())} clips under other licences:",
        *(f"  {count:>8}  {name}" for name, count in left_out.items()),
    ]
    rows = (out / "labels.csv").read_text().splitlines()[1:]
    assert Counter(row.split(",")[3] for row in rows) == summary["licenses"]


@pytest.mark.parametrize("name", FORMATS)
def test_no_byte_of_a_clip_under_another_licence_is_in_an_export(version: Path, tmp_path: Path, name: str) -> None:
    export(version, name, tmp_path / "out", licenses=[CC_BY])

    files = [path for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()]
    content = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in files
    )
    shards = [row for shard in read_manifest(version).shards() for row in read_shard(version / shard.path)]
    going = [row for row in shards if row["license"] == CC_BY]
    staying = [row for row in shards if row["license"] != CC_BY]
    assert going
    assert all(row["id"].encode() in content and row["audio"]["bytes"] in content for row in going)
    assert not any(row["id"].encode() in content or row["audio"]["bytes"] in content for row in staying)


def test_a_misspelt_licence_lists_those_that_there_are_with_their_clips(version: Path, tmp_path: Path) -> None:
    licenses = Counter(row["license"] for row in kept(version))

    done = command(
        str(version), "--format", "csv", "--output", str(tmp_path / "out"), "--license-allow", "CC-BY-NC-SA-4.0"
    )

    assert done.returncode == 2
    first, *listing = done.stderr.splitlines()
    assert first == (
        "error: --license-allow CC-BY-NC-SA-4.0: no clip has this licence (did you mean 'CC-BY-NC-SA-3.0'?); "
        "this version holds"
    )
    assert listing == [f"  {licenses[name]:>8}  {name}" for name in sorted(licenses)]
    assert names(tmp_path) == []


def test_only_the_splits_asked_for_go_out(version: Path, tmp_path: Path) -> None:
    rows = Counter(row["split"] for row in kept(version))

    summary = export(version, "webdataset", tmp_path / "out", splits=["test", "validation"])

    assert summary["splits"] == {"validation": rows["validation"], "test": rows["test"]}
    assert names(tmp_path / "out") == ["README.md", "export.json", "test-000000.tar", "validation-000000.tar"]


def test_a_choice_without_clips_is_an_error(version: Path, tmp_path: Path) -> None:
    licenses = Counter(row["license"] for row in kept(version) if row["split"] == "validation")
    absent = sorted({row["license"] for row in kept(version)} - set(licenses))[0]

    with pytest.raises(UsageError, match="no clip is left to export; licences in validation: "):
        export(version, "csv", tmp_path / "out", splits=["validation"], licenses=[absent])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "hugingface"], "--format hugingface: unknown (did you mean 'huggingface'?)"),
        (["--format", "csv", "--split", "dev"], "no split 'dev'; it has test, train, validation"),
        (["--format", "csv", "--licence-allow", "x"], "unknown flag --licence-allow (did you mean '--license-allow'?)"),
    ],
)
def test_a_wrong_word_names_the_right_ones(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(version), "--output", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


# --- nothing that cannot be proved


def set_size(version: Path) -> None:
    """Let the manifest say the sizes that the shards have now; another size alone would be refused."""
    content = json.loads(manifest_path(version).read_text())
    for shard in content["shards"]:
        shard["num_bytes"] = (version / shard["path"]).stat().st_size
    manifest_path(version).write_text(canonical_json(content) + "\n")


@pytest.mark.parametrize("name", FORMATS)
def test_a_flipped_bit_in_the_audio_names_the_clip_and_nothing_goes_out(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content = bytearray((damaged / TRAIN_SHARD).read_bytes())
    content[content.index(b"fLaC") + 20_000] ^= 1
    (damaged / TRAIN_SHARD).write_bytes(content)
    first = sorted(row["id"] for row in kept(damaged) if row["split"] == "train")[16]  # first of the second shard

    assert main([str(damaged), "--format", name, "--output", str(tmp_path / "out")]) == 3

    error = capsys.readouterr().err
    assert f"clip {first}: " in error
    assert "run pipelines.verify, then build this version again" in error
    assert names(tmp_path) == ["damaged"]


def test_another_licence_in_a_shard_does_not_go_unnoticed(damaged: Path, tmp_path: Path) -> None:
    table = pq.read_table(damaged / TRAIN_SHARD)
    column = table.schema.get_field_index("license")
    forged = table.set_column(column, table.schema.field(column), pa.array([CC_BY] * len(table)))
    pq.write_table(forged, damaged / TRAIN_SHARD)
    set_size(damaged)

    with pytest.raises(IntegrityError, match=r"was rewritten by another program; run pipelines\.verify"):
        export(damaged, "huggingface", tmp_path / "out", licenses=[CC_BY])

    assert names(tmp_path) == ["damaged"]


def test_audio_under_another_clips_digest_is_refused_even_where_the_manifest_lists_the_shard(
    damaged: Path, tmp_path: Path
) -> None:
    table = pq.read_table(damaged / TRAIN_SHARD)
    audio = table["audio"].combine_chunks().take(pa.array([1, 0, *range(2, len(table))]))
    swapped = table.set_column(table.schema.get_field_index("audio"), table.schema.field("audio"), audio)
    pq.write_table(swapped, damaged / TRAIN_SHARD)
    path = manifest_path(damaged)
    content = json.loads(path.read_text())
    for shard in content["shards"]:
        shard["sha256"] = file_sha256(damaged / shard["path"])
    path.write_text(canonical_json(content) + "\n")
    set_size(damaged)
    first = table["id"][0].as_py()

    with pytest.raises(IntegrityError) as caught:
        export(damaged, "webdataset", tmp_path / "out")

    assert f"clip {first}: its audio is not what its digest says; run pipelines.verify" in str(caught.value)
    assert names(tmp_path) == ["damaged"]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PAR1")])
def test_a_missing_or_cut_shard_is_named(damaged: Path, tmp_path: Path, damage) -> None:
    damage(damaged / TRAIN_SHARD)

    with pytest.raises(IntegrityError, match=re.escape("train-00001-of-00005.parquet")):
        export(damaged, "csv", tmp_path / "out")

    assert names(tmp_path) == ["damaged"]


# --- never a half


def test_a_killed_export_leaves_no_output_and_the_next_one_clears_up(version: Path, tmp_path: Path) -> None:
    arguments = [str(version), "--format", "lhotse", "--output", str(tmp_path / "out")]

    killed = command(*arguments, env={"TUTTI_CRASH_AT": "written:*recordings_test.jsonl.gz"})

    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert len(names(tmp_path)) == 1  # what it had written so far
    assert command(*arguments).returncode == 0
    assert names(tmp_path) == ["out"]


def test_a_full_disk_leaves_nothing_behind(version: Path, tmp_path: Path) -> None:
    done = command(
        str(version), "--format", "webdataset", "--output", str(tmp_path / "out"),
        env={"TUTTI_FAIL_AT": "written:*train-000001.tar"},
    )  # fmt: skip

    assert done.returncode == 74
    assert "free space" in done.stderr
    assert names(tmp_path) == []


def test_a_folder_with_something_in_it_is_never_touched(version: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")

    with pytest.raises(UsageError, match="is there already; remove it or choose another folder"):
        export(version, "csv", tmp_path / "out")

    assert names(tmp_path / "out") == ["mine"]


def test_an_empty_folder_may_be_the_output(version: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    export(version, "huggingface", tmp_path / "out", splits=["test"])

    assert names(tmp_path / "out") == ["README.md", "data", "export.json"]


def test_a_version_is_no_place_for_its_export(damaged: Path) -> None:
    before = digests(damaged)

    with pytest.raises(UsageError, match="lies within the version that is read"):
        export(damaged, "csv", damaged / "csv")

    assert digests(damaged) == before


# --- memory


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_holds_a_few_clips_at_a_time(version: Path, tmp_path: Path, name: str) -> None:
    manifest = read_manifest(version)
    num_bytes = sum(shard.num_bytes for shard in manifest.shards())
    export(version, name, tmp_path / "first", splits=["validation"])  # imports and buffers
    gc.collect()
    tracemalloc.start()
    try:
        export(version, name, tmp_path / "out")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Two row groups of 4 clips of at most 320 kB each, one clip's samples, and small change.
    assert num_bytes > 10e6
    assert peak_bytes < 5e6
