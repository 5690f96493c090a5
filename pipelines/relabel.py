"""Human relabelling: draw clips of every class, let people listen, compare what they say with what was given.

    python -m pipelines.relabel sample --data build/irmas --split train     then open relabel/index.html
    python -m pipelines.relabel score --sample relabel --overrides overrides.csv

The protocol is that of Lumen 2023: 27 clips per class; its statistics are those of `statistics`. They describe
the sample, in which every class counts alike, not the corpus. A label that the dataset does not know is no
"absent": every comparison is stated in two readings, over the known labels only, and with unknown read as absent
as in the paper.
"""

import argparse
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from datasets.command import Parser, run_command
from datasets.errors import UsageError, YieldError
from datasets.files import write_file
from datasets.manifest import read_manifest
from datasets.record import ABSENT, PRESENT, UNKNOWN
from datasets.settings import nearest
from pipelines.overrides import Override, overrides_csv
from pipelines.relabel_page import (
    Answers,
    Origin,
    Sample,
    candidates,
    display_name,
    draw,
    read_answers,
    read_sample,
    refuse_existing,
    write_sample,
)

PER_CLASS = 27  # Lumen 2023: 27 clips of each of its eleven classes, 297 in all
READINGS = ("known_only", "unknown_as_absent")

EPILOG = """
examples:
  python -m pipelines.relabel sample --data build/irmas --split train
  python -m pipelines.relabel score --sample relabel                    finds relabel/answers*.json
  python -m pipelines.relabel score --sample relabel --answers a.json b.json --overrides overrides.csv

exit codes: 0 done, 2 usage, 3 damaged dataset or sample, 5 nothing to draw, 74 disk
"""


# --- compare


def hamming(given: Mapping[str, int], heard: Collection[str], instruments: Sequence[str], reading: str) -> int:
    """Number of classes in which the given labels and a person differ.

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
    """A share with its 95 % Wilson interval; null where there is nothing to share."""
    if not total:
        return {"count": count, "share": None, "interval": None}
    interval = binomtest(count, total).proportion_ci(confidence_level=0.95, method="wilson")
    return {
        "count": count,
        "share": round(count / total, 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
    }


def histogram(numbers: Iterable[int]) -> dict[str, int]:
    """How often each number occurs, ascending."""
    return {str(number): count for number, count in sorted(Counter(numbers).items())}


def statistics(sample: Sample, answers: Answers) -> dict[str, Any]:
    """The paper's statistics of one person's answers; doubtful ones count too, and are counted."""
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
    """Cohen's kappa of equally long decisions; None where it is undefined: both always say the same one thing."""
    return None if len({*one, *other}) < 2 else round(float(cohen_kappa_score(one, other)), 4)


