"""Label quality: planted wrong labels are found, right ones stay, and a weak model says so."""

import io
import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from cleanlab.rank import get_label_quality_scores

from tutti.pipelines.curation.crossfit import FitConfig, Table, softmax
from tutti.pipelines.curation.cutoffs import CutoffConfig, Cutoffs, find_cutoffs
from tutti.pipelines.curation.outliers import (
    FoldModels,
    OutlierConfig,
    Skipped,
    assess,
    cutoff_of,
    fit,
    judge,
    kind_of,
    score,
)
from tutti.pipelines.embedders.logmel import LogMelEmbedder

CALIBRATED = OutlierConfig()
FIXED = OutlierConfig(mode="fixed")


def cloud(num_songs=66, *, clips=3, classes=11, dimension=24, noise=0.5, seed=0):
    """Songs of one class each as Gaussian clouds, IRMAS' labels: one present, the others unknown."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((classes, dimension))
    labels = np.repeat(np.arange(num_songs) % classes, clips)
    song = np.repeat(rng.standard_normal((num_songs, dimension)), clips, axis=0)
    rows = centers[labels] + noise * (song + 0.4 * rng.standard_normal(song.shape))
    presence = np.where(labels[:, None] == np.arange(classes), 1, -1).astype(np.int8)
    groups = tuple(f"irmas/song{index // clips:03}" for index in range(len(labels)))
    return Table(tuple(f"irmas/{index:04}" for index in range(len(labels))), groups, rows.astype(np.float32), presence)


def mislabelled(table, songs, *, shift=4):
    """The table with whole songs labelled otherwise, and which rows those are."""
    wrong = np.isin(table.groups, [f"irmas/song{song:03}" for song in songs])
    presence = table.presence.copy()
    presence[wrong] = np.roll(presence[wrong], shift, axis=1)
    return replace(table, presence=presence), wrong


def judged(table, config=CALIBRATED, *, source="irmas", grouped=True, seed=0):
    """Quality (N,) and dropped (N,) of a table that is its own sample."""
    if not grouped:
        table = replace(table, groups=table.ids, songs=table.ids)
    models = fit(table, source=source, config=config, seed=seed)
    scores = assess(models, table, score(models, table), config)
    cutoff = cutoff_of(models, config)
    dropped = [not judge(scores, row, cutoff).keep for row in range(len(table.ids))]
    return scores, np.array(dropped)


def auroc(scores, wrong):
    """Chance that a wrongly labelled clip has the lower quality of the two."""
    bad, good = scores.quality[wrong], scores.quality[~wrong]
    return float(((bad[:, None] < good) + 0.5 * (bad[:, None] == good)).mean())


def partial(num_songs=90, *, classes=3, dimension=24, seed=0):
    """OpenMIC's labels: each of three instruments plays or not; two thirds of the labels are known."""
    rng = np.random.default_rng(seed)
    plays = rng.random((num_songs, classes)) < 0.5
    rows = plays @ rng.standard_normal((classes, dimension)) + 0.4 * rng.standard_normal((num_songs, dimension))
    presence = np.where(rng.random(plays.shape) < 2 / 3, plays, -1).astype(np.int8)
    names = tuple(f"openmic2018/{index:03}" for index in range(num_songs))
    return Table(names, names, rows.astype(np.float32), presence)


# --- finding what is wrong


@pytest.mark.parametrize("seed", range(3))
def test_songs_with_a_wrong_label_are_dropped_and_songs_with_the_right_one_stay(seed):
    table, wrong = mislabelled(cloud(seed=seed), [3, 17, 31, 45, 59])
    scores, dropped = judged(table)

    assert auroc(scores, wrong) > 0.98
    assert dropped[wrong].mean() >= 0.5
    assert dropped[~wrong].mean() <= 0.05


def test_a_single_clip_with_a_wrong_label_is_dropped_and_its_song_mates_stay():
    table = cloud()
    presence = table.presence.copy()
    presence[30] = np.roll(presence[30], 4)
    scores, dropped = judged(replace(table, presence=presence))

    assert dropped[30]
    assert not dropped[[31, 32]].any()
    assert scores.quality.argmin() == 30


def test_ungrouped_folds_let_a_mislabelled_song_vouch_for_itself():
    table, wrong = mislabelled(cloud(noise=1.3), [3, 17, 31, 45, 59])
    grouped, found = judged(table)
    ungrouped, missed = judged(table, grouped=False)

    assert auroc(grouped, wrong) > auroc(ungrouped, wrong) + 0.05
    assert found[wrong].mean() >= 0.5
    assert missed[wrong].mean() <= 0.2


def test_the_verdict_names_the_given_and_the_better_label():
    table, _ = mislabelled(cloud(), [13])
    models = fit(table, source="irmas", config=CALIBRATED, seed=0)
    scores = assess(models, table, score(models, table), CALIBRATED)
    verdict = judge(scores, 39, cutoff_of(models, CALIBRATED))

    assert (verdict.keep, verdict.given, verdict.suggested) == (False, 6, 2)  # song 13 is of class 2, 4 further on
    assert 0 <= verdict.quality < 0.19  # 1 / (1 + e^1.5) = .182
    assert judge(scores, 0, cutoff_of(models, CALIBRATED)).keep


