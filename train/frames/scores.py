"""Figures of rolls, from histograms of probabilities: one pass over a split, any number of thresholds.

    tally = Tally(num_clips, seconds_of_clip, num_instruments)
    tally.add(probabilities, rolls, valid_BF, clips_B, first_B, hop_s)      batch by batch
    thresholds = best_thresholds(tally)                                     on validation
    report = frames_report(tally, thresholds, instruments)

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

from datasets.record import ABSENT, PRESENT, Seconds
from train.frames.losses import FrameLogits
from train.frames.rolls import Rolls
from train.scoring.metrics import DEFAULT_THRESHOLD, Confusion, Floats, f_scores, roc_aucs
from train.scoring.report import rounded

NUM_BINS = 100
_OUTSIDE = NUM_BINS  # a bin for cells that count nowhere


@dataclass(frozen=True)
class Thresholds:
    """From which probability on something sounds."""

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
        seconds = torch.tensor([max(1, int(np.ceil(duration))) for duration in durations_s])
        self._first_second = (seconds.cumsum(0) - seconds).to(device)
        total, count = int(seconds.sum()), len(durations_s)
        self.roll = torch.zeros(num_instruments, 2, NUM_BINS, dtype=torch.int64)
        self.instrument = torch.zeros(num_instruments, 2, NUM_BINS, dtype=torch.int64)
        self.clip_roll = torch.zeros(count, 2, NUM_BINS, dtype=torch.int64)
        self.clip_pitch = torch.zeros(count, 2, NUM_BINS, dtype=torch.int64)
        self._second_probability = torch.zeros(total, num_instruments, dtype=torch.float64, device=device)
        self._second_sounding = torch.zeros(total, num_instruments, dtype=torch.float64, device=device)
        self._second_frames = torch.zeros(total, dtype=torch.float64, device=device)

    def add(
        self, probability: FrameLogits, rolls: Rolls, valid_BF: Tensor, clips_B: Tensor, first_B: Tensor, hop_s: Seconds
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
        self.instrument += instrument_R2K.reshape(len(clips), -1, 2, NUM_BINS).sum(dim=0)
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

    def second_aucs(self) -> list[float | None]:
        """Area under the ROC curve of each instrument over seconds (I,).

        An instrument is present in a second in which it sounds at all; its score is the mean over the
        second's frames. None where all seconds are of one kind.
        """
        heard = (self._second_frames > 0).cpu()
        mean_SI = (self._second_probability / self._second_frames.clamp(min=1)[:, None]).cpu()[heard].numpy()
        present_SI = np.where(self._second_sounding.cpu()[heard].numpy() > 0, PRESENT, ABSENT).astype(np.int8)
        return roc_aucs(present_SI, mean_SI)


def _per_class(valid_BF: Tensor, rolls: Rolls) -> Tensor:
    return valid_BF.repeat_interleave(rolls.piano.shape[1], dim=0)


def _histogram(probability_RXF: Tensor, sounding_RXF: Tensor, valid_RF: Tensor) -> Tensor:
    """(R, 2, K) int64 on the CPU: one histogram per row, over all other axes."""
    bins = bin_of(probability_RXF)
    target = sounding_RXF.to(torch.int64)
    counted = valid_RF if probability_RXF.ndim == 2 else valid_RF[:, None]
    bins = torch.where(counted & (target >= 0), bins, _OUTSIDE)
    row = torch.arange(len(bins), device=bins.device).reshape(-1, *[1] * (bins.ndim - 1))
    index = (row * 2 + target.clamp(min=0)) * (NUM_BINS + 1) + bins
    counts = torch.bincount(index.flatten(), minlength=len(bins) * 2 * (NUM_BINS + 1))
    return counts.reshape(-1, 2, NUM_BINS + 1)[..., :NUM_BINS].cpu()


def bin_of(probability: Tensor) -> Tensor:
    """Bin k holds probabilities from k % up to k + 1 %."""
    return (probability * NUM_BINS).long().clamp(0, NUM_BINS - 1)


def confusions(histogram_X2K: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """True positives, false positives, false negatives (..., K) at thresholds 0, 1 %, ..., 99 %."""
    counts = histogram_X2K.numpy()
    at_least = np.flip(np.flip(counts, -1).cumsum(-1), -1)
    true_positives, false_positives = at_least[..., 1, :], at_least[..., 0, :]
    return true_positives, false_positives, true_positives[..., :1] - true_positives


def best_threshold(histogram_2K: Tensor) -> float:
    """The threshold above 0 with the greatest F1, and so accuracy; of equals the lowest; .5 where nothing sounds."""
    true_positives, false_positives, false_negatives = confusions(histogram_2K)
    if not true_positives[0]:
        return DEFAULT_THRESHOLD
    f1_K = 2 * true_positives / (2 * true_positives + false_positives + false_negatives)
    return (1 + int(np.argmax(f1_K[1:]))) / NUM_BINS


def best_thresholds(tally: Tally) -> Thresholds:
    """One for the pianoroll, one for pitches, one per instrument."""
    return Thresholds(
        best_threshold(tally.roll.sum(dim=0)),
        best_threshold(tally.pitch),
        tuple(best_threshold(histogram) for histogram in tally.instrument),
    )


def accuracy(true_positives: Any, false_positives: Any, false_negatives: Any) -> Floats:
    """TP / (TP + FP + FN), mir_eval's multipitch accuracy; NaN where nothing sounds and nothing is heard."""
    top = np.asarray(true_positives, np.float64)
    bottom = top + false_positives + false_negatives
    values: Floats = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
    return values


