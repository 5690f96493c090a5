"""Select: read the annotations of a source and keep what the recipe asks for."""

import fnmatch
import functools
import heapq
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tutti.datasets.manifest import digest_of
from tutti.datasets.record import PRESENT, Clip, Recording, Rejected
from tutti.datasets.source import load_source
from tutti.pipelines.rows import SourceFiles


@dataclass(frozen=True)
class SelectConfig:
    """Rules for the clips of the sources that belong to the dataset."""

    keep: Literal["all", "known", "present"] = "all"  # clips with any label, a known class, a present class
    keep_sources: tuple[str, ...] = ()  # sources that `keep` applies to; empty: all
    limit: int | None = None  # recordings per source, drawn by digest; None: all
    exclude: tuple[str, ...] = ()  # ids or patterns (* ? []) of clips and recordings that must not enter

    def __post_init__(self) -> None:
        """Refuse a limit that leaves nothing."""
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit {self.limit}: expected a positive number, or none")


def select(
    files: SourceFiles,
    *,
    configs: Mapping[str, Any],
    instruments: tuple[str, ...],
    config: SelectConfig,
    seed: int,
) -> Iterator[Recording | Rejected]:
    """Read the recordings of one source, their clips narrowed to those that the recipe keeps.

    What the recipe would keep but for its `exclude` comes as rejected rows: a takedown leaves a trace. So does a clip
    in which the source's reader found a defect.

    Raises:
        IntegrityError: an annotation cannot be understood.
    """
    by_name = {file.remote.name: file for file in files.files}
    recordings = load_source(files.source).read(by_name, configs[files.source])
    narrowed = (_narrow(recording, instruments, config) for recording in recordings)
    excluded: list[Rejected] = []
    if config.exclude:
        narrowed = (_without(recording, config.exclude, excluded) for recording in narrowed)
    for recording in _draw(narrowed, config.limit, seed):
        yield from without_defects(recording)
    yield from excluded


def without_defects(recording: Recording) -> Iterator[Recording | Rejected]:
    """Split a recording into itself with its sound clips, where it has any, and the others as rejected rows."""
    sound = tuple(clip for clip in recording.clips if clip.defect is None)
    if len(sound) == len(recording.clips):
        yield recording
        return
    for clip in recording.clips:
        if (defect := clip.defect) is not None:
            yield Rejected(clip, stage="select", reason=defect.reason, value=defect.value, detail=defect.detail)
    if sound:
        yield replace(recording, clips=sound)


def _draw(recordings: Iterable[Recording], limit: int | None, seed: int) -> Iterable[Recording]:
    kept = (recording for recording in recordings if recording.clips)
    return kept if limit is None else heapq.nsmallest(limit, kept, key=lambda r: digest_of([seed, r.clips[0].id]))


def _without(recording: Recording, patterns: tuple[str, ...], excluded: list[Rejected]) -> Recording:
    """Remove the excluded clips of a recording; they are added to `excluded`."""
    left = []
    for clip in recording.clips:
        if is_excluded(clip, patterns):
            excluded.append(Rejected(clip, stage="select", reason="excluded"))
        else:
            left.append(clip)
    return replace(recording, clips=tuple(left))


def is_excluded(clip: Clip, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern fits the clip's id, its recording, or `source/recording`."""
    ids, wild = _compiled(patterns)
    names = (clip.id, clip.recording, f"{clip.source}/{clip.recording}")
    return any(name in ids or (wild is not None and wild.fullmatch(name) is not None) for name in names)


@functools.lru_cache(maxsize=4)
def _compiled(patterns: tuple[str, ...]) -> tuple[frozenset[str], re.Pattern[str] | None]:
    wild = [pattern for pattern in patterns if any(mark in pattern for mark in "*?[")]
    # A name with a bracket ("[cla]...") is also meant as it stands.
    return frozenset(patterns), re.compile("|".join(map(fnmatch.translate, wild))) if wild else None


def _narrow(recording: Recording, instruments: tuple[str, ...], config: SelectConfig) -> Recording:
    return replace(recording, clips=tuple(clip for clip in recording.clips if _keeps(clip, instruments, config)))


def _keeps(clip: Clip, instruments: tuple[str, ...], config: SelectConfig) -> bool:
    if config.keep == "all" or (config.keep_sources and clip.source not in config.keep_sources):
        return True
    known = [label for name, label in clip.labels.items() if name in instruments]
    return any(config.keep == "known" or label.presence == PRESENT for label in known)