def test_partial_labels_are_judged_where_they_are_known_and_the_worst_one_counts():
    table = partial()
    presence = table.presence.copy()
    flipped = [int(row) for row in np.flatnonzero(presence[:, 1] == 1)[:4]]
    presence[flipped, 1] = 0
    presence[7] = -1
    scores, _ = judged(replace(table, presence=presence), source="openmic2018")

    assert kind_of(presence) == "multi"
    assert sorted(np.argsort(scores.quality)[:4].tolist()) == flipped
    assert scores.given[flipped].tolist() == scores.suggested[flipped].tolist() == [1, 1, 1, 1]
    assert np.isnan(scores.quality[7])
    assert judge(scores, 7, 0.5).keep
    assert judge(scores, 7, 0.5).quality is None


def test_the_fixed_mode_is_the_probability_of_the_given_label_against_the_published_cutoffs():
    table = cloud()
    models = fit(table, source="irmas", config=FIXED, seed=0)
    scores = assess(models, table, score(models, table), FIXED)

    assert cutoff_of(models, FIXED) == 0.11
    assert cutoff_of(models, FIXED, source="audioset") == 0.13
    assert cutoff_of(models, FIXED, source="openmic2018") == 0.11
    shares = softmax(score(models, table))
    given = table.presence.argmax(axis=1)
    cleanlabs = get_label_quality_scores(given, shares, method="self_confidence")
    assert np.allclose(cleanlabs, shares[np.arange(len(given)), given])
    assert np.all((scores.quality <= cleanlabs) & (cleanlabs < scores.quality + 0.0101))  # rounded down to hundredths


def test_the_calibrated_mode_is_cleanlabs_self_confidence_in_the_true_class_given_the_label():
    table, _ = mislabelled(cloud(), [3, 17])
    models = fit(table, source="irmas", config=CALIBRATED, seed=0)
    alone = replace(CALIBRATED, song_weight=0.0)
    scores = assess(models, table, score(models, table), alone)

    given, noise = table.presence.argmax(axis=1), models.calibration.noise
    heard = softmax(score(models, table) / models.calibration.temperature)
    right = heard[np.arange(len(given)), given]
    expected = (1 - noise) * right / ((1 - noise) * right + noise / 10 * (1 - right))  # Bayes, by hand
    assert np.all((scores.quality <= expected) & (expected < scores.quality + 0.0101))


# --- what good clips it costs


@pytest.mark.parametrize(("classes", "noise"), [(11, 0.8), (11, 1.8), (11, 2.6), (5, 3.0), (2, 3.0)])
def test_on_clean_labels_at_most_three_in_a_hundred_go_however_little_is_heard(classes, noise):
    table = cloud(num_songs=110, classes=classes, noise=noise)
    _, dropped = judged(table)
    labels = table.presence.argmax(axis=1)

    assert dropped.mean() <= 0.03
    assert max(dropped[labels == k].mean() for k in range(classes)) <= 0.15


def test_two_classes_one_of_them_rare_are_judged():
    table = cloud(num_songs=120, classes=12, noise=0.4)
    voice = table.presence[:, :1] == 1  # against all the rest
    table = replace(table, presence=np.where(np.hstack([voice, ~voice]), 1, -1).astype(np.int8))
    presence = table.presence.copy()
    wrong = np.isin(table.groups, ["irmas/song000", "irmas/song001", "irmas/song050"])  # one voice, two others
    presence[wrong] = presence[wrong][:, ::-1]
    scores, dropped = judged(replace(table, presence=presence))

    assert auroc(scores, wrong) > 0.95
    assert dropped[~wrong].mean() <= 0.03


def test_no_more_is_dropped_than_may_be_lost_of_all_and_of_a_class():
    table, _ = mislabelled(cloud(noise=0.8), range(0, 66, 4))
    scores, some = judged(table)
    own = table.presence.argmax(axis=1)

    assert scores.quality[some].sum() <= 0.015 * scores.quality.sum()  # the good ones that are expected among them
    assert max(some[own == k].mean() for k in range(11)) <= 0.5


def test_cutoffs_are_the_highest_that_lose_no_more_than_may_be_lost():
    quality = np.array([0.1] * 10 + [0.4] * 10 + [0.8] * 10 + [0.99] * 170)
    config = CutoffConfig(max_lost=0.03)  # of 181.3 good clips: 5.4

    assert find_cutoffs(quality, {}, 9.0, config) == Cutoffs(0.8, {})  # twenty go, 5.0 of them good
    assert find_cutoffs(quality, {}, 9.0, CutoffConfig(max_lost=0.02)) == Cutoffs(0.4, {})  # ten go, 1.0 of them good
    assert find_cutoffs(quality, {3: np.arange(200) < 12}, 9.0, config).lower == {3: 0.1}  # ten of twelve are too many
    assert find_cutoffs(quality, {}, 1.0, config) == Cutoffs(0.1, {})  # of 200 clips 5 may go without evidence


