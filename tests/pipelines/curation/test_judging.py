"""Labels of a build under judgement: copies do not vouch for each other, pseudo-labels are judged as any other."""

from dataclasses import replace

import numpy as np
import pytest

from tutti.datasets.record import Label
from tutti.pipelines.curation.judging import JudgingRules, judge_labels, without
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.pipelines.rows import ClipSummary, Match
from tutti.pipelines.stages.curate import audio_groups

CLASSES = ("flute", "cello", "piano", "voice", "trumpet")


def songs(num_songs=165, *, clips=2, noise=0.6, seed=0):
    """Summaries of songs with one instrument each, and their vectors by blob: Gaussian clouds."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((len(CLASSES), 24))
    rows, vectors = [], {}
    for song in range(num_songs):
        heard = song % len(CLASSES)
        mood = rng.standard_normal(24)
        for clip in range(clips):
            clip_id = f"irmas/{song:03}-{clip}"
            vectors[clip_id] = (centers[heard] + noise * (mood + 0.4 * rng.standard_normal(24))).astype(np.float32)
            rows.append(summary(clip_id, f"irmas/song{song:03}", heard))
    return rows, vectors


def summary(clip_id, group, label):
    presence = [1 if column == label else -1 for column in range(len(CLASSES))]
    return ClipSummary(clip_id, "irmas", "train", group, f"pcm of {clip_id}", presence, embedding=clip_id)


def judged(clips, vectors, matches=(), pseudo=None, drops=lambda clip: True):
    rules = JudgingRules(CLASSES, OutlierConfig(), pool=True, drops=drops, seed=0)
    clips = sorted(clips, key=lambda clip: clip.id)
    return judge_labels(clips, pseudo or {}, audio_groups(clips, matches), rules, vectors.__getitem__)


def copied(clips, vectors, ids, *, elsewhere):
    """Add a slightly different copy of each clip, in a song of its own or in that of the clip; and the matches."""
    rng = np.random.default_rng(1)
    added, matches = [], []
    for clip in clips:
        if clip.id in ids:
            copy = replace(clip, id=f"{clip.id}-copy", pcm_sha256=f"copy of {clip.id}", embedding=f"{clip.id}-copy")
            copy = replace(copy, group=f"irmas/with {clip.id}") if elsewhere else copy
            vectors[copy.id] = vectors[clip.id] + 0.02 * rng.standard_normal(24).astype(np.float32)
            added.append(copy)
            matches.append(Match(clip.id, copy.id, 0.0, 10.0, 1.0, 0.95, 0.97))
    return [*clips, *added], matches


def mislabelled(clips, ids):
    def other(clip):
        return replace(clip, presence=[*clip.presence[-1:], *clip.presence[:-1]])

    return [other(clip) if clip.id in ids else clip for clip in clips]


WRONG = [f"irmas/{song:03}-0" for song in range(0, 42, 3)]  # 14 clips, each given as the next instrument


@pytest.mark.parametrize("situation", ["alone", "copy in another group", "copy in the same group"])
def test_a_copy_with_the_same_wrong_label_hides_nothing(situation):
    clips, vectors = songs()
    clips, matches = mislabelled(clips, WRONG), []
    if situation != "alone":
        clips, matches = copied(clips, vectors, WRONG, elsewhere="another" in situation)

    doubts = judged(clips, vectors, matches).doubts

    assert len(set(WRONG) & set(doubts)) >= 12
    assert sum(clip_id.removesuffix("-copy") not in WRONG for clip_id in doubts) <= 3  # of 316


def test_without_the_matches_copies_in_other_groups_would_vouch_for_each_other():
    clips, vectors = songs()
    clips, matches = copied(mislabelled(clips, WRONG), vectors, WRONG, elsewhere=True)

    assert len(set(WRONG) & set(judged(clips, vectors).doubts)) < len(
        set(WRONG) & set(judged(clips, vectors, matches).doubts)
    )


def test_groups_with_the_same_samples_or_matched_audio_are_joined_under_the_lowest_name():
    clips = [summary("a", "g3", 0), summary("b", "g2", 0), summary("c", "g1", 1), summary("d", "g4", 1)]
    clips[1] = replace(clips[1], pcm_sha256=clips[0].pcm_sha256)

    assert audio_groups(clips, [Match("b", "c", 0.0, 5.0, 1.0, 0.9)]) == {
        "g1": "g1",
        "g2": "g1",
        "g3": "g1",
        "g4": "g4",
    }


def test_songs_that_share_audio_are_judged_each_by_its_own_clips():
    clips, vectors = songs()
    wrong = [clip.id for clip in clips if clip.group == "irmas/song000"]  # a flute, given as the next instrument
    clips = mislabelled(clips, wrong)
    match = Match("irmas/000-0", "irmas/001-0", 0.0, 2.0, 0.2, 0.9)  # two seconds of it are in a song that is right

    assert set(judged(clips, vectors, [match]).doubts) == set(wrong)


def test_a_pseudo_label_that_disagrees_with_the_audio_is_taken_back_and_its_clip_stays():
    clips, vectors = songs(num_songs=120, clips=1)
    untold = [f"irmas/{song:03}-0" for song in range(0, 40)]
    heard = {clip.id: list(clip.presence).index(1) for clip in clips}
    partial = [replace(clip, presence=[1 if value == 1 else 0 for value in clip.presence]) for clip in clips]
    partial = [replace(clip, presence=[-1] * 5) if clip.id in untold else clip for clip in partial]
    partial.append(replace(partial[-1], id="irmas/two", presence=[1, 1, 0, 0, 0], embedding=partial[-1].id))
    pseudo = {clip_id: {CLASSES[heard[clip_id]]: Label(1, "pseudo:x", 0.9)} for clip_id in untold}
    pseudo[untold[0]] = {"piano": Label(1, "pseudo:x", 0.8)}  # it is a flute

    found = judged(partial, vectors, pseudo=pseudo)

    assert found.withdrawn == {untold[0]: "piano"}
    assert untold[0] not in found.doubts
    assert untold[0] not in found.quality  # nothing is left to judge
    assert untold[1] in found.quality


def test_without_takes_single_labels_back_and_leaves_no_clip_empty():
    pseudo = {"a": {"flute": Label(1, "x"), "cello": Label(1, "x")}, "b": {"flute": Label(1, "x")}}

    assert without(pseudo, {"a": "flute", "b": "flute"}) == {"a": {"cello": Label(1, "x")}}


def test_the_absence_of_one_kind_goes_with_the_presence_of_the_other():
    pseudo = {"a": {"acoustic_guitar": Label(0, "x", 0.1), "electric_guitar": Label(1, "x", 0.9)}}

    assert without(pseudo, {"a": "electric_guitar"}) == {}
    assert without(pseudo, {"a": "acoustic_guitar"}) == {"a": {"electric_guitar": Label(1, "x", 0.9)}}
