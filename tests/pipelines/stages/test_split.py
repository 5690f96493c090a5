"""Splits: official partitions win, songs stay together, and the certificate proves it."""

import random
from collections import Counter

import pytest
from splitting import CLASSES, HALF, OFFICIAL, planned, splits, summary

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.curation.split_rules import SplitConfig, grouped, rule_for
from tutti.pipelines.rows import Assignment, Match
from tutti.pipelines.stages.split import certify


def songs(number, partition="pool"):
    """Songs of one to five clips, each with or without cello and voice."""
    rng = random.Random(0)
    clips = []
    for song in range(number):
        presence = rng.choice([(1, 0), (0, 1), (1, 1), (-1, 1), (1, -1)])
        clips += [
            summary(f"{song:04d}-{part}", partition, f"song {song:04d}", presence=presence)
            for part in range(rng.randint(1, 5))
        ]
    return clips


# --- rules


@pytest.mark.parametrize(
    ("partition", "expected"), [("test", ("irmas/test", "test")), ("train", ("irmas/*", "validation"))]
)
def test_the_most_specific_rule_wins(partition, expected):
    config = SplitConfig(rules={"*": "train", "irmas/*": "validation", "irmas/test": "test"})

    assert rule_for("irmas", partition, config) == expected
    assert rule_for("openmic2018", partition, config) == ("*", "train")


def test_a_partition_without_a_rule_is_a_usage_error_that_names_it():
    with pytest.raises(UsageError, match=r"no rule for irmas/train; --set split\.rules\.irmas"):
        rule_for("irmas", "train", SplitConfig(rules={"irmas/test": "test"}))


def test_grouped_is_one_rule_for_everything():
    assert grouped(65, 17.5, 17.5) == {"*": {"train": 65, "validation": 17.5, "test": 17.5}}


# --- official partitions


def test_official_partitions_win():
    assert splits([summary("a", "train"), summary("b", "test"), summary("c", "valid")]) == {
        "a": "train",
        "b": "test",
        "c": "validation",
    }


def test_what_has_no_partition_is_divided_song_by_song():
    found = splits([summary("a", group="x"), summary("b", group="x"), summary("c", group="y"), summary("d", group="y")])

    assert found["a"] == found["b"] != found["c"] == found["d"]
    assert set(found.values()) == {"train", "validation"}


def test_the_pools_of_two_rules_are_divided_each_by_itself():
    config = SplitConfig(rules={"s/one": HALF, "s/two": {"train": 1, "test": 1}})
    clips = [summary(f"one {n}", "one") for n in range(10)] + [summary(f"two {n}", "two") for n in range(10)]

    found = splits(clips, config)

    assert Counter(found[f"one {n}"] for n in range(10)) == {"train": 5, "validation": 5}
    assert Counter(found[f"two {n}"] for n in range(10)) == {"train": 5, "test": 5}


def test_a_song_in_two_official_partitions_is_an_integrity_error_that_names_both_clips():
    clips = [summary("a", "train", "song"), summary("b", "test", "song"), summary("c", "train")]

    with pytest.raises(IntegrityError, match="group song is in two splits upstream: a in train, b in test; exclude"):
        planned(clips)


def shared(*sources):
    return SplitConfig(rules=OFFICIAL.rules, shared_groups=sources)


def test_a_group_that_upstream_has_in_two_splits_stays_in_both_and_is_named_where_a_recipe_accepts_it():
    clips = [summary("a", "train", "song"), summary("b", "test", "song"), summary("c", "test", "other")]
    plan = planned(clips, shared("s"))

    assert {a.id: (a.split, a.group) for a in plan.assignments} == {
        "a": ("train", "song@train"), "b": ("test", "song@test"), "c": ("test", "other"),
    }  # fmt: skip
    assert plan.certificate["groups_shared_upstream"] == {"song": ["train", "test"]}
    assert plan.certificate["groups_in_two_splits"] == 0


def test_where_no_group_is_shared_the_certificate_says_so_and_groups_keep_their_names():
    plan = planned([summary("a", "train", "song"), summary("b", "test", "other")], shared("s"))

    assert {a.id: a.group for a in plan.assignments} == {"a": "song", "b": "other"}
    assert plan.certificate["groups_shared_upstream"] == {}
    assert "groups_shared_upstream" not in planned([summary("a")]).certificate


def test_groups_are_accepted_in_two_splits_of_the_named_sources_only():
    clips = [summary("a", "train", "song"), summary("b", "test", "song")]
    with pytest.raises(IntegrityError, match=r"accept it: --set split\.shared_groups=s"):
        planned(clips, shared("another"))


