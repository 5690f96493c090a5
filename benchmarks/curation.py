"""The worth of label curation: planted mistakes found, a model trained with and without it, and the cost.

    python -m benchmarks.curation --mirror PATH [--truth PATH/TRUTH.json] [--output benchmarks/results/curation.json]

Without --mirror everything runs on the built-in sample. `--parts truth,noise,helps,scale` chooses. TRUTH.json is only
ever reported against: no threshold was chosen with it.
"""

import argparse
import io
import itertools
import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tutti.datasets.files import write_file
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.datasets.shard import read_shard
from tutti.pipelines.build.__main__ import main as build
from tutti.pipelines.curation import outliers
from tutti.pipelines.curation.crossfit import Table, sampled
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.pipelines.embedders.logmel import LogMelEmbedder
from tutti.train.recipe import load_recipe
from tutti.train.run import train

Bools = NDArray[np.bool_]
Mode = Literal["calibrated", "fixed"]
MODES: tuple[Mode, ...] = ("calibrated", "fixed")
RATES = (0.05, 0.1, 0.2)  # of clips mislabelled
SEEDS = 6  # two of each rate
BOOTSTRAPS = 200
TRAINING_SEEDS = 5


def main(argv: Sequence[str]) -> int:
    """Run the parts and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", default="sample")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--parts", default="truth,noise,helps,scale")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    parts = arguments.parts.split(",")
    truth = json.loads(arguments.truth.read_text(encoding="utf-8")) if arguments.truth else None
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "scale" in parts:
            found["scale"] = shown("scale", scale())
        if "truth" in parts and truth:
            found["truth"] = shown("truth", against_truth(built(folder, arguments.mirror), truth))
        if "noise" in parts:
            for mirror in sorted({arguments.mirror, "sample"}):
                name = "sample" if mirror == "sample" else "mirror"
                found[f"noise_{name}"] = shown(f"noise_{name}", planted_noise(built(folder, mirror)))
        if "helps" in parts:
            found["helps"] = shown("helps", does_it_help(folder, arguments.mirror, truth))
    if arguments.output:
        write_file(arguments.output, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
    return 0


def shown(name: str, figures: Any) -> Any:
    """Print figures as they come."""
    print(name, json.dumps(figures, indent=1), flush=True)
    return figures


def built(folder: Path, mirror: str, *flags: str, name: str = "plain") -> Manifest:
    """Build the dataset `ultimate` of a mirror once; every clip keeps its label."""
    output = folder / f"{'sample' if mirror == 'sample' else 'mirror'}-{name}"
    if not output.exists():
        places = ["--output", str(output), "--cache-dir", str(folder / "cache")]
        command = ["--dataset", "ultimate", "--mirror", mirror, "--embedder", "logmel", *places]
        if build([*command, *(flags or ("--set", "curate.drop=none"))]):
            raise SystemExit(f"the build of {mirror} failed")
    return read_manifest(output)


def single_instrument_clips(manifest: Manifest) -> Table:
    """Read embeddings and labels of IRMAS train and AudioSet."""
    partitions = {row["id"]: (row["source"], row["partition"]) for row in manifest.clip_rows()}
    rows = [
        row
        for info in manifest.shards()
        for row in read_shard(manifest.shard_file(info), ["id", "group", "presence", "audio"])
        if partitions[row["id"]] == ("irmas", "train") or partitions[row["id"]][0] == "audioset"
    ]
    waveforms = [soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")[0] for row in rows]
    presence = np.array([row["presence"] for row in rows], np.int8)
    ids, groups = tuple(row["id"] for row in rows), tuple(row["group"] for row in rows)
    return Table(ids, groups, LogMelEmbedder().embed(waveforms), presence)


def of_source(table: Table, source: str) -> Bools:
    """Mask the rows of a source."""
    return np.array([clip_id.startswith(f"{source}/") for clip_id in table.ids])


# --- planted mistakes: are they found?


@dataclass(frozen=True)
class Trial:
    """Decisions of one experiment about clips of a source."""

    groups: NDArray[np.str_]
    wrong: Bools
    quality: NDArray[np.float64]
    dropped: Bools


def trials(table: Table, wrong: Bools, *, pooled: bool, grouped: bool, seed: int = 0) -> Iterator[tuple[str, Trial]]:
    """Score all clips in both modes: ("source mode", trial)."""
    heard = table if grouped else replace(table, groups=table.ids)
    sources = ("irmas", "audioset")
    parts = [np.ones(len(table.ids), bool)] if pooled else [of_source(table, source) for source in sources]
    for part, name in zip(parts, ["irmas+audioset"] if pooled else sources, strict=True):
        mine = heard.take(np.flatnonzero(part))
        models = outliers.fit(mine, source=name, config=OutlierConfig(), seed=seed)
        if isinstance(models, outliers.Skipped):
            continue
        logits = outliers.score(models, mine)
        for mode in MODES:
            config = OutlierConfig(mode=mode)
            scores = outliers.assess(models, mine, logits, config)
            for source in sources:
                here = of_source(mine, source) & np.isfinite(scores.quality)
                if here.any():
                    quality = scores.quality[here]
                    groups = np.array(table.take(np.flatnonzero(part)).groups)[here]
                    dropped = quality < outliers.cutoff_of(models, config, source)
                    yield f"{source} {mode}", Trial(groups, wrong[part][here], quality, dropped)


def figures(experiments: Sequence[Trial]) -> dict[str, list[float]]:
    """Compute mean and song-level bootstrap interval (95 %) of AUROC and of the shares dropped, right and wrong."""
    names = ("auroc", "right_dropped", "wrong_dropped")
    whole = [_weighted(trial, np.ones(len(trial.wrong))) for trial in experiments]
    means = np.mean([value for value in whole if value is not None], axis=0)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(BOOTSTRAPS):
        values = [value for trial in experiments if (value := _weighted(trial, _song_weights(trial, rng))) is not None]
        drawn.append(np.mean(values, axis=0))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {
        name: [round(float(x), 3) for x in row]
        for name, row in zip(names, np.stack([means, low, high], 1), strict=True)
    }


def _song_weights(trial: Trial, rng: np.random.Generator) -> NDArray[np.float64]:
    songs, song_of_row = np.unique(trial.groups, return_inverse=True)
    return np.bincount(rng.integers(0, len(songs), len(songs)), minlength=len(songs))[song_of_row].astype(float)


def _weighted(trial: Trial, weight: NDArray[np.float64]) -> tuple[float, float, float] | None:
    wrong, right = weight * trial.wrong, weight * ~trial.wrong
    if not wrong.sum() or not right.sum():
        return None
    auroc = float(roc_auc_score(~trial.wrong, trial.quality, sample_weight=weight))
    return auroc, float(right @ trial.dropped / right.sum()), float(wrong @ trial.dropped / wrong.sum())


def mislabel(table: Table, share: float, unit: str, seed: int) -> tuple[Table, Bools]:
    """Put a share of a table's clips under a wrong label, by whole songs or clip by clip."""
    rng = np.random.default_rng(seed)
    presence, wrong = table.presence.copy(), np.zeros(len(table.ids), bool)
    keys = np.array(table.groups if unit == "song" else table.ids)
    for key in rng.permutation(np.unique(keys)):
        if wrong.sum() >= share * len(keys):
            break
        rows = np.flatnonzero(keys == key)
        given = int(presence[rows[0]].argmax())
        other = int(rng.choice([column for column in range(presence.shape[1]) if column != given]))
        presence[rows, given], presence[rows, other] = presence[rows, other].copy(), 1
        wrong[rows] = True
    return replace(table, presence=presence), wrong


