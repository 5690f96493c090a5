"""Join what several machines found out about the same videos, and the files that they fetched.

    python -m pipelines.merge /mnt/theirs/cache another/cache --into ~/.cache/tutti

Two people fetch AudioSet, each from an own address; afterwards one cache knows all attempts and has
all files. Then a build with the recipe gives the dataset of both. Manifests are not merged:
duplicates, label curation and splits are decided over all clips at once.

Attempts of one ledger keep their order, two ledgers are interleaved by time, and what both have
(one was copied from the other) counts once. So merging again changes nothing.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import default_cache_folder, write_file
from tutti.datasets.manifest import bucket_of
from tutti.datasets.streams import note
from tutti.pipelines.acquisition.ledger import Attempt, Ledger, availability_from, line_of
from tutti.pipelines.acquisition.origins import read_file
from tutti.pipelines.cache.store import Cache

LEDGER = "ledger/youtube"  # within a cache


@dataclass(frozen=True)
class Merged:
    """Counts of a merge."""

    recordings: int  # known now
    new_attempts: int
    statuses: dict[str, int]  # of all recordings, now
    new_files: int
    num_bytes: int  # of the new files


def merge_attempts(a: Sequence[Attempt], b: Sequence[Attempt]) -> list[Attempt]:
    """Merge the attempts for one key of two ledgers to one history.

    Each side keeps its own order, which tells of clocks that were set back; between the sides the
    earlier attempt comes first. An attempt that both have counts once.
    """
    known = Counter(a)
    rest = []
    for attempt in b:
        if known[attempt]:
            known[attempt] -= 1
        else:
            rest.append(attempt)
    merged: list[Attempt] = []
    left, right = list(reversed(a)), list(reversed(rest))
    while left and right:
        merged.append((left if _order(left[-1]) <= _order(right[-1]) else right).pop())
    return [*merged, *reversed(left), *reversed(right)]


def _order(attempt: Attempt) -> tuple[float, str, str, str]:
    return attempt.time_s, attempt.outcome, attempt.reason or "", attempt.sha256 or ""


def ledger_of(folder: Path) -> Ledger:
    """Open the ledger of a cache, or of a folder of journals.

    Raises:
        UsageError: there is none; a manifest is told apart.
    """
    for candidate in (folder / LEDGER, folder):
        if any(candidate.glob("[0-9a-f][0-9a-f].jsonl")) and candidate.name != "clips":
            return Ledger(candidate)
    if any((folder / name).exists() for name in ("manifest.json", "manifest", "current", "clips")):
        raise UsageError(
            f"{folder}: is a dataset, and datasets are not merged: merge the caches, then build again with the recipe"
        )
    raise UsageError(f"{folder}: no ledger here ({LEDGER}/00.jsonl .. ff.jsonl); name a cache")


def histories(ledger: Ledger) -> dict[str, list[Attempt]]:
    """Read key -> its attempts, in the order of the journal; lines that are torn are left out."""
    return {known.key: ledger.attempts(known.key) for known in ledger.all()}


def merge(sources: Sequence[Path], cache: Cache, *, with_files: bool = True) -> Merged:
    """Merge ledgers, and the files that they name, into a cache; each journal is replaced at once.

    Args:
        sources: caches, or folders of journals (these have no files).
        cache: takes everything; no build may use it meanwhile.
        with_files: also copy fetched files that the cache lacks.

    Raises:
        UsageError: a source has no ledger.
        TryLaterError: a build uses the cache.
    """
    ledgers = [ledger_of(source) for source in sources]
    own = Ledger(cache.root / LEDGER)
    with cache.exclusive():
        before = histories(own)
        after = dict(before)
        for ledger in ledgers:
            for key, attempts in histories(ledger).items():
                after[key] = merge_attempts(after.get(key, []), attempts)
        changed = {bucket_of(key) for key, attempts in after.items() if attempts != before.get(key)}
        by_bucket: dict[str, list[bytes]] = {bucket: [] for bucket in sorted(changed)}
        for key in sorted(after):
            if bucket_of(key) in by_bucket:
                by_bucket[bucket_of(key)] += map(line_of, after[key])
        copied = _copy_files(sources, cache, after) if with_files else []
        for bucket, lines in by_bucket.items():  # last: what the ledger calls fetched is here
            write_file(own.folder / f"{bucket}.jsonl", b"".join(lines))
    statuses = Counter(availability_from(key, attempts).status for key, attempts in after.items())
    new_attempts = sum(map(len, after.values())) - sum(map(len, before.values()))
    return Merged(len(after), new_attempts, dict(sorted(statuses.items())), len(copied), sum(copied))


def _copy_files(sources: Iterable[Path], cache: Cache, attempts: Mapping[str, Sequence[Attempt]]) -> list[int]:
    """Copy the fetched files that the cache lacks; their sizes in bytes."""
    wanted = {one.sha256: one for _, history in sorted(attempts.items()) for one in history if one.sha256}
    copied = []
    for source in map(Cache, sources):
        for sha256, one in wanted.items():
            path, key = source.blob_path(sha256), one.key
            if cache.has_blob(sha256) or not path.is_file():
                continue
            try:
                if one.num_bytes not in (None, path.stat().st_size):  # before a disk is filled with it
                    raise IntegrityError(f"has {path.stat().st_size:,} bytes, the ledger says {one.num_bytes:,}")
                copied.append(cache.receive(read_file(path), label=key, sha256=sha256, md5=None).num_bytes)
            except IntegrityError as error:
                note(f"{path}: {error}; left out, the next build asks for it again")
    return copied


def build_parser() -> Parser:
    """Build the parser of all flags."""
    parser = Parser("python -m pipelines.merge", "Join the ledgers and the fetched files of several caches.")
    add = parser.add_argument
    add("sources", metavar="FROM", type=Path, nargs="+", help="caches to take from, or folders of journals; unchanged")
    add("--into", metavar="CACHE", type=Path, help="takes all (default: $TUTTI_CACHE_DIR or ~/.cache/tutti)")
    add("--ledger-only", action="store_true", help="copy no files: only what is known about each video")
    return parser


def run(arguments: argparse.Namespace) -> Merged:
    """Run a parsed command line."""
    cache = Cache((arguments.into or default_cache_folder()).absolute())
    for source in arguments.sources:
        if source.resolve() == cache.root.resolve():
            raise UsageError(f"{source}: is the cache to merge into; name only the others")
    return merge(arguments.sources, cache, with_files=not arguments.ledger_only)


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    print(json.dumps(asdict(run(build_parser().parse_args(argv))), sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