def test_equal_audio_is_not_accepted_in_two_splits_of_a_shared_group():
    clips = [summary("a", "train", "song", "same"), summary("b", "test", "song", "same")]
    assert splits([*clips, summary("c", "train", "song")], shared("s")) == {"a": "duplicate", "b": "test", "c": "train"}


def test_divided_by_shares_a_shared_group_is_one_song():
    clips = [summary(f"{song}{part}", group=f"song {song}") for song in range(20) for part in range(3)]
    plan = planned(clips, SplitConfig(rules={"s/pool": HALF}, shared_groups=("s",)))
    assert plan.certificate["groups_shared_upstream"] == {}


def test_two_partitions_with_one_split_may_share_a_song():
    config = SplitConfig(rules={"s/balanced": "train", "s/unbalanced": "train"})

    assert splits([summary("a", "balanced", "song"), summary("b", "unbalanced", "song")], config) == {
        "a": "train",
        "b": "train",
    }


def test_a_repeated_id_is_an_integrity_error_that_names_it():
    with pytest.raises(IntegrityError, match="a: occurs twice; the reader of s must give unique ids"):
        planned([summary("a"), summary("b"), summary("a")])


def test_an_undivided_clip_of_an_official_song_goes_with_it():
    assert splits([summary("a", "valid", "song"), summary("b", "pool", "song")])["b"] == "validation"


# --- duplicates across splits


def test_a_training_copy_of_a_test_clip_goes_whatever_the_ids():
    found = planned([summary("a", "train", pcm="1"), summary("b", "test", pcm="1")]).assignments

    assert found == (
        Assignment("a", "song of a", reason="duplicate", detail="same audio as b"),
        Assignment("b", "song of a", "test"),
    )


def test_the_rest_of_a_training_song_that_shares_audio_with_a_test_song_stays():
    clips = [
        summary("train 1", "train", "x", pcm="1"),
        summary("train 2", "train", "x", pcm="2"),
        summary("test 1", "test", "y", pcm="1"),
        summary("test 2", "test", "y", pcm="3"),
        summary("train 3", "train", "z", pcm="4"),
    ]

    plan = planned(clips)

    assert {a.id: a.split or a.detail for a in plan.assignments} == {
        "train 1": "same audio as test 1",
        "train 2": "train",
        "train 3": "train",
        "test 1": "test",
        "test 2": "test",
    }
    assert {a.id: a.group for a in plan.assignments if a.split} == {
        "train 2": "x", "train 3": "z", "test 1": "y", "test 2": "y",
    }  # fmt: skip
    assert plan.certificate["linked_songs_in_two_splits"] == [["x", "train", "y", "test"]]


def test_songs_joined_by_a_duplicate_stay_together():
    clips = [summary(f"{song}{part}", group=song) for song in "abcdefgh" for part in range(2)]
    clips += [summary("a9", group="a", pcm="same"), summary("h9", group="h", pcm="same")]

    found = splits(clips)

    assert found["a0"] == found["a1"] == found["h0"] == found["h1"] == found["a9"]
    assert found["h9"] == "duplicate"


def test_songs_joined_by_a_conflict_stay_together_though_both_clips_are_lost():
    clips = [summary(f"{song}{part}", group=song) for song in "abcdefgh" for part in range(2)]
    clips += [
        summary("a9", group="a", pcm="same", presence=(PRESENT, ABSENT)),
        summary("h9", group="h", pcm="same", presence=(ABSENT, PRESENT)),
    ]

    found = splits(clips)

    assert found["a9"] == found["h9"] == "duplicate_conflict"
    assert found["a0"] == found["h0"]


@pytest.mark.parametrize("official", ["valid", "test"])
def test_an_official_evaluation_clip_survives_an_undivided_copy_of_it(official):
    rules = {"s/valid": "validation", "s/test": "test", "s/pool": {"train": 65, "validation": 17.5, "test": 17.5}}

    found = splits([summary("a", "pool", pcm="1"), summary("b", official, pcm="1")], SplitConfig(rules=rules))

    assert found == {"a": "duplicate", "b": {"valid": "validation", "test": "test"}[official]}


def test_of_two_undivided_copies_the_lowest_id_survives():
    found = splits([summary("b", pcm="1"), summary("a", pcm="1")])

    assert found["b"] == "duplicate"
    assert found["a"] in ("train", "validation")


# --- shares


