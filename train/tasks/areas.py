"""Tagging whose first figures are areas under curves, and the loss, as the musical-mixtures paper reports them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tutti.train.scoring.report import figure, headline, table
from tutti.train.task import Report
from tutti.train.tasks.tagging import Tagging

# PR-AUC is the average precision: the area of the steps, without interpolation.
AREAS: Mapping[str, str] = {"roc_auc": "ROC-AUC", "map": "PR-AUC", "loss": "loss"}


@dataclass(frozen=True)
class Areas(Tagging):
    """Tagging that is compared by ROC-AUC, PR-AUC and loss, class by class too."""

    compared: ClassVar[tuple[str, ...]] = (*AREAS, "micro_f1", "macro_f1")

    def headline(self, report: Report) -> Report:
        """Select the figures that a summary shows, areas and loss before all others."""
        shown = headline(report)
        model = {name: report["model"][name] for name in AREAS}
        return {
            "model": model | shown["model"],
            "constant": {"roc_auc": 0.5, "map": report["constant"]["map"]} | shown["constant"],
        }

    def table(self, report: Report, title: str) -> str:
        """Write the tables of tagging, and areas and F1 of each class."""
        lines = [table(report, title), "", f"{'':24}" + "".join(f"{words:>10}" for words in AREAS.values())]
        lines.append(f"{'all':24}" + "".join(f"{figure(report['model'][name]):>10}" for name in AREAS))
        for name, row in report["per_class"].items():
            lines.append(f"{name:24}{figure(row['roc_auc']):>10}{figure(row['average_precision']):>10}")
        return "\n".join(lines)
