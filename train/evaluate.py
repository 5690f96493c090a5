"""Score a finished run on a split of any dataset version: with the same classes, or with notes for a run on notes.

    python -m train.evaluate --run RUN --data build/ultimate --split test --intervals

stderr: a table. stdout: one JSON object: figures of the model and of the best constant predictor,
over known labels only; with --intervals where they would lie with other songs. Thresholds are the
run's, fixed on its validation split. Pictures of tagging are written to RUN/pictures/SPLIT-VERSION/:
instruments.png, roc.png, f1_per_clip.png, confusion.png.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.train.cli import add_hot_copy, hot_copy_folder, processor_threads
from tutti.train.data import Data, default_device
from tutti.train.runs.saved import PICTURES, SavedRun, load_run
from tutti.train.scoring.bootstrap import NUM_RESAMPLES
from tutti.train.scoring.report import rounded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; answer the exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m train.evaluate", __doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run folder of train.run")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="output root or version folder")
    parser.add_argument("--split", default="test", metavar="NAME", help="default: test")
    parser.add_argument("--intervals", action="store_true", help="95 %% bootstrap intervals over songs")
    add_hot_copy(parser)
    parser.add_argument("--resamples", type=int, default=NUM_RESAMPLES, metavar="N", help="of the bootstrap")
    parser.add_argument("--no-pictures", action="store_true", help="figures only")
    options = parser.parse_args(arguments)
    if options.resamples < 1:
        raise UsageError(f"--resamples must be at least 1, got {options.resamples}")
    run = load_run(options.run, default_device())
    with processor_threads(run.recipe):
        result = evaluate(
            run,
            read_manifest(options.data),
            options.split,
            num_resamples=options.resamples if options.intervals else 0,
            hot_copies=hot_copy_folder(options.hot_copy),
            pictures=None if options.no_pictures else options.run / PICTURES,
        )
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
    task, thresholds = run.task, run.thresholds
    outputs = task.score_split(run.tagger, task.load_split(Data(manifest, run.tagger.device, hot_copies), split))
    report = task.report(outputs, thresholds)
    if num_resamples:
        found = task.intervals(outputs, thresholds, num_resamples)
        report["intervals"] = rounded({name: asdict(interval) for name, interval in found.items()})
    if pictures is not None:
        title = f"{run.recipe.name}, {split}"
        drawn = task.draw(outputs, thresholds, report, pictures / f"{split}-{manifest.version}", title)
        report |= {"pictures": [str(path) for path in drawn]} if drawn else {}
    return {"split": split, "version": manifest.version, "root_digest": manifest.root_digest, **report}


if __name__ == "__main__":
    sys.exit(main())
