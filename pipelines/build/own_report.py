"""Report what the user's own audio of videos was taken for: whole, cut or dismissed, file by file, with the reason."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tutti.datasets.errors import TuttiError
from tutti.datasets.machine import MachineError
from tutti.datasets.manifest import read_manifest
from tutti.datasets.printable import in_unicode
from tutti.datasets.record import Recording, Seconds
from tutti.datasets.source import LocalFile, remotes_of
from tutti.datasets.streams import note
from tutti.pipelines.acquisition.origins import Origins, mirror_path, mirror_sums
from tutti.pipelines.acquisition.own_audio import Candidate, Placement, candidates, decide, find_file
from tutti.pipelines.acquisition.own_copy import known_length, measure_length
from tutti.pipelines.acquisition.own_index import index_of
from tutti.pipelines.build.plan import Build
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding.sandbox import probe
from tutti.pipelines.rows import SourceFiles
from tutti.pipelines.stages.select import select

VIDEOS = "audioset"  # the source whose audio is that of videos
SHOWN = 10  # files of a kind that are named on stderr
DECODED = 200  # files of a dry run
LISTED = 1_000  # files of the summary

Wanted = tuple[str, Seconds, Seconds | None]  # id of a video, start and end of a clip in it


def wanted_clips(rows: Iterable[Mapping[str, Any]]) -> list[Wanted]:
    """List the clips of videos among the rows of a manifest, but for those that were not selected."""
    return [
        (row["recording"], row["start_s"], row.get("end_s"))
        for row in rows
        if row["source"] == VIDEOS and row.get("stage") != "select"
    ]


def own_files(
    wanted: Iterable[Wanted], origins: Origins, cache: Cache, most: int | None = None
) -> dict[str, Placement]:
    """Decide for each file of the user's folders that may be of these clips, as `fetch` does.

    Args:
        wanted: the clips.
        origins: with the user's folders.
        cache: remembers lengths, from `fetch` and for it.
        most: files to decode, of which the cache is told nothing; None: all, and it is.

    Returns:
        Decisions by the path of the file; files whose names hold no id are not among them.
    """
    if not origins.own_roots:
        return {}
    index = index_of(origins.own_roots)
    here = {entry.split("/", 1)[0] for entry in index.videos}
    found: dict[str, Placement] = {}
    for video, start_s, end_s in wanted:
        taken = ""
        for candidate in candidates(index, video, start_s, end_s) if video in here else ():
            path = str(candidate.path)
            if taken:
                found.setdefault(path, Placement("dismissed", f"{taken} is taken"))
                continue
            try:
                if most is not None and len(found) >= most:
                    return found
                measure = _decoded_s if most is not None else partial(measure_length, cache=cache, probe=_decoded_s)
                known = partial(_known_s, cache=cache)
                placed = decide(candidate, start_s, end_s, measure, known_length=known)
            except MachineError as error:
                placed = Placement("dismissed", f"its decoder came to no word ({error.reason}); run the build again")
            taken = "" if placed.offset_s is None else in_unicode(candidate.path.name)
            if taken or path not in found:
                found[path] = placed
    return found


def _decoded_s(data: bytes) -> Seconds:
    return probe(data).duration_s


def _known_s(candidate: Candidate, *, cache: Cache) -> Seconds | None:
    return known_length(candidate.path, candidate.sha256, cache)


def lines_of(found: Mapping[str, Placement], strays: Iterable[str]) -> list[str]:
    """Format decisions for people: how many of each kind, and the first files with their reasons."""
    names = sorted(in_unicode(name) for name in strays)
    if not found and not names:
        return []
    counts = Counter(placed.kind for placed in found.values())
    counted = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("whole", "cut", "dismissed"))
    lines = [f"your own audio of videos: {counted}"]
    for kind in ("dismissed", "whole", "cut"):
        of_kind = [(path, placed) for path, placed in sorted(found.items()) if placed.kind == kind]
        lines += [f"  {in_unicode(path)}: {kind}: {placed.reason}" for path, placed in of_kind[:SHOWN]]
        if len(of_kind) > SHOWN:
            lines.append(f"  and {len(of_kind) - SHOWN:,} more that are {kind}")
    if names:
        more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
        lines.append(f"  dismissed, for their names hold no video's id: {', '.join(names[:SHOWN])}{more}")
    return lines


def report_own_audio(build: Build) -> dict[str, Any]:
    """Report the user's own audio on stderr, by the rows of the staged version.

    Returns:
        For the summary: `own_audio`, with counts and the first files; empty where there is none.
    """
    origins = build.origins
    if VIDEOS not in build.recipe.sources or not origins.own_roots:
        return {}
    try:
        rows = read_manifest(build.output.staging).clip_rows()
        found = own_files(wanted_clips(rows), origins, build.cache)
    except (OSError, TuttiError, ValueError) as error:  # a report ends no build
        note(f"your own audio is not reported ({error})")
        return {}
    strays = index_of(origins.own_roots).strays
    for line in lines_of(found, strays):
        note(line)
    if not found and not strays:
        return {}
    files = [
        {"file": in_unicode(path.rpartition("/")[2]), "as": placed.kind, "reason": placed.reason}
        for path, placed in sorted(found.items())
    ]
    counts = Counter(placed.kind for placed in found.values())
    return {
        "own_audio": {
            **{kind: counts[kind] for kind in ("whole", "cut", "dismissed")},
            "names_without_id": len(strays),
            "files": files[:LISTED],
        }
    }


def foretold(build: Build) -> list[str]:
    """Report on the user's own audio before a build, for `--dry-run`: the first files are decoded, nothing is kept."""
    if VIDEOS not in build.recipe.sources or not build.origins.own_roots:
        return []
    try:
        files = _label_files(build)
        if files is None:
            return ["your own audio of videos: reported when the label files are here; fetch them with --download-only"]
        recipe = build.recipe
        rows = select(
            SourceFiles(VIDEOS, files, ()),
            configs=recipe.sources, instruments=recipe.classes(), config=recipe.select, seed=recipe.seed,
        )  # fmt: skip
        wanted = (
            (clip.recording, clip.start_s, clip.end_s)
            for row in rows
            if isinstance(row, Recording)
            for clip in row.clips
        )
        found = own_files(wanted, build.origins, build.cache, most=DECODED)
        lines = lines_of(found, index_of(build.origins.own_roots).strays)
        return [*lines, f"  the first {DECODED} files only; the build reports all"] if len(found) == DECODED else lines
    except (OSError, TuttiError, ValueError) as error:
        return [f"your own audio of videos: not reported ({error})"]


def _label_files(build: Build) -> tuple[LocalFile, ...] | None:
    """Find the source's label files in the cache, the user's folders or a mirror's; None: some are not here."""
    files = []
    sums, mirror = mirror_sums(build.origins, build.cache), build.origins.mirror
    for remote in remotes_of(VIDEOS, build.recipe.sources[VIDEOS]):
        sha256 = sums.get(mirror_path(remote.url)) or remote.sha256
        own = find_file(build.origins.own_roots, remote)
        if own is not None:
            path = own.path
        elif sha256 is not None and build.cache.has_blob(sha256):
            path = build.cache.blob_path(sha256)
        elif mirror is not None and (Path(mirror) / mirror_path(remote.url)).is_file():
            path = Path(mirror) / mirror_path(remote.url)
        else:
            return None
        files.append(LocalFile(VIDEOS, remote, path, "", 0, ""))
    return tuple(files)