def planted_noise(manifest: Manifest) -> dict[str, Any]:
    """Average over seeds and rates of noise: song or clip noise x models pooled or not x folds by song or not."""
    table = single_instrument_clips(manifest)
    sources = [table.take(np.flatnonzero(of_source(table, source))) for source in ("irmas", "audioset")]
    result: dict[str, Any] = {}
    variants = (("pooled", True, True), ("own models", False, True), ("pooled, folds by clip", True, False))
    for unit, (title, pooled, grouped) in itertools.product(("song", "clip"), variants):
        collected: dict[str, list[Trial]] = defaultdict(list)
        for seed in range(SEEDS):
            noisy = [mislabel(source, RATES[seed % len(RATES)], unit, 100 + seed) for source in sources]
            joined, wrong = concatenated([table for table, _ in noisy]), np.concatenate([wrong for _, wrong in noisy])
            for name, trial in trials(joined, wrong, pooled=pooled, grouped=grouped):
                collected[name].append(trial)
        for name, experiments in sorted(collected.items()):
            result[f"{unit} noise, {title}, {name}"] = figures(experiments)
    return result


def concatenated(tables: Sequence[Table]) -> Table:
    """Concatenate tables."""
    return Table(
        tuple(itertools.chain(*(table.ids for table in tables))),
        tuple(itertools.chain(*(table.groups for table in tables))),
        np.concatenate([table.embeddings for table in tables]),
        np.concatenate([table.presence for table in tables]),
    )


def upstream_key(clip_id: str) -> str:
    """Parse the key of `source/key@start`."""
    return clip_id.split("/", 1)[1].rpartition("@")[0]


