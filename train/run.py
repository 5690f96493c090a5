"""Train a model from a dataset version.

    python -m train.run --data build/ultimate --recipe logmel_cnn --set epochs=10

Trains on split `train`, fixes epoch and thresholds on `validation`, reports on `test` where there
is one. stderr: one line per epoch. stdout: one JSON summary, the last line. The run folder is
described in train/saved.py; without --output it is runs/RECIPE-KEY, KEY naming recipe and data, so
that the same command writes to the same place.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from datasets.errors import UsageError
from datasets.manifest import Manifest, digest_of, read_manifest
from datasets.record import ABSENT, PRESENT
from train import saved
from train.cli import Parser, run_command
from train.data import LogMelSplit
from train.evaluate import default_device, load_split, make_front_end, score
from train.features import standardization
from train.inference import Tagger, clip_probabilities
from train.loop import Material, clips_to_learn_from, fit, make_optimizer, seed_weights
from train.metrics import best_threshold, best_thresholds_per_class
from train.model import count_parameters
from train.recipe import TrainRecipe, load_recipe
from train.report import headline, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("train.run", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="output root or version folder")
    parser.add_argument("--recipe", required=True, metavar="NAME", help="a file of train/recipes")
    parser.add_argument("--output", type=Path, metavar="DIR", help="run folder (default: runs/RECIPE-KEY)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="replace a recipe field")
    parser.add_argument("--seed", type=int, metavar="N", help="short for --set seed=N")
    parser.add_argument("--resume", action="store_true", help="go on after the last finished epoch, if there is one")
    options = parser.parse(arguments)
    overrides = options.set + ([] if options.seed is None else [f"seed={options.seed}"])
    recipe = load_recipe(options.recipe, overrides)
    summary = train(recipe, read_manifest(options.data), output=options.output, resume=options.resume)
    print(json.dumps(summary, ensure_ascii=False))
    return 0


def data_identity(manifest: Manifest) -> saved.DataIdentity:
    """What a run notes about its data."""
    dataset = str(manifest.content.get("dataset", ""))
    return saved.DataIdentity(dataset, manifest.version, manifest.root_digest, tuple(manifest.instruments))


def train(recipe: TrainRecipe, manifest: Manifest, *, output: Path | None, resume: bool) -> dict[str, Any]:
    """A whole run: read, train, evaluate, write.

    Returns:
        The summary for stdout.

    Raises:
        UsageError: recipe, data and folder do not go together.
        IntegrityError: the data are damaged.
    """
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    device = default_device()
    data = data_identity(manifest)
    identity = saved.identity_of(recipe, data)
    folder = output or Path("runs") / f"{recipe.name}-{digest_of(identity)[:12]}"
    _check_folder(folder, identity)

    front_end = make_front_end(recipe)
    material = Material(
        train=load_split(manifest, "train", recipe, front_end, device),
        validation=load_split(manifest, "validation", recipe, front_end, device),
    )
    num_clips = len(clips_to_learn_from(material.train.presence.cpu().numpy(), recipe))
    if num_clips == 0:
        raise UsageError(f"{manifest.folder}: no clip of split 'train' has a known label; nothing to learn")
    _warn_of_one_sided_classes(material.train, recipe, data.instruments)
    statistics = standardization(material.train.frames)
    seconds["read"] = time.perf_counter() - started

    if not resume:
        _clear_folder(folder)
    seed_weights(recipe.seed)
    tagger = Tagger(saved.build_network(recipe, len(data.instruments)), statistics).to(device)
    optimizer = make_optimizer(tagger.network, recipe)
    progress = saved.load_checkpoint(folder, tagger.network, optimizer)
    num_parameters = count_parameters(tagger)
    _say(
        f"{recipe.name}: {num_parameters:,} weights; {num_clips} clips to learn from, "
        f"{len(material.validation)} to validate; {device}; to {folder}"
    )
    epochs_before = progress.finished_epochs
    seconds["train"] = _fit(tagger, optimizer, material, recipe, progress, folder, identity)

    tagger.network.load_state_dict(progress.best_weights)
    thresholds = _fix_thresholds(tagger, material, recipe)
    evaluating = time.perf_counter()
    reports = {"validation": score(tagger, material.validation, recipe, thresholds, data.instruments)}
    if any(info.num_rows for info in manifest.shards("test")):
        test = load_split(manifest, "test", recipe, front_end, device)
        reports["test"] = score(tagger, test, recipe, thresholds, data.instruments)
    seconds["evaluate"] = time.perf_counter() - evaluating
    (folder / saved.METRICS).unlink(missing_ok=True)  # unfinished until it is written again
    saved.save_run(folder, recipe, data, statistics, thresholds, progress.best_weights)
    metrics = {
        "schema_version": saved.SCHEMA_VERSION,
        "best_epoch": progress.best_epoch,
        "splits": reports,
        "history": progress.history,
    }
    saved.write_json(folder / saved.METRICS, metrics)
    for split, report in reports.items():
        _say("\n" + table(report, split))
    epochs_now = progress.finished_epochs - epochs_before
    return {
        "recipe": recipe.name,
        "output": str(folder),
        "dataset": data.dataset,
        "version": data.version,
        "root_digest": data.root_digest,
        "parameters": num_parameters,
        "epochs": progress.finished_epochs,
        "best_epoch": progress.best_epoch,
        "clips_per_s": round(epochs_now * num_clips / seconds["train"], 1) if epochs_now else None,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        **{split: headline(report) for split, report in reports.items()},
    }


def _check_folder(folder: Path, identity: dict[str, Any]) -> None:
    """Make sure that the folder holds this run or none."""
    state = saved.checkpoint_state(folder)
    if state is None and (folder / saved.CONFIG).exists():
        raise UsageError(f"{folder}: holds a run without its checkpoint; choose another --output")
    if state is not None and state["identity"] != identity:
        differing = ", ".join(_differences(state["identity"], identity))
        raise UsageError(f"{folder}: holds a run with other {differing}; choose another --output")


def _clear_folder(folder: Path) -> None:
    """Start over: remove what an earlier run of the same recipe and data wrote."""
    stale = [folder / name for name in (saved.METRICS, saved.CONFIG, saved.MODEL, saved.CHECKPOINT)]
    for path in [*stale, *(folder / saved.TENSORBOARD).glob("events.out.tfevents.*")]:
        path.unlink(missing_ok=True)


def _warn_of_one_sided_classes(split: LogMelSplit, recipe: TrainRecipe, instruments: Sequence[str]) -> None:
    one_sided = (split.presence == PRESENT).any(dim=0) & ~(split.presence == ABSENT).any(dim=0)
    names = [instruments[index] for index in torch.nonzero(one_sided).flatten().tolist()]
    if names and recipe.unknown_weight == 0:
        _say(
            f"warning: {', '.join(names)}: never known to be absent in split 'train', so the model can only learn "
            "to say present; build with labels that state absence, or --set unknown_weight=0.1"
        )


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            names += _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            names.append(f"{prefix}{name}")
    return names


def _fit(
    tagger: Tagger,
    optimizer: torch.optim.Optimizer,
    material: Material,
    recipe: TrainRecipe,
    progress: saved.Progress,
    folder: Path,
    identity: dict[str, Any],
) -> float:
    """Train with checkpoint, curves and a progress line per epoch; seconds taken."""
    started = time.perf_counter()
    # Curves of epochs beyond the checkpoint (the run died before it was written) are hidden.
    writer = SummaryWriter(str(folder / saved.TENSORBOARD), purge_step=progress.finished_epochs + 1)

    def epoch_done(progress: saved.Progress) -> None:
        saved.save_checkpoint(folder, identity, tagger.network, optimizer, progress)
        figures = progress.history[-1]
        for name, value in figures.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, figures["epoch"])
        writer.flush()
        _say(_epoch_line(figures, recipe.epochs, time.perf_counter() - started))

    try:
        fit(tagger, optimizer, material, recipe, progress, epoch_done)
    finally:
        writer.close()
    return time.perf_counter() - started


def _epoch_line(figures: dict[str, Any], num_epochs: int, elapsed_s: float) -> str:
    words = [f"{name} {'-' if figures[key] is None else format(figures[key], '.3f')}" for name, key in _SHOWN.items()]
    return f"epoch {figures['epoch']}/{num_epochs}  {'  '.join(words)}  {elapsed_s:.0f} s"


_SHOWN = {
    "loss": "train_loss",
    "validation loss": "validation_loss",
    "mAP": "map",
    "micro F1": "micro_f1",
    "macro F1": "macro_f1",
}


def _fix_thresholds(tagger: Tagger, material: Material, recipe: TrainRecipe) -> tuple[float, ...]:
    """One threshold per class, from the validation split and nothing else."""
    presence = material.validation_presence
    probability = clip_probabilities(tagger, material.validation, recipe.window_frames, recipe.pooling)
    if recipe.thresholds == "per_class":
        return tuple(best_thresholds_per_class(presence, probability))
    return (best_threshold(presence, probability),) * int(presence.shape[1])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
