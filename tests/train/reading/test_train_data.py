import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import signals
import torch
from dataset_fixture import INSTRUMENTS, SAMPLE_RATE, Example, reseal, write_dataset
from materials import read_split
from numpy.typing import NDArray

from tutti.datasets.audio import to_int16
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import manifest_path, read_manifest
from tutti.train.data import frames_of
from tutti.train.features import LogMel, LogMelConfig
from tutti.train.reading.resident import linear

CPU = torch.device("cpu")


def tone(duration_s: float, frequency_hz: float = 440.0, amplitude: float = 0.2) -> NDArray[np.int16]:
    return to_int16(
        signals.sine(duration_s, frequency_hz=frequency_hz, amplitude=amplitude, sample_rate=SAMPLE_RATE)[0]
    )


def three_clips() -> list[Example]:
    return [
        Example("fixture/a@0", "train", tone(0.5), {"cello": 1, "voice": 0}),
        Example("fixture/b@0", "train", tone(0.25, 880.0), {}, loudness_lufs=None),
        Example("fixture/c@0", "train", tone(1.0), dict.fromkeys(INSTRUMENTS, 0), loudness_lufs=-15.5, gain_db=3.0),
    ]


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_a_split_is_read_back_sample_for_sample_with_its_labels(tmp_path: Path, audio_format: str) -> None:
    examples = three_clips()
    write_dataset(tmp_path, examples, rows_per_shard=2, audio_format=audio_format)
    split = read_split(read_manifest(tmp_path), "train")
    assert split.table.ids == ("fixture/a@0", "fixture/b@0", "fixture/c@0")
    assert split.table.sample_rate == 16_000
    assert split.samples.dtype == np.int16
    for index, example in enumerate(examples):
        assert np.array_equal(split.clip(index), example.samples)
    assert split.table.presence.tolist() == [[1, -1, -1, 0], [-1, -1, -1, -1], [0, 0, 0, 0]]


def test_what_the_true_peak_guard_held_back_is_applied_in_float(tmp_path: Path) -> None:
    write_dataset(tmp_path, three_clips())
    split = read_split(read_manifest(tmp_path), "train")
    # At the target; loudness unknown; 3.5 dB short of -12 LUFS.
    assert split.table.remaining_gain_db(-12.0, max_gain_db=30.0).tolist() == [0.0, 0.0, 3.5]
    assert split.table.remaining_gain_db(-12.0, max_gain_db=5.0).tolist() == [0.0, 0.0, 2.0]  # 3 dB are used up
    assert split.table.remaining_gain_db(-20.0, max_gain_db=30.0).tolist() == [0.0, 0.0, 0.0]  # never turned down

    config = LogMelConfig()
    lengths = np.array([config.num_frames(size) for size in np.diff(split.table.offsets).tolist()])
    gains = torch.from_numpy(linear(split.table.remaining_gain_db(-12.0, max_gain_db=30.0)))
    frames = frames_of(split, LogMel(config), lengths, gains, config.n_mels, CPU)
    alone = LogMel(config)(torch.from_numpy(split.clip(2)[None].astype(np.float32) / 32768))[0]
    louder = frames[lengths[:2].sum() :].float() - alone
    assert torch.allclose(louder[alone > -60], torch.tensor(3.5), atol=0.1)  # float16


def test_only_the_shards_that_the_manifest_lists_are_read(tmp_path: Path) -> None:
    write_dataset(tmp_path, three_clips(), rows_per_shard=1)
    path = manifest_path(tmp_path)
    content = json.loads(path.read_text())
    other = tmp_path / "data" / "train-00003-of-00004.parquet"
    other.write_bytes((tmp_path / content["shards"][0]["path"]).read_bytes())
    assert read_split(read_manifest(tmp_path), "train").table.ids == ("fixture/a@0", "fixture/b@0", "fixture/c@0")


def test_a_split_that_the_dataset_lacks_is_named_with_those_it_has(tmp_path: Path) -> None:
    write_dataset(tmp_path, three_clips())
    with pytest.raises(UsageError, match=r"no split 'validation'; it has train"):
        read_split(read_manifest(tmp_path), "validation")


def test_a_shard_without_rows_is_an_empty_split(tmp_path: Path) -> None:
    write_dataset(tmp_path, three_clips())
    write_empty_shard(tmp_path)
    split = read_split(read_manifest(tmp_path), "validation")
    assert (len(split.table), split.table.presence.shape) == (0, (0, 4))


