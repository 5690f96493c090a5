"""Songs that share audio: which move, which clips go, and that whatever comes no sound is in two splits."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitting import CLASSES, OFFICIAL, planned, splits, summary

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.curation.split_rules import SplitConfig
from tutti.pipelines.rows import Curation, Match
from tutti.pipelines.stages.split import plan_split

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
