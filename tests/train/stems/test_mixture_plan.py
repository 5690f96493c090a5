"""Mixtures as numbers: how often what is drawn, from where, and the labels that follow."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.train.stems.config import MixingConfig
from tutti.train.stems.plan import Mix, Sampler
from tutti.train.stems.songs import Stems, make_stems

RATE, CHUNK = 1_000, 4_000  # Hz; samples of a chunk
PLAYS = {"piano": 0, "drums": 1, "voice": 2}

Spans = list[tuple[int, int]]
ALWAYS: Spans = [(0, 60_000)]


def stems_of(*rows: tuple[str, str, str, Spans], unknown: tuple[int, ...] = (), size: int = 60_000) -> Stems:
    """Stems given as (corpus, song, instrument, spans); of those in `unknown` only the instrument is known."""
    presence = np.full((len(rows), len(PLAYS)), ABSENT, np.int8)
    presence[list(unknown)] = UNKNOWN
    for index, (_, _, instrument, _) in enumerate(rows):
        presence[index, PLAYS[instrument]] = PRESENT
    return make_stems(
        np.arange(len(rows)), np.full(len(rows), size), presence, [row[:2] for row in rows], [row[3] for row in rows]
    )


def corpora() -> Stems:
    """Corpora of 40, 8 and 8 songs, each of eight stems that always sound."""
    songs = [("large", f"{n:02d}") for n in range(40)] + [(c, f"{n}") for c in ("medium", "small") for n in range(8)]
    return stems_of(*((*song, name, ALWAYS) for song in songs for name in ("piano", "drums", "voice", "piano") * 2))


def sampler(stems: Stems, **changes: object) -> Sampler:
    return Sampler(stems, replace(MixingConfig(), **changes), CHUNK, RATE, seed=0)  # type: ignore[arg-type]


def equal(one: Mix, other: Mix) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Mix.__annotations__)


@pytest.mark.parametrize("total", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_draws_have_the_frequencies_of_corpora_strategies_and_numbers_of_stems(total: int) -> None:
    drawn = sampler(corpora(), p_musical=0.4, p_single=0.25, max_sources=6)
    mixes = [drawn.draw(index // 8192, index % 8192) for index in range(total)]
    cells = Counter((mix.corpus, mix.musical, len(mix.stems)) for mix in mixes)
    shares = {
        (corpus, musical, number): (1 / 3) * (0.4 if musical else 0.6) * (0.25 if number == 1 else 0.75 / 5)
        for corpus in range(3)
        for musical in (True, False)
        for number in range(1, 7)
    }
    assert cells.keys() == shares.keys()
    found, expected = zip(*((cells[cell], total * share) for cell, share in shares.items()), strict=True)
    assert chisquare(found, expected).pvalue > 0.001
    songs = Counter(int(drawn.stems.rows[mix.stems[0]]) // 8 for mix in mixes if mix.corpus == 0)
    assert len(songs) == 40
    assert chisquare([songs[song] for song in range(40)]).pvalue > 0.001


def test_a_mixture_depends_on_seed_epoch_and_index_alone() -> None:
    stems = corpora()
    one, other = sampler(stems), sampler(stems)
    backwards = {index: other.draw(3, index) for index in reversed(range(200))}
    assert all(equal(one.draw(3, index), backwards[index]) for index in range(200))
    assert not equal(one.draw(3, 0), one.draw(4, 0))
    assert not equal(one.draw(3, 0), one.draw(3, 1))
    assert not equal(one.draw(3, 0), Sampler(stems, one.config, CHUNK, RATE, seed=1).draw(3, 0))


def test_stems_of_a_musical_mixture_are_of_one_song_and_start_at_one_sample() -> None:
    drawn = sampler(corpora(), p_musical=1.0, p_single=0.0)
    for index in range(500):
        mix = drawn.draw(0, index)
        assert len(set((mix.stems // 8).tolist())) == 1
        assert len(set(mix.stems.tolist())) == len(mix.stems)
        assert len(set(mix.first.tolist())) == 1
        assert 0 <= mix.first[0] <= 60_000 - CHUNK


def test_stems_of_any_other_mixture_are_of_different_songs_of_one_corpus() -> None:
    drawn = sampler(corpora(), p_musical=0.0, p_single=0.0)
    corpus_of = np.repeat([0, 1, 2], [40, 8, 8])
    starts = set()
    for index in range(500):
        mix = drawn.draw(0, index)
        songs = (mix.stems // 8).tolist()
        assert len(set(songs)) == len(songs)
        assert set(corpus_of[songs].tolist()) == {mix.corpus}
        starts.add(tuple(mix.first.tolist()))
    assert len(starts) == 500


def test_there_are_no_more_stems_than_the_corpus_has_to_offer() -> None:
    stems = stems_of(
        ("a", "duo", "piano", ALWAYS), ("a", "duo", "drums", ALWAYS), ("a", "solo", "voice", ALWAYS)
    )  # fmt: skip
    musical, other = (sampler(stems, p_musical=share, p_single=0.0) for share in (1.0, 0.0))
    assert {tuple(sorted(musical.draw(0, index).stems.tolist())) for index in range(50)} == {(0, 1)}
    assert {tuple(sorted(other.draw(0, index).stems.tolist())) for index in range(50)} == {(0, 2), (1, 2)}
    alone = stems_of(("a", "solo", "voice", ALWAYS))
    assert sampler(alone, p_single=0.0).draw(0, 0).stems.tolist() == [0]


# --- labels


def presence(drawn: Sampler, mix_of: tuple[int, ...]) -> set[tuple[int, ...]]:
    """The labels of mixtures of exactly these stems."""
    mixes = [drawn.draw(0, index) for index in range(400)]
    return {tuple(mix.presence.tolist()) for mix in mixes if tuple(sorted(mix.stems.tolist())) == mix_of}


def test_a_class_is_present_where_a_stem_of_it_sounds_in_the_chunk_and_absent_elsewhere() -> None:
    stems = stems_of(("a", "song", "piano", ALWAYS), ("a", "song", "drums", [(30_000, 60_000)]))
    drawn = sampler(stems, p_musical=1.0, p_single=0.0)
    seen = set()
    for index in range(400):
        mix = drawn.draw(0, index)
        first = int(mix.first[0])
        overlap = max(0, first + CHUNK - max(first, 30_000))
        seen.add(tuple(mix.presence.tolist()))
        assert mix.presence.tolist() == [PRESENT, PRESENT if overlap >= 100 else UNKNOWN if overlap else ABSENT, ABSENT]
    assert {(PRESENT, PRESENT, ABSENT), (PRESENT, ABSENT, ABSENT)} <= seen


def test_what_any_stem_leaves_unknown_is_unknown_unless_another_has_it() -> None:
    stems = stems_of(("a", "song", "piano", ALWAYS), ("a", "song", "drums", ALWAYS), unknown=(0,))
    assert presence(sampler(stems, p_musical=1.0), (0,)) == {(PRESENT, UNKNOWN, UNKNOWN)}
    assert presence(sampler(stems, p_musical=1.0), (1,)) == {(ABSENT, PRESENT, ABSENT)}
    assert presence(sampler(stems, p_musical=1.0), (0, 1)) == {(PRESENT, PRESENT, UNKNOWN)}


def test_a_chunk_that_may_be_slowed_down_counts_only_what_is_heard_in_any_case() -> None:
    late = stems_of(("a", "song", "piano", [(3_500, 4_000)]), size=CHUNK)  # of which 3,200 samples are always heard
    slowed, as_it_is = (sampler(late, p_musical=0.0, p_time_stretch=share) for share in (0.5, 0.0))
    assert slowed.draw(0, 0).presence.tolist() == [UNKNOWN, ABSENT, ABSENT]
    assert as_it_is.draw(0, 0).presence.tolist() == [PRESENT, ABSENT, ABSENT]


# --- silence


def test_chunks_in_which_nothing_sounds_are_drawn_again() -> None:
    stems = stems_of(("a", "song", "piano", [(10_000, 16_000)]), ("a", "other", "drums", [(50_000, 60_000)]))
    for share in (0.0, 1.0):
        drawn = sampler(stems, p_musical=share, p_single=0.0)
        mixes = [drawn.draw(0, index) for index in range(300)]
        assert all(stem_sounds(stems, mix) for mix in mixes if not mix.silent)
        assert sum(mix.silent for mix in mixes) < 10
        assert max(mix.num_redraws for mix in mixes) > 3


def stem_sounds(stems: Stems, mix: Mix) -> bool:
    pairs = zip(mix.stems.tolist(), mix.first.tolist(), strict=True)
    return any(stems.sounding(stem, first, first + CHUNK) >= 100 for stem, first in pairs)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_redraws_are_bounded_and_silence_is_then_kept_and_said(share: float) -> None:
    silent = stems_of(("a", "song", "piano", []))
    mix = sampler(silent, p_musical=share, max_redraws=7).draw(0, 0)
    assert (mix.silent, mix.num_redraws) == (True, 7)
    assert mix.presence.tolist() == [ABSENT, ABSENT, ABSENT]


def test_a_stem_shorter_than_a_chunk_begins_with_it() -> None:
    short = stems_of(("a", "song", "piano", [(0, 900)]), size=1_000)
    mix = sampler(short).draw(0, 0)
    assert mix.first.tolist() == [0]
    assert mix.presence.tolist() == [PRESENT, ABSENT, ABSENT]


def test_the_time_in_which_a_stem_sounds_is_counted_over_spans() -> None:
    stems = stems_of(("a", "song", "drums", ALWAYS), ("a", "song", "piano", [(10, 20), (30, 40), (40, 45)]))
    assert [stems.sounding(1, first, last) for first, last in [(0, 10), (0, 15), (12, 18), (15, 35), (0, 99)]] == [
        0, 5, 6, 10, 25,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("p_musical", 1.5, r"p_musical must lie in \[0, 1\], got 1.5"),
        ("max_sources", 0, "max_sources must be at least 1, got 0"),
        ("max_peak", 2.0, r"max_peak must lie in \(0, 1\], got 2.0"),
        ("max_redraws", -1, "must not be negative"),
    ],
)
def test_settings_that_draw_nothing_are_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(MixingConfig(), **{field: value})  # type: ignore[arg-type]
