"""How fast is a build, against what its library kernels alone cost on the same clips?

    python -m benchmarks.build [--scales 1 4 16] [--output benchmarks/results/build.json]

For each size of the synthesized mirror, in one run:

kernels    decode + mono + soxr + pyloudnorm + true peak + FLAC, one thread, nothing else
one        the build's `prepare`, `clean`, `split` and `write`, FnApiRunner, one process
1, 2       the same with 1 and 2 worker processes (multi_processing)

The mirror holds the corpora in about their real proportions (IRMAS 2 : 1 test, OpenMIC 6, AudioSet 4:
most clips last ten seconds); `--mix sample` takes the built-in sample's, where short clips from
deflated zips prevail and unzipping, which is no audio kernel, weighs more.

Archives are in the cache beforehand and results are not. Start-up (imports, workers, Beam's own
work on an almost empty build) is measured by a build of one recording per source and taken off.
Memory is the resident set of the whole process tree, sampled, and so is processor time: where others use the
machine too, `ratio_of_cpu` says what a core's work is worth, and wall times as much of the neighbors. The smallest
size works for four seconds, which the start-up may vary by: read its memory, not its speed. Larger sizes hold other
songs, not copies: copies would be duplicates.
"""

import argparse
import json
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

from datasets import audio
from datasets.record import Recording, Rejected
from datasets.sample import SampleSize, write_sample_mirror
from datasets.source import LocalFile
from pipelines.acquisition.origins import Origins, with_sums
from pipelines.cache import Cache
from pipelines.download import download
from pipelines.fetch import fetch
from pipelines.normalize import gain_for
from pipelines.prepare import PrepareConfig, read_media
from pipelines.recipe import Recipe, load_recipe
from pipelines.select import select

MODES = {
    "one": (),
    "1": ("--direct_running_mode=multi_processing", "--direct_num_workers=1"),
    "2": ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
}
SAMPLE_S = 0.05
START_UPS = 3  # whose median is taken off: it varies by a second, and the smallest size works for four
MIXES = {
    "real": SampleSize(
        train_songs_per_class=1, train_parts=2, test_songs=4, openmic_tracks=64, videos_per_class=4, foreign_rows=20
    ),
    "sample": SampleSize(),
}


@dataclass(frozen=True)
class Run:
    """One build as seen from outside."""

    wall_s: float
    cpu_s: float  # processor time of the whole process tree
    peak_rss_mib: float
    clips: int


def recordings(recipe: Recipe, mirror: Path, cache: Cache) -> Iterator[Recording]:
    """All recordings of the recipe, their bytes in the cache."""
    origins = with_sums(Origins(str(mirror)), cache)
    for source in recipe.sources:
        files = download(source, origins=origins, cache=cache)
        assert all(isinstance(file, LocalFile) for file in files.files)
        chosen = select(
            files, configs=recipe.sources, instruments=recipe.classes(), config=recipe.select, seed=recipe.seed
        )
        for recording in chosen:
            found = [recording] if isinstance(recording, Rejected) else fetch(recording, origins=origins, cache=cache)
            yield from (row for row in found if isinstance(row, Recording))


def kernel_seconds(items: Sequence[Recording], cache: Cache, config: PrepareConfig) -> tuple[float, float]:
    """Wall and processor seconds that the library kernels take for all clips; reading and hashing are not counted."""
    total_s, cpu_s = 0.0, 0.0
    for recording in items:
        data = read_media(recording.media, cache)
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        try:
            decoded = audio.decode(data, "clip")
        except audio.DecodeError:
            total_s += time.perf_counter() - start_s
            cpu_s += time.process_time() - start_cpu_s
            continue
        for clip in recording.clips:
            mono = audio.to_mono(audio.excerpt(decoded, clip.start_s, clip.end_s))
            if not mono.size:
                continue
            mono = audio.resample(mono, decoded.sample_rate, config.sample_rate)
            loudness = audio.measure_loudness(mono, config.sample_rate)
            peak = audio.true_peak_dbtp(mono, config.sample_rate)
            samples = audio.to_int16(audio.apply_gain(mono, gain_for(loudness, peak, config)))
            audio.encode(samples, config.sample_rate, config.audio_format)
        total_s += time.perf_counter() - start_s
        cpu_s += time.process_time() - start_cpu_s
    return total_s, cpu_s


