"""Decisions of an earlier version of a dataset, and the relation of a new one to it.

Splits are sticky: a song that was in a split stays there, so that results on the evaluation clips of one version can
be compared with those of the next. The release number is semantic in the sense of TensorFlow Datasets: major where
clips, splits, audio or labels changed, minor where other fields of the rows did, patch where only bytes or
settings did.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutti.datasets.manifest import Manifest, read_manifest
from tutti.datasets.record import SPLITS

FIRST_RELEASE = "1.0.0"
LINEAGE = ("parent", "release")  # fields of manifest.json


@dataclass(frozen=True)
class KnownSplits:
    """Splits of an earlier version."""

    clips: Mapping[str, str] = field(default_factory=dict)  # id -> split
    groups: Mapping[str, str] = field(default_factory=dict)  # likewise; where a group's clips are new, it still counts

    def of(self, members: Iterable[tuple[str, str]]) -> set[str]:
        """Find the splits in which clips, given as (id, group), were; those of their groups if no clip is known."""
        pairs = list(members)
        by_clip = {self.clips[clip_id] for clip_id, _ in pairs if clip_id in self.clips}
        return by_clip or {self.groups[group] for _, group in pairs if group in self.groups}


def known_splits(version: Path | None) -> KnownSplits:
    """Read the splits of a version folder; empty where there is none."""
    if version is None:
        return KnownSplits()
    clips: dict[str, str] = {}
    groups: dict[str, str] = {}
    for row in read_manifest(version).clip_rows():
        if row["status"] == "kept":
            clips[row["id"]] = row["split"]
            groups[row["group"]] = max(row["split"], groups.get(row["group"], SPLITS[0]), key=SPLITS.index)
    return KnownSplits(clips, groups)


def lineage(content: Mapping[str, Any], parent: Manifest | None) -> dict[str, Any]:
    """Choose `release` and `parent` of a new manifest.

    One that says the same as its parent has the parent's: a rebuild of which nothing came is the same version.

    Args:
        content: of the new manifest, without these fields.
        parent: the earlier version; an incomplete one counts as none.
    """
    if parent is None or "incomplete" in parent.content:
        return {"release": FIRST_RELEASE, "parent": None}
    before = parent.content
    release = str(before.get("release", FIRST_RELEASE))
    if dict(content) == {name: value for name, value in before.items() if name not in LINEAGE}:
        return {"release": release, "parent": before.get("parent")}
    identity = {"root_digest": parent.root_digest, "version": parent.version, "release": release}
    return {"release": next_release(release, _change(content, before)), "parent": identity}


def _change(content: Mapping[str, Any], before: Mapping[str, Any]) -> int:
    if content["root_digest"] != before["root_digest"]:
        return 0
    fields = ("schema_version", "instruments", "clips")
    return 1 if any(content[name] != before[name] for name in fields) else 2


def next_release(release: str, place: int) -> str:
    """Raise the major (0), minor (1) or patch (2) number of `1.4.2`: `2.0.0`, `1.5.0`, `1.4.3`."""
    numbers = [int(number) for number in release.split(".")]
    numbers[place] += 1
    return ".".join(str(number) for number in [*numbers[: place + 1], *([0] * (2 - place))])
