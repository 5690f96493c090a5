"""Clips that a core embeds in a second, against another checkout: each embedder, clips of 3 and 10 s.

    python -m benchmarks.embed [../other-checkout | REVISION] [--clips 48] [--ast-clips 4] [--repeats 3] [--output FILE]

Both checkouts in turn, each in a process of its own with one thread. `alone` embeds clip by clip, `together` all clips
in one call, as the stage does. AST is full-size (12 layers), with random weights in the hub's layout. Processor time
counts. `wasted` is the share of rows that only filled slices up.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.against import HERE, checkout_of

EMBEDDERS = ("logmel", "builtin", "ast")
PROGRAM = """
import json, sys, time
import numpy as np, torch
torch.set_num_threads(1)
name, count, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if name == "logmel":
    from tutti.pipelines.embedders.logmel import LogMelEmbedder
    embedder = LogMelEmbedder()
else:
    from tutti.pipelines.embedders import ast, builtin
    embedder = builtin.load() if name == "builtin" else ast.load(folder, device="cpu")
rng = np.random.default_rng(0)
waveforms = []
for number in range(count):
    time_s = np.arange((48_000, 160_000)[number % 2]) / 16_000
    tones = sum(np.sin(2 * np.pi * n * (110 + 13 * number) * time_s) / n for n in range(1, 9)) * np.exp(-time_s / 2)
    waveforms.append((0.1 * tones + 0.003 * rng.standard_normal(len(time_s))).astype(np.float32))
embedder.embed(waveforms[:2])
if hasattr(embedder, "count"):
    embedder.count.rows = embedder.count.wasted = embedder.count.slices = 0
result = {}
began = time.process_time()
together = embedder.embed(waveforms)
result["together"] = count / (time.process_time() - began)
if hasattr(embedder, "count"):
    rows = embedder.count.rows + embedder.count.wasted
    result["wasted"] = embedder.count.wasted / rows if rows else 0.0
began = time.process_time()
alone = np.stack([embedder.embed([waveform])[0] for waveform in waveforms])
result["alone"] = count / (time.process_time() - began)
result["same bits"] = bool(np.array_equal(alone, together))
print(json.dumps(result))
"""


def measure(checkout: Path, embedder: str, count: int, folder: Path) -> dict[str, Any]:
    """Run the program above in a checkout: clips per second of a core, alone and together."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, embedder, str(count), str(folder)],
        cwd=checkout, env={**os.environ, **dict.fromkeys(names, "1")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def write_ast(folder: Path) -> None:
    """Write a full-size AST with random weights, as the hub's are."""
    import torch

    from tutti.train.pretrained import transformers

    library = transformers()
    torch.manual_seed(0)
    model = library.ASTForAudioClassification(library.ASTConfig(num_labels=527))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.03)
    model.save_pretrained(folder)
    library.ASTFeatureExtractor().save_pretrained(folder)


def compare(other: Path, counts: dict[str, int], repeats: int, folder: Path) -> dict[str, Any]:
    """Measure both checkouts in turn: medians, and the ratio this (together) / other (alone), pair by pair."""
    write_ast(folder)
    report: dict[str, Any] = {}
    for embedder, count in counts.items():
        pairs = []
        for number in range(repeats):
            order = (HERE, other) if number % 2 == 0 else (other, HERE)
            found = {checkout: measure(checkout, embedder, count, folder) for checkout in order}
            pairs.append((found[HERE], found[other]))
        this, that = zip(*pairs, strict=True)
        report[embedder] = {
            "clips": count,
            "clips_per_s": round(statistics.median(one["together"] for one in this), 2),
            "clips_per_s_alone": round(statistics.median(one["alone"] for one in this), 2),
            "clips_per_s_other": round(statistics.median(one["alone"] for one in that), 2),
            "ratio": round(statistics.median(a["together"] / b["alone"] for a, b in pairs), 2),
            "wasted": round(this[0]["wasted"], 4),
            "same_bits_alone": all(one["same bits"] for one in this),
        }
        print(json.dumps({embedder: report[embedder]}), file=sys.stderr, flush=True)
    return report


def main(argv: Sequence[str]) -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", default="HEAD~1", help="root of another checkout, or a revision (HEAD~1)")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--ast-clips", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = {name: arguments.ast_clips if name == "ast" else arguments.clips for name in EMBEDDERS}
        report = compare(checkout_of(arguments.other, folder).resolve(), counts, arguments.repeats, folder / "ast")
    text = json.dumps({"cpus": os.cpu_count(), "embedders": report}, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
