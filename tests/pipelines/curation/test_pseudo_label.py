"""Guitars get a kind where it is clear, and stay unknown where it is not."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from tutti.datasets.record import ABSENT, PRESENT, Label
from tutti.pipelines.curation.crossfit import FitConfig, Table
from tutti.pipelines.curation.pseudo_label import GuitarConfig, GuitarVerdict, fit, label, labels_of, platt

CONFIG = GuitarConfig(fit=FitConfig(folds=5, deals=1))  # quick; the defaults do the same, more often
DIMENSION = 16
ACOUSTIC_AT, ELECTRIC_AT = np.eye(DIMENSION)[0] * 3, np.eye(DIMENSION)[1] * 3  # where the kinds lie


def corpus(*, songs=10, others=30, noise=1.0, seed=0):
    """IRMAS' labels: columns acoustic, electric, other; three clips a song."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat([0] * songs + [1] * songs + [2] * others, 3)
    centers = np.stack([ACOUSTIC_AT, ELECTRIC_AT, np.zeros(DIMENSION)])
    rows = centers[kinds] + noise * rng.standard_normal((len(kinds), DIMENSION))
    return Table(
        tuple(f"irmas/{index:03}" for index in range(len(kinds))),
        tuple(f"irmas/song{index // 3:03}" for index in range(len(kinds))),
        rows.astype(np.float32),
        np.where(kinds[:, None] == np.arange(3), 1, -1).astype(np.int8),
    )


def fitted(table=None, config=CONFIG, **arguments):
    return fit(corpus() if table is None else table, acoustic=0, electric=1, config=config, seed=0, **arguments)


def kind(splitter, place, config=CONFIG):
    return label(splitter, "openmic2018/track", np.asarray(place, np.float32), config).kind


def test_clear_guitars_get_their_kind_and_the_report_says_how_sure_that_is():
    splitter, report = fitted()

    assert kind(splitter, ACOUSTIC_AT) == "acoustic"
    assert kind(splitter, ELECTRIC_AT) == "electric"
    assert report["songs"] == [10, 10]
    assert report["clips"] == 60
    assert report["accuracy"] >= 0.9
    assert report["coverage"] >= 0.8
    assert sum(sum(row.values()) for row in report["confusion"].values()) == 60


def test_between_the_thresholds_the_kind_stays_unknown():
    splitter, _ = fitted()
    verdict = label(splitter, "x", np.zeros(DIMENSION, np.float32), replace(CONFIG, low=0.02, high=0.98))

    assert verdict.kind is None
    assert 0.02 < verdict.electric < 0.98
    assert labels_of(verdict, "pseudo:x", CONFIG) == {}


def test_wider_thresholds_cover_less_and_are_right_more_often():
    table = corpus(noise=2.5, songs=20)
    _, narrow = fitted(table, replace(CONFIG, low=0.5, high=0.5))
    _, wide = fitted(table, replace(CONFIG, low=0.1, high=0.9))

    assert narrow["coverage"] == 1.0
    assert wide["coverage"] < 0.8
    assert wide["accuracy"] > narrow["accuracy"]


def test_both_kinds_are_present_where_both_detectors_say_so_and_only_where_that_is_allowed():
    splitter, _ = fitted(corpus(noise=0.5))
    together, nothing = 1.2 * (ACOUSTIC_AT + ELECTRIC_AT), np.zeros(DIMENSION)

    assert kind(splitter, together) == "both"
    assert kind(splitter, together, replace(CONFIG, allow_both=False)) is None
    assert kind(splitter, nothing, replace(CONFIG, low=0.02, high=0.98)) is None


def test_without_other_instruments_nothing_is_both():
    splitter, _ = fitted(corpus(noise=0.5, others=0))

    assert kind(splitter, 1.2 * (ACOUSTIC_AT + ELECTRIC_AT)) is None


