"""Clips with equal PCM: who survives, who goes, whose songs belong together."""

import itertools
import pickle
import random
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import clip, human, stored

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Rejected
from tutti.pipelines.curation.duplicates import find_duplicates, join_groups
from tutti.pipelines.curation.linked_songs import song_links
from tutti.pipelines.rows import ClipSummary, Match, conflict
from tutti.pipelines.stages.curate import summarize

P, A, U = PRESENT, ABSENT, UNKNOWN


def summary(id, pcm, *presence, group=None, partition="train"):
    return ClipSummary(id, "s", partition, group or f"song of {id}", pcm, presence or (P, U))


def judged(*clips, claim=lambda clip: 0):
    return find_duplicates(clips, claim)


def reasons(duplicates):
    return {id: reason for id, (reason, _) in sorted(duplicates.items())}


# --- survivors


def test_clips_with_different_pcm_are_left_alone():
    found = judged(summary("a", "1"), summary("b", "2"))

    assert found == {}


def test_of_two_equal_clips_the_lowest_id_survives():
    found = judged(summary("b", "1"), summary("a", "1"))

    assert found == {"b": ("duplicate", "same audio as a")}


def test_of_three_equal_clips_one_survives():
    assert reasons(judged(summary("c", "1"), summary("a", "1"), summary("b", "1"))) == {
        "b": "duplicate",
        "c": "duplicate",
    }


def test_an_evaluation_clip_survives_its_training_copy_whatever_the_ids():
    claims = {"train": 0, "validation": 1, "test": 2}

    found = judged(
        summary("a", "1", partition="train"),
        summary("b", "1", partition="validation"),
        summary("c", "1", partition="test"),
        claim=lambda clip: claims[clip.partition],
    )

    assert found == {"a": ("duplicate", "same audio as c"), "b": ("duplicate", "same audio as c")}


def test_conflicting_labels_lose_both_even_where_one_is_for_evaluation():
    found = judged(
        summary("a", "1", P, A), summary("b", "1", A, P, partition="test"), claim=lambda clip: clip.partition == "test"
    )

    assert found == {
        "a": ("duplicate_conflict", "same audio, other labels: b"),
        "b": ("duplicate_conflict", "same audio, other labels: a"),
    }


def test_one_conflict_among_three_loses_all_three():
    found = judged(summary("a", "1", P, U), summary("b", "1", P, U), summary("c", "1", A, U))

    assert reasons(found) == dict.fromkeys("abc", "duplicate_conflict")
    assert found["a"][1] == "same audio, other labels: b, c"


def test_songs_of_equal_and_of_nearly_equal_clips_are_linked():
    clips = [summary("a", "1", group="y"), summary("b", "1", group="x"), summary("c", "2", group="z")]

    assert song_links(clips, []) == [("x", "y")]
    assert song_links(clips, [Match("b", "c", 0.0, 3.0, 1.0, 0.9)]) == [("x", "y"), ("x", "z"), ("y", "z")]


# --- conflict


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((P, U), (P, U), False),
        ((P, U), (A, U), True),  # one says present, the other absent
        ((P, U), (U, P), True),  # two predominant instruments of one recording: IRMAS gac / gel
        ((P, P), (P, U), False),  # one knows more
        ((P, A), (P, U), False),
        ((P, P), (P, A), True),
        ((U, U), (P, U), False),
        ((A, A), (U, U), False),
        ((A, U), (U, P), False),  # no instrument present here: contained in any set
        ((), (), False),
    ],
)
def test_labels_conflict_where_both_cannot_be_right(a, b, expected):
    assert conflict(a, b) is expected
    assert conflict(b, a) is expected


def test_vectors_of_different_length_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        conflict((P,), (P, A))


# --- groups


def test_joining_is_transitive_and_named_by_the_lowest():
    assert join_groups([["d", "c"], ["b", "a"], ["e"], ["c", "b"]]) == {
        "a": "a",
        "b": "a",
        "c": "a",
        "d": "a",
        "e": "e",
    }


def test_nothing_to_join_is_nothing():
    assert join_groups([]) == {}


@given(links=st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=3), max_size=12))
@settings(max_examples=150, deadline=None)
def test_components_are_an_equivalence_relation_and_the_finest_one(links):
    joined = join_groups(links)

    neighbours = {name: {other for link in links if name in link for other in link} for name in joined}
    for name, root in joined.items():
        reached, frontier = {name}, [name]
        while frontier:
            for other in neighbours[frontier.pop()] - reached:
                reached.add(other)
                frontier.append(other)
        assert {other for other in joined if joined[other] == root} == reached
        assert root == min(reached)


@given(data=st.data(), links=st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=3), max_size=12))
@settings(max_examples=50, deadline=None)
def test_the_order_of_links_does_not_matter(data, links):
    assert join_groups(data.draw(st.permutations(links))) == join_groups(links)


def test_a_long_chain_of_links_is_one_component():
    names = [f"{number:05d}" for number in range(5_000)]
    links = [list(pair) for pair in itertools.pairwise(names)]
    random.Random(0).shuffle(links)

    assert set(join_groups(links).values()) == {"00000"}


# --- summaries


def test_a_summary_holds_presence_in_the_order_of_the_classes():
    audio = stored(pcm_sha256="12", blob="34", num_samples=48_000)
    one = clip("irmas/a@0", labels=human(voice=1, cello=0, guitar=1), audio=audio, partition="test", embedding="56")

    assert list(summarize(one, ("cello", "flute", "voice"))) == [
        ClipSummary(
            "irmas/a@0",
            "irmas",
            "test",
            "irmas/a",
            "12",
            (ABSENT, UNKNOWN, PRESENT),
            "34",
            48_000,
            generic_guitar=PRESENT,
            embedding="56",
        )
    ]


def test_a_summary_of_1006_classes_takes_a_byte_for_each_and_is_the_same_after_a_journey():
    labels = [UNKNOWN] * 1005 + [PRESENT]
    one = ClipSummary("nsynth/a@0", "nsynth", "merged", "nsynth/a", "12", labels)

    assert list(one.presence) == labels
    assert sys.getsizeof(one.presence) < 1_200
    assert len(pickle.dumps(one)) < 1_300
    assert pickle.loads(pickle.dumps(one)) == one == replace(one, presence=tuple(labels))
    assert replace(one, presence=[ABSENT] * 1006) != one


def test_a_rejected_clip_has_no_summary():
    assert list(summarize(Rejected(clip(), stage="clean", reason="silent"), ("cello",))) == []


def test_a_clip_that_was_not_prepared_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="irmas/song@0: has no stored audio"):
        list(summarize(clip(audio=None), ("cello",)))
