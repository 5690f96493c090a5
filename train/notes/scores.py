"""Figures of rolls, from histograms of probabilities: one pass over a split, any number of thresholds.

    tally = Tally(num_clips, seconds_of_clip, num_instruments)
    tally.add(probabilities, rolls, valid_BF, clips_B, first_B, hop_s)      batch by batch
    thresholds = best_thresholds(tally)                                     on validation
    report = notes_report(tally, thresholds, instruments)

Accuracy is mir_eval's multipitch accuracy, TP / (TP + FP + FN) over cells: on one grid of frames and
semitones its matching of frequencies is the comparison of cells. Thresholds are multiples of 1 %.
Shapes: N clips, B windows, I instruments, P pitches, F frames, S seconds of all clips, K bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutti.datasets.record import ABSENT, PRESENT, Seconds
from tutti.train.notes.losses import RollLogits
from tutti.train.notes.rolls import Rolls
from tutti.train.scoring.bootstrap import Interval, bootstrap
from tutti.train.scoring.metrics import DEFAULT_THRESHOLD, Confusion, Floats, f_scores, roc_aucs
from tutti.train.scoring.report import rounded

NUM_BINS = 100
_OUTSIDE = NUM_BINS  # a bin for cells that count nowhere


@dataclass(frozen=True)
class Thresholds:
    """Least probabilities of what sounds."""

    roll: float
    pitch: float
    instrument: tuple[float, ...]  # one per class


class Tally:
    """Histograms (..., 2, K) of probabilities, of cells that do not sound and cells that do.

    Args:
        durations_s: of each clip.
        num_instruments: I.
        device: where batches lie.
    """

    def __init__(self, durations_s: Sequence[Seconds], num_instruments: int, device: torch.device) -> None:
        self._num_seconds = seconds = torch.tensor([max(1, int(np.ceil(duration))) for duration in durations_s])
        self._first_second = (seconds.cumsum(0) - seconds).to(device)
        total, count = int(seconds.sum()), len(durations_s)
        self.roll = torch.zeros(num_instruments, 2, NUM_BINS, dtype=torch.int64)
        self.clip_instrument = torch.zeros(count, num_instruments, 2, NUM_BINS, dtype=torch.int32)
        self.clip_roll = torch.zeros(count, 2, NUM_BINS, dtype=torch.int64)
        self.clip_pitch = torch.zeros(count, 2, NUM_BINS, dtype=torch.int64)
        self._second_probability = torch.zeros(total, num_instruments, dtype=torch.float64, device=device)
        self._second_sounding = torch.zeros(total, num_instruments, dtype=torch.float64, device=device)
        self._second_frames = torch.zeros(total, dtype=torch.float64, device=device)

    def add(
        self, probability: RollLogits, rolls: Rolls, valid_BF: Tensor, clips_B: Tensor, first_B: Tensor, hop_s: Seconds
    ) -> None:
        """Count windows.

        Args:
            probability: after the sigmoid.
            rolls: what sounds; unknown cells count nowhere.
            valid_BF: frames that are of the clip.
            clips_B: the clip of each window.
            first_B: its first frame.
            hop_s: from frame to frame.
        """
        clips = clips_B.cpu()
        roll_BI2K = _histogram(probability.roll.flatten(0, 1), rolls.piano.flatten(0, 1), _per_class(valid_BF, rolls))
        roll_BI2K = roll_BI2K.reshape(len(clips), -1, 2, NUM_BINS)
        self.roll += roll_BI2K.sum(dim=0)
        self.clip_roll.index_add_(0, clips, roll_BI2K.sum(dim=1))
        instrument_R2K = _histogram(
            probability.instrument.flatten(0, 1), rolls.instrument.flatten(0, 1), _per_class(valid_BF, rolls)
        )
        instrument_BI2K = instrument_R2K.reshape(len(clips), -1, 2, NUM_BINS)
        self.clip_instrument.index_add_(0, clips, instrument_BI2K.to(torch.int32))
        self.clip_pitch.index_add_(0, clips, _histogram(probability.pitch, rolls.pitch, valid_BF))
        self._add_seconds(probability.instrument, rolls.instrument, valid_BF, clips_B, first_B, hop_s)

    def _add_seconds(
        self,
        probability_BIF: Tensor,
        sounding_BIF: Tensor,
        valid_BF: Tensor,
        clips_B: Tensor,
        first_B: Tensor,
        hop_s: Seconds,
    ) -> None:
        frame_BF = first_B[:, None] + torch.arange(valid_BF.shape[1], device=valid_BF.device)
        second_BF = self._first_second[clips_B][:, None] + (frame_BF.double() * hop_s).floor().long()
        second_L = second_BF[valid_BF]
        self._second_probability.index_add_(0, second_L, probability_BIF.transpose(1, 2)[valid_BF].double())
        self._second_sounding.index_add_(0, second_L, (sounding_BIF == PRESENT).transpose(1, 2)[valid_BF].double())
        self._second_frames.index_add_(0, second_L, torch.ones_like(second_L, dtype=torch.float64))

    @property
    def pitch(self) -> Tensor:
        """(2, K)."""
        return self.clip_pitch.sum(dim=0)

    @property
    def instrument(self) -> Tensor:
        """(I, 2, K)."""
        return self.clip_instrument.sum(dim=0)

    def seconds(self) -> "SecondScores":
        """Compute what sounds in each second at all, and the mean probability of its frames."""
        heard_S = self._second_frames > 0
        mean_SI = (self._second_probability / self._second_frames.clamp(min=1)[:, None])[heard_S].cpu().numpy()
        present_SI = np.where(self._second_sounding[heard_S].cpu().numpy() > 0, PRESENT, ABSENT).astype(np.int8)
        clip_S = torch.repeat_interleave(torch.arange(len(self._num_seconds)), self._num_seconds)[heard_S.cpu()].numpy()
        rows = np.split(np.arange(len(clip_S)), np.searchsorted(clip_S, np.arange(1, len(self._num_seconds))))
        return SecondScores(present_SI, mean_SI, rows)


def _per_class(valid_BF: Tensor, rolls: Rolls) -> Tensor:
    return valid_BF.repeat_interleave(rolls.piano.shape[1], dim=0)


def _histogram(probability_RXF: Tensor, sounding_RXF: Tensor, valid_RF: Tensor) -> Tensor:
    """Count (R, 2, K) int64 on the CPU: one histogram per row, over all other axes."""
    bins = bin_of(probability_RXF)
    target = sounding_RXF.to(torch.int64)
    counted = valid_RF if probability_RXF.ndim == 2 else valid_RF[:, None]
    bins = torch.where(counted & (target >= 0), bins, _OUTSIDE)
    row = torch.arange(len(bins), device=bins.device).reshape(-1, *[1] * (bins.ndim - 1))
    index = (row * 2 + target.clamp(min=0)) * (NUM_BINS + 1) + bins
    counts = torch.bincount(index.flatten(), minlength=len(bins) * 2 * (NUM_BINS + 1))
    return counts.reshape(-1, 2, NUM_BINS + 1)[..., :NUM_BINS].cpu()


def bin_of(probability: Tensor) -> Tensor:
    """Compute the bin of a probability: bin k holds those from k % up to k + 1 %."""
    return (probability * NUM_BINS).long().clamp(0, NUM_BINS - 1)


def confusions(histogram_X2K: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count true positives, false positives, false negatives (..., K) at thresholds 0, 1 %, ..., 99 %."""
    counts = histogram_X2K.numpy()
    at_least = np.flip(np.flip(counts, -1).cumsum(-1), -1)
    true_positives, false_positives = at_least[..., 1, :], at_least[..., 0, :]
    return true_positives, false_positives, true_positives[..., :1] - true_positives


