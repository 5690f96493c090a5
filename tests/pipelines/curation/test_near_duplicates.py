"""Near-duplicates: what counts as the same audio, the search, the report; distinct recordings are left alone.

Copies of real recordings are in test_fingerprint.py.
"""

import io
import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from signals import silence

from tutti.datasets import audio
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.datasets.shard import read_shard
from tutti.pipelines.curation.duplicates import join_groups
from tutti.pipelines.curation.fingerprint import Fingerprint, fingerprint
from tutti.pipelines.curation.near_duplicates import (
    Match,
    NearDuplicateConfig,
    confirm_on_audio,
    find_near_duplicates,
    leak_report,
    links,
)
from tutti.pipelines.rows import ClipSummary

Samples = NDArray[np.int16]
P, A, U = PRESENT, ABSENT, UNKNOWN


@pytest.fixture(scope="module")
def real_clips(mirror_build: Path) -> dict[str, Samples]:
    """All clips that a build from real recordings keeps: id -> mono int16 at 16 kHz."""
    return stored_clips(mirror_build)


def stored_clips(build: Path) -> dict[str, Samples]:
    rows = itertools.chain.from_iterable(read_shard(path) for path in sorted((build / "current" / "data").iterdir()))
    return {row["id"]: soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")[0] for row in rows}


@pytest.fixture(scope="module")
def real_prints(real_clips: dict[str, Samples]) -> dict[str, Fingerprint]:
    return {id: fingerprint(samples) for id, samples in real_clips.items()}


def tone_rows(seed: int, duration_s: float = 6.0) -> Samples:
    """Random chords of a quarter second, a piece of music that no other seed plays."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(4_000) / 16_000
    chords = []
    for _ in range(round(duration_s * 4)):
        pitches = 220 * 2 ** (rng.integers(0, 36, 4) / 12)
        tones = [np.sin(2 * np.pi * k * f * time_s) / k for f in pitches for k in (1, 2, 3)]
        chords.append(sum(tones) * np.exp(-4 * time_s))
    wave = 0.05 * np.concatenate(chords) + 0.001 * rng.standard_normal(4_000 * len(chords))
    return audio.to_int16(wave.astype(np.float32))


def pairs(matches: list[Match]) -> list[tuple[str, str]]:
    return [(match.id_a, match.id_b) for match in matches]


def found(*clips: Samples, config: NearDuplicateConfig | None = None, listen: bool = False) -> list[Match]:
    """Matches among clips that are called a, b, c, ..."""
    named = dict(zip("abcdefghij", clips, strict=False))
    prints = {id: fingerprint(samples) for id, samples in named.items()}
    return find_near_duplicates(prints, config, named.__getitem__ if listen else None)


# --- real recordings


def test_no_two_of_319_distinct_real_clips_match_even_unheard(real_prints):
    assert len(real_prints) == 319
    assert find_near_duplicates(real_prints) == []


def test_distinct_real_clips_stay_apart_with_some_margin(real_prints):
    looser = NearDuplicateConfig(max_bit_error_rate=0.27, max_local_bit_error_rate=0.43)

    assert find_near_duplicates(real_prints, looser) == []


def test_the_synthesized_sample_repeats_itself_within_a_song_at_most(sample_build):
    clips = stored_clips(sample_build)
    songs = {
        row["id"]: row["group"] for path in (sample_build / "current" / "data").iterdir() for row in read_shard(path)
    }

    matches = find_near_duplicates({id: fingerprint(samples) for id, samples in clips.items()}, load=clips.__getitem__)

    assert [match for match in matches if songs[match.id_a] != songs[match.id_b]] == []


# --- what counts as the same audio


def test_windows_of_one_recording_that_share_two_seconds_match_at_their_distance():
    music = tone_rows(1, 10.0)

    [match] = found(music[:96_000], music[64_000:])

    assert (match.offset_s, match.overlap_s, match.overlap_share) == (4.0, 2.0, 0.3333)


def test_windows_that_share_one_second_do_not_match():
    music = tone_rows(1, 11.0)

    assert found(music[:96_000], music[80_000:]) == []


def test_a_clip_of_one_second_matches_the_recording_that_holds_it():
    music = tone_rows(2)

    [match] = found(music, music[40_000:56_000])

    assert match.offset_s == pytest.approx(2.5, abs=0.009)
    assert match.overlap_s == 1.0


def test_the_offset_is_exact_to_the_sample_where_the_waveforms_are_compared():
    music = tone_rows(3)

    [match] = found(music[1_234:], music, listen=True)

    assert match.offset_s == pytest.approx(-1_234 / 16_000, abs=1e-6)
    assert match.correlation == 1.0


def test_two_recordings_that_share_some_notes_do_not_match():
    one, other = tone_rows(4), tone_rows(5)
    other[32_000:48_000] = one[32_000:48_000]  # one second of six, at the same place

    assert found(one, other) == []


def test_two_recordings_with_equal_halves_do_not_match():
    one, other = tone_rows(4), tone_rows(5)
    other[:48_000] = one[:48_000]

    assert found(one, other) == []


def test_a_loop_under_another_voice_as_loud_does_not_match():
    loop = np.tile(tone_rows(6, 2.0), 3) // 2

    assert found(loop + tone_rows(7) // 2, loop + tone_rows(8) // 2) == []


def test_a_loop_that_repeats_unchanged_matches_wherever_it_stands():
    loop = np.tile(tone_rows(6, 2.0), 6)

    assert pairs(found(loop[:64_000], loop[100_000:164_000])) == [("a", "b")]


def test_clips_that_share_only_silence_do_not_match():
    gap = silence(5.0, sample_rate=16_000)[0].astype(np.int16)
    one, other = np.concatenate([gap, tone_rows(9)]), np.concatenate([gap, tone_rows(10)])

    assert found(one, other) == []
    assert found(gap, gap) == []


def test_a_copy_behind_silence_matches():
    music = tone_rows(11)
    late = np.concatenate([silence(1.0, sample_rate=16_000)[0].astype(np.int16), music])

    [match] = found(music, late)

    assert match.offset_s == pytest.approx(-1.0, abs=0.009)  # half a hop


def test_swapped_polarity_is_the_same_audio():
    music = tone_rows(12)

    [match] = found(music, -music, listen=True)

    assert match.correlation == 1.0


def test_the_waveforms_can_refuse_what_the_words_accept():
    music = tone_rows(13)
    match = Match("a", "b", 0.0, 6.0, 1.0, 0.9)

    assert confirm_on_audio(match, music, tone_rows(14), NearDuplicateConfig()) is None
    assert confirm_on_audio(match, music, music, NearDuplicateConfig()) == replace(match, correlation=1.0)


@pytest.mark.parametrize("ppm", [-200, -100, -50, 50, 100, 200])
def test_a_copy_whose_clock_drifts_is_found_on_its_waveform(ppm):
    music = tone_rows(16, 10.0)
    copy = soxr.resample(music.astype(np.float64), 1e6, 1e6 + ppm, quality="VHQ")
    changed = np.clip(np.rint(copy[5_000:] / 2), -32_768, 32_767).astype(np.int16)

    [match] = found(music, changed, listen=True)

    assert match.offset_s == pytest.approx(5_000 / 16_000, abs=0.002)
    assert match.correlation is not None
    assert match.correlation > 0.93


def test_a_copy_behind_white_noise_at_20_db_is_found_on_its_waveform():
    music = tone_rows(17)
    noisy = music + np.random.default_rng(0).standard_normal(music.size) * music.std() / 10

    assert pairs(found(music, noisy.astype(np.int16), listen=True)) == [("a", "b")]


def test_a_second_that_differs_refuses_what_agrees_otherwise():
    one, other = tone_rows(18, 12.0), tone_rows(19, 12.0)
    mixed = one.copy()
    mixed[80_000:96_000] = other[80_000:96_000]  # a twelfth

    assert found(one, mixed, listen=True) == []


# --- the search


def test_the_order_of_the_clips_does_not_matter():
    music = [tone_rows(seed) for seed in range(20, 26)]
    clips = {f"{n}": part for n, part in enumerate([*music, *(part[5_000:] for part in music)])}
    prints = {id: fingerprint(samples) for id, samples in clips.items()}
    shuffled = list(prints)
    random.Random(0).shuffle(shuffled)

    matches = find_near_duplicates(prints)

    assert pairs(matches) == [("0", "6"), ("1", "7"), ("10", "4"), ("11", "5"), ("2", "8"), ("3", "9")]
    assert find_near_duplicates({id: prints[id] for id in shuffled}) == matches


def test_the_number_of_hash_ranges_does_not_matter(monkeypatch):
    music = tone_rows(30, 10.0)
    clips = (music, music[3_000:], music[80_000:], tone_rows(31))
    whole = found(*clips)

    monkeypatch.setattr("tutti.pipelines.curation.near_duplicates.RANGE_WORDS", 97)

    assert found(*clips) == whole
    assert pairs(whole) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_many_copies_stay_connected_though_each_is_compared_with_few():
    music = fingerprint(tone_rows(32))
    prints = {f"{number:03d}": music for number in range(200)}

    matches = find_near_duplicates(prints, NearDuplicateConfig(neighbors=4))

    assert len(matches) < 200 * 8
    assert set(join_groups([list(pair) for pair in pairs(matches)]).values()) == {"000"}


@pytest.mark.parametrize(
    "clips", [{}, {"a": Fingerprint(0, b"")}, {"a": Fingerprint(0, b""), "b": Fingerprint(9, b"")}]
)
def test_nothing_to_compare_is_no_match(clips):
    assert find_near_duplicates(clips) == []


def test_twenty_thousand_clips_with_planted_copies():
    rng = np.random.default_rng(0)
    prints = {f"{n:05d}": words_only(rng.integers(1, 2**32, 200, np.uint32)) for n in range(20_000)}
    planted = []
    for number in range(0, 20_000, 500):
        original = prints[f"{number:05d}"].words
        flips = np.packbits(rng.random((200, 32)) < 0.05, axis=1, bitorder="little").view("<u4")[:, 0]
        prints[f"{number:05d} copy"] = words_only((original ^ flips)[50:])
        planted.append((f"{number:05d}", f"{number:05d} copy"))

    matches = find_near_duplicates(prints)

    assert pairs(matches) == planted
    assert {match.offset_s for match in matches} == {0.8}


def words_only(words: NDArray[np.uint32]) -> Fingerprint:
    return Fingerprint((len(words) + 16) * 256, words.astype("<u4").tobytes())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_bit_error_rate": 0.5},
        {"max_bit_error_rate": 0.0},
        {"min_overlap_share": 0.0},
        {"neighbors": 0},
        {"max_heard_bit_error_rate": 0.4},
        {"max_heard_bit_error_rate": 0.2},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NearDuplicateConfig(**wrong)


# --- the report


CLIPS = {
    "irmas/a@0": ClipSummary("irmas/a@0", "irmas", "train", "irmas/a", "1", (P, U)),
    "irmas/b@0": ClipSummary("irmas/b@0", "irmas", "train", "irmas/a", "2", (P, U)),
    "audioset/v@0": ClipSummary("audioset/v@0", "audioset", "eval", "audioset/v", "3", (U, P)),
}
ACROSS = Match("audioset/v@0", "irmas/a@0", 4.0, 3.0, 1.0, 0.95, 0.99)
WITHIN = Match("irmas/a@0", "irmas/b@0", 1.0, 2.0, 0.6667, 0.9)


def test_the_leak_report_counts_pairs_across_splits_sources_and_groups_and_conflicts():
    splits = {"irmas/a@0": "train", "irmas/b@0": "train", "audioset/v@0": "test"}

    report = leak_report([WITHIN, ACROSS], CLIPS, splits)

    assert json.loads(json.dumps(report)) == {
        "pairs": 2,
        "across_splits": 1,
        "across_sources": 1,
        "across_groups": 1,
        "conflicts": 1,
        "by_splits": {"test/train": 1},
        "by_sources": {"audioset/irmas": 1, "irmas/irmas": 1},
        "rows": [
            {
                "id_a": "audioset/v@0", "id_b": "irmas/a@0", "offset_s": 4.0, "overlap_s": 3.0, "overlap_share": 1.0,
                "score": 0.95, "correlation": 0.99, "sources": ["audioset", "irmas"], "splits": ["test", "train"],
                "across_splits": True, "across_sources": True, "across_groups": True, "conflict": True,
            },
            {
                "id_a": "irmas/a@0", "id_b": "irmas/b@0", "offset_s": 1.0, "overlap_s": 2.0, "overlap_share": 0.6667,
                "score": 0.9, "correlation": None, "sources": ["irmas", "irmas"], "splits": ["train", "train"],
                "across_splits": False, "across_sources": False, "across_groups": False, "conflict": False,
            },
        ],
    }  # fmt: skip


def test_a_clip_in_no_split_leaks_nowhere():
    report = leak_report([ACROSS], CLIPS, {"irmas/a@0": "train", "audioset/v@0": None})

    assert report["across_splits"] == 0
    assert report["by_splits"] == {}


def test_links_join_the_groups_of_matched_clips():
    assert links([WITHIN, ACROSS], CLIPS) == [["audioset/v", "irmas/a"], ["irmas/a", "irmas/a"]]
    assert join_groups(links([ACROSS], CLIPS)) == {"audioset/v": "audioset/v", "irmas/a": "audioset/v"}
