"""Decoding of a file's bytes to spans of samples, in order, with memory for one block.

What memory does not suffice for is a MemoryError, never a DecodeError: it says nothing about the bytes.

Time is the container's: sample 0 is the beginning of its first sound or picture, and silence stands where it has no
sound. Which decoder reads what: `datasets/decoding/reading.py`. Lossy files are decoded from their beginning: their
seeks are not sample-exact. Nothing but the given bytes is ever read, whatever they name.

The bytes may be hostile and the decoders are C: builds run this in a child process
(`pipelines/decoding/sandbox.py`). Waveforms are float32 (num_channels, num_samples).
"""

import bisect
import heapq
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.decoding.block import DAMAGE, GAP, SOUND
from tutti.datasets.decoding.block import Waveform as Waveform
from tutti.datasets.decoding.reading import Reading
from tutti.datasets.record import Seconds

Span: TypeAlias = tuple[Seconds, Seconds | None]  # start and end; None: the end of the file


@dataclass(frozen=True)
class Stream:
    """Facts of a file that was decoded to its end, or of a span of it."""

    sample_rate: int
    num_channels: int
    num_samples: int  # of the file per channel, as far as it is decoded
    codec: str  # "WAV/PCM_16", "OGG/VORBIS", "matroska/opus", ...
    decoder: str  # "libsndfile" or "pyav"
    complete: bool  # False: the file, or the span, reaches past the place where the file breaks off
    gap_s: Seconds = 0.0  # of silence where the container has no sound
    damaged_s: Seconds = 0.0  # lost, or not decodable

    @property
    def duration_s(self) -> Seconds:
        """Decoded length."""
        return float(self.num_samples / self.sample_rate)


def decode_spans(data: bytes, name: str, spans: Sequence[Span]) -> tuple[Stream, list[Waveform]]:
    """Decode a complete file from memory and keep the samples of some spans of it.

    Args:
        data: the file; its format is told from its first bytes, never from its name.
        name: what errors call it.
        spans: from sample round(start * rate) up to round(end * rate), or what there is of them.

    Returns:
        The facts of the whole file, and a waveform (num_channels, num_samples) for each span.

    Raises:
        DecodeError: unknown format, damaged content, no samples, or samples that are not finite.
    """
    found: dict[int, Waveform] = {}
    stream = each_span(data, name, spans, lambda place, waveform, _: found.__setitem__(place, waveform))
    return stream, [found[place] for place in range(len(spans))]


def each_span(data: bytes, name: str, spans: Sequence[Span], take: Callable[[int, Waveform, Stream], object]) -> Stream:
    """Decode spans and hand each to `take` as soon as the decoder has passed its end.

    At any time the blocks from the beginning of the first span that is not over are in memory: however many spans
    there are, no more than the file as a whole.

    Args:
        data: as above.
        name: as above.
        spans: as above.
        take: gets the place of a span in `spans`, its waveform, and the facts of the file as far as it is decoded; in
            the order of the spans' ends. The file may still turn out to be damaged.

    Raises:
        DecodeError: as above; what was taken before is to be thrown away.
    """
    waiting: list[_Wanted] = []  # those that begin last first
    begun: list[_Wanted] = []  # a heap
    kept = _Kept(take)
    position = 0
    reading = Reading(data, name)
    for block in reading:
        if position == 0:
            ranges = (sample_range(span, block.sample_rate, sys.maxsize) for span in spans)
            wanted = (_Wanted(end, start, place) for place, (start, end) in enumerate(ranges))
            waiting = sorted(wanted, key=lambda span: span.start, reverse=True)
        kept.add(position, block.waveform, block.kind)
        position += block.num_samples
        num_channels = block.waveform.shape[0]
        so_far = Stream(block.sample_rate, num_channels, position, block.codec, block.decoder, complete=True)
        while waiting and waiting[-1].start < position:
            heapq.heappush(begun, waiting.pop())
        over = []
        while begun and begun[0].end <= position:
            over.append(heapq.heappop(begun))
        kept.give(over, begun, so_far)
    if position == 0:
        raise DecodeError(f"{name}: holds no samples")
    whole = replace(so_far, complete=reading.complete)
    kept.give(sorted(begun + waiting), [], whole)
    return kept.described(whole, 0, position)


