"""A whole frame-level run: read, train, choose thresholds on validation, report, write.

    summary = train_frames(load_frames_recipe("musescore_multitask"), manifest, output=None)

One process; the run folder is described in train/saved.py.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from datasets.errors import UsageError
from datasets.manifest import Manifest, digest_of
from train import saved
from train.features import standardization
from train.frames.data import FrameClips, instruments_of, load_frame_clips
from train.frames.loop import fit, optimizer_of, scored
from train.frames.recipe import FramesRecipe
from train.frames.saved import build_tagger, identity_of, save_frames_run
from train.model import count_parameters
from train.run_folder import EVENTS, clear_folder, opened, summary_of

MIN_STD = {"db": 1.0, "magnitude": 1e-3}  # a bin that hardly moves must not become noise; 1e-3: -60 dB

_HEADLINE = ("instrument_macro_f1", "pitch_accuracy", "roll_accuracy", "second_auc")
_INITIAL = 2  # random stream of the initial weights; 0 and 1 are the loop's


def train_frames(
    recipe: FramesRecipe, manifest: Manifest, *, output: Path | None, restart: bool = False, checkpoint_steps: int = 0
) -> dict[str, Any]:
    """Train on split `train`, choose by `validation`, report on `test` where there is one.

    Args:
        recipe: all that decides, but the data.
        manifest: of the dataset version.
        output: the run folder; None: named after recipe and data.
        restart: begin anew, whatever a run left in the folder.
        checkpoint_steps: write one every so many steps, too; 0: after epochs only.

    Returns:
        The summary for stdout.

    Raises:
        UsageError: recipe, data and folder do not go together.
        IntegrityError: the data or the checkpoint are damaged.
        TryLaterError: another process trains in the folder.
    """
    instruments = instruments_of(manifest, recipe)
    identity = identity_of(recipe, manifest, instruments)
    folder = output or Path("runs") / f"{recipe.name}-{digest_of(identity)[:12]}"
    with opened(folder, identity, restart=restart) as done:
        if done is not None:
            found = summary_of(done, recipe.name, folder, _heading)
            return found | {"task": recipe.task, "instruments": done.config["instruments"]}
        return _train(recipe, manifest, folder, identity, restart, checkpoint_steps)


def _train(
    recipe: FramesRecipe,
    manifest: Manifest,
    folder: Path,
    identity: dict[str, Any],
    restart: bool,
    checkpoint_steps: int,
) -> dict[str, Any]:
    """What is left of a run, in a folder that is held for it; the summary."""
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    instruments = tuple(identity["instruments"])
    train = load_frame_clips(manifest, "train", recipe, instruments, device)
    validation = load_frame_clips(manifest, "validation", recipe, instruments, device)
    seconds = {"read": time.perf_counter() - started}

    statistics = standardization(train.frames, min_std=MIN_STD[recipe.cqt.scale])
    torch.manual_seed(int(np.random.SeedSequence([recipe.seed, 0, _INITIAL]).generate_state(1)[0]))
    tagger = build_tagger(recipe, instruments, statistics).to(device)
    optimizer = optimizer_of(tagger, recipe)
    if restart:  # not before all the rest is known to fit together
        clear_folder(folder)
    progress = saved.load_checkpoint(folder, tagger.network, optimizer)
    _say(
        f"{recipe.name}: {count_parameters(tagger):,} weights; {len(train)} clips to learn from, "
        f"{len(validation)} to validate; {', '.join(instruments)}; {device}; to {folder}"
    )
    if progress.finished_epochs or progress.step_losses:
        _say(f"goes on after {progress.finished_epochs} epochs and {len(progress.step_losses)} steps")
    epochs_before, began = progress.finished_epochs, time.perf_counter()
    writer = SummaryWriter(str(folder / saved.TENSORBOARD), purge_step=progress.finished_epochs + 1, **EVENTS)

    def epoch_done(progress: saved.Progress) -> None:
        saved.save_checkpoint(folder, identity, tagger.network, optimizer, progress)
        figures = progress.history[-1]
        for name, value in figures.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, figures["epoch"])
        writer.flush()
        words = "  ".join(f"{name.replace('_', ' ')} {_figure(figures[name])}" for name in ("train_loss", *_HEADLINE))
        _say(f"epoch {figures['epoch']}/{recipe.epochs}  {words}  {time.perf_counter() - began:.0f} s")

    def step_done(progress: saved.Progress) -> None:
        if checkpoint_steps and len(progress.step_losses) % checkpoint_steps == 0:
            saved.save_checkpoint(folder, identity, tagger.network, optimizer, progress)

    try:
        fit(tagger, optimizer, train, validation, recipe, progress, epoch_done, step_done)
    finally:
        writer.close()
    seconds["train"] = time.perf_counter() - began

    tagger.network.load_state_dict(progress.best_weights)
    evaluating = time.perf_counter()
    report, thresholds = scored(tagger, validation, recipe, None, instruments)
    reports = {"validation": report}
    test = _test_split(manifest, recipe, instruments, device)
    if test is not None:
        reports["test"], _ = scored(tagger, test, recipe, thresholds, instruments)
    seconds["evaluate"] = time.perf_counter() - evaluating
    data = saved.DataIdentity(
        str(manifest.content.get("dataset", "")), manifest.version, manifest.root_digest, instruments
    )
    (folder / saved.METRICS).unlink(missing_ok=True)  # unfinished until it is written again
    save_frames_run(folder, recipe, data, statistics, thresholds, progress.best_weights)
    saved.write_metrics(folder, progress, reports, count_parameters(tagger))
    for split, found in reports.items():
        _say("\n" + frames_table(found, split))
    epochs_now = progress.finished_epochs - epochs_before
    return {
        "recipe": recipe.name,
        "task": recipe.task,
        "output": str(folder),
        "changed": True,
        "dataset": data.dataset,
        "version": data.version,
        "root_digest": data.root_digest,
        "instruments": list(instruments),
        "parameters": count_parameters(tagger),
        "epochs": progress.finished_epochs,
        "best_epoch": progress.best_epoch,
        "clips_per_s": round(epochs_now * len(train) / seconds["train"], 1) if epochs_now else None,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        **{split: _heading(found) for split, found in reports.items()},
    }


def _heading(report: dict[str, Any]) -> dict[str, Any]:
    """What the summary says of a split."""
    return {name: report[name] for name in ("model", "constant")}


def train_frames_seeds(
    recipe: FramesRecipe,
    manifest: Manifest,
    num_seeds: int,
    *,
    output: Path | None,
    restart: bool = False,
    checkpoint_steps: int = 0,
) -> dict[str, Any]:
    """Seeds 0 to num_seeds - 1 into folders seed-0, ... of the output: every run's summary."""
    runs = []
    for seed in range(num_seeds):
        folder = None if output is None else output / f"seed-{seed}"
        seeded = replace(recipe, seed=seed)
        runs.append(train_frames(seeded, manifest, output=folder, restart=restart, checkpoint_steps=checkpoint_steps))
    changed = any(run["changed"] for run in runs)
    return {"recipe": recipe.name, "task": recipe.task, "seeds": num_seeds, "changed": changed, "runs": runs}


