"""Thresholds of drift from the version that readers have: beyond them nothing is published (exit code 4).

A scheduled rebuild should notice that a tenth of a corpus has vanished, or that an instrument has all but gone.
"""

from dataclasses import dataclass, fields

from tutti.datasets.errors import DriftError
from tutti.datasets.manifest import Manifest
from tutti.pipelines.diff.compare import compare
from tutti.pipelines.diff.difference import drift


@dataclass(frozen=True)
class DriftConfig:
    """Largest share that is let through, of the clips kept before unless said otherwise; None: any."""

    gone: float | None = None
    added: float | None = None
    changed: float | None = None  # other audio under the same name
    equivalent: float | None = None  # encoded anew upstream
    relabelled: float | None = None  # another presence of some instrument
    resplit: float | None = None
    class_loss: float | None = None  # of an instrument's present clips in a split
    label_balance: float | None = None  # absolute change of an instrument's share of a split

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        for name, limit in self.limits().items():
            if limit < 0:
                raise ValueError(f"drift.{name} must not be negative, got {limit}")

    def limits(self) -> dict[str, float]:
        """Return the thresholds that are set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def check_drift(before: Manifest, after: Manifest, config: DriftConfig) -> None:
    """Hold a new version against the one before.

    Raises:
        DriftError: it is further away than the recipe allows.
    """
    limits = config.limits()
    if not limits:
        return
    found = drift(compare(before, after))
    beyond = [
        f"{name} {found[name]:.2%} (at most {limit:.2%})" for name, limit in limits.items() if found[name] > limit
    ]
    if beyond:
        raise DriftError(
            f"the new version is too far from {before.version}: {', '.join(beyond)}; nothing was published. Look into "
            "it, then raise the thresholds for one build: --set drift.NAME=SHARE"
        )
