"""Splits: official partitions win, songs stay together, and the certificate proves it."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.rows import Assignment, ClipSummary, Curation, Match
from tutti.pipelines.stages.split import SplitConfig, certify, grouped, plan_split, rule_for

CLASSES = ("cello", "voice")
HALF = {"train": 0.5, "validation": 0.5}
OFFICIAL = SplitConfig(rules={"s/train": "train", "s/test": "test", "s/valid": "validation", "s/pool": HALF})


def summary(id, partition="pool", group=None, pcm=None, presence=(PRESENT, UNKNOWN), source="s"):
    return ClipSummary(id, source, partition, group or f"song of {id}", pcm or f"audio of {id}", presence)


def planned(clips, config=OFFICIAL, seed=0, near=()):
    matches = tuple(Match(*sorted(pair), 0.0, 3.0, 1.0, 0.9) for pair in near)
    return plan_split(Curation(clips, matches=matches), config=config, instruments=CLASSES, seed=seed)


def splits(clips, config=OFFICIAL, seed=0, near=()):
    return {a.id: a.split or a.reason for a in planned(clips, config, seed, near).assignments}


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


# --- near-duplicates across splits


def test_one_near_duplicate_of_an_artist_in_a_test_set_costs_one_clip_of_thirty():
    clips = [summary(f"{n:02d}", "train", "artist") for n in range(30)] + [summary("video", "test")]

    plan = planned(clips, near=[("07", "video")])

    lost = [a for a in plan.assignments if a.split is None]
    assert [(a.id, a.reason, a.detail) for a in lost] == [("07", "duplicate", "shares audio with video in test")]
    assert plan.certificate["linked_songs_in_two_splits"] == [["artist", "train", "song of video", "test"]]


def test_a_song_that_may_move_goes_where_a_near_duplicate_of_it_is():
    rules = {"s/test": "test", "s/train": "train", "s/pool": {"train": 1, "validation": 1, "test": 1}}
    clips = [summary("a1", group="a"), summary("a2", group="a"), summary("t", "test"), summary("x", "train")]

    assert splits(clips, SplitConfig(rules=rules), near=[("a1", "t")]) == {
        "a1": "test", "a2": "test", "t": "test", "x": "train",
    }  # fmt: skip
    assert splits(clips, SplitConfig(rules=rules), near=[("a1", "x")])["a2"] == "train"
    assert splits(clips, SplitConfig(rules=rules), near=[("a1", "x"), ("a2", "t")]) == {
        "a1": "test", "a2": "test", "t": "test", "x": "duplicate",
    }  # fmt: skip


def test_a_song_that_may_not_go_there_loses_only_the_linked_clip():
    clips = [summary("a1", group="a"), summary("a2", group="a"), summary("t", "test")]

    found = splits(clips, near=[("a1", "t")])  # the pool's rule knows no test

    assert found["a1"] == "duplicate"
    assert found["a2"] in ("train", "validation")
    assert found["t"] == "test"


def test_songs_that_may_move_follow_each_other_to_the_most_evaluated_split():
    rules = {"s/test": "test", "s/train": "train", "s/pool": {"train": 1, "validation": 1, "test": 1}}
    clips = [summary("a"), summary("b"), summary("c"), summary("t", "test")]

    found = splits(clips, SplitConfig(rules=rules), near=[("a", "b"), ("b", "c"), ("c", "t")])

    assert found == dict.fromkeys("abct", "test")


def test_of_a_chain_over_three_splits_the_middle_goes_and_both_ends_stay():
    clips = [summary("a", "train"), summary("b", "valid"), summary("c", "test")]

    assert splits(clips, near=[("a", "b"), ("b", "c")]) == {"a": "train", "b": "duplicate", "c": "test"}


def test_a_clip_linked_to_many_evaluation_clips_names_the_lowest():
    clips = [summary("a", "train"), summary("v", "valid"), summary("t", "test")]

    [lost] = [a for a in planned(clips, near=[("a", "v"), ("a", "t")]).assignments if a.reason]

    assert (lost.id, lost.detail) == ("a", "shares audio with t in test")


def test_a_near_duplicate_of_a_clip_is_one_of_its_equal_copies_too():
    clips = [summary("a", "train"), summary("b", "valid", pcm="1"), summary("c", "test", pcm="1")]

    assert splits(clips, near=[("a", "b")]) == {"a": "duplicate", "b": "duplicate", "c": "test"}


def test_near_duplicates_within_one_split_stay_and_are_one_group():
    plan = planned([summary("a", "train"), summary("b", "train")], near=[("a", "b")])

    assert {a.id: (a.split, a.group) for a in plan.assignments} == {
        "a": ("train", "song of a"),
        "b": ("train", "song of a"),
    }


def test_songs_that_share_audio_nearly_are_dealt_as_one():
    clips = [summary(f"{song}{part}", group=song) for song in "abcdefgh" for part in range(2)]

    found = splits(clips, near=[("a0", "e1"), ("e0", "h0")])

    assert len({found[f"{song}{part}"] for song in "aeh" for part in range(2)}) == 1
    assert set(found.values()) == {"train", "validation"}


REMOVING = SplitConfig(rules=OFFICIAL.rules, near_duplicates="remove")


def test_near_duplicates_can_be_removed_and_the_one_for_evaluation_stays():
    clips = [summary("a", "train"), summary("b", "test"), summary("c", "train"), summary("d", "train")]

    plan = planned(clips, REMOVING, near=[("a", "b"), ("c", "d")])

    assert {a.id: (a.split, a.reason, a.detail) for a in plan.assignments} == {
        "a": (None, "near_duplicate", "nearly the same audio as b"),
        "b": ("test", None, ""),
        "c": ("train", None, ""),
        "d": (None, "near_duplicate", "nearly the same audio as c"),
    }


def test_of_a_chain_of_near_duplicates_each_that_is_removed_is_one_of_a_clip_that_stays():
    clips = [summary(name, "train") for name in "abcd"]

    found = splits(clips, REMOVING, near=[("a", "b"), ("b", "c"), ("c", "d")])

    assert found == {"a": "train", "b": "near_duplicate", "c": "train", "d": "near_duplicate"}


def test_windows_that_share_little_are_not_removed():
    clips = [summary("a", "train"), summary("b", "train")]
    curation = Curation(clips, matches=(Match("a", "b", 8.0, 2.0, 0.2, 0.9),))

    plan = plan_split(curation, config=REMOVING, instruments=CLASSES, seed=0)

    assert [a.split for a in plan.assignments] == ["train", "train"]


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_removed_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="removed_share"):
        SplitConfig(removed_share=share)


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


# --- whatever comes


@st.composite
def any_clips(draw):
    """Official and undivided songs, some of them with equal or nearly equal audio; labels agree or not."""
    clips = []
    for number in range(draw(st.integers(0, 25))):
        partition = draw(st.sampled_from(["train", "valid", "test", "pool", "pool", "any"]))
        group = f"{partition} {draw(st.integers(0, 4))}"
        presence = tuple(draw(st.sampled_from([PRESENT, ABSENT, UNKNOWN])) for _ in CLASSES)
        clips.append(summary(f"{number:02d}", partition, group, f"{draw(st.integers(0, 30))}", presence))
    return clips, draw(near_pairs(clips))


@st.composite
def near_pairs(draw, clips):
    ids = [clip.id for clip in clips]
    if len(ids) < 2:
        return []
    pairs = st.tuples(st.sampled_from(ids), st.sampled_from(ids)).filter(lambda pair: pair[0] < pair[1])
    return sorted(draw(st.sets(pairs, max_size=12)))


ANY = SplitConfig(rules={**OFFICIAL.rules, "s/any": {"train": 2, "validation": 1, "test": 1}})
REMOVED = replace(ANY, near_duplicates="remove")
MAY = {
    "train": {"train"}, "valid": {"validation"}, "test": {"test"}, "pool": {"train", "validation"},
    "any": {"train", "validation", "test"},
}  # fmt: skip


@given(data=st.data(), drawn=any_clips(), seed=st.integers(0, 3), config=st.sampled_from([ANY, REMOVED]))
@settings(max_examples=80, deadline=None)
def test_the_order_of_clips_never_matters(data, drawn, seed, config):
    clips, near = drawn
    shuffled = data.draw(st.permutations(clips)), data.draw(st.permutations(near))

    assert planned(shuffled[0], config, seed, shuffled[1]) == planned(clips, config, seed, near)


@given(drawn=any_clips(), config=st.sampled_from([ANY, REMOVED]))
@settings(max_examples=200, deadline=None)
def test_no_plan_leaks_contradicts_upstream_or_forgets_a_clip(drawn, config):
    clips, near = drawn
    plan = planned(clips, config, near=near)

    assert [a.id for a in plan.assignments] == sorted(clip.id for clip in clips)
    by_id = {clip.id: clip for clip in clips}
    kept = {a.id: a for a in plan.assignments if a.split is not None}
    assert all((a.split is None) != (a.reason is None) for a in plan.assignments)
    assert len({by_id[id].pcm_sha256 for id in kept}) == len(kept)
    assert all(a.split in MAY[by_id[id].partition] for id, a in kept.items())
    for groups in ({id: a.group for id, a in kept.items()}, {id: by_id[id].group for id in kept}):
        splits_of = {}
        for id, group in groups.items():
            splits_of.setdefault(group, set()).add(kept[id].split)
        assert all(len(found) == 1 for found in splits_of.values())
    assert all(kept[a].split == kept[b].split for a, b in near if a in kept and b in kept)
    assert plan.certificate["groups_in_two_splits"] == plan.certificate["audio_in_two_splits"] == 0


@given(drawn=any_clips())
@settings(max_examples=200, deadline=None)
def test_a_clip_goes_only_where_it_shares_audio_itself_with_the_clip_that_its_row_names(drawn):
    clips, near = drawn
    by_id = {clip.id: clip for clip in clips}
    found = {a.id: a for a in planned(clips, ANY, near=near).assignments}
    shared = {tuple(sorted((by_id[a].pcm_sha256, by_id[b].pcm_sha256))) for a, b in near}

    for lost in found.values():
        if lost.reason != "duplicate":
            continue
        other = lost.detail.removeprefix("same audio as ").removeprefix("shares audio with ").split(" in ")[0]
        sounds = by_id[lost.id].pcm_sha256, by_id[other].pcm_sha256
        assert sounds[0] == sounds[1] or tuple(sorted(sounds)) in shared
        assert lost.detail.startswith("same audio") or found[other].split in ("validation", "test")


@given(drawn=any_clips())
@settings(max_examples=100, deadline=None)
def test_no_test_clip_is_ever_lost_to_anything_but_its_own_kind_or_a_conflict(drawn):
    clips, near = drawn
    reasons = {a.id: a for a in planned(clips, near=near, config=ANY).assignments}

    for clip in clips:
        if clip.partition == "test" and reasons[clip.id].reason == "duplicate":
            survivor = reasons[clip.id].detail.removeprefix("same audio as ")
            assert next(other for other in clips if other.id == survivor).partition == "test"


@given(drawn=any_clips())
@settings(max_examples=100, deadline=None)
def test_songs_that_share_audio_and_are_in_two_splits_are_named(drawn):
    clips, near = drawn
    plan = planned(clips, ANY, near=near)
    song = {clip.id: clip.group for clip in clips}
    split = {song[a.id]: a.split for a in plan.assignments if a.split}

    named = {(a, b) for a, _, b, _ in plan.certificate["linked_songs_in_two_splits"]}

    for a, b in near:
        pair = tuple(sorted((song[a], song[b])))
        if pair[0] in split and pair[1] in split and split[pair[0]] != split[pair[1]]:
            assert pair in named


def test_a_song_of_more_clips_than_a_byte_counts_weighs_as_many():
    clips = [summary(f"a-{part:03d}", group="long song") for part in range(256)] + [summary("b")]
    pool = planned(clips).certificate["pools"]["s/pool"]

    assert sorted(pool["clips"].values()) == [1, 256]
    assert pool["worst_label_deviation"] == {"cello": pytest.approx(256 / 257 - 0.5, abs=1e-6), "voice": 0.0}
