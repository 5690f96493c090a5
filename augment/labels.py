"""Labels of mixed signals: one algebra for presence, one for soft targets.

Presence is int8: 1 present, 0 absent, -1 unknown. A target is a belief in [0, 1] with a mask of
what is known. OR is Kleene's: present absorbs, absent is neutral, unknown OR absent is unknown.

Shapes: B examples, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN


@dataclass(frozen=True)
class Targets:
    """Soft labels and what is known of them; both (B, C)."""

    target: Tensor  # float32 in [0, 1]; 0 where the mask is False, so that equal means equal
    mask: Tensor  # bool: known


def targets_of(presence_BC: Tensor) -> Targets:
    """Convert presence to targets: present 1.0, absent 0.0, unknown masked."""
    return Targets((presence_BC == PRESENT).float(), presence_BC != UNKNOWN)


def presence_of(targets: Targets) -> Tensor:
    """Convert targets to presence, int8: known and above 0 is present, however little of it."""
    known = torch.where(targets.target > 0, PRESENT, ABSENT)
    return torch.where(targets.mask, known, UNKNOWN).to(torch.int8)


def targets_or(first: Targets, second: Targets) -> Targets:
    """Combine soft targets by OR: the greater one; known where both are, or where one is certainly present.

    On targets of 0 and 1: present where one is, absent where both are, else unknown.
    """
    greater_BC = torch.maximum(first.target, second.target)
    mask_BC = (first.mask & second.mask) | (greater_BC == 1)
    return Targets(torch.where(mask_BC, greater_BC, 0.0), mask_BC)


def targets_convex(first: Targets, second: Targets, weight_B: Tensor) -> Targets:
    """Mix weight * first + (1 - weight) * second, known where everything that has a weight is known.

    Public OpenMIC code masks a mixed batch by its first example alone, or rounds the mix to 0 and 1;
    both train on labels without an annotator.
    """
    weight_B1 = weight_B.to(first.target)[:, None]
    mixed_BC = weight_B1 * first.target + (1 - weight_B1) * second.target
    mask_BC = (first.mask | (weight_B1 == 0)) & (second.mask | (weight_B1 == 1))
    return Targets(torch.where(mask_BC, mixed_BC, 0.0), mask_BC)
