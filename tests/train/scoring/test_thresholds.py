import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tutti.datasets.errors import UsageError
from tutti.train.scoring import metrics
from tutti.train.scoring.thresholds import (
    NSYNTH_SWEEP,
    ThresholdSearch,
    best_of,
    choose_thresholds,
    lumen_grid,
    nsynth_sweep,
    sweep_table,
)

Case = tuple[NDArray[np.int8], NDArray[np.float64]]


def case(seed: int, num_clips: int = 60, num_classes: int = 4) -> Case:
    """Labels, a third of them unknown, and scores that know something of them."""
    rng = np.random.default_rng(seed)
    presence = rng.integers(-1, 2, (num_clips, num_classes)).astype(np.int8)
    return presence, np.clip(rng.normal(0.4 + 0.15 * presence, 0.2), 0, 1)


def f1(presence: NDArray[np.int8], scores: NDArray[np.float64], threshold: float, objective: str) -> float:
    figures = metrics.f_scores(metrics.confusion(presence, scores >= threshold))
    micro, macro = figures["micro_f1"], figures["macro_f1"]
    assert micro is not None
    assert macro is not None
    return {"micro_f1": micro, "macro_f1": macro, "mean_f1": (micro + macro) / 2}[objective]


OBJECTIVES = st.sampled_from(["micro_f1", "macro_f1", "mean_f1"])


@given(st.integers(0, 2**32 - 1), OBJECTIVES)
@settings(max_examples=30)
def test_f1_at_many_thresholds_is_f1_at_each(seed: int, objective: metrics.Objective) -> None:
    presence, scores = case(seed)
    thresholds = np.linspace(0, 1, 21)
    found = metrics.f1_at(presence, scores, thresholds, objective)
    assert found is not None
    assert found.tolist() == pytest.approx([f1(presence, scores, value, objective) for value in thresholds])


@given(st.integers(0, 2**32 - 1), OBJECTIVES)
@settings(max_examples=30)
def test_the_exact_search_beats_or_equals_both_papers_grids(seed: int, objective: metrics.Objective) -> None:
    presence, scores = case(seed)
    best = f1(presence, scores, metrics.best_threshold(presence, scores, objective), objective)
    grid = f1(presence, scores, lumen_grid(presence, scores, objective), objective)
    sweep = f1(presence, scores, nsynth_sweep(presence, scores, objective), objective)
    assert best >= grid - 1e-12
    assert best >= sweep - 1e-12


def test_the_papers_grid_misses_a_narrow_gap_that_the_exact_search_finds() -> None:
    # Both lie between the coarse points 500 / 999 and 501 / 999, and between two of the fine ones.
    presence = np.array([[1], [0]], np.int8)
    scores = np.array([[0.50065], [0.50060]])
    assert f1(presence, scores, lumen_grid(presence, scores), "micro_f1") == pytest.approx(2 / 3)
    assert f1(presence, scores, metrics.best_threshold(presence, scores), "micro_f1") == 1.0


def test_the_fine_grid_parts_what_no_coarse_point_does() -> None:
    # The best coarse point is 0: everything present. Of the fine ones, .1 / 99 apart, one lies between.
    presence = np.array([[1], [0]], np.int8)
    scores = np.array([[0.00305], [0.00302]])
    assert best_of(np.linspace(0, 1, 1000), presence, scores) == 0.0
    assert lumen_grid(presence, scores) == pytest.approx(3 * 0.1 / 99)


def test_the_fine_grid_is_never_worse_than_the_coarse_one() -> None:
    for seed in range(20):
        presence, scores = case(seed)
        coarse = f1(presence, scores, best_of(np.linspace(0, 1, 1000), presence, scores), "mean_f1")
        assert f1(presence, scores, lumen_grid(presence, scores), "mean_f1") >= coarse


def test_the_nsynth_sweep_is_41_points_from_0_to_0_8() -> None:
    assert len(NSYNTH_SWEEP) == 41
    assert NSYNTH_SWEEP[[0, 1, 25, 40]].tolist() == pytest.approx([0.0, 0.02, 0.5, 0.8])
    assert nsynth_sweep(np.array([[1], [0]], np.int8), np.array([[0.95], [0.9]])) == 0.0  # .8 is its end


@pytest.mark.parametrize("method", ["exact", "lumen_grid", "nsynth_sweep"])
def test_thresholds_per_class_part_classes_on_different_scales(method: str) -> None:
    presence = np.array([[1, 1, 1], [0, 0, -1]], np.int8)
    scores = np.array([[0.75, 0.2, 0.6], [0.65, 0.1, 0.5]])
    search = ThresholdSearch(method=method, scope="per_class")  # type: ignore[arg-type]
    first, second, third = choose_thresholds(search, presence, scores, split="validation")
    assert 0.65 < first <= 0.75
    assert 0.1 < second <= 0.2
    one = choose_thresholds(ThresholdSearch(method=method), presence, scores, split="validation")  # type: ignore[arg-type]
    assert third == one[0]  # never known absent: the threshold of all classes together
    assert len(set(one)) == 1


@pytest.mark.parametrize("method", ["exact", "lumen_grid", "nsynth_sweep"])
def test_no_search_looks_at_unknown_labels(method: str) -> None:
    presence, scores = case(3)
    other = np.where(presence == -1, np.random.default_rng(4).uniform(size=scores.shape), scores)
    for scope in ("global", "per_class"):
        search = ThresholdSearch(method=method, scope=scope)  # type: ignore[arg-type]
        found, again = (choose_thresholds(search, presence, values, split="validation") for values in (scores, other))
        assert found == again


def test_no_threshold_is_searched_on_the_test_split() -> None:
    presence, scores = case(0)
    with pytest.raises(UsageError, match="never searched on the test split"):
        choose_thresholds(ThresholdSearch(), presence, scores, split="test")
    fixed = ThresholdSearch(method="fixed", threshold=0.4)
    assert choose_thresholds(fixed, presence, scores, split="test") == (0.4,) * 4


def test_where_nothing_is_known_the_threshold_is_one_half() -> None:
    presence, scores = np.full((3, 2), -1, np.int8), np.ones((3, 2))
    for method in ("exact", "lumen_grid", "nsynth_sweep"):
        search = ThresholdSearch(method=method)  # type: ignore[arg-type]
        assert choose_thresholds(search, presence, scores, split="validation") == (0.5, 0.5)
    assert sweep_table(presence, scores) == []


def test_a_sweep_is_a_curve_of_both_f1() -> None:
    presence, scores = case(1)
    curve = sweep_table(presence, scores)
    assert len(curve) == 41
    assert curve[20]["threshold"] == pytest.approx(0.4)
    assert curve[20]["micro_f1"] == pytest.approx(f1(presence, scores, 0.4, "micro_f1"))
    assert curve[20]["macro_f1"] == pytest.approx(f1(presence, scores, 0.4, "macro_f1"))


def test_a_fixed_threshold_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\]"):
        ThresholdSearch(threshold=1.5)