def against_truth(manifest: Manifest, truth: dict[str, Any]) -> dict[str, Any]:
    """Measure against the mistakes that the mirror came with; one experiment."""
    table = single_instrument_clips(manifest)
    names = set(truth["irmas_mislabelled"]) | set(truth["audioset_mislabelled"])
    wrong = np.array([upstream_key(clip_id) in names for clip_id in table.ids])
    result = {}
    for title, pooled, grouped in (("pooled", True, True), ("own", False, True), ("own, folds by clip", False, False)):
        for name, trial in trials(table, wrong, pooled=pooled, grouped=grouped):
            counts = {"right": int((~trial.wrong).sum()), "wrong": int(trial.wrong.sum())}
            result[f"{title}, {name}"] = figures([trial]) | counts
    return result


# --- does it help?


def does_it_help(folder: Path, mirror: str, truth: dict[str, Any] | None) -> dict[str, Any]:
    """Measure F1 on a song-disjoint test split without planted mistakes, trained with and without curation."""
    wrong = sorted((truth or {}).get("audioset_mislabelled", {}))
    plain = built(folder, mirror)
    evaluated = [row for row in plain.clip_rows() if row.get("split") in ("validation", "test")]
    tainted = [row["id"] for row in evaluated if upstream_key(row["id"]) in wrong]
    (folder / "tainted.txt").write_text("".join(f"{clip_id}\n" for clip_id in tainted))
    exclude = ("--exclude", str(folder / "tainted.txt"))
    variants = {
        "as given": built(folder, mirror, "--set", "curate.drop=none", *exclude, name="given"),
        "curated": built(folder, mirror, *exclude, name="curated"),
    }
    scores: dict[str, dict[str, list[float]]] = {}
    for name, manifest in variants.items():
        collected: dict[str, list[float]] = defaultdict(list)
        for seed in range(TRAINING_SEEDS):
            recipe = load_recipe("logmel_cnn", [f"seed={seed}"])
            report = train(recipe, manifest, output=folder / f"run-{name}-{seed}", restart=True)["test"]["model"]
            for metric in ("micro_f1", "macro_f1", "map"):
                collected[metric].append(round(float(report[metric]), 4))
        scores[name] = dict(collected)
    result: dict[str, Any] = {"scores": scores, "tainted_left_out": len(tainted)}
    result["train_clips"] = {name: sum(i.num_rows for i in m.shards("train")) for name, m in variants.items()}
    for metric in ("micro_f1", "macro_f1", "map"):
        gain = np.array(scores["curated"][metric]) - np.array(scores["as given"][metric])
        result[f"{metric}_gain"] = {"mean": round(float(gain.mean()), 4), "std": round(float(gain.std(ddof=1)), 4)}
    return result


# --- what does it cost?


def scale(num_clips: int = 200_000, num_classes: int = 11, dimension: int = 768) -> dict[str, Any]:
    """Measure processor seconds and peak memory of curating many clips, embeddings as wide as AST's."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, num_classes, num_clips)
    embeddings = rng.standard_normal((num_clips, dimension), dtype=np.float32)
    embeddings += (rng.standard_normal((num_classes, dimension)) * 0.25).astype(np.float32)[label]
    presence = np.full((num_clips, num_classes), -1, np.int8)
    presence[np.arange(num_clips), label] = 1
    groups = tuple(f"song {index // 3}" for index in range(num_clips))
    table = Table(tuple(f"clip {index:06d}" for index in range(num_clips)), groups, embeddings, presence)
    before_mib = peak_mib()
    config, seconds = OutlierConfig(), {}
    start = time.process_time()
    chosen = [row for row, group in enumerate(groups) if sampled(group, num_rows=num_clips, config=config.fit, seed=0)]
    models = outliers.fit(table.take(chosen), source="synthetic", config=config, seed=0)
    if isinstance(models, outliers.Skipped):
        raise SystemExit(models.note)
    seconds["fit"] = time.process_time() - start
    logits = outliers.score(models, table)
    seconds["score"] = time.process_time() - start - seconds["fit"]
    scores = outliers.assess(models, table, logits, config)
    dropped = float((scores.quality < outliers.cutoff_of(models, config)).mean())
    seconds["assess"] = time.process_time() - start - seconds["fit"] - seconds["score"]
    return {
        "clips": num_clips,
        "fitted": len(chosen),
        "processor_s": {name: round(value, 1) for name, value in seconds.items()},
        "peak_mib": round(peak_mib()),
        "peak_mib_of_the_input": round(before_mib),
        "accuracy": round(models.accuracy, 3),
        "dropped": round(dropped, 4),
    }


def peak_mib() -> float:
    """Measure the peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
