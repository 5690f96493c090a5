"""Look after the cache: `python -m pipelines.cache {list,verify,gc,forget,availability}`."""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import default_cache_folder, read_plain, remove
from tutti.datasets.manifest import digest_of
from tutti.datasets.printable import printable, readable
from tutti.datasets.streams import overwrite
from tutti.pipelines.acquisition.ledger import Availability, Ledger
from tutti.pipelines.cache import results
from tutti.pipelines.cache.contents import KINDS, Entry, blobs, derived_files, entries, is_garbage, needed_of
from tutti.pipelines.cache.contents import results as found_results
from tutti.pipelines.cache.soundness import DAMAGE, UNREADABLE, settled_sha256
from tutti.pipelines.cache.store import Cache

DAY_S = 86_400.0
GRACE_DAYS = 30.0  # a build that is resumed after the holidays finds everything
MAX_THREADS = 8  # more do not make one disk faster
BATCH = 1024  # files in the hands of the threads: memory stays flat
FIRST_USE = "first_use"  # stage of the checksums that nobody published
SHOWN_REASONS = ("fetched", "pending", "gone")

EPILOG = """
examples:
  python -m pipelines.cache list                                     what it holds, and how much
  python -m pipelines.cache verify                                   find damaged files; the next build heals
  python -m pipelines.cache gc --keep-builds build/* --dry-run       what nothing refers to
  python -m pipelines.cache forget http://host/labels.csv            accept a file that upstream replaced
  python -m pipelines.cache availability --status gone               which videos are no more

exit codes: 0 done, 2 usage, 3 damage was found (verify), 74 disk, 75 a build uses the cache (gc)
"""


def build_parser() -> Parser:
    """Build the parser of all commands and flags."""
    parser = Parser("python -m pipelines.cache", "Look after the cache of downloads and prepared clips.", EPILOG)
    where = "cache (default: $TUTTI_CACHE_DIR or ~/.cache/tutti)"
    parser.add_argument("--cache-dir", metavar="DIR", type=Path, help=where)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, summary: str) -> Parser:
        command = commands.add_parser(name, help=summary, description=summary)
        # Before or after the command; suppressed, or its default would undo what stands before.
        command.add_argument("--cache-dir", metavar="DIR", type=Path, default=argparse.SUPPRESS, help=where)
        return command

    listed = add("list", "count what the cache holds, by kind")
    listed.add_argument("--json", action="store_true", help="one JSON object")
    verify = add("verify", "hash every blob again; damaged ones go to the quarantine, the next build heals")
    verify.add_argument("--dry-run", action="store_true", help="only name them")
    gc = add("gc", "remove what no result of a stage, no ledger, no pin and no kept build names")
    gc.add_argument(
        "--keep-builds",
        metavar="DIR",
        type=Path,
        nargs="+",
        default=[],
        help="output roots or version folders whose upstream files stay (files of a mirror are named there only)",
    )
    gc.add_argument(
        "--stale-results",
        action="store_true",
        help="also drop prepared clips that are in no kept build: other settings, excluded videos",
    )
    gc.add_argument(
        "--older-than",
        metavar="DAYS",
        type=float,
        default=GRACE_DAYS,
        help=f"never touch what is younger (default {GRACE_DAYS:g})",
    )
    gc.add_argument("--dry-run", action="store_true", help="print what would go")
    forget = add("forget", "drop the checksum that was remembered when a file was first fetched")
    forget.add_argument("url", metavar="URL", help="as the manifest and --list name it")
    availability = add("availability", "print what is known about each video")
    availability.add_argument("--status", choices=SHOWN_REASONS, help="only these")
    availability.add_argument("--json", action="store_true", help="one JSON object per video, no counts")
    return parser


def list_contents(cache: Cache, *, as_json: bool) -> int:
    """Print counts and bytes by kind."""
    counts, sizes = Counter[str](), Counter[str]()
    for entry in entries(cache, needed_of(cache).prepared):
        counts[entry.kind] += 1
        sizes[entry.kind] += entry.num_bytes
    if as_json:
        kinds = {kind: {"count": counts[kind], "num_bytes": sizes[kind]} for kind in KINDS}
        print(json.dumps({"root": str(cache.root), "kinds": kinds, "num_bytes": sizes.total()}))
        return 0
    print(cache.root)
    for kind, meaning in KINDS.items():
        print(f"  {kind:10} {counts[kind]:>9,} {readable(sizes[kind]):>10}  {meaning}")
    print(f"  {'total':10} {counts.total():>9,} {readable(sizes.total()):>10}")
    return 0


