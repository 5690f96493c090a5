"""The sum of three cross-entropies: pianoroll, pitch roll, instrument roll (Hung, Chen, Yang 2019).

    loss = NotesLoss().build(class_weights)
    loss(logits, rolls)

Shapes: B windows, I instruments, P pitches, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from tutti.datasets.record import PRESENT, UNKNOWN
from tutti.train.notes.rolls import Rolls

Term: TypeAlias = Literal["roll", "pitch", "instrument"]
TERMS: tuple[Term, ...] = ("roll", "pitch", "instrument")


class RollLogits(NamedTuple):
    """Output of the network for some windows, before the sigmoid; or after it."""

    roll: Tensor  # (B, I, P, F)
    instrument: Tensor  # (B, I, F)
    pitch: Tensor  # (B, P, F)


@dataclass(frozen=True)
class NotesLoss:
    """Weights of the three terms, each the mean over its cells; 0 leaves a term out (the paper's ablation)."""

    roll_weight: float = 1.0  # the paper's text; its code: 2
    pitch_weight: float = 1.0
    instrument_weight: float = 1.0
    present_weight: float = 1.0  # of cells that sound, in all three; the paper's code: 10
    class_power: float = 0.0  # of the weights by rarity of an instrument; 0: all alike; the paper's code: .3

    def __post_init__(self) -> None:
        for name in ("roll_weight", "pitch_weight", "instrument_weight", "class_power"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.terms:
            raise ValueError("all three weights are 0: nothing to learn")
        if self.present_weight <= 0:
            raise ValueError(f"present_weight must be above 0, got {self.present_weight}")

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms that count."""
        return tuple(term for term in TERMS if getattr(self, f"{term}_weight") > 0)

    def __call__(self, logits: RollLogits, rolls: Rolls, class_weights_I: Tensor) -> Tensor:
        """Sum up the terms.

        Args:
            logits: of the network.
            rolls: what sounds; cells of the pitch roll that are unknown do not count.
            class_weights_I: of instruments, in the terms that tell instruments apart (`class_weights`).
        """
        total = logits.roll.new_zeros(())
        if self.roll_weight:
            weight_I11 = class_weights_I[:, None, None]
            total = total + self.roll_weight * self._mean(logits.roll, rolls.piano, weight_I11)
        if self.pitch_weight:
            known_BPF = (rolls.pitch != UNKNOWN).float()
            total = total + self.pitch_weight * self._mean(logits.pitch, rolls.pitch == PRESENT, known_BPF)
        if self.instrument_weight:
            weight_I1 = class_weights_I[:, None]
            total = total + self.instrument_weight * self._mean(
                logits.instrument, rolls.instrument == PRESENT, weight_I1
            )
        return total

    def _mean(self, logits: Tensor, sounding: Tensor, weight: Tensor) -> Tensor:
        """Average the cross-entropy over all cells, each times its weight."""
        return functional.binary_cross_entropy_with_logits(
            logits, sounding.to(logits.dtype), weight, pos_weight=logits.new_tensor(self.present_weight)
        )


def class_weights(sounding_I: Sequence[float], power: float) -> Tensor:
    """Weight instruments (I,), rare ones more; 1 for all where power is 0.

    With p the instrument's share of all sounding frames and m the mean share, ((m / p) (1 - p) / (1 - m)) ^ power:
    1 for an instrument of mean frequency (the paper's code, power .3). One that never sounds has 1.

    Args:
        sounding_I: frames in which each instrument sounds.
        power: how far the weights are apart.
    """
    sounding = torch.tensor(sounding_I, dtype=torch.float64)
    if power == 0 or sounding.sum() == 0 or len(sounding) == 1:
        return torch.ones(len(sounding))
    share = sounding / sounding.sum()
    mean = share.mean()
    odds = (mean / share.clamp(min=1e-9)) * (1 - share) / (1 - mean)
    return torch.where((sounding > 0) & (share < 1), odds**power, 1.0).float()
