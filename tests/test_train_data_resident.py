from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.errors import UsageError
from train.data import AudioSplit
from train.reading.order import AudioBatch, Reading
from train.reading.resident import ResidentReader, _indexed, gather

READING = Reading(window_samples=5, batch_size=4)


def numbered(*sizes: int) -> AudioSplit:
    """Sample t of clip n is 100 n + t; presence is known of every other clip only."""
    count = len(sizes)
    presence = np.array([[1, 0] if clip % 2 else [-1, -1] for clip in range(count)], np.int8).reshape(count, 2)
    return AudioSplit(
        ids=tuple(f"clip {clip}" for clip in range(count)),
        sample_rate=16_000,
        samples=np.concatenate([100 * clip + np.arange(size) for clip, size in enumerate(sizes)]).astype(np.int16),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        presence=presence,
        loudness_lufs=np.full(count, -12, np.float32),
        gain_db=np.zeros(count, np.float32),
    )


def pcm(batch: AudioBatch) -> list[list[int]]:
    return (batch.waveform * 32768).int().tolist()


def epoch(split: AudioSplit, reading: Reading = READING, number: int = 0, start_step: int = 0) -> list[list[list[int]]]:
    return [pcm(batch) for batch in ResidentReader(split, reading).batches(number, start_step)]


def gathered(split: AudioSplit, clips: list[int], first: list[int], length: int, fill: str) -> list[list[float]]:
    samples, offsets = torch.from_numpy(split.samples), torch.from_numpy(split.offsets)
    window = gather(samples, offsets, torch.tensor(clips), torch.tensor(first), length, fill=fill)  # type: ignore[arg-type]
    assert window.dtype == torch.float32
    return (window * 32768).tolist()


def test_a_window_past_the_end_repeats_its_clip_from_the_start() -> None:
    split = numbered(3, 10)
    assert gathered(split, [0, 1], [0, 8], 7, "repeat") == [
        [0, 1, 2, 0, 1, 2, 0],
        [108, 109, 100, 101, 102, 103, 104],
    ]


def test_a_window_past_the_end_can_be_filled_with_zeros() -> None:
    split = numbered(3, 10)
    assert gathered(split, [0, 1, 1], [1, 8, 10], 4, "zero") == [[1, 2, 0, 0], [108, 109, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("fill", ["repeat", "zero"])
def test_the_gather_of_a_device_equals_that_of_the_processor_bit_for_bit(fill: str) -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 40, 20)
    samples = torch.from_numpy(rng.integers(-32768, 32768, sizes.sum()).astype(np.int16))
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]))
    clips = torch.from_numpy(rng.integers(0, 20, 64))
    first = torch.from_numpy(rng.integers(0, 60, 64))
    scale = torch.from_numpy(rng.uniform(0.5, 4, 64).astype(np.float32))
    copied = gather(samples, offsets, clips, first, 33, fill=fill, scale_B=scale)  # type: ignore[arg-type]
    indexed = _indexed(samples, offsets, clips, first, 33, fill, scale / 32768)  # type: ignore[arg-type]
    assert torch.equal(copied, indexed)


def test_full_scale_is_one_and_a_gain_is_applied_in_float() -> None:
    split = replace(numbered(2), samples=np.array([-32768, 16384], np.int16))
    reading = Reading(window_samples=2, batch_size=1)
    (plain,) = ResidentReader(split, reading).batches(0)
    assert plain.waveform.tolist() == [[-1.0, 0.5]]
    (louder,) = ResidentReader(split, reading, gain_db=np.array([20.0], np.float32)).batches(0)
    assert louder.waveform.tolist() == [[-10.0, 5.0]]


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    split = numbered(*[20] * 10)
    assert epoch(split, number=2) == epoch(split, number=2)
    assert epoch(split, number=2) != epoch(split, number=3)
    assert epoch(split, number=2) != epoch(split, replace(READING, seed=1), number=2)


def test_an_epoch_holds_one_window_of_every_clip_with_its_labels() -> None:
    reader = ResidentReader(numbered(*[20] * 9), READING)
    batches = list(reader.batches(0))
    assert sorted(len(batch) for batch in batches) == [3, 3, 3]
    assert reader.num_steps() == 3
    rows = [(row, clip, labels) for b in batches for row, clip, labels in zip(pcm(b), b.clips, b.presence, strict=True)]
    assert sorted(int(clip) for _, clip, _ in rows) == list(range(9))
    for row, clip, labels in rows:
        assert row == list(range(row[0], row[0] + 5))
        assert row[0] // 100 == int(clip)
        assert labels.tolist() == ([1, 0] if clip % 2 else [-1, -1])


def test_windows_reach_both_ends_of_their_clips() -> None:
    split = numbered(8, 8, 8, 8)
    starts = {row[0] % 100 for number in range(40) for batch in epoch(split, number=number) for row in batch}
    assert starts == {0, 1, 2, 3}


def test_without_shuffling_and_random_windows_clips_come_in_order_from_their_start() -> None:
    reading = replace(READING, shuffle=False, random_windows=False, window_samples=2)
    assert epoch(numbered(4, 4, 4, 4, 4), reading) == [[[0, 1], [100, 101], [200, 201]], [[300, 301], [400, 401]]]


def test_equal_steps_leave_out_the_rest_of_an_epoch() -> None:
    split = numbered(*[20] * 11)
    assert [len(batch) for batch in epoch(split, replace(READING, drop_rest=True))] == [4, 4]
    assert [len(batch) for batch in epoch(split)] == [4, 4, 3]


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_step_of_one_process(world_size: int) -> None:
    split = numbered(*[20] * 22)
    reading = replace(READING, batch_size=8)
    shares = [epoch(split, replace(reading, rank=rank, world_size=world_size)) for rank in range(world_size)]
    together = [[row for share in step for row in share] for step in zip(*shares, strict=True)]
    assert together == epoch(split, reading)


def test_an_epoch_can_begin_at_any_step() -> None:
    split = numbered(*[20] * 22)
    whole = epoch(split)
    assert len(whole) == 6
    for step in range(7):
        assert epoch(split, start_step=step) == whole[step:]


def test_only_chosen_clips_are_read() -> None:
    batches = list(ResidentReader(numbered(*[20] * 9), READING, clips=np.array([1, 3, 8])).batches(0))
    assert sorted(clip for batch in batches for clip in batch.clips.tolist()) == [1, 3, 8]


def test_with_weights_clips_are_drawn_with_replacement_among_the_chosen() -> None:
    clips = np.array([2, 5, 7])
    reader = ResidentReader(numbered(*[20] * 9), READING, clips=clips, weights=np.array([0.0, 1.0, 0.0]))
    batches = list(reader.batches(0))
    assert [batch.clips.tolist() for batch in batches] == [[5, 5, 5]]
    assert len({row[0] for row in pcm(batches[0])}) > 1  # each draw has a window of its own


def test_a_process_that_would_get_no_clip_is_an_error() -> None:
    with pytest.raises(UsageError, match="9 clips in batches of 3 leave some of 4 processes without one"):
        ResidentReader(numbered(*[20] * 9), Reading(5, batch_size=3, rank=0, world_size=4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "at least 1, got 5 and 0"),
        ({"window_samples": 0}, "at least 1, got 0 and 4"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of 2 processes"),
        ({"fill": "mirror"}, "unknown fill 'mirror'"),
    ],
)
def test_a_reading_that_makes_no_sense_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(READING, **values)  # type: ignore[arg-type]
