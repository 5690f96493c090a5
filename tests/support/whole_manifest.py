"""A whole manifest.json for tests: all that the schema asks for, with changes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tutti.datasets.manifest import digest_of
from tutti.datasets.record import SPLITS
from tutti.datasets.shard_info import ShardInfo


def manifest_content(
    infos: Sequence[ShardInfo] = (),
    instruments: Sequence[str] = ("cello", "flute"),
    corpora: Sequence[str] = ("fixture",),
    **changes: Any,
) -> dict[str, Any]:
    """Of a version with these shards and no clip rows."""
    splits = {split: sum(info.num_rows for info in infos if info.split == split) for split in SPLITS}
    name = changes.get("dataset", "fixture")
    recipe = {
        "name": name,
        "seed": 0,
        "sources": {corpus: {} for corpus in corpora},
        "split": {},
        "prepare": {"sample_rate": 16_000, "audio_format": "flac"},
        "write": {"rows_per_shard": 16, "rows_per_group": 4},
    }
    source = {"title": "Fixture", "homepage": "", "license": "CC0-1.0", "license_url": "", "citation": "", "files": []}
    return {
        "schema_version": 2,
        "dataset": name,
        "instruments": list(instruments),
        "recipe": recipe,
        "recipe_sha256": digest_of(recipe),
        "mirrored": False,
        "sources": dict.fromkeys(corpora, source),
        "tools": {"numpy": "2.0"},
        "counts": {
            "kept": sum(splits.values()),
            "rejected": {},
            "splits": splits,
            "sources": {corpora[0]: {"kept": sum(splits.values()), "reasons": {}, "splits": splits}},
            "present": {split: dict.fromkeys(instruments, 0) for split in SPLITS},
        },
        "split_certificate": {"groups": 0, "groups_in_two_splits": 0, "splitter": "counts", "pools": {}},
        "split_digest": "0" * 64,
        "root_digest": digest_of([info.content_sha256 for info in infos]),
        "shards": [asdict(info) for info in infos],
        "clips": [],
        **changes,
    }
