"""Songs that share audio: which go to one split together, and which clips go because they cannot.

    equal PCM, near-duplicates -> links of clips -> links of songs -> places of songs -> clips that would leak

A song here is a clip's group: song, artist or video. The rules, in their order:

1. A song that can be in one split only (upstream's partition, an earlier version) stays there, whatever it shares.
2. A song that may be in several goes where a song that it shares audio with is, directly or by way of other such
   songs: to test rather than to validation, to validation rather than to train, as far as its own rule allows it.
3. Songs that share audio with each other only are dealt as one, each time those of one rule.
4. Where two songs that share audio are in two splits nonetheless, only clips that are linked themselves go, and of
   each pair the one that is less for evaluation (train before validation before test): the rest of its song holds
   other audio, and stays. A link counts while both clips are kept: in a chain a - b - c over train, validation and
   test, b goes for c, and a stays.

So one copy of an artist's clip in a test set costs one clip of the artist, not all; the two songs are named in the
split certificate, for the artist is then in two splits.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from tutti.datasets.record import SPLITS
from tutti.pipelines.curation.duplicates import join_groups
from tutti.pipelines.rows import ClipSummary, Match

Pair = tuple[str, str]  # sorted


def audio_links(clips: Iterable[ClipSummary], matches: Iterable[Match]) -> dict[str, set[str]]:
    """List the other audio, as digests of PCM, that each audio shares sound with: whoever holds the same samples."""
    pcm = {clip.id: clip.pcm_sha256 for clip in clips}
    linked: dict[str, set[str]] = defaultdict(set)
    for match in matches:
        a, b = pcm[match.id_a], pcm[match.id_b]
        if a != b:
            linked[a].add(b)
            linked[b].add(a)
    return dict(linked)


def song_links(clips: Iterable[ClipSummary], matches: Iterable[Match]) -> list[Pair]:
    """List the pairs of songs that share audio, exactly or nearly; rejected clips count, too."""
    clips = list(clips)
    songs: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        songs[clip.pcm_sha256].add(clip.group)
    pairs: set[Pair] = set()
    for pcm, linked in audio_links(clips, matches).items():
        for other in linked:
            pairs.update(_sorted(a, b) for a in songs[pcm] for b in songs[other] if a != b)
    for equal in songs.values():
        first, *rest = sorted(equal)
        pairs.update((first, song) for song in rest)
    return sorted(pairs)


def place_songs(
    fixed: Mapping[str, str],
    free: Mapping[str, Collection[str]],
    pools: Mapping[str, Collection[str]],
    pairs: Iterable[Pair],
    deal: Callable[[str, Mapping[str, str], Mapping[str, str]], Mapping[str, str]],
) -> dict[str, str]:
    """Choose the split of every song: rules 1 to 3.

    Args:
        fixed: song -> its split.
        free: other song -> the splits that it may go to.
        pools: rule -> the songs that are dealt under it, fixed ones among them.
        pairs: of songs that share audio.
        deal: called with a rule, its songs that have a split, and song -> unit of those that have none; answers
            unit -> split.

    Returns:
        Song -> split; songs in no pool that nothing pulls anywhere have none.
    """
    neighbors: dict[str, list[str]] = defaultdict(list)
    for a, b in pairs:
        neighbors[a].append(b)
        neighbors[b].append(a)
    places = dict(fixed)
    _spread(places, free, neighbors)
    in_no_pool = set(free).difference(*pools.values()) if pools else set(free)
    for rule, songs in sorted(pools.items()):
        open_songs = {song for song in songs if song not in places}
        connected = open_songs | {song for song in in_no_pool if song not in places}
        units = join_groups(
            [*([song] for song in sorted(open_songs)), *((a, b) for a, b in pairs if {a, b} <= connected)]
        )
        dealt = deal(
            rule,
            {song: places[song] for song in songs if song in places},
            {song: units[song] for song in sorted(open_songs)},
        )
        places |= {song: dealt[units[song]] for song in open_songs}
        _spread(places, free, neighbors)
    return places


def _spread(
    places: dict[str, str], free: Mapping[str, Collection[str]], neighbors: Mapping[str, Sequence[str]]
) -> None:
    """Move free songs to the split of songs that they share audio with: rule 2."""
    for split in reversed(SPLITS):
        waiting = [song for song, place in places.items() if place == split]
        while waiting:
            for song in neighbors.get(waiting.pop(), ()):
                if song not in places and song in free and split in free[song]:
                    places[song] = split
                    waiting.append(song)


def units_of(places: Mapping[str, str], songs: Iterable[str], pairs: Iterable[Pair]) -> dict[str, str]:
    """Name the group of each song: the lowest of those that share audio and are in the same split."""
    together = ((a, b) for a, b in pairs if places.get(a) == places.get(b) is not None)
    return join_groups([*([song] for song in sorted(songs)), *together])


def leaking_clips(
    kept: Sequence[ClipSummary], places: Mapping[str, str], linked: Mapping[str, set[str]]
) -> dict[str, tuple[str, str]]:
    """Find the clips that go because they share audio with a clip of a split further from training: rule 4.

    Args:
        kept: no two with equal PCM.
        places: song -> split, of all kept clips.
        linked: see `audio_links`.

    Returns:
        Clip id -> (id of the lowest clip that it shares audio with, split of that clip).
    """
    by_pcm = {clip.pcm_sha256: clip for clip in kept}
    split_of = {clip.id: places[clip.group] for clip in kept}
    leaking: dict[str, tuple[str, str]] = {}
    for split in reversed(SPLITS):  # of validation those that stay are known before training's are judged
        for clip in sorted(kept, key=lambda clip: clip.id):
            if split_of[clip.id] != split:
                continue
            others = [by_pcm[pcm].id for pcm in linked.get(clip.pcm_sha256, ()) if pcm in by_pcm]
            against = [
                other for other in others
                if SPLITS.index(split_of[other]) > SPLITS.index(split) and other not in leaking
            ]  # fmt: skip
            if against:
                leaking[clip.id] = min(against), split_of[min(against)]
    return leaking


def repeated_clips(
    kept: Iterable[ClipSummary], matches: Iterable[Match], priority: Callable[[ClipSummary], int], least_share: float
) -> dict[str, str]:
    """Find re-uploads: clips of which a near-duplicate is kept, each with that one.

    The highest priority is kept, of equals the lowest id; every other clip that shares at least `least_share` of the
    shorter one with a kept clip goes. So each that goes is a near-duplicate of the one it is named with.

    Args:
        kept: the clips that are in.
        matches: of any clips.
        priority: of a clip, as for exact duplicates.
        least_share: of the shorter clip, in (0, 1].
    """
    near: dict[str, set[str]] = defaultdict(set)
    for match in matches:
        if match.overlap_share >= least_share:
            near[match.id_a].add(match.id_b)
            near[match.id_b].add(match.id_a)
    stays: set[str] = set()
    goes: dict[str, str] = {}
    for clip in sorted(kept, key=lambda clip: (-priority(clip), clip.id)):
        if same := near[clip.id] & stays:
            goes[clip.id] = min(same)
        else:
            stays.add(clip.id)
    return goes


def songs_apart(clips: Iterable[ClipSummary], splits: Mapping[str, str], pairs: Iterable[Pair]) -> list[list[str]]:
    """List songs that share audio and are in two splits: [song, its split, other song, its split], sorted."""
    places = {clip.group: splits[clip.id] for clip in clips if clip.id in splits}
    return [
        [a, places[a], b, places[b]] for a, b in sorted(pairs) if a in places and b in places and places[a] != places[b]
    ]


def _sorted(a: str, b: str) -> Pair:
    return (a, b) if a < b else (b, a)