# --- what it does not depend on


def test_the_order_of_rows_the_batches_and_a_pickle_change_no_bit():
    table, _ = mislabelled(cloud(), [3])
    order = np.random.default_rng(5).permutation(len(table.ids))
    models = fit(table, source="irmas", config=CALIBRATED, seed=0)
    other = pickle.loads(pickle.dumps(fit(table.take(order), source="irmas", config=CALIBRATED, seed=0)))
    whole = score(models, table)

    assert np.array_equal(score(other, table), whole)
    assert np.array_equal(np.vstack([score(models, table.take([row])) for row in range(len(order))]), whole)
    shuffled = assess(other, table.take(order), whole[order], CALIBRATED)
    assert np.array_equal(shuffled.quality, assess(models, table, whole, CALIBRATED).quality[order])
    assert score(models, table.take([])).shape == (0, 11)


def test_clips_outside_the_sample_are_judged_too():
    table, wrong = mislabelled(cloud(num_songs=132), [3, 17, 101, 117])
    config = replace(CALIBRATED, fit=FitConfig(max_sample=297))
    models = fit(table, source="irmas", config=config, seed=0)
    scores = assess(models, table, score(models, table), config)

    assert models.num_rows == 297
    assert auroc(scores, wrong) > 0.98


# --- what cannot be judged


@pytest.mark.parametrize("labels", [cloud, partial])
def test_a_corpus_of_which_the_models_hear_nothing_is_skipped_with_a_note(labels):
    table = labels()
    rng = np.random.default_rng(0)
    deaf = replace(table, embeddings=rng.standard_normal(table.embeddings.shape).astype(np.float32))
    skipped = fit(deaf, source="irmas", config=CALIBRATED, seed=0)

    assert isinstance(skipped, Skipped)
    assert re.match(r"near chance: out-of-fold AUROC 0\.\d\d; 0\.60 is needed", skipped.note)


def test_a_corpus_with_few_songs_is_skipped_with_a_note():
    assert fit(cloud(num_songs=22), source="irmas", config=CALIBRATED, seed=0) == Skipped(
        "irmas", "22 songs; 30 are needed"
    )


def test_a_class_with_few_songs_is_left_out_and_its_clips_have_no_quality():
    table = cloud()
    rare = [row for row, group in enumerate(table.groups) if int(group[-3:]) % 11 == 5][6:]
    table = table.take([row for row in range(len(table.ids)) if row not in rare])  # two songs of class 5 are left
    models = fit(table, source="irmas", config=CALIBRATED, seed=0)
    assert isinstance(models, FoldModels)
    scores = assess(models, table, score(models, table), CALIBRATED)

    assert models.classes == (0, 1, 2, 3, 4, 6, 7, 8, 9, 10)
    assert models.notes == ("class 5: 2 songs, 3 are needed",)
    assert np.array_equal(np.isnan(scores.quality), table.presence[:, 5] == 1)


def test_a_corpus_is_single_where_every_labelled_clip_has_one_instrument():
    assert kind_of(np.array([[1, -1], [-1, 1], [-1, -1]], np.int8)) == "single"
    assert kind_of(np.array([[1, 0], [0, 1]], np.int8)) == "single"
    assert kind_of(np.array([[1, 1], [1, -1]], np.int8)) == "multi"
    assert kind_of(np.array([[0, -1], [1, -1]], np.int8)) == "multi"
    assert kind_of(np.full((2, 2), -1, np.int8)) == "multi"


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="song_weight"):
        OutlierConfig(song_weight=1.5)


# --- real recordings


@pytest.mark.slow
def test_on_real_recordings_at_least_half_of_the_planted_labels_go_and_at_most_a_twentieth_of_the_others(
    mirror_build, shared
):
    truth = json.loads((shared / "mirror" / "TRUTH.json").read_text(encoding="utf-8"))
    rows = []
    for path in sorted((mirror_build / "current" / "data").glob("*.parquet")):
        rows += pyarrow.parquet.read_table(path).to_pylist()
    own = [row for row in rows if row["source"] != "openmic2018" and "Testing" not in row["recording"]]
    waveforms = [soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")[0] for row in own]
    table = Table(
        tuple(row["id"] for row in own),
        tuple(row["group"] for row in own),
        LogMelEmbedder().embed(waveforms),
        np.array([row["presence"] for row in own], np.int8),
    )
    scores, dropped = judged(table, source="irmas+audioset")
    for source in ("irmas", "audioset"):
        here = np.array([row["source"] == source for row in own])
        wrong = np.array([row["recording"] in truth[f"{source}_mislabelled"] for row in own])[here]

        assert wrong.sum() == len(truth[f"{source}_mislabelled"])
        assert dropped[here][wrong].mean() >= 0.5
        assert dropped[here][~wrong].mean() <= 0.05
        part = replace(scores, quality=scores.quality[here])
        assert auroc(part, wrong) >= 0.88