def build(mirror: Path, downloads: Cache, output: Path, flags: Sequence[str]) -> Run:
    """One build in a process of its own, from prepared downloads and nothing else."""
    shutil.rmtree(output, ignore_errors=True)
    cache = Cache(output.with_name("cache"))
    shutil.rmtree(cache.root, ignore_errors=True)
    shutil.copytree(downloads.root, cache.root, copy_function=os.link)
    command = [
        sys.executable,
        "-m",
        "pipelines.build",
        "--dataset",
        "ultimate",
        "--embedder",
        "none",
        "--mirror",
        str(mirror),
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
    """All figures of one size."""
    mirror, output, cache = folder / f"mirror-{scale}", folder / "output", Cache(folder / f"cache-{scale}")
    write_sample_mirror(mirror, seed=seed, scale=scale, size=size)
    recipe = load_recipe("ultimate")
    items = list(recordings(recipe, mirror, cache))
    starts = {
        name: [build(mirror, cache, output, (*flags, "--limit", "1")) for _ in range(START_UPS)]
        for name, flags in MODES.items()
    }
    start_up_s = {name: statistics.median(run.wall_s for run in starts[name]) for name in MODES}
    start_up_cpu_s = {name: statistics.median(run.cpu_s for run in starts[name]) for name in MODES}
    kernels_s, kernels_cpu_s = kernel_seconds(items, cache, recipe.prepare)
    runs = {name: build(mirror, cache, output, flags) for name, flags in MODES.items()}
    work_s = {name: runs[name].wall_s - start_up_s[name] for name in MODES}
    cpu_s = {name: runs[name].cpu_s - start_up_cpu_s[name] for name in MODES}
    clips = runs["one"].clips
    return {
        "scale": scale,
        "clips": clips,
        "clips_per_s": {"kernels": clips / kernels_s, **{name: clips / work_s[name] for name in MODES}},
        "work_s": {"kernels": kernels_s, **work_s},
        "cpu_s": {"kernels": kernels_cpu_s, **cpu_s},
        "start_up_s": start_up_s,
        "peak_rss_mib": {name: runs[name].peak_rss_mib for name in MODES},
        "ratio_to_kernels": {name: kernels_s / work_s[name] / max(1, _workers(name)) for name in MODES},
        "ratio_of_cpu": {name: kernels_cpu_s / cpu_s[name] for name in MODES},
        "two_workers_to_one": work_s["1"] / work_s["2"],
    }


def _workers(name: str) -> int:
    return int(name) if name.isdigit() else 1


def trends(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Cost exponent (slope of log work over log clips) and memory per further 1,000 clips."""
    clips = [result["clips"] for result in results]

    def exponent(seconds: str) -> dict[str, float]:
        works = {name: [result[seconds][name] for result in results] for name in MODES}
        return {name: float(np.polyfit(np.log(clips), np.log(works[name]), 1)[0]) for name in MODES}

    slope = {name: float(np.polyfit(clips, [r["peak_rss_mib"][name] for r in results], 1)[0] * 1000) for name in MODES}
    return {"cost_exponent": exponent("work_s"), "cpu_exponent": exponent("cpu_s"), "rss_mib_per_1000_clips": slope}


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
            shutil.rmtree(Path(folder) / f"cache-{scale}")
            shutil.rmtree(Path(folder) / f"mirror-{scale}")
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
        f"{result['clips']} clips ({result['scale']}x)",
        "mode      clips/s  of kernels  by CPU  start-up s  peak MiB",
    ]
    lines.append(f"kernels  {result['clips_per_s']['kernels']:8.1f}")
    lines += [
        f"{name:8} {result['clips_per_s'][name]:8.1f} {result['ratio_to_kernels'][name]:11.2f}"
        f" {result['ratio_of_cpu'][name]:7.2f}"
        f" {result['start_up_s'][name]:11.1f} {result['peak_rss_mib'][name]:9.0f}"
        for name in MODES
    ]
    lines.append(f"2 workers to 1: {result['two_workers_to_one']:.2f}x")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
