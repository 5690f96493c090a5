"""Second by second, which of five instruments play in mixes of songs: runs on data that they were not made for.

    seconds = hear_mixes(run, data, ("test",))
    report = second_report(seconds)             area under the ROC curve of each instrument, and their average

After table 3 of the MuseScore multitask paper (S1), which takes songs of MedleyDB and Mixing Secrets. A guitar is an
acoustic or an electric one, in the data and in what a run hears. What a run says of a second is the mean of the chunks
that lie over it, each by how much of it, or of the frames of a run on notes.

Shapes: S seconds, C classes of a run, K chunks of a song.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutti.datasets.audio import Mono
from tutti.datasets.errors import UsageError
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Seconds, Sounding
from tutti.datasets.shard_tracks import sounding_of_row
from tutti.datasets.taxonomy import KINDS
from tutti.datasets.tracks import presence_between
from tutti.train.chunking import Chunking, probabilities
from tutti.train.data import Data, open_table
from tutti.train.front_end import evaluation_unit, units_per_s
from tutti.train.notes.recipe import NotesRecipe
from tutti.train.notes.transcription import compute_rolls
from tutti.train.reading.order import PCM_SCALE
from tutti.train.reading.resident import linear
from tutti.train.reading.shards import SplitTable, read_audio
from tutti.train.runs.saved import SavedRun
from tutti.train.scoring.bootstrap import Interval, bootstrap
from tutti.train.scoring.metrics import Floats, Presence, roc_aucs
from tutti.train.scoring.report import figure, rounded
from tutti.train.stems.songs import tracks_of
from tutti.train.tagger import chunk_logits
from tutti.train.timeline import one_clip

FIVE = ("piano", "guitar", "violin", "cello", "flute")
# S1 table 3, in the order of FIVE, and the average; the first three are of other papers, which it cites by number.
PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "S1, its [1]": (0.766, 0.780, 0.787, 0.755, 0.708, 0.759),
    "S1, its [2]": (0.733, 0.783, 0.857, 0.860, 0.851, 0.817),
    "S1, its [3]": (0.690, 0.660, 0.697, 0.774, 0.860, 0.736),
    "S1, multitask": (0.718, 0.819, 0.682, 0.812, 0.961, 0.798),
}
MIN_SOUNDING_S: Seconds = 0.1  # of a second, for an instrument to play in it; less, but some: unknown


@dataclass(frozen=True)
class HeardSeconds:
    """The seconds of many songs."""

    presence: Presence  # (S, 5)
    probability: Floats  # (S, 5); NaN where the run has no such class
    songs: tuple[str, ...]  # (S,)
    corpora: tuple[str, ...]  # (S,)
    unheard: tuple[str, ...]  # of FIVE: instruments that the run does not know


def columns_of(name: str, classes: Sequence[str]) -> list[int]:
    """List the classes that are an instrument of FIVE: its own, and its kinds."""
    wanted = (name, *KINDS.get(name, ()))
    return [index for index, found in enumerate(classes) if found in wanted]


def truth_of(soundings: Sequence[Sounding], num_seconds: int, classes: Sequence[str]) -> Presence:
    """Label the seconds (S, 5) of a mix by when its stems sound."""
    presence_S5 = np.full((num_seconds, len(FIVE)), UNKNOWN, np.int8)
    members = [columns_of(name, classes) for name in FIVE]
    for second in range(num_seconds):
        at_all, long_enough = (
            np.array(presence_between(soundings, second, second + 1, classes, min_overlap_s=least))
            for least in (0.0, MIN_SOUNDING_S)
        )
        labels_C = np.where((at_all == PRESENT) & (long_enough != PRESENT), UNKNOWN, long_enough)
        labels_C = np.where((at_all == UNKNOWN) & (labels_C == ABSENT), UNKNOWN, labels_C)
        for place, columns in enumerate(members):
            found = set(labels_C[columns].tolist())
            if found:
                presence_S5[second, place] = PRESENT if PRESENT in found else UNKNOWN if UNKNOWN in found else ABSENT
    return presence_S5


def scores_of(run: SavedRun, mono: Mono, num_seconds: int) -> Floats:
    """Compute what a run says of each second of a song: probabilities (S, C)."""
    if isinstance(run.recipe, NotesRecipe):
        roll_IF = compute_rolls(run.tagger, run.recipe, mono).instrument[0].double().cpu().numpy()
        second_F = np.minimum((np.arange(roll_IF.shape[1]) * run.recipe.cqt.hop_s).astype(np.int64), num_seconds - 1)
        sums_SI, counts_S = np.zeros((num_seconds, len(roll_IF))), np.bincount(second_F, minlength=num_seconds)
        np.add.at(sums_SI, second_F, roll_IF.T)
        means: Floats = sums_SI / np.maximum(counts_S, 1)[:, None]
        return means
    recipe, unit = run.recipe, evaluation_unit(run.recipe)
    length = recipe.length_in(unit, recipe.chunk_s or recipe.window_s)
    clip = one_clip(mono, run.tagger, recipe, len(run.task.instruments))
    cut = Chunking(length, min(length, recipe.length_in(unit, 1.0)), recipe.last)
    logits_KC, plan = chunk_logits(run.tagger, clip, cut)
    spans_K2 = np.array(plan.spans_s(units_per_s(unit, recipe)))
    starts_S1 = np.arange(num_seconds)[:, None]
    overlap_SK = np.minimum(spans_K2[:, 1], starts_S1 + 1) - np.maximum(spans_K2[:, 0], starts_S1)
    weight_SK = np.maximum(overlap_SK, 0)
    weight_SK[weight_SK.sum(axis=1) == 0, -1] = 1  # a last second that no chunk reaches
    scores: Floats = weight_SK @ probabilities(logits_KC) / weight_SK.sum(axis=1, keepdims=True)
    return scores


def hear_mixes(run: SavedRun, data: Data, splits: Sequence[str], corpora: Sequence[str] = ()) -> HeardSeconds:
    """Run a model over the mixes of songs, one at a time.

    Args:
        run: any that hears audio and one of the five instruments.
        data: with songs of stems; its classes may be others than the run's.
        splits: of which splits.
        corpora: of which sources; empty: all.

    Raises:
        UsageError: the run hears no audio or none of the five, or there are no such mixes.
        IntegrityError: the data are damaged.
    """
    if reason := run.task.refusal(None):
        raise UsageError(f"this run cannot hear songs: {reason}")
    members = [columns_of(name, run.task.instruments) for name in FIVE]
    if not any(members):
        raise UsageError(f"this run hears none of {', '.join(FIVE)}; it hears {', '.join(run.task.instruments)}")
    presence, probability, songs, sources = [], [], [], []
    for split in splits:
        table = open_table(data, split, run.recipe)
        for item, mono in _mixes(run, data, table, corpora):
            num_seconds = max(1, len(mono) // run.recipe.sample_rate)
            presence.append(truth_of(sounding_of_row(item) or (), num_seconds, data.manifest.instruments))
            scores_SC = scores_of(run, mono, num_seconds)
            unheard_S = np.full(num_seconds, np.nan)
            five = [scores_SC[:, columns].max(axis=1) if columns else unheard_S for columns in members]
            probability.append(np.stack(five, axis=1))
            songs += [f"{item['source']}/{item['track']['song']}"] * num_seconds
            sources += [str(item["source"])] * num_seconds
    if not presence:
        named = f" of {', '.join(corpora)}" if corpora else ""
        raise UsageError(f"{data.manifest.folder}: no mix{named} in {', '.join(splits)}; try --split all")
    unheard = tuple(name for name, columns in zip(FIVE, members, strict=True) if not columns)
    return HeardSeconds(np.concatenate(presence), np.concatenate(probability), tuple(songs), tuple(sources), unheard)


def _mixes(
    run: SavedRun, data: Data, table: SplitTable, corpora: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Mono]]:
    """Decode the mixes of a split at the run's loudness, one in memory at a time."""
    items = enumerate(tracks_of(table, data.manifest))
    tracks = {row: item for row, item in items if _is_mix(item) and (not corpora or item["source"] in corpora)}
    gains = linear(table.remaining_gain_db(run.recipe.target_lufs, run.recipe.max_gain_db))
    for group in table.groups:
        wanted = [row for row in range(group.first, group.first + group.size) if row in tracks]
        if not wanted:
            continue
        audio = read_audio(group)
        for row in wanted:
            pcm = table.decode(group.path, row, audio[row - group.first])
            yield tracks[row], pcm.astype(np.float32) * np.float32(gains[row] * PCM_SCALE)