def cell_figures(total_2K: Tensor, clips_N2K: Tensor, threshold: float) -> dict[str, float | None]:
    """Of pitches or the pianoroll: over all cells, and mir_eval's accuracy clip by clip, the mean of those."""
    at = round(threshold * NUM_BINS)
    counts = [int(part[at]) for part in confusions(total_2K)]
    scores = f_scores(Confusion(*(np.array([count]) for count in counts)))
    clips = accuracy(*(part[:, at] for part in confusions(clips_N2K)))
    return {
        "accuracy": _number(accuracy(*counts)),
        "clip_accuracy": _number(np.nanmean(clips)) if np.isfinite(clips).any() else None,
        "precision": scores["micro_precision"],
        "recall": scores["micro_recall"],
        "f1": scores["micro_f1"],
    }


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def frames_report(tally: Tally, thresholds: Thresholds, instruments: Sequence[str]) -> dict[str, Any]:
    """All figures of a split; None: nothing known to say.

    `model` holds pitch and roll accuracy, frame F1 of the instruments, and the mean per-second AUC;
    `constant` those of a predictor for which everything always sounds.
    """
    silent = Thresholds(0.0, 0.0, (0.0,) * len(instruments))
    aucs = tally.second_aucs()
    known = [value for value in aucs if value is not None]
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
            "model": _summary(tally, thresholds) | {"second_auc": float(np.mean(known)) if known else None},
            "constant": _summary(tally, silent),
            "per_instrument": per_instrument,
        }
    )
    return report


def _summary(tally: Tally, thresholds: Thresholds) -> dict[str, float | None]:
    at = [round(threshold * NUM_BINS) for threshold in thresholds.instrument]
    parts = confusions(tally.instrument)
    instrument = f_scores(Confusion(*(part[np.arange(len(at)), at] for part in parts)))
    pitch = cell_figures(tally.pitch, tally.clip_pitch, thresholds.pitch)
    roll = cell_figures(tally.roll.sum(dim=0), tally.clip_roll, thresholds.roll)
    return {
        "instrument_macro_f1": instrument["macro_f1"],
        "instrument_micro_f1": instrument["micro_f1"],
        **{f"pitch_{name}": value for name, value in pitch.items()},
        **{f"roll_{name}": value for name, value in roll.items()},
    }
