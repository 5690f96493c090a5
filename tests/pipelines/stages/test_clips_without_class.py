"""Clips that were selected for a guitar alone go where it gets no kind; the row says so."""

import pytest
from rows import clip

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Label
from tutti.pipelines.curation.overrides import Override
from tutti.pipelines.rows import Assignment, ClipSummary, Curation
from tutti.pipelines.stages.curate import CurationRules, clips_without_class
from tutti.pipelines.stages.join import join_bucket
from tutti.pipelines.stages.select import SelectConfig
from tutti.pipelines.stages.split import SplitConfig, plan_split

CLASSES = ("acoustic_guitar", "electric_guitar", "piano")
DETAIL = "select.keep={}, and its guitar got no kind"


def summary(name, presence, source="openmic2018", guitar=PRESENT):
    return ClipSummary(name, source, "train", name, name, presence, generic_guitar=guitar)


CLIPS = [
    summary("guitar", [UNKNOWN] * 3),
    summary("guitar and piano", [UNKNOWN, UNKNOWN, PRESENT]),
    summary("guitar and no piano", [UNKNOWN, UNKNOWN, ABSENT]),
    summary("labelled", [UNKNOWN] * 3),
    summary("corrected", [UNKNOWN, UNKNOWN, ABSENT]),
    summary("of another corpus", [UNKNOWN] * 3, source="irmas"),
]
LABELS = {"labelled": {"acoustic_guitar": Label(PRESENT, "pseudo:0", 0.9)}}


@pytest.mark.parametrize(
    ("keep", "expected"),
    [("present", {"guitar", "guitar and no piano"}), ("known", {"guitar"}), ("all", set())],
)
def test_a_clip_goes_that_has_no_class_after_all(keep, expected):
    rules = CurationRules(
        CLASSES,
        trains_only={},
        select=SelectConfig(keep=keep, keep_sources=("openmic2018",)),
        overrides=(Override("corrected", "piano", ABSENT),),
    )

    assert clips_without_class(CLIPS, LABELS, rules) == dict.fromkeys(expected, DETAIL.format(keep))


def test_its_decision_is_curates_with_the_reason_no_class():
    curation = Curation(CLIPS[:2], no_class={"guitar": DETAIL.format("present")})

    plan = plan_split(curation, config=SplitConfig(rules={"*": "train"}), instruments=CLASSES, seed=0)

    assert [(one.id, one.split, one.reason, one.detail) for one in plan.assignments] == [
        ("guitar", None, "no_class", "select.keep=present, and its guitar got no kind"),
        ("guitar and piano", "train", None, ""),
    ]


def test_its_row_names_the_stage():
    (row,) = join_bucket("00", [clip("a")], [Assignment("a", "song", reason="no_class", detail="why")]).rows

    assert (row.stage, row.reason, row.value, row.detail) == ("curate", "no_class", None, "why")
