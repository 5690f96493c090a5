"""A built dataset in one screen.

    python -m pipelines.info build/ultimate
    python -m pipelines.info build/ultimate/last-failed --rejects      what was not kept by a build that was refused

Everything comes from the manifest; nothing is checked (`pipelines.verify` does that).
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutti.datasets.command import Parser, run_command
from tutti.datasets.errors import UsageError
from tutti.datasets.manifest import Manifest
from tutti.datasets.printable import readable
from tutti.datasets.record import SPLITS, Seconds
from tutti.pipelines.rows import reject_line
from tutti.pipelines.verify.findings import open_manifest

LINE = 110  # characters
SHOWN_CHARACTERS = 40  # of a setting; --json has it whole


@dataclass(frozen=True)
class Info:
    """The facts of a dataset version at a glance."""

    dataset: str
    version: str
    root_digest: str
    folder: str
    kept: int
    num_bytes: int  # of all shards
    num_shards: int
    duration_s: Mapping[str, Seconds]  # split -> audio kept
    splits: Mapping[str, Mapping[str, int]]  # source -> split -> clips
    present: Mapping[str, Mapping[str, int]]  # instrument -> split -> clips where it is present
    rejected: Mapping[str, Mapping[str, int]]  # source -> reason -> clips
    licenses: Mapping[str, int]  # of kept clips
    acquired: Mapping[str, int]  # how the audio of kept clips was had
    sample_rate: int
    embedder: Mapping[str, Any]  # empty: nothing was embedded or curated
    seed: int
    mirrored: bool
    changed_settings: Mapping[str, list[Any]]  # recipe field -> [default, here]
    tools: Mapping[str, str]
    artists: Mapping[str, Mapping[str, int]]  # divided by song, and by artist -> what leaks; empty: none is known


def describe(manifest: Manifest) -> Info:
    """Sum up a manifest.

    Raises:
        IntegrityError: a clip row cannot be read.
        UsageError: the manifest lacks what every build writes.
    """
    content = manifest.content
    samples: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    acquired: Counter[str] = Counter()
    try:
        rate = content["recipe"]["prepare"]["sample_rate"]
        for row in manifest.clip_rows():
            if row["status"] == "kept":
                samples[row["split"]] += row["audio"]["num_samples"]
                licenses[row["license"]] += 1
                acquired[row.get("acquired", "archive")] += 1
        counts = content["counts"]
        present: dict[str, dict[str, int]] = defaultdict(dict)
        for split in SPLITS:
            for name in content["instruments"]:
                present[name][split] = counts["present"][split][name]
        return Info(
            dataset=content["dataset"],
            version=manifest.version,
            root_digest=manifest.root_digest,
            folder=str(manifest.folder),
            kept=counts["kept"],
            num_bytes=sum(info.num_bytes for info in manifest.shards()),
            num_shards=len(manifest.shards()),
            duration_s={split: round(samples[split] / rate, 3) for split in SPLITS},
            splits={
                source: {split: entry["splits"].get(split, 0) for split in SPLITS}
                for source, entry in sorted(counts["sources"].items())
            },
            present=dict(present),
            rejected={source: dict(sorted(e["reasons"].items())) for source, e in sorted(counts["sources"].items())},
            licenses=dict(licenses.most_common()),
            acquired=dict(acquired.most_common()),
            sample_rate=rate,
            embedder=dict(content.get("curation", {}).get("embedder", {})),
            seed=content["recipe"]["seed"],
            mirrored=content["mirrored"],
            changed_settings=changed_settings(content["recipe"]),
            tools=dict(content["tools"]),
            artists=_leaks(content["split_certificate"].get("artists")),
        )
    except KeyError as error:
        raise UsageError(f"{manifest.folder}: its manifest has no {error}; check it with pipelines.verify") from error


def _leaks(artists: Any) -> dict[str, dict[str, int]]:
    """Read what a certificate says of artists; whatever else stands there is passed over."""
    found = {name: artists.get(name) for name in ("song", "artist")} if isinstance(artists, Mapping) else {}
    return {
        name: {key: value for key, value in leak.items() if type(value) is int}
        for name, leak in found.items()
        if isinstance(leak, Mapping)
    }


def changed_settings(recipe: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Compare with the recipe of that name: path -> [default, here]; {} for an unknown name."""
    from tutti.pipelines.recipe import as_json, load_recipe  # seconds of libraries
    from tutti.pipelines.recipe import recipe_names as known

    if recipe["name"] not in known():
        return {}
    return dict(_differing("", json.loads(json.dumps(as_json(load_recipe(recipe["name"])))), recipe))


