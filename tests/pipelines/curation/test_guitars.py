"""Guitars of a build: who teaches their kinds, who gets one, and what the labels' origin names."""

from dataclasses import replace

import numpy as np
import pytest

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.curation.crossfit import FitConfig
from tutti.pipelines.curation.guitars import label_kinds, teaching_clips
from tutti.pipelines.curation.pseudo_label import GuitarConfig
from tutti.pipelines.rows import ClipSummary

CLASSES = ("acoustic_guitar", "electric_guitar", "piano")
CONFIG = GuitarConfig(fit=FitConfig(folds=5, deals=1))
PLACES = np.eye(8, dtype=np.float32) * 4  # where each class lies


def clip(name, source, partition, presence, place, guitar=UNKNOWN):
    vector = place + 0.5 * np.random.default_rng(list(name.encode())).standard_normal(8)
    summary = ClipSummary(
        f"{source}/{name}@0", source, partition, f"{source}/{name[:-1]}", f"pcm {name}", presence,
        generic_guitar=guitar, embedding=f"{source}/{name}",
    )  # fmt: skip
    return summary, vector.astype(np.float32)


def songs(source, partition, number, kinds=(0, 1, 2)):
    """Two clips of each song, one class a song."""
    one_hot = [[PRESENT if kind == at else UNKNOWN for at in range(3)] for kind in range(3)]
    return [
        clip(f"{CLASSES[kind]} {song}{part}", source, partition, one_hot[kind], PLACES[kind])
        for kind in kinds for song in range(number) for part in "ab"
    ]  # fmt: skip


def guitar(name, kind, **changes):
    made, vector = clip(name, "openmic2018", "train", [UNKNOWN] * 3, PLACES[kind], guitar=PRESENT)
    return replace(made, **changes), vector


def labelled(pairs, config=CONFIG, embedder="e", seed=0, trains=lambda clip: True, vectors=None):
    read = {made.embedding: vector for made, vector in pairs} if vectors is None else vectors
    clips = sorted((made for made, _ in pairs), key=lambda made: made.id)
    return label_kinds(
        clips, instruments=CLASSES, config=config, seed=seed, embedder=embedder, embedding_of=read.__getitem__,
        trains=trains,
    )  # fmt: skip


GUITARS = [guitar("one a", 0), guitar("two a", 1)]
IRMAS = songs("irmas", "train", 8)


def test_guitars_of_unknown_kind_get_the_one_that_they_sound_like():
    labels, report = labelled([*IRMAS, *GUITARS])

    assert {name: set(added) for name, added in labels.items()} == {
        "openmic2018/one a@0": {"acoustic_guitar"},
        "openmic2018/two a@0": {"electric_guitar"},
    }
    assert (report["guitars"], report["told"], report["songs"]) == (2, 2, [8, 8])
    assert {label.origin for added in labels.values() for label in added.values()} == {report["origin"]}
    assert all(label.confidence == round(label.confidence, 2) for added in labels.values() for label in added.values())


def test_a_guitar_whose_kind_is_known_or_that_is_absent_gets_none():
    known, absent = guitar("one a", 0, presence=[PRESENT, UNKNOWN, ABSENT]), guitar("two a", 1, generic_guitar=ABSENT)

    assert labelled([*IRMAS, known, absent]) == ({}, {"skipped": "no guitar of unknown kind"})


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "2 guitars of unknown kind, and none of a known one: add IRMAS"),
        (songs("irmas", "train", 8, kinds=[0, 2]), "8 songs with acoustic and 0 with electric guitar, 4 of each "),
        (songs("irmas", "train", 3), "3 songs with acoustic and 3 with electric guitar, 4 of each are needed: add "),
    ],
)
def test_where_kinds_cannot_be_taught_the_report_says_why_and_the_build_goes_on(pairs, said):
    labels, report = labelled([*pairs, *GUITARS])

    assert labels == {}
    assert report["skipped"].startswith(said)


def test_what_only_trains_teaches_and_an_evaluation_never_does():
    audioset = songs("audioset", "balanced_train", 3) + songs("audioset", "eval", 3)
    pairs = [*songs("irmas", "train", 2), *audioset, *songs("irmas", "test", 2), *GUITARS]
    two = clip("mix a", "irmas", "test", [PRESENT, ABSENT, PRESENT], PLACES[0])  # IRMAS test has several labels a clip

    clips = [made for made, _ in [*pairs, two]]
    teachers = teaching_clips(clips, lambda made: made.partition in ("train", "balanced_train"))

    assert {(made.source, made.partition) for made in teachers} == {("irmas", "train"), ("audioset", "balanced_train")}


def test_the_origin_names_embedder_clips_labels_settings_and_seed_and_no_weights():
    pairs = [*IRMAS, *GUITARS]
    origin = labelled(pairs)[1]["origin"]
    (first, vector), *rest = pairs
    shaken = {made.embedding: vector * np.float32(1 + 1e-6) for made, vector in pairs}

    assert origin.startswith("pseudo:")
    assert labelled(pairs[::-1])[1]["origin"] == origin
    assert labelled(pairs, vectors=shaken)[1] == labelled(pairs)[1]  # another processor
    others = [
        labelled(pairs, embedder="f"),
        labelled(pairs, seed=1),
        labelled(pairs, config=replace(CONFIG, low=0.2)),
        labelled([(replace(first, pcm_sha256="other"), vector), *rest]),
        labelled([(replace(first, presence=[UNKNOWN, UNKNOWN, PRESENT]), vector), *rest]),
        labelled(rest),
    ]
    assert len({origin, *(report["origin"] for _, report in others)}) == 7
