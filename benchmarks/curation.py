"""The worth of label curation: planted mistakes found, a model trained with and without it, and the cost.

    python -m benchmarks.curation --mirror PATH [--truth PATH/TRUTH.json] [--before CHECKOUT] [--output FILE]

Without --mirror everything runs on the built-in sample. `--parts` chooses of `clouds,real,truth,methods,copies,
stability,helps,scale`. With --before, another checkout of tutti decides about the same tables. TRUTH.json is only ever
reported against: no setting was chosen with it.
"""

import argparse
import itertools
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.labels import noise
from benchmarks.labels.checks import copies, methods, stability
from benchmarks.labels.noise import NOISES, WORLDS, Bools, Decision, cloud, planted
from benchmarks.labels.tables import embedded, known_wrong, upstream_key
from tutti.datasets.files import write_file
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.pipelines.build.__main__ import main as build
from tutti.pipelines.curation import outliers
from tutti.pipelines.curation.crossfit import Table, sampled
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.train.recipe import load_recipe
from tutti.train.run import train

HERE = Path(__file__).resolve().parents[1]
PARTS = "clouds,real,truth,methods,copies,stability,helps,scale"
SEEDS = 6
BOOTSTRAPS = 500
TRAINING_SEEDS = 5

Trial = tuple[Table, Bools]


