"""Tables of clips with one instrument, of a build, and which of them are known to be mislabelled."""

import io
from typing import Any

import numpy as np
import soundfile

from benchmarks.labels.noise import Bools
from tutti.datasets.manifest import Manifest
from tutti.datasets.shard import read_shard
from tutti.pipelines.curation.crossfit import Table
from tutti.pipelines.embedders import Embedder, builtin, embed
from tutti.pipelines.embedders.logmel import LogMelEmbedder


def embedded(manifest: Manifest) -> dict[str, Table]:
    """Embed the clips with one instrument, of IRMAS train and AudioSet, with each embedder that needs no download."""
    rows = single_instrument_clips(manifest)
    waveforms = [soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")[0] for row in rows]
    presence = np.array([row["presence"] for row in rows], np.int8)
    ids, groups = tuple(row["id"] for row in rows), tuple(row["group"] for row in rows)
    embedders: dict[str, Embedder] = {"logmel": LogMelEmbedder(), "builtin": builtin.load()}
    vectors = {name: embed(embedder, waveforms) for name, embedder in embedders.items()}
    return {name: Table(ids, groups, vector, presence) for name, vector in vectors.items()}


def single_instrument_clips(manifest: Manifest) -> list[dict[str, Any]]:
    """Read the shard rows of IRMAS train and AudioSet."""
    partitions = {row["id"]: (row["source"], row["partition"]) for row in manifest.clip_rows()}
    return [
        row
        for info in manifest.shards()
        for row in read_shard(manifest.shard_file(info), ["id", "group", "presence", "audio"])
        if partitions[row["id"]] == ("irmas", "train") or partitions[row["id"]][0] == "audioset"
    ]


def upstream_key(clip_id: str) -> str:
    """Parse the key of `source/key@start`."""
    return clip_id.split("/", 1)[1].rpartition("@")[0]


def known_wrong(table: Table, truth: dict[str, Any] | None) -> Bools:
    """Mask the clips that a mirror's TRUTH.json calls mislabelled."""
    names = set() if truth is None else set(truth["irmas_mislabelled"]) | set(truth["audioset_mislabelled"])
    return np.array([upstream_key(clip_id) in names for clip_id in table.ids])
