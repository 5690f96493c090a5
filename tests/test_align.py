"""Alignment: planted delays are found, and audio of another piece is told from that of the score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from midi_files import SAMPLE_RATE, note, sound, tune
from signals import noise

from datasets import audio
from datasets.decoder import decode_spans
from datasets.record import DRUMS, Alignment
from datasets.scores.score import Score, read_midi
from pipelines.align import AlignConfig, delay
from pipelines.prepare_config import PrepareConfig

ENOUGH = PrepareConfig().min_alignment
WITHIN_S = 0.02  # a frame label of 50 Hz; how early a sound shows depends on its attack


def aligned(score, waveform, notes=None):
    return delay(waveform[0], SAMPLE_RATE, (notes or score).notes)


@pytest.mark.parametrize("planted_s", [0.0, 0.0251, 0.137, 0.5, 1.25, 1.9])
def test_a_planted_delay_is_found(planted_s):
    score = tune(1)

    found = aligned(score, sound(score, delay_s=planted_s))

    assert found.delay_s == pytest.approx(planted_s, abs=WITHIN_S)
    assert found.score > 2 * ENOUGH


def test_delays_are_told_apart_to_two_milliseconds():
    score = tune(2)
    planted_s = [0.1 + 0.0013 * step for step in range(6)]

    found_s = [aligned(score, sound(score, delay_s=delay_s)).delay_s for delay_s in planted_s]

    errors = np.array(found_s) - planted_s
    assert np.abs(errors - errors.mean()).max() < 0.002


def test_audio_that_lost_its_beginning_has_a_negative_delay():
    score = tune(3)

    found = aligned(score, sound(score)[:, round(0.2 * SAMPLE_RATE) :])

    assert found.delay_s == pytest.approx(-0.2, abs=WITHIN_S)


def test_audio_that_ends_before_its_score_is_aligned_by_what_there_is():
    score = tune(4, duration_s=30.0)

    found = aligned(score, sound(score, delay_s=0.3)[:, : 8 * SAMPLE_RATE])

    assert found.delay_s == pytest.approx(0.3, abs=WITHIN_S)
    assert found.score > ENOUGH


def test_another_piece_on_the_same_beat_is_told_from_the_right_one():
    scores = [tune(seed) for seed in range(10, 14)]
    sounds = [sound(score) for score in scores]

    right = [aligned(score, waveform).score for score, waveform in zip(scores, sounds, strict=True)]
    wrong = [aligned(scores[number], sounds[number - 1]).score for number in range(4)]

    assert min(right) > 2 * ENOUGH
    assert max(wrong) < ENOUGH


def test_the_same_piece_transposed_by_a_whole_tone_is_another_one():
    score = tune(5)
    higher = Score(tuple(replace(played, pitch=played.pitch + 2) for played in score.notes), score.end_s)

    assert aligned(score, sound(score), higher).score < ENOUGH


def test_the_same_piece_a_tenth_faster_is_misaligned():
    score = tune(6, duration_s=30.0)
    faster = Score(
        tuple(replace(n, onset_s=n.onset_s / 1.1, offset_s=n.offset_s / 1.1) for n in score.notes), score.end_s / 1.1
    )

    assert aligned(score, sound(faster)).score < ENOUGH


def test_noise_fits_no_score():
    assert delay(noise(12.0, sample_rate=SAMPLE_RATE)[0], SAMPLE_RATE, tune(7).notes).score < ENOUGH


def test_silence_has_no_correlation_with_anything():
    assert delay(np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE, tune(7).notes).score == 0.0


def test_a_blink_of_audio_is_no_error():
    assert delay(np.zeros(10, np.float32), SAMPLE_RATE, (note(0.0, 1.0),)).score == 0.0


def test_percussion_alone_is_aligned_by_its_onsets():
    rng = np.random.default_rng(0)
    onsets_s = np.cumsum(rng.uniform(0.1, 0.6, size=30)).tolist()
    score = Score(tuple(note(onset_s, onset_s + 0.05, 38, DRUMS) for onset_s in onsets_s), onsets_s[-1] + 0.1)

    found = aligned(score, sound(score, delay_s=0.4))

    assert found.delay_s == pytest.approx(0.4, abs=WITHIN_S)
    assert found.score > 2 * ENOUGH


def test_a_delay_beyond_the_search_is_not_found():
    score = tune(8)

    found = delay(sound(score, delay_s=1.0)[0], SAMPLE_RATE, score.notes, AlignConfig(highest_delay_s=0.5))

    assert found.score < ENOUGH


def test_the_same_input_has_the_same_result():
    score = tune(9)
    waveform = sound(score, delay_s=0.123)

    assert aligned(score, waveform) == aligned(score, waveform.copy())
    assert isinstance(aligned(score, waveform), Alignment)


@pytest.fixture(scope="module")
def pairs(shared: Path):
    """Real pairs: notes and mono samples at 16 kHz, by id."""
    if not (shared / "musescore").is_dir():
        pytest.skip("needs the shared pairs of MIDI and audio")
    found = {}
    for path in sorted((shared / "musescore" / "mid").glob("*.mid")):
        score = read_midi(path.read_bytes(), path.name)
        stream, (waveform,) = decode_spans(
            (shared / "musescore" / "mp3" / f"{path.stem}.mp3").read_bytes(), path.stem, [(0.0, None)]
        )
        mono = audio.to_mono(waveform)
        found[path.stem] = score.notes, audio.resample(mono, stream.sample_rate, 16_000)
    return found


@pytest.mark.slow
def test_planted_delays_of_real_pairs_are_found_within_20_ms(pairs):
    rng = np.random.default_rng(0)
    errors_s = []
    for notes, samples in pairs.values():
        for planted_s in rng.uniform(-0.2, 1.8, size=3):
            size = round(planted_s * 16_000)
            shifted = np.pad(samples, (size, 0)) if size >= 0 else samples[-size:]
            errors_s.append(delay(shifted, 16_000, notes).delay_s - size / 16_000)

    # FluidSynth plays from the first sample on, so an undisturbed pair has no delay.
    assert np.mean(np.abs(errors_s) <= WITHIN_S) >= 0.95


@pytest.mark.slow
def test_real_pairs_are_told_from_swapped_ones(pairs):
    right = [delay(samples, 16_000, notes).score for notes, samples in pairs.values()]
    keys = list(pairs)
    wrong = [
        delay(pairs[key][1], 16_000, pairs[other][0]).score
        for key, other in zip(keys, keys[1:] + keys[:1], strict=True)
    ]

    assert min(right) > ENOUGH
    assert max(wrong) < ENOUGH
