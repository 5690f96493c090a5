"""Do clips whose samples differ still sound the same? Re-encoded upstream, or other audio.

Only the changed clips are decoded, from the shards of both versions, and compared by fingerprint,
by the limits that `near_duplicates` measured for copies.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.audio import resample, to_int16
from tutti.datasets.manifest import Manifest
from tutti.datasets.shard import open_shard, shard_table
from tutti.datasets.shard_audio import decode_audio
from tutti.pipelines.curation.fingerprint import SAMPLE_RATE, fingerprint
from tutti.pipelines.curation.near_duplicates import NearDuplicateConfig, confirm
from tutti.pipelines.diff.difference import SameSound

OFFSETS = range(-6, 7)  # hops of 16 ms: codecs delay by up to 50 ms, and containers round to 20 ms
# Nearly all of the clip: a copy that begins elsewhere is another excerpt.
LIMITS = NearDuplicateConfig(min_overlap_share=0.9, min_overlap_s=60.0)

MAX_SECONDS = 1_800  # longest clip that is heard
COLUMNS = ["id", "audio", "sample_rate", "num_samples"]


def listener(a: Manifest, b: Manifest, max_clips: int) -> SameSound | None:
    """Return the judge of changed clips: the first `max_clips` by id; None where a version's shards are not here."""
    if max_clips < 1 or not all(side.path(info.path).is_file() for side in (a, b) for info in side.shards()):
        return None

    def same_sound(ids: AbstractSet[str]) -> Mapping[str, bool]:
        chosen = frozenset(sorted(ids)[:max_clips])
        after = dict(stored_samples(b, chosen))
        return {
            clip_id: sounds_alike(before, after[clip_id])
            for clip_id, before in stored_samples(a, chosen)
            if clip_id in after
        }

    return same_sound


def sounds_alike(a: NDArray[np.int16], b: NDArray[np.int16]) -> bool:
    """Whether two clips (num_samples,) at 16 kHz hold the same audio from end to end."""
    if min(a.size, b.size) < LIMITS.min_overlap_share * max(a.size, b.size):
        return False
    prints = {"a": fingerprint(a), "b": fingerprint(b)}
    return confirm("a", "b", prints, list(OFFSETS), LIMITS) is not None


def stored_samples(manifest: Manifest, ids: AbstractSet[str]) -> Iterator[tuple[str, NDArray[np.int16]]]:
    """Yield id and samples at 16 kHz of some clips, in the order of the shards; other audio is not read.

    Raises:
        IntegrityError: a clip cannot be decoded.
    """
    for info in manifest.shards():
        path = manifest.shard_file(info)
        with open_shard(path) as shard:
            for group in range(shard.num_row_groups):
                here = shard_table(shard, path, ["id"], group=group).column("id").to_pylist()
                if not ids.isdisjoint(here):
                    rows = shard_table(shard, path, COLUMNS, group=group).to_pylist()
                    yield from ((row["id"], _decoded(row)) for row in rows if row["id"] in ids and _is_short(row))


def _is_short(row: Mapping[str, Any]) -> bool:
    """Whether a clip is compared: fingerprints take several times its samples."""
    return bool(row["num_samples"] <= MAX_SECONDS * row["sample_rate"])


def _decoded(row: Mapping[str, Any]) -> NDArray[np.int16]:
    sample_rate = row["sample_rate"]
    samples = decode_audio(row["id"], row["audio"]["bytes"], sample_rate, row["num_samples"])
    if sample_rate == SAMPLE_RATE:
        return samples
    return to_int16(resample(samples.astype(np.float32) / np.float32(32768), sample_rate, SAMPLE_RATE))