@dataclass(frozen=True)
class Finding:
    """A problem of a file of the cache, and its remedy; an old one is intact, but of no use any more."""

    line: str
    is_old: bool = False


def verify(cache: Cache, *, dry_run: bool) -> int:
    """Check every blob, plain tar and result; print the damaged ones, and what heals each."""
    checks: Iterator[Callable[[], Finding | None]] = itertools.chain(
        (partial(_check_blob, cache, entry, dry_run) for entry in blobs(cache)),
        (partial(_check_derived, cache, entry, dry_run) for entry in derived_files(cache)),
        (partial(_check_result, cache, entry, dry_run) for entry in found_results(cache)),
    )
    checked = damaged = old = 0
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as threads:
        while batch := list(itertools.islice(checks, BATCH)):
            for finding in threads.map(_call, batch):
                checked += 1
                if finding is None:
                    continue
                old += finding.is_old
                damaged += not finding.is_old
                if not finding.is_old:
                    print(printable(finding.line), flush=True)
            if sys.stderr.isatty():
                overwrite(f"{checked:,} files checked")
    if old:
        print(f"{old:,} results are of an older version of tutti; the next build finds them anew")
    if damaged:
        moved = "run without --dry-run to put them aside" if dry_run else "they lie in the quarantine"
        print(f"{damaged:,} of {checked:,} files are damaged; {moved}: the next build makes or fetches them again")
        return IntegrityError.exit_code
    print(f"{checked:,} files, all sound")
    return 0


def _call(check: Callable[[], Finding | None]) -> Finding | None:
    return check()


def _check_blob(cache: Cache, entry: Entry, dry_run: bool) -> Finding | None:
    if entry.kind == "stray":
        return None  # not ours to judge; gc removes it in time
    return _check_file(cache, Path(entry.path), entry.stem, f"blob {entry.stem}", dry_run)


def _check_derived(cache: Cache, entry: Entry, dry_run: bool) -> Finding | None:
    stage = Path(entry.path).parent.name
    known = cache.result(stage, entry.stem) if stage == "gunzip" else None
    if known is None:
        return None  # not known: made again before its next use
    return _check_file(cache, Path(entry.path), known["sha256"], f"{stage} of {entry.stem}", dry_run)


def _check_file(cache: Cache, path: Path, expected: str, label: str, dry_run: bool) -> Finding | None:
    try:
        try:
            found = settled_sha256(path)
        except OSError as error:
            if error.errno not in DAMAGE:
                raise
            found = UNREADABLE  # a bad sector, or no file at all
            path.lstat()
        if found == expected:
            return None
        if not dry_run:
            cache.quarantine(path, label=label, found=found)
    except FileNotFoundError:  # a build removed it, or put it aside, meanwhile
        return None
    return Finding(f"damaged: {label} (sha256 {found}, {path})")


def _check_result(cache: Cache, entry: Entry, dry_run: bool) -> Finding | None:
    path = Path(entry.path)
    stage, key = path.relative_to(cache.root / "stages").parts[0], entry.stem
    content = b""
    try:
        content = read_plain(path, results.MAX_BYTES)
        results.decode(stage, key, content)
        return None
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        problem = "a link to nowhere"
    except results.OlderResultError:
        return None if stage == FIRST_USE else Finding(f"older: result {path}", is_old=True)
    except results.DamagedResultError as error:
        problem = str(error)
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        problem = str(error.strerror)
    if stage == FIRST_USE:  # put aside, what was trusted would be forgotten, and what upstream has now believed
        return Finding(
            f"damaged: result {path} ({problem}); it stays, so that nothing else is believed: `cache forget URL`, "
            "once you trust what is there now"
        )
    if not dry_run:
        with contextlib.suppress(FileNotFoundError):
            cache.quarantine(path, label=f"result {path}", found=hashlib.sha256(content).hexdigest())
    return Finding(f"damaged: result {path} ({problem})")


