"""Score a finished run on a split of any dataset version with the same classes.

    python -m train.evaluate --run RUN --data build/ultimate --split test

stderr: a table. stdout: one JSON object: figures of the model and of the best constant predictor,
over known labels only. Thresholds are the run's, fixed on its validation split.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datasets.errors import UsageError
from datasets.manifest import Manifest, read_manifest
from train.cli import Parser, run_command
from train.data import LogMelSplit, logmel_split, read_split
from train.features import LogMel
from train.inference import Tagger, clip_probabilities
from train.recipe import TrainRecipe
from train.report import Report, evaluation_report, table
from train.saved import SavedRun, load_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("train.evaluate", __doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run folder of train.run")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="output root or version folder")
    parser.add_argument("--split", default="test", metavar="NAME", help="default: test")
    options = parser.parse(arguments)
    result = evaluate(load_run(options.run, default_device()), read_manifest(options.data), options.split)
    print(table(result, options.split), file=sys.stderr)
    print(json.dumps({"run": str(options.run), **result}, ensure_ascii=False))
    return 0


def evaluate(run: SavedRun, manifest: Manifest, split: str) -> dict[str, Any]:
    """The report of a split, and which data it was.

    Raises:
        UsageError: the dataset has other classes, or no such split, or an empty one.
        IntegrityError: the data are damaged.
    """
    if tuple(manifest.instruments) != run.data.instruments:
        raise UsageError(
            f"{manifest.folder}: classes {', '.join(manifest.instruments)}; "
            f"the run was trained for {', '.join(run.data.instruments)}: evaluate on data with these"
        )
    loaded = load_split(manifest, split, run.recipe, make_front_end(run.recipe), run.tagger.mean.device)
    report = score(run.tagger, loaded, run.recipe, run.thresholds, run.data.instruments)
    return {"split": split, "version": manifest.version, "root_digest": manifest.root_digest, **report}


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_front_end(recipe: TrainRecipe) -> LogMel:
    """The recipe's log-mel.

    Raises:
        UsageError: its sizes do not fit together.
    """
    try:
        return LogMel(recipe.features)
    except ValueError as error:
        raise UsageError(f"recipe {recipe.name}: {error}") from error


def load_split(
    manifest: Manifest, split: str, recipe: TrainRecipe, front_end: LogMel, device: torch.device
) -> LogMelSplit:
    """Log-mel frames and labels of a split, on a device; the audio is dropped.

    Raises:
        UsageError: no such split, an empty one, or another sample rate than the recipe's.
        IntegrityError: the data are damaged.
    """
    audio = read_split(manifest, split)
    if not len(audio):
        raise UsageError(f"{manifest.folder}: split {split!r} is empty; build with more data or another split recipe")
    if audio.sample_rate != recipe.features.sample_rate:
        raise UsageError(
            f"{manifest.folder}: clips at {audio.sample_rate} Hz, the recipe expects {recipe.features.sample_rate}; "
            f"train with --set features.sample_rate={audio.sample_rate}"
        )
    return logmel_split(audio, front_end, device, target_lufs=recipe.target_lufs, max_gain_db=recipe.max_gain_db)


def score(
    tagger: Tagger,
    split: LogMelSplit,
    recipe: TrainRecipe,
    thresholds: Sequence[float],
    instruments: Sequence[str],
) -> Report:
    """Figures of a network on a split."""
    probability = clip_probabilities(tagger, split, recipe.window_frames, recipe.pooling)
    return evaluation_report(split.presence.cpu().numpy(), probability, thresholds, instruments)


if __name__ == "__main__":
    sys.exit(main())
