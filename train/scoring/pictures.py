"""Figures as PNG: what a report says, to look at. The same numbers give the same bytes.

    save(instrument_bars(report), folder / "instruments.png")

Drawn by matplotlib's Agg without pyplot: no window, no global state.
Shapes: N clips, C classes, K chunks.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.metrics import roc_curve

from tutti.datasets.files import write_file
from tutti.datasets.printable import printable
from tutti.datasets.record import PRESENT, UNKNOWN, Seconds
from tutti.datasets.targets import PICTURE
from tutti.train.scoring.metrics import Presence, Scores, example_f1, predict, predominant_confusion, roc_aucs
from tutti.train.scoring.report import Report

_DPI = 120  # dots per inch
_COLORS = {"precision": "#9ecae1", "recall": "#fdae6b", "f1": "#3f6d8f"}
# Twenty hues that stay apart beside each other, for one line per class; more classes begin again, dashed.
_NUM_HUES = 20


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, whole or not at all; answers the path."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, metadata=PICTURE)
    write_file(path, content.getvalue())
    return path


def words(name: str) -> str:
    """Format an instrument's name for people."""
    return plain(name.replace("_", " "))


def plain(text: str) -> str:
    """Escape text for a picture: matplotlib reads what stands between dollars as a formula."""
    return printable(text).replace("$", r"\$")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of so many inches and its only axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def instrument_bars(report: Report, title: str) -> Figure:
    """Draw precision, recall and F1 of every instrument, with the number of known present labels."""
    rows: Mapping[str, Mapping[str, Any]] = report["per_class"]
    figure, axes = _figure(max(6.0, 0.75 * len(rows) + 2), 4.2)
    place = np.arange(len(rows))
    for index, (key, color) in enumerate(_COLORS.items()):
        heights = [row[key] or 0.0 for row in rows.values()]
        axes.bar(place + (index - 1) * 0.27, heights, 0.27, color=color, label="F1" if key == "f1" else key)
    axes.axhline(report["model"]["macro_f1"] or 0.0, color="0.35", linewidth=1, linestyle="--", label="macro F1")
    labels = [f"{words(name)}\n{row['support']} of {row['known']}" for name, row in rows.items()]
    axes.set_xticks(place, labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set(ylim=(0, 1), ylabel="share", title=f"{plain(title)}: per instrument (present of known labels)")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.3))
    return figure


def ablation_bars(rows: Mapping[str, Mapping[str, tuple[float, float] | None]], title: str) -> Figure:
    """Draw figures of variants side by side, mean and deviation over seeds; nothing where a figure has no value.

    Args:
        rows: variant -> figure -> (mean, deviation); every variant has the same figures.
        title: stands above.
    """
    names = list(next(iter(rows.values()), {}))
    figure, axes = _figure(max(6.0, 0.6 * len(rows) * max(1, len(names)) + 2), 4.2)
    width = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        drawn = [(place, found) for place, row in enumerate(rows.values()) if (found := row[name]) is not None]
        places = [place + (index - (len(names) - 1) / 2) * width for place, _ in drawn]
        means, deviations = [found[0] for _, found in drawn], [found[1] for _, found in drawn]
        axes.bar(places, means, width, yerr=deviations, capsize=2, label=words(name), color=_hue(index))
    axes.set_xticks(range(len(rows)), [plain(name) for name in rows], rotation=30, ha="right")
    axes.set_ylim(0, 1)
    axes.set_title(plain(title))
    axes.legend(fontsize="small")
    return figure


def roc_lines(presence_NC: Presence, scores_NC: Scores, instruments: Sequence[str], title: str) -> Figure:
    """Draw the ROC curve per instrument with its area, where it has a present and an absent label."""
    figure, axes = _figure(7.2, 5.0)
    for index, (name, area) in enumerate(zip(instruments, roc_aucs(presence_NC, scores_NC), strict=True)):
        if area is None:
            continue
        known = presence_NC[:, index] != UNKNOWN
        false_share, true_share, _ = roc_curve(presence_NC[known, index] == PRESENT, scores_NC[known, index])
        style = "-" if index < _NUM_HUES else "--"
        label = f"{words(name)} {area:.2f}"
        axes.plot(false_share, true_share, style, color=_hue(index), linewidth=1.4, label=label)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="false positive rate", ylabel="true positive rate")
    axes.set_title(f"{plain(title)}: ROC and its area")
    axes.set_aspect("equal")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return figure