def test_grouped_shares_come_out_right_without_dividing_a_song():
    config = SplitConfig(rules=grouped(65, 17.5, 17.5))
    clips = songs(300)

    found = splits(clips, config)

    shares = {split: count / len(clips) for split, count in Counter(found.values()).items()}
    assert shares == pytest.approx({"train": 0.65, "validation": 0.175, "test": 0.175}, abs=0.02)
    splits_of = {}
    for clip in clips:
        splits_of.setdefault(clip.group, set()).add(found[clip.id])
    assert all(len(found_in) == 1 for found_in in splits_of.values())


def test_another_seed_divides_otherwise():
    config = SplitConfig(rules=grouped(65, 17.5, 17.5))

    assert splits(songs(50), config, seed=1) != splits(songs(50), config, seed=0)


def test_the_reference_splitter_can_be_chosen():
    config = SplitConfig(rules=grouped(65, 17.5, 17.5), splitter="skmultilearn")

    plan = planned(songs(60), config)

    assert plan.certificate["splitter"] == "skmultilearn"
    assert {a.split for a in plan.assignments} == {"train", "validation", "test"}


def test_no_clips_are_no_problem():
    assert planned([]).assignments == ()
    assert planned([]).certificate["groups"] == 0


# --- the certificate


def test_the_certificate_states_groups_shares_and_the_worst_deviation_of_each_class():
    clips = [
        summary("a1", group="a", presence=(PRESENT, UNKNOWN)),
        summary("a2", group="a", presence=(PRESENT, PRESENT)),
        summary("b1", group="b", presence=(PRESENT, ABSENT)),
        summary("b2", group="b", presence=(UNKNOWN, ABSENT)),
        summary("t1", "test"),
    ]

    plan = planned(clips)

    assert {a.id: a.split for a in plan.assignments} == {
        "a1": "train",
        "a2": "train",
        "b1": "validation",
        "b2": "validation",
        "t1": "test",
    }
    assert plan.certificate == {
        "groups": 3,
        "groups_in_two_splits": 0,
        "audio_in_two_splits": 0,
        "linked_songs_in_two_splits": [],
        "splitter": "counts",
        "pools": {
            "s/pool": {
                "wanted": {"train": 0.5, "validation": 0.5},
                "clips": {"train": 2, "validation": 2},
                "worst_label_deviation": {"cello": 0.166667, "voice": 0.5},  # 2 of 3, 1 of 1 where half is wanted
            }
        },
    }


def test_wanted_shares_are_stated_as_parts_of_one():
    plan = planned(songs(20), SplitConfig(rules=grouped(65, 17.5, 17.5)))

    assert plan.certificate["pools"]["*"]["wanted"] == {"train": 0.65, "validation": 0.175, "test": 0.175}


def test_official_partitions_have_no_pool_to_certify():
    assert planned([summary("a", "train"), summary("b", "test")]).certificate["pools"] == {}


def test_a_group_in_two_splits_fails_the_certificate_however_it_came_about():
    clips = [summary("a", group="song"), summary("b", group="song")]
    leaking = [Assignment("a", "song", "train"), Assignment("b", "song", "validation")]

    with pytest.raises(IntegrityError, match="1 groups are in two splits, first song; this is a bug"):
        certify(clips, leaking, OFFICIAL, CLASSES)


@pytest.mark.parametrize(
    ("clips", "near", "things"),
    [
        ([summary("a", group="song"), summary("b", group="song")], [], "songs"),
        ([summary("a", pcm="1"), summary("b", pcm="1")], [], "audio files"),
        ([summary("a"), summary("b")], [Match("a", "b", 0.0, 3.0, 1.0, 0.9)], "near-duplicates"),
    ],
)
def test_shared_sound_in_two_splits_fails_the_certificate_whatever_its_groups_are_called(clips, near, things):
    leaking = [Assignment("a", "one", "train"), Assignment("b", "other", "validation")]

    with pytest.raises(IntegrityError, match=f"1 {things} are in two splits"):
        certify(clips, leaking, OFFICIAL, CLASSES, near)


def test_rejected_clips_do_not_count_as_a_leak():
    clips = [summary("a", group="song"), summary("b", group="song")]

    certificate = certify(
        clips, [Assignment("a", "song", "train"), Assignment("b", "song", reason="duplicate")], OFFICIAL, CLASSES
    )

    assert certificate["pools"]["s/pool"]["clips"] == {"train": 1}


def test_a_song_of_more_clips_than_a_byte_counts_weighs_as_many():
    clips = [summary(f"a-{part:03d}", group="long song") for part in range(256)] + [summary("b")]
    pool = planned(clips).certificate["pools"]["s/pool"]

    assert sorted(pool["clips"].values()) == [1, 256]
    assert pool["worst_label_deviation"] == {"cello": pytest.approx(256 / 257 - 0.5, abs=1e-6), "voice": 0.0}
