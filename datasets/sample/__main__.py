"""Write the built-in sample: `python -m datasets.sample ROOT [--seed N] [--scale N] [--workers N]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tutti.datasets.command import Parser, run_command
from tutti.datasets.sample import write_sample_mirror


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m datasets.sample", __doc__)
    parser.add_argument("root", type=Path, help="folder to write the mirror to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, default=1, help="factor on the number of songs, tracks and videos")
    parser.add_argument("--workers", type=int, default=None, help="processes; default: one per processor")
    options = parser.parse_args(arguments)
    write_sample_mirror(options.root, seed=options.seed, scale=options.scale, workers=options.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