class _Wanted(NamedTuple):
    """A span in samples, sorted by its end."""

    end: int
    start: int
    place: int  # in the list of spans


class _Kept:
    """Blocks that spans which are not over still need, and where there was no sound."""

    def __init__(self, take: Callable[[int, Waveform, Stream], object]) -> None:
        self.take = take
        self.blocks: list[tuple[int, Waveform]] = []  # (first sample, samples)
        self.silences = {GAP: _Stretches(), DAMAGE: _Stretches()}

    def add(self, first: int, samples: Waveform, kind: str) -> None:
        self.blocks.append((first, samples))
        if kind != SOUND:
            self.silences[kind].add(first, first + samples.shape[1])

    def give(self, over: Sequence[_Wanted], begun: Sequence[_Wanted], so_far: Stream) -> None:
        """Pass on spans that are over, and free the blocks that neither they nor those begun need any more."""
        first_needed = min((span.start for span in begun), default=so_far.num_samples)
        needed = list(itertools.accumulate((span.start for span in reversed(over)), min, initial=first_needed))
        for span, needed_after in zip(over, reversed(needed[:-1]), strict=True):
            waveform = self._cut(span, so_far.num_channels)
            self._drop(needed_after)
            self.take(span.place, waveform, self.described(so_far, span.start, span.end))
        self._drop(first_needed)

    def described(self, so_far: Stream, first: int, last: int) -> Stream:
        """Add what there is no sound of in [first, last)."""
        gap_s, damaged_s = (
            round(self.silences[kind].within(first, last) / so_far.sample_rate, 6) for kind in (GAP, DAMAGE)
        )
        return replace(so_far, gap_s=gap_s, damaged_s=damaged_s)

    def _drop(self, needed: int) -> None:
        self.blocks = [(first, samples) for first, samples in self.blocks if first + samples.shape[1] > needed]

    def _cut(self, span: _Wanted, num_channels: int) -> Waveform:
        largest = max((samples.size for _, samples in self.blocks), default=0)
        pieces = [
            samples[:, max(span.start - first, 0) : span.end - first]
            for first, samples in self.blocks
            if span.start < first + samples.shape[1] and span.end > first
        ]
        if len(pieces) == 1:
            return (
                pieces[0] if 2 * pieces[0].size > largest and pieces[0].strides[1] else pieces[0].copy()
            )  # let go of the block
        if len({len(piece) for piece in pieces}) > 1:  # channels come or go within: their mean, part by part
            pieces = [piece.mean(axis=0, keepdims=True) for piece in pieces]
        return np.concatenate(pieces, axis=1) if pieces else np.empty((num_channels, 0), np.float32)


class _Stretches:
    """Disjoint stretches of samples, in order."""

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.before: list[int] = [0]  # samples in all stretches before each

    def add(self, first: int, last: int) -> None:
        self.firsts.append(first)
        self.before.append(self.before[-1] + last - first)

    def within(self, first: int, last: int) -> int:
        """Count their samples in [first, last)."""
        return max(self._until(last) - self._until(first), 0)

    def _until(self, sample: int) -> int:
        place = bisect.bisect_right(self.firsts, sample) - 1
        if place < 0:
            return 0
        return min(self.before[place] + sample - self.firsts[place], self.before[place + 1])


def sample_range(span: Span, sample_rate: int, num_samples: int) -> tuple[int, int]:
    """Convert a span to its first sample and the one after its last; a negative start becomes 0."""
    start_s, end_s = span
    end = num_samples if end_s is None else round(end_s * sample_rate)
    return max(round(start_s * sample_rate), 0), max(end, 0)
