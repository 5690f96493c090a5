"""Is this checkout slower than another one, on the paths that users take?

    python -m benchmarks.against [../other-checkout | REVISION] [--scale 4] [--repeats 5] [--output FILE]

Whole commands of both checkouts in turn, A B B A A B ..., each from caches of its own:

build      every stage, the downloads in the cache beforehand and no results
no-op      the same command again: nothing has changed
rebuild    the same without what the last build noted: every result is found in the cache
verify     every file and every row of the built version
epoch      one epoch of the demo's recipe from a version never read before: shards are checked, the hot copy is made

The ratio (this / other) is that of processor time (of the command and all that it started and waited for) and of wall
time, pair by pair, and the median counts: other users of the machine change its speed within minutes.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.build import MIXES
from tutti.datasets.sample import write_sample_mirror
from tutti.pipelines.build.unchanged import STATE

HERE = Path(__file__).resolve().parents[1]
PATHS = ("build", "no-op", "rebuild", "verify", "epoch")


@dataclass(frozen=True)
class Cost:
    """Time of one command."""

    wall_s: float
    cpu_s: float
    stages_s: Mapping[str, float]  # of a build, as its summary says


@dataclass(frozen=True)
class Side:
    """A checkout with folders of its own."""

    checkout: Path
    folder: Path
    mirror: Path

    def measure(self) -> dict[str, Cost]:
        """Run every path once, in their order; the first build of a side fills its downloads."""
        output, cache, downloads = self.folder / "output", self.folder / "cache", self.folder / "downloads"
        build = ["pipelines.build", "--dataset", "ultimate", "--embedder", "logmel", "--mirror", str(self.mirror)]
        build += ["--cache-dir", str(cache), "--output", str(output)]
        build += ["--set", "curate.guitars=false"]  # synthesized guitars are too few to learn their kinds from
        if not downloads.exists():
            self.run([*build, "--download-only"])
            shutil.move(cache, downloads)
        for old in (cache, output, self.folder / "run", self.folder / "hot"):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(downloads, cache, copy_function=os.link)
        costs = {"build": self.run(build), "no-op": self.run(build)}
        (output / STATE).unlink()
        costs["rebuild"] = self.run(build)
        costs["verify"] = self.run(["pipelines.verify", str(output)])
        train = ["train.run", "--data", str(output), "--recipe", "logmel_cnn", "--set", "epochs=1"]
        train += ["--set", "compute.threads=1"]
        train += ["--output", str(self.folder / "run"), "--hot-copy", str(self.folder / "hot")]
        costs["epoch"] = self.run(train)
        return costs

    def run(self, arguments: Sequence[str]) -> Cost:
        """Time `python -m ARGUMENTS` in the checkout.

        Raises:
            RuntimeError: it failed.
        """
        command = [sys.executable, "-m", *arguments]
        environment = {**os.environ, "TUTTI_CACHE_DIR": str(self.folder / "cache")}
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answered:
            start_s = time.perf_counter()
            process = subprocess.Popen(command, cwd=self.checkout, env=environment, stdout=answered, stderr=said)
            _, status, used = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - start_s
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise RuntimeError(f"{' '.join(command)}: {said.read().decode()[-2000:]}")
            answered.seek(0)
            *_, last = answered.read().decode().splitlines() or ["{}"]
        stages_s = json.loads(last).get("seconds", {}) if arguments[0] == "pipelines.build" else {}
        return Cost(wall_s, used.ru_utime + used.ru_stime, stages_s)


def compare(other: Path, scale: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Measure figures and ratios of every path.

    Args:
        other: root of the other checkout.
        scale: of the mirror; 4 is about 580 clips.
        repeats: pairs.
        folder: for everything that is written.
    """
    mirror = folder / "mirror"
    write_sample_mirror(mirror, seed=1, scale=scale, size=MIXES["real"])
    this, that = (Side(root.resolve(), folder / name, mirror) for name, root in (("this", HERE), ("that", other)))
    for side in (this, that):
        side.folder.mkdir()
        side.measure()  # warm files, compiled Python
    pairs = []
    for number in range(repeats):
        order = (this, that) if number % 2 == 0 else (that, this)
        costs = {side.folder.name: side.measure() for side in order}
        pairs.append((costs["this"], costs["that"]))
        print(json.dumps(_ratios(pairs)), file=sys.stderr, flush=True)
    return {"scale": scale, "repeats": repeats, "paths": _ratios(pairs)}


def _ratios(pairs: Sequence[tuple[dict[str, Cost], dict[str, Cost]]]) -> dict[str, Any]:
    found = {}
    for path in PATHS:
        both = [(this[path], that[path]) for this, that in pairs]
        stages = [name for name in both[0][0].stages_s if all(name in one.stages_s for pair in both for one in pair)]
        found[path] = {
            "cpu_ratio": round(statistics.median(this.cpu_s / that.cpu_s for this, that in both), 3),
            "wall_ratio": round(statistics.median(this.wall_s / that.wall_s for this, that in both), 3),
            "cpu_s": [
                round(statistics.median(costs), 2) for costs in zip(*((a.cpu_s, b.cpu_s) for a, b in both), strict=True)
            ],
            "wall_s": [
                round(statistics.median(costs), 2)
                for costs in zip(*((a.wall_s, b.wall_s) for a, b in both), strict=True)
            ],
        }
        found[path] |= (
            {
                "stages_s": {
                    name: [
                        round(statistics.median(costs), 2)
                        for costs in zip(*((a.stages_s[name], b.stages_s[name]) for a, b in both), strict=True)
                    ]
                    for name in stages
                }
            }
            if stages
            else {}
        )
    return found


def checkout_of(other: str, folder: Path) -> Path:
    """Find another checkout: a folder as it is, or a revision of this repository, unpacked into `folder`."""
    if Path(other).is_dir():
        return Path(other)
    archive = folder / "revision.tar"
    subprocess.run(["git", "archive", "--output", str(archive), other], cwd=HERE, check=True)
    shutil.unpack_archive(archive, folder / "revision")
    return folder / "revision"


def main(argv: Sequence[str]) -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", default="HEAD~1", help="root of another checkout, or a revision (HEAD~1)")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        other = checkout_of(arguments.other, Path(folder))
        report = compare(other, arguments.scale, arguments.repeats, Path(folder))
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
