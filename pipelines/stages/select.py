"""Select: read the annotations of a source and keep what the recipe asks for.

A generic label speaks of its kinds too (`taxonomy.KINDS`): without a guitar there is neither an acoustic nor an
electric one. Where a guitar is present, `curate` may find its kind, so such a clip counts as one with a class.
"""

import fnmatch
import functools
import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tutti.datasets.hierarchy import LabelSpace, outputs_of_labels
from tutti.datasets.manifest import digest_of
from tutti.datasets.record import ABSENT, PRESENT, Clip, Labels, Recording, Rejected
from tutti.datasets.source import load_source
from tutti.datasets.taxonomy import KINDS
from tutti.pipelines.rows import NO_CLASS, SourceFiles


@dataclass(frozen=True)
class SelectConfig:
    """Rules for the clips of the sources that belong to the dataset."""

    # Clips with any label, a known class, a present class; a guitar that may get a kind of ours counts as either.
    keep: Literal["all", "known", "present"] = "all"
    keep_sources: tuple[str, ...] = ()  # sources that `keep` applies to; empty: all
    limit: int | None = None  # recordings per source, drawn by digest; None: all
    labels: LabelSpace = "canonical"  # or the families and instruments of datasets/hierarchy.py
    exclude: tuple[str, ...] = ()  # ids or patterns (* ? []) of clips and recordings that must not enter

    def __post_init__(self) -> None:
        """Refuse a limit that leaves nothing."""
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit {self.limit}: expected a positive number, or none")

    def asks_of(self, source: str) -> bool:
        """Whether clips of a source need a class to stay."""
        return self.keep != "all" and (not self.keep_sources or source in self.keep_sources)


def select(
    files: SourceFiles,
    *,
    configs: Mapping[str, Any],
    instruments: tuple[str, ...],
    config: SelectConfig,
    seed: int,
) -> Iterator[Recording | Rejected]:
    """Read the recordings of one source, their clips narrowed to those that the recipe keeps.

    The others come as rejected rows: those without a class, those that `exclude` names (a takedown leaves a trace),
    and those in which the source's reader found a defect. What `limit` does not come to leaves no row.

    Raises:
        IntegrityError: an annotation cannot be understood.
    """
    by_name = {file.remote.name: file for file in files.files}
    recordings = load_source(files.source).read(by_name, configs[files.source])
    recordings = map(_with_hierarchy if config.labels == "hierarchy15" else _without_hierarchy, recordings)
    left_out: list[Rejected] = []
    narrowed = (_narrow(_with_kinds(recording, instruments), instruments, config, left_out) for recording in recordings)
    excluded: list[Rejected] = []
    if config.exclude:
        narrowed = (_without(recording, config.exclude, excluded) for recording in narrowed)
    drawn, last = 0, ""
    for recording in _draw(narrowed, config.limit, seed):
        drawn, last = drawn + 1, _rank(recording.clips[0], seed)
        yield from without_defects(recording)
    yield from excluded
    # A draw that ends at the limit passes over what ranks before its last recording, and never comes to the rest.
    yield from (row for row in left_out if drawn != config.limit or _rank(row.clip, seed) < last)


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
    return kept if limit is None else heapq.nsmallest(limit, kept, key=lambda r: _rank(r.clips[0], seed))


def _rank(clip: Clip, seed: int) -> str:
    return digest_of([seed, clip.id])


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
    meant = [form for pattern in patterns for form in forms_of(pattern)]
    wild = [pattern for pattern in meant if is_wild(pattern)]
    # A name with a bracket ("[cla]...") is also meant as it stands.
    return frozenset(meant), re.compile("|".join(map(fnmatch.translate, wild))) if wild else None


def forms_of(pattern: str) -> tuple[str, ...]:
    """List what an entry of an exclusion list may mean: `x.wav #bad` also without its end, which may be a comment."""
    name, found, _ = pattern.partition(" #")
    return (pattern, name.strip()) if found and name.strip() else (pattern,)


def is_wild(pattern: str) -> bool:
    """Whether a pattern holds `*`, `?` or `[`."""
    return any(mark in pattern for mark in "*?[")


def labels_with_kinds(labels: Labels, instruments: Sequence[str]) -> Labels:
    """Add that all kinds of an absent generic instrument are absent, by the word and the belief of the same origin."""
    added = {
        kind: label
        for generic, kinds in KINDS.items()
        if (label := labels.get(generic)) is not None and label.presence == ABSENT
        for kind in kinds
        if kind in instruments and kind not in labels
    }
    return {**labels, **added} if added else labels


def _with_hierarchy(recording: Recording) -> Recording:
    """Label the clips of a recording by families and instruments: as their reader knows, else as their classes say."""
    clips = (
        replace(
            clip, labels=outputs_of_labels(clip.labels) if clip.hierarchy is None else clip.hierarchy, hierarchy=None
        )
        for clip in recording.clips
    )
    return replace(recording, clips=tuple(clips))


def _without_hierarchy(recording: Recording) -> Recording:
    """Remove the labels that are not asked for: a row travels far."""
    if all(clip.hierarchy is None for clip in recording.clips):
        return recording
    return replace(recording, clips=tuple(replace(clip, hierarchy=None) for clip in recording.clips))


def _with_kinds(recording: Recording, instruments: Sequence[str]) -> Recording:
    """Add what absent generic instruments say to the clips of a recording, or return it as it is."""
    labels = [labels_with_kinds(clip.labels, instruments) for clip in recording.clips]
    if all(new is clip.labels for new, clip in zip(labels, recording.clips, strict=True)):
        return recording
    clips = (replace(clip, labels=new) for new, clip in zip(labels, recording.clips, strict=True))
    return replace(recording, clips=tuple(clips))


def _narrow(
    recording: Recording, instruments: Sequence[str], config: SelectConfig, left_out: list[Rejected]
) -> Recording:
    """Remove the clips without a class of a recording; they are added to `left_out`."""
    if config.keep == "all":
        return recording
    left = []
    for clip in recording.clips:
        if config.asks_of(clip.source) and not has_class(clip.labels, instruments, config):
            left_out.append(Rejected(clip, stage="select", reason=NO_CLASS, detail=f"select.keep={config.keep}"))
        else:
            left.append(clip)
    return replace(recording, clips=tuple(left))


def has_class(labels: Labels, instruments: Sequence[str], config: SelectConfig) -> bool:
    """Whether labels have, as `keep` asks, a known or a present class, or a generic instrument that may become one."""
    open_generics = [generic for generic, kinds in KINDS.items() if not set(kinds).isdisjoint(instruments)]
    if any((label := labels.get(name)) is not None and label.presence == PRESENT for name in open_generics):
        return True
    known = [label for name, label in labels.items() if name in instruments]
    return any(config.keep == "known" or label.presence == PRESENT for label in known)
