"""Write the built-in sample: `python -m datasets.sample ROOT [--seed N] [--scale N] [--workers N]`."""

import argparse
import sys
from pathlib import Path

from datasets.errors import TuttiError
from datasets.sample import write_sample_mirror


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and write; answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m datasets.sample", description=__doc__)
    parser.add_argument("root", type=Path, help="folder to write the mirror to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, default=1, help="factor on the number of songs, tracks and videos")
    parser.add_argument("--workers", type=int, default=None, help="processes; default: one per processor")
    options = parser.parse_args(arguments)
    try:
        write_sample_mirror(options.root, seed=options.seed, scale=options.scale, workers=options.workers)
    except TuttiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {options.root} cannot be written ({error})", file=sys.stderr)
        return 74
    return 0


if __name__ == "__main__":
    sys.exit(main())
