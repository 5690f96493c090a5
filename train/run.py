"""Train a model from a dataset version.

    python -m train.run --data build/ultimate --recipe logmel_cnn --set epochs=10
    python -m train.run --data build/ultimate --recipe lumen_convnext_fluffy --seeds 3
    python -m train.run --data build/ultimate --recipe irmas_finetune --tiny

Trains on split `train`, fixes epoch and thresholds on `validation`, reports on `test` where there
is one. stderr: one line per epoch. stdout: one JSON summary, the last line. The run folder is
described in train/runs/saved.py; without --output it is runs/RECIPE-KEY, KEY naming recipe and data, so
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import Manifest, digest_of, read_manifest
from tutti.train.cli import add_hot_copy, hot_copy_folder, processor_threads, with_weights
from tutti.train.clips import StreamedClips
from tutti.train.data import Data, default_device
from tutti.train.fitting import checkpoints, distributed
from tutti.train.fitting.distributed import say
from tutti.train.fitting.loop import fit, groups_of, seed_weights
from tutti.train.fitting.optimize import make_optimizer
from tutti.train.model import Listener, count_parameters
from tutti.train.recipe import load_recipe
from tutti.train.run_recipe import RunRecipe
from tutti.train.runs import saved
from tutti.train.runs.folder import EVENTS, Finished, clear_folder, opened
from tutti.train.scoring.bootstrap import Spread, over_seeds
from tutti.train.scoring.report import rounded
from tutti.train.tagger import without_weights
from tutti.train.task import AnyTask, Figures, Material, NothingToScoreError, Report
from tutti.train.tasks.listing import task_for, task_of


@dataclass(frozen=True)
class Keeping:
    """Places of a run, and what it leaves there."""

    output: Path | None = None  # the run folder; None: named after recipe and data
    restart: bool = False  # begin anew, whatever a run left in the folder
    checkpoint_steps: int = 0  # write one every so many steps, too; 0: after epochs only
    hot_copies: Path | None = None  # folder in which decoded splits are kept and found again; None: nowhere


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; answer the exit code."""
    return run_command(_goes_on, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m train.run", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="output root or version folder")
    parser.add_argument("--recipe", required=True, metavar="NAME", help="a file of train/recipes")
    parser.add_argument("--output", type=Path, metavar="DIR", help="run folder (default: runs/RECIPE-KEY)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="replace a recipe field, nested ones too: optimize.weight_decay=0.1",
    )
    parser.add_argument("--weights", metavar="RUN", help="begin with the backbone of a finished run of the same model")
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
    recipe = with_weights(load_recipe(options.recipe, overrides, tiny=options.tiny), options.weights)
    manifest = read_manifest(options.data)
    hot_copies = hot_copy_folder(options.hot_copy)
    keeping = Keeping(options.output, options.restart, options.checkpoint_steps, hot_copies)
    with processor_threads(recipe), distributed.process_group():
        if options.seeds is None:
            summary = _trained(recipe, manifest, keeping)
        else:
            summary = train_seeds(recipe, manifest, options.seeds, keeping)
        if distributed.rank() == 0:
            print(json.dumps(summary))
    return 0


def _goes_on(arguments: Sequence[str]) -> int:
    """Run the command, with a word for whoever stops it."""
    try:
        return _command(arguments)
    except KeyboardInterrupt:
        again = " (without --restart)" if "--restart" in arguments else ""
        print(f"stopped; run the same command again{again}, it goes on from its last checkpoint", file=sys.stderr)
        return 130


def train_seeds(recipe: RunRecipe, manifest: Manifest, num_seeds: int, keeping: Keeping) -> dict[str, Any]:
    """Train a recipe with several seeds; every run's summary, and mean and deviation of the figures."""
    runs = runs_of_seeds(recipe, manifest, num_seeds, keeping)
    spreads = spreads_of(runs)
    for split, figures in spreads.items():
        words = [f"{name} {spread}" for name, spread in figures.items() if spread is not None]
        say(f"{split} over {num_seeds} seeds: {', '.join(words)}")
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


def runs_of_seeds(recipe: RunRecipe, manifest: Manifest, num_seeds: int, keeping: Keeping) -> list[dict[str, Any]]:
    """Train seeds 0 to num_seeds - 1 into folders seed-0, ... of the output; their summaries."""
    return [
        _trained(
            replace(recipe, seed=seed),
            manifest,
            replace(keeping, output=None if keeping.output is None else keeping.output / f"seed-{seed}"),
        )
        for seed in range(num_seeds)
    ]


def spreads_of(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Spread | None]]:
    """Compute mean and deviation of the figures of each split over runs, from their summaries."""
    splits = [split for split in ("validation", "test") if split in runs[0]]
    return {split: over_seeds([run[split]["model"] for run in runs]) for split in splits}