def _test_split(
    manifest: Manifest, recipe: FramesRecipe, instruments: tuple[str, ...], device: torch.device
) -> FrameClips | None:
    """The test split; none where it is empty or no clip of it has a score."""
    if not any(info.num_rows for info in manifest.shards("test")):
        return None
    try:
        return load_frame_clips(manifest, "test", recipe, instruments, device)
    except UsageError as error:
        _say(f"no figures of split 'test': {error}")
        return None


def frames_table(report: dict[str, Any], title: str) -> str:
    """Two tables in plain text: model against a predictor for which everything sounds, and the instruments."""
    lines = [f"{title}: {report['num_clips']} clips", "", f"{'':24}{'model':>8}{'all sounds':>12}"]
    for name, value in report["model"].items():
        constant = report["constant"].get(name)
        lines.append(f"{name.replace('_', ' '):24}{_figure(value):>8}{_figure(constant):>12}")
    names = ("precision", "recall", "f1", "roll_accuracy", "second_auc")
    lines += ["", f"{'':24}{'P':>8}{'R':>8}{'F1':>8}{'roll':>8}{'AUC':>8}{'frames':>9}"]
    for instrument, row in report["per_instrument"].items():
        lines.append(f"{instrument:24}{''.join(f'{_figure(row[name]):>8}' for name in names)}{row['frames']:>9}")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