def best_threshold(histogram_2K: Tensor) -> float:
    """Find the threshold above 0 of the greatest F1, and so accuracy; of equals the lowest; .5 where nothing sounds."""
    true_positives, false_positives, false_negatives = confusions(histogram_2K)
    if not true_positives[0]:
        return DEFAULT_THRESHOLD
    f1_K = 2 * true_positives / (2 * true_positives + false_positives + false_negatives)
    return (1 + int(np.argmax(f1_K[1:]))) / NUM_BINS


def best_thresholds(tally: Tally) -> Thresholds:
    """Find thresholds: one for the pianoroll, one for pitches, one per instrument."""
    return Thresholds(
        best_threshold(tally.roll.sum(dim=0)),
        best_threshold(tally.pitch),
        tuple(best_threshold(histogram) for histogram in tally.instrument),
    )


def accuracy(true_positives: Any, false_positives: Any, false_negatives: Any) -> Floats:
    """Compute TP / (TP + FP + FN), mir_eval's multipitch accuracy; NaN where nothing sounds or is predicted."""
    top = np.asarray(true_positives, np.float64)
    bottom = top + false_positives + false_negatives
    values: Floats = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
    return values


@dataclass(frozen=True)
class SecondScores:
    """Seconds of some clips in which a frame was heard."""

    present: NDArray[np.int8]  # (S, I)
    mean: Floats  # (S, I)
    rows: list[NDArray[np.int64]]  # (N,): the seconds of each clip

    def aucs(self, clips: NDArray[np.int64] | None = None) -> list[float | None]:
        """Measure the area under the ROC curve of each instrument over seconds (I,), of some clips or all.

        An instrument is present in a second in which it sounds at all; its score is the mean over the
        second's frames. None where all seconds are of one kind.
        """
        rows = slice(None) if clips is None else np.concatenate([self.rows[clip] for clip in clips.tolist()])
        return roc_aucs(self.present[rows], self.mean[rows])