def train(
    recipe: RunRecipe,
    manifest: Manifest,
    *,
    output: Path | None,
    restart: bool = False,
    checkpoint_steps: int = 0,
    hot_copies: Path | None = None,
) -> dict[str, Any]:
    """Run as a whole: read, train, evaluate, write; what is left of it where it was stopped.

    For `output`, `restart`, `checkpoint_steps` and `hot_copies` see `Keeping`.

    Returns:
        The summary for stdout.

    Raises:
        UsageError: recipe, data and folder do not go together.
        IntegrityError: the data or the checkpoint are damaged.
        TryLaterError: another process trains in the folder.
    """
    return _trained(recipe, manifest, Keeping(output, restart, checkpoint_steps, hot_copies))


def _trained(recipe: RunRecipe, manifest: Manifest, keeping: Keeping) -> dict[str, Any]:
    data = Data(manifest, default_device(), keeping.hot_copies)
    task = task_for(recipe, data)
    identity = saved.identity_of(task, saved.data_identity(manifest, task.instruments))
    folder = keeping.output or Path("runs") / f"{recipe.name}-{digest_of(identity)[:12]}"
    with opened(folder, identity, restart=keeping.restart) as done:
        if done is not None:
            return _summary_of(task, done, folder)
        return Run(task, data, folder, identity, keeping).carry_out()


class Run:
    """A run, or what is left of it, in a folder that is held for it."""

    def __init__(self, task: AnyTask, data: Data, folder: Path, identity: dict[str, Any], keeping: Keeping) -> None:
        self.task, self.data, self.folder, self.identity, self.keeping = task, data, folder, identity, keeping
        self.seconds: dict[str, float] = {}

    def carry_out(self) -> dict[str, Any]:
        """Read, train, evaluate, write; answer the summary."""
        began = time.perf_counter()
        material = self.task.load(self.data)
        self.seconds["read"] = time.perf_counter() - began
        tagger, optimizer, progress = self._begin(material)
        epochs_before = progress.finished_epochs
        began = time.perf_counter()
        waited = self._fit(tagger, optimizer, material, progress)
        self.seconds["train"] = time.perf_counter() - began

        began = time.perf_counter()
        tagger.network.load_state_dict(progress.best_weights)
        reports, thresholds = self._reports(tagger, material)
        self.seconds["evaluate"] = time.perf_counter() - began
        data, num_parameters = saved.data_identity(self.data.manifest, self.task.instruments), count_parameters(tagger)
        if distributed.rank() == 0:
            (self.folder / saved.METRICS).unlink(missing_ok=True)  # unfinished until it is written again
            saved.save_run(self.folder, self.task, data, material.statistics, thresholds, progress.best_weights)
            saved.write_metrics(self.folder, progress, reports, num_parameters)
        for split, report in reports.items():
            say("\n" + self.task.table(report, split))
        learned = (progress.finished_epochs - epochs_before) * len(material.chosen)
        return {
            **_first_facts(self.task, self.folder, changed=True),
            "dataset": data.dataset,
            "version": data.version,
            "root_digest": data.root_digest,
            "parameters": num_parameters,
            "epochs": progress.finished_epochs,
            "best_epoch": progress.best_epoch,
            "reading": self._tier(material),
            "clips_per_s": round(learned / self.seconds["train"], 1) if learned else None,
            "data_wait_share": None if waited is None else round(waited, 3),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            **{split: self.task.headline(report) for split, report in reports.items()},
        }

    def _tier(self, material: Material[Any]) -> str:
        clips: Any = self.task.clips(material.train)
        streamed = isinstance(clips, StreamedClips) or getattr(clips, "streamed", False)
        return "streaming" if streamed else "resident"

    def _begin(self, material: Material[Any]) -> tuple[Listener, torch.optim.Optimizer | None, checkpoints.Progress]:
        """Make network and optimizer as they were left, or fresh ones."""
        task, recipe = self.task, self.task.recipe
        seed_weights(recipe.seed)
        goes_on = not self.keeping.restart and checkpoints.checkpoint_state(self.folder) is not None
        # Published weights are in the checkpoint already.
        fresh = task_of(without_weights(recipe), task.instruments) if goes_on else task
        tagger: Listener = fresh.build(material.statistics).to(self.data.device)
        optimizer = None
        if not hasattr(tagger.network, "fit"):
            optimizer = make_optimizer(tagger.network, groups_of(tagger.network, recipe), recipe.optimize)
        if self.keeping.restart and distributed.rank() == 0:  # not before all the rest is known to fit together
            clear_folder(self.folder)
        distributed.barrier()
        progress = checkpoints.load_checkpoint(self.folder, tagger.network, optimizer)
        say(
            f"{recipe.name}: {count_parameters(tagger):,} weights; {len(material.chosen)} clips to learn "
            f"from, {len(material.validation)} to validate; {self._tier(material)} on {self.data.device}; "
            f"to {self.folder}"
        )
        if goes_on:
            say(f"goes on after {progress.finished_epochs} epochs and {len(progress.step_losses)} steps")
        return tagger, optimizer, progress

    def _fit(
        self,
        tagger: Listener,
        optimizer: torch.optim.Optimizer | None,
        material: Material[Any],
        progress: checkpoints.Progress,
    ) -> float | None:
        """Train with checkpoint, curves and a progress line per epoch; the share of time that steps waited for data."""
        started = time.perf_counter()
        if distributed.rank() > 0:  # the first process writes for all
            return fit(self.task, tagger, optimizer, material, progress, lambda progress: None)
        # Curves of epochs beyond the checkpoint (the run died before it was written) are hidden.
        writer = SummaryWriter(str(self.folder / saved.TENSORBOARD), purge_step=progress.finished_epochs + 1, **EVENTS)
        num_epochs, every = 1 if optimizer is None else self.task.recipe.epochs, self.keeping.checkpoint_steps

        def epoch_done(progress: checkpoints.Progress) -> None:
            checkpoints.save_checkpoint(self.folder, self.identity, tagger.network, optimizer, progress)
            figures = progress.history[-1]
            for name, value in figures.items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, figures["epoch"])
            writer.flush()
            say(_epoch_line(self.task, figures, num_epochs, time.perf_counter() - started))

        def step_done(progress: checkpoints.Progress) -> None:
            if every and len(progress.step_losses) % every == 0:
                checkpoints.save_checkpoint(self.folder, self.identity, tagger.network, optimizer, progress)

        try:
            return fit(self.task, tagger, optimizer, material, progress, epoch_done, step_done)
        finally:
            writer.close()

    def _reports(self, tagger: Listener, material: Material[Any]) -> tuple[dict[str, Report], Any]:
        """Choose thresholds on the validation split; score it, and the test split where there is one."""
        outputs = self.task.score_split(tagger, material.validation)
        thresholds = self.task.thresholds(tagger, self.data, outputs)
        reports = {"validation": self.task.report(outputs, thresholds)}
        if any(info.num_rows for info in self.data.manifest.shards("test")):
            try:
                test = self.task.load_split(self.data, "test")
            except NothingToScoreError as error:
                say(f"no figures of split 'test': {error}")
            else:
                reports["test"] = self.task.report(self.task.score_split(tagger, test), thresholds)
        return reports, thresholds