def agreement(one: Answers, other: Answers, instruments: Sequence[str]) -> dict[str, Any]:
    """Cohen's kappa of two people over the clips that both answered: all decisions together, and per class."""
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
    """What the answers change in the dataset, and where people disagree: such a label stays as given.

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


# --- commands


def build_parser() -> Parser:
    """Both commands and their flags."""
    what = "Let people label a sample of a dataset anew, and compare."
    parser = Parser("python -m pipelines.relabel", what, EPILOG)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    drawing = commands.add_parser("sample", help="draw clips into a folder with a page for listening")
    add = drawing.add_argument
    add("--data", metavar="DIR", type=Path, required=True, help="output root (build/NAME) or version folder")
    add("--output", metavar="DIR", type=Path, default=Path("relabel"), help="a new folder (default: relabel)")
    add("--per-class", metavar="N", type=int, default=PER_CLASS, help=f"clips per class (default {PER_CLASS})")
    add("--seed", metavar="N", type=int, default=0, help="another seed, other clips (default 0)")
    add("--split", metavar="NAME", action="append", default=[], help="only this split; repeatable")
    add("--source", metavar="NAME", action="append", default=[], help="only this corpus; repeatable")
    scoring = commands.add_parser("score", help="the paper's statistics, agreement, and overrides")
    add = scoring.add_argument
    add("--sample", metavar="DIR", type=Path, required=True, help="the folder that was drawn")
    add("--answers", metavar="FILE", type=Path, nargs="+", help="one per person (default: DIR/answers*.json)")
    add("--json", action="store_true", help="one JSON object")
    add("--overrides", metavar="FILE", type=Path, help="write the corrections as CSV for a recipe; a new file")
    add("--with-confirmed", action="store_true", help="overrides also for labels that people confirm")
    return parser


def sample_command(arguments: argparse.Namespace) -> int:
    """Draw a sample into a folder."""
    if arguments.per_class < 1:
        raise UsageError(f"--per-class {arguments.per_class}: expected a positive number")
    refuse_existing(arguments.output)
    manifest = read_manifest(arguments.data)
    _check_names("--split", arguments.split, {info.split for info in manifest.shards()})
    clips = list(candidates(manifest, arguments.split, ()))
    _check_names("--source", arguments.source, {clip.source for clip in clips})
    clips = [clip for clip in clips if not arguments.source or clip.source in arguments.source]
    drawn = draw(clips, manifest.instruments, arguments.per_class, arguments.seed)
    if not drawn:
        raise YieldError(f"{arguments.data}: no clip with a present class; see --split and --source")
    counts = Counter(name for _, name in drawn)
    for name in manifest.instruments:
        if counts[name] < arguments.per_class:
            print(f"note: {name}: {counts[name]} of {arguments.per_class} clips, there are no more", file=sys.stderr)
    origin = Origin(
        dataset=str(manifest.content["dataset"]),
        version=manifest.version,
        root_digest=manifest.root_digest,
        seed=arguments.seed,
        per_class=arguments.per_class,
        splits=tuple(sorted(set(arguments.split))),
        sources=tuple(sorted(set(arguments.source))),
    )
    write_sample(arguments.output, drawn, manifest.instruments, origin)
    print(f"{len(drawn)} clips; open {arguments.output / 'index.html'} in a browser")
    return 0


def _check_names(flag: str, wanted: Iterable[str], known: Collection[str]) -> None:
    for name in wanted:
        if name not in known:
            raise UsageError(f"{flag} {name}: not there{nearest(name, known)}; there are {', '.join(sorted(known))}")


def score_command(arguments: argparse.Namespace) -> int:
    """Compare answers with the given labels."""
    sample = read_sample(arguments.sample)
    paths = arguments.answers or sorted(arguments.sample.glob("answers*.json"))
    if not paths:
        raise UsageError(f"{arguments.sample}: no answers*.json; put them there, or name them with --answers")
    everyone = [read_answers(path, sample) for path in paths]
    for name, count in Counter(each.annotator for each in everyone).items():
        if count > 1:
            raise UsageError(f"{count} files of {name!r}; join them with the page's Load button, or change the name")
    report = {
        "sample": sample.digest,
        **{key: sample.content[key] for key in ("dataset", "version", "root_digest")},
        "clips": len(sample.labels),
        "annotators": [statistics(sample, each) for each in everyone],
        "agreement": [agreement(*pair, sample.instruments) for pair in itertools.combinations(everyone, 2)],
    }
    if arguments.overrides is not None:
        overrides, disputed = corrections(sample, everyone, confirmed=arguments.with_confirmed)
        if os.path.lexists(arguments.overrides):
            raise UsageError(f"{arguments.overrides}: exists, perhaps edited by hand; name another file")
        write_file(arguments.overrides, overrides_csv(overrides).encode())
        clips = len({override.id for override in overrides})
        print(f"{arguments.overrides}: {len(overrides)} labels of {clips} clips", file=sys.stderr)
        for clip_id, name in disputed:
            print(f"note: disputed, stays as given: {name} in {clip_id}", file=sys.stderr)
    print(json.dumps(report) if arguments.json else "\n".join(report_lines(report)))
    return 0


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield f"{report['dataset']} {report['version']}: a sample of {report['clips']} clips"
    for one in report["annotators"]:
        yield ""
        yield f"{one['annotator']}: {one['clips']} answered, {one['unsure']} unsure, {one['revealed']} not blind"
        for reading, title in zip(READINGS, ("known labels", "unknown = absent"), strict=True):
            found = one["readings"][reading]
            yield f"  exactly right, {title:17} {_percent(found['exactly_right'])}"
            yield f"  Hamming distance, {title:13} {_counts(found['hamming'])}"
        yield f"  an original label is missing     {_percent(one['original_missing'])}"
        yield f"  instruments per clip             {_counts(one['num_instruments'])}"
        yield f"  more than one instrument         {_percent(one['multi_instrument'])}"
        yield f"  {'class':30} confirmed/present  heard/absent  heard/unknown"
        for name, found in one["per_class"].items():
            present = f"{found['present_confirmed']}/{found['given_present']}"
            absent = f"{found['absent_but_heard']}/{found['given_absent']}"
            unknown = f"{found['unknown_but_heard']}/{found['unknown']}"
            yield f"  {display_name(name):30} {present:>17}  {absent:>12}  {unknown:>13}"
    for pair in report["agreement"]:
        yield ""
        yield f"{' and '.join(pair['annotators'])}: {pair['clips']} clips of both, the same {_percent(pair['same'])}"
        defined = {name: value for name, value in pair["per_class"].items() if value is not None}
        yield f"  Cohen's kappa {'-' if pair['kappa'] is None else pair['kappa']}: {_counts(defined)}"


def _percent(found: Mapping[str, Any]) -> str:
    if found["share"] is None:
        return "-"
    low, high = found["interval"]
    return f"{found['share']:.2%} ({found['count']}; 95 % interval {low:.1%} to {high:.1%})"


def _counts(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in found.items()) or "-"


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    arguments = build_parser().parse_args(argv)
    return sample_command(arguments) if arguments.command == "sample" else score_command(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
