"""What differs between two versions of a dataset, clip by clip and setting by setting.

    python -m pipelines.diff build/ultimate/versions/0c1d... build/ultimate
    python -m pipelines.diff manifests/sample build/sample --markdown

Takes manifests, version folders or output roots. Exit code 0, whatever differs: thresholds are the
recipe's, and a build's to apply (`drift`).
"""

import argparse
import gc
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets.command import Parser, run_command
from datasets.manifest import ClipRow, Manifest, canonical_json
from datasets.record import PRESENT, SPLITS
from datasets.sketch import MAX_DISTANCE, distance
from pipelines.verify_manifest import open_manifest

NOT_LISTED = "not listed"  # no row at all: another recipe, another upstream list
MAX_HEARD = 1_000  # changed clips that the command compares by ear unless told: half a minute

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
        """As an object of JSON; `canonical_json` of it depends on the two manifests only."""
        return asdict(self) | {"same_contents": self.same_contents, "drift": drift(self)}


@dataclass(frozen=True, slots=True)
class _Brief:
    """What is kept of A's rows while B's are read: some hundred bytes each."""

    split: str | None  # None: not kept
    reason: str
    pcm: str
    native: str
    sketch: str  # empty: of a version that has none
    labels: str  # JSON: a tenth of the memory
    present: tuple[str, ...]


def compare(a: Manifest, b: Manifest, same_sound: SameSound | None = None) -> Difference:
    """What differs from A to B.

    Args:
        a: the earlier version.
        b: the later one.
        same_sound: judges clips whose samples differ from upstream on, where a manifest has no
            sketches; None: they stay "unheard".

    Raises:
        IntegrityError: a clip row cannot be read; `verify` says more.
    """
    before = {row["id"]: _brief(row) for row in a.clip_rows()}
    added: list[Moved] = []
    gone: list[Moved] = []
    relabelled: list[Relabelled] = []
    resplit: list[Resplit] = []
    changed: dict[str, tuple[str, str]] = {}
    reasons: Counter[tuple[str, str]] = Counter()
    splits: dict[str, Counter[str]] = {"a": Counter(), "b": Counter()}
    present: dict[str, Counter[tuple[str, str]]] = {"a": Counter(), "b": Counter()}
    for one in before.values():
        _count(one, splits["a"], present["a"])
    for row in b.clip_rows():
        clip_id, new = row["id"], _brief(row)
        _count(new, splits["b"], present["b"])
        old = before.pop(clip_id, None)
        if old is None or old.split is None:
            if new.split is not None:
                reason = NOT_LISTED if old is None else old.reason
                added.append(Moved(clip_id, new.split, reason, new.present))
            elif old is None or old.reason != new.reason:
                reasons[NOT_LISTED if old is None else old.reason, new.reason] += 1
            continue
        if new.split is None:
            gone.append(Moved(clip_id, old.split, new.reason, old.present))
            continue
        if old.split != new.split:
            resplit.append(Resplit(clip_id, old.split, new.split))
        if old.pcm != new.pcm:
            changed[clip_id] = (new.split, _how(old, new))
        if old.labels != new.labels:
            relabelled += _relabelled(clip_id, new.split, json.loads(old.labels), json.loads(new.labels))
    for clip_id, old in before.items():
        if old.split is not None:
            gone.append(Moved(clip_id, old.split, NOT_LISTED, old.present))
        else:
            reasons[old.reason, NOT_LISTED] += 1
    unheard = frozenset(clip_id for clip_id, (_, how) in changed.items() if how == "unheard")
    heard = same_sound(unheard) if same_sound is not None and unheard else {}
    verdicts = {clip_id: "equivalent" if alike else "other" for clip_id, alike in heard.items()}
    return Difference(
        _side(a, splits["a"]),
        _side(b, splits["b"]),
        tuple(sorted(added)),
        tuple(sorted(gone)),
        tuple(sorted(Changed(clip_id, split, verdicts.get(clip_id, how)) for clip_id, (split, how) in changed.items())),
        tuple(sorted(relabelled, key=lambda one: (one.id, one.instrument))),
        tuple(sorted(resplit)),
        tuple(sorted((was, now, count) for (was, now), count in reasons.items())),
        tuple(_balance(a, b, splits, present)),
        tuple(_settings(a.content, b.content)),
    )


NOTES_DIGITS = 12  # of their digest, shown to people


