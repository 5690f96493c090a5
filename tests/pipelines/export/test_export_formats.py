"""What lies in the exports that pack or unpack clips, byte by byte where it matters."""

import csv
import gzip
import json
import tarfile
from pathlib import Path

import pytest
from conftest import built
from exported import kept, presence, small_shards

from tutti.datasets.audio import decode
from tutti.datasets.csv_cells import plain_cell
from tutti.datasets.manifest import read_manifest, version_folder
from tutti.datasets.shard import read_shard
from tutti.pipelines.export.__main__ import export
from tutti.pipelines.export.formats.csv import label_cells
from tutti.pipelines.export.formats.lhotse import recording_of
from tutti.pipelines.export.selection import audio_path, decimal, facts_of, key_of

ROW = {
    "id": "openmic2018/000046_3840@0",
    "audio": {"bytes": b"fLaC...", "path": "0.flac"},
    "sample_rate": 16_000,
    "num_samples": 160_000,
    "source": "openmic2018",
    "recording": "000046_3840",
    "group": "openmic2018/a, b",
    "start_s": 0.0,
    "end_s": 10.0,
    "presence": [1, -1, 0],
    "confidence": [0.8999999761581421, None, 0.10000000149011612],
    "label_origin": ["crowd", None, "crowd"],
    "quality": 0.5,
    "loudness_lufs": -12.005000114440918,
    "gain_db": 3.4600000381469727,
    "license": "CC0-1.0",
    "audio_sha256": "ab" * 32,
}
KEY = "9cd5970f481c46856b6920d7c2e33e52"


@pytest.fixture(scope="module")
def version(session_folder: Path, sample_mirror: Path) -> Path:
    return small_shards(session_folder, sample_mirror)


# --- names and numbers


def test_a_file_name_is_the_begin_of_the_sha256_of_the_id() -> None:
    assert key_of(ROW) == KEY
    assert audio_path(ROW) == f"audio/{KEY[:2]}/{KEY}.flac"


def test_audio_stored_as_wav_keeps_its_extension() -> None:
    assert audio_path({**ROW, "audio": {"bytes": b"RIFF...."}}) == f"audio/{KEY[:2]}/{KEY}.wav"


@pytest.mark.parametrize(
    ("stored", "written"), [(0.8999999761581421, 0.9), (-12.005000114440918, -12.005), (0.5, 0.5), (None, None)]
)
def test_a_float32_is_written_as_its_shortest_decimal(stored: float | None, written: float | None) -> None:
    assert decimal(stored) == written


def test_facts_of_a_clip_leave_unknown_instruments_out() -> None:
    assert facts_of(ROW, ["cello", "flute", "piano"])["labels"] == {
        "cello": [1, 0.9, "crowd"],
        "piano": [0, 0.1, "crowd"],
    }


def test_a_line_of_labels_csv_has_1_0_or_nothing_per_class() -> None:
    assert label_cells(ROW, "test")[1:] == ["openmic2018/a, b", "test", "CC0-1.0", "1", "", "0"]


def test_a_lhotse_recording_names_its_file_relative_to_the_export() -> None:
    assert recording_of(ROW) == {
        "id": "openmic2018/000046_3840@0",
        "sources": [{"type": "file", "channels": [0], "source": f"audio/{KEY[:2]}/{KEY}.flac"}],
        "sampling_rate": 16_000,
        "num_samples": 160_000,
        "duration": 10.0,
        "channel_ids": [0],
    }


# --- WebDataset


def test_a_tar_holds_pairs_in_the_order_of_the_ids_without_times_or_owners(version: Path, tmp_path: Path) -> None:
    export(version, "webdataset", tmp_path / "out", splits=["train"])

    ids = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for audio, facts in zip(members[::2], members[1::2], strict=True):
                key, extension = audio.name.split(".")
                assert (extension, facts.name) == ("flac", f"{key}.json")
                ids.append(json.load(tar.extractfile(facts))["id"])
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert ids == [row["id"] for row in kept(version) if row["split"] == "train"]


def test_a_tar_holds_as_many_clips_as_a_shard(version: Path, tmp_path: Path) -> None:
    num_train = sum(row["split"] == "train" for row in kept(version))

    export(version, "webdataset", tmp_path / "out", splits=["train"])

    sizes = []
    for path in sorted((tmp_path / "out").glob("train-*.tar")):
        with tarfile.open(path) as tar:
            sizes.append(len(tar.getmembers()) // 2)
    assert sizes == [16] * (num_train // 16) + [num_train % 16]


# --- lhotse


def test_packed_lines_hold_no_time_and_no_name(version: Path, tmp_path: Path) -> None:
    export(version, "lhotse", tmp_path / "out", splits=["test"])

    packed = (tmp_path / "out" / "recordings_test.jsonl.gz").read_bytes()
    assert packed[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"  # RFC 1952: deflate, no flags (no name), mtime 0
    ids = [json.loads(line)["id"] for line in gzip.decompress(packed).splitlines()]
    assert ids == [row["id"] for row in kept(version) if row["split"] == "test"]


# --- CSV


def test_clips_csv_tells_where_each_file_comes_from(version: Path, tmp_path: Path) -> None:
    export(version, "csv", tmp_path / "out")

    with (tmp_path / "out" / "clips.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    found = {row["id"]: (plain_cell(row["recording"]), float(row["start_s"]), row["audio_sha256"]) for row in rows}
    expected = {row["id"]: (row["recording"], row["start_s"], row["audio"]["pcm_sha256"]) for row in kept(version)}
    assert found == expected
    assert "'-krMpWrpfw9" in {row["recording"] for row in rows}  # a video's id, and no formula


@pytest.mark.slow
def test_the_folder_source_builds_a_csv_export_again_to_the_same_labels_splits_and_licences(
    version: Path, tmp_path: Path
) -> None:
    export(version, "csv", tmp_path / "out")
    instruments = read_manifest(version).instruments

    built(
        "--dataset", "folder", "--data-from", str(tmp_path / "out"), "--embedder", "none",
        "--output", str(tmp_path / "again"), "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip

    again = read_manifest(version_folder(tmp_path / "again"))
    paths = {
        audio_path(row): row["id"]
        for info in read_manifest(version).shards()
        for row in read_shard(version / info.path)
    }
    assert again.instruments == sorted(instruments)
    found = {
        paths[row["recording"]]: (row["split"], row["license"], presence(row, instruments), row["group"])
        for row in kept(again.folder)
    }
    assert found == {
        row["id"]: (row["split"], row["license"], presence(row, instruments), f"folder/{row['group']}")
        for row in kept(version)
    }


def test_audio_files_are_those_of_the_shards(version: Path, tmp_path: Path) -> None:
    export(version, "csv", tmp_path / "out", splits=["validation"])

    rows = [row for info in read_manifest(version).shards("validation") for row in read_shard(version / info.path)]
    assert rows
    for row in rows:
        content = (tmp_path / "out" / audio_path(row)).read_bytes()
        assert content == row["audio"]["bytes"]
        assert decode(content, row["id"]).sample_rate == 16_000
    assert len(list((tmp_path / "out" / "audio").glob("*/*"))) == len(rows)
