from dataclasses import replace

import numpy as np
import pytest
import torch

from tutti.train.clips import Clips
from tutti.train.reading.order import Reading, epoch_draws
from tutti.train.reading.resident import _indexed, gather

READING = Reading(length=5, batch_size=4)


def numbered(*sizes: int) -> Clips:
    """Sample t of clip n is 100 n + t; presence is known of every other clip only."""
    lengths = torch.tensor(sizes)
    presence = [[1, 0] if clip % 2 else [-1, -1] for clip in range(len(sizes))]
    return Clips(
        values=torch.cat([100 * clip + torch.arange(size) for clip, size in enumerate(sizes)]).short(),
        starts=lengths.cumsum(0) - lengths,
        lengths=lengths,
        presence=torch.tensor(presence, dtype=torch.int8),
        groups=tuple(f"song {clip}" for clip in range(len(sizes))),
        unit="samples",
        gains=torch.ones(len(sizes)),
    )


def epoch(clips: Clips, reading: Reading = READING, number: int = 0, start_step: int = 0) -> list[list[list[int]]]:
    """Windows of each step, as 16-bit samples."""
    draws = epoch_draws(reading, number, clips.lengths.numpy(), np.arange(len(clips)))
    batches = clips.batches(draws, reading.length, start_step=start_step)
    return [(window * 32768).int().tolist() for _, window in batches]


def gathered(clips: Clips, numbers: list[int], first: list[int], length: int, last: str) -> list[list[float]]:
    window = clips.windows(torch.tensor(numbers), torch.tensor(first), length, last)
    assert window.dtype == torch.float32
    return (window * 32768).tolist()


def test_a_window_past_the_end_repeats_its_clip_from_the_start() -> None:
    assert gathered(numbered(3, 10), [0, 1], [0, 8], 7, "repeat") == [
        [0, 1, 2, 0, 1, 2, 0],
        [108, 109, 100, 101, 102, 103, 104],
    ]


def test_a_window_past_the_end_can_be_filled_with_zeros() -> None:
    assert gathered(numbered(3, 10), [0, 1, 1], [1, 8, 10], 4, "zero") == [[1, 2, 0, 0], [108, 109, 0, 0], [0, 0, 0, 0]]


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
    clips = replace(numbered(2), values=torch.tensor([-32768, 16384], dtype=torch.int16))
    first, start = torch.tensor([0]), torch.tensor([0])
    assert clips.windows(first, start, 2).tolist() == [[-1.0, 0.5]]
    assert replace(clips, gains=torch.tensor([10.0])).windows(first, start, 2).tolist() == [[-10.0, 5.0]]


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    clips = numbered(*[20] * 10)
    assert epoch(clips, number=2) == epoch(clips, number=2)
    assert epoch(clips, number=2) != epoch(clips, number=3)
    assert epoch(clips, number=2) != epoch(clips, replace(READING, seed=1), number=2)


def test_an_epoch_holds_one_window_of_every_clip_in_nearly_equal_steps() -> None:
    clips = numbered(*[20] * 9)
    draws = epoch_draws(READING, 0, clips.lengths.numpy(), np.arange(9))
    batches = list(clips.batches(draws, 5))
    assert [len(clips_B) for clips_B, _ in batches] == [3, 3, 3]
    assert draws.num_steps == 3
    rows = [(row, clip) for clips_B, window in batches for row, clip in zip(window, clips_B.tolist(), strict=True)]
    assert sorted(clip for _, clip in rows) == list(range(9))
    for row, clip in rows:
        samples = (row * 32768).int().tolist()
        assert samples == list(range(samples[0], samples[0] + 5))
        assert samples[0] // 100 == clip


def test_the_first_steps_are_the_longer_ones() -> None:
    assert [len(batch) for batch in epoch(numbered(*[20] * 11))] == [4, 4, 3]


def test_windows_reach_both_ends_of_their_clips() -> None:
    clips = numbered(8, 8, 8, 8)
    starts = {row[0] % 100 for number in range(40) for batch in epoch(clips, number=number) for row in batch}
    assert starts == {0, 1, 2, 3}


def test_without_random_windows_every_one_is_the_start_of_its_clip() -> None:
    rows = [
        row for batch in epoch(numbered(4, 4, 4), replace(READING, length=2, random_windows=False)) for row in batch
    ]
    assert sorted(rows) == [[0, 1], [100, 101], [200, 201]]


def test_an_epoch_can_begin_at_any_step() -> None:
    clips = numbered(*[20] * 22)
    whole = epoch(clips)
    assert len(whole) == 6
    for step in range(7):
        assert epoch(clips, start_step=step) == whole[step:]


def test_only_chosen_clips_are_read() -> None:
    draws = epoch_draws(READING, 0, np.full(9, 20), np.array([1, 3, 8]))
    assert sorted(draws.clips.tolist()) == [1, 3, 8]


def test_with_weights_clips_are_drawn_with_replacement_among_the_chosen() -> None:
    draws = epoch_draws(READING, 0, np.full(9, 20), np.array([2, 5, 7]), weights=np.array([0.0, 1.0, 0.0]))
    assert draws.clips.tolist() == [5, 5, 5]
    assert len(set(draws.first.tolist())) > 1  # each draw has a window of its own


@pytest.mark.parametrize(
    ("values", "message"),
    [({"batch_size": 0}, "at least 1, got 5 and 0"), ({"length": 0}, "at least 1, got 0 and 4")],
)
def test_a_reading_of_nothing_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(READING, **values)  # type: ignore[arg-type]
