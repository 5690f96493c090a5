"""The cost of a varied clip, against audiomentations on the same clips.

    python -m benchmarks.augment [--packages DIR] [--batch 64] [--repeats 7] [--output benchmarks/results/augment.json]

Batches of three-second clips at 16 kHz, one thread, in one process. Every transform is timed with the
drawing of its parameters; the best of several repeats counts, theirs and ours in turn, because another
program on the machine can only slow one down. audiomentations takes one clip at a time, as in a loader's
worker; it is no dependency and is measured where it can be imported:

    pip install --target DIR audiomentations
    python -m benchmarks.augment --packages DIR

Its settings are its defaults; noises and impulse responses come from files that are in its cache. It has
no mixing of labelled clips: ours stands against its mixing of a clip with a background file.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from tutti.augment import presets
from tutti.augment.batch import Batch, batch_of
from tutti.augment.transform import Transform, load_transform, transform_names
from tutti.augment.transforms.background_noise import NoiseBank, noise_bank
from tutti.augment.transforms.colored_noise import ColoredNoise

SAMPLE_RATE = 16_000
CLIP_S = 3.0
NUM_CLASSES = 11  # IRMAS
FRAMES, BINS = 301, 128  # Lumen 2023's spectrogram of three seconds
TARGETS = {  # theirs / ours, at least
    **dict.fromkeys(("white_noise", "colored_noise", "background_noise", "reverb", "sum_with_n"), 3.0),
    **dict.fromkeys(("high_pass", "low_pass", "high_shelf", "low_shelf", "peaking"), 3.0),
    **dict.fromkeys(("pitch_shift", "time_stretch"), 1.0),
}
PEERS = {  # ours: their class
    "white_noise": "AddGaussianSNR",
    "colored_noise": "AddColorNoise",
    "background_noise": "AddBackgroundNoise",
    "sum_with_n": "AddBackgroundNoise",
    "reverb": "ApplyImpulseResponse",
    "high_pass": "HighPassFilter",
    "low_pass": "LowPassFilter",
    "high_shelf": "HighShelfFilter",
    "low_shelf": "LowShelfFilter",
    "peaking": "PeakingFilter",
    "pitch_shift": "PitchShift",
    "time_stretch": "TimeStretch",
    "time_shift": "Shift",
    "time_mask": "TimeMask",
    "gain": "Gain",
    "time_inversion": "Reverse",
    "polarity_inversion": "PolarityInversion",
}


def clips(count: int, seed: int) -> torch.Tensor:
    """Draw (count, T): noise around -20 dB; transforms depend on no more than its level."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(count, round(CLIP_S * SAMPLE_RATE), generator=generator)


def ours(bank: NoiseBank) -> dict[str, Transform]:
    """Make every transform of the registry, and white noise and the presets besides."""
    made: dict[str, Transform] = {}
    for name in transform_names():
        kind: Any = load_transform(name)
        made[name] = kind(bank) if name == "background_noise" else kind()
    made["white_noise"] = ColoredNoise(min_exponent=0, max_exponent=0)
    return {
        **made,
        "preset nsynth_pretraining": presets.nsynth_pretraining(),
        "preset lumen_best": presets.lumen_best(),
        "preset lumen_all": presets.lumen_all(bank),
        "preset musical_mixtures": presets.musical_mixtures(musical=False),
    }


def theirs(folder: Path, noises: list[torch.Tensor]) -> dict[str, Any]:
    """Make audiomentations' counterparts; empty where it cannot be imported."""
    if importlib.util.find_spec("audiomentations") is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library: Any = importlib.import_module("audiomentations")
    decay = 10 ** (-3 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)  # one second to -60 dB
    for number, noise in enumerate(noises):
        for kind, samples in (("noise", noise.numpy()), ("room", noise.numpy()[:SAMPLE_RATE] * decay)):
            (folder / kind).mkdir(exist_ok=True)
            soundfile.write(folder / kind / f"{number}.wav", samples, SAMPLE_RATE)
    files = {"AddBackgroundNoise": folder / "noise", "ApplyImpulseResponse": folder / "room"}
    return {
        name: getattr(library, peer)(*([files[peer]] if peer in files else []), p=1.0) for name, peer in PEERS.items()
    }


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def measure(
    transforms: Mapping[str, Transform], peers: Mapping[str, Any], count: int, repeats: int
) -> list[dict[str, Any]]:
    """Measure every transform: milliseconds per clip, ours and theirs, and the ratio."""
    labels = torch.eye(NUM_CLASSES, dtype=torch.int8)[torch.arange(count) % NUM_CLASSES]
    waveforms = batch_of(clips(count, 0), labels, sample_rate=SAMPLE_RATE)
    logmel = batch_of(torch.randn(count, FRAMES, BINS), labels, sample_rate=SAMPLE_RATE)
    rows = []
    for name, transform in transforms.items():
        batch = logmel if transform.domain == "spectrogram" else waveforms
        rows.append(_row(name, transform, batch, peers.get(name), repeats))
        print(_line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _row(name: str, transform: Transform, batch: Batch, peer: Any, repeats: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    singles = [row.numpy() for row in batch.signal[:16]]

    def one_by_one() -> None:
        for samples in singles:
            peer(samples, SAMPLE_RATE)

    transform(batch, generator)  # caches
    if peer is not None:
        one_by_one()
    our_s, their_s = [], []
    for _ in range(repeats):
        our_s.append(seconds(lambda: transform(batch, generator)))
        if peer is not None:
            their_s.append(seconds(one_by_one))
    row: dict[str, Any] = {"transform": name, "ms_per_clip": min(our_s) / len(batch) * 1e3}
    if peer is not None:
        row["peer"] = type(peer).__name__
        row["peer_ms_per_clip"] = min(their_s) / len(singles) * 1e3
        row["times_cheaper"] = row["peer_ms_per_clip"] / row["ms_per_clip"]
        row["target"] = TARGETS.get(name)
    return row


def _line(row: Mapping[str, Any]) -> str:
    line = f"{row['transform']:26} {row['ms_per_clip']:8.3f}"
    if "peer" in row:
        verdict = "" if row["target"] is None else f"  wanted {row['target']:.0f}x"
        line += f" {row['peer_ms_per_clip']:8.3f} {row['times_cheaper']:7.1f}x  {row['peer']}{verdict}"
    return line


def main() -> None:
    """Print a table on stderr and JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--packages", type=Path, help="a folder with audiomentations, searched after all others")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.packages:
        sys.path.append(str(arguments.packages))
    torch.set_num_threads(1)
    noises = list(clips(8, 1))
    with tempfile.TemporaryDirectory() as folder:
        peers = theirs(Path(folder), noises)
        if not peers:
            print("audiomentations cannot be imported: our figures alone", file=sys.stderr)
        print(f"{'ms per clip':26} {'ours':>8} {'theirs':>8} {'ratio':>8}", file=sys.stderr)
        bank = noise_bank(noises, noises[0].numel())
        rows = measure(ours(bank), peers, arguments.batch, arguments.repeats)
    judged = [row for row in rows if row.get("target")]
    report = {
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],  # at the end: more than the CPUs, and the ratios suffer
        "threads": torch.get_num_threads(),
        "batch": arguments.batch,
        "clip_s": CLIP_S,
        "sample_rate": SAMPLE_RATE,
        "peer_measured": bool(peers),
        "missed": [row["transform"] for row in judged if row["times_cheaper"] < row["target"]],
        "results": rows,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
