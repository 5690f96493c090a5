"""What differs between two versions of a dataset, clip by clip and setting by setting."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datasets.manifest import ClipRow, Manifest, canonical_json
from datasets.record import PRESENT, SPLITS
from datasets.sketch import MAX_DISTANCE, distance
from pipelines.diff.difference import (
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
