"""Train a model from a dataset version.

    python -m train.run --data build/ultimate --recipe logmel_cnn --set epochs=10
    python -m train.run --data build/ultimate --recipe lumen_convnext_fluffy --seeds 3
    python -m train.run --data build/ultimate --recipe irmas_finetune --tiny

Trains on split `train`, fixes epoch and thresholds on `validation`, reports on `test` where there
is one. stderr: one line per epoch. stdout: one JSON summary, the last line. The run folder is
described in train/saved.py; without --output it is runs/RECIPE-KEY, KEY naming recipe and data, so
that the same command writes to the same place.

Stopped, however: run the same command again, it goes on from its last checkpoint (bit for bit on a CPU).
Finished: the same command answers `"changed": false` and touches nothing. A folder that holds a run with
other settings or data is refused (exit code 2); --restart removes that run, and nothing else, and begins
anew. A folder in which another process trains is refused with 75.

--seeds N trains seeds 0 to N - 1 into folders seed-0, ... of the output and answers mean and deviation.
Under torchrun several processes share every batch (train/fitting/distributed.py).
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from datasets.command import Parser, run_command
from datasets.errors import UsageError
from datasets.manifest import Manifest, digest_of, read_manifest
from datasets.record import ABSENT, PRESENT
from train import saved
from train.cli import add_hot_copy, hot_copy_folder
from train.clips import AnyClips, StreamedClips
from train.evaluate import clip_figures, default_device, score
from train.features import AUDIOSET_STATISTICS, Standardization, standardization
from train.fitting import distributed
from train.fitting.augmentation import Augmentation, make_augmentation
from train.fitting.loop import TrainingData, fit, groups_of, seed_weights
from train.fitting.optimize import make_optimizer
from train.frames.commands import run_frames
from train.frames.recipe import is_frames_recipe
from train.front_end import clips_to_learn_from, evaluation_unit, load_clips, make_front_end, sees_rgb, training_unit
from train.inference import Tagger, processor_threads
from train.model import count_parameters, input_of
from train.recipe import TrainRecipe, load_recipe
from train.run_folder import EVENTS, clear_folder, opened, summary_of
from train.scoring.bootstrap import over_seeds
from train.scoring.report import headline, rounded, table
from train.scoring.strong_sum import strong_sum
from train.scoring.thresholds import choose_thresholds


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit code."""
    return run_command(_goes_on, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m train.run", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="output root or version folder")
    parser.add_argument(
        "--recipe", required=True, metavar="NAME", help="a file of train/recipes, or musescore_multitask"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="run folder (default: runs/RECIPE-KEY)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="replace a recipe field")
    parser.add_argument("--tiny", action="store_true", help="a toy of the model, to see that everything runs")
    parser.add_argument("--seed", type=int, metavar="N", help="short for --set seed=N")
    parser.add_argument("--seeds", type=int, metavar="N", help="train seeds 0 to N - 1: mean and deviation")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint: what happens anyway")
    parser.add_argument("--restart", action="store_true", help="begin anew: remove the run that the folder holds")
    parser.add_argument("--checkpoint-steps", type=int, default=0, metavar="N", help="also write one every N steps")
    add_hot_copy(parser)
    options = parser.parse_args(arguments)
    if options.seeds is not None and (options.seeds < 1 or options.seed is not None):
        raise UsageError("--seeds N trains seeds 0 to N - 1: give N >= 1, and no --seed")
    if options.resume and options.restart:
        raise UsageError("--resume goes on and --restart begins anew: give one of them")
    overrides = options.set + ([] if options.seed is None else [f"seed={options.seed}"])
    if is_frames_recipe(options.recipe):
        return run_frames(options, overrides)
    recipe = load_recipe(options.recipe, overrides, tiny=options.tiny)
    manifest = read_manifest(options.data)
    how = {"output": options.output, "restart": options.restart, "checkpoint_steps": options.checkpoint_steps}
    how["hot_copies"] = hot_copy_folder(options.hot_copy)
    with processor_threads(recipe), distributed.process_group():
        if options.seeds is None:
            summary = train(recipe, manifest, **how)
        else:
            summary = train_seeds(recipe, manifest, options.seeds, **how)
        if distributed.rank() == 0:
            print(json.dumps(summary))
    return 0


def _goes_on(arguments: Sequence[str]) -> int:
    """The command, with a word for whoever stops it."""
    try:
        return _command(arguments)
    except KeyboardInterrupt:
        again = " (without --restart)" if "--restart" in arguments else ""
        print(f"stopped; run the same command again{again}, it goes on from its last checkpoint", file=sys.stderr)
        return 130


def train_seeds(
    recipe: TrainRecipe,
    manifest: Manifest,
    num_seeds: int,
    *,
    output: Path | None,
    restart: bool = False,
    checkpoint_steps: int = 0,
    hot_copies: Path | None = None,
) -> dict[str, Any]:
    """The same recipe with several seeds; every run's summary, and mean and deviation of the figures."""
    runs = []
    for seed in range(num_seeds):
        folder = None if output is None else output / f"seed-{seed}"
        seeded = replace(recipe, seed=seed)
        how: dict[str, Any] = {"restart": restart, "checkpoint_steps": checkpoint_steps, "hot_copies": hot_copies}
        runs.append(train(seeded, manifest, output=folder, **how))
    spreads = {
        split: over_seeds([run[split]["model"] for run in runs]) for split in ("validation", "test") if split in runs[0]
    }
    for split, figures in spreads.items():
        words = [f"{name} {spread}" for name, spread in figures.items() if spread is not None]
        _say(f"{split} over {num_seeds} seeds: {', '.join(words)}")
    return {
        "recipe": recipe.name,
        "seeds": num_seeds,
        "changed": any(run["changed"] for run in runs),
        "runs": runs,
        **{
            split: rounded({name: None if spread is None else asdict(spread) for name, spread in figures.items()})
            for split, figures in spreads.items()
        },
    }


def data_identity(manifest: Manifest) -> saved.DataIdentity:
    """What a run notes about its data."""
    dataset = str(manifest.content.get("dataset", ""))
    return saved.DataIdentity(dataset, manifest.version, manifest.root_digest, tuple(manifest.instruments))


def train(
    recipe: TrainRecipe,
    manifest: Manifest,
    *,
    output: Path | None,
    restart: bool = False,
    checkpoint_steps: int = 0,
    hot_copies: Path | None = None,
) -> dict[str, Any]:
    """A whole run: read, train, evaluate, write; what is left of it where it was stopped, nothing where it is finished.

    Args:
        recipe: all that decides, but the data.
        manifest: of the dataset version.
        output: the run folder; None: named after recipe and data.
        restart: begin anew, whatever a run left in the folder.
        checkpoint_steps: write one every so many steps, too; 0: after epochs only.
        hot_copies: folder in which decoded splits are kept and found again; None: nowhere.

    Returns:
        The summary for stdout.

    Raises:
        UsageError: recipe, data and folder do not go together.
        IntegrityError: the data or the checkpoint are damaged.
        TryLaterError: another process trains in the folder.
    """
    data = data_identity(manifest)
    identity = saved.identity_of(recipe, data)
    folder = output or Path("runs") / f"{recipe.name}-{digest_of(identity)[:12]}"
    with opened(folder, identity, restart=restart) as done:
        if done is not None:
            return summary_of(done, recipe.name, folder, headline)
        return _train(recipe, manifest, folder, identity, restart, checkpoint_steps, hot_copies)


def _train(
    recipe: TrainRecipe,
    manifest: Manifest,
    folder: Path,
    identity: dict[str, Any],
    restart: bool,
    checkpoint_steps: int,
    hot_copies: Path | None,
) -> dict[str, Any]:
    """What is left of a run, in a folder that is held for it; the summary."""
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    device = default_device()
    data = data_identity(manifest)
    material, statistics = load_material(recipe, manifest, device, hot_copies)
    num_clips = len(clips_to_learn_from(material.train, recipe))
    if num_clips == 0:
        raise UsageError(f"{manifest.folder}: no clip of split 'train' has a known label; nothing to learn")
    _warn_of_one_sided_classes(material.train, recipe, data.instruments)
    seconds["read"] = time.perf_counter() - started

    seed_weights(recipe.seed)
    goes_on = not restart and saved.checkpoint_state(folder) is not None
    wanted = saved.without_weights(recipe) if goes_on else recipe  # they are in the checkpoint
    tagger = saved.build_tagger(wanted, len(data.instruments), statistics).to(device)
    optimizer = None
    if not hasattr(tagger.network, "fit"):
        optimizer = make_optimizer(tagger.network, groups_of(tagger.network, recipe), recipe.optimize)
    if restart and distributed.rank() == 0:  # not before all the rest is known to fit together
        clear_folder(folder)
    distributed.barrier()
    progress = saved.load_checkpoint(folder, tagger.network, optimizer)
    num_parameters = count_parameters(tagger)
    _say(
        f"{recipe.name}: {num_parameters:,} weights; {num_clips} clips to learn from, "
        f"{len(material.validation)} to validate; {_tier(material.train)} on {device}; to {folder}"
    )
    if goes_on:
        _say(f"goes on after {progress.finished_epochs} epochs and {len(progress.step_losses)} steps")
    epochs_before = progress.finished_epochs
    began = time.perf_counter()
    waited = _fit(tagger, optimizer, material, recipe, progress, folder, identity, checkpoint_steps)
    seconds["train"] = time.perf_counter() - began

    tagger.network.load_state_dict(progress.best_weights)
    thresholds = _fix_thresholds(tagger, material, recipe, manifest, hot_copies)
    evaluating = time.perf_counter()
    reports = {"validation": score(tagger, material.validation, recipe, thresholds, data.instruments)}
    if any(info.num_rows for info in manifest.shards("test")):
        test = load_clips(manifest, "test", recipe, device, unit=evaluation_unit(recipe), hot_copies=hot_copies)
        reports["test"] = score(tagger, test, recipe, thresholds, data.instruments)
    seconds["evaluate"] = time.perf_counter() - evaluating
    if distributed.rank() == 0:
        (folder / saved.METRICS).unlink(missing_ok=True)  # unfinished until it is written again
        saved.save_run(folder, recipe, data, statistics, thresholds, progress.best_weights)
        saved.write_metrics(folder, progress, reports, num_parameters)
    for split, report in reports.items():
        _say("\n" + table(report, split))
    epochs_now = progress.finished_epochs - epochs_before
    return {
        "recipe": recipe.name,
        "output": str(folder),
        "changed": True,
        "dataset": data.dataset,
        "version": data.version,
        "root_digest": data.root_digest,
        "parameters": num_parameters,
        "epochs": progress.finished_epochs,
        "best_epoch": progress.best_epoch,
        "reading": _tier(material.train),
        "clips_per_s": round(epochs_now * num_clips / seconds["train"], 1) if epochs_now else None,
        "data_wait_share": None if waited is None else round(waited, 3),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        **{split: headline(report) for split, report in reports.items()},
    }


def load_material(
    recipe: TrainRecipe, manifest: Manifest, device: torch.device, hot_copies: Path | None = None
) -> tuple[TrainingData, Standardization | None]:
    """Training and validation split as the recipe hears them, its augmentation, and log-mel statistics.

    Raises:
        UsageError: recipe and data do not go together.
        IntegrityError: the data are damaged.
    """
    heard, augmentation, statistics = load_training(recipe, manifest, device, hot_copies)
    unit = evaluation_unit(recipe)
    validation = load_clips(manifest, "validation", recipe, device, unit=unit, hot_copies=hot_copies)
    return TrainingData(heard, validation, augmentation), statistics


def load_training(
    recipe: TrainRecipe, manifest: Manifest, device: torch.device, hot_copies: Path | None = None
) -> tuple[AnyClips, Augmentation, Standardization | None]:
    """The training split as the recipe hears it, its augmentation, and log-mel statistics.

    Raises:
        UsageError: recipe and data do not go together.
        IntegrityError: the data are damaged.
    """
    augmentation = make_augmentation(
        recipe.augment,
        sample_rate=recipe.sample_rate,
        num_samples=recipe.num_samples(recipe.window_s),
        noises=recipe.noises,
        has_waveform=input_of(recipe.model) != "vggish",
    )
    if augmentation.spectrogram is not None and sees_rgb(recipe):
        raise UsageError(
            f"recipe {recipe.name}: augment={recipe.augment} changes log-mel, and image.channels=rgb has none; "
            "leave out what changes spectrograms, or --set image.channels=logmel"
        )
    trained = training_unit(recipe, varies_waveforms=augmentation.waveform is not None)
    evaluated = evaluation_unit(recipe)
    heard = load_clips(manifest, "train", recipe, device, unit=trained, hot_copies=hot_copies)
    statistics = AUDIOSET_STATISTICS if recipe.standardize == "audioset" else None
    if statistics is None and evaluated == "frames" and (front_end := make_front_end(recipe)) is not None:
        statistics = standardization(heard.frames(front_end.to(device)))
    return heard, augmentation, statistics


def _warn_of_one_sided_classes(split: AnyClips, recipe: TrainRecipe, instruments: Sequence[str]) -> None:
    one_sided = (split.presence == PRESENT).any(dim=0) & ~(split.presence == ABSENT).any(dim=0)
    names = [instruments[index] for index in torch.nonzero(one_sided).flatten().tolist()]
    if names and recipe.loss.unknown_weight == 0:
        _say(
            f"warning: {', '.join(names)}: never known to be absent in split 'train', so the model can only learn "
            "to say present; build with labels that state absence, or --set unknown_weight=0.1"
        )


def _fit(
    tagger: Tagger,
    optimizer: torch.optim.Optimizer | None,
    material: TrainingData,
    recipe: TrainRecipe,
    progress: saved.Progress,
    folder: Path,
    identity: dict[str, Any],
    checkpoint_steps: int,
) -> float | None:
    """Train with checkpoint, curves and a progress line per epoch; the share of time that steps waited for data."""
    started = time.perf_counter()
    instruments = tuple(identity["instruments"])
    if distributed.rank() > 0:  # the first process writes for all
        return fit(tagger, optimizer, material, recipe, instruments, progress, lambda progress: None)
    # Curves of epochs beyond the checkpoint (the run died before it was written) are hidden.
    writer = SummaryWriter(str(folder / saved.TENSORBOARD), purge_step=progress.finished_epochs + 1, **EVENTS)

    def epoch_done(progress: saved.Progress) -> None:
        saved.save_checkpoint(folder, identity, tagger.network, optimizer, progress)
        figures = progress.history[-1]
        for name, value in figures.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, figures["epoch"])
        writer.flush()
        _say(_epoch_line(figures, 1 if optimizer is None else recipe.epochs, time.perf_counter() - started))

    def step_done(progress: saved.Progress) -> None:
        if checkpoint_steps and len(progress.step_losses) % checkpoint_steps == 0:
            saved.save_checkpoint(folder, identity, tagger.network, optimizer, progress)

    try:
        return fit(tagger, optimizer, material, recipe, instruments, progress, epoch_done, step_done)
    finally:
        writer.close()


def _epoch_line(figures: dict[str, Any], num_epochs: int, elapsed_s: float) -> str:
    shown = [(name, key) for name, key in _SHOWN.items() if key in figures]
    words = [f"{name} {'-' if figures[key] is None else format(figures[key], '.3f')}" for name, key in shown]
    return f"epoch {figures['epoch']}/{num_epochs}  {'  '.join(words)}  {elapsed_s:.0f} s"


_SHOWN = {
    "loss": "train_loss",
    "validation loss": "validation_loss",
    "mAP": "map",
    "micro F1": "micro_f1",
    "macro F1": "macro_f1",
    "accuracy": "predominant_accuracy",
}


def _tier(clips: AnyClips) -> str:
    return "streaming" if isinstance(clips, StreamedClips) else "resident"


def _fix_thresholds(
    tagger: Tagger, material: TrainingData, recipe: TrainRecipe, manifest: Manifest, hot_copies: Path | None
) -> tuple[float, ...]:
    """Thresholds from the validation split and nothing else."""
    if recipe.thresholds_on == "validation":
        presence, probability = material.validation.known_labels, clip_figures(tagger, material.validation, recipe)[0]
    elif input_of(recipe.model) == "vggish":
        raise UsageError(f"recipe {recipe.name}: embeddings cannot be summed; set thresholds_on=validation")
    else:
        samples = load_clips(manifest, "validation", recipe, tagger.device, unit="samples", hot_copies=hot_copies)
        presence, probability = strong_sum(tagger, samples, recipe)
    return choose_thresholds(recipe.thresholds, presence, probability, split="validation")


def _say(line: str) -> None:
    if distributed.rank() == 0:
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