def _first_facts(task: AnyTask, folder: Path, *, changed: bool) -> dict[str, Any]:
    """Begin a summary; one of tagging names neither task nor classes."""
    notes = {} if task.recipe.task == "tagging" else {"task": task.recipe.task, "instruments": list(task.instruments)}
    return {"recipe": task.recipe.name, "output": str(folder), "changed": changed} | notes


def _summary_of(task: AnyTask, done: Finished, folder: Path) -> dict[str, Any]:
    """Report a run that has nothing left to do; it took no time.

    Raises:
        IntegrityError: its figures are not those of a run.
    """
    config, metrics = done.config, done.metrics
    try:
        summary = {
            **_first_facts(task, folder, changed=False),
            **config["data"],
            "parameters": metrics.get("parameters"),
            "epochs": len(metrics["history"]),
            "best_epoch": metrics["best_epoch"],
            "reading": None,
            "clips_per_s": None,
            "data_wait_share": None,
            "seconds": {},
            **{split: task.headline(report) for split, report in metrics["splits"].items()},
        }
    except (LookupError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{folder / saved.METRICS}: not a run's figures; --restart trains it anew") from error
    say(f"{folder}: this run is finished, nothing to do; --restart trains it anew")
    return summary


def _epoch_line(task: AnyTask, figures: Figures, num_epochs: int, elapsed_s: float) -> str:
    shown = [(name, key) for name, key in task.shown.items() if key in figures]
    words = [f"{name} {'-' if figures[key] is None else format(figures[key], '.3f')}" for name, key in shown]
    return f"epoch {figures['epoch']}/{num_epochs}  {'  '.join(words)}  {elapsed_s:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
