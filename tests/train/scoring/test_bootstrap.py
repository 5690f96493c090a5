import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tutti.train.scoring import metrics
from tutti.train.scoring.bootstrap import Interval, Spread, bootstrap, metric_intervals, over_seeds


def mean_of(values: NDArray[np.float64]):  # type: ignore[no-untyped-def]
    return lambda clips: {"mean": float(values[clips].mean())}


def songs(num_songs: int, clips_per_song: int) -> list[str]:
    return [f"song {index // clips_per_song}" for index in range(num_songs * clips_per_song)]


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap(mean_of(values), songs(400, 1), np.random.default_rng(1), num_resamples=2_000)["mean"]
    error = values.std(ddof=1) / 20
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        interval = bootstrap(mean_of(rng.normal(size=40)), songs(40, 1), rng, num_resamples=200, level=0.9)["mean"]
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 0 <= interval.high
    assert 0.82 <= covered / 200 <= 0.95


def test_clips_of_one_song_are_drawn_together() -> None:
    groups = ["b", "a", "b", "c", "a", "b"]
    drawn: list[list[str]] = []

    def record(clips: NDArray[np.int64]) -> dict[str, float | None]:
        drawn.append([groups[clip] for clip in clips])
        return {}

    bootstrap(record, groups, np.random.default_rng(0), num_resamples=50)
    assert sorted(drawn[0]) == sorted(groups)  # the estimate: every clip once
    for sample in drawn[1:]:
        assert [sample.count(song) % groups.count(song) for song in "abc"] == [0, 0, 0]
        assert sum(sample.count(song) // groups.count(song) for song in "abc") == 3
    assert len({tuple(sorted(sample)) for sample in drawn}) > 5


def test_clips_that_repeat_their_song_make_the_figure_no_surer() -> None:
    values = np.random.default_rng(3).normal(size=30)
    by_song = bootstrap(mean_of(np.repeat(values, 10)), songs(30, 10), np.random.default_rng(4))["mean"]
    by_clip = bootstrap(mean_of(np.repeat(values, 10)), songs(300, 1), np.random.default_rng(4))["mean"]
    widths = [(item.high or 0) - (item.low or 0) for item in (by_song, by_clip)]
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(10), rel=0.15)


def case(seed: int) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    presence = rng.integers(-1, 2, (60, 3)).astype(np.int8)
    return presence, np.clip(rng.normal(0.5 + 0.2 * presence, 0.2), 0, 1)


def test_every_figure_of_a_summary_has_an_interval_around_it() -> None:
    presence, scores = case(5)
    thresholds = np.full(3, 0.5)
    rng = np.random.default_rng(6)
    intervals = metric_intervals(presence, scores, thresholds, songs(20, 3), rng, num_resamples=60)
    figures = metrics.summary(presence, scores, thresholds)
    assert {name: item.estimate for name, item in intervals.items()} == figures
    for item in intervals.values():
        assert item.low is not None
        assert item.estimate is not None
        assert item.high is not None
        assert item.low < item.estimate < item.high
        assert item.num_resamples == 60


def test_the_same_generator_draws_the_same_intervals() -> None:
    presence, scores = case(7)
    first, second, other = (
        metric_intervals(presence, scores, np.full(3, 0.5), songs(20, 3), np.random.default_rng(seed), num_resamples=20)
        for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other


def test_a_figure_that_no_resample_has_is_without_an_interval() -> None:
    presence, scores = np.full((4, 2), -1, np.int8), np.ones((4, 2))
    intervals = metric_intervals(
        presence, scores, np.full(2, 0.5), songs(4, 1), np.random.default_rng(0), num_resamples=5
    )
    assert intervals["micro_f1"] == Interval(None, None, None, 0)


def test_no_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="needs clips"):
        bootstrap(lambda clips: {}, [], np.random.default_rng(0))


def test_seeds_have_a_mean_and_the_deviation_of_a_sample() -> None:
    runs = [{"micro_f1": 0.6, "lrap": None}, {"micro_f1": 0.7, "lrap": 0.8}, {"micro_f1": 0.8, "lrap": 0.9}]
    spread = over_seeds(runs)
    assert spread["lrap"] is None
    found = spread["micro_f1"]
    assert found == Spread(pytest.approx(0.7), pytest.approx(0.1), 3)  # type: ignore[arg-type]
    assert str(found) == "0.700 ± 0.1000"


def test_one_seed_has_no_deviation() -> None:
    assert over_seeds([{"map": 0.25}]) == {"map": Spread(0.25, None, 1)}
    assert str(Spread(0.25, None, 1)) == "0.250"


def test_runs_with_different_figures_are_refused() -> None:
    with pytest.raises(ValueError, match="the same figures of all"):
        over_seeds([{"map": 0.2}, {"lrap": 0.2}])
