import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from tutti.train.scoring import baseline, metrics, report

Case = tuple[NDArray[np.int8], NDArray[np.float64]]


@st.composite
def cases(draw: st.DrawFn, presences: tuple[int, ...] = (-1, 0, 1), min_classes: int = 1) -> Case:
    """Labels and scores; scores from a coarse grid, so that ties are common."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(min_classes, 7)))
    presence = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from(presences)))
    scores = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 6)))
    return presence, scores / 6


def both_kinds(presence: NDArray[np.int8], axis: int) -> NDArray[np.bool_]:
    return (presence == 1).any(axis=axis) & (presence == 0).any(axis=axis)


@given(cases(presences=(0, 1), min_classes=2), st.floats(0.05, 0.95))
def test_with_everything_known_f_scores_equal_scikit_learn(case: Case, threshold: float) -> None:
    presence, scores = case
    predicted = scores >= threshold
    counts = metrics.confusion(presence, predicted)
    figures = metrics.f_scores(counts)
    per_class = sklearn_metrics.f1_score(presence, predicted, average=None, zero_division=0)
    assert counts.f1.tolist() == pytest.approx(per_class.tolist())
    occurring = np.flatnonzero(presence.any(axis=0))
    if not occurring.size:
        assert set(figures.values()) == {None}
        return
    for average, labels in (("micro", None), ("macro", occurring)):
        expected = sklearn_metrics.precision_recall_fscore_support(
            presence, predicted, labels=labels, average=average, zero_division=0
        )
        found = [figures[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(list(expected[:3]))


@given(cases(presences=(0, 1)))
def test_with_everything_known_average_precision_equals_scikit_learn(case: Case) -> None:
    presence, scores = case
    for column, value in enumerate(metrics.average_precisions(presence, scores)):
        if both_kinds(presence, 0)[column]:
            expected = sklearn_metrics.average_precision_score(presence[:, column], scores[:, column])
            assert value == pytest.approx(expected)
        else:
            assert value is None


@given(cases(presences=(0, 1)))
def test_with_everything_known_lrap_equals_scikit_learn_over_clips_that_have_a_ranking(case: Case) -> None:
    presence, scores = case
    rows = both_kinds(presence, 1)
    value = metrics.label_ranking_average_precision(presence, scores)
    if not rows.any():
        assert value is None
    else:
        expected = sklearn_metrics.label_ranking_average_precision_score(presence[rows], scores[rows])
        assert value == pytest.approx(expected)


@given(cases(presences=(0, 1)))
def test_with_everything_known_hamming_score_is_one_minus_scikit_learns_loss(case: Case) -> None:
    presence, scores = case
    loss = sklearn_metrics.hamming_loss(presence.ravel(), scores.ravel() >= 0.5)
    assert metrics.hamming_score(presence, scores >= 0.5) == pytest.approx(1 - loss)


@given(cases(), st.integers(0, 2**32 - 1))
def test_no_figure_depends_on_what_is_predicted_for_unknown_labels(case: Case, seed: int) -> None:
    presence, scores = case
    other = np.where(presence == -1, np.random.default_rng(seed).uniform(size=scores.shape), scores)
    thresholds = np.full(presence.shape[1], 0.5)
    assert metrics.summary(presence, other, thresholds) == metrics.summary(presence, scores, thresholds)
    assert metrics.best_threshold(presence, other) == metrics.best_threshold(presence, scores)


PRESENCE = np.array([[1, 0, -1], [-1, 1, 0], [0, 1, -1], [-1, -1, -1]], np.int8)
SCORES = np.array([[0.9, 0.6, 1.0], [1.0, 0.7, 0.8], [0.2, 0.4, 1.0], [1.0, 1.0, 1.0]])


def test_masked_counts_are_those_of_the_known_labels() -> None:
    counts = metrics.confusion(PRESENCE, SCORES >= 0.5)
    assert counts.true_positives.tolist() == [1, 1, 0]
    assert counts.false_positives.tolist() == [0, 1, 1]
    assert counts.false_negatives.tolist() == [0, 1, 0]
    assert counts.precision.tolist() == [1.0, 0.5, 0.0]
    assert counts.recall.tolist() == [1.0, 0.5, 0.0]


def test_macro_means_leave_out_a_class_without_a_known_present_label_and_micro_counts_its_errors() -> None:
    figures = metrics.f_scores(metrics.confusion(PRESENCE, SCORES >= 0.5))
    assert figures["macro_f1"] == 0.75  # (1 + .5) / 2; the third class has no support
    assert figures["micro_precision"] == 0.5  # 2 of 4
    assert figures["micro_recall"] == pytest.approx(2 / 3)


def test_the_two_macro_f1_in_use_differ() -> None:
    presence = np.array([[1, 0], [1, 1], [1, 0], [1, 0]], np.int8)
    predicted = np.array([[1, 1], [0, 1], [0, 1], [0, 1]], bool)
    figures = metrics.f_scores(metrics.confusion(presence, predicted))
    assert figures["macro_f1"] == pytest.approx(0.4)  # both classes: F1 = .4
    # macro P = (1 + .25) / 2, macro R = (.25 + 1) / 2
    assert figures["macro_f1_harmonic"] == pytest.approx(0.625)


def test_lrap_ranks_known_labels_only() -> None:
    presence = np.array([[1, 0, -1, 0]], np.int8)
    # Unknown scores highest and is no rank: present stands second of three known.
    assert metrics.label_ranking_average_precision(presence, np.array([[0.5, 0.7, 0.9, 0.1]])) == 0.5


def test_a_clip_with_present_labels_only_has_no_ranking() -> None:
    assert metrics.label_ranking_average_precision(np.array([[1, -1, 1]], np.int8), np.array([[0.1, 0.9, 0.2]])) is None


def test_lrap_of_many_clips_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    presence = rng.integers(-1, 2, (50, 4)).astype(np.int8)
    scores = rng.uniform(size=(50, 4))
    whole = metrics.label_ranking_average_precision(presence, scores)
    monkeypatch.setattr(metrics, "_BLOCK", 7)
    assert metrics.label_ranking_average_precision(presence, scores) == whole


def test_average_precision_takes_ties_together() -> None:
    presence = np.array([[1], [0], [1]], np.int8)
    # .9 finds one of two at precision 1; the tie at .5 brings both others at precision 2/3.
    assert metrics.average_precisions(presence, np.array([[0.9], [0.5], [0.5]])) == [pytest.approx(0.5 + 0.5 * 2 / 3)]


def test_hamming_score_is_a_mean_over_clips_not_over_labels() -> None:
    presence = np.array([[1, -1, -1, -1], [0, 0, 0, 0]], np.int8)
    predicted = np.array([[0, 0, 0, 0], [0, 0, 0, 0]], bool)
    assert metrics.hamming_score(presence, predicted) == 0.5  # 0 of 1, 4 of 4


def test_where_nothing_is_known_there_are_no_figures_and_the_threshold_is_one_half() -> None:
    presence = np.full((3, 2), -1, np.int8)
    scores = np.ones((3, 2))
    assert set(metrics.summary(presence, scores, np.full(2, 0.5)).values()) == {None}
    assert metrics.best_threshold(presence, scores) == 0.5
    assert metrics.best_thresholds_per_class(presence, scores) == [0.5, 0.5]
    assert metrics.summary(presence[:0], scores[:0], np.full(2, 0.5))["micro_f1"] is None


@given(cases())
@settings(max_examples=200)
def test_no_threshold_on_a_fine_grid_beats_the_one_found(case: Case) -> None:
    presence, scores = case

    def mean_f1(threshold: float) -> float | None:
        figures = metrics.f_scores(metrics.confusion(presence, scores >= threshold))
        micro, macro = figures["micro_f1"], figures["macro_f1"]
        return None if micro is None or macro is None else (micro + macro) / 2

    found = mean_f1(metrics.best_threshold(presence, scores))
    grid = [mean_f1(threshold) for threshold in np.linspace(0, 1, 61)]
    assert (found is None) == (grid[0] is None)
    if found is not None:
        assert found >= max(value for value in grid if value is not None) - 1e-12


@given(cases(), st.booleans(), st.sampled_from(["micro_f1", "macro_f1", "mean_f1"]))
@settings(max_examples=300)
def test_the_sweep_finds_what_trying_every_partition_finds(
    case: Case, ties: bool, objective: metrics.Objective
) -> None:
    presence, scores = case
    if not ties:
        scores = scores + np.random.default_rng(scores.size).uniform(0, 1 / 6, scores.shape)
    unique = np.unique(scores[presence != -1])
    if not (presence == 1).any():
        assert metrics.best_threshold(presence, scores, objective) == 0.5
        return
    candidates = np.append(unique[0], (unique[:-1] + unique[1:]) / 2)
    figures = metrics.f1_at(presence, scores, candidates, objective)
    assert figures is not None
    assert metrics.best_threshold(presence, scores, objective) == candidates[np.argmax(figures)]


@pytest.mark.parametrize("objective", ["micro_f1", "macro_f1", "mean_f1"])
@pytest.mark.parametrize("decimals", [2, 12])  # many ties, hardly any
def test_the_sweep_finds_the_same_among_thousands_of_labels(objective: metrics.Objective, decimals: int) -> None:
    rng = np.random.default_rng(0)
    presence = rng.choice(np.array([-1, 0, 0, 0, 1], np.int8), (150, 30))
    presence[:, :5] = np.minimum(presence[:, :5], 0)  # classes that are never present
    scores = np.round((rng.uniform(size=presence.shape) + (presence == 1)) / 2, decimals)
    unique = np.unique(scores[presence != -1])
    candidates = np.append(unique[0], (unique[:-1] + unique[1:]) / 2)
    figures = metrics.f1_at(presence, scores, candidates, objective)
    assert figures is not None
    assert metrics.best_threshold(presence, scores, objective) == candidates[np.argmax(figures)]


def test_with_1006_classes_the_exact_search_takes_memory_for_its_labels_not_for_labels_times_classes() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 1006, 200)
    presence = (np.arange(1006) == classes[:, None]).astype(np.int8)
    scores = rng.uniform(size=presence.shape)
    tracemalloc.start()
    threshold = metrics.best_threshold(presence, scores)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < threshold < 1
    assert peak < 150 * presence.size  # bytes; one count per candidate and class: 8 x 1,006


def test_lrap_takes_memory_for_its_labels_not_for_pairs_of_classes() -> None:
    rng = np.random.default_rng(0)
    presence = (np.arange(1006) == rng.integers(0, 1006, 200)[:, None]).astype(np.int8)
    tracemalloc.start()
    figure = metrics.label_ranking_average_precision(presence, rng.uniform(size=presence.shape))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert figure is not None
    assert peak < 150 * presence.size


def test_a_threshold_lies_midway_between_the_probabilities_that_it_parts() -> None:
    presence = np.array([[1], [1], [0], [0]], np.int8)
    assert metrics.best_threshold(presence, np.array([[0.9], [0.7], [0.3], [0.1]])) == pytest.approx(0.5)


def test_a_threshold_between_neighbouring_floats_still_parts_them() -> None:
    low = 0.5
    high = float(np.nextafter(low, 1))
    presence = np.array([[1], [0]], np.int8)
    scores = np.array([[high], [low]])
    threshold = metrics.best_threshold(presence, scores)
    assert metrics.predict(scores, np.array([threshold])).tolist() == [[True], [False]]


def test_per_class_thresholds_part_classes_on_different_scales() -> None:
    presence = np.array([[1, 1, 1], [0, 0, -1]], np.int8)
    scores = np.array([[0.9, 0.2, 0.6], [0.7, 0.1, 0.5]])
    first, second, third = metrics.best_thresholds_per_class(presence, scores)
    assert (first, second) == (pytest.approx(0.8), pytest.approx(0.15))
    assert third == metrics.best_threshold(presence, scores)  # never seen absent: the global one


@given(cases())
def test_the_best_constant_predictor_is_the_best_of_all_constants(case: Case) -> None:
    presence, _ = case
    figures = baseline.best_constant(presence, [str(n) for n in range(presence.shape[1])])
    tried = []
    for vector in itertools.product([False, True], repeat=presence.shape[1]):
        predicted = np.broadcast_to(np.array(vector), presence.shape)
        tried.append(
            metrics.f_scores(metrics.confusion(presence, predicted))
            | {"hamming_score": metrics.hamming_score(presence, predicted)}
        )
    for name in ("micro_f1", "macro_f1", "macro_f1_harmonic", "hamming_score"):
        values = [row[name] for row in tried]
        expected = None if None in values else pytest.approx(max(value for value in values if value is not None))
        assert figures[name] == expected


def test_the_constant_predictor_names_its_vectors() -> None:
    presence = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0]], np.int8)
    figures = baseline.best_constant(presence, ["piano", "flute", "cello"])
    assert figures["best_micro"]["present"] == ["piano"]
    assert figures["best_macro"]["present"] == ["piano", "flute"]
    assert figures["best_micro"]["micro_f1"] == pytest.approx(10 / 11)
    assert figures["best_macro"]["macro_f1"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures["map"] == pytest.approx(0.2)  # flute alone has both kinds: its share of present labels


@given(cases(presences=(0, 1)))
def test_with_everything_known_roc_auc_equals_scikit_learn(case: Case) -> None:
    presence, scores = case
    for column, value in enumerate(metrics.roc_aucs(presence, scores)):
        if both_kinds(presence, 0)[column]:
            assert value == pytest.approx(sklearn_metrics.roc_auc_score(presence[:, column], scores[:, column]))
        else:
            assert value is None


@given(cases(presences=(-1, 0, 1)))
def test_per_class_figures_are_scikit_learns_over_the_known_labels(case: Case) -> None:
    presence, scores = case
    counts = metrics.confusion(presence, scores >= 0.5)
    for column in range(presence.shape[1]):
        known = presence[:, column] != -1
        if not known.any():
            continue
        expected = sklearn_metrics.precision_recall_fscore_support(
            presence[known, column], scores[known, column] >= 0.5, labels=[1], zero_division=0
        )
        found = [values[column] for values in (counts.precision, counts.recall, counts.f1, counts.support)]
        assert found == pytest.approx([float(values[0]) for values in expected])


def test_mean_roc_auc_leaves_out_classes_with_one_kind_of_label() -> None:
    presence = np.array([[1, 1], [0, -1], [0, 1]], np.int8)
    assert metrics.mean_roc_auc(presence, np.array([[0.5, 0.1], [0.9, 0.2], [0.1, 0.3]])) == 0.5


def test_the_predominant_instrument_is_right_where_the_one_present_class_scores_highest() -> None:
    presence = np.array([[1, 0, 0], [0, 1, -1], [-1, -1, 1], [1, 1, 0], [0, 0, -1]], np.int8)
    # Right; beaten by an unknown class; right; two present: left out; none present: left out.
    scores = np.array([[0.9, 0.1, 0.2], [0.1, 0.5, 0.6], [0.1, 0.2, 0.3], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert metrics.predominant_accuracy(presence, scores) == pytest.approx(2 / 3)
    assert metrics.predominant_accuracy(presence[3:], scores[3:]) is None


def test_the_likeliest_class_alone_is_predicted_and_of_equal_ones_the_first() -> None:
    assert metrics.likeliest(np.array([[0.1, 0.3, 0.2], [0.5, 0.5, 0.0]])).tolist() == [
        [False, True, False],
        [True, False, False],
    ]
    assert metrics.likeliest(np.zeros((0, 3))).shape == (0, 3)


@given(cases(presences=(0, 1)))
def test_the_micro_f1_of_the_likeliest_class_is_the_accuracy_where_each_clip_has_one_label(case: Case) -> None:
    presence, scores = case
    presence = metrics.likeliest(presence).astype(np.int8)
    figures = metrics.summary_of(presence, scores, metrics.likeliest(scores))
    assert figures["micro_f1"] == pytest.approx(metrics.predominant_accuracy(presence, scores))


@given(cases())
def test_the_best_constant_accuracy_is_that_of_the_class_which_suits_best(case: Case) -> None:
    presence, _ = case
    found = baseline.best_constant(presence, [str(n) for n in range(presence.shape[1])])["predominant_accuracy"]
    rows = np.eye(presence.shape[1])
    tried = [metrics.predominant_accuracy(presence, np.broadcast_to(row, presence.shape)) for row in rows]
    assert found == (None if tried[0] is None else pytest.approx(max(value or 0.0 for value in tried)))


def test_accuracy_and_the_best_constants_lead_the_headline_where_each_clip_has_one_label() -> None:
    presence = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.int8)
    scores = np.array([[0.9, 0.1, 0.2], [0.2, 0.3, 0.1], [0.1, 0.5, 0.4], [0.0, 0.1, 0.2]])
    result = report.evaluation_report(presence, scores, [0.5] * 3, ["piano", "flute", "cello"])
    shown = report.headline(result)
    assert result["single_label"] is True
    assert next(iter(shown["model"].items())) == ("predominant_accuracy", 0.75)
    assert shown["constant"]["predominant_accuracy"] == 0.5
    assert f"{'accuracy':24}{'0.750':>8}{'0.500':>16}" in report.table(result, "test").splitlines()


@pytest.mark.parametrize("row", [[1, -1, 0], [1, 1, 0], [0, 0, 0]])
def test_accuracy_is_no_headline_where_a_clip_has_another_number_of_labels_or_an_unknown_one(row: list[int]) -> None:
    presence = np.array([[1, 0, 0], row], np.int8)
    result = report.evaluation_report(presence, np.full((2, 3), 0.5), [0.5] * 3, ["piano", "flute", "cello"])
    assert result["single_label"] is False
    assert "predominant_accuracy" not in report.headline(result)["model"]
    assert "accuracy" not in report.table(result, "test")


def test_with_one_label_per_clip_predominant_accuracy_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 40)
    scores = rng.uniform(size=(40, 5))
    presence = (np.arange(5) == labels[:, None]).astype(np.int8)
    expected = sklearn_metrics.accuracy_score(labels, scores.argmax(axis=1))
    assert metrics.predominant_accuracy(presence, scores) == pytest.approx(expected)
