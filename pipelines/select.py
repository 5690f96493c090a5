"""Stage 1b, select: read the annotations of a source and keep what the recipe asks for."""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from datasets.manifest import digest_of
from datasets.record import PRESENT, Clip, Recording
from datasets.source import load_source
from pipelines.download import SourceFiles


@dataclass(frozen=True)
class SelectConfig:
    """Which clips of the sources belong to the dataset."""

    keep: Literal["all", "known", "present"] = "all"  # clips with any label, a known class, a present class
    keep_sources: tuple[str, ...] = ()  # sources that `keep` applies to; empty: all
    limit: int | None = None  # recordings per source, drawn by digest; None: all

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
) -> Iterator[Recording]:
    """Recordings of one source, their clips narrowed to those that the recipe keeps.

    Raises:
        IntegrityError: an annotation cannot be understood.
    """
    by_name = {file.remote.name: file for file in files.files}
    recordings = load_source(files.source).read(by_name, configs[files.source])
    kept = (narrowed for recording in recordings if (narrowed := _narrow(recording, instruments, config)).clips)
    if config.limit is None:
        return kept
    return iter(heapq.nsmallest(config.limit, kept, key=lambda r: digest_of([seed, r.clips[0].id])))


def _narrow(recording: Recording, instruments: tuple[str, ...], config: SelectConfig) -> Recording:
    return replace(recording, clips=tuple(clip for clip in recording.clips if _keeps(clip, instruments, config)))


def _keeps(clip: Clip, instruments: tuple[str, ...], config: SelectConfig) -> bool:
    if config.keep == "all" or (config.keep_sources and clip.source not in config.keep_sources):
        return True
    known = [label for name, label in clip.labels.items() if name in instruments]
    return any(config.keep == "known" or label.presence == PRESENT for label in known)
