"""Figures of the musical-mixtures paper as PNG: areas and loss over the share of musical mixtures, and over epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tutti.train.scoring.pictures import plain

Bar = tuple[float, float] | None  # mean and deviation
_OURS, _PUBLISHED = "#3f6d8f", "#fdae6b"
# Figures of an epoch, and what they are called.
_CURVES = {"train_loss": "training loss", "validation_loss": "validation loss", "map": "PR-AUC", "macro_f1": "macro F1"}


def _panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """Make axes side by side under one title."""
    figure = Figure(figsize=(3.6 * count, 3.6), layout="constrained")
    figure.suptitle(plain(title), fontsize=11)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def areas_over_share(
    shares: Sequence[float], rows: Sequence[Mapping[str, Bar]], names: Mapping[str, str], best: float, title: str
) -> Figure:
    """Draw figures over the share of musical mixtures (S2 figure 2), with the paper's best share.

    Args:
        shares: of each row.
        rows: figure -> mean and deviation.
        names: figure -> words.
        best: the published best share.
        title: stands above.
    """
    figure, panels = _panels(len(names), title)
    for axes, (name, words) in zip(panels, names.items(), strict=True):
        points = [(share, *bar) for share, row in zip(shares, rows, strict=True) if (bar := row[name]) is not None]
        if points:
            places, means, deviations = zip(*points, strict=True)
            axes.errorbar(places, means, yerr=deviations, marker="o", capsize=3, color=_OURS, label="ours")
        axes.axvline(best, color=_PUBLISHED, linestyle="--", label="published best")
        axes.set(xlabel="share of musical mixtures", title=words, xlim=(-0.05, 1.05))
        axes.grid(color="0.9")
        axes.legend(fontsize=7)
    return figure


def beside_published(
    rows: Mapping[str, Mapping[str, Bar]],
    published: Mapping[str, Mapping[str, float]],
    names: Mapping[str, str],
    title: str,
) -> Figure:
    """Draw figures of each form of transfer beside the published ones (S2 table 1)."""
    figure, panels = _panels(len(names), title)
    for axes, (name, words) in zip(panels, names.items(), strict=True):
        for place, (row, bars) in enumerate(rows.items()):
            if (bar := bars[name]) is not None:
                label = "ours" if place == 0 else None
                axes.bar(place - 0.2, bar[0], 0.4, yerr=bar[1], capsize=3, color=_OURS, label=label)
            if name in published[row]:
                label = "published" if place == 0 else None
                axes.bar(place + 0.2, published[row][name], 0.4, color=_PUBLISHED, label=label)
        axes.set_xticks(range(len(rows)), [plain(row) for row in rows], rotation=20, ha="right", fontsize=8)
        axes.set(title=words, ylim=(0, None if name == "loss" else 1))
        axes.legend(fontsize=7)
    return figure


def learning_curves(histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], title: str) -> Figure:
    """Draw loss and figures of every epoch (S2 figure 1), a line per run and a color per variant.

    Args:
        histories: variant -> run -> figures of each epoch.
        title: stands above.
    """
    figure, panels = _panels(len(_CURVES), title)
    for axes, (name, words) in zip(panels, _CURVES.items(), strict=True):
        for place, (variant, runs) in enumerate(histories.items()):
            for number, run in enumerate(runs):
                points = [(epoch["epoch"], epoch[name]) for epoch in run if epoch.get(name) is not None]
                if points:
                    label = plain(variant) if number == 0 else None
                    axes.plot(*zip(*points, strict=True), color=f"C{place % 10}", linewidth=1, label=label)
        axes.set(xlabel="epoch", title=words)
        axes.grid(color="0.9")
    panels[0].legend(fontsize=7)
    return figure