def main(argv: Sequence[str]) -> int:
    """Run the parts and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", default="sample")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--before", type=Path, help="another checkout, to decide about the same tables")
    parser.add_argument("--parts", default=PARTS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    parts = arguments.parts.split(",")
    truth = json.loads(arguments.truth.read_text(encoding="utf-8")) if arguments.truth else None
    sides = {"after": HERE} | ({"before": arguments.before.resolve()} if arguments.before else {})
    before = json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def tables() -> Mapping[str, Table]:
            names = {name: "sample" if name == "sample" else "mirror" for name in (arguments.mirror, "sample")}
            return {
                f"{names[mirror]}, {embedder}": table
                for mirror in names for embedder, table in embedded(built(folder, mirror)).items()
            }  # fmt: skip

        if "scale" in parts:
            found["scale"] = shown("scale", scale())
        if "clouds" in parts:
            found["clouds"] = shown("clouds", planted_in_clouds(sides, arguments.seeds))
        if "real" in parts:
            found["real"] = shown("real", planted_in_recordings(tables(), truth, sides, arguments.seeds))
        if "truth" in parts and truth:
            mine = {name: table for name, table in tables().items() if name.startswith("mirror")}
            found["truth"] = shown("truth", against_truth(mine, truth, sides))
        if "methods" in parts:
            found["methods"] = shown("methods", methods(tables(), arguments.seeds))
        if "copies" in parts:
            found["copies"] = shown("copies", copies(built(folder, arguments.mirror), truth))
        if "stability" in parts:
            found["stability"] = shown("stability", stability(tables()))
        if "helps" in parts:
            found["helps"] = shown("helps", does_it_help(folder, arguments.mirror, truth))
    if arguments.output:
        write_file(arguments.output, (json.dumps(before | found, indent=1, sort_keys=True) + "\n").encode())
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


# --- planted mistakes: are they found, and what does it cost?


def judged_by(sides: Mapping[str, Path], trials: Sequence[Trial]) -> dict[str, list[Decision]]:
    """Run each checkout on the same tables, in a process of its own; report its processor time."""
    result = {}
    columns = [(table.ids, table.groups, table.embeddings, table.presence) for table, _ in trials]
    for side, checkout in sides.items():
        with tempfile.TemporaryDirectory() as temporary:
            given, answer = Path(temporary, "given"), Path(temporary, "answer")
            given.write_bytes(pickle.dumps(columns))
            environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
            subprocess.run([sys.executable, noise.__file__, given, answer], env=environment, check=True)
            found = pickle.loads(answer.read_bytes())
        print(f"{side}: {sum(one.pop('processor_s') for one in found):.0f} s for {len(found)} tables", flush=True)
        result[side] = [Decision(**one) for one in found]
    return result


def figures(trials: Sequence[Trial], decisions: Sequence[Decision]) -> dict[str, Any]:
    """Compute mean and song-level bootstrap interval (95 %) of AUROC and of the shares that go, right and wrong.

    `class_lost` is the largest share of good clips that a class loses, mean and largest of the experiments.
    """
    judged = [(table, wrong, one) for (table, wrong), one in zip(trials, decisions, strict=True)]
    rng, drawn = np.random.default_rng(0), []
    plain = np.array([_measures(table, wrong, one, np.ones(len(wrong))) for table, wrong, one in judged])
    for _ in range(BOOTSTRAPS):
        drawn.append(np.nanmean([_measures(t, w, one, _song_weights(t, rng)) for t, w, one in judged], axis=0))
    means, (low, high) = np.nanmean(plain, axis=0), np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    names = ("auroc", "found", "lost")
    result: dict[str, Any] = {
        name: [round(float(x), 4) for x in row]
        for name, row in zip(names, np.stack([means, low, high], 1), strict=True) if not np.isnan(row[0])
    }  # fmt: skip
    worst = [_class_lost(table, wrong, one) for table, wrong, one in judged]
    result["lost_most"] = round(float(plain[:, 2].max()), 4)
    result["class_lost"] = [round(float(np.mean(worst)), 4), round(float(np.max(worst)), 4)]
    result["not_judged"] = sum(one.quality is None for one in decisions)
    return result


def _song_weights(table: Table, rng: np.random.Generator) -> NDArray[np.float64]:
    songs, song_of_row = np.unique(np.array(table.groups), return_inverse=True)
    return np.bincount(rng.integers(0, len(songs), len(songs)), minlength=len(songs))[song_of_row].astype(float)


def _measures(table: Table, wrong: Bools, one: Decision, weight: NDArray[np.float64]) -> tuple[float, float, float]:
    known = np.ones(len(wrong), bool) if one.quality is None else np.isfinite(one.quality)
    bad, good = weight * wrong, weight * ~wrong
    lost = float(good @ one.dropped / good.sum())
    if not (bad * known).sum():
        return np.nan, np.nan, lost
    quality = np.full(len(table.ids), 0.5) if one.quality is None else one.quality
    auroc = float(roc_auc_score(~wrong[known], quality[known], sample_weight=weight[known]))
    return auroc, float(bad @ one.dropped / bad.sum()), lost


def _class_lost(table: Table, wrong: Bools, one: Decision) -> float:
    own = table.presence.argmax(axis=1)
    return max(float(one.dropped[(own == k) & ~wrong].mean()) for k in np.unique(own[~wrong]))


def compared(groups: Mapping[str, Sequence[Trial]], sides: Mapping[str, Path]) -> dict[str, Any]:
    """Compute figures of groups of experiments, for each checkout."""
    decisions = judged_by(sides, list(itertools.chain(*groups.values())))
    result: dict[str, Any] = defaultdict(dict)
    for side, found in decisions.items():
        rest = iter(found)
        for title, trials in groups.items():
            result[title][side] = figures(trials, list(itertools.islice(rest, len(trials))))
    return dict(result)


def planted_in_clouds(sides: Mapping[str, Path], seeds: int) -> dict[str, Any]:
    """Measure wrong labels planted in Gaussian clouds: classes, balance and distance vary."""
    return compared(
        {
            f"{world.title}; {share:.0%} by {unit}": [
                planted(cloud(world, seed), share, unit, seed) for seed in range(seeds)
            ]
            for world in WORLDS for share, unit in NOISES
        },
        sides,
    )  # fmt: skip


def planted_in_recordings(
    tables: Mapping[str, Table], truth: dict[str, Any] | None, sides: Mapping[str, Path], seeds: int
) -> dict[str, Any]:
    """Measure wrong labels planted among recordings, without those that are known to be wrong before."""
    clean = {name: table.take(np.flatnonzero(~known_wrong(table, truth))) for name, table in tables.items()}
    return compared(
        {
            f"{name}; {share:.0%} by {unit}": [planted(table, share, unit, seed) for seed in range(seeds)]
            for name, table in clean.items() for share, unit in NOISES
        },
        sides,
    )  # fmt: skip


def against_truth(tables: Mapping[str, Table], truth: dict[str, Any], sides: Mapping[str, Path]) -> dict[str, Any]:
    """Measure against the mistakes that the mirror came with; one experiment for each embedder."""
    trials = {name: [(table, known_wrong(table, truth))] for name, table in tables.items()}
    result = compared(trials, sides)
    for name, [(_, wrong)] in trials.items():
        result[name]["clips"] = {"right": int((~wrong).sum()), "wrong": int(wrong.sum())}
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
