"""The speed of training in clips per second, and what holds it back.

    python -m benchmarks.train --small [--output benchmarks/results/train.json]       a processor, minutes
    python -m benchmarks.train --precision bf16 --compile --clips 4096                a GPU, whole sizes

Clips of tones and noise in real shards; three-second windows of 16 kHz, lumen_best as augmentation. Every
workload climbs a ladder, in one process, with the training's own code:

    model          forward, backward, optimizer on one batch that is ready (embedding: forward alone)
    + front end    from waveforms that are on the device: log-mel, standardization, image
    + augment      sum with 2, time shift, loudness
    + loader       batches of an epoch, resident or streamed; with the share of time that steps wait for them

Two limits: the bare model (what all the rest may cost is `of_model`), and the rate of one large matrix product
on the same device in the same precision times the model's own operations per clip (`of_matmul`: how well the
model uses the device). `profile` has where the time of whole steps goes, by torch.profiler. `--small` takes toys
of the same networks, whose rates say nothing of the whole ones.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.read import write_clips
from tutti.datasets.manifest import Manifest
from tutti.train.clips import Batch
from tutti.train.data import Data
from tutti.train.fitting.augmentation import Augmentation
from tutti.train.fitting.loop import Stopwatch, examples, groups_of, seed_weights
from tutti.train.fitting.optimize import clip_gradients, freeze, make_optimizer
from tutti.train.recipe import load_recipe
from tutti.train.tagger import Tagger
from tutti.train.tagging_recipe import TaggingRecipe
from tutti.train.task import Material
from tutti.train.tasks.tagging import Tagging

LADDER = ("model", "+ front end", "+ augment", "+ loader")
WARM_UP_STEPS = 3  # compilation, autotuning, allocation
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is the device's limit
NUM_PROFILED = 3  # steps
NUM_LINES = 12  # of the profile


@dataclass(frozen=True)
class Workload:
    """A network, its data and its batch."""

    recipe: str
    overrides: tuple[str, ...]
    small: tuple[str, ...]  # further overrides of --small
    trains: bool = True  # False: embeds


WORKLOADS = {
    "convnext_small 128x301": Workload(
        "lumen_convnext_fluffy",
        ("model_config.weights=", "image.height=128", "image.width=301", "head_epochs=0", "batch_size=64"),
        ("model_config.size=micro", "model_config.head_widths=16", "batch_size=8"),
    ),
    "logmel_cnn": Workload("logmel_cnn", ("augment=lumen_best", "batch_size=64"), ("batch_size=16",)),
    "ast embedding": Workload(
        "ast_finetune",
        ("model_config.weights=", "augment=", "window_s=10", "chunk_s=10", "batch_size=64"),
        ("model_config.hidden_size=48", "model_config.num_layers=2", "model_config.num_heads=2", "batch_size=4"),
        trains=False,
    ),
}


def recipe_of(workload: Workload, options: argparse.Namespace) -> TaggingRecipe:
    """Make the recipe of a workload."""
    overrides = [*workload.overrides, *(workload.small if options.small else ())]
    overrides += [f"precision={options.precision}", f"compile={options.compile}", f"reading={options.reading}"]
    if options.batch:
        overrides.append(f"batch_size={options.batch}")
    recipe: TaggingRecipe = load_recipe(workload.recipe, overrides)
    return recipe


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_s(work: Callable[[], object], num_steps: int, device: torch.device) -> float:
    """Measure the median seconds of a step after the warm-up."""
    seconds = []
    for number in range(WARM_UP_STEPS + num_steps):
        synchronize(device)
        started_s = time.perf_counter()
        work()
        synchronize(device)
        if number >= WARM_UP_STEPS:
            seconds.append(time.perf_counter() - started_s)
    return statistics.median(seconds)


class Bench:
    """A workload on a device: its steps, from the bare model to the whole."""

    def __init__(
        self, workload: Workload, recipe: TaggingRecipe, manifest: Manifest, folder: Path, device: torch.device
    ):
        self.workload, self.recipe, self.device = workload, recipe, device
        self.task = Tagging(recipe, tuple(manifest.instruments))
        self.train, statistics_ = self.task.load_training(Data(manifest, device, folder))
        self.clips = self.task.chosen(self.train)
        seed_weights(0)
        self.tagger: Tagger = self.task.build(statistics_).to(device)
        groups = groups_of(self.tagger.network, recipe)
        self.optimizer = make_optimizer(self.tagger.network, groups, recipe.optimize)
        freeze(self.tagger.network, groups, backbone_frozen=False)
        self.tagger.train(workload.trains)
        module = torch.compile(self.tagger) if recipe.compute.compile else self.tagger
        self.module: Callable[[Tensor], Tensor] = module
        material = Material(self.train, self.train, self.clips, statistics_)  # nothing is validated here
        self.whole = self.task.step(self.tagger, module, material)  # type: ignore[arg-type]
        self.without_augmentation = replace(self.whole, augmentation=Augmentation())
        self.loss = self.whole.loss

    def batches(self, epochs: Iterator[int]) -> Iterator[Batch]:
        """Yield batches of one epoch after the other."""
        for epoch in epochs:
            yield from self.task.batches(self.train, examples(self.train, self.clips, self.recipe, epoch))

    def learn(self, loss: Tensor) -> None:
        """Run backward and optimizer, as the training loop has them."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.tagger.network.parameters(), self.recipe.optimize.max_gradient_norm)
        self.optimizer.step()

    def embed(self, features: Tensor) -> Tensor:
        """Compute one vector per window."""
        with torch.inference_mode(), self.autocast():
            vectors_BD: Tensor = self.tagger.network.embed(self.tagger.prepare(features))  # type: ignore[operator]
        return vectors_BD

    def autocast(self) -> torch.autocast:
        """Make the autocast context of the tagger's network."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.tagger.bf16)

    def model(self, features: Tensor, presence_BC: Tensor) -> None:
        """Run a step of the model alone."""
        if self.workload.trains:
            self.learn(self.loss(self.module(features), presence_BC))
        else:
            self.embed(features)

    def step(self, batch: Batch, *, augment: bool) -> None:
        """Run a step from a batch of windows."""
        if not self.workload.trains:
            self.embed(self.tagger.featurize(batch[1]))
            return
        self.learn((self.whole if augment else self.without_augmentation)(batch, 0, 0))

    def flops_per_clip(self, features: Tensor, presence_BC: Tensor) -> float:
        """Count multiplications and additions of the model's own step, by torch's counter."""
        with FlopCounterMode(display=False) as counter:
            if self.workload.trains:
                self.loss(self.tagger(features), presence_BC).backward()  # type: ignore[no-untyped-call]
            else:
                self.embed(features)
        return float(counter.get_total_flops()) / len(features)


def climb(bench: Bench, num_steps: int) -> dict[str, Any]:
    """Measure the rates of a workload, and where its time goes."""
    batch = next(bench.batches(itertools.count()))
    with torch.no_grad():
        features = bench.tagger.featurize(batch[1]).clone()
    presence_BC = bench.train.presence[batch[0]]
    rungs: dict[str, Callable[[], object]] = {
        "model": lambda: bench.model(features, presence_BC),
        "+ front end": lambda: bench.step(batch, augment=False),
    }
    if bench.workload.trains:
        rungs["+ augment"] = lambda: bench.step(batch, augment=True)
    size = len(batch[0])
    rates = {name: size / step_s(work, num_steps, bench.device) for name, work in rungs.items()}
    rates["+ loader"], waited = loaded(bench, num_steps)
    flops = bench.flops_per_clip(features, presence_BC)
    return {
        "batch": size,
        "reading": type(bench.train).__name__,
        "clips_per_s": rates,
        "data_wait_share": waited,
        "gflop_per_clip": flops / 1e9,
        "ours": rates["+ loader"],
        "limit": rates["model"],
        "of_model": rates["+ loader"] / rates["model"],
        "profile": profiled(rungs.get("+ augment", rungs["+ front end"]), bench.device),
    }


def loaded(bench: Bench, num_steps: int) -> tuple[float, float]:
    """Measure clips per second of whole training, and the share of its time that waits for batches."""
    read = bench.batches(itertools.count(1))  # the first epoch verifies, those after it are what training is
    for batch in itertools.islice(read, WARM_UP_STEPS):
        bench.step(batch, augment=True)
    synchronize(bench.device)
    watch, count, started_s = Stopwatch(), 0, time.perf_counter()
    for batch in watch.waiting_for(itertools.islice(read, num_steps)):
        bench.step(batch, augment=True)
        count += len(batch[0])
    synchronize(bench.device)
    return count / (time.perf_counter() - started_s), watch.share_waited() or 0.0


def profiled(work: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """Profile whole steps; list the kernels that take the most time."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as found:
        for _ in range(NUM_PROFILED):
            work()
        synchronize(device)
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(found.key_averages(), key=lambda row: -float(getattr(row, key)))
    total_us = sum(float(getattr(row, key)) for row in rows) or 1.0
    return [
        {
            "name": row.key,
            "share": round(float(getattr(row, key)) / total_us, 4),
            "calls_per_step": row.count / NUM_PROFILED,
        }
        for row in rows[:NUM_LINES]
    ]


