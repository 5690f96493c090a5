import numpy as np
import pytest
from numpy.typing import NDArray

from tutti.datasets.errors import UsageError
from tutti.train.reading.sampler import class_weights, clip_weights, weighted_draws

PIANO, VIOLIN, SAX = 0, 1, 2


def paper_example() -> NDArray[np.int8]:
    """20 piano only, 10 piano and violin, 50 saxophone."""
    return np.array([[1, 0, 0]] * 20 + [[1, 1, 0]] * 10 + [[0, 0, 1]] * 50, np.int8)


def test_a_class_weighs_all_tracks_by_those_that_have_it() -> None:
    assert class_weights(paper_example()).tolist() == [80 / 30, 80 / 10, 80 / 50]


def test_a_clip_of_one_class_has_its_weight_and_one_of_two_the_median() -> None:
    weights = clip_weights(paper_example())
    assert weights[0] == 80 / 30
    assert weights[20] == pytest.approx((80 / 30 + 80 / 10) / 2)
    assert weights[30] == 80 / 50


def test_the_papers_code_takes_the_greatest_weight_of_a_clip() -> None:
    weights = clip_weights(paper_example(), rule="max")
    assert weights[[0, 20, 30]].tolist() == [80 / 30, 80 / 10, 80 / 50]


def test_the_median_of_three_classes_is_the_middle_one() -> None:
    presence = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], np.int8)
    assert class_weights(presence).tolist() == [1, 2, 4]
    assert clip_weights(presence)[0] == 2


def test_unknown_labels_weigh_as_absent_ones() -> None:
    unknown = np.where(paper_example() == 0, -1, paper_example()).astype(np.int8)
    assert clip_weights(unknown).tolist() == clip_weights(paper_example()).tolist()


def test_a_class_that_nobody_has_weighs_nothing_and_a_clip_without_a_class_one() -> None:
    presence = np.array([[1, 0], [0, 0], [-1, -1]], np.int8)
    assert class_weights(presence).tolist() == [3, 0]
    assert clip_weights(presence).tolist() == [3, 1, 1]


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    weights = clip_weights(paper_example())
    draws = weighted_draws(weights, 80, seed=1, epoch=2)
    assert draws.tolist() == weighted_draws(weights, 80, seed=1, epoch=2).tolist()
    assert draws.tolist() != weighted_draws(weights, 80, seed=1, epoch=3).tolist()
    assert draws.tolist() != weighted_draws(weights, 80, seed=2, epoch=2).tolist()


def test_clips_are_drawn_in_proportion_to_their_weights() -> None:
    weights = np.array([1.0, 3.0, 0.0])
    counts = np.bincount(weighted_draws(weights, 40_000, seed=0, epoch=0), minlength=3)
    assert counts[2] == 0
    assert counts[1] / counts[0] == pytest.approx(3, abs=0.15)  # five standard deviations


def test_an_epoch_of_single_instrument_clips_holds_all_instruments_alike() -> None:
    presence = np.eye(3, dtype=np.int8)[[0] * 900 + [1] * 90 + [2] * 10]
    draws = weighted_draws(clip_weights(presence), 30_000, seed=0, epoch=0)
    assert presence[draws].mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.015)  # five standard deviations


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], []])
def test_weights_that_cannot_be_drawn_from_are_refused(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="clip weights must be finite, not negative and not all 0"):
        weighted_draws(np.array(weights), 5, seed=0, epoch=0)


def test_a_rule_that_is_neither_the_papers_nor_its_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown rule 'mean'"):
        clip_weights(paper_example(), rule="mean")  # type: ignore[arg-type]