def _differing(path: str, default: Any, here: Any) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(default, Mapping) and isinstance(here, Mapping):
        for name in sorted(default.keys() | here.keys()):
            yield from _differing(f"{path}.{name}" if path else name, default.get(name), here.get(name))
    elif default != here:
        yield path, [default, here]


def text(info: Info) -> str:
    """Format for a terminal."""
    hours = {split: f"{seconds / 3600:.1f} h" for split, seconds in info.duration_s.items()}
    lines = [
        f"{info.dataset} {info.version}{' (from a mirror)' if info.mirrored else ''}",
        f"  {info.folder}",
        f"  root digest {info.root_digest}",
        f"  {info.kept:,} clips, {readable(info.num_bytes)} in {info.num_shards} shards, "
        f"{info.sample_rate / 1000:g} kHz, seed {info.seed}, embedder {info.embedder.get('name', 'none')}",
        "",
        _row("clips", SPLITS),
    ]
    lines += [_row(source, [f"{splits[split]:,}" for split in SPLITS]) for source, splits in info.splits.items()]
    lines += [_row("hours", list(hours.values())), "", _row("present", SPLITS)]
    lines += [_row(name, [f"{splits[split]:,}" for split in SPLITS]) for name, splits in info.present.items()]
    lines.append("")
    for source, reasons in info.rejected.items():
        if reasons:
            lines += _wrapped(f"not kept, {source}", [f"{reason} {count:,}" for reason, count in reasons.items()])
    for name, leak in info.artists.items():
        counts = [f"{key.replace('_', ' ')} {value:,}" for key, value in leak.items()]
        lines += _wrapped(f"divided by {name}", counts)
    lines += _wrapped("licences", [f"{name} {count:,}" for name, count in info.licenses.items()])
    lines += _wrapped("audio from", [f"{name} {count:,}" for name, count in info.acquired.items()])
    settings = [
        f"{path}={_short(here)} (not {_short(default)})" for path, (default, here) in info.changed_settings.items()
    ]
    lines += _wrapped("settings", settings or ["as the recipe has them"])
    lines += _wrapped("tools", [f"{name} {version}" for name, version in info.tools.items()])
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:23} " + "".join(f"{cell:>12}" for cell in cells)


def _wrapped(name: str, items: Sequence[str]) -> list[str]:
    """Format items after a name, as many on a line as fit."""
    lines = [f"  {name:23} "]
    for item in items:
        if len(lines[-1]) + len(item) > LINE and lines[-1].strip() not in (name, ""):
            lines.append(" " * 26)
        lines[-1] += item + ", "
    return [line.rstrip() for line in (*lines[:-1], lines[-1].removesuffix(", "))] if items else []


def _short(value: Any) -> str:
    words = json.dumps(value)
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[: SHOWN_CHARACTERS - 3]}..."


def build_parser() -> Parser:
    """Build the parser of all flags."""
    parser = Parser("python -m pipelines.info", "A built dataset in one screen.")
    parser.add_argument("path", metavar="DIR", type=Path, help="output root, version folder, or a manifest.json")
    parser.add_argument("--json", action="store_true", help="one JSON object; with --rejects one a line")
    parser.add_argument("--rejects", action="store_true", help="list the clips that were not kept, and why")
    return parser


def run(arguments: argparse.Namespace) -> str:
    """Sum up the dataset that the arguments name, as text or JSON."""
    info = describe(open_manifest(arguments.path))
    return json.dumps(asdict(info), sort_keys=True) if arguments.json else text(info)


def reject_lines(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield a line for each clip that was not kept, as text or JSON."""
    for row in open_manifest(arguments.path).clip_rows():
        if row["status"] != "kept":
            yield json.dumps(row, sort_keys=True) if arguments.json else reject_line(row)


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    return run_command(_command, argv)


def _command(argv: Sequence[str]) -> int:
    arguments = build_parser().parse_args(argv)
    if arguments.rejects:
        for line in reject_lines(arguments):
            print(line)
    else:
        print(run(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
