"""Differences between two versions of a dataset, clip by clip and setting by setting."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tutti.datasets.manifest import ClipRow, Manifest, canonical_json
from tutti.datasets.record import PRESENT, SPLITS
from tutti.datasets.sketch import MAX_DISTANCE, distance
from tutti.pipelines.diff.difference import (
    NOT_LISTED,
    Balance,
    Changed,
    Difference,
    Moved,
    Relabelled,
    Resplit,
    SameSound,
    Setting,
    Side,
)


@dataclass(frozen=True, slots=True)
class _Brief:
    """The part of A's rows that is kept while B's are read: some hundred bytes each."""

    split: str | None  # None: not kept
    reason: str
    pcm: str
    native: str
    sketch: str  # empty: of a version that has none
    labels: str  # JSON: a tenth of the memory
    present: tuple[str, ...]


_NO_ROW = _Brief(None, NOT_LISTED, "", "", "", "", ())


@dataclass
class _Found:
    """Differences of the clips that were compared so far."""

    added: list[Moved] = field(default_factory=list)
    gone: list[Moved] = field(default_factory=list)
    relabelled: list[Relabelled] = field(default_factory=list)
    resplit: list[Resplit] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    def compare(self, clip_id: str, old: _Brief, new: _Brief) -> None:
        """Note how a clip of A and of B differ."""
        if new.split is None:
            if old.split is not None:
                self.gone.append(Moved(clip_id, old.split, new.reason, old.present))
            elif old.reason != new.reason:
                self.reasons[old.reason, new.reason] += 1
        elif old.split is None:
            self.added.append(Moved(clip_id, new.split, old.reason, new.present))
        else:
            if old.split != new.split:
                self.resplit.append(Resplit(clip_id, old.split, new.split))
            if old.pcm != new.pcm:
                self.changed.append(Changed(clip_id, new.split, _how(old, new)))
            if old.labels != new.labels:
                self.relabelled += _relabelled(clip_id, new.split, json.loads(old.labels), json.loads(new.labels))


def compare(a: Manifest, b: Manifest, same_sound: SameSound | None = None) -> Difference:
    """Compare two versions.

    Args:
        a: the earlier version.
        b: the later one.
        same_sound: judges clips whose samples differ from upstream on, where a manifest has no
            sketches; None: they stay "unheard".

    Raises:
        IntegrityError: a clip row cannot be read; `verify` says more.
    """
    before = {row["id"]: _brief(row) for row in a.clip_rows()}
    found = _Found()
    splits: dict[str, Counter[str]] = {"a": Counter(), "b": Counter()}
    present: dict[str, Counter[tuple[str, str]]] = {"a": Counter(), "b": Counter()}
    for old in before.values():
        _count(old, splits["a"], present["a"])
    for row in b.clip_rows():
        new = _brief(row)
        _count(new, splits["b"], present["b"])
        found.compare(row["id"], before.pop(row["id"], _NO_ROW), new)
    for clip_id, old in before.items():
        found.compare(clip_id, old, _NO_ROW)
    return Difference(
        _side(a, splits["a"]),
        _side(b, splits["b"]),
        tuple(sorted(found.added)),
        tuple(sorted(found.gone)),
        tuple(sorted(_listened(found.changed, same_sound))),
        tuple(sorted(found.relabelled, key=lambda one: (one.id, one.instrument))),
        tuple(sorted(found.resplit)),
        tuple(sorted((was, now, count) for (was, now), count in found.reasons.items())),
        tuple(_balance(a, b, splits, present)),
        tuple(_settings(a.content, b.content)),
    )


def _listened(changed: Sequence[Changed], same_sound: SameSound | None) -> list[Changed]:
    """Add the verdict of `same_sound` to changed clips that were unheard."""
    unheard = frozenset(one.id for one in changed if one.how == "unheard")
    heard = same_sound(unheard) if same_sound is not None and unheard else {}
    verdicts = {clip_id: "equivalent" if alike else "other" for clip_id, alike in heard.items()}
    return [replace(one, how=verdicts.get(one.id, one.how)) for one in changed]


NOTES_DIGITS = 12  # of their digest, shown to people


def _brief(row: ClipRow) -> _Brief:
    if row["status"] != "kept":
        return _Brief(None, sys.intern(row["reason"]), "", "", "", "", ())
    audio, labels = row["audio"], row["labels"]
    present = tuple(sorted(name for name, label in labels.items() if label[0] == PRESENT))
    if "notes_sha256" in row:  # other notes are a label that changed: its confidence says nothing, its origin all
        labels = {**labels, "notes": [PRESENT, None, f"score:{row['notes_sha256'][:NOTES_DIGITS]}"]}
    if "track_sha256" in row:  # likewise
        labels = {**labels, "track": [PRESENT, None, f"song:{row['track_sha256'][:NOTES_DIGITS]}"]}
    pcm, native, sketch = audio["pcm_sha256"], audio["native_sha256"], audio.get("sketch", "")
    return _Brief(sys.intern(row["split"]), "", pcm, native, sketch, canonical_json(labels), present)


def _how(old: _Brief, new: _Brief) -> str:
    """Name the kind of change of other samples, as far as the manifests know."""
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
    """Yield what differs in the manifests but follows from no clip: recipe, tools, sources, classes."""
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
