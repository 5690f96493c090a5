"""Splits: official partitions win, songs stay together, and the certificate proves it."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.rows import Assignment, ClipSummary, Curation
from tutti.pipelines.stages.split import SplitConfig, certify, grouped, plan_split, rule_for

CLASSES = ("cello", "voice")
HALF = {"train": 0.5, "validation": 0.5}
OFFICIAL = SplitConfig(rules={"s/train": "train", "s/test": "test", "s/valid": "validation", "s/pool": HALF})


def summary(id, partition="pool", group=None, pcm=None, presence=(PRESENT, UNKNOWN), source="s"):
    return ClipSummary(id, source, partition, group or f"song of {id}", pcm or f"audio of {id}", presence)


def planned(clips, config=OFFICIAL, seed=0):
    return plan_split(Curation(clips), config=config, instruments=CLASSES, seed=seed)


def splits(clips, config=OFFICIAL, seed=0):
    return {a.id: a.split or a.reason for a in planned(clips, config, seed).assignments}


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


def test_the_rest_of_a_training_song_that_shares_audio_with_a_test_song_goes_too():
    clips = [
        summary("train 1", "train", "x", pcm="1"),
        summary("train 2", "train", "x", pcm="2"),
        summary("test 1", "test", "y", pcm="1"),
        summary("test 2", "test", "y", pcm="3"),
        summary("train 3", "train", "z", pcm="4"),
    ]

    found = {a.id: a for a in planned(clips).assignments}

    assert found["train 1"].reason == found["train 2"].reason == "duplicate"
    assert found["train 2"].detail == "its group x shares audio with split test"
    assert (found["test 1"].split, found["test 2"].split, found["train 3"].split) == ("test", "test", "train")
    assert {found[id].group for id in ("train 1", "train 2", "test 1", "test 2")} == {"x"}


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


def test_rejected_clips_do_not_count_as_a_leak():
    clips = [summary("a", group="song"), summary("b", group="song")]

    certificate = certify(
        clips, [Assignment("a", "song", "train"), Assignment("b", "song", reason="duplicate")], OFFICIAL, CLASSES
    )

    assert certificate["pools"]["s/pool"]["clips"] == {"train": 1}


# --- whatever comes


@st.composite
def any_clips(draw):
    """Official and undivided songs, some of them with equal audio; labels agree or not."""
    clips = []
    for number in range(draw(st.integers(0, 25))):
        partition = draw(st.sampled_from(["train", "valid", "test", "pool", "pool"]))
        group = f"{partition} {draw(st.integers(0, 4))}"
        presence = tuple(draw(st.sampled_from([PRESENT, ABSENT, UNKNOWN])) for _ in CLASSES)
        clips.append(summary(f"{number:02d}", partition, group, f"{draw(st.integers(0, 12))}", presence))
    return clips


@given(data=st.data(), clips=any_clips(), seed=st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_the_order_of_clips_never_matters(data, clips, seed):
    assert planned(data.draw(st.permutations(clips)), seed=seed) == planned(clips, seed=seed)


@given(clips=any_clips())
@settings(max_examples=150, deadline=None)
def test_no_plan_leaks_contradicts_upstream_or_forgets_a_clip(clips):
    plan = planned(clips)

    assert [a.id for a in plan.assignments] == sorted(clip.id for clip in clips)
    by_id = {clip.id: clip for clip in clips}
    kept = [a for a in plan.assignments if a.split is not None]
    assert all((a.split is None) != (a.reason is None) for a in plan.assignments)
    assert len({by_id[a.id].pcm_sha256 for a in kept}) == len(kept)
    official = {"train": {"train"}, "valid": {"validation"}, "test": {"test"}, "pool": {"train", "validation"}}
    assert all(a.split in official[by_id[a.id].partition] for a in kept)
    for groups in ({a.id: a.group for a in kept}, {a.id: by_id[a.id].group for a in kept}):
        splits_of = {}
        for a in kept:
            splits_of.setdefault(groups[a.id], set()).add(a.split)
        assert all(len(found) == 1 for found in splits_of.values())
    assert plan.certificate["groups_in_two_splits"] == 0


@given(clips=any_clips())
@settings(max_examples=100, deadline=None)
def test_no_test_clip_is_ever_lost_to_anything_but_its_own_kind_or_a_conflict(clips):
    reasons = {a.id: a for a in planned(clips).assignments}

    for clip in clips:
        if clip.partition == "test" and reasons[clip.id].reason == "duplicate":
            survivor = reasons[clip.id].detail.removeprefix("same audio as ")
            assert next(other for other in clips if other.id == survivor).partition == "test"


def test_a_song_of_more_clips_than_a_byte_counts_weighs_as_many():
    clips = [summary(f"a-{part:03d}", group="long song") for part in range(256)] + [summary("b")]
    pool = planned(clips).certificate["pools"]["s/pool"]

    assert sorted(pool["clips"].values()) == [1, 256]
    assert pool["worst_label_deviation"] == {"cello": pytest.approx(256 / 257 - 0.5, abs=1e-6), "voice": 0.0}