def _hue(index: int) -> Any:
    return colormaps["tab20"](index % _NUM_HUES / _NUM_HUES)


def f1_histogram(presence_NC: Presence, scores_NC: Scores, thresholds_C: Scores, title: str) -> Figure:
    """Draw the distribution of the clips' F1 over their own known labels."""
    values = example_f1(presence_NC, predict(scores_NC, thresholds_C))
    figure, axes = _figure(6.0, 3.8)
    axes.hist(values, bins=np.linspace(0, 1, 21).tolist(), color=_COLORS["f1"], edgecolor="white")
    if len(values):
        axes.axvline(values.mean(), color="0.2", linestyle="--", linewidth=1, label=f"mean {values.mean():.2f}")
        axes.legend(fontsize=8, loc="upper center")
    axes.set(
        xlim=(0, 1), xlabel="F1 of a clip", ylabel="clips", title=f"{plain(title)}: F1 per clip, {len(values)} clips"
    )
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    return figure


def confusion_matrix(presence_NC: Presence, scores_NC: Scores, instruments: Sequence[str], title: str) -> Figure:
    """Draw clips with one known present instrument: which one it is, and which one scores highest."""
    counts_CC = predominant_confusion(presence_NC, scores_NC)
    share_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    size = max(4.5, 0.45 * len(instruments) + 2)
    figure, axes = _figure(size + 0.8, size)
    image = axes.imshow(share_CC, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts_CC):
        if count:
            color = "white" if share_CC[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
    names = [words(name) for name in instruments]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    right, total = int(np.trace(counts_CC)), int(counts_CC.sum())
    axes.set(xlabel="scores highest", ylabel="plays")
    axes.set_title(f"{plain(title)}: one instrument, {right} of {total} right", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.8)
    return figure


def activity(
    spans_s: Sequence[tuple[Seconds, Seconds]],
    probability_KC: Scores,
    thresholds_C: Scores,
    instruments: Sequence[str],
    title: str,
) -> Figure:
    """Draw the probability of every instrument over time; framed where it reaches its threshold.

    Args:
        spans_s: start and end of each chunk; where chunks overlap, the later one is drawn over the earlier.
        probability_KC: of each chunk.
        thresholds_C: of the run.
        instruments: names of the classes, the first one on top.
        title: of the picture.
    """
    figure, axes = _figure(min(16.0, max(7.0, 0.25 * len(spans_s) + 4)), max(2.4, 0.32 * len(instruments) + 1.3))
    colors = colormaps["Blues"]
    for (start_s, end_s), row_C in zip(spans_s, probability_KC, strict=True):
        for place, (value, threshold) in enumerate(zip(row_C, thresholds_C, strict=True)):
            corner, width = (start_s, place - 0.45), end_s - start_s
            axes.add_patch(Rectangle(corner, width, 0.9, facecolor=colors(float(value)), linewidth=0))
            if value >= threshold:
                axes.plot([start_s, end_s], [place + 0.45] * 2, color="#d95f02", linewidth=2.5, solid_capstyle="butt")
    end_s = max((end for _, end in spans_s), default=1.0)
    axes.set(xlim=(0, end_s), ylim=(len(instruments) - 0.5, -0.5), xlabel="time (s)")
    axes.set_yticks(range(len(instruments)), [words(name) for name in instruments], fontsize=8)
    axes.set_title(f"{plain(title)}: probability; orange: present", fontsize=10)
    figure.colorbar(_scale(colors), ax=axes, label="probability", pad=0.01)
    return figure


def _scale(colors: Any) -> Any:
    return ScalarMappable(Normalize(0, 1), colors)


def evaluation_pictures(
    folder: Path,
    report: Report,
    presence_NC: Presence,
    scores_NC: Scores,
    thresholds: Sequence[float],
    instruments: Sequence[str],
    title: str,
) -> list[Path]:
    """Write all pictures of a split; answers their paths."""
    drawn: dict[str, Callable[[], Figure]] = {
        "instruments": lambda: instrument_bars(report, title),
        "roc": lambda: roc_lines(presence_NC, scores_NC, instruments, title),
        "f1_per_clip": lambda: f1_histogram(presence_NC, scores_NC, np.asarray(thresholds), title),
        "confusion": lambda: confusion_matrix(presence_NC, scores_NC, instruments, title),
    }
    return [save(draw(), folder / f"{name}.png") for name, draw in drawn.items()]
