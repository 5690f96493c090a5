"""Score a finished run on a split of any dataset version with the same classes.

    python -m train.evaluate --run RUN --data build/ultimate --split test --intervals

stderr: a table. stdout: one JSON object: figures of the model and of the best constant predictor,
over known labels only; with --intervals where they would lie with other songs. Thresholds are the
run's, fixed on its validation split. Pictures are written to RUN/pictures/SPLIT-VERSION/: instruments.png,
roc.png, f1_per_clip.png, confusion.png.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.command import Parser, run_command
from datasets.errors import UsageError
from datasets.manifest import Manifest, read_manifest
from train.cli import add_hot_copy, hot_copy_folder
from train.clips import AnyClips
from train.fitting.loop import chunk_loss
from train.frames.commands import score_frames
from train.frames.saved import is_frames_run
from train.front_end import evaluation_unit, load_clips
from train.inference import Tagger, chunk_logits, pool_logits, processor_threads
from train.recipe import TrainRecipe
from train.saved import PICTURES, SavedRun, load_run
from train.scoring.bootstrap import NUM_RESAMPLES, metric_intervals
from train.scoring.metrics import Floats, Presence
from train.scoring.report import Report, evaluation_report, rounded, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit code."""
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
    if is_frames_run(options.run):
        return score_frames(options, default_device())
    resamples = options.resamples if options.intervals else 0
    run = load_run(options.run, default_device())
    hot_copies = hot_copy_folder(options.hot_copy)
    pictures = None if options.no_pictures else options.run / PICTURES
    with processor_threads(run.recipe):
        result = evaluate(
            run,
            read_manifest(options.data),
            options.split,
            num_resamples=resamples,
            hot_copies=hot_copies,
            pictures=pictures,
        )
    print(table(result, options.split), file=sys.stderr)
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
    """The report of a split, and which data it was.

    Args:
        run: the model.
        manifest: of the dataset version.
        split: its name.
        num_resamples: of the bootstrap; 0: no intervals.
        hot_copies: folder in which decoded splits are kept and found again; None: nowhere.
        pictures: folder in which a folder for this split and version is filled; None: no pictures.

    Raises:
        UsageError: the dataset has other classes, or no such split, or an empty one.
        IntegrityError: the data are damaged.
    """
    if tuple(manifest.instruments) != run.data.instruments:
        raise UsageError(
            f"{manifest.folder}: classes {', '.join(manifest.instruments)}; "
            f"the run was trained for {', '.join(run.data.instruments)}: evaluate on data with these"
        )
    unit = evaluation_unit(run.recipe)
    clips = load_clips(manifest, split, run.recipe, run.tagger.device, unit=unit, hot_copies=hot_copies)
    probability, loss = clip_figures(run.tagger, clips, run.recipe)
    report = _report(clips.known_labels, probability, run.thresholds, run.data.instruments, loss, run.recipe)
    if num_resamples:
        found = metric_intervals(
            clips.known_labels,
            probability,
            np.asarray(run.thresholds),
            clips.groups,
            np.random.default_rng(0),
            num_resamples=num_resamples,
        )
        report["intervals"] = rounded({name: asdict(interval) for name, interval in found.items()})
    if pictures is not None:
        from train.scoring.pictures import evaluation_pictures  # matplotlib takes a second to load

        drawn = evaluation_pictures(
            pictures / f"{split}-{manifest.version}",
            report,
            clips.known_labels,
            probability,
            run.thresholds,
            run.data.instruments,
            f"{run.recipe.name}, {split}",
        )
        report["pictures"] = [str(path) for path in drawn]
    return {"split": split, "version": manifest.version, "root_digest": manifest.root_digest, **report}


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clip_figures(tagger: Tagger, clips: AnyClips, recipe: TrainRecipe) -> tuple[Floats, float]:
    """Probability (N, C) of every clip, and the cross-entropy of the chunks."""
    logits_KC, plan = chunk_logits(tagger, clips, recipe)
    presence_KC = clips.presence[torch.from_numpy(plan.clips).to(logits_KC.device)]
    return pool_logits(logits_KC, plan.clips, recipe.pooling), chunk_loss(logits_KC, presence_KC, recipe)


def score(
    tagger: Tagger,
    clips: AnyClips,
    recipe: TrainRecipe,
    thresholds: Sequence[float],
    instruments: Sequence[str],
) -> Report:
    """Figures of a network on a split."""
    probability, loss = clip_figures(tagger, clips, recipe)
    return _report(clips.known_labels, probability, thresholds, instruments, loss, recipe)


def _report(
    presence_NC: Presence,
    probability_NC: Floats,
    thresholds: Sequence[float],
    instruments: Sequence[str],
    loss: float,
    recipe: TrainRecipe,
) -> Report:
    one_of_all = recipe.loss.kind == "cross_entropy"
    return evaluation_report(presence_NC, probability_NC, thresholds, instruments, loss, one_of_all=one_of_all)


if __name__ == "__main__":
    sys.exit(main())
