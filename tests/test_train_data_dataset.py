import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signals
import torch
from dataset_fixture import SAMPLE_RATE, Example, write_dataset
from torch.utils.data import DataLoader

from datasets.audio import to_int16
from datasets.errors import UsageError
from datasets.manifest import read_manifest
from train.data import AudioSplit
from train.reading.dataset import ClipDataset, EpochBatches
from train.reading.hot_copy import hot_copy
from train.reading.order import Reading
from train.reading.resident import ResidentReader

READING = Reading(window_samples=1_000, batch_size=4)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> AudioSplit:
    """Ten clips of 800 to 1,700 samples."""
    folder = tmp_path_factory.mktemp("clips")
    examples = []
    for n in range(10):
        waveform = signals.noise((800 + 100 * n) / SAMPLE_RATE, sample_rate=SAMPLE_RATE, seed=n)
        examples.append(Example(f"fixture/{n}@0", "train", to_int16(waveform[0]), {"flute": n % 2}))
    return hot_copy(read_manifest(write_dataset(folder / "data", examples)), "train", folder / "cache")


def test_an_item_is_a_window_with_its_labels_and_id(split: AudioSplit) -> None:
    item = ClipDataset(split, 1_000)[3]
    assert item["id"] == "fixture/3@0"
    assert item["presence"].tolist() == [-1, 1, -1, -1]
    assert (item["presence"].dtype, item["waveform"].dtype) == (torch.int8, torch.float32)
    assert item["waveform"].tolist() == (split.clip(3)[:1_000] / 32768).tolist()


def test_a_pair_names_a_clip_and_where_in_it_to_begin(split: AudioSplit) -> None:
    item = ClipDataset(split, 1_000)[(5, 300)]
    assert item["waveform"].tolist() == (split.clip(5)[300:1_300] / 32768).tolist()


def test_a_short_clip_is_repeated_or_followed_by_silence(split: AudioSplit) -> None:
    clip = (split.clip(0) / 32768).tolist()
    assert len(clip) == 800
    assert ClipDataset(split, 1_000)[0]["waveform"].tolist() == clip + clip[:200]
    assert ClipDataset(split, 1_000, fill="zero")[0]["waveform"].tolist() == clip + [0.0] * 200


def test_without_a_window_clips_are_whole(split: AudioSplit) -> None:
    dataset = ClipDataset(split)
    assert [len(dataset[n]["waveform"]) for n in range(len(dataset))] == list(range(800, 1_701, 100))


def test_a_gain_is_applied_in_float(split: AudioSplit) -> None:
    gain_db = np.array([20.0] + [0.0] * 9, np.float32)
    dataset = ClipDataset(split, gain_db=gain_db)
    assert torch.allclose(dataset[0]["waveform"], torch.from_numpy(split.clip(0) / 3276.8).float())
    assert torch.equal(dataset[1]["waveform"], torch.from_numpy(split.clip(1) / 32768).float())


def test_an_index_beyond_the_split_ends_an_iteration_as_python_does(split: AudioSplit) -> None:
    assert [item["id"] for item in ClipDataset(split)] == [f"fixture/{n}@0" for n in range(10)]  # type: ignore[attr-defined]
    assert ClipDataset(split)[-1]["id"] == "fixture/9@0"
    with pytest.raises(IndexError, match="clip 10: the split has 10"):
        ClipDataset(split)[10]


def loaded(split: AudioSplit, sampler: EpochBatches, num_workers: int, **options: Any) -> list[dict[str, Any]]:
    return list(DataLoader(ClipDataset(split, 1_000), batch_sampler=sampler, num_workers=num_workers, **options))


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_loader_with_any_number_of_workers_gives_the_batches_of_the_resident_tier(
    split: AudioSplit, num_workers: int
) -> None:
    sampler = EpochBatches(split, READING)
    sampler.set_epoch(2)
    batches = loaded(split, sampler, num_workers)
    expected = list(ResidentReader(split, READING).batches(2))
    assert [len(batch["id"]) for batch in batches] == [4, 3, 3]
    for batch, step in zip(batches, expected, strict=True):
        assert torch.equal(batch["waveform"], step.waveform)
        assert torch.equal(batch["presence"], step.presence)
        assert batch["id"] == [split.ids[clip] for clip in step.clips.tolist()]


def test_workers_that_live_on_read_the_epoch_that_is_set(split: AudioSplit) -> None:
    sampler = EpochBatches(split, READING)
    loader = DataLoader(ClipDataset(split, 1_000), batch_sampler=sampler, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append([name for batch in loader for name in batch["id"]])
    assert epochs[0] == epochs[2]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(split.ids)


def test_a_loader_can_begin_at_any_step(split: AudioSplit) -> None:
    sampler = EpochBatches(split, READING)
    whole = list(sampler)
    sampler.set_epoch(0, start_step=2)
    assert (list(sampler), len(sampler)) == (whole[2:], 1)
    with pytest.raises(UsageError, match="step 4: an epoch has 3"):
        sampler.set_epoch(0, start_step=4)


def test_processes_share_each_step(split: AudioSplit) -> None:
    shares = [EpochBatches(split, replace(READING, rank=rank, world_size=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == list(EpochBatches(split, READING))


def test_any_sampler_of_pytorch_works_too(split: AudioSplit) -> None:
    loader = DataLoader(ClipDataset(split, 1_000), batch_size=5, shuffle=False)
    assert [batch["id"][0] for batch in loader] == ["fixture/0@0", "fixture/5@0"]


def test_a_worker_that_is_not_forked_maps_the_hot_copy_and_gets_no_copy_of_it(split: AudioSplit) -> None:
    dataset = ClipDataset(split, 1_000)
    packed = pickle.dumps(dataset)
    assert len(packed) < 5_000  # the samples take 25,000
    again = pickle.loads(packed)
    assert torch.equal(again[(7, 100)]["waveform"], dataset[(7, 100)]["waveform"])


def test_a_part_of_a_hot_copy_travels_by_value(split: AudioSplit) -> None:
    tail = replace(
        split,
        ids=split.ids[8:],
        samples=split.samples[split.offsets[8] :],
        offsets=split.offsets[8:] - split.offsets[8],
        presence=split.presence[8:],
    )
    again = pickle.loads(pickle.dumps(ClipDataset(tail)))
    assert again[0]["waveform"].tolist() == (split.clip(8) / 32768).tolist()


def test_the_hot_copy_is_where_the_split_says(split: AudioSplit) -> None:
    assert isinstance(split.samples, np.memmap)
    assert Path(str(split.samples.filename)).is_file()