def collect(
    cache: Cache, *, builds: Sequence[Path], stale_results: bool, grace_days: float, dry_run: bool, now_s: float
) -> int:
    """Remove garbage, or only name it.

    Raises:
        UsageError: a grace below zero, a build without a dataset, or --stale-results without builds.
        TryLaterError: a build uses the cache.
    """
    if not grace_days >= 0:
        raise UsageError(f"--older-than {grace_days:g}: expected days, 0 or more")
    if stale_results and not builds:
        raise UsageError("--stale-results needs --keep-builds DIR ...: otherwise every prepared clip would go")
    from tutti.datasets.sample import sample_key  # it loads scipy: a second that no other command should wait

    with contextlib.nullcontext() if dry_run else cache.exclusive():
        grace_s = grace_days * DAY_S
        needed = needed_of(cache, builds, now_s - grace_s if stale_results else None, sample_key())
        counts, freed = Counter[str](), 0
        for entry in entries(cache, needed.prepared):
            if is_garbage(entry, needed, now_s, grace_s):
                try:
                    if not dry_run:
                        remove(Path(entry.path))
                except OSError as error:  # somebody else's, in a cache that is shared
                    print(printable(f"left: {entry.path} ({error.strerror})"), file=sys.stderr)
                    continue
                counts[entry.kind] += 1
                freed += entry.num_bytes
                print(printable(f"{entry.kind} {entry.path} {readable(entry.num_bytes)}"))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) or "nothing"
    print(f"{'would free' if dry_run else 'freed'} {freed:,} bytes ({readable(freed)}): {kinds}")
    return 0


def forget(cache: Cache, url: str) -> int:
    """Drop a checksum that was trusted on first use; the query of a URL does not matter.

    Raises:
        UsageError: none is remembered for this URL.
    """
    canonical = urlsplit(url)._replace(query="", fragment="").geturl()
    dropped = [cache.forget(FIRST_USE, digest_of(address)) for address in dict.fromkeys((url, canonical))]
    if not any(dropped):
        raise UsageError(f"{url}: no checksum is remembered for it; only files without a published one have such")
    print(f"forgot the checksum of {url}; the next build fetches the file again and remembers its new one")
    return 0


def show_availability(ledger: Ledger, *, status: str | None, as_json: bool) -> int:
    """Print counts by status and reason, then a line for each recording: reads twice, holds nothing."""

    def chosen() -> Iterator[Availability]:
        return (one for one in ledger.all() if status in (None, one.status))

    if as_json:
        for one in chosen():
            print(json.dumps(asdict(one), sort_keys=True))
        return 0
    counts = Counter((one.status, one.reason or "") for one in chosen())
    for (its_status, reason), count in sorted(counts.items()):
        print(f"{count:,} {its_status} {reason}".rstrip())
    print("recording status reason first-seen last-seen attempts")
    for one in chosen():
        print(
            printable(one.key), one.status, one.reason or "-", day(one.first_seen_s), day(one.last_seen_s), one.attempts
        )
    return 0


def day(time_s: float | None) -> str:
    """Format the UTC day of a time since the epoch."""
    return "-" if time_s is None else time.strftime("%Y-%m-%d", time.gmtime(time_s))


def open_cache(folder: Path) -> Cache:
    """Open the cache in a folder.

    Raises:
        UsageError: there is none.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no cache here; name it with --cache-dir, or run a build first")
    ours = ("blobs", "stages", "incoming", "sample", "hot", "ledger", "quarantine")
    if not any((folder / name).is_dir() for name in ours):
        raise UsageError(f"{folder}: is no cache of ours (neither blobs nor stages); name one with --cache-dir")
    return Cache(folder.absolute())


def run(arguments: argparse.Namespace) -> int:
    """Run a parsed command line."""
    cache = open_cache(arguments.cache_dir or default_cache_folder())
    if arguments.command == "list":
        return list_contents(cache, as_json=arguments.json)
    if arguments.command == "verify":
        return verify(cache, dry_run=arguments.dry_run)
    if arguments.command == "forget":
        return forget(cache, arguments.url)
    if arguments.command == "availability":
        ledger = Ledger(cache.root / "ledger" / "youtube")
        return show_availability(ledger, status=arguments.status, as_json=arguments.json)
    return collect(
        cache,
        builds=arguments.keep_builds,
        stale_results=arguments.stale_results,
        grace_days=arguments.older_than,
        dry_run=arguments.dry_run,
        now_s=time.time(),
    )


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    return run_command(lambda given: run(build_parser().parse_args(given)), argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
