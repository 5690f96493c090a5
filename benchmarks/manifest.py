"""The size of a manifest of 200,000 clips: its bytes, what git keeps of them, and what a change of 1 % adds.

    python -m benchmarks.manifest --output benchmarks/results/manifest.json

The rows are those of manifests/sample that have audio, drawn in the proportions that `ultimate` has at that size
(IRMAS 9,579, OpenMIC-2018 20,000, the rest AudioSet), each with an id, digests and measured values of its own, so that
nothing packs better than it would. The limit is what no format can do without: digests and sketch as bare bytes.
"""

import argparse
import base64
import collections
import copy
import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tutti.datasets.clip_line import DIGEST_DIGITS, ClipRow, encode
from tutti.datasets.manifest import bucket_of, canonical_json, clips_path, file_sha256, read_clip_rows

SAMPLE = Path("manifests/sample")
NUM_CLIPS = 200_000
NUM_IRMAS, NUM_OPENMIC = 6_705 + 2_874, 20_000
CHANGED = 100  # one clip in so many has other audio in the second version
MAX_RAW_MB, MAX_PACKED_MB = 80, 25  # what we ask of ourselves
DIGEST_BYTES = 32 + DIGEST_DIGITS + 8  # stored PCM, native PCM and source, sketch


def draw_rows(num_clips: int, rng: np.random.Generator) -> list[ClipRow]:
    """Draw rows of a dataset of that size."""
    by_source: dict[str, list[ClipRow]] = collections.defaultdict(list)
    for path in sorted((SAMPLE / "manifest" / "clips").glob("*.jsonl")):
        for row in read_clip_rows(path):
            if "audio" in row:  # without, a row is half as long
                by_source[row["source"]].append(row)
    wanted = {"irmas": NUM_IRMAS * num_clips // NUM_CLIPS, "openmic2018": NUM_OPENMIC * num_clips // NUM_CLIPS}
    wanted["audioset"] = num_clips - sum(wanted.values())
    return [
        _another(by_source[source][int(rng.integers(len(by_source[source])))], number, rng)
        for source, count in sorted(wanted.items())
        for number in range(count)
    ]


def _another(row: ClipRow, number: int, rng: np.random.Generator) -> ClipRow:
    """Make the row of another clip of that kind."""
    row = copy.deepcopy(row)
    old = row["recording"]
    if row["source"] == "audioset":
        new = base64.urlsafe_b64encode(rng.bytes(8)).decode()[:11]
        row["group"] = row["group"].replace(old, new)
    elif row["source"] == "openmic2018":
        new = f"{number:06d}_{int(rng.integers(300_000))}"
    else:
        new = old.replace(".wav", f"{number:05d}.wav")
        row["group"] += f"{number // 3:04d}"
    row["id"], row["recording"] = row["id"].replace(old, new), new
    for label in row["labels"].values():
        label[1] = label[1] and round(float(rng.random()), 6)
    if "quality" in row:
        row["quality"] = round(float(rng.random()), 4)
    row["audio"] |= _measured(rng)
    return row


def _measured(rng: np.random.Generator) -> Any:
    return {
        "pcm_sha256": rng.bytes(32).hex(),
        "native_sha256": rng.bytes(DIGEST_DIGITS // 2).hex(),
        "source_sha256": rng.bytes(DIGEST_DIGITS // 2).hex(),
        "sketch": rng.bytes(8).hex(),
        "loudness_lufs": round(float(rng.uniform(-16, -12)), 3),
        "gain_db": round(float(rng.uniform(-5, 25)), 2),
        "true_peak_dbtp": round(float(rng.uniform(-4, -1)), 3),
        "silence_share": round(float(rng.uniform(0, 0.3)), 4),
    }


def write_rows(folder: Path, rows: Iterable[ClipRow]) -> int:
    """Write the files of clip rows; their bytes."""
    buckets: dict[str, list[ClipRow]] = {f"{number:02x}": [] for number in range(256)}
    for row in rows:
        buckets[bucket_of(row["id"])].append(row)
    total = 0
    for name, members in buckets.items():
        path = folder / clips_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = {row["id"]: encode(row) + "\n" for row in members}  # an id that was drawn twice counts once
        content = "".join(lines[clip_id] for clip_id in sorted(lines)).encode()
        path.write_bytes(content)
        total += len(content)
    return total


def packed_bytes(folder: Path) -> int:
    """Measure what git keeps of everything committed so far, packed afresh, in bytes."""
    run = ["git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-q", "-m", "manifest"],
        ["repack", "-a", "-d", "-f", "-q"],
    ):
        subprocess.run([*run, *command], check=True)
    return sum(path.stat().st_size for path in folder.glob(".git/objects/pack/*.pack"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them to `--output`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, help="rows of the manifest")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn values")
    parser.add_argument("--output", type=Path, help="also write the figures here, as JSON")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    rows = draw_rows(options.clips, rng)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        raw = write_rows(folder, rows)
        packed = packed_bytes(folder)
        for row in rows[::CHANGED]:
            row["audio"] |= _measured(rng)
        write_rows(folder, rows)
        added = packed_bytes(folder) - packed
    figures: dict[str, Any] = {
        "sample": file_sha256(SAMPLE / "manifest" / "manifest.json")[:12],
        "clips": len(rows),
        "raw_mb": raw / 1e6,
        "packed_mb": packed / 1e6,
        "digests_alone_mb": len(rows) * DIGEST_BYTES / 1e6,
        "named_fields_raw_mb": sum(len(canonical_json(row).encode()) + 1 for row in rows) / 1e6,
        "changed_clips": len(rows[::CHANGED]),
        "added_by_change_mb": added / 1e6,
    }
    print(f"{len(rows):,} clips: {raw / 1e6:.1f} MB raw (asked: {MAX_RAW_MB}), {packed / 1e6:.1f} MB packed by git")
    print(f"(asked: {MAX_PACKED_MB}); the digests alone are {figures['digests_alone_mb']:.1f} MB, ratio", end=" ")
    print(
        f"{packed / 1e6 / figures['digests_alone_mb']:.2f}; with named fields {figures['named_fields_raw_mb']:.1f} MB"
    )
    print(f"a change of {100 / CHANGED:.0f} % of the clips adds {added / 1e6:.2f} MB, {added / packed:.1%}")
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
