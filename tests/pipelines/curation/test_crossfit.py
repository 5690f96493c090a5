"""Grouped folds and linear models: nobody is judged by a model that heard the same song."""

import pickle

import numpy as np
import pytest

from tutti.pipelines.curation.crossfit import (
    FitConfig,
    Table,
    assign_folds,
    bounded,
    cross_fit,
    digest_number,
    fit_linear,
    fold_by_digest,
    sampled,
    softmax,
)


def songs(num_songs=24, *, clips=3, classes=4, dimension=12, spread=0.6, seed=0):
    """Songs of one class each, in turn, as Gaussian clouds: a table and its classes (N,)."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((classes, dimension))
    labels = np.repeat(np.arange(num_songs) % classes, clips)
    noise = np.repeat(rng.standard_normal((num_songs, dimension)), clips, axis=0)
    rows = centers[labels] + spread * (noise + 0.3 * rng.standard_normal((len(labels), dimension)))
    groups = tuple(f"song{index // clips:03}" for index in range(len(labels)))
    presence = (labels[:, None] == np.arange(classes)).astype(np.int8)
    ids = tuple(f"clip{index:04}" for index in range(len(labels)))
    return Table(ids, groups, rows.astype(np.float32), presence), labels


def test_folds_keep_songs_whole_spread_the_labels_and_do_not_depend_on_order():
    table, labels = songs(num_songs=40, classes=4)
    folds = assign_folds(table.groups, table.presence, 10, seed=0)
    order = np.random.default_rng(1).permutation(len(table.ids))
    shuffled = table.take(order)

    assert assign_folds(shuffled.groups, shuffled.presence, 10, seed=0) == folds
    assert assign_folds(table.groups, table.presence, 10, seed=1) != folds
    fold_N = np.array([folds[group] for group in table.groups])
    assert np.bincount(fold_N).tolist() == [12] * 10
    assert all(np.bincount(labels[fold_N == fold], minlength=4).max() == 3 for fold in range(10))


def test_an_unseen_group_has_the_fold_of_its_digest():
    assert digest_number("irmas/a", 0) == 8471870140526437838  # sha256sum of "0|irmas/a", first 16 hex digits
    assert [fold_by_digest(f"song{index}", 10, 0) for index in range(5)] == [9, 2, 0, 1, 9]  # likewise


def test_a_model_has_never_heard_the_songs_that_it_judges():
    table, labels = songs(num_songs=12, classes=2)
    config = FitConfig(folds=6, deals=2)
    before = cross_fit(table, labels, num_classes=2, config=config, seed=0).logits(table)
    moved = table.embeddings.copy()
    moved[:3] += 50  # the whole of the first song
    after = cross_fit(
        Table(table.ids, table.groups, moved, table.presence), labels, num_classes=2, config=config, seed=0
    )

    assert np.array_equal(after.logits(table)[:3], before[:3])
    assert not np.allclose(after.logits(table)[3:], before[3:])


def test_the_order_of_rows_and_the_size_of_batches_change_no_bit():
    table, labels = songs()
    order = np.random.default_rng(2).permutation(len(table.ids))
    fitted = cross_fit(table, labels, num_classes=4, config=FitConfig(), seed=0)
    again = cross_fit(table.take(order), labels[order], num_classes=4, config=FitConfig(), seed=0)
    whole = fitted.logits(table)

    assert np.array_equal(again.logits(table), whole)
    assert np.array_equal(np.vstack([fitted.logits(table.take([row])) for row in range(len(labels))]), whole)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).logits(table), whole)
    assert fitted.logits(table.take([])).shape == (0, 4)


def test_scaling_or_shifting_a_feature_changes_nothing():
    table, labels = songs()
    moved = table.embeddings * np.float32(64) + np.float32(8)
    config = FitConfig(tolerance=1e-8)
    model = fit_linear(table.embeddings, labels, num_classes=4, config=config)
    other = fit_linear(moved, labels, num_classes=4, config=config)

    for row in (0, 5, 50):
        assert np.allclose(model.logits(table.embeddings[row]), other.logits(moved[row]), atol=1e-4)


def test_classes_are_learned_and_an_absent_class_is_never_likely():
    table, labels = songs()
    fitted = cross_fit(table, labels, num_classes=5, config=FitConfig(), seed=0)
    probabilities = softmax(fitted.logits(table))

    assert probabilities.shape == (72, 5)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.9
    assert probabilities[:, 4].max() < 1e-9


def test_a_fold_with_two_or_one_class_left_still_gives_all_logits():
    table, labels = songs(classes=2)
    two = fit_linear(table.embeddings, labels * 2, num_classes=3, config=FitConfig())
    one = fit_linear(table.embeddings, np.full(72, 1), num_classes=3, config=FitConfig())
    shares = np.stack([softmax(two.logits(row)[None])[0] for row in table.embeddings])

    assert (shares.argmax(axis=1) == labels * 2).mean() > 0.9
    assert shares[:, 1].max() < 1e-9
    assert one.logits(table.embeddings[0]).argmax() == 1


def test_a_constant_feature_counts_for_nothing():
    table, labels = songs(classes=2)
    rows = np.hstack([table.embeddings, np.full((72, 1), 7, np.float32)])
    model = fit_linear(rows, labels, num_classes=2, config=FitConfig())

    assert model.weight.shape == (1, 13)
    assert model.weight[0, -1] == 0.0


def test_a_sample_is_of_whole_songs_of_about_the_size_asked_and_needs_no_other_rows():
    config = FitConfig(max_sample=1_000)
    chosen = [sampled(f"song{index}", num_rows=9_000, config=config, seed=0) for index in range(3_000)]

    assert 300 <= sum(chosen) <= 366  # 333 songs of 3 clips
    assert all(sampled(f"song{index}", num_rows=900, config=config, seed=0) for index in range(100))


def test_a_table_above_the_bound_loses_whole_songs_in_any_order():
    table, _ = songs(num_songs=40)
    small = bounded(table, FitConfig(max_sample=50), seed=0)
    shuffled = table.take(np.random.default_rng(3).permutation(120))

    assert len(small.ids) == 48
    assert {small.groups.count(group) for group in small.groups} == {3}
    assert bounded(shuffled, FitConfig(max_sample=50), seed=0).ids == small.ids
    assert bounded(shuffled, FitConfig(max_sample=120), seed=0).ids == table.ids


def test_columns_of_different_lengths_and_senseless_folds_are_refused():
    with pytest.raises(ValueError, match=r"1 ids, 2 groups, embeddings \(1, 3\).*align them"):
        Table(("a",), ("g", "h"), np.zeros((1, 3), np.float32), np.zeros((1, 2), np.int8))
    with pytest.raises(ValueError, match="folds must be 2 or more"):
        FitConfig(folds=1)
