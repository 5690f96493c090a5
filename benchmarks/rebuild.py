"""The cost of a rebuild: with nothing changed, with one clip changed, from the caches alone, and frozen.

    python -m benchmarks.rebuild [--scales 1 16] [--output benchmarks/results/rebuild.json]

Wall times of whole commands, start of Python included, on mirrors in about the real proportions of the corpora.
`unchanged` is answered from what the last build noted; `caches` is the same build without that note: every stage runs
over every row and finds its result. `one clip` has another recording under one video's name.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.build import MIXES
from tutti.datasets.files import write_file
from tutti.datasets.manifest import file_sha256, read_manifest
from tutti.datasets.sample import write_sample_mirror
from tutti.pipelines.build.unchanged import STATE


def main(argv: Sequence[str]) -> int:
    """Measure all scales, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    found = []
    for scale in arguments.scales:
        with tempfile.TemporaryDirectory() as temporary:
            found.append(measured(Path(temporary), scale))
        print(json.dumps(found[-1]), flush=True)
    if arguments.output:
        write_file(arguments.output, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
    return 0


def measured(folder: Path, scale: int) -> dict[str, Any]:
    """Measure the figures of one size."""
    mirror, output = folder / "mirror", folder / "out"
    size = MIXES["real"]
    names = ("train_songs_per_class", "test_songs", "openmic_tracks", "videos_per_class")
    write_sample_mirror(mirror, size=replace(size, **{name: getattr(size, name) * scale for name in names}))
    command = ["--mirror", str(mirror), "--cache-dir", str(folder / "cache")]
    build = ["--dataset", "ultimate", "--embedder", "none", "--output", str(output), *command]
    seconds, work = {}, {}
    seconds["full"], summary = timed(build)
    clips = summary["clips"]["kept"]
    seconds["unchanged"], work["unchanged"] = timed(build)
    (output / STATE).unlink()
    seconds["caches"], work["caches"] = timed(build)
    seconds["frozen"], frozen = timed(["--frozen", str(output), "--output", str(folder / "frozen"), *command])
    change_one_video(mirror, output)
    seconds["one clip"], work["one clip"] = timed(build)
    return {
        "scale": scale,
        "clips": clips,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "share_of_full": {name: round(value / seconds["full"], 4) for name, value in seconds.items()},
        "work": {name: summary["work"] for name, summary in work.items()},
        "frozen": frozen["frozen"],
    }


def change_one_video(mirror: Path, output: Path) -> None:
    """Put a video of other songs under the name of one that was kept."""
    others = mirror.with_name("others")
    write_sample_mirror(others, size=MIXES["real"], seed=99)
    videos = Path("www.youtube.com") / "watch"
    rows = (row for row in read_manifest(output).clip_rows() if row["source"] == "audioset")
    kept = min(row["recording"] for row in rows if row["status"] == "kept")
    target = next((mirror / videos).glob(f"{kept}.*"))
    source = max((others / videos).glob(f"*{target.suffix}"), key=lambda path: (path.stat().st_size, path.name))
    target.write_bytes(source.read_bytes())
    sums = mirror / "SHA256SUMS"
    if sums.exists():
        name = str(target.relative_to(mirror))
        lines = [line.split(maxsplit=1) for line in sums.read_text().splitlines()]
        changed = [f"{file_sha256(target) if path == name else digest}  {path}\n" for digest, path in lines]
        sums.write_text("".join(changed))


def timed(flags: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Time a build; return wall seconds and its summary."""
    start_s = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "pipelines.build", *flags], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start_s
    if result.returncode:
        raise SystemExit(result.stderr)
    summary: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return seconds, summary


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