def test_the_hard_mode_always_decides_and_calls_the_other_kind_absent():
    hard = replace(CONFIG, mode="hard")
    splitter, report = fitted(config=hard)
    verdict = label(splitter, "x", ELECTRIC_AT.astype(np.float32), hard)
    labels = labels_of(verdict, "pseudo:x", hard)

    assert report["coverage"] == 1.0
    assert {name: given.presence for name, given in labels.items()} == {
        "electric_guitar": PRESENT,
        "acoustic_guitar": ABSENT,
    }


def test_a_label_holds_its_confidence_to_the_hundredth_and_its_origin():
    assert labels_of(GuitarVerdict("acoustic", 0.2), "pseudo:x", CONFIG) == {
        "acoustic_guitar": Label(PRESENT, "pseudo:x", 0.8)
    }
    assert labels_of(GuitarVerdict("both", 0.5), "pseudo:x", CONFIG) == {
        "acoustic_guitar": Label(PRESENT, "pseudo:x"),
        "electric_guitar": Label(PRESENT, "pseudo:x"),
    }


def test_the_order_of_rows_changes_nothing_and_a_splitter_travels():
    table = corpus()
    order = np.random.default_rng(4).permutation(len(table.ids))
    splitter, report = fitted(table)

    again, same = fitted(table.take(order))
    assert same == report
    place = np.linspace(-1, 2, DIMENSION).astype(np.float32)
    assert label(pickle.loads(pickle.dumps(splitter)), "x", place, CONFIG) == label(again, "x", place, CONFIG)


@pytest.mark.parametrize("mode", ["calibrated", "hard"])
def test_embeddings_that_differ_in_their_last_bits_change_no_verdict_and_no_report(mode):
    """Another processor's arithmetic: relative differences of a millionth, in what teaches and in what is labelled."""
    config, rng = replace(CONFIG, mode=mode), np.random.default_rng(1)
    table = corpus(noise=2.0, songs=20)
    places = rng.standard_normal((200, DIMENSION)) * 2 + ACOUSTIC_AT

    def verdicts(scale):
        shaken = [array * (1 + scale * rng.standard_normal(array.shape)) for array in (table.embeddings, places)]
        splitter, report = fitted(replace(table, embeddings=shaken[0].astype(np.float32)), config)
        return [label(splitter, "x", place, config) for place in shaken[1].astype(np.float32)], report

    assert verdicts(1e-6) == verdicts(0.0)


def test_confidence_is_calibrated():
    rng = np.random.default_rng(0)
    labels = (rng.random(4_000) < 0.5).astype(np.int64)
    logits = rng.standard_normal(4_000) + np.where(labels == 1, 0.75, -0.75)  # true log odds: 1.5 x
    slope, offset = platt(3 * logits, labels)

    assert slope * 3 == pytest.approx(1.5, abs=0.12)
    assert offset == pytest.approx(0.0, abs=0.1)


def test_logits_that_are_wrong_more_often_than_right_give_no_confidence():
    logits = np.array([1.0, 2.0, 3.0, -1.0, -2.0, -3.0])

    assert platt(logits, np.array([0, 0, 0, 1, 1, 1])) == (0.0, 0.0)


def test_with_too_few_songs_of_a_kind_nothing_is_fitted_and_the_report_names_the_remedy():
    splitter, report = fitted(corpus(songs=3))

    assert splitter is None
    assert report == {
        "songs": [3, 3],
        "skipped": "3 songs with acoustic and 3 with electric guitar, 4 of each are needed: add IRMAS to the sources",
    }


def test_kinds_that_cannot_be_told_apart_are_not_labelled_and_the_report_says_how_well_they_were():
    table = corpus()
    deaf = np.random.default_rng(0).standard_normal(table.embeddings.shape).astype(np.float32)

    splitter, report = fitted(replace(table, embeddings=deaf), replace(CONFIG, mode="hard"))

    assert splitter is None
    assert report["balanced_accuracy"] < 0.6
    assert report["skipped"].startswith("acoustic and electric guitars are told apart with a balanced accuracy of 0.")
    assert report["skipped"].endswith(", 0.60 is needed: use another --embedder")


def test_thresholds_that_cross_are_refused():
    with pytest.raises(ValueError, match=r"low=0\.8 and high=0\.65"):
        GuitarConfig(low=0.8)
