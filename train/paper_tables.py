"""Rows of the papers' tables: what differs from row to row, and the figures that were published.

TABLES          of Lumen 2023, OpenMIC BiLSTM and NSynth pre-training: F1 of the validation split
MIXTURE_TABLES  of the musical-mixtures paper: areas and loss of the test split
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One variant of a recipe."""

    name: str
    overrides: tuple[str, ...]
    published: float | None = None  # validation F1 in the paper
    needs: str = ""  # a field that has to be set for it
    figures: Mapping[str, float] = field(default_factory=dict)  # of the test split in the paper, by our names


def _augmented(name: str, published: float, needs: str = "") -> Row:
    return Row(name, (f"augment={name}",), published, needs)


# A1: N in total, as the published figures were run. A24: F1 of ConvNeXt-small, 10 epochs. O4, O6, O3, P9: see each.
TABLES: Mapping[str, tuple[Row, ...]] = {
    "augmentations": (
        Row("none", ("augment=",), 0.346),
        _augmented("background_noise", 0.340, needs="noises"),
        _augmented("time_stretch", 0.347),
        _augmented("time_shift", 0.352),
        _augmented("pitch_shift", 0.349),
        _augmented("colored_noise", 0.343),
        _augmented("time_inversion", 0.346),
        _augmented("time_mask", 0.351),
        _augmented("frequency_mask", 0.349),
        _augmented("random_erasing", 0.344),
        _augmented("random_pixel_erasing", 0.350),
    ),
    "sum_with_n": tuple(
        Row(f"sum with {num}", (f"augment=sum_with_n(num={num}) renormalize",)) for num in (1, 2, 3, 4, 5)
    ),
    "focal": (
        Row("bce", ("loss.kind=bce",), 0.3456),
        Row("focal, gamma 0.1", ("loss.kind=focal", "loss.gamma=0.1"), 0.3490),
        Row("focal, gamma 0.3", ("loss.kind=focal", "loss.gamma=0.3"), 0.3516),
        Row("focal, gamma 0.5", ("loss.kind=focal", "loss.gamma=0.5"), 0.3748),
    ),
    "family": tuple(Row(f"family weight {weight}", (f"loss.family_weight={weight}",)) for weight in (0, 0.3, 0.8, 1.5)),
    "sampling": tuple(Row(name, (f"sampling={name}",)) for name in ("uniform", "median", "max")),  # M1
    "pos_weight": (Row("without", ("pos_weight=off",)), Row("with", ("pos_weight=on",))),
    "pretraining": (
        Row("random", ("model_config.weights=", "optimize.head_epochs=0")),
        Row("pre-trained", (), needs="model_config.weights"),
    ),
    "data_fraction": tuple(Row(f"{share} %", (f"train_share={share / 100}",)) for share in range(10, 101, 10)),
}

AREAS = ("roc_auc", "map", "loss")  # ROC-AUC, PR-AUC and loss


def _transfer(name: str, form: str, published: tuple[float, float, float]) -> Row:
    """Make a row of S2's table 1; what begins with weights needs some."""
    rate = "1e-4" if form == "fine_tuned" else "none"
    overrides = (f"transfer={form}", f"optimize.backbone_learning_rate={rate}")
    figures = dict(zip(AREAS, published, strict=True))
    if form == "scratch":
        return Row(name, (*overrides, "model_config.weights="), figures=figures)
    return Row(name, overrides, needs="model_config.weights", figures=figures)


BEST_P_MUSICAL = 0.4  # S2 figure 2: ROC-AUC, PR-AUC and loss are best there; its other values are not printed
_P_MUSICAL = "p_musical "

MIXTURE_TABLES: Mapping[str, tuple[Row, ...]] = {
    "transfer": (
        _transfer("from scratch", "scratch", (0.8488, 0.6812, 0.4459)),
        _transfer("frozen backbone", "frozen", (0.8908, 0.7623, 0.4160)),
        _transfer("fine-tuned", "fine_tuned", (0.9429, 0.8334, 0.3618)),
    ),
    "p_musical": tuple(
        Row(f"{_P_MUSICAL}{share:g}", (f"mixing.p_musical={share:g}",)) for share in (0, 0.2, 0.4, 0.6, 0.8, 1)
    ),
}


def p_musical_of(row: Row) -> float | None:
    """Read the share of musical mixtures that a row stands for; None: it is of another table."""
    return float(row.name.removeprefix(_P_MUSICAL)) if row.name.startswith(_P_MUSICAL) else None
