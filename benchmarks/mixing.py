"""The speed of mixing stems while training, against a memory map as the limit.

    python -m benchmarks.mixing [--songs 12] [--mixes 256] [--output benchmarks/results/mixing.json]

Songs of six stems of two minutes at 16 kHz, 16-bit FLAC in shards, of two corpora, files in the page cache. Mixtures of
four seconds by the defaults of `MixingConfig`. One torch thread; what counts is processor time, so that a rate is per
core. Kinds are measured in turn, several times; the best counts.

draw               which stems, from where, with which labels: no audio
resident           chunks cut from samples in memory, added up and set to one loudness; no effects
musical, other     the same with effects, each for half of the stems: filters and gain, and in others pitch and tempo
default            p_musical = .4
streaming          as resident, each chunk sought in its FLAC file
streaming_default  as default
memmap             the limit: the same chunks, rows of an np.memmap by slices, to float32
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutti.datasets.audio import encode, pcm_sha256, to_int16
from tutti.datasets.manifest import Manifest, canonical_json, digest_of, file_sha256, manifest_path, read_manifest
from tutti.datasets.record import SPLITS, Clip, Label, Sounding, StoredAudio, Track
from tutti.datasets.shard import shard_path, write_shard
from tutti.train.data import Data, open_table
from tutti.train.mixtures_recipe import MixturesRecipe
from tutti.train.recipe import load_recipe
from tutti.train.stems.clips import Mixtures, open_mixtures
from tutti.train.stems.config import MixingConfig
from tutti.train.stems.songs import read_stems

SAMPLE_RATE, SONG_S, NUM_STEMS = 16_000, 120, 6
INSTRUMENTS = tuple("abcdef")
CPU = torch.device("cpu")


def stem_of(song: int, stem: int) -> tuple[Clip, bytes]:
    """Make a tone in noise that rests every other ten seconds."""
    rng = np.random.default_rng([song, stem])
    time_s = np.arange(SONG_S * SAMPLE_RATE) / SAMPLE_RATE
    sound = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 2_000) * time_s) + 0.03 * rng.standard_normal(len(time_s))
    sound[(time_s % 20) >= 10] = 0
    samples = to_int16(sound.astype(np.float32))
    audio = StoredAudio(
        blob="", pcm_sha256=pcm_sha256(samples), native_sha256="", source_sha256="", sample_rate=SAMPLE_RATE,
        num_samples=len(samples), native_sample_rate=SAMPLE_RATE, native_num_samples=len(samples), num_channels=1,
        codec="FLAC/PCM_16", decoder="libsndfile", silence_share=0.5, loudness_lufs=-20.0, gain_db=0.0,
        true_peak_dbtp=-3.0, complete=True,
    )  # fmt: skip
    corpus, name = ("first", "second")[song % 2], f"S{stem:02d}"
    spans = tuple((float(start), float(start + 10)) for start in range(0, SONG_S, 20))
    clip = Clip(
        id=f"{corpus}/{song:03d}/{name}@0", source=corpus, recording=f"{song}/{name}", group=f"{corpus}/{song}",
        partition="train", labels={one: Label(int(one == INSTRUMENTS[stem]), "human") for one in INSTRUMENTS},
        end_s=float(SONG_S), audio=audio, split="train", track=Track(str(song), name),
        sounding=(Sounding(name, spans, (INSTRUMENTS[stem],)),),
    )  # fmt: skip
    return clip, encode(samples, SAMPLE_RATE, "flac")


def write_songs(folder: Path, num_songs: int) -> Manifest:
    """Write a shard of stems with its manifest."""
    path = folder / shard_path("train", 0, 1)
    path.parent.mkdir(parents=True)
    rows = sorted((stem_of(song, stem) for song in range(num_songs) for stem in range(NUM_STEMS)), key=_id_of)
    with path.open("wb") as stream:
        count, content = write_shard(
            stream, rows, INSTRUMENTS, sample_rate=SAMPLE_RATE, rows_per_group=16, tracks=True
        )  # fmt: skip
    entry = {
        "path": str(path.relative_to(folder)), "split": "train", "num_rows": count,
        "num_bytes": path.stat().st_size, "sha256": file_sha256(path), "content_sha256": content,
    }  # fmt: skip
    splits = {split: count if split == "train" else 0 for split in SPLITS}
    card = {"title": "Tones", "homepage": "", "license": "CC0-1.0", "license_url": "", "citation": "", "files": []}
    recipe = {
        "name": "synthesized", "seed": 0, "sources": {"synthesized": {}}, "split": {},
        "prepare": {"sample_rate": SAMPLE_RATE, "audio_format": "flac"},
        "write": {"rows_per_shard": count, "rows_per_group": 16},
    }  # fmt: skip
    manifest = {
        "schema_version": 2, "dataset": "synthesized", "instruments": list(INSTRUMENTS), "recipe": recipe,
        "recipe_sha256": digest_of(recipe), "mirrored": False, "sources": {"synthesized": card},
        "tools": {"numpy": np.__version__},
        "counts": {
            "kept": count, "rejected": {}, "splits": splits,
            "sources": {"synthesized": {"kept": count, "reasons": {}, "splits": splits}},
            "present": {split: dict.fromkeys(INSTRUMENTS, 0) for split in SPLITS},
        },
        "split_certificate": {"groups": 0, "groups_in_two_splits": 0, "splitter": "counts", "pools": {}},
        "split_digest": "0" * 64, "root_digest": digest_of(content), "shards": [entry], "clips": [],
    }  # fmt: skip
    target = manifest_path(folder)
    target.parent.mkdir(parents=True)
    target.write_text(canonical_json(manifest) + "\n", encoding="utf-8")
    return read_manifest(folder)


def _id_of(row: tuple[Clip, bytes]) -> str:
    return row[0].id


def readers(manifest: Manifest, folder: Path, num_mixes: int) -> dict[str, Callable[[], None]]:
    """List what is measured by name; each makes `num_mixes` mixtures."""
    recipe: MixturesRecipe = load_recipe("mixtures_transfer")
    data = Data(manifest, CPU, folder / "hot")
    table = open_table(data, "train", recipe)
    numbers = [(0, index) for index in range(num_mixes)]

    def opened(tier: str, config: MixingConfig, *, with_effects: bool = True) -> Mixtures:
        chosen = replace(recipe, compute=replace(recipe.compute, reading=tier))  # type: ignore[arg-type]
        return open_mixtures(data, "train", table, chosen, config, seed=0, with_effects=with_effects)

    def mixed(mixtures: Mixtures) -> Callable[[], None]:
        def run() -> None:
            for number in numbers:
                mixtures.mixer.batch([number])

        return run

    config = recipe.mixing
    resident = opened("resident", config, with_effects=False)
    sampler, stems = resident.mixer.sampler, read_stems(table, manifest)
    (samples_file,) = (folder / "hot" / "hot").glob("*.int16")
    samples = np.memmap(samples_file, "<i2", "r")
    chunks = [
        (int(table.offsets[stems.rows[stem]]) + int(first), sampler.num_samples)
        for number in numbers
        for mix in [sampler.draw(*number)]
        for stem, first in zip(mix.stems, mix.first, strict=True)
    ]

    def memmap() -> None:
        for first, length in chunks:
            samples[first : first + length].astype(np.float32)

    def draw() -> None:
        for number in numbers:
            sampler.draw(*number)

    return {
        "draw": draw,
        "memmap": memmap,
        "resident": mixed(resident),
        "musical": mixed(opened("resident", replace(config, p_musical=1.0))),
        "other": mixed(opened("resident", replace(config, p_musical=0.0))),
        "default": mixed(opened("resident", config)),
        "streaming": mixed(opened("streaming", config, with_effects=False)),
        "streaming_default": mixed(opened("streaming", config)),
    }


def measure(num_songs: int, num_mixes: int, repeats: int) -> dict[str, Any]:
    """Measure mixtures per second of processor time, and the ratio to the memory map."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = readers(write_songs(folder / "data", num_songs), folder, num_mixes)
        best_s = dict.fromkeys(found, float("inf"))
        for _ in range(repeats):
            for reader, run in found.items():
                began = time.process_time()
                run()
                best_s[reader] = min(best_s[reader], time.process_time() - began)
                print(f"{reader:20} {num_mixes / best_s[reader]:9.0f} mixes/s per core", file=sys.stderr, flush=True)
    return {
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "stems": num_songs * NUM_STEMS,
        "mixes": num_mixes,
        "mixes_per_s_per_core": {reader: num_mixes / seconds for reader, seconds in best_s.items()},
        "ratio_to_memmap": {reader: best_s["memmap"] / seconds for reader, seconds in best_s.items()},
    }


def main() -> None:
    """Print rates on stderr and JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=12)
    parser.add_argument("--mixes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = measure(arguments.songs, arguments.mixes, arguments.repeats)
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
