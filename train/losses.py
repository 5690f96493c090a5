"""Losses that know what is not known. Shapes: B examples, C classes."""

import torch
from torch import Tensor
from torch.nn import functional

from datasets.record import ABSENT, PRESENT, UNKNOWN


def masked_bce(
    logits_BC: Tensor, presence_BC: Tensor, pos_weight_C: Tensor | None = None, unknown_weight: float = 0.0
) -> Tensor:
    """Binary cross-entropy, the mean over labels; a label that is unknown counts `unknown_weight`.

    Args:
        logits_BC: before the sigmoid.
        presence_BC: 1 present, 0 absent, -1 unknown.
        pos_weight_C: weight of present labels, per class.
        unknown_weight: 0: unknown never counts, in value or gradient; above: as absent, this much.

    Returns:
        A scalar; 0 with a gradient of 0 where nothing counts.
    """
    weight_BC = torch.where(presence_BC == UNKNOWN, unknown_weight, 1.0)
    # Nothing known: 0 / 1, not 0 / 0. Divided by the number of labels, not by their weights:
    # pos_weight then has its textbook meaning.
    loss_BC = functional.binary_cross_entropy_with_logits(
        logits_BC, (presence_BC == PRESENT).to(logits_BC.dtype), weight_BC, pos_weight=pos_weight_C, reduction="none"
    )
    total = weight_BC.sum()
    return loss_BC.sum() / torch.where(total > 0, total, 1.0)


def positive_weights(presence_NC: Tensor, max_weight: float) -> Tensor:
    """Known absent / known present per class (C,), float32, within [1 / max_weight, max_weight].

    1 where a class lacks one of the two: there is nothing to balance. Lumen 2023's pos_weight,
    with unknown labels left out of both counts.
    """
    present_C = (presence_NC == PRESENT).sum(dim=0).double()
    absent_C = (presence_NC == ABSENT).sum(dim=0).double()
    ratio_C = (absent_C / present_C.clamp(min=1)).clamp(1 / max_weight, max_weight)
    return torch.where((present_C > 0) & (absent_C > 0), ratio_C, 1.0).float()