def _brief(row: ClipRow) -> _Brief:
    if row["status"] != "kept":
        return _Brief(None, sys.intern(row["reason"]), "", "", "", "", ())
    audio, labels = row["audio"], row["labels"]
    present = tuple(sorted(name for name, label in labels.items() if label[0] == PRESENT))
    if "notes_sha256" in row:  # other notes are a label that changed: its confidence says nothing, its origin all
        labels = {**labels, "notes": [PRESENT, None, f"score:{row['notes_sha256'][:NOTES_DIGITS]}"]}
    pcm, native, sketch = audio["pcm_sha256"], audio["native_sha256"], audio.get("sketch", "")
    return _Brief(sys.intern(row["split"]), "", pcm, native, sketch, canonical_json(labels), present)


def _how(old: _Brief, new: _Brief) -> str:
    """What to call other samples, as far as the manifests know."""
    if old.native == new.native:
        return "processing"
    if not (old.sketch and new.sketch):
        return "unheard"
    return "equivalent" if distance(old.sketch, new.sketch) <= MAX_DISTANCE else "other"


def _count(one: _Brief, splits: Counter[str], present: Counter[tuple[str, str]]) -> None:
    if one.split is not None:
        splits[one.split] += 1
        for name in one.present:
            present[one.split, name] += 1


def _relabelled(clip_id: str, split: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Relabelled]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield Relabelled(clip_id, split, name, before and tuple(before), after and tuple(after))


def _side(manifest: Manifest, splits: Counter[str]) -> Side:
    counts = {split: splits[split] for split in SPLITS}
    return Side(manifest.content["dataset"], manifest.version, manifest.root_digest, splits.total(), counts)


def _balance(
    a: Manifest, b: Manifest, splits: Mapping[str, Counter[str]], present: Mapping[str, Counter[tuple[str, str]]]
) -> Iterator[Balance]:
    names = list(dict.fromkeys([*a.instruments, *b.instruments]))
    for split in SPLITS:
        for name in names:
            counts = [present[side][split, name] for side in "ab"]
            shares = [
                round(count / splits[side][split], 6) if count else 0.0
                for side, count in zip("ab", counts, strict=True)
            ]
            yield Balance(split, name, *counts, *shares)


COUNTED = {
    "counts",
    "clips",
    "shards",
    "split_certificate",
    "curation",
    "files",
    "parent",
    "root_digest",
    "split_digest",
}


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Setting]:
    """What differs in the manifests but follows from no clip: recipe, tools, sources, classes."""
    for name in sorted((a.keys() | b.keys()) - COUNTED - {"recipe_sha256"}):
        yield from _fields(name, a.get(name), b.get(name))


def _fields(path: str, a: Any, b: Any) -> Iterator[Setting]:
    if a == b:
        return
    listed = path.startswith("sources.") and path.endswith((".files", ".inputs"))
    if listed and isinstance(a, list) and isinstance(b, list):
        a, b = ({file["name"]: file for file in side} for side in (a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in sorted(a.keys() | b.keys()):
            yield from _fields(f"{path}.{name}", a.get(name), b.get(name))
        return
    yield Setting(path, a, b)


def drift(difference: Difference) -> dict[str, float]:
    """Shares that a recipe can hold against thresholds; all are 0 where the contents are the same.

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


def build_parser() -> Parser:
    """All flags."""
    parser = Parser("python -m pipelines.diff", "What differs between two versions of a dataset.")
    parser.add_argument("a", metavar="A", type=Path, help="manifest, version folder or output root: before")
    parser.add_argument("b", metavar="B", type=Path, help="the same: after")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object with every clip")
    form.add_argument("--markdown", action="store_true", help="for a pull request or a change log")
    parser.add_argument("--listen", metavar="N", type=int, default=MAX_HEARD, help="decode up to N changed clips")
    return parser


def run(arguments: argparse.Namespace) -> str:
    """The report that a parsed command line asks for."""
    from pipelines.diff_report import markdown, text
    from pipelines.diff_sound import listener

    a, b = open_manifest(arguments.a), open_manifest(arguments.b)
    difference = compare(a, b, listener(a, b, arguments.listen))
    if arguments.json:
        return canonical_json(difference.as_json())
    return markdown(difference) if arguments.markdown else text(difference)


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    print(run(build_parser().parse_args(argv)))
    return 0


if __name__ == "__main__":
    gc.disable()  # rows hold no cycles; looking for some costs a quarter of the time
    sys.exit(main(sys.argv[1:]))
