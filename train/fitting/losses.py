"""Losses that know what is not known: one config, `Loss`, and what it makes, `LossFunction`.

    loss = Loss(kind="focal", gamma=2.0, alpha=0.75).build()
    loss(logits, presence)              int8: 1 present, 0 absent, -1 unknown
    loss(logits, target, mask)          soft targets in [0, 1] (mixup) and what is known of them

Shapes: B examples, C classes, G families.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from tutti.datasets.errors import UsageError
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.datasets.settings import nearest
from tutti.datasets.taxonomy import INSTRUMENTS

Families: TypeAlias = tuple[tuple[int, ...], ...]  # class indices of each family

# Lumen 2023's code; its text has no family for cello and violin, and calls the rest brass, guitars,
# percussion, woodwind, vocals.
LUMEN_FAMILIES: Mapping[str, str] = {
    "cello": "strings",
    "violin": "strings",
    "acoustic_guitar": "guitars",
    "electric_guitar": "guitars",
    "organ": "brass",
    "saxophone": "brass",
    "trumpet": "brass",
    "piano": "percussion",
    "clarinet": "woodwind",
    "flute": "woodwind",
    "voice": "vocals",
}


@dataclass(frozen=True)
class Loss:
    """Kind of loss, and its parameters.

    `cross_entropy` is for classes of which exactly one is present (NSynth's 1,006 instruments).
    """

    kind: Literal["bce", "focal", "cross_entropy"] = "bce"
    gamma: float = 0.5  # focal: how fast easy labels fade; 0: BCE. Lumen 2023's best of .1, .3, .5
    alpha: float | None = None  # focal: weight of present labels, and 1 - alpha of absent ones; none: 1 and 1
    # Lumen 2023's code fades absent labels by (1 - p)^gamma too: the surer a false alarm, the less it costs.
    focal_negatives: Literal["correct", "lumen_code"] = "correct"
    label_smoothing: float = 0.0  # share of the target that is spread evenly over both answers, or all classes
    unknown_weight: float = 0.0  # 0: unknown never counts; above: as absent, this much
    family_weight: float = 0.0  # of the loss over families; Lumen 2023 tried .3, .8, 1.5: no clear gain

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "unknown_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha}")
        if self.gamma < 0 or self.family_weight < 0:
            raise ValueError(f"gamma and family_weight must not be negative, got {self.gamma}, {self.family_weight}")

    def build(self, pos_weight_C: Tensor | None = None, families: Families | None = None) -> "LossFunction":
        """Make the loss itself.

        Args:
            pos_weight_C: weight of present labels per class (`positive_weights`).
            families: class indices of each family (`families_of`).

        Raises:
            UsageError: `family_weight` without families; or what cross-entropy cannot use.
        """
        if self.family_weight > 0 and not families:
            raise UsageError("family_weight needs the classes' families; give families_of(instruments)")
        if self.kind == "cross_entropy" and (
            self.family_weight > 0 or self.unknown_weight > 0 or pos_weight_C is not None
        ):
            raise UsageError(
                "cross_entropy has one present class: no family_weight, unknown_weight or pos_weight; use kind=bce"
            )
        return LossFunction(self, pos_weight_C, families or ())


OPENMIC_FOCAL = Loss(kind="focal", gamma=2.0, alpha=0.75)  # the OpenMIC BiLSTM paper
NSYNTH_CROSS_ENTROPY = Loss(kind="cross_entropy", label_smoothing=0.05)  # NSynth pre-training


@dataclass(frozen=True, eq=False)
class LossFunction:
    """A loss and the weights that belong to the data."""

    config: Loss
    pos_weight: Tensor | None  # (C,)
    families: Families

    def __call__(self, logits_BC: Tensor, target_BC: Tensor, mask_BC: Tensor | None = None) -> Tensor:
        """Average the loss over what is known; 0 with a gradient of 0 where nothing is.

        Args:
            logits_BC: before the sigmoid or softmax.
            target_BC: int8 presence; or float targets in [0, 1]; or for cross-entropy class
                indices (B,), int64, -1 unknown.
            mask_BC: True where a float target is known; None: everywhere. Not with presence, which
                says it itself.

        Raises:
            ValueError: presence and a mask.
        """
        if target_BC.dtype == torch.int8:
            if mask_BC is not None:
                raise ValueError("int8 presence says itself what is unknown; give float targets with a mask")
            target_BC, mask_BC = target_BC == PRESENT, target_BC != UNKNOWN
        logits_BC = logits_BC.float()  # under autocast too: log and exp of bf16 are coarse
        config = self.config
        if config.kind == "cross_entropy":
            return masked_cross_entropy(logits_BC, target_BC, mask_BC, config.label_smoothing)
        target_BC = target_BC.float()
        known_BC = torch.ones_like(target_BC, dtype=torch.bool) if mask_BC is None else mask_BC
        # What a target says where it is unknown must not matter, not even if it is NaN.
        target_BC = torch.where(known_BC, target_BC, 0.0)
        total = _weighted_mean(self._elementwise(logits_BC, target_BC), known_BC, config.unknown_weight)
        if config.family_weight == 0:
            return total
        family_logits_BG, family_target_BG, family_known_BG = to_families(logits_BC, target_BC, known_BC, self.families)
        family_loss_BG = functional.binary_cross_entropy_with_logits(
            family_logits_BG, family_target_BG, reduction="none"
        )
        return total + config.family_weight * _weighted_mean(family_loss_BG, family_known_BG)

    def _elementwise(self, logits_BC: Tensor, target_BC: Tensor) -> Tensor:
        config = self.config
        target_BC = target_BC * (1 - config.label_smoothing) + config.label_smoothing / 2
        pos_weight_C = None if self.pos_weight is None else self.pos_weight.to(logits_BC.device)
        if config.kind == "bce":
            return functional.binary_cross_entropy_with_logits(
                logits_BC, target_BC, pos_weight=pos_weight_C, reduction="none"
            )
        negatives_by_present = config.focal_negatives == "lumen_code"
        return focal(logits_BC, target_BC, config.gamma, config.alpha, pos_weight_C, negatives_by_present)


def focal(
    logits_BC: Tensor,
    target_BC: Tensor,
    gamma: float,
    alpha: float | None = None,
    pos_weight_C: Tensor | None = None,
    negatives_by_present: bool = False,
) -> Tensor:
    """Compute the focal loss per label (B, C): -alpha_t (1 - p_t)^gamma log p_t (Lin et al. 2017, eq. 5).

    Linear in the target, so that a soft one is the mix of both answers.
    `negatives_by_present` weighs absent labels by (1 - p)^gamma instead of p^gamma.
    """
    log_present_BC, log_absent_BC = functional.logsigmoid(logits_BC), functional.logsigmoid(-logits_BC)
    # exp(gamma log q), not q^gamma: its gradient is finite where q has underflowed to 0.
    fade_present_BC = torch.exp(gamma * log_absent_BC)
    fade_absent_BC = fade_present_BC if negatives_by_present else torch.exp(gamma * log_present_BC)
    present_BC = -target_BC * fade_present_BC * log_present_BC
    absent_BC = -(1 - target_BC) * fade_absent_BC * log_absent_BC
    if pos_weight_C is not None:
        present_BC = present_BC * pos_weight_C
    return present_BC + absent_BC if alpha is None else alpha * present_BC + (1 - alpha) * absent_BC


def masked_cross_entropy(
    logits_BC: Tensor, target: Tensor, mask_BC: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Average the cross-entropy over classes over the examples whose labels are all known.

    Args:
        logits_BC: before the softmax.
        target: class indices (B,), -1 unknown; or (B, C) shares of the classes (one-hot, or mixed).
        mask_BC: with shares: True where known.
        label_smoothing: share of the target that is spread evenly over all classes.
    """
    if target.ndim == 1:
        known_B = target != UNKNOWN
        target = target.clamp(min=0).long()
    else:
        known_B = torch.ones_like(target[:, 0], dtype=torch.bool) if mask_BC is None else mask_BC.all(dim=1)
        target = torch.where(known_B[:, None], target.float(), 0.0)
    loss_B = functional.cross_entropy(logits_BC, target, label_smoothing=label_smoothing, reduction="none")
    return _weighted_mean(loss_B, known_B)


def to_families(
    logits_BC: Tensor, target_BC: Tensor, known_BC: Tensor, families: Families
) -> tuple[Tensor, Tensor, Tensor]:
    """Pool logits, targets and masks of each family (B, G): the maximum over its members.

    A family is known where one member is known to be fully present, or where all are known.
    """
    logits, targets, known = [], [], []
    for members in families:
        columns = list(members)
        logits.append(logits_BC[:, columns].amax(dim=1))
        target_B = torch.where(known_BC[:, columns], target_BC[:, columns], 0.0).amax(dim=1)
        targets.append(target_B)
        known.append(known_BC[:, columns].all(dim=1) | (target_B >= 1))
    return torch.stack(logits, dim=1), torch.stack(targets, dim=1), torch.stack(known, dim=1)


def families_of(instruments: Sequence[str], families: Mapping[str, str] | None = None) -> Families:
    """List class indices of each family, by name; the taxonomy's families, or those of a mapping as `LUMEN_FAMILIES`.

    Raises:
        UsageError: an instrument without a family.
    """
    family_of = families or {name: instrument.family for name, instrument in INSTRUMENTS.items()}
    members: dict[str, list[int]] = {}
    for index, name in enumerate(instruments):
        if name not in family_of:
            raise UsageError(f"instrument {name!r} has no family{nearest(name, family_of)}; add it to the mapping")
        members.setdefault(family_of[name], []).append(index)
    return tuple(tuple(members[name]) for name in sorted(members))


def _weighted_mean(loss: Tensor, known: Tensor, unknown_weight: float = 0.0) -> Tensor:
    """Divide by the number of labels that count, not by pos_weight and its like: those keep their meaning."""
    # Where it does not count the loss is cut off, not multiplied by 0: 0 x inf is NaN.
    counted = loss if unknown_weight > 0 else torch.where(known, loss, 0.0)
    weight = torch.where(known, 1.0, unknown_weight)
    total = weight.sum()
    return (counted * weight).sum() / torch.where(total > 0, total, 1.0)  # nothing known: 0 / 1, not 0 / 0


def masked_bce(
    logits_BC: Tensor, presence_BC: Tensor, pos_weight_C: Tensor | None = None, unknown_weight: float = 0.0
) -> Tensor:
    """Average the binary cross-entropy over labels; a label that is unknown counts `unknown_weight`.

    Args:
        logits_BC: before the sigmoid.
        presence_BC: 1 present, 0 absent, -1 unknown.
        pos_weight_C: weight of present labels, per class.
        unknown_weight: 0: unknown never counts, in value or gradient; above: as absent, this much.

    Returns:
        A scalar; 0 with a gradient of 0 where nothing counts.
    """
    return Loss(unknown_weight=unknown_weight).build(pos_weight_C)(logits_BC, presence_BC.to(torch.int8))


def positive_weights(presence_NC: Tensor, max_weight: float) -> Tensor:
    """Compute known absent / known present per class (C,), float32, within [1 / max_weight, max_weight].

    1 where a class lacks one of the two: there is nothing to balance. Lumen 2023's pos_weight,
    with unknown labels left out of both counts; its own has no cap (`math.inf`).
    """
    present_C = (presence_NC == PRESENT).sum(dim=0).double()
    absent_C = (presence_NC == ABSENT).sum(dim=0).double()
    ratio_C = (absent_C / present_C.clamp(min=1)).clamp(1 / max_weight, max_weight)
    return torch.where((present_C > 0) & (absent_C > 0), ratio_C, 1.0).float()
