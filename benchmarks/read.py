"""The speed of reading clips from shards, against other libraries and a memory map as the limit.

    python -m benchmarks.read [--clips 1024] [--packages DIR] [--output benchmarks/results/read.json]

Ten-second clips of tones and noise at 16 kHz, 16-bit FLAC, in shards with row groups of 16 as published, and the same
FLAC files in tar shards. Each reader gives shuffled batches of 64 in float32 with labels, from files that
are in the page cache. Readers are measured in turn, several times; the best counts, because another program on the
machine can only slow one down; processor time per clip is given, too. One torch thread.

Ours is what training reads: `train.front_end.load_clips` opens a split, `train.fitting.loop.examples` orders an epoch.

resident_first     the first epoch with the hot copy: shards decoded (as many threads as processors), verified and
                   written, then read
resident           any later epoch of it
streaming_first    the first epoch of the streaming tier, which decodes whole clips and verifies them
streaming          any later epoch
memmap             the limit: rows of an (N, T) np.memmap by fancy index, then to float32
webdataset, huggingface, huggingface_streaming      through a DataLoader, decoded with soundfile

A suffix _2 means two threads or worker processes; `_3s` random windows of three seconds. A library that
`make setup` did not install can come from elsewhere:

    pip install --target DIR --no-deps webdataset braceexpand
"""

import argparse
import collections
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tutti.datasets.audio import encode, pcm_sha256, to_int16
from tutti.datasets.manifest import (
    SCHEMA_VERSION,
    Manifest,
    canonical_json,
    digest_of,
    file_sha256,
    manifest_path,
    read_manifest,
)
from tutti.datasets.record import SPLITS, Clip, Label, StoredAudio
from tutti.datasets.shard import shard_path, write_shard
from tutti.train.clips import AnyClips
from tutti.train.data import Data
from tutti.train.fitting.loop import examples
from tutti.train.front_end import clips_to_learn_from, load_clips
from tutti.train.reading.hot_copy import hot_copy
from tutti.train.recipe import load_recipe
from tutti.train.tagging_recipe import TaggingRecipe

SAMPLE_RATE = 16_000
CLIP_S, CROP_S = 10.0, 3.0  # OpenMIC's and AudioSet's clips; Lumen 2023's windows
NUM_SAMPLES, CROP_SAMPLES = 160_000, 48_000
BATCH = 64
NUM_SHARDS = 4
INSTRUMENTS = tuple("abcdefghijk")  # as many classes as IRMAS has
EPOCHS_OF_MEMORY = 5  # an epoch from memory takes a tenth of a second: several are timed together
GOALS = {  # ours: (peer or limit, at least)
    "resident": {"webdataset": 2.0, "huggingface": 2.0, "huggingface_streaming": 2.0, "memmap": 0.7},
}


def clip_of(index: int) -> tuple[Clip, bytes]:
    """Make a tone in noise: FLAC keeps about four fifths of it, as of music."""
    rng = np.random.default_rng(index)
    time_s = np.arange(NUM_SAMPLES) / SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 2_000) * time_s)
    samples = to_int16((tone + 0.05 * rng.standard_normal(NUM_SAMPLES)).astype(np.float32))
    audio = StoredAudio(
        blob="",
        pcm_sha256=pcm_sha256(samples),
        native_sha256="",
        source_sha256="",
        sample_rate=SAMPLE_RATE,
        num_samples=NUM_SAMPLES,
        native_sample_rate=SAMPLE_RATE,
        native_num_samples=NUM_SAMPLES,
        num_channels=1,
        codec="FLAC/PCM_16",
        decoder="libsndfile",
        silence_share=0.0,
        loudness_lufs=-12.0,
        gain_db=0.0,
        true_peak_dbtp=-3.0,
        complete=True,
    )
    name = f"synthesized/{index:06d}@0"
    labels = {name: Label(int(rng.integers(2)), "human") for name in INSTRUMENTS}
    clip = Clip(
        id=name, source="synthesized", recording=name, group=name, partition="train", labels=labels, end_s=10.0,
        audio=audio, split="train",
    )  # fmt: skip
    return clip, encode(samples, SAMPLE_RATE, "flac")


def write_clips(folder: Path, num_clips: int) -> Manifest:
    """Write shards with their manifest, and tar shards of the same files."""
    (folder / "tar").mkdir(parents=True)
    (folder / "data").mkdir()
    shards: list[dict[str, Any]] = []
    for number, part in enumerate(np.array_split(np.arange(num_clips), NUM_SHARDS)):
        rows = [clip_of(int(index)) for index in part]
        path = folder / shard_path("train", number, NUM_SHARDS)
        with path.open("wb") as stream:
            count, content = write_shard(stream, rows, INSTRUMENTS, sample_rate=SAMPLE_RATE, rows_per_group=16)
        shards.append(
            {
                "path": str(path.relative_to(folder)),
                "split": "train",
                "num_rows": count,
                "num_bytes": path.stat().st_size,
                "sha256": file_sha256(path),
                "content_sha256": content,
            }
        )
        with tarfile.open(folder / "tar" / f"{number:05d}.tar", "w") as tar:
            for clip, audio in rows:
                key = clip.id.replace("/", "-")
                presence = [clip.labels[name].presence for name in INSTRUMENTS]
                for extension, data in (("flac", audio), ("json", json.dumps({"presence": presence}).encode())):
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    manifest_path(folder).parent.mkdir()
    manifest_path(folder).write_text(canonical_json(_content(shards, num_clips)))
    return read_manifest(folder)


