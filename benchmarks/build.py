"""The cost of a build, against what its library kernels alone take for the same clips.

    python -m benchmarks.build [--scales 1 4 16] [--output benchmarks/results/build.json]

For each size of the synthesized mirror, in one run:

kernels    decode + mono + soxr + pyloudnorm + true peak + FLAC, a thread per process, nothing else
one        the build's `prepare`, `clean`, `split` and `write`, FnApiRunner, one process
1, 2       the same with 1 and 2 worker processes (multi_processing)

The mirror holds the corpora in about their real proportions (IRMAS 2 : 1 test, OpenMIC 6, AudioSet 4:
most clips last ten seconds); `--mix sample` takes the built-in sample's, where short clips from
deflated zips prevail and unzipping, which is no audio kernel, weighs more.

Archives are in the cache beforehand and results are not. Start-up (imports, workers, Beam's own work on an almost
empty build) is measured by builds of one recording per source of the smallest size, and taken off.

Kernels and start-up run before and after every build, kernels in as many processes at once as it has workers, and
each build is held against the means: other users of the machine change its speed within minutes. `ratio_to_kernels`
compares the time of a core, `ratio_of_cpu` the processor time alone, `ratio_to_lone_kernels` the time of a core with
kernels that have the machine to themselves. Small sizes are repeated; medians count.

Memory is the resident set of the whole process tree, sampled, and so is processor time. Larger sizes hold other
songs, not copies: copies would be duplicates.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tutti.datasets import audio
from tutti.datasets.record import Recording, Rejected
from tutti.datasets.sample import SampleSize, write_sample_mirror
from tutti.datasets.source import LocalFile
from tutti.pipelines.acquisition.origins import Origins, with_sums
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding.normalize import gain_for
from tutti.pipelines.recipe import Recipe, load_recipe
from tutti.pipelines.stages.download import download
from tutti.pipelines.stages.fetch import fetch
from tutti.pipelines.stages.prepare import PrepareConfig, read_media
from tutti.pipelines.stages.select import select

MODES = {
    "one": (),
    "1": ("--direct_running_mode=multi_processing", "--direct_num_workers=1"),
    "2": ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
}
SAMPLE_S = 0.05
MOST_REPEATS = 3
SCALE_ONCE = 8  # from here on a build takes a minute, and is run once
MIXES = {
    "real": SampleSize(
        train_songs_per_class=1, train_parts=2, test_songs=4, openmic_tracks=64, videos_per_class=4, foreign_rows=20
    ),
    "sample": SampleSize(),
}


@dataclass(frozen=True)
class Downloads:
    """A mirror whose bytes are in a cache."""

    mirror: Path
    cache: Cache


@dataclass(frozen=True)
class Work:
    """Time of some work."""

    core_s: float  # wall seconds, of all cores that it kept
    cpu_s: float  # processor time


@dataclass(frozen=True)
class Run:
    """One build as seen from outside."""

    wall_s: float
    cpu_s: float  # processor time of the whole process tree
    peak_rss_mib: float
    clips: int


def recordings(recipe: Recipe, mirror: Path, cache: Cache) -> Iterator[Recording]:
    """Read all recordings of the recipe, their bytes in the cache."""
    origins = with_sums(Origins(str(mirror)), cache)
    for source in recipe.sources:
        files = download(source, configs=recipe.sources, origins=origins, cache=cache)
        assert all(isinstance(file, LocalFile) for file in files.files)
        chosen = select(
            files, configs=recipe.sources, instruments=recipe.classes(), config=recipe.select, seed=recipe.seed
        )
        for recording in chosen:
            found = [recording] if isinstance(recording, Rejected) else fetch(recording, origins=origins, cache=cache)
            yield from (row for row in found if isinstance(row, Recording))


def kernel_seconds(items: Sequence[Recording], cache: Cache, config: PrepareConfig, processes: int) -> Work:
    """Time the library kernels on all clips, in some processes at once: each its share of the recordings."""
    shares = [(items[first::processes], cache, config) for first in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        works = pool.starmap(_kernels, shares, chunksize=1)
    return Work(sum(work.core_s for work in works), sum(work.cpu_s for work in works))


def _kernels(items: Sequence[Recording], cache: Cache, config: PrepareConfig) -> Work:
    """Time the kernels; reading and hashing are not counted."""
    total_s, cpu_s = 0.0, 0.0
    for recording in items:
        data = read_media(recording.media, cache)
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        with contextlib.suppress(audio.DecodeError):
            decoded = audio.decode(data, "clip")
            for clip in recording.clips:
                _kernels_of_clip(audio.to_mono(audio.excerpt(decoded, clip.start_s, clip.end_s)), decoded, config)
        total_s += time.perf_counter() - start_s
        cpu_s += time.process_time() - start_cpu_s
    return Work(total_s, cpu_s)


def _kernels_of_clip(native: audio.Mono, decoded: audio.Decoded, config: PrepareConfig) -> None:
    if not native.size:
        return
    mono = audio.resample(native, decoded.sample_rate, config.sample_rate)
    loudness = audio.measure_loudness(mono, config.sample_rate)
    peak = audio.true_peak_dbtp(mono, config.sample_rate)
    samples = audio.to_int16(audio.apply_gain(mono, gain_for(loudness, peak, config)))
    audio.encode(samples, config.sample_rate, config.audio_format)


def build(downloads: Downloads, output: Path, flags: Sequence[str]) -> Run:
    """Run one build in a process of its own, from prepared downloads and nothing else."""
    shutil.rmtree(output, ignore_errors=True)
    cache = Cache(output.with_name("cache"))
    shutil.rmtree(cache.root, ignore_errors=True)
    shutil.copytree(downloads.cache.root, cache.root, copy_function=os.link)
    command = [
        sys.executable,
        "-m",
        "pipelines.build",
        "--dataset",
        "ultimate",
        "--embedder",
        "none",
        "--mirror",
        str(downloads.mirror),
    ]
    command += ["--cache-dir", str(cache.root), "--output", str(output), *flags]
    start_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, cpu_s = [0.0], dict[int, float]()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, cpu_s), daemon=True)
    watcher.start()
    stdout, stderr = process.communicate()
    wall_s = time.perf_counter() - start_s
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {stderr}")
    summary = json.loads(stdout.splitlines()[-1])
    return Run(
        wall_s, sum(cpu_s.values()), peak[0], summary["clips"]["kept"] + sum(summary["clips"]["rejected"].values())
    )


def _watch(pid: int, peak: list[float], cpu_s: dict[int, float]) -> None:
    while psutil.pid_exists(pid):
        try:
            tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            peak[0] = max(peak[0], sum(process.memory_info().rss for process in tree) / 2**20)
            cpu_s |= {process.pid: sum(process.cpu_times()[:2]) for process in tree}
        except psutil.NoSuchProcess:
            pass
        time.sleep(SAMPLE_S)


def measure(scale: int, folder: Path, seed: int, size: SampleSize) -> dict[str, Any]:
    """Measure all figures of one size."""
    recipe = load_recipe("ultimate")
    smallest, _ = _prepared(recipe, folder, 1, seed, size)
    mine, items = _prepared(recipe, folder, scale, seed, size)
    lone = [kernel_seconds(items, mine.cache, recipe.prepare, 1)]
    repeats = []
    for _ in range(max(1, min(MOST_REPEATS, SCALE_ONCE // scale))):
        figures = {}
        for name, flags in MODES.items():
            num_cores = _workers(name)
            kernels = [lone[-1] if num_cores == 1 else kernel_seconds(items, mine.cache, recipe.prepare, num_cores)]
            starts = [build(smallest, folder / "output", (*flags, "--limit", "1"))]
            run = build(mine, folder / "output", flags)
            starts.append(build(smallest, folder / "output", (*flags, "--limit", "1")))
            kernels.append(kernel_seconds(items, mine.cache, recipe.prepare, num_cores))
            lone += kernels[1:] if num_cores == 1 else []
            figures[name] = _figures(run, starts, kernels, num_cores)
        repeats.append(figures)
    medians = {
        key: {name: statistics.median(figures[name][key] for figures in repeats) for name in MODES}
        for key in repeats[0]["one"]
    }
    lone_s = statistics.median(work.core_s for work in lone)
    return {
        "scale": scale,
        "clips": run.clips,
        "repeats": len(repeats),
        "lone_kernels_core_s": lone_s,
        **medians,
        "ratio_to_lone_kernels": {name: lone_s / medians["core_s"][name] for name in MODES},
        "two_workers_to_one": medians["work_s"]["1"] / medians["work_s"]["2"],
    }


def _prepared(
    recipe: Recipe, folder: Path, scale: int, seed: int, size: SampleSize
) -> tuple[Downloads, list[Recording]]:
    """Make a mirror of some size unless it is there, with all its bytes in a cache."""
    found = Downloads(folder / f"mirror-{scale}", Cache(folder / f"cache-{scale}"))
    if not found.mirror.exists():
        write_sample_mirror(found.mirror, seed=seed, scale=scale, size=size)
    return found, list(recordings(recipe, found.mirror, found.cache))


def _figures(run: Run, starts: Sequence[Run], kernels: Sequence[Work], num_cores: int) -> dict[str, float]:
    start_s = statistics.mean(start.wall_s for start in starts)
    work_s = run.wall_s - start_s
    cpu_s = run.cpu_s - statistics.mean(start.cpu_s for start in starts)
    kernels_s = statistics.mean(work.core_s for work in kernels)
    kernels_cpu_s = statistics.mean(work.cpu_s for work in kernels)
    return {
        "start_up_s": start_s,
        "work_s": work_s,
        "core_s": work_s * num_cores,
        "cpu_s": cpu_s,
        "kernels_core_s": kernels_s,
        "kernels_cpu_s": kernels_cpu_s,
        "clips_per_s": run.clips / work_s,
        "ratio_to_kernels": kernels_s / (work_s * num_cores),
        "ratio_of_cpu": kernels_cpu_s / cpu_s,
        "peak_rss_mib": run.peak_rss_mib,
    }


def _workers(name: str) -> int:
    return int(name) if name.isdigit() else 1


def trends(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fit the cost exponent (slope of log work over log clips) and memory per further 1,000 clips."""
    clips = [result["clips"] for result in results]

    def exponent(seconds: str) -> dict[str, float]:
        works = {name: [result[seconds][name] for result in results] for name in MODES}
        return {name: float(np.polyfit(np.log(clips), np.log(works[name]), 1)[0]) for name in MODES}

    slope = {name: float(np.polyfit(clips, [r["peak_rss_mib"][name] for r in results], 1)[0] * 1000) for name in MODES}
    return {
        "cost_exponent": exponent("work_s"),
        "cpu_exponent": exponent("cpu_s"),
        "kernels_exponent": exponent("kernels_core_s"),
        "rss_mib_per_1000_clips": slope,
    }


def main() -> None:
    """Print a table on stderr and JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mix", choices=MIXES, default="real")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for scale in arguments.scales:
            result = measure(scale, Path(folder), arguments.seed, MIXES[arguments.mix])
            results.append(result)
            print(_table(result), file=sys.stderr, flush=True)
    report: dict[str, Any] = {"cpus": os.cpu_count(), "mix": arguments.mix, "results": results}
    if len(results) > 1:
        report["trends"] = trends(results)
    report["median_ratio_to_kernels"] = statistics.median(r["ratio_to_kernels"]["one"] for r in results)
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['clips']} clips ({result['scale']}x, median of {result['repeats']})",
        "mode      clips/s  of kernels  by CPU  of lone kernels  start-up s  peak MiB",
    ]
    lines += [
        f"{name:8} {result['clips_per_s'][name]:8.1f} {result['ratio_to_kernels'][name]:11.2f}"
        f" {result['ratio_of_cpu'][name]:7.2f} {result['ratio_to_lone_kernels'][name]:16.2f}"
        f" {result['start_up_s'][name]:11.1f} {result['peak_rss_mib'][name]:9.0f}"
        for name in MODES
    ]
    lines.append(f"2 workers to 1: {result['two_workers_to_one']:.2f}x")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
