"""Is it better to learn pitches and instruments together? The MuseScore paper's second table, on data of your own.

    python -m pipelines.build --dataset composed --output build/composed
    python -m pipelines.build --dataset musescore --data-from PAIRS --output build/musescore
    python -m benchmarks.frames --data build/composed --real build/musescore --output benchmarks/results/frames.json

Trains the small recipe with all three losses and with each alone, over several seeds, and reports on the test split of
--data: frame F1 of instruments, accuracy of pitches and of the pianoroll, beside the paper's figures, and a predictor
for which everything always sounds. --real: another dataset with notes, none of which is learned from. First of all
it measures the constant-Q transform. Runs that are there already are not trained again.
"""

import argparse
import contextlib
import importlib
import io
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutti.datasets.files import write_file
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.train.evaluate import evaluate
from tutti.train.features.cqt import Cqt
from tutti.train.notes.recipe import NotesRecipe
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.runs.saved import METRICS, load_run

# Table 2 of Hung, Chen, Yang 2019: figure -> (with the loss of that task alone, with all three).
PAPER = {"instrument_macro_f1": (0.896, 0.947), "pitch_accuracy": (0.799, 0.803), "roll_accuracy": (0.623, 0.647)}
FIGURES = (*PAPER, "instrument_micro_f1", "second_auc")
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "all": (),
    "roll": ("loss.pitch_weight=0", "loss.instrument_weight=0"),
    "pitch": ("loss.roll_weight=0", "loss.instrument_weight=0"),
    "instrument": ("loss.roll_weight=0", "loss.pitch_weight=0"),
}
OWN_FIGURE = {"roll": "roll_accuracy", "pitch": "pitch_accuracy", "instrument": "instrument_macro_f1"}
CQT_LIMIT_MS = 113.0  # of ten seconds of librosa.cqt on one core, measured on another machine


def main(argv: Sequence[str]) -> int:
    """Measure, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--recipe", default="musescore_multitask_small")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/frames"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    manifest = read_manifest(arguments.data)
    real = None if arguments.real is None else read_manifest(arguments.real)
    found: dict[str, Any] = {"cqt_of_10_s_on_one_core": cqt_speed(), "settings": [arguments.recipe, *arguments.set]}
    torch.set_num_threads(arguments.threads)
    found["data"] = {"dataset": manifest.content.get("dataset"), "clips": clip_counts(manifest)}
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in range(arguments.seeds):  # seed by seed: whoever stops early has whole rows
        for name, overrides in VARIANTS.items():
            recipe = load_recipe(arguments.recipe, [*arguments.set, *overrides, f"seed={seed}"])
            results.setdefault(name, []).append(one_run(recipe, manifest, real, arguments.runs / f"{name}-{seed}"))
            found |= summary(results)
            if arguments.output:
                write_file(arguments.output, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
            print(name, seed, json.dumps(results[name][-1]), flush=True)
    print(table(found))
    return 0


def clip_counts(manifest: Manifest) -> dict[str, int]:
    """Count the clips of each split."""
    counts: dict[str, int] = {}
    for info in manifest.shards():
        counts[info.split] = counts.get(info.split, 0) + info.num_rows
    return counts


def one_run(recipe: NotesRecipe, manifest: Manifest, real: Manifest | None, folder: Path) -> dict[str, Any]:
    """Train a run, and pick its figures on unheard data of its own kind and on real ones."""
    seconds = None
    if not (folder / METRICS).is_file():
        started = time.perf_counter()
        train(recipe, manifest, output=folder)
        seconds = round(time.perf_counter() - started, 1)
    reports = json.loads((folder / METRICS).read_text(encoding="utf-8"))["splits"]
    run = load_run(folder, torch.device("cpu"))
    result: dict[str, Any] = {"test": picked(reports["test"]["model"]), "constant": picked(reports["test"]["constant"])}
    result["seconds"] = seconds
    if real is not None:
        parts = [evaluate(run, real, split) for split in clip_counts(real)]
        result["real"] = joined(parts, "model")
        result["real_constant"] = joined(parts, "constant")
    return result


def picked(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Select the figures of the table."""
    return {name: figures.get(name) for name in FIGURES}