def _content(shards: list[dict[str, Any]], num_clips: int) -> dict[str, Any]:
    """Make the least that is a manifest: no clip rows, no counts of labels."""
    splits = {split: num_clips if split == "train" else 0 for split in SPLITS}
    recipe = {
        "name": "synthesized", "seed": 0, "split": {}, "sources": {"synthesized": {}},
        "prepare": {"sample_rate": SAMPLE_RATE, "audio_format": "flac"},
        "write": {"rows_per_shard": -(-num_clips // NUM_SHARDS), "rows_per_group": 16},
    }  # fmt: skip
    source = {"title": "noise", "homepage": "", "license": "CC0-1.0", "license_url": "", "citation": "", "files": []}
    return {
        "schema_version": SCHEMA_VERSION, "dataset": "synthesized", "instruments": list(INSTRUMENTS),
        "recipe": recipe, "recipe_sha256": digest_of(recipe), "mirrored": False,
        "sources": {"synthesized": source}, "tools": {"numpy": np.__version__},
        "counts": {
            "kept": num_clips, "rejected": {}, "splits": splits, "sources": {},
            "present": {split: dict.fromkeys(INSTRUMENTS, 0) for split in SPLITS},
        },
        "split_certificate": {"groups": num_clips, "groups_in_two_splits": 0, "splitter": "counts", "pools": {}},
        "split_digest": "0" * 64, "root_digest": "0" * 64, "shards": shards, "clips": [],
    }  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Rate and processor time of a reader."""

    clips_per_s: float
    cpu_ms_per_clip: float  # of this process and its workers: what a busy machine distorts least


def cost(batches: Callable[[], Iterable[Sized]]) -> Cost:
    """Read to the end; whatever the call does before the first batch counts."""
    start_s, start_cpu_s = time.perf_counter(), cpu_s()
    clips = sum(len(batch) for batch in batches())
    return Cost(clips / (time.perf_counter() - start_s), (cpu_s() - start_cpu_s) / clips * 1e3)


def cpu_s() -> float:
    """Measure processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def memory_map(samples: NDArray[np.int16]) -> Callable[[], Cost]:
    """Make the limit: clips of one length, gathered by one index per batch."""
    clips = samples.reshape(-1, NUM_SAMPLES)

    def epochs() -> Iterable[torch.Tensor]:
        for epoch in range(EPOCHS_OF_MEMORY):
            order = np.random.default_rng(epoch).permutation(len(clips))
            for first in range(0, len(clips), BATCH):
                yield torch.from_numpy(clips[order[first : first + BATCH]]).float().div_(32768)

    return lambda: cost(epochs)


def our_recipe(window_s: float, reading: str) -> TaggingRecipe:
    """Make the recipe of a run that draws random windows of waveforms in batches of 64."""
    overrides = [f"window_s={window_s}", f"batch_size={BATCH}", f"reading={reading}", "shuffle_clips=512"]
    recipe: TaggingRecipe = load_recipe("logmel_cnn", overrides)
    return recipe


def opened(manifest: Manifest, recipe: TaggingRecipe, hot_copies: Path | None) -> AnyClips:
    """Open the clips as training does that changes waveforms."""
    return load_clips(Data(manifest, torch.device("cpu"), hot_copies), "train", recipe, unit="samples")


def epoch_of(clips: AnyClips, recipe: TaggingRecipe, epoch: int) -> Iterator[torch.Tensor]:
    """Read the windows (B, T) of an epoch, each step with its labels."""
    chosen = clips_to_learn_from(clips, recipe)
    draws = examples(clips, chosen, recipe, epoch)
    for clips_B, window_BT in clips.batches(draws, recipe.num_samples(recipe.window_s), recipe.last):
        assert len(clips.presence[clips_B]) == len(window_BT)
        yield window_BT


def our_readers(manifest: Manifest, folder: Path) -> dict[str, Callable[[], Cost]]:
    """List our tiers by name, each with its measurement."""

    def first_epoch() -> Cost:
        cache, recipe = folder / "fresh-cache", our_recipe(CLIP_S, "resident")
        shutil.rmtree(cache, ignore_errors=True)
        return cost(lambda: epoch_of(opened(manifest, recipe, cache), recipe, 0))

    def resident(window_s: float) -> Cost:
        recipe = our_recipe(window_s, "resident")
        clips = opened(manifest, recipe, folder / "cache")
        epochs = range(1, 1 + EPOCHS_OF_MEMORY)
        return cost(lambda: (batch for epoch in epochs for batch in epoch_of(clips, recipe, epoch)))

    def streaming(window_s: float, epoch: int, num_threads: int) -> Cost:
        """Measure an epoch; later ones than the first are no longer verified."""
        recipe = our_recipe(window_s, "streaming")
        torch.set_num_threads(num_threads)  # training decodes with as many
        try:
            clips = opened(manifest, recipe, None)
            for earlier in range(epoch):
                collections.deque(epoch_of(clips, recipe, earlier), maxlen=0)
            return cost(lambda: epoch_of(clips, recipe, epoch))
        finally:
            torch.set_num_threads(1)

    samples = hot_copy(manifest, "train", folder / "cache").samples
    return {
        "memmap": memory_map(samples),
        "resident": lambda: resident(CLIP_S),
        "resident_first": first_epoch,
        "streaming_first": lambda: streaming(CLIP_S, 0, 1),
        "streaming_first_2": lambda: streaming(CLIP_S, 0, 2),
        "streaming": lambda: streaming(CLIP_S, 1, 1),
        "streaming_2": lambda: streaming(CLIP_S, 1, 2),
        "resident_3s": lambda: resident(CROP_S),
        "streaming_3s": lambda: streaming(CROP_S, 1, 1),
        "streaming_2_3s": lambda: streaming(CROP_S, 1, 2),
    }


def peer_readers(folder: Path, packages: Path | None, notes: dict[str, Any]) -> dict[str, Callable[[], Cost]]:
    """List other libraries' readers by name, each measured in a process of its own."""

    def run(name: str, peer: str, workers: int, window: int) -> Cost:
        command = [sys.executable, "-I", str(Path(__file__).with_name("read_peers.py"))]
        command += [peer, str(folder), str(workers), str(window), *([] if packages is None else [str(packages)])]
        result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if result.returncode:
            last = result.stderr.strip().splitlines()[-1:] or ["no message"]
            if "ModuleNotFoundError" not in last[0]:
                raise RuntimeError(f"{' '.join(command)} failed: {result.stderr}")
            notes[name] = last[0]
            return Cost(0.0, math.inf)
        measured = json.loads(result.stdout.splitlines()[-1])
        notes[name] = {"clips": measured["clips"], "prepare_s": measured["prepare_s"]}
        return Cost(measured["clips_per_s"], measured["cpu_ms_per_clip"])

    peers = ("webdataset", "huggingface", "huggingface_streaming")
    readers: dict[str, Callable[[], Cost]] = {}
    for suffix, workers, window in (("", 0, NUM_SAMPLES), ("_2", 2, NUM_SAMPLES), ("_3s", 0, CROP_SAMPLES)):
        for peer in peers:
            name = peer + suffix
            readers[name] = lambda name=name, peer=peer, w=workers, s=window: run(name, peer, w, s)  # type: ignore[misc]
    return readers


def measure(num_clips: int, repeats: int, packages: Path | None) -> dict[str, Any]:
    """Measure the best rate of every reader, and the ratios."""
    notes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_clips(folder, num_clips)
        readers = our_readers(manifest, folder) | peer_readers(folder, packages, notes)
        best, cpu_ms = dict.fromkeys(readers, 0.0), dict.fromkeys(readers, math.inf)
        for _ in range(repeats):
            for reader, run in readers.items():
                found = run()
                best[reader] = max(best[reader], found.clips_per_s)
                cpu_ms[reader] = min(cpu_ms[reader], found.cpu_ms_per_clip)
                line = f"{reader:26} {best[reader]:8.0f} clips/s {cpu_ms[reader]:8.2f} ms of a processor per clip"
                print(line, file=sys.stderr, flush=True)
    goals = [
        {"reader": ours, "against": peer, "ratio": best[ours] / best[peer] if best[peer] else None, "at_least": least}
        for ours, against in GOALS.items()
        for peer, least in against.items()
    ]
    return {
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "clips": num_clips,
        "clip_s": NUM_SAMPLES / SAMPLE_RATE,
        "batch": BATCH,
        "repeats": repeats,
        "clips_per_s": best,
        "goals": goals,
        "cpu_ms_per_clip": {reader: ms if math.isfinite(ms) else None for reader, ms in cpu_ms.items()},
        "ratios": ratios(best),
        "cpu_ratios": ratios({reader: 1 / ms for reader, ms in cpu_ms.items()}),
        "peers": notes,
    }


def ratios(best: dict[str, float]) -> dict[str, float]:
    """Divide ours by each peer with as many threads or workers, where both were measured."""
    found: dict[str, float] = {}
    for suffix, tiers in {
        "": ("resident_first", "streaming_first", "streaming"),
        "_2": ("streaming_first", "streaming"),
        "_3s": ("resident", "streaming"),
    }.items():
        for tier in tiers:
            for peer in ("webdataset", "huggingface", "huggingface_streaming"):
                if theirs := best[peer + suffix]:
                    found[f"{tier}{suffix}/{peer}{suffix}"] = best[tier + suffix] / theirs
    return found


def main() -> None:
    """Print a table on stderr and JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = measure(arguments.clips, arguments.repeats, arguments.packages)
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
