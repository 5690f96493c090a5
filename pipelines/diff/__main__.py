"""Tell what differs between two versions of a dataset, clip by clip and setting by setting.

    python -m pipelines.diff build/ultimate/versions/0c1d... build/ultimate
    python -m pipelines.diff manifests/sample build/sample --markdown

Takes manifests, version folders or output roots. Exit code 0, whatever differs: thresholds are the
recipe's, and a build's to apply (`drift`).
"""

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from tutti.datasets.command import Parser, run_command
from tutti.datasets.manifest import canonical_json
from tutti.pipelines.diff.compare import compare
from tutti.pipelines.verify.findings import open_manifest

MAX_HEARD = 1_000  # changed clips that the command compares by ear unless told: half a minute


def build_parser() -> Parser:
    """Build the parser of all flags."""
    parser = Parser("python -m pipelines.diff", "What differs between two versions of a dataset.")
    parser.add_argument("a", metavar="A", type=Path, help="manifest, version folder or output root: before")
    parser.add_argument("b", metavar="B", type=Path, help="the same: after")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object with every clip")
    form.add_argument("--markdown", action="store_true", help="for a pull request or a change log")
    parser.add_argument("--listen", metavar="N", type=int, default=MAX_HEARD, help="decode up to N changed clips")
    return parser


def run(arguments: argparse.Namespace) -> str:
    """Write the report that a parsed command line asks for."""
    from tutti.pipelines.diff.report import markdown, text
    from tutti.pipelines.diff.sound import listener

    a, b = open_manifest(arguments.a), open_manifest(arguments.b)
    difference = compare(a, b, listener(a, b, arguments.listen))
    if arguments.json:
        return canonical_json(difference.as_json())
    return markdown(difference) if arguments.markdown else text(difference)


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    print(run(build_parser().parse_args(argv)))
    return 0


if __name__ == "__main__":
    gc.disable()  # rows hold no cycles; looking for some costs a quarter of the time
    sys.exit(main(sys.argv[1:]))
