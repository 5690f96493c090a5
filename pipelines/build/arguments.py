"""The command line of `pipelines.build`: our flags, and the rest for Beam."""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path

from tutti.datasets.addresses import Credentials, shown, split_credentials
from tutti.datasets.command import Parser
from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import read_manifest

# A frozen build takes these from its manifest.
FIXED_BY_MANIFEST = ("limit", "seed", "embedder", "set", "parent", "exclude", "overrides")

EPILOG = """
examples:
  python -m pipelines.build --dataset ultimate --mirror sample --embedder logmel    no network, a minute
  python -m pipelines.build --dataset irmas --limit 200 --dry-run       what would be done
  python -m pipelines.build --dataset folder --data-from ~/my-clips     your own audio and labels.csv
  python -m pipelines.build --dataset composed                          music made here: exact notes and labels
  python -m pipelines.build --dataset audioset --data-from ~/audioset   what you have; the rest from YouTube
  python -m pipelines.build --dataset ultimate --direct-running-mode multi_processing --direct-num-workers 8

--set, once for each change; a value in JSON is understood too:
  clean.min_duration_s=0.5   outliers.fit.folds=5   irmas.others=absent
  outliers.fixed_cutoffs=irmas:0.13,audioset:0.11   or one of them: outliers.fixed_cutoffs.irmas=0.13
  split.rules.irmas/test=train:0.5,validation:0.5   or all: "split.rules=irmas/*:train; openmic2018/*:test"

exit codes: 0 done, 1 internal error, 2 usage, 3 integrity, 4 drift beyond the recipe's thresholds, 5 yield too low,
74 disk or network, 75 try later (another build holds the output, a site refuses, workers died, nothing moves),
130/143 interrupted
"""


def build_parser() -> Parser:
    """Build the parser of the build command."""
    what = "Build a dataset: upstream archives in, Parquet shards with a manifest out."
    parser = Parser("python -m pipelines.build", what, EPILOG, passes_on=True)
    add = parser.add_argument
    add("--dataset", metavar="NAME", help="the recipe: ultimate, lumen, irmas, folder, composed, ...; --list shows all")
    add("--list", action="store_true", help="print all recipes and sources with size and licence, then stop")
    add("--formats", action="store_true", help="print which audio files are read, and how each is verified, then stop")
    add("--mirror", metavar="sample|PATH|URL", help="read every URL at ROOT/<host>/<path>; sample: the built-in one")
    add("--output", metavar="DIR", type=Path, help="output root (default: build/NAME)")
    add("--cache-dir", metavar="DIR", type=Path, help="cache (default: $TUTTI_CACHE_DIR or ~/.cache/tutti)")
    add("--data-from", metavar="DIR", action="append", default=[], help="archives or audio you have; repeatable")
    add("--limit", metavar="N", type=int, help="only N recordings per source, drawn by digest")
    add("--seed", metavar="N", type=int, help="seed of the split (default: the recipe's)")
    add("--embedder", metavar="ast|logmel|builtin|none|PATH", help="hears the clips for curation; none: no curation")
    add(
        "--set",
        metavar="STAGE.FIELD=VALUE",
        action="append",
        default=[],
        help="change one field of the recipe; see below",
    )
    add("--frozen", metavar="MANIFEST", type=Path, help="rebuild exactly what a manifest lists, and say how near it is")
    add("--parent", metavar="MANIFEST|none", help="keep the splits of this version (default: the current one)")
    add("--publish", metavar="DIR", type=Path, help="copy the verified version to DIR and swap its `current`")
    add("--replace", action="store_true", help="another dataset, or other classes, may take the place of what is there")
    add("--dry-run", action="store_true", help="print the plan and stop")
    add("--download-only", action="store_true", help="fill the cache and stop")
    add("--wait", metavar="S", type=float, default=0.0, help="seconds to wait for another build of this output")
    help = "seconds in which nothing moves before the build ends with 75 (default 1800; 0: never)"
    add("--stall-timeout", metavar="S", type=float, default=1800.0, help=help)
    add("--max-errors", metavar="SHARE", type=float, help="clips that may fail unexpectedly (default 0.001)")
    add("--min-yield", metavar="SHARE", type=float, help="fail (5) where a source keeps a smaller share of its clips")
    add("--exclude", metavar="FILE", type=Path, action="append", default=[], help="ids or patterns to leave out")
    add("--overrides", metavar="FILE", type=Path, action="append", default=[], help="labels corrected by people, CSV")
    videos = parser.add_argument_group("YouTube", "for AudioSet without --mirror; none of this enters a manifest")
    add = videos.add_argument
    add("--videos-per-hour", metavar="N", type=float, help="budget of all builds together (default 240)")
    add("--retry-status", metavar="REASONS", help="ask again for: all, gone, pending, or reasons: geo,private,...")
    add("--cookies", metavar="FILE", help="cookies of a browser session, in Netscape format")
    add("--proxy", metavar="URL", help="http, https or socks proxy")
    add("--ytdlp", metavar="KEY=VALUE", action="append", default=[], help="option of yt_dlp.YoutubeDL; repeatable")
    add("--media-host", metavar="HOST", action="append", default=[], help="another host that may serve audio")
    add("--section-above", metavar="S", type=float, help="fetch only a part of longer videos (needs ffmpeg)")
    parser.add_argument_group("Beam", "every other flag goes to Apache Beam: --runner, --direct-num-workers, ...")
    return parser


def flag_names() -> list[str]:
    """List our flags, for suggestions."""
    return build_parser().flags()


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse our arguments; return them and the flags left for Beam.

    Raises:
        UsageError: a wrong value, or flags that do not go together.
    """
    arguments, rest = build_parser().parse_known_args(argv)
    arguments.credentials = Credentials()  # kept apart from here on: no message, file or digest holds them
    if re.match("https?://", arguments.mirror or "", re.IGNORECASE):
        try:
            arguments.mirror, arguments.credentials = split_credentials(arguments.mirror)
        except ValueError as error:
            raise UsageError(f"--mirror {shown(arguments.mirror)}: {error}") from None
    if arguments.frozen is not None and (given := [flag for flag in FIXED_BY_MANIFEST if getattr(arguments, flag)]):
        raise UsageError(f"--{given[0]}: --frozen takes everything from the manifest; leave one of the two out")
    if arguments.dataset is None and arguments.frozen is None and not (arguments.list or arguments.formats):
        if rest:  # --dataset itself perhaps, misspelt
            from tutti.pipelines.engine.beam_flags import refuse_unknown  # Beam takes seconds to import

            refuse_unknown(rest, flag_names())
        raise UsageError("--dataset NAME is missing; --list shows the names")
    for flag in ("min_yield", "max_errors"):
        share = getattr(arguments, flag)
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"--{flag.replace('_', '-')} {share}: expected a share between 0 and 1")
    if not 0 <= arguments.stall_timeout < math.inf:
        raise UsageError(f"--stall-timeout {arguments.stall_timeout}: expected seconds, 0 for never")
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"--limit {arguments.limit}: expected a positive number")
    return arguments, rest


def output_root(arguments: argparse.Namespace) -> Path:
    """Return the folder where the versions go.

    Raises:
        UsageError: --frozen names no manifest.
    """
    if arguments.output is not None:
        return Path(arguments.output)
    if arguments.frozen is not None:
        return Path("build") / f"{read_manifest(arguments.frozen).content['dataset']}-frozen"
    return Path("build") / str(arguments.dataset).replace("-", "_")