def write_empty_shard(folder: Path) -> None:
    path = manifest_path(folder)
    content = json.loads(path.read_text())
    other = write_dataset(folder / "other", [replace(three_clips()[0], split="validation")])
    shard = other / "data" / "validation-00000-of-00001.parquet"
    pq.write_table(pq.read_table(shard).slice(0, 0), folder / "data" / shard.name)
    content["shards"].append(
        {
            "path": f"data/{shard.name}",
            "split": "validation",
            "num_rows": 0,
            "num_bytes": 0,
            "sha256": "",
            "content_sha256": "0" * 64,
        }
    )
    path.write_text(json.dumps(content))
    reseal(folder)


def test_samples_that_differ_from_their_digest_are_refused_by_shard_and_clip(tmp_path: Path) -> None:
    write_dataset(tmp_path, three_clips(), audio_format="wav")
    shard = tmp_path / "data" / "train-00000-of-00001.parquet"
    content = bytearray(shard.read_bytes())
    position = bytes(content).find(three_clips()[2].samples.tobytes())
    content[position + 1000] ^= 1
    shard.write_bytes(content)
    reseal(tmp_path)
    with pytest.raises(IntegrityError, match=r"train-00000-of-00001\.parquet: clip fixture/c@0: its audio is not what"):
        read_split(read_manifest(tmp_path), "train")


def test_a_shard_with_another_row_count_than_the_manifest_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, three_clips())
    path = manifest_path(tmp_path)
    content = json.loads(path.read_text())
    content["shards"][0]["num_rows"] = content["counts"]["splits"]["train"] = content["counts"]["kept"] = 4
    path.write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match=r"train-00000.*: 3 rows, the manifest says 4"):
        read_split(read_manifest(tmp_path), "train")


def test_a_missing_shard_is_an_integrity_error_that_names_it(tmp_path: Path) -> None:
    write_dataset(tmp_path, three_clips())
    (tmp_path / "data" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(IntegrityError, match=r"train-00000-of-00001\.parquet: missing"):
        read_split(read_manifest(tmp_path), "train")


def test_shards_of_other_classes_than_the_manifest_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, three_clips())
    path = manifest_path(tmp_path)
    path.write_text(path.read_text().replace('"cello"', '"banjo"'))
    with pytest.raises(IntegrityError, match=r"labels \['cello'.*the manifest \['banjo'"):
        read_split(read_manifest(tmp_path), "train")


def rewrite(folder: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """Change a column of the only shard."""
    path = folder / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    position = table.schema.get_field_index(column)
    changed = pa.array(change(table[column].to_pylist()), table.schema.field(column).type)
    pq.write_table(table.set_column(position, table.schema.field(column), changed), path)
    reseal(folder)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("presence", lambda rows: [rows[0], [1, 2, 0, -3], rows[2]], r"b@0: presence \[-3, 2\], expected 1, 0 or -1"),
        ("num_samples", lambda rows: [rows[0], rows[1], 0], "c@0: holds no samples"),
        (
            "num_samples",
            lambda rows: [rows[0], rows[1] + 1, rows[2]],
            r"b@0: audio .* its row says 4001 samples",
        ),
        ("sample_rate", lambda rows: [rows[0], 8_000, rows[2]], r"split 'train' mixes sample rates \[8000, 16000\]"),
        ("sample_rate", lambda rows: [8_000] * 3, r"a@0: audio of shape .* at 16000 Hz, its row says .* at 8000 Hz"),
        ("audio", lambda rows: [{"bytes": None, "path": ""}, *rows[1:]], "a@0: audio cannot be decoded"),
    ],
)
def test_rows_that_contradict_their_audio_or_each_other_are_refused_by_name(
    tmp_path: Path, column: str, change: Callable[[list[Any]], list[Any]], message: str
) -> None:
    write_dataset(tmp_path, three_clips())
    rewrite(tmp_path, column, change)
    with pytest.raises(IntegrityError, match=message):
        read_split(read_manifest(tmp_path), "train")


def test_clips_of_one_length_share_a_batch_and_stay_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [4_000, 8_000, 4_000, 8_000, 4_000]
    clips = [rng.integers(-3_000, 3_000, size).astype(np.int16) for size in sizes]
    examples = [Example(f"fixture/{name}@0", "train", clip, {}) for name, clip in zip("abcde", clips, strict=True)]
    audio = read_split(read_manifest(write_dataset(tmp_path, examples)), "train")
    front_end = LogMel(LogMelConfig(hop_length=160))
    lengths = np.array([25, 50, 25, 50, 0])  # the last one is never drawn
    frames = frames_of(audio, front_end, lengths, torch.ones(5), 64, CPU)
    assert frames.shape == (150, 64)
    for clip, start in zip(clips, [0, 25, 75, 100], strict=False):
        expected = front_end(torch.from_numpy(clip[None].astype(np.float32) / 32768))[0]
        found = frames[start : start + len(expected)].float()
        assert torch.allclose(found, expected, atol=0.04)  # float16
