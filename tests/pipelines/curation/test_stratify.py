"""Grouped multi-label stratification: no song in two splits, every label in its share."""

import hashlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skmultilearn.model_selection import iterative_train_test_split

from tutti.pipelines.curation.stratify import (
    label_deviation,
    stratify_groups,
    stratify_groups_skmultilearn,
)

RATIOS = {"train": 0.65, "validation": 0.175, "test": 0.175}
BOTH = pytest.mark.parametrize("stratify", [stratify_groups, stratify_groups_skmultilearn])


def label_distribution_distance(counts, sizes, splits):
    """LD of Sechidis 2011, counted in clips: mean of |odds of a label in a split - its odds overall|; 0 is perfect."""
    members = {split: [group for group in counts if splits[group] == split] for split in set(splits.values())}

    def odds(groups):
        present = np.sum([counts[group] for group in groups], axis=0)
        return present / np.maximum(sum(sizes[group] for group in groups) - present, 1)

    return float(np.mean([np.abs(odds(groups) - odds(counts)) for groups in members.values()]))


def songs(number, num_labels=11, seed=0):
    """Counts and sizes of songs with 1 to 10 clips and labels from rare (3 %) to common (30 %)."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 11, number)
    has_label = rng.random((number, num_labels)) < np.linspace(0.03, 0.3, num_labels)
    counts = np.where(has_label, rng.integers(1, sizes[:, None] + 1, (number, num_labels)), 0)
    names = [f"song {index}" for index in range(number)]
    return dict(zip(names, counts.tolist(), strict=True)), dict(zip(names, sizes.tolist(), strict=True))


@st.composite
def any_songs(draw, max_songs=30):
    num_labels = draw(st.integers(0, 4))
    sizes = draw(st.dictionaries(st.text(max_size=8), st.integers(1, 9), max_size=max_songs))
    counts = {name: [draw(st.integers(0, size)) for _ in range(num_labels)] for name, size in sizes.items()}
    return counts, sizes


def test_a_tiny_example_follows_the_rule_worked_by_hand():
    counts = {  # violin, voice
        "aria": (4, 4),  # voice is in fewest songs, this has most of it: a tie, the first split
        "duet": (2, 1),  # the other song with voice: test has none yet
        "sonata": (3, 0),  # violin: train has 4, test 2
        "partita": (2, 0),  # violin: train has 4, test 5
        "drums": (0, 0),  # no label, the longest: train has 6 clips, test 5
        "noise": (0, 0),  # train has 6, test 10
    }
    sizes = {"aria": 4, "duet": 2, "sonata": 3, "partita": 2, "drums": 5, "noise": 1}

    assert stratify_groups(counts, sizes, {"train": 1, "test": 1}, seed=0) == {
        "aria": "train",
        "duet": "test",
        "sonata": "test",
        "partita": "train",
        "drums": "test",
        "noise": "train",
    }


def test_between_splits_that_lack_a_label_equally_the_one_with_fewer_clips_gets_the_song():
    counts, sizes = {"a": (3,), "b": (3,), "c": (1,)}, {"a": 9, "b": 5, "c": 1}

    assert stratify_groups(counts, sizes, {"train": 1, "test": 1}, seed=0) == {"a": "train", "b": "test", "c": "test"}


def test_which_label_is_rarest_is_counted_among_the_songs_that_are_left():
    counts = {  # violin, voice, flute
        "lied": (1, 1, 0),  # voice is rarest, before flute: a tie, the first split
        "sonata": (4, 0, 0),  # violin now has one song left, as flute has: train has violin, test none
        "solo": (0, 0, 2),  # flute: a tie, but train has 1 clip, test 4
        "drums": (0, 0, 0),  # train has 3 clips, test 4
    }
    sizes = {"lied": 1, "sonata": 4, "solo": 2, "drums": 5}

    assert stratify_groups(counts, sizes, {"train": 1, "test": 1}, seed=0) == {
        "lied": "train",
        "sonata": "test",
        "solo": "train",
        "drums": "train",
    }


def test_a_label_in_as_many_songs_as_there_are_splits_reaches_every_split():
    counts = {"a": (1, 1), "b": (1, 1), "c": (1, 1), "d": (0, 1), "e": (0, 1), "f": (0, 1), "g": (0, 1)}

    splits = stratify_groups(counts, dict.fromkeys(counts, 1), RATIOS, seed=0)

    assert {splits["a"], splits["b"], splits["c"]} == {"train", "validation", "test"}


@BOTH
@given(data=st.data(), songs=any_songs(), seed=st.integers())
@settings(max_examples=60, deadline=None)
def test_input_order_does_not_matter(stratify, data, songs, seed):
    counts, sizes = songs
    assume(stratify is stratify_groups or not 0 < len(counts) < len(RATIOS))
    order = data.draw(st.permutations(sorted(counts)))

    shuffled = stratify(
        {name: counts[name] for name in order}, {n: sizes[n] for n in reversed(order)}, RATIOS, seed=seed
    )

    assert shuffled == stratify(counts, sizes, RATIOS, seed=seed)


@given(songs=any_songs(), num_splits=st.integers(1, 6), seed=st.integers())
@settings(max_examples=100, deadline=None)
def test_every_song_goes_to_exactly_one_of_the_splits(songs, num_splits, seed):
    counts, sizes = songs
    ratios = {f"split {index}": index + 1 for index in range(num_splits)}

    splits = stratify_groups(counts, sizes, ratios, seed=seed)

    assert splits.keys() == counts.keys()
    assert set(splits.values()) <= ratios.keys()


@given(sizes=st.dictionaries(st.text(max_size=8), st.integers(1, 40), min_size=1, max_size=60), has_label=st.booleans())
@settings(max_examples=100, deadline=None)
def test_no_split_exceeds_its_share_by_more_than_the_longest_song(sizes, has_label):
    counts = {name: (size if has_label else 0,) for name, size in sizes.items()}

    splits = stratify_groups(counts, sizes, RATIOS, seed=0)

    total, longest = sum(sizes.values()), max(sizes.values())
    for split, ratio in RATIOS.items():
        clips = sum(size for name, size in sizes.items() if splits[name] == split)
        assert clips <= ratio * total + longest + 1e-9


def test_20000_songs_deviate_by_less_than_a_fifth_of_a_percent_from_every_share():
    counts, sizes = songs(20_000)

    splits = stratify_groups(counts, sizes, RATIOS, seed=0)

    assert max(label_deviation(counts, splits, RATIOS)) < 0.002
    assert label_distribution_distance(counts, sizes, splits) < 1e-4
    clips = {split: sum(size for name, size in sizes.items() if splits[name] == split) for split in RATIOS}
    total = sum(sizes.values())
    assert {split: number / total for split, number in clips.items()} == pytest.approx(RATIOS, abs=0.001)


def test_label_distribution_is_closer_than_by_chance_and_than_scikit_multilearn():
    counts, sizes = songs(500)
    by_chance = dict(zip(counts, np.random.default_rng(0).choice([*RATIOS], 500, p=[*RATIOS.values()]), strict=True))

    ours = label_distribution_distance(counts, sizes, stratify_groups(counts, sizes, RATIOS, seed=0))

    reference = stratify_groups_skmultilearn(counts, sizes, RATIOS, seed=0)
    assert ours < label_distribution_distance(counts, sizes, reference) / 3
    assert ours < label_distribution_distance(counts, sizes, by_chance) / 3


def test_scikit_multilearn_deals_every_song_in_about_the_wanted_shares():
    counts, sizes = songs(500)

    splits = stratify_groups_skmultilearn(counts, sizes, RATIOS, seed=0)

    assert splits.keys() == counts.keys()
    shares = {split: sum(found == split for found in splits.values()) / 500 for split in RATIOS}
    assert shares == pytest.approx(RATIOS, abs=0.05)


@BOTH
def test_the_global_numpy_generator_neither_changes_nor_matters(stratify):
    counts, sizes = songs(100)
    np.random.seed(1)
    before = np.random.get_state()

    first = stratify(counts, sizes, RATIOS, seed=0)

    after = np.random.get_state()
    assert (before[0], before[1].tolist(), *before[2:]) == (after[0], after[1].tolist(), *after[2:])
    np.random.seed(2)
    assert stratify(counts, sizes, RATIOS, seed=0) == first


@BOTH
def test_another_seed_gives_another_split(stratify):
    counts, sizes = songs(100)

    assert stratify(counts, sizes, RATIOS, seed=0) != stratify(counts, sizes, RATIOS, seed=1)


def test_ratios_may_have_any_unit():
    counts, sizes = songs(100)

    percent = stratify_groups(counts, sizes, {"train": 75, "test": 25}, seed=0)

    assert percent == stratify_groups(counts, sizes, {"train": 0.75, "test": 0.25}, seed=0)


@BOTH
def test_no_songs_give_no_splits(stratify):
    assert stratify({}, {}, RATIOS, seed=0) == {}


@BOTH
def test_with_one_split_all_songs_go_there(stratify):
    assert stratify({"a": (1,), "b": (0,)}, {"a": 1, "b": 1}, {"test": 1.0}, seed=0) == {"a": "test", "b": "test"}


def test_one_song_among_three_splits_goes_to_the_first():
    assert stratify_groups({"a": (2, 0)}, {"a": 2}, RATIOS, seed=0) == {"a": "train"}


def test_songs_without_any_label_are_dealt_by_length_alone():
    splits = stratify_groups({"a": (), "b": (), "c": ()}, {"a": 3, "b": 2, "c": 1}, {"train": 1, "test": 1}, seed=0)

    assert splits == {"a": "train", "b": "test", "c": "test"}


def test_a_label_on_every_clip_is_dealt_by_length():
    counts = {"a": (3,), "b": (2,), "c": (1,)}

    splits = stratify_groups(counts, {"a": 3, "b": 2, "c": 1}, {"train": 1, "test": 1}, seed=0)

    assert splits == {"a": "train", "b": "test", "c": "test"}


@BOTH
@pytest.mark.parametrize("songs_before", [0, 1, 8])
@pytest.mark.parametrize("songs_new", [0, 1, 2, 3])
@pytest.mark.parametrize("labels", [(), (1,), (1, 0), (0, 0)])
def test_however_few_songs_are_new_each_gets_a_split_and_the_others_stay(stratify, songs_before, songs_new, labels):
    before = {f"old {index}": ("train", "validation", "test")[index % 3] for index in range(songs_before)}
    counts = dict.fromkeys([*before, *(f"new {index}" for index in range(songs_new))], labels)
    sizes = dict.fromkeys(counts, 1)

    splits = stratify(counts, sizes, RATIOS, seed=0, settled=before)

    assert splits.keys() == counts.keys()
    assert set(splits.values()) <= set(RATIOS)
    assert {group: splits[group] for group in before} == before


def test_one_new_song_goes_to_the_split_that_lacks_it_most():
    before = {"a": "train", "b": "train", "c": "train", "d": "validation"}
    counts, sizes = dict.fromkeys([*before, "new"], (1,)), dict.fromkeys([*before, "new"], 1)

    splits = stratify_groups_skmultilearn(counts, sizes, {"train": 0.5, "validation": 0.5}, seed=0, settled=before)

    assert splits == before | {"new": "validation"}


def test_scikit_multilearn_deals_as_its_train_test_split_does():
    """The paper called `iterative_train_test_split`: pairs of labels are balanced, too."""
    counts, sizes = songs(208)
    names = sorted(counts, key=lambda name: hashlib.sha256(f"0|{name}".encode()).digest())
    labels = (np.array([counts[name] for name in names]) > 0).astype(int)

    splits = stratify_groups_skmultilearn(counts, sizes, {"validation": 0.5, "train": 0.5}, seed=0)

    before = np.random.get_state()
    np.random.seed(int.from_bytes(hashlib.sha256(b"0").digest()[:4], "big"))
    train, _, validation, _ = iterative_train_test_split(np.arange(208)[:, None], labels, test_size=0.5)
    np.random.set_state(before)
    assert {names[index] for index in validation[:, 0]} == {n for n, split in splits.items() if split == "validation"}
    assert {names[index] for index in train[:, 0]} == {n for n, split in splits.items() if split == "train"}


@BOTH
@pytest.mark.parametrize("ratio", [0, -0.1, float("nan"), float("inf")])
def test_a_ratio_that_is_not_positive_names_the_split(stratify, ratio):
    with pytest.raises(ValueError, match=r"split 'test': expected a positive ratio"):
        stratify({"a": (1,)}, {"a": 1}, {"train": 1.0, "test": ratio}, seed=0)


def test_no_ratios_are_an_error():
    with pytest.raises(ValueError, match="no splits"):
        stratify_groups({"a": (1,)}, {"a": 1}, {}, seed=0)


@pytest.mark.parametrize(
    ("counts", "sizes", "message"),
    [
        ({"a": (1, 0), "b": (1,)}, {"a": 1, "b": 1}, "label counts, as group"),
        ({"a": (1,)}, {"a": 1, "b": 2}, "group 'b': expected counts and a size"),
        ({"a": (0,)}, {"a": 0}, "group 'a': expected at least 1 clip"),
        ({"a": (3,)}, {"a": 2}, "group 'a': expected at least 1 clip and label counts up to that, got 2 with"),
        ({"a": (-1,)}, {"a": 2}, "group 'a': expected at least 1 clip"),
    ],
)
def test_contradicting_counts_name_the_group(counts, sizes, message):
    with pytest.raises(ValueError, match=message):
        stratify_groups(counts, sizes, RATIOS, seed=0)


def test_deviation_is_the_worst_split_of_each_label():
    counts = {"a": (6, 1, 0), "b": (2, 1, 0), "c": (2, 0, 0)}
    splits = {"a": "train", "b": "train", "c": "test"}

    # First label: 8 of 10 clips in train, 5 wanted. Second: all of 2. Third: no clips.
    assert label_deviation(counts, splits, {"train": 1, "test": 1}) == pytest.approx([0.3, 0.5, 0.0])


@pytest.mark.parametrize("splits", [{}, {"a": "nowhere"}])
def test_a_song_without_a_wanted_split_is_an_error(splits):
    with pytest.raises(ValueError, match="group 'a': expected a split"):
        label_deviation({"a": (1,)}, splits, RATIOS)
