"""The versions below an output root: list them, go back to one, and remove old ones.

    python -m pipelines.versions list build/ultimate
    python -m pipelines.versions use build/ultimate 3f1c8a52d0be
    python -m pipelines.versions gc build/ultimate --keep 3 --grace-days 7 --dry-run

Kept are the current version, the versions that it says it came from, the newest ones, and whatever is younger than
the grace period, for somebody may still be reading it. Shards are linked between versions, so an old version costs
only what is not in a newer one.

`use` verifies a version and makes it the current one. The next build keeps its splits, and makes what the inputs say:
to stay with an old version, do not build.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import IntegrityError, TuttiError, UsageError
from tutti.datasets.files import remove as remove_tree
from tutti.datasets.manifest import manifest_path, read_manifest
from tutti.datasets.printable import printable
from tutti.datasets.streams import note
from tutti.pipelines.build.output import Output
from tutti.pipelines.verify.check import verify
from tutti.pipelines.verify.findings import VERSION_NAME

DAY_S = 86_400.0
_REMOVED = ".removed-"  # how a version on its way out is called
ANCESTORS = 1  # versions back along `parent` that are kept: the one to compare with


@dataclass(frozen=True)
class Version:
    """A version folder."""

    name: str
    release: str
    root_digest: str
    parent: str | None
    kept_clips: int
    made_s: float  # when it was published; Unix time of its folder
    is_current: bool


def versions(root: Path) -> list[Version]:
    """List all versions that can be read, the newest first; others are named on stderr.

    Raises:
        UsageError: there is none.
    """
    current = Output(root).current()
    found, damaged = [], 0
    for folder in (root / "versions").glob("[!.]*"):  # what is hidden is on its way in or out
        if not manifest_path(folder).is_file():
            continue
        try:
            content = read_manifest(folder).content
        except TuttiError as error:
            mark = ", the current one" if folder.name == current else ""
            note(f"version {folder.name}{mark} is damaged and left out: {error}")
            damaged += 1
            continue
        parent = content.get("parent")
        made_s = manifest_path(folder).stat().st_mtime
        found.append(
            Version(
                folder.name,
                str(content.get("release", "1.0.0")),
                str(content["root_digest"]),
                None if parent is None else parent["version"],
                int(content["counts"]["kept"]),
                made_s,
                folder.name == current,
            )
        )
    if not found and not damaged:
        raise UsageError(f"{root}: no versions here; name an output root such as build/ultimate")
    return sorted(found, key=lambda version: (-version.made_s, version.name))


def removable(found: Sequence[Version], *, keep: int, grace_s: float, now_s: float) -> list[Version]:
    """Select the versions that are no longer needed.

    Args:
        found: the newest first.
        keep: how many of the newest stay.
        grace_s: younger ones stay.
        now_s: Unix time.
    """
    by_name = {version.name: version for version in found}
    reachable: set[str] = set()
    at = next((version for version in found if version.is_current), None)
    for _ in range(ANCESTORS + 1):
        if at is None:
            break
        reachable.add(at.name)
        at = by_name.get(at.parent or "")
    return [
        version
        for place, version in enumerate(found)
        if place >= keep and version.name not in reachable and now_s - version.made_s > grace_s
    ]


def remove(root: Path, version: Version) -> None:
    """Take a version folder out of sight at once, then delete it; killed in between, `sweep_removed` goes on."""
    hidden = root / "versions" / f"{_REMOVED}{version.name}"
    remove_tree(hidden)  # of an older removal
    (root / "versions" / version.name).rename(hidden)
    remove_tree(hidden)


def sweep_removed(root: Path) -> None:
    """Delete what an interrupted removal left."""
    for hidden in sorted((root / "versions").glob(f"{_REMOVED}*")):
        remove_tree(hidden)


def build_parser() -> Parser:
    """Build the parser of all commands and their flags."""
    parser = Parser("python -m pipelines.versions", __doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    named = (("list", "show all versions"), ("use", "make a version current"), ("gc", "remove old versions"))
    for name, words in named:
        command = commands.add_parser(name, help=words)
        command.add_argument("root", type=Path, metavar="DIR", help="output root: build/NAME")
        command.add_argument("--json", action="store_true", help="one JSON object")
        if name == "use":
            command.add_argument("version", metavar="VERSION", help="its name, as `list` shows it")
        if name == "gc":
            command.add_argument("--keep", type=int, default=3, metavar="N", help="newest versions that stay (3)")
            command.add_argument("--grace-days", type=float, default=7.0, metavar="DAYS", help="younger ones stay (7)")
            command.add_argument("--dry-run", action="store_true", help="only say what would go")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    arguments = build_parser().parse_args(argv)
    return {"list": list_command, "use": use_command, "gc": gc_command}[arguments.command](arguments)


def list_command(arguments: argparse.Namespace) -> int:
    """Show all versions."""
    found = versions(arguments.root)
    _show(arguments, {"versions": [_entry(version) for version in found]}, [_line(version) for version in found])
    return 0


def use_command(arguments: argparse.Namespace) -> int:
    """Make a version the current one, once every byte of it is verified.

    Raises:
        UsageError: there is no such version.
        IntegrityError: it is damaged.
        TryLaterError: a build holds the output.
    """
    if not (arguments.root / "versions").is_dir():
        raise UsageError(f"{arguments.root}: no versions here; name an output root such as build/ultimate")
    output = Output(arguments.root)
    with output.held(wait_s=0.0):
        folder = arguments.root / "versions" / arguments.version
        is_name = VERSION_NAME.fullmatch(arguments.version) and not folder.is_symlink()
        if not is_name or not manifest_path(folder).is_file():
            raise UsageError(
                f"{arguments.root}: no version {printable(arguments.version)}; `list` shows those there are"
            )
        manifest = read_manifest(folder)
        for problem in verify(manifest):
            raise IntegrityError(f"{problem}; version {arguments.version} was not made current")
        before = output.current()
        if before != arguments.version:
            output.point_to(arguments.version)
    if lost := manifest.content.get("incomplete"):
        note(f"version {arguments.version} is incomplete ({', '.join(sorted(lost))})")
    words = "was current before" if before == arguments.version else f"is current now, before it {before or 'none'}"
    _show(arguments, {"current": arguments.version, "before": before}, [f"{arguments.version} {words}"])
    return 0


def gc_command(arguments: argparse.Namespace) -> int:
    """Remove old versions.

    Raises:
        UsageError: wrong values, or no versions.
        IntegrityError: without a current version it is unknown which ones are needed.
        TryLaterError: a build holds the output.
    """
    if arguments.keep < 1 or arguments.grace_days < 0:
        raise UsageError("--keep is at least 1, --grace-days not negative")
    with Output(arguments.root).held(wait_s=0.0):
        if not arguments.dry_run:
            sweep_removed(arguments.root)
        found = versions(arguments.root)
        if not any(version.is_current for version in found):
            raise IntegrityError(
                f"{arguments.root}: the current version is gone or damaged, so nothing was removed: build again, or go "
                "back to another one with `python -m pipelines.versions use`"
            )
        grace_s = arguments.grace_days * DAY_S
        going = removable(found, keep=arguments.keep, grace_s=grace_s, now_s=time.time())
        if not arguments.dry_run:
            for version in going:
                remove(arguments.root, version)
    verb = "would remove" if arguments.dry_run else "removed"
    lines = [f"{verb} {_line(version)}" for version in going] or ["nothing to remove"]
    _show(arguments, {"dry_run": arguments.dry_run, "removed": [_entry(version) for version in going]}, lines)
    return 0


def _show(arguments: argparse.Namespace, content: Any, lines: Sequence[str]) -> None:
    print(json.dumps(content) if arguments.json else "\n".join(lines))


def _entry(version: Version) -> dict[str, Any]:
    return {
        "version": version.name,
        "release": version.release,
        "root_digest": version.root_digest,
        "parent": version.parent,
        "kept": version.kept_clips,
        "current": version.is_current,
    }


def _line(version: Version) -> str:
    made = time.strftime("%Y-%m-%d", time.gmtime(version.made_s))
    mark = "  <- current" if version.is_current else ""
    return f"{version.name}  {version.release:8} {made}  {version.kept_clips:>9,} clips{mark}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
