"""Build a dataset: upstream archives in, Parquet shards with a manifest out.

    python -m pipelines.build --dataset ultimate --mirror sample --embedder logmel

The flow is in `flow.py`. A build of which nothing has changed ends before Beam is imported. All flags: `--help`.
"""

import sys
from collections.abc import Sequence

from tutti.datasets.command import run_command
from tutti.pipelines.build.arguments import parse
from tutti.pipelines.build.unchanged import summary_if_unchanged
from tutti.pipelines.engine.code import code_digest, code_files
from tutti.pipelines.engine.heap import configure_allocator, skip_final_gc


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    unread = "nobody reads stdout any more; what was built is published"
    return run_command(_command, argv, then="then run the build again", unread=unread)


def _command(argv: Sequence[str]) -> int:
    arguments, beam_flags = parse(argv)
    if (answer := summary_if_unchanged(arguments, beam_flags)) is not None:
        print(answer, flush=True)
        return 0
    code_digest(code_files())  # as it is before it runs: it may be edited meanwhile
    configure_allocator()
    skip_final_gc()
    from tutti.pipelines.build.job import command  # Beam takes seconds to import

    return command(arguments, beam_flags)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
