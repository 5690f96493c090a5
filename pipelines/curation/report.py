"""Report of curation, as tables beside the manifest: `report/curation.parquet` and `report/curation.json`.

One row per clip: the corpus, what it was labelled, its quality and rank in its source, whether it was
dropped and what would fit better, the guitar's pseudo-label, and two coordinates of its embedding.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tutti.datasets.files import write_file
from tutti.datasets.manifest import canonical_json
from tutti.datasets.record import PRESENT
from tutti.pipelines.rows import ClipSummary, Curation

MAX_FITTED = 5_000  # clips that decide the axes; more turn them little


def write_report(
    folder: Path,
    found: Curation,
    given: Mapping[str, tuple[str, str]],
    instruments: Sequence[str],
    vector: Callable[[str], NDArray[np.float32]],
) -> None:
    """Write both files.

    Args:
        folder: is created.
        found: the curation; its clips are sorted by id and have embeddings.
        given: id -> the label in question and what would fit better.
        instruments: names for the presence vectors.
        vector: reads an embedding by its blob.
    """
    clips = found.clips
    rank = ranks(clips, found.quality)
    places = principal_axes([clip.embedding or "" for clip in clips], vector)
    columns: dict[str, list[Any]] = defaultdict(list)
    for clip, place in zip(clips, places, strict=True):
        doubted, better = given.get(clip.id, (None, None))
        guitar = found.labels.get(clip.id, {}).get("electric_guitar")
        row = {
            "id": clip.id,
            "source": clip.source,
            "partition": clip.partition,
            "present": [n for n, value in zip(instruments, clip.presence, strict=True) if value == PRESENT],
            "quality": found.quality.get(clip.id),
            "rank": rank.get(clip.id),
            "doubted": clip.id in found.doubts,
            "given": doubted,
            "suggested": better,
            "pseudo": sorted(found.labels.get(clip.id, {})),
            "electric_confidence": None if guitar is None else guitar.confidence,
            "pca_1": float(place[0]),
            "pca_2": float(place[1]),
        }
        for name, value in row.items():
            columns[name].append(value)
    schema = pa.schema(
        [("id", pa.string()), ("source", pa.string()), ("partition", pa.string()), ("present", pa.list_(pa.string())),
         ("quality", pa.float32()), ("rank", pa.int32()), ("doubted", pa.bool_()), ("given", pa.string()),
         ("suggested", pa.string()), ("pseudo", pa.list_(pa.string())), ("electric_confidence", pa.float32()),
         ("pca_1", pa.float32()), ("pca_2", pa.float32())]
    )  # fmt: skip
    stream = io.BytesIO()
    pq.write_table(pa.table(dict(columns), schema=schema), stream)
    write_file(folder / "curation.parquet", stream.getvalue(), durable=False)
    content = dict(found.report) | {"drops": drop_table(clips, found.doubts, instruments)}
    write_file(folder / "curation.json", (canonical_json(content) + "\n").encode(), durable=False)


def ranks(clips: Sequence[ClipSummary], quality: Mapping[str, float]) -> dict[str, int]:
    """Compute the place of each scored clip in its source, the worst first (Lumen 2023's rank plots)."""
    order = sorted((clip.source, quality[clip.id], clip.id) for clip in clips if clip.id in quality)
    seen: Counter[str] = Counter()
    result = {}
    for source, _, clip_id in order:
        result[clip_id] = seen[source]
        seen[source] += 1
    return result


def drop_table(
    clips: Sequence[ClipSummary], doubts: Mapping[str, str], instruments: Sequence[str]
) -> dict[str, dict[str, list[int]]]:
    """Count, by source and instrument, [dropped, all] of the clips where it is present (Lumen 2023's removals)."""
    table: dict[str, dict[str, list[int]]] = defaultdict(lambda: {name: [0, 0] for name in instruments})
    for clip in clips:
        for name, value in zip(instruments, clip.presence, strict=True):
            if value == PRESENT:
                table[clip.source][name][0] += clip.id in doubts
                table[clip.source][name][1] += 1
    return dict(table)


def principal_axes(blobs: Sequence[str], vector: Callable[[str], NDArray[np.float32]]) -> NDArray[np.float64]:
    """Compute coordinates (N, 2) on the first two principal axes of the standardized embeddings.

    The axes are fitted on evenly spaced clips; each points where its largest loading is positive. Coordinates have one
    decimal, for pictures: the last bits of embeddings, which processors disagree about, do not show.
    """
    step = max(1, len(blobs) // MAX_FITTED)
    sample = np.stack([vector(blob) for blob in blobs[::step]]).astype(np.float64)
    center, spread = sample.mean(0), np.maximum(sample.std(0), 1e-6)
    _, _, axes = np.linalg.svd((sample - center) / spread, full_matrices=False)
    if len(axes) < 2:
        return np.zeros((len(blobs), 2))
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    return np.array([((vector(blob) - center) / spread) @ axes.T for blob in blobs]).round(1)
