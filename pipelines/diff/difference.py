"""Kinds of differences between two versions of a dataset, and how far apart they are in all."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

NOT_LISTED = "not listed"  # no row at all: another recipe, another upstream list


SameSound = Callable[[AbstractSet[str]], Mapping[str, bool]]  # of changed clips; those it leaves out stay unheard


@dataclass(frozen=True, order=True, slots=True)
class Moved:
    """A clip that only one side keeps."""

    id: str
    split: str  # on the side that keeps it
    reason: str  # on the other side: why it is not kept, or "not listed"
    present: tuple[str, ...]  # instruments, on the side that keeps it


@dataclass(frozen=True, order=True, slots=True)
class Changed:
    """A clip whose stored audio differs."""

    id: str
    split: str  # in B
    how: str  # "processing" (same upstream samples), "equivalent" (sounds the same), "other", "unheard"


@dataclass(frozen=True, order=True, slots=True)
class Relabelled:
    """One label of a clip that differs; None stands for unknown."""

    id: str
    split: str  # in B
    instrument: str
    before: tuple[int, float | None, str] | None  # presence, confidence, origin
    after: tuple[int, float | None, str] | None

    @property
    def presence_changed(self) -> bool:
        """Whether more changed than confidence or origin."""
        return (self.before and self.before[0]) != (self.after and self.after[0])


@dataclass(frozen=True, order=True, slots=True)
class Resplit:
    """A clip that went from one split to another."""

    id: str
    before: str
    after: str


@dataclass(frozen=True, order=True, slots=True)
class Setting:
    """A value of manifest.json that differs; None where one side lacks it."""

    path: str  # "recipe.clean.min_duration_s"
    before: Any
    after: Any


@dataclass(frozen=True, order=True, slots=True)
class Balance:
    """Clips of a split in which an instrument is present, before and after."""

    split: str
    instrument: str
    before: int
    after: int
    share_before: float  # of the kept clips of the split; 0 where it has none
    share_after: float


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two versions."""

    dataset: str
    version: str
    root_digest: str
    kept: int
    splits: Mapping[str, int]


@dataclass(frozen=True)
class Difference:
    """All that differs; every list is sorted."""

    a: Side
    b: Side
    added: tuple[Moved, ...] = ()
    gone: tuple[Moved, ...] = ()
    changed: tuple[Changed, ...] = ()
    relabelled: tuple[Relabelled, ...] = ()
    resplit: tuple[Resplit, ...] = ()
    reasons: tuple[tuple[str, str, int], ...] = ()  # of clips that neither side keeps: before, after, clips
    balance: tuple[Balance, ...] = ()  # all splits and instruments
    settings: tuple[Setting, ...] = ()  # recipe, tools, sources, instruments, ...

    @property
    def same_contents(self) -> bool:
        """Whether both hold the same clips, splits, samples and labels."""
        return self.a.root_digest == self.b.root_digest

    def as_json(self) -> dict[str, Any]:
        """Return an object of JSON; `canonical_json` of it depends on the two manifests only."""
        return asdict(self) | {"same_contents": self.same_contents, "drift": drift(self)}


def drift(difference: Difference) -> dict[str, float]:
    """Compute shares that a recipe can hold against thresholds; all are 0 where the contents are the same.

    `gone`, `changed` (other audio, or not listened to), `equivalent`, `relabelled` (clips with a
    changed presence) and `resplit` are shares of A's kept clips, `added` too. `class_loss` is the
    largest share of its present clips that an instrument lost in a split. `label_balance` is the
    largest change of an instrument's share of a split, absolute.
    """
    kept = max(1, difference.a.kept)
    same = {"processing", "equivalent"}
    heard_same = sum(one.how in same for one in difference.changed)
    lost: dict[tuple[str, str], int] = defaultdict(int)
    for one in difference.gone:
        for name in one.present:
            lost[one.split, name] += 1
    losses = [
        lost[row.split, row.instrument] / row.before for row in difference.balance if lost[row.split, row.instrument]
    ]
    shifts = [abs(row.share_after - row.share_before) for row in difference.balance]
    shares = {
        "added": len(difference.added) / kept,
        "gone": len(difference.gone) / kept,
        "changed": (len(difference.changed) - heard_same) / kept,
        "equivalent": heard_same / kept,
        "relabelled": len({one.id for one in difference.relabelled if one.presence_changed}) / kept,
        "resplit": len(difference.resplit) / kept,
        "class_loss": max(losses, default=0.0),
        "label_balance": max(shifts, default=0.0),
    }
    return {name: round(value, 6) for name, value in shares.items()}
