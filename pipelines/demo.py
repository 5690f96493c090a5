"""The whole path on the built-in sample, offline: build, verify, train, evaluate, and a table.

    make demo

Runs the same three commands that a user would, and shows them. Writes build/demo and runs/demo.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutti import IN_CHECKOUT, as_typed
from tutti.datasets.command import Parser, run_command
from tutti.datasets.manifest import Manifest, read_manifest
from tutti.datasets.record import SPLITS

BUILD = Path("build/demo")
RUN = Path("runs/demo")


def step(module: str, *arguments: str) -> str:
    """Run one of our commands, shown as a user would type it; its stdout.

    Raises:
        subprocess.CalledProcessError: it failed; its error is on stderr already.
    """
    print(as_typed(f"\n$ python -m {module} {shlex.join(arguments)}"), file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"tutti.{module}", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def clips_table(manifest: Manifest) -> str:
    """Format clips per source and split, and rejects by reason."""
    counts = manifest.content["counts"]
    lines = [f"{'source':12}" + "".join(f"{split:>12}" for split in SPLITS) + f"{'not kept':>12}"]
    for source, entry in counts["sources"].items():
        lost = sum(entry["reasons"].values())
        lines.append(f"{source:12}" + "".join(f"{entry['splits'].get(s, 0):>12}" for s in SPLITS) + f"{lost:>12}")
    total = "".join(f"{counts['splits'][split]:>12}" for split in SPLITS)
    lines.append(f"{'all':12}{total}{sum(counts['rejected'].values()):>12}")
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(counts["rejected"].items()))
    return "\n".join([*lines, "", f"not kept: {reasons}"])


def scores_table(test: dict[str, Any]) -> str:
    """Format the test F1 of the model beside that of the best constant predictor."""
    lines = [f"{'test':12}{'model':>12}{'constant':>12}"]
    for name in ("macro_f1", "micro_f1"):
        lines.append(f"{name:12}{test['model'][name]:>12.3f}{test['constant'][name]:>12.3f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code of the step that failed, or 0."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    Parser("python -m pipelines.demo", __doc__).parse_args(argv)
    try:
        step(
            "pipelines.build", "--dataset", "ultimate", "--mirror", "sample", "--embedder", "builtin",
            "--output", str(BUILD),
        )  # fmt: skip
        step("pipelines.verify", str(BUILD))
        trained = step("train.run", "--data", str(BUILD), "--recipe", "logmel_cnn", "--output", str(RUN))
    except subprocess.CalledProcessError as error:
        print(f"error: the demo stopped at {shlex.join(error.cmd[1:])}", file=sys.stderr)
        return error.returncode if error.returncode > 0 else 128 - error.returncode  # of a signal
    manifest = read_manifest(BUILD)
    summary = json.loads(trained.splitlines()[-1])
    print(f"\n{clips_table(manifest)}\n\nroot digest {manifest.root_digest}\n")
    print(scores_table(summary["test"]))
    print("(threshold fixed on validation; constant: the best prediction that ignores the audio)")
    python = ".venv/bin/python" if IN_CHECKOUT else "python"
    print(as_typed(f"\nnext, hear what the model hears: {python} -m train.predict --run {RUN} YOUR_AUDIO.wav"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