def matmul_flops_per_s(device: torch.device, precision: str) -> float:
    """Measure what one large matrix product reaches: best of several."""
    size = MATMUL_SIZE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device, generator=_generator(device)).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        synchronize(device)
        started_s = time.perf_counter()
        torch.mm(left, right)
        synchronize(device)
        best = min(best, time.perf_counter() - started_s)
    return 2 * size**3 / best


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all workloads on one device."""
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    limit = matmul_flops_per_s(device, options.precision)
    report: dict[str, Any] = {
        "device": f"{device.type}: {name}",
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
        "precision": options.precision,
        "compile": options.compile,
        "small": options.small,
        "matmul_tflop_per_s": limit / 1e12,
        "workloads": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_clips(Path(folder), options.clips)
        for title in options.workloads:
            workload = WORKLOADS[title]
            bench = Bench(workload, recipe_of(workload, options), manifest, Path(folder) / "cache", device)
            found = climb(bench, options.steps)
            found["of_matmul"] = found["limit"] * found["gflop_per_clip"] * 1e9 / limit
            report["workloads"][title] = found
            print(as_text(title, found), file=sys.stderr, flush=True)
    return report


def as_text(title: str, found: dict[str, Any]) -> str:
    """Format a workload in a few lines."""
    rates = "  ".join(f"{rung} {rate:,.1f}" for rung, rate in found["clips_per_s"].items())
    return (
        f"{title} (clips/s): {rates}\n  ours {found['ours']:,.1f}, limit {found['limit']:,.1f}, "
        f"ratio {found['of_model']:.2f}; waiting for data {found['data_wait_share']:.1%}; "
        f"{found['gflop_per_clip']:.2f} GFLOP a clip, {found['of_matmul']:.0%} of a matrix product's rate"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a few lines on stderr and JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument(
        "--small", action="store_true", default=not on_gpu, help="toys of the networks (default: no GPU)"
    )
    parser.add_argument("--precision", choices=("float32", "bf16"), default="bf16" if on_gpu else "float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--reading", choices=("auto", "resident", "streaming"), default="auto")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=0, help="instead of the workload's own")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    if not on_gpu:
        torch.set_num_threads(1)
    text = json.dumps(measure(options), indent=1)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
