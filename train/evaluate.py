"""Score a run on a split of any dataset version with its classes, or notes; or an AST that needs no training.

    python -m train.evaluate --run RUN --data build/ultimate --split test --intervals
    python -m train.evaluate --zero-shot --data build/ultimate --split test --intervals        AST, nothing is trained
    python -m train.evaluate --run RUN --data build/medleydb --per-second --split all

stderr: a table. stdout: one JSON object: figures of the model and of the best constant predictor,
over known labels only; with --intervals where they would lie with other songs. Thresholds are the
run's, fixed on its validation split. Pictures of tagging are written to RUN/pictures/SPLIT-VERSION/:
instruments.png, roc.png, f1_per_clip.png, confusion.png.

--per-second asks which of piano, guitar, violin, cello and flute play in each second of the mixes of songs: any run
that hears one of them, of whatever classes, on data with stems (table 3 of the MuseScore multitask paper, which is
printed beside it). --split all takes the songs of every split, --sources medleydb,mixing_secrets those of some corpora.

--zero-shot [WEIGHTS] takes AudioSet's own classifier (a hub name or a folder; default: the published AST). Classes are
mapped by name; one that AudioSet lacks is unknown, which the report says. Thresholds are searched on the data's
validation split, or .5 where it has none, or is what is scored; pictures are written with --pictures DIR.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.datasets.record import PRESENT, SPLITS
from tutti.train.cli import add_hot_copy, hot_copy_folder, processor_threads
from tutti.train.data import Data, default_device
from tutti.train.per_second import hear_mixes, second_report, second_table
from tutti.train.runs.saved import PICTURES, SavedRun, load_run
from tutti.train.scoring.bootstrap import NUM_RESAMPLES
from tutti.train.scoring.report import rounded
from tutti.train.scoring.thresholds import choose_thresholds
from tutti.train.task import NothingToScoreError
from tutti.train.tasks.zero_shot import PUBLISHED, ZeroShot, zero_shot


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; answer the exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m train.evaluate", __doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=Path, metavar="DIR", help="run folder of train.run")
    which.add_argument(
        "--zero-shot", nargs="?", const=PUBLISHED, metavar="WEIGHTS", help="an AST of AudioSet's classes"
    )
    parser.add_argument("--added-classes", action="store_true", help="--zero-shot: also AudioSet's neighboring classes")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="output root or version folder")
    parser.add_argument("--split", default="test", metavar="NAME", help="default: test")
    parser.add_argument("--intervals", action="store_true", help="95 %% bootstrap intervals over songs")
    parser.add_argument("--per-second", action="store_true", help="five instruments, second by second, in mixes")
    parser.add_argument("--sources", default="", metavar="NAME,...", help="--per-second: of which corpora")
    add_hot_copy(parser)
    parser.add_argument("--resamples", type=int, default=NUM_RESAMPLES, metavar="N", help="of the bootstrap")
    parser.add_argument("--no-pictures", action="store_true", help="figures only")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="where pictures go (default: RUN/pictures)")
    options = parser.parse_args(arguments)
    if options.resamples < 1:
        raise UsageError(f"--resamples must be at least 1, got {options.resamples}")
    if options.added_classes and options.zero_shot is None:
        raise UsageError("--added-classes goes with --zero-shot: a run has the classes that it was trained for")
    if options.per_second and options.zero_shot is not None:
        raise UsageError("--per-second goes with --run")
    if (options.sources or options.split == "all") and not options.per_second:
        raise UsageError("--sources and --split all go with --per-second")
    given: dict[str, Any] = {
        "num_resamples": options.resamples if options.intervals else 0,
        "hot_copies": hot_copy_folder(options.hot_copy),
        "pictures": None if options.no_pictures else options.pictures,
    }
    if options.zero_shot is not None:
        manifest = read_manifest(options.data)
        task = zero_shot(options.zero_shot, tuple(manifest.instruments), added=options.added_classes)
        result = evaluate_zero_shot(task, manifest, options.split, **given)
        print(task.table(result, options.split), file=sys.stderr)
        if task.unknown:
            print(f"unknown to AudioSet, without figures: {', '.join(task.unknown)}", file=sys.stderr)
        print(json.dumps(result))
        return 0
    run = load_run(options.run, default_device())
    if not options.no_pictures:
        given["pictures"] = options.pictures or options.run / PICTURES
    if options.per_second:
        with processor_threads(run.recipe):
            result = evaluate_seconds(
                run,
                read_manifest(options.data),
                options.split,
                [name for name in options.sources.split(",") if name],
                num_resamples=given["num_resamples"],
                hot_copies=given["hot_copies"],
            )
        print(second_table(result, run.recipe.name), file=sys.stderr)
        print(json.dumps({"run": str(options.run), **result}))
        return 0
    with processor_threads(run.recipe):
        result = evaluate(run, read_manifest(options.data), options.split, **given)
    print(run.task.table(result, options.split), file=sys.stderr)
    print(json.dumps({"run": str(options.run), **result}))
    return 0


def evaluate(
    run: SavedRun,
    manifest: Manifest,
    split: str,
    *,
    num_resamples: int = 0,
    hot_copies: Path | None = None,
    pictures: Path | None = None,
) -> dict[str, Any]:
    """Report on a split, and say which data it was.

    Args:
        run: the model.
        manifest: of the dataset version.
        split: its name.
        num_resamples: of the bootstrap; 0: no intervals.
        hot_copies: folder in which decoded splits are kept and found again; None: nowhere.
        pictures: folder in which a folder for this split and version is filled; None: no pictures.

    Raises:
        UsageError: run and data do not go together, or there is no such split, or an empty one.
        IntegrityError: the data are damaged.
    """
    task = run.task
    outputs = task.score_split(run.tagger, task.load_split(Data(manifest, run.tagger.device, hot_copies), split))
    return _report(task, outputs, run.thresholds, manifest, split, num_resamples=num_resamples, pictures=pictures)


def evaluate_seconds(
    run: SavedRun,
    manifest: Manifest,
    split: str,
    corpora: Sequence[str] = (),
    *,
    num_resamples: int = 0,
    hot_copies: Path | None = None,
) -> dict[str, Any]:
    """Report on five instruments second by second in the mixes of songs, and say which data it was.

    Args:
        run: the model.
        manifest: of the dataset version.
        split: its name; all: every one.
        corpora: of which sources; empty: all.
        num_resamples: of the bootstrap over songs; 0: no intervals.
        hot_copies: folder in which is noted which shards were checked; None: nowhere.

    Raises:
        UsageError: the run hears none of them, or the data hold no such mixes.
        IntegrityError: the data are damaged.
    """
    filled = [name for name in SPLITS if any(info.num_rows for info in manifest.shards(name))]
    heard = hear_mixes(
        run, Data(manifest, run.tagger.device, hot_copies), filled if split == "all" else [split], corpora
    )
    if run.data.root_digest == manifest.root_digest:
        print("the run was trained on a split of these very data", file=sys.stderr)
    report = second_report(heard, num_resamples)
    return {"split": split, "version": manifest.version, "root_digest": manifest.root_digest, **report}


def evaluate_zero_shot(
    task: ZeroShot,
    manifest: Manifest,
    split: str,
    *,
    num_resamples: int = 0,
    hot_copies: Path | None = None,
    pictures: Path | None = None,
) -> dict[str, Any]:
    """Report on a split as heard by a model that was not trained on any of the dataset.

    Thresholds are searched on the validation split; .5 where it is empty, knows no label, or is what is scored.
    For the arguments and errors see `evaluate`.
    """
    data = Data(manifest, default_device(), hot_copies)
    clips = task.load_split(data, split)
    model = task.load_model(data.device)
    outputs = task.score_split(model, clips)
    thresholds, chosen_on = (0.5,) * len(task.instruments), None
    if split != "validation" and any(info.num_rows for info in manifest.shards("validation")):
        with contextlib.suppress(NothingToScoreError):
            validation = task.score_split(model, task.load_split(data, "validation"))
            if (validation.presence == PRESENT).any():
                recipe, chosen_on = task.recipe, "validation"
                thresholds = choose_thresholds(
                    recipe.thresholds, validation.presence, validation.probability, split=chosen_on
                )
    report = _report(task, outputs, thresholds, manifest, split, num_resamples=num_resamples, pictures=pictures)
    return {"zero_shot": {**task.facts(), "thresholds_on": chosen_on}, **report}


def _report(
    task: Any,
    outputs: Any,
    thresholds: Any,
    manifest: Manifest,
    split: str,
    *,
    num_resamples: int,
    pictures: Path | None,
) -> dict[str, Any]:
    report = task.report(outputs, thresholds)
    if num_resamples:
        found = task.intervals(outputs, thresholds, num_resamples)
        report["intervals"] = rounded({name: asdict(interval) for name, interval in found.items()})
    if pictures is not None:
        title = f"{task.recipe.name}, {split}"
        drawn = task.draw(outputs, thresholds, report, pictures / f"{split}-{manifest.version}", title)
        report |= {"pictures": [str(path) for path in drawn]} if drawn else {}
    return {"split": split, "version": manifest.version, "root_digest": manifest.root_digest, **report}


if __name__ == "__main__":
    sys.exit(main())
