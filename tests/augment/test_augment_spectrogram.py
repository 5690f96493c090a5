import pytest
import torch
from augmenting import RATE, generator, single_instruments, spectrograms

from tutti.augment.batch import Batch, batch_of
from tutti.augment.transforms.frequency_mask import FrequencyMask
from tutti.augment.transforms.random_erasing import RandomErasing
from tutti.augment.transforms.random_pixel_erasing import RandomPixelErasing


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def counting(rows: int, num_frames: int, num_bins: int) -> Batch:
    """Spectrograms of 1, 2, 3, ...: every point differs, and the minimum is 1."""
    points = torch.arange(1, num_frames * num_bins + 1, dtype=torch.float32)
    return batch_of(points.view(1, num_frames, num_bins).repeat(rows, 1, 1), single_instruments(rows), sample_rate=RATE)


def changed(batch: Batch, result: Batch) -> torch.Tensor:
    """(B, F, M) bool."""
    return batch.signal != result.signal


def test_a_frequency_mask_blacks_out_a_band_from_the_lowest_to_the_highest() -> None:
    batch = counting(4, 3, 8)
    parameters = {"bins": torch.tensor([2, 3, 0, 30]), "place": of(0, 0.999, 0.5, 0.5)}
    result = FrequencyMask(fill=-80.0).apply(batch, parameters)
    bands = changed(batch, result)
    assert [row[0].nonzero()[:, 0].tolist() for row in bands] == [[0, 1], [5, 6, 7], [], [0, 1, 2, 3, 4, 5, 6, 7]]
    assert torch.equal(bands[:, 0], bands[:, 2])  # over the whole length
    assert set(result.signal[bands].tolist()) == {-80.0}


def test_black_is_each_examples_own_minimum() -> None:
    batch = spectrograms(2)
    batch = batch.with_signal(batch.signal * torch.tensor([1.0, 3.0])[:, None, None])
    minimum = batch.signal.amin(dim=(1, 2))
    for transform in (FrequencyMask(min_bins=5), RandomErasing(), RandomPixelErasing(min_share=0.1)):
        result = transform(batch, generator())
        for row, mask in enumerate(changed(batch, result)):
            assert set(result.signal[row][mask].tolist()) == {minimum[row].item()}


def test_masks_have_zero_to_thirty_bins_all_equally_often() -> None:
    bins = FrequencyMask().draw(spectrograms(1).rows(torch.zeros(3_100, dtype=torch.int64)), generator())["bins"]
    assert torch.bincount(bins).tolist() == pytest.approx([100] * 31, abs=40)


def test_an_erased_rectangle_has_its_area_ratio_and_place() -> None:
    batch = counting(3, 100, 64)
    parameters = {
        "area": of(0.05, 0.02, 0.2),
        "ratio": of(2, 1, 1),
        "frame_place": of(0, 0.999, 0.5),
        "band_place": of(0.999, 0, 0.5),
    }
    holes = changed(batch, RandomErasing(fill=0.0).apply(batch, parameters))
    spans = [
        [(side.nonzero()[0].item(), side.nonzero()[-1].item() + 1) for side in (hole.any(1), hole.any(0))]
        for hole in holes
    ]
    # (frames, bins): 13 x 25 of 325 points wanted 320; 11 x 11; 36 x 36
    assert spans == [[(0, 13), (39, 64)], [(89, 100), (0, 11)], [(32, 68), (14, 50)]]
    for hole, ((first, last), (low, high)) in zip(holes, spans, strict=True):
        assert hole.sum() == (last - first) * (high - low)  # no hole in the hole


def test_a_rectangle_larger_than_the_spectrogram_is_cut_to_it() -> None:
    batch = counting(1, 4, 50)
    parameters = {"area": of(0.9), "ratio": of(1), "frame_place": of(0.9), "band_place": of(0.0)}
    hole = changed(batch, RandomErasing(fill=0.0).apply(batch, parameters))
    assert hole[0].all(0).nonzero()[:, 0].tolist() == list(range(13))  # all four frames, 13 bins


def test_pixels_are_erased_in_the_drawn_share_and_everywhere() -> None:
    batch = counting(3, 200, 128)
    parameters = {"share": of(0, 0.1, 0.25), "slice": torch.tensor([5, 5, 900_000])}
    erased = changed(batch, RandomPixelErasing(fill=0.0).apply(batch, parameters)).double()
    assert erased.mean(dim=(1, 2)).tolist() == pytest.approx([0, 0.1, 0.25], abs=0.01)
    assert erased[2].mean(0).std() < 0.05  # no band is spared
    assert erased[2].mean(1).std() < 0.06  # nor any frame