@dataclass(frozen=True)
class Counts:
    """True positives, false positives, false negatives of each clip at thresholds."""

    instrument: NDArray[np.int64]  # (3, N, I): frames
    pitch: NDArray[np.int64]  # (3, N): cells
    roll: NDArray[np.int64]  # (3, N): cells

    def figures(self, clips: NDArray[np.int64] | slice = slice(None)) -> dict[str, float | None]:
        """Score some clips: instruments by frames, pitches and the pianoroll by cells."""
        instrument = f_scores(Confusion(*self.instrument[:, clips].sum(axis=1)))
        return {
            "instrument_macro_f1": instrument["macro_f1"],
            "instrument_micro_f1": instrument["micro_f1"],
            **{f"pitch_{name}": value for name, value in _cell_figures(self.pitch[:, clips]).items()},
            **{f"roll_{name}": value for name, value in _cell_figures(self.roll[:, clips]).items()},
        }


def counts_at(tally: Tally, thresholds: Thresholds) -> Counts:
    """Count what is heard at thresholds, clip by clip."""
    instruments = [_at(tally.clip_instrument[:, index], value) for index, value in enumerate(thresholds.instrument)]
    return Counts(
        np.stack(instruments, axis=-1), _at(tally.clip_pitch, thresholds.pitch), _at(tally.clip_roll, thresholds.roll)
    )


def _at(histogram_N2K: Tensor, threshold: float) -> NDArray[np.int64]:
    """Count true positives, false positives and false negatives (3, N) from one threshold on."""
    at, counts = round(threshold * NUM_BINS), histogram_N2K.numpy().astype(np.int64, copy=False)
    return np.stack([counts[:, 1, at:].sum(-1), counts[:, 0, at:].sum(-1), counts[:, 1, :at].sum(-1)])


def _cell_figures(counts_3N: NDArray[np.int64]) -> dict[str, float | None]:
    """Score pitches or the pianoroll over all cells, and take mir_eval's accuracy clip by clip, the mean of those."""
    total = counts_3N.sum(axis=1)
    scores = f_scores(Confusion(*total[:, None]))
    clips = accuracy(*counts_3N)
    return {
        "accuracy": _number(accuracy(*total)),
        "clip_accuracy": _number(np.nanmean(clips)) if np.isfinite(clips).any() else None,
        "precision": scores["micro_precision"],
        "recall": scores["micro_recall"],
        "f1": scores["micro_f1"],
    }


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def notes_report(tally: Tally, thresholds: Thresholds, instruments: Sequence[str]) -> dict[str, Any]:
    """Score a split; None: nothing known to say.

    `model` holds pitch and roll accuracy, frame F1 of the instruments, and the mean per-second AUC;
    `constant` those of a predictor for which everything always sounds.
    """
    silent = Thresholds(0.0, 0.0, (0.0,) * len(instruments))
    aucs = tally.seconds().aucs()
    roll_at = round(thresholds.roll * NUM_BINS)
    per_instrument = {}
    for index, name in enumerate(instruments):
        at = round(thresholds.instrument[index] * NUM_BINS)
        counts = Confusion(*(np.array([int(part[at])]) for part in confusions(tally.instrument[index])))
        roll = [int(part[roll_at]) for part in confusions(tally.roll[index])]
        support = int(counts.support[0])
        per_instrument[name] = {
            "f1": float(counts.f1[0]) if support else None,
            "precision": float(counts.precision[0]) if support else None,
            "recall": float(counts.recall[0]) if support else None,
            "roll_accuracy": _number(accuracy(*roll)) if support else None,
            "second_auc": aucs[index],
            "frames": support,
            "threshold": thresholds.instrument[index],
        }
    report: dict[str, Any] = rounded(
        {
            "num_clips": len(tally.clip_pitch),
            "model": counts_at(tally, thresholds).figures() | {"second_auc": _mean(aucs)},
            "constant": counts_at(tally, silent).figures(),
            "per_instrument": per_instrument,
        }
    )
    return report


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def notes_intervals(
    tally: Tally, thresholds: Thresholds, groups: Sequence[str], num_resamples: int
) -> dict[str, Interval]:
    """Compute intervals of the figures of `model` over resampled songs; the thresholds stay as they are.

    Args:
        tally: of a split.
        thresholds: of the run.
        groups: (N,) the song of each clip.
        num_resamples: how often songs are drawn.
    """
    counts, seconds = counts_at(tally, thresholds), tally.seconds()
    return bootstrap(
        lambda clips: counts.figures(clips) | {"second_auc": _mean(seconds.aucs(clips))},
        groups,
        np.random.default_rng(0),
        num_resamples=num_resamples,
    )
