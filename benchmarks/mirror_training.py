"""Does mixing clips help, on a small mirror of real recordings? Two recipes with and without it, beside a constant.

    python -m benchmarks.mirror_training --mirror PATH [--seeds 3] [--output benchmarks/results/mirror_training.json]

Builds `ultimate` from the mirror with the built-in embedder (or takes --data DIR); without --mirror the sample.

Every variant is trained with several seeds on one thread. Validation chose epoch and threshold, so its figures
flatter all variants alike; test chose nothing. Both splits are small: read the deviation over seeds with the mean,
and `gains` (with minus without, seed by seed) before the rest. `constant` is the best prediction that ignores the
audio, chosen on the very labels that it is scored on.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.recipes import built
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.train.recipe import load_recipe
from tutti.train.run import train
from tutti.train.scoring.bootstrap import over_seeds
from tutti.train.scoring.report import rounded

FIGURES = ("micro_f1", "macro_f1", "map")
SPLITS = ("validation", "test")
# A ConvNeXt that one thread trains in a minute: random weights, so a higher rate than the paper's fine-tuning and
# no frozen epochs; thresholds on single clips, because sums of what it hardly knows tell nothing.
SMALL_CONVNEXT = (
    "model_config.size=micro", "model_config.weights=", "model_config.head_widths=32", "image.height=64",
    "image.width=128", "head_epochs=0", "learning_rate=4e-3", "thresholds_on=validation", "epochs=15",
)  # fmt: skip
RECIPES: dict[str, tuple[str, ...]] = {"logmel_cnn": (), "lumen_convnext_fluffy": SMALL_CONVNEXT}
WITHOUT = "none"
AUGMENTATIONS = {WITHOUT: "", "sum with 2 and time shift": "lumen_best"}


def runs_of(
    name: str, overrides: Sequence[str], manifest: Manifest, folder: Path, num_seeds: int
) -> list[dict[str, Any]]:
    """Train a variant, once per seed; return summaries with times."""
    found = []
    for seed in range(num_seeds):
        recipe = load_recipe(name, [*overrides, f"seed={seed}"])
        started_s = time.perf_counter()
        summary = train(recipe, manifest, output=folder / f"seed-{seed}", restart=True, hot_copies=folder.parent)
        found.append(summary | {"wall_s": time.perf_counter() - started_s})
    return found


def spread(runs: Sequence[dict[str, Any]], split: str) -> dict[str, Any]:
    """Compute mean and deviation of a variant's figures on a split."""
    found = over_seeds([{name: run[split]["model"][name] for name in FIGURES} for run in runs])
    return {name: None if value is None else asdict(value) for name, value in found.items()}


def gains(runs: Sequence[dict[str, Any]], without: Sequence[dict[str, Any]], split: str) -> dict[str, Any]:
    """Compare a variant with the one without augmentation, seed by seed."""
    differences = [
        {name: run[split]["model"][name] - plain[split]["model"][name] for name in FIGURES}
        for run, plain in zip(runs, without, strict=True)
    ]
    found = over_seeds(differences)
    return {name: None if value is None else asdict(value) for name, value in found.items()}


def measure(manifest: Manifest, recipes: Sequence[str], num_seeds: int) -> dict[str, Any]:
    """Measure all variants of some recipes."""
    result: dict[str, Any] = {
        "root_digest": manifest.root_digest,
        "clips": {split: sum(info.num_rows for info in manifest.shards(split)) for split in ("train", *SPLITS)},
        "seeds": num_seeds,
        "recipes": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in recipes:
            variants: dict[str, list[dict[str, Any]]] = {}
            for title, augment in AUGMENTATIONS.items():
                output = Path(folder) / f"{name}-{title.replace(' ', '-')}"
                overrides = (*RECIPES[name], f"augment={augment}")
                variants[title] = runs_of(name, overrides, manifest, output, num_seeds)
            plain = variants[WITHOUT]
            result["constant"] = {split: {key: plain[0][split]["constant"][key] for key in FIGURES} for split in SPLITS}
            result["recipes"][name] = {
                "overrides": list(RECIPES[name]),
                "parameters": plain[0]["parameters"],
                "longest_run_s": round(max(run["wall_s"] for runs in variants.values() for run in runs), 1),
                "variants": {
                    title: {split: spread(runs, split) for split in SPLITS} for title, runs in variants.items()
                },
                "gains": {
                    title: {split: gains(runs, plain, split) for split in SPLITS}
                    for title, runs in variants.items()
                    if title != WITHOUT
                },
            }
    shown: dict[str, Any] = rounded(result)
    return shown


def main() -> None:
    """Print progress on stderr and JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", default="sample")
    parser.add_argument("--data", type=Path, help="a build instead of a mirror")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or built(Path(folder), arguments.mirror, "ultimate")
        report = measure(read_manifest(data), arguments.recipes, arguments.seeds)
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