def _is_mix(item: Mapping[str, Any]) -> bool:
    return item["track"] is not None and item["track"]["stem"] is None


def second_report(heard: HeardSeconds, num_resamples: int = 0) -> dict[str, Any]:
    """Compute the area under the ROC curve of each instrument over all seconds, and their average; corpora apart, too.

    Args:
        heard: by a run.
        num_resamples: of the bootstrap over songs; 0: no intervals.
    """
    report: dict[str, Any] = _areas(heard, np.arange(len(heard.songs)))
    report["corpora"] = {
        corpus: _areas(heard, np.flatnonzero(np.array(heard.corpora) == corpus))
        for corpus in sorted(set(heard.corpora))
    }
    report["not_heard"] = list(heard.unheard)
    if num_resamples:
        found = bootstrap(
            lambda rows: _figures(heard, rows), heard.songs, np.random.default_rng(0), num_resamples=num_resamples
        )
        report["intervals"] = {name: _interval(value) for name, value in found.items()}
    result: dict[str, Any] = rounded(report)
    return result


def _figures(heard: HeardSeconds, rows: Any) -> dict[str, float | None]:
    presence_S5 = heard.presence[rows].copy()
    presence_S5[:, [FIVE.index(name) for name in heard.unheard]] = UNKNOWN
    areas = dict(zip(FIVE, roc_aucs(presence_S5, np.nan_to_num(heard.probability[rows])), strict=True))
    known = [area for area in areas.values() if area is not None]
    return areas | {"average": sum(known) / len(known) if known else None}


