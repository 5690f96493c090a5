"""Pass a dataset version on in another format.

    python -m pipelines.export build/ultimate --format huggingface --output /data/ultimate-hf
    python -m pipelines.export build/ultimate --format csv --output /data/test --split test --license-allow CC0-1.0

Every shard and every clip is checked against its digest on the way out. The output appears at once when it is
complete, and equal inputs give equal bytes. In CSV, text that begins with = + - @ gets an apostrophe in front: no
spreadsheet calculates it, and `--dataset folder` takes it off again.

Exit codes: 0 done, 2 usage, 3 damage was found, 74 disk, 75 try later.
"""

import importlib
import pkgutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import TryLaterError, UsageError
from tutti.datasets.files import atomic_folder, sweep, sync_folder, write_file
from tutti.datasets.manifest import Json, canonical_json, read_manifest
from tutti.datasets.settings import nearest
from tutti.pipelines.export import formats
from tutti.pipelines.export.card import readme
from tutti.pipelines.export.selection import Selection, select

SUMMARY = "export.json"  # in every export, written last


class Format(Protocol):
    """The interface of a module in `formats/`."""

    USAGE: str

    def write(self, selection: Selection, folder: Path) -> None:
        """Fill an empty folder."""
        ...


def format_names() -> list[str]:
    """List the names of all formats: the files of the `formats` folder."""
    names = (module.name for module in pkgutil.iter_modules(formats.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def load_format(name: str) -> Format:
    """Import the module of a format.

    Raises:
        UsageError: no such format; the message names the nearest and lists all.
    """
    if name not in format_names():
        known = ", ".join(format_names())
        raise UsageError(f"--format {name}: unknown{nearest(name, format_names())}; known: {known}")
    return cast(Format, importlib.import_module(f"tutti.pipelines.export.formats.{name}"))


def export(
    folder: Path,
    format_name: str,
    output: Path,
    *,
    splits: Sequence[str] = (),
    licenses: Collection[str] | None = None,
) -> Json:
    """Write an export; answers its summary.

    Args:
        folder: output root of a build, or a version folder.
        format_name: one of `format_names()`.
        output: a folder that is not there yet, or is empty.
        splits: empty: all.
        licenses: exact ids of the licences whose clips may go out; None: all.

    Raises:
        UsageError: no such dataset, format, split or licence, or the output is taken.
        IntegrityError: a shard or clip is damaged; nothing is written.
        StorageError: the disk is full; nothing is written.
        TryLaterError: another export wrote something else there meanwhile.
    """
    format_module = load_format(format_name)
    manifest = read_manifest(folder)
    output = output.absolute()
    check_output(output, manifest.folder)
    selection = select(manifest, splits, licenses)
    summary = summarize(selection, format_name)
    content = (canonical_json(summary) + "\n").encode()
    sweep(output.parent)  # what killed exports left
    with atomic_folder(output) as temporary:
        format_module.write(selection, temporary)
        if not (temporary / "README.md").exists():
            text = readme(manifest.content, selection.counts, usage=format_module.USAGE)
            write_file(temporary / "README.md", text.encode(), durable=False)
        write_file(temporary / SUMMARY, content, durable=False)
        sync_folder(temporary)
    if (output / SUMMARY).read_bytes() != content:  # the first one wins
        raise TryLaterError(f"{output}: another export was written there meanwhile; choose another --output")
    return summary


def check_output(output: Path, version: Path) -> None:
    """Refuse a place that is taken, or within the version itself: versions never change.

    Raises:
        UsageError: as said.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output}: is there already; remove it or choose another folder")
    if output.resolve().is_relative_to(version):
        raise UsageError(f"--output {output}: lies within the version that is read; choose another folder")


def summarize(selection: Selection, format_name: str) -> dict[str, Any]:
    """Sum up what an export holds: for its `export.json` and for stdout."""
    manifest, counts = selection.manifest, selection.counts
    return {
        "dataset": manifest.content["dataset"],
        "version": manifest.version,
        "root_digest": manifest.root_digest,  # of the version: of the export only if nothing is left out
        "format": format_name,
        "instruments": manifest.instruments,
        "clips": {"exported": sum(counts.splits.values()), "left_out": dict(counts.left_out)},
        "splits": dict(counts.splits),
        "licenses": dict(counts.licenses),
        "license_allow": None if selection.licenses is None else sorted(selection.licenses),
    }


def as_text(summary: Json, output: Path) -> str:
    """Format the summary for people."""
    splits = ", ".join(f"{split} {count:,}" for split, count in summary["splits"].items())
    what = f"{summary['dataset']} {summary['version']}"
    return f"{output}: {summary['clips']['exported']:,} clips of {what} as {summary['format']}: {splits}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_command, arguments)


def _command(arguments: Sequence[str]) -> int:
    parser = Parser("python -m pipelines.export", __doc__)
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="output root of a build (build/NAME) or a version folder")
    add("--format", required=True, metavar="FORMAT", help=", ".join(format_names()))
    add("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    add("--split", action="append", default=[], metavar="SPLIT", help="only this split; repeatable")
    add("--license-allow", action="append", metavar="LICENSE", help="only clips under this licence; repeatable")
    add("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(arguments)
    summary = export(
        options.folder, options.format, options.output, splits=options.split, licenses=options.license_allow
    )
    left_out = summary["clips"]["left_out"]
    if left_out:
        listing = "".join(f"\n  {count:>8,}  {license}" for license, count in left_out.items())
        print(f"left out {sum(left_out.values()):,} clips under other licences:{listing}", file=sys.stderr)
    print(canonical_json(summary) if options.json else as_text(summary, options.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
