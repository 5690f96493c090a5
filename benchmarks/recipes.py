"""Does every recipe learn in its tiny form, on the built-in sample, in two minutes on two cores?

    python -m benchmarks.recipes [--recipes NAME ...] [--output benchmarks/results/recipes.json]

Builds what the recipes want of the sample (`ultimate`, `openmic2018` with its embeddings, `nsynth`), then runs
`python -m train.run --tiny` as a user does, one after the other. A figure stands beside that of the best constant
predictor, which ignores the audio and is chosen on the very labels that it is scored on; songs of a split are in no
other. Validation chose epoch and thresholds, test chose nothing. Test is small: 29 clips of `ultimate`.
"""

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutti.datasets.sample import write_sample_mirror
from tutti.train.recipe import recipe_names

SPLITS = ("validation", "test")
FIGURES = ("micro_f1", "macro_f1", "map")
SINGLE_NOTES = ("predominant_accuracy",)  # one class per clip
DATA = {"openmic_bilstm": "openmic2018", "nsynth_pretrain": "nsynth"}  # all others: ultimate
EMBEDDINGS = ("openmic-2018.npz", "openmic-2018-aggregated-labels.csv")


def built(folder: Path, mirror: Path | str, dataset: str) -> Path:
    """Build a dataset from the mirror; return its output root."""
    output = folder / dataset
    if not output.exists():
        command = [sys.executable, "-m", "pipelines.build", "--dataset", dataset, "--mirror", str(mirror)]
        command += ["--embedder", "logmel" if dataset == "ultimate" else "none"]
        command += ["--output", str(output), "--cache-dir", str(folder / "cache")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return output


def embeddings(folder: Path, mirror: Path) -> Path:
    """Extract OpenMIC's arrays and labels from its archive into a folder."""
    (archive,) = mirror.rglob("openmic-2018*.tgz")
    target = folder / "embeddings"
    target.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            if Path(member.name).name in EMBEDDINGS and (stream := tar.extractfile(member)) is not None:
                (target / Path(member.name).name).write_bytes(stream.read())
    return target


def measure(name: str, folder: Path, mirror: Path) -> dict[str, Any]:
    """Measure one recipe's time and figures."""
    data = built(folder, mirror, DATA.get(name, "ultimate"))
    command = [sys.executable, "-m", "train.run", "--data", str(data), "--recipe", name, "--tiny"]
    command += ["--output", str(folder / "runs" / name)]
    if name == "openmic_bilstm":
        command += ["--set", f"vggish={embeddings(folder, mirror)}"]
    started_s = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - started_s
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {process.stderr[-2000:]}")
    summary = json.loads(process.stdout.splitlines()[-1])
    report = json.loads((Path(summary["output"]) / "metrics.json").read_text())["splits"]
    wanted = SINGLE_NOTES if name == "nsynth_pretrain" else FIGURES
    figures = {
        split: {who: {figure: report[split][who][figure] for figure in wanted} for who in ("model", "constant")}
        for split in SPLITS
    }
    better = {
        split: all(figures[split]["model"][figure] > figures[split]["constant"][figure] for figure in wanted)
        for split in SPLITS
    }
    return {
        "wall_s": round(wall_s, 1),
        "parameters": summary["parameters"],
        "epochs": summary["epochs"],
        **figures,
        "better_than_constant": better,
    }


def line(name: str, found: dict[str, Any]) -> str:
    """Format one row of the table: the model's figures over the constant's."""
    words = [
        f"{split} " + " ".join(f"{found[split]['model'][key]:.3f}/{constant:.3f}" for key, constant in row.items())
        for split, row in ((split, found[split]["constant"]) for split in SPLITS)
    ]
    return f"{name:28} {found['wall_s']:6.1f} s  " + "  ".join(words)


def main(argv: Sequence[str]) -> int:
    """Print progress on stderr and JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=recipe_names(), default=recipe_names())
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(argv)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample_mirror(folder / "mirror")
        for recipe in options.recipes:
            results[recipe] = measure(recipe, folder, folder / "mirror")
            print(line(recipe, results[recipe]), file=sys.stderr, flush=True)
    text = json.dumps({"figures": "model and best constant", "recipes": results}, indent=1)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
