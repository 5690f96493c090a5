"""Check a built dataset against its manifest, and mend what the cache can mend.

    python -m pipelines.verify build/ultimate                     every file, every row
    python -m pipelines.verify build/ultimate --level clips       decodes every clip, too
    python -m pipelines.verify build/ultimate --repair            writes damaged shards again
    python -m pipelines.verify manifests/sample                   a manifest without its dataset

Says exactly what is wrong: missing, stray, corrupt, swapped, or a tampered line. Exit code 0 or 3.
"""

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import default_cache_folder
from tutti.datasets.manifest import Manifest
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.verify.check import LEVELS, verify
from tutti.pipelines.verify.findings import MANIFEST, Finding, open_manifest

EPILOG = """
levels:
  manifest   manifest.json and the clip rows: what a published manifest has
  shards     also the digest of every shard, and every row against its clip row (default)
  clips      also decodes every clip and compares its PCM digest
  sources    manifest.json, and the upstream files in the cache or a mirror's folder; no shards

exit codes: 0 sound, 2 usage, 3 findings, 74 disk
"""


def build_parser() -> Parser:
    """Build the parser of all flags."""
    what = "Check a built dataset against its manifest; name exactly what is wrong."
    parser = Parser("python -m pipelines.verify", what, EPILOG)
    add = parser.add_argument
    add("path", metavar="DIR_OR_MANIFEST", type=Path, help="output root, version folder, or a manifest.json")
    add("--level", choices=LEVELS, default="shards", help="how deep to look (default shards)")
    add("--json", action="store_true", help="one JSON object")
    add("--repair", action="store_true", help="write damaged shards again from the cache, then check again")
    add("--cache-dir", metavar="DIR", type=Path, help="cache (default: $TUTTI_CACHE_DIR or ~/.cache/tutti)")
    add("--mirror", metavar="PATH", type=Path, help="with --level sources: a mirror's folder to look into as well")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run a parsed command line.

    Raises:
        UsageError: there is no dataset.
        TuttiError: a repair is impossible; the message says what to do.
    """
    cache = Cache((arguments.cache_dir or default_cache_folder()).absolute())
    try:
        manifest = open_manifest(arguments.path)
        findings = _found(manifest, arguments.level, cache, arguments.mirror)
    except IntegrityError as error:  # a manifest that cannot be read at all
        return report(None, [Finding(MANIFEST, 0, "corrupt", str(error))], as_json=arguments.json)
    if arguments.repair and (damaged := repairable(manifest, findings)):
        from tutti.pipelines.verify.repair import repair  # the libraries of a build, which no check needs

        repair(manifest.folder, damaged, cache)
        print(f"wrote again: {', '.join(damaged)}", file=sys.stderr)
        findings = _found(manifest, arguments.level, cache, arguments.mirror)
    return report(manifest, findings, as_json=arguments.json)


def _found(manifest: Manifest, level: str, cache: Cache, mirror: Path | None) -> list[Finding]:
    if level != "sources":
        return verify(manifest, level)
    from tutti.pipelines.verify.sources import check_sources

    if mirror is not None and not mirror.is_dir():
        raise UsageError(f"--mirror {mirror}: no such folder; a mirror over http is checked by a build")
    return verify(manifest, "manifest") or sorted(check_sources(manifest, cache, mirror))


def repairable(manifest: Manifest, findings: Sequence[Finding]) -> list[str]:
    """List the files of a version that can be written again: damaged shards, sorted."""
    if any(finding.path == MANIFEST for finding in findings):
        return []  # it does not say what the shards should be
    shards = {info.path for info in manifest.shards()}
    broken = {finding.path for finding in findings if finding.kind in ("missing", "corrupt", "swapped")}
    return sorted(shards & broken)


def report(manifest: Manifest | None, findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print what was found; returns the exit code."""
    name = "" if manifest is None else f"{manifest.content['dataset']} {manifest.version}"
    if as_json:
        shown = [
            {"path": found.path, "line": found.line or None, "kind": found.kind, "detail": found.detail}
            for found in findings
        ]
        version = None if manifest is None else manifest.version
        print(json.dumps({"version": version, "sound": not findings, "findings": shown}, sort_keys=True))
    elif findings:
        print(*findings, sep="\n")
        print(f"{len(findings)} findings in {name or 'this folder'}", file=sys.stderr)
    elif manifest is not None:
        print(f"{name}: {manifest.content['counts']['kept']} clips, {len(manifest.shards())} shards, ok")
    return IntegrityError.exit_code if findings else 0


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    return run_command(lambda given: run(build_parser().parse_args(given)), argv)


if __name__ == "__main__":
    gc.disable()  # rows hold no cycles; looking for some costs a quarter of the time
    sys.exit(main(sys.argv[1:]))
