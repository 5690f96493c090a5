"""Statistics of listeners' answers against the labels: distances, agreement, corrections."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.curation.overrides import Override
from tutti.pipelines.relabel.page import Answers, Sample

READINGS = ("known_only", "unknown_as_absent")


def hamming(given: Mapping[str, int], heard: Collection[str], instruments: Sequence[str], reading: str) -> int:
    """Count the classes in which the given labels and a person's answer differ.

    Args:
        given: instrument -> PRESENT or ABSENT.
        heard: instruments that the person heard.
        instruments: the classes.
        reading: "known_only": unknown labels are not compared; "unknown_as_absent": they say absent.
    """
    default = None if reading == "known_only" else ABSENT
    compared = ((given.get(name, default), int(name in heard)) for name in instruments)
    return sum(stated is not None and stated != said for stated, said in compared)


def share(count: int, total: int) -> dict[str, Any]:
    """Compute a share with its 95 % Wilson interval; null where there is nothing to share."""
    if not total:
        return {"count": count, "share": None, "interval": None}
    interval = binomtest(count, total).proportion_ci(confidence_level=0.95, method="wilson")
    return {
        "count": count,
        "share": round(count / total, 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
    }


def histogram(numbers: Iterable[int]) -> dict[str, int]:
    """Count how often each number occurs, ascending."""
    return {str(number): count for number, count in sorted(Counter(numbers).items())}


def statistics(sample: Sample, answers: Answers) -> dict[str, Any]:
    """Compute the paper's statistics of one person's answers; doubtful ones count too, and are counted."""
    pairs = [(sample.labels[clip_id], answer.instruments) for clip_id, answer in answers.clips.items()]
    num_heard = [len(heard) for _, heard in pairs]
    readings = {}
    for reading in READINGS:
        distances = [hamming(given, heard, sample.instruments, reading) for given, heard in pairs]
        readings[reading] = {"exactly_right": share(distances.count(0), len(pairs)), "hamming": histogram(distances)}
    lacking = sum(any(said == PRESENT and name not in heard for name, said in given.items()) for given, heard in pairs)
    return {
        "annotator": answers.annotator,
        "clips": len(pairs),
        "unsure": sum(answer.unsure for answer in answers.clips.values()),
        "revealed": sum(answer.revealed for answer in answers.clips.values()),
        "readings": readings,
        "original_missing": share(lacking, len(pairs)),
        "num_instruments": histogram(num_heard),
        "multi_instrument": share(sum(number > 1 for number in num_heard), len(pairs)),
        "per_class": {name: _class_statistics(pairs, name) for name in sample.instruments},
    }


def _class_statistics(pairs: Iterable[tuple[Mapping[str, int], Collection[str]]], name: str) -> dict[str, int]:
    seen = Counter((given.get(name, UNKNOWN), name in heard) for given, heard in pairs)
    return {
        "given_present": seen[PRESENT, True] + seen[PRESENT, False],
        "present_confirmed": seen[PRESENT, True],
        "given_absent": seen[ABSENT, True] + seen[ABSENT, False],
        "absent_but_heard": seen[ABSENT, True],
        "unknown": seen[UNKNOWN, True] + seen[UNKNOWN, False],
        "unknown_but_heard": seen[UNKNOWN, True],
    }


def kappa(one: Sequence[int], other: Sequence[int]) -> float | None:
    """Compute Cohen's kappa of equally long decisions; None where both always decide the same one thing."""
    return None if len({*one, *other}) < 2 else round(float(cohen_kappa_score(one, other)), 4)


def agreement(one: Answers, other: Answers, instruments: Sequence[str]) -> dict[str, Any]:
    """Compute Cohen's kappa of two people over the clips that both answered: all decisions together, and per class."""
    both = [
        (one.clips[clip_id].instruments, other.clips[clip_id].instruments)
        for clip_id in one.clips
        if clip_id in other.clips
    ]
    columns = {name: ([int(name in a) for a, _ in both], [int(name in b) for _, b in both]) for name in instruments}
    pooled = [list(itertools.chain(*(column[side] for column in columns.values()))) for side in (0, 1)]
    return {
        "annotators": [one.annotator, other.annotator],
        "clips": len(both),
        "same": share(sum(a == b for a, b in both), len(both)),
        "kappa": kappa(*pooled),
        "per_class": {name: kappa(*column) for name, column in columns.items()},
    }


def corrections(
    sample: Sample, everyone: Sequence[Answers], *, confirmed: bool = False
) -> tuple[list[Override], list[tuple[str, str]]]:
    """Derive label overrides from the answers, and list where people disagree: such a label stays as given.

    Args:
        sample: with the given labels.
        everyone: answers of one or more people; those in doubt about a clip are not heard on it.
        confirmed: also where they confirm what was given, so that it becomes a human label.

    Returns:
        Overrides, and (clip id, instrument) of the disagreements.
    """
    overrides, disputed = [], []
    for clip_id, given in sample.labels.items():
        said = [each.clips[clip_id] for each in everyone if clip_id in each.clips and not each.clips[clip_id].unsure]
        note = "; ".join(answer.note for answer in said if answer.note)
        for name in sample.instruments if said else ():
            heard = {int(name in answer.instruments) for answer in said}
            before = given.get(name, UNKNOWN)
            if len(heard) > 1:
                disputed.append((clip_id, name))
            elif confirmed or before not in heard:
                words = f"was {_word(before)}" + (f"; {note}" if note else "")
                overrides.append(Override(clip_id, name, heard.pop(), words))
    return overrides, disputed


def _word(presence: int) -> str:
    return {PRESENT: "present", ABSENT: "absent"}.get(presence, "unknown")