def joined(parts: Sequence[Mapping[str, Any]], kind: str) -> dict[str, float | None]:
    """Average over splits, weighted by clips: that dataset was not trained on."""
    means: dict[str, float | None] = {}
    for name in FIGURES:
        known = [(part[kind][name], part["num_clips"]) for part in parts if part[kind].get(name) is not None]
        total = sum(clips for _, clips in known)
        means[name] = round(sum(value * clips for value, clips in known) / total, 6) if total else None
    return means


def summary(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Compute mean and deviation over seeds, and how often all three losses beat one alone at its own figure."""
    table: dict[str, Any] = {}
    for name, runs in results.items():
        parts = [part for part in ("test", "real", "constant", "real_constant") if part in runs[0]]
        table[name] = {
            part: {figure: spread([run[part][figure] for run in runs]) for figure in FIGURES} for part in parts
        }
        table[name]["seconds"] = [run["seconds"] for run in runs]
    wins: dict[str, Any] = {}
    for task, figure in OWN_FIGURE.items():
        for part in ("test", "real"):
            pairs = [
                (together[part][figure], alone[part][figure])
                for together, alone in zip(results.get("all", ()), results.get(task, ()), strict=False)
                if part in together
            ]
            if pairs:
                gains = [(together or 0.0) - (alone or 0.0) for together, alone in pairs]
                wins[f"{figure} on {part}"] = {
                    "gain": round(statistics.mean(gains), 4),
                    "seeds won": f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
                }
    paper = {figure: {"alone": alone, "all": together} for figure, (alone, together) in PAPER.items()}
    return {"variants": table, "all_against_one": wins, "paper": paper}


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Compute mean and deviation; None where a run lacks the figure."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return {"mean": round(statistics.mean(known), 4), "deviation": round(deviation, 4)}


def table(found: Mapping[str, Any]) -> str:
    """Format for people."""
    lines = [f"{'':14}" + "".join(f"{name:>24}" for name in FIGURES)]
    for name, parts in found["variants"].items():
        for part in ("test", "real"):
            if part in parts:
                cells = (parts[part][figure] for figure in FIGURES)
                words = ["-" if cell is None else f"{cell['mean']:.3f} ± {cell['deviation']:.3f}" for cell in cells]
                lines.append(f"{name + ' ' + part:14}" + "".join(f"{word:>24}" for word in words))
    return "\n".join([*lines, json.dumps(found["all_against_one"], indent=1)])


def cqt_speed(repetitions: int = 20) -> dict[str, float | None]:
    """Measure milliseconds of ten seconds on one thread, least of several: ours, and librosa's if installed."""
    torch.set_num_threads(1)
    waveform = np.random.default_rng(0).standard_normal(160_000).astype(np.float32) * 0.1
    batch, cqt = torch.from_numpy(waveform)[None], Cqt()
    ours = least(lambda: cqt(batch), repetitions)
    theirs = None
    with contextlib.suppress(ImportError):
        librosa: Any = importlib.import_module("librosa")
        theirs = least(
            lambda: np.abs(librosa.cqt(waveform, sr=16_000, hop_length=512, fmin=27.5, n_bins=88)), repetitions
        )
    return {
        "ours_ms": round(ours, 2),
        "librosa_ms": None if theirs is None else round(theirs, 2),
        "published_ms": CQT_LIMIT_MS,
        "published_over_ours": round(CQT_LIMIT_MS / ours, 1),
    }


def least(function: Any, repetitions: int) -> float:
    """Measure the least milliseconds of several calls."""
    times = []
    with contextlib.redirect_stderr(io.StringIO()):
        for _ in range(repetitions + 1):  # the first one warms up
            started = time.perf_counter()
            function()
            times.append(time.perf_counter() - started)
    return min(times[1:]) * 1e3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
