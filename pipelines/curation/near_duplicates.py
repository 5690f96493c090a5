"""Near-duplicates: clips that hold the same audio, though re-encoded, at another gain or cut elsewhere.

    words of all clips -> words with 24 equal bits, by hash range -> alignments worth a look
    -> few wrong bits along the WHOLE overlap -> (optional) correlation of the waveforms -> matches

What counts: the same recording, over all that the two clips can share at one offset, for at least
two seconds (or most of the shorter clip). So windows of one recording that overlap count, and a
loop that repeats without any change counts, wherever it stands: it is the same audio. What does not:
another performance, a sampled note or a drum loop under voices as loud as itself, a quotation within
other music, another speed or pitch. Single notes of one instrument may agree in their words and not in
their waveforms: give `load` where a corpus holds such.

With `load` the waveforms decide, and the words may be worse: so copies are found behind white noise, low bit
rates and clocks that differ (`waveforms.py`). Of 49 clips of real recordings, changed with ffmpeg, are found (before):

    clock drift of 50, 100, 200 ppm, either way  49, 49, 49 (41, 30, 17); re-encoded and cut elsewhere too 49 (27)
    white noise at 20, 15, 10 dB                 48, 45, 42 (37, 31, 25)
    MP3 at 32, 64 kbit/s; AAC, Opus at 32        48, 49; 49, 49 (28, 45; 32, 44); Opus at 32, then MP3 at 64: 49 (38)
    6 dB of clipping                             48 (44)

Lost are notes of pure tone, where noise or distortion fills most bands. Not found: drift along more than some two
minutes (the words have one offset), a change of speed by 0.1 % or more, an overlap below two seconds.

The step is global, but its state is compact (250 bytes for a second of audio) and the hash ranges are
independent: each can be a task of its own (`hash_hits`), and so can the confirmation of each hit.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.heartbeat import beat
from tutti.datasets.record import Seconds
from tutti.pipelines.curation.fingerprint import (
    HOP,
    NUM_BITS,
    SAMPLE_RATE,
    SILENT,
    Fingerprint,
    Words,
    agreement,
)
from tutti.pipelines.curation.waveforms import Samples, align
from tutti.pipelines.rows import ClipSummary, Match, conflict

# (num_hits, 4): clip a < clip b by their place in the sorted ids, offset of b in hops, number of equal words
Hits = NDArray[np.int64]

RANGE_WORDS = 8_000_000  # words sorted at once: 64 MB of keys and about as much again for their pairs
PROBE = np.arange(-20, 21, 5)  # words around a hit that are compared first: 0.64 s, spaced 80 ms
MAX_PROBE_BER = 0.36  # of unrelated music 1 in 900 places passes, of copies at .25 wrong bits nearly all
# Words are equal where three of their four bytes are: of copies at .18 wrong bits all 32 are equal in 1 word of 600,
# 24 of them in 1 of 30. A byte holds neighboring bands: what hurts one, noise or a codec, mostly hurts the next.
HASHED_BITS = tuple(np.uint32(0xFFFFFFFF ^ 0xFF << shift) for shift in (0, 8, 16, 24))
OFFSETS_PER_PAIR = 8  # alignments of one pair that are confirmed, those with the most equal words first
MAX_LAG = 2 * HOP  # samples: the waveforms are aligned within +-32 ms of the alignment of the words


@dataclass(frozen=True)
class NearDuplicateConfig:
    """Limits within which two clips hold the same audio."""

    # Measured on 319 clips of real recordings, 14 changes of 100 of them: the medians of copies are .00 to .11, the
    # worst .17 (Vorbis at 50 kbit/s: .21; MP3 at 64 kbit/s of a source 50 dB below full scale: .23). Distinct clips
    # that repeat a sampled note, and single notes of one guitar, are at .22 and up, all others above .27.
    max_bit_error_rate: float = 0.25
    # In the worst half second: copies at most .30 (Vorbis at 50 kbit/s .39, clipped by 6 dB .41), clips that share
    # just a note .45 and up.
    max_local_bit_error_rate: float = 0.4
    min_overlap_s: Seconds = 1.9  # windows that share two seconds, less the rounding to 16 ms
    min_overlap_share: float = 0.7  # of the shorter clip, where that is less than min_overlap_s
    # Of the waveforms, where they are looked at: copies .8 and up, some behind noise or clipping .65; other recordings
    # of the same note on one guitar, whose words agree, at most .44; synthesized notes in another take up to .83. They
    # decide, and the words may be as bad as those of copies behind noise at 10 dB.
    min_correlation: float = 0.7
    min_local_correlation: float = 0.4  # of each half second: copies .41 and up, all else (.57 to .83) at most .17
    max_heard_bit_error_rate: float = 0.36  # where the waveforms are looked at
    neighbors: int = 64  # clips that one clip is compared with per word: larger sets of copies are linked as a chain

    def __post_init__(self) -> None:
        """Refuse limits that would call anything a duplicate."""
        if not 0 < self.max_bit_error_rate < 0.4:
            raise ValueError(f"max_bit_error_rate {self.max_bit_error_rate} is outside 0 to 0.4; chance is 0.5")
        if not 0 < self.min_overlap_share <= 1:
            raise ValueError(f"min_overlap_share {self.min_overlap_share} is outside 0 to 1")
        if not self.max_bit_error_rate <= self.max_heard_bit_error_rate < 0.4:
            raise ValueError(
                f"max_heard_bit_error_rate {self.max_heard_bit_error_rate} is outside max_bit_error_rate to 0.4"
            )
        if self.neighbors < 1:
            raise ValueError(f"neighbors {self.neighbors}: at least one")


def find_near_duplicates(
    fingerprints: Mapping[str, Fingerprint],
    config: NearDuplicateConfig | None = None,
    load: Callable[[str], Samples] | None = None,
) -> list[Match]:
    """Find all pairs of clips with the same audio, sorted; the order of the mapping does not matter.

    Args:
        fingerprints: clip id -> fingerprint.
        config: the limits.
        load: clip id -> mono int16 at 16 kHz. With it every match is confirmed on the waveforms.
    """
    config = config or NearDuplicateConfig()
    words = config
    if load is not None:
        words = replace(config, max_bit_error_rate=config.max_heard_bit_error_rate, max_local_bit_error_rate=1.0)
    ids = sorted(fingerprints)
    matches = []
    for a, b, offsets in candidates([fingerprints[id] for id in ids], config.neighbors):
        match = confirm(ids[a], ids[b], fingerprints, offsets, words)
        if match is not None and load is not None:
            match = confirm_on_audio(match, load(match.id_a), load(match.id_b), config)
        if match is not None:
            matches.append(match)
    return sorted(matches)


def candidates(prints: list[Fingerprint], neighbors: int) -> Iterator[tuple[int, int, list[int]]]:
    """Yield pairs that share words, each with its likeliest offsets in hops, in order of the pairs."""
    words = np.concatenate([np.zeros(0, np.uint32), *(item.words for item in prints)])
    starts = np.cumsum([0, *(len(item.data) // 4 for item in prints)])
    num_ranges = max(1, -(-len(words) // RANGE_WORDS))
    hits = _tallied([hash_hits(words, starts, part, num_ranges, neighbors) for part in range(num_ranges)])
    by_pair: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for a, b, offset, votes in hits.tolist():
        by_pair[a, b].append((-votes, offset))
    for (a, b), ranked in by_pair.items():
        yield a, b, [offset for _, offset in sorted(ranked)[:OFFSETS_PER_PAIR]]


def hash_hits(words: Words, starts: NDArray[np.int64], part: int, num_ranges: int, neighbors: int) -> Hits:
    """Find alignments at which two clips share most bits of a word of one hash range and agree around it.

    Time is near-linear and memory bounded whatever the words are: a word is compared with the next
    `neighbors` equal ones only. A word that occurs too often to tell anything costs no more; of a set of
    copies larger than that, each is still linked to the next ones, so that they stay connected.

    Args:
        words: of all clips, one after another.
        starts: (num_clips + 1,) where each clip's words begin.
        part: which of `num_ranges` equal ranges of the 32-bit words.
        num_ranges: how many there are.
        neighbors: see above.
    """
    low, high = (part << NUM_BITS) // num_ranges, ((part + 1) << NUM_BITS) // num_ranges
    found = []
    for bits in HASHED_BITS:
        hashed = words & bits
        places = np.flatnonzero((hashed >= low) & (hashed < high) & (words != SILENT))
        keys = (hashed[places].astype(np.uint64) << np.uint64(32)) | places.astype(np.uint64)
        keys.sort()  # by word, then by place: by clip
        found.append(_neighbors(words, starts, keys, neighbors))
    return _tallied(found)


def _neighbors(words: Words, starts: NDArray[np.int64], keys: NDArray[np.uint64], neighbors: int) -> Hits:
    """Compare every place with the next ones of the same hash; keys hold a hash and a place, sorted."""
    hashes, places = (keys >> np.uint64(32)).astype(np.uint32), (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    active = np.arange(len(keys))
    found = []
    for step in range(1, neighbors + 1):
        active = active[active + step < len(keys)]
        active = active[hashes[active] == hashes[active + step]]
        if not active.size:
            break
        for some in np.array_split(active, -(-active.size // 500_000)):  # a probe holds some 200 bytes for each pair
            beat()
            found.append(_probed(words, starts, places[some], places[some + step]))
    return _tallied(found)


def _tallied(parts: list[Hits]) -> Hits:
    """Merge rows to one for every alignment, sorted, with the sum of its votes."""
    rows = np.concatenate([np.zeros((0, 4), np.int64), *parts])
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    first = np.flatnonzero(np.any(np.diff(rows[:, :3], axis=0, prepend=-1) != 0, axis=1))
    if not first.size:
        return rows
    tallied: Hits = np.column_stack([rows[first, :3], np.add.reduceat(rows[:, 3], first)])
    return tallied


def _probed(words: Words, starts: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> Hits:
    """Keep the hits among pairs of places with equal words: of different clips, and alike all around."""
    clip_a, clip_b = (np.searchsorted(starts, place, side="right") - 1 for place in (left, right))
    different = clip_a != clip_b
    left, right, clip_a, clip_b = left[different], right[different], clip_a[different], clip_b[different]
    at_left, at_right = left[:, None] + PROBE, right[:, None] + PROBE
    inside = (at_left >= starts[clip_a, None]) & (at_left < starts[clip_a + 1, None])
    inside &= (at_right >= starts[clip_b, None]) & (at_right < starts[clip_b + 1, None])
    word_a, word_b = words[np.where(inside, at_left, 0)], words[np.where(inside, at_right, 0)]
    inside &= (word_a != SILENT) & (word_b != SILENT)
    wrong = (np.bitwise_count(word_a ^ word_b) * inside).sum(axis=1)
    good = wrong <= MAX_PROBE_BER * NUM_BITS * inside.sum(axis=1)
    offset = (left - starts[clip_a]) - (right - starts[clip_b])
    hits: Hits = np.stack([clip_a, clip_b, offset, np.ones_like(offset)], axis=1)[good]
    return hits


def overlap_samples(num_a: int, num_b: int, offset: int) -> int:
    """Count the samples that two clips share where b begins `offset` samples after a."""
    return min(num_a, num_b + offset) - max(0, offset)


def confirm(
    id_a: str, id_b: str, fingerprints: Mapping[str, Fingerprint], offsets: list[int], config: NearDuplicateConfig
) -> Match | None:
    """Find the best alignment of two clips whose whole overlap is the same audio, or nothing.

    Args:
        id_a: the lower id.
        id_b: the higher id.
        fingerprints: at least these two.
        offsets: of b in hops, to try; their neighbors are tried as well.
        config: the limits.
    """
    a, b = fingerprints[id_a], fingerprints[id_b]
    words_a, words_b = a.words, b.words
    needed_s = min(config.min_overlap_s, config.min_overlap_share * min(a.duration_s, b.duration_s))
    best: tuple[float, float, int] | None = None
    for offset in sorted({offset + step for offset in offsets for step in (-1, 0, 1)}):
        overlap_s = overlap_samples(a.num_samples, b.num_samples, offset * HOP) / SAMPLE_RATE
        if overlap_s < needed_s:
            continue
        found = agreement(words_a, words_b, offset)
        if found.bit_error_rate > config.max_bit_error_rate or found.worst > config.max_local_bit_error_rate:
            continue
        if found.num_words * HOP / SAMPLE_RATE < needed_s / 2:  # silence tells nothing; enough of it must sound
            continue
        best = min(best or (1.0, 0.0, 0), (found.bit_error_rate, -overlap_s, offset))
    if best is None:
        return None
    wrong, negative_overlap_s, offset = best
    overlap_s = -negative_overlap_s
    share = overlap_s / min(a.duration_s, b.duration_s)
    return Match(id_a, id_b, offset * HOP / SAMPLE_RATE, round(overlap_s, 3), round(share, 4), round(1 - wrong, 4))


def confirm_on_audio(match: Match, a: Samples, b: Samples, config: NearDuplicateConfig) -> Match | None:
    """Measure a match on its waveforms: correlation, offset to the sample; nothing where they differ.

    Args:
        match: found by the fingerprints.
        a: mono int16 (num_samples,) at 16 kHz of `match.id_a`.
        b: likewise of `match.id_b`.
        config: the limits.
    """
    offset = round(match.offset_s * SAMPLE_RATE)
    least = config.min_correlation - 0.1  # it rises a little when the edges are alike
    found = align(a[max(offset, 0) :], b[max(-offset, 0) :], MAX_LAG, least)
    if found is not None and (lag := round(found.lag)):
        offset += lag  # now both are cut at the same places
        found = align(a[max(offset, 0) :], b[max(-offset, 0) :], 1, least)
    if (
        found is None
        or found.correlation < config.min_correlation
        or found.windows.min() < config.min_local_correlation
    ):
        return None
    offset += round(found.lag)
    overlap = overlap_samples(a.size, b.size, offset)
    return replace(
        match,
        offset_s=round(offset / SAMPLE_RATE, 6),
        overlap_s=round(overlap / SAMPLE_RATE, 3),
        overlap_share=round(overlap / min(a.size, b.size), 4),
        correlation=round(found.correlation, 3),
    )


def links(matches: Sequence[Match], clips: Mapping[str, ClipSummary]) -> list[list[str]]:
    """List the pairs of groups that share audio, for `join_groups`: then no split can separate them."""
    pairs = {tuple(sorted((clips[match.id_a].group, clips[match.id_b].group))) for match in matches}
    return [list(pair) for pair in sorted(pairs)]


def leak_report(
    matches: Sequence[Match], clips: Mapping[str, ClipSummary], splits: Mapping[str, str | None]
) -> dict[str, Any]:
    """Report what shares audio, and whether it should: for the manifest and the report, as JSON.

    Args:
        matches: in any order.
        clips: id -> summary, at least for the matched clips.
        splits: id -> split; None or left out: the clip is in none.

    Returns:
        Counts, and one row for every pair. `conflict` says that the labels cannot both be right for the same
        audio; where `overlap_share` (of the shorter clip) is small, both may be.
    """
    rows = [_leak_row(match, clips, splits) for match in sorted(matches)]
    return {
        "pairs": len(rows),
        "across_splits": sum(row["across_splits"] for row in rows),
        "across_sources": sum(row["across_sources"] for row in rows),
        "across_groups": sum(row["across_groups"] for row in rows),
        "conflicts": sum(row["conflict"] for row in rows),
        "by_splits": _tally([row["splits"] for row in rows if row["across_splits"]]),
        "by_sources": _tally([row["sources"] for row in rows]),
        "rows": rows,
    }


def _leak_row(match: Match, clips: Mapping[str, ClipSummary], splits: Mapping[str, str | None]) -> dict[str, Any]:
    a, b = clips[match.id_a], clips[match.id_b]
    split_a, split_b = splits.get(a.id), splits.get(b.id)
    return {
        **asdict(match),
        "sources": [a.source, b.source],
        "splits": [split_a, split_b],
        "across_splits": None not in (split_a, split_b) and split_a != split_b,
        "across_sources": a.source != b.source,
        "across_groups": a.group != b.group,
        "conflict": conflict(a.presence, b.presence),
    }


def _tally(pairs: Sequence[Sequence[str | None]]) -> dict[str, int]:
    counts = Counter("/".join(sorted(str(name) for name in pair)) for pair in pairs)
    return dict(sorted(counts.items()))
