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

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import UsageError, YieldError
from tutti.datasets.files import write_file
from tutti.datasets.manifest import read_manifest
from tutti.datasets.settings import nearest
from tutti.pipelines.curation.overrides import overrides_csv
from tutti.pipelines.relabel.page import (
    Origin,
    candidates,
    display_name,
    draw,
    read_answers,
    read_sample,
    refuse_existing,
    write_sample,
)
from tutti.pipelines.relabel.statistics import (
    READINGS,
    agreement,
    corrections,
    statistics,
)

PER_CLASS = 27  # Lumen 2023: 27 clips of each of its eleven classes, 297 in all

EPILOG = """
examples:
  python -m pipelines.relabel sample --data build/irmas --split train
  python -m pipelines.relabel score --sample relabel                    finds relabel/answers*.json
  python -m pipelines.relabel score --sample relabel --answers a.json b.json --overrides overrides.csv

exit codes: 0 done, 2 usage, 3 damaged dataset or sample, 5 nothing to draw, 74 disk
"""


# --- compare


# --- commands


def build_parser() -> Parser:
    """Build the parser of both commands and their flags."""
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
    """Format the report for people."""
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
    """Run the command; return its exit code."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    arguments = build_parser().parse_args(argv)
    return sample_command(arguments) if arguments.command == "sample" else score_command(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
