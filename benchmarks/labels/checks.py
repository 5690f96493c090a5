"""Checks of how labels are judged: cleanlab's scores and cutoffs, copies, and the last bits of embeddings."""

import io
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import soundfile
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.labels.noise import NOISES, WORLDS, Bools, cloud, decide, planted
from benchmarks.labels.tables import known_wrong, single_instrument_clips
from tutti.datasets.manifest import Manifest
from tutti.pipelines.curation import outliers
from tutti.pipelines.curation.crossfit import Table, softmax
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.pipelines.embedders.logmel import LogMelEmbedder

COPIES = 14  # wrong labels, each with a copy
STABILITY_BUILDS, STABILITY_CHANGE = 20, 1e-6  # of a float32 embedding, relative

# --- which of cleanlab's scores, and which cutoff?


def methods(tables: Mapping[str, Table], seeds: int) -> dict[str, Any]:
    """Compare cleanlab's scores and its own cutoff with ours, on the same out-of-fold probabilities, noise planted."""
    collected: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    sample = {name: table for name, table in tables.items() if name.startswith("sample")}
    clean = [table for table in sample.values() for _ in range(seeds)]
    clean += [cloud(world, seed) for world in WORLDS for seed in range(seeds)]
    for number, table in enumerate(clean):
        noisy, wrong = planted(table, *NOISES[1 + number % (len(NOISES) - 1)], number)
        for name, (quality, dropped) in _scored(noisy).items():
            lost, found = float(dropped[~wrong].mean()), float(dropped[wrong].mean())
            collected[name].append((float(roc_auc_score(~wrong, quality)), found, lost))
    means = {name: np.mean(values, axis=0) for name, values in collected.items()}
    return {
        name: dict(zip(("auroc", "found", "lost"), (round(float(x), 4) for x in mean), strict=True))
        for name, mean in sorted(means.items())
    }


def _scored(table: Table) -> dict[str, tuple[NDArray[np.float64], Bools]]:
    ours = decide(table)
    config = OutlierConfig()
    models = outliers.fit(table, source="x", config=config, seed=0)
    if isinstance(models, outliers.Skipped) or ours.quality is None:
        return {}
    labels = np.searchsorted(models.classes, table.presence.argmax(axis=1))
    logits = outliers.score(models, table)
    result = {"ours": (ours.quality, ours.dropped)}
    pooled = outliers._blend(logits, outliers._keys(table.songs, labels), config.song_weight)
    plain = {"clip by clip": logits, "songs": pooled}
    for title, chosen in plain.items():
        shares = softmax(chosen / models.calibration.temperature)
        for method, adjusted in itertools.product(
            ("self_confidence", "normalized_margin", "confidence_weighted_entropy"), (False, True)
        ):
            if method == "confidence_weighted_entropy" and adjusted:
                continue  # cleanlab has no such
            quality = get_label_quality_scores(labels, shares, method=method, adjust_pred_probs=adjusted)
            issues = find_label_issues(labels, shares, filter_by="prune_by_noise_rate")
            result[f"{title}, {method}{', adjusted' if adjusted else ''}, prune_by_noise_rate"] = quality, issues
        confident = find_label_issues(labels, shares, filter_by="confident_learning")
        result[f"{title}, self_confidence, confident_learning"] = get_label_quality_scores(labels, shares), confident
    return result


# --- do copies vouch for each other?


def copies(manifest: Manifest, truth: dict[str, Any] | None) -> dict[str, Any]:
    """Count wrong labels found: alone, with a re-encoded copy in another group, with one in the same group."""
    rows = single_instrument_clips(manifest)
    waveforms = {row["id"]: soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")[0] for row in rows}
    ids, groups = tuple(row["id"] for row in rows), tuple(row["group"] for row in rows)
    presence = np.array([row["presence"] for row in rows], np.int8)
    embedder = LogMelEmbedder()
    table = Table(ids, groups, np.stack([embedder.embed([waveforms[clip_id]])[0] for clip_id in ids]), presence)
    table = table.take(np.flatnonzero(~known_wrong(table, truth)))
    rng = np.random.default_rng(0)
    songs = rng.permutation(np.unique(table.groups))[:COPIES]
    chosen = [table.groups.index(song) for song in songs]
    noisy = table.presence.copy()
    for row in chosen:
        noisy[row] = np.roll(noisy[row], int(rng.integers(1, noisy.shape[1])))
    table = replace(table, presence=noisy)
    again = np.stack([embedder.embed([_recoded(waveforms[table.ids[row]])])[0] for row in chosen])
    situations: dict[str, tuple[Callable[[int], str], Callable[[int], str]]] = {
        "copy in another group": (lambda row: table.groups[row], lambda row: f"with {table.groups[row]}"),
        "copy in the same group": (lambda row: table.groups[row], lambda row: table.groups[row]),
        "copy in another group, unknown to the folds": (
            lambda row: f"with {table.groups[row]}", lambda row: f"with {table.groups[row]}"
        ),
    }  # fmt: skip
    result = {"alone": int(decide(table).dropped[chosen].sum())}
    for title, (group, song) in situations.items():
        whole = Table(
            (*table.ids, *(f"{table.ids[row]} copy" for row in chosen)),
            (*table.groups, *map(group, chosen)),
            np.concatenate([table.embeddings, again]),
            np.concatenate([table.presence, table.presence[chosen]]),
            (*table.groups, *map(song, chosen)),
        )
        result[title] = int(decide(whole).dropped[chosen].sum())
    return {"wrong": len(chosen), "found": result}


def _recoded(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    stream = io.BytesIO()
    soundfile.write(stream, waveform, 16_000, format="MP3")
    stream.seek(0)
    decoded: NDArray[np.float32] = soundfile.read(stream, dtype="float32")[0]
    return decoded


# --- do the last bits of embeddings show?


def stability(tables: Mapping[str, Table]) -> dict[str, Any]:
    """Count what changes where every number of every embedding changes by up to one in a million."""
    result = {}
    for name, table in tables.items():
        plain, builds, qualities, decided = decide(table), 0, 0, 0
        if plain.quality is None:
            continue
        for seed in range(STABILITY_BUILDS):
            change = np.random.default_rng(seed).uniform(-1, 1, table.embeddings.shape) * STABILITY_CHANGE
            other = decide(replace(table, embeddings=(table.embeddings * (1 + change)).astype(np.float32)))
            if other.quality is None:
                raise SystemExit(f"{name}: is judged or not by its last bits")
            moved = ~np.isclose(other.quality, plain.quality, atol=1e-9, equal_nan=True)
            builds, qualities = builds + bool(moved.any()), qualities + int(moved.sum())
            decided += int((other.dropped != plain.dropped).sum())
        clips = STABILITY_BUILDS * len(table.ids)
        result[name] = {
            "builds": STABILITY_BUILDS, "builds_changed": builds, "qualities": clips, "qualities_changed": qualities,
            "decisions_changed": decided,
        }  # fmt: skip
    return result
