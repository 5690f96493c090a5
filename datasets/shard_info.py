"""Entries of manifests for shards, and labels as digests cover them: without Arrow, which takes a tenth of a second."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tutti.datasets.record import Labels


@dataclass(frozen=True)
class ShardInfo:
    """The manifest's entry for one shard."""

    path: str  # relative to the version folder
    split: str
    num_rows: int
    num_bytes: int
    sha256: str  # of the file: changes with the writer's version
    content_sha256: str  # of sorted (id, PCM digest, labels, notes if any): changes with the content only


def canonical_labels(labels: Labels, instruments: Sequence[str]) -> list[list[Any]]:
    """Sort known labels as [instrument, presence, confidence, origin], the form that digests cover."""
    classes = _as_set(tuple(instruments))
    return [
        [name, label.presence, None if label.confidence is None else round(label.confidence, 6), label.origin]
        for name, label in sorted(labels.items())
        if name in classes
    ]


@functools.lru_cache(maxsize=4)
def _as_set(instruments: tuple[str, ...]) -> frozenset[str]:
    return frozenset(instruments)  # of a thousand classes, for every row