def _areas(heard: HeardSeconds, rows: Any) -> dict[str, Any]:
    presence_S5 = heard.presence[rows]
    return {
        "auc": _figures(heard, rows),
        "num_songs": len({heard.songs[row] for row in rows.tolist()}),
        "num_seconds": len(rows),
        "present": dict(zip(FIVE, (presence_S5 == PRESENT).sum(axis=0).tolist(), strict=True)),
        "known": dict(zip(FIVE, (presence_S5 != UNKNOWN).sum(axis=0).tolist(), strict=True)),
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"low": interval.low, "high": interval.high}


def second_table(report: Mapping[str, Any], name: str) -> str:
    """Write the report as text, and S1's table below it."""
    columns = (*FIVE, "average")
    lines = [f"{report['num_songs']} songs, {report['num_seconds']} seconds: area under the ROC curve per second", ""]
    lines.append(f"{'':24}" + "".join(f"{column:>9}" for column in columns))
    lines.append(f"{name[:23]:24}" + "".join(f"{figure(report['auc'][column]):>9}" for column in columns))
    for corpus, part in report["corpora"].items():
        lines.append(f"  {corpus[:21]:22}" + "".join(f"{figure(part['auc'][column]):>9}" for column in columns))
    lines.append(f"{'  seconds it plays':24}" + "".join(f"{report['present'][column]:>9}" for column in FIVE))
    lines += ["", "published, of 15 songs of MedleyDB and 54 of Mixing Secrets:"]
    lines += [f"{who:24}" + "".join(f"{area:>9.3f}" for area in areas) for who, areas in PUBLISHED.items()]
    if report["not_heard"]:
        lines.append(f"not heard by this run: {', '.join(report['not_heard'])}")
    return "\n".join(lines)
