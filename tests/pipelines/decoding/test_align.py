"""Alignment: planted delays are found, and audio of another piece is told from that of the score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from midi_files import SAMPLE_RATE, note, sound, tune
from signals import noise

from tutti.datasets import audio
from tutti.datasets.decoder import decode_spans
from tutti.datasets.record import DRUMS, Alignment
from tutti.datasets.scores.composing import compose, solo
from tutti.datasets.scores.score import Score, read_midi
from tutti.datasets.scores.variation import vary
from tutti.pipelines.decoding.align import AlignConfig, delay
from tutti.pipelines.decoding.config import PrepareConfig
from tutti.pipelines.render import synthesizer

ENOUGH = PrepareConfig().min_alignment
WITHIN_S = 0.02  # a frame label of 50 Hz; how early a sound shows depends on its attack
# Of every family one program; the soft ones are an organ, a violin, strings, a choir, a trombone, a flute, a pad.
SOLISTS = (4, 11, 16, 25, 33, 40, 48, 52, 57, 73, 80, 89)
STRINGS = 49  # String Ensemble 2: of the programs that are known to be late


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


def swelling(score, swell_s, power, delay_s):
    """(num_samples,): a score whose notes grow with a power of time, for `swell_s`."""
    mono = np.zeros(round((score.end_s + delay_s + 0.5) * SAMPLE_RATE))
    for played in score.notes:
        first = round((played.onset_s + delay_s) * SAMPLE_RATE)
        time_s = np.arange(round((played.offset_s - played.onset_s) * SAMPLE_RATE)) / SAMPLE_RATE
        frequency_hz = 440.0 * 2 ** ((played.pitch - 69) / 12)
        wave = sum(np.sin(2 * np.pi * frequency_hz * k * time_s) / k for k in (1, 2, 3, 4))
        envelope = np.minimum(1.0, time_s / swell_s) ** power * np.minimum(1.0, (time_s[-1] - time_s) / 0.05)
        mono[first : first + len(wave)] += wave * envelope
    return (0.5 * mono / np.abs(mono).max()).astype(np.float32)


@pytest.mark.parametrize("seed", [30, 31, 32])
def test_swells_are_aligned_where_their_program_is_known_to_be_late(seed):
    score = tune(seed, duration_s=20.0, programs=(STRINGS,), beat_s=0.5)
    samples = swelling(score, 0.25, 2, delay_s=0.3)

    assert delay(samples, SAMPLE_RATE, score.notes).delay_s == pytest.approx(0.3, abs=WITHIN_S)
    assert delay(samples, SAMPLE_RATE, score.notes, lateness_s={}).delay_s > 0.34  # strings are no piano


def mixed(*parts):
    """(num_samples,): sounds of equal weight, the shorter ones followed by silence."""
    mono = np.zeros(max(part.shape[1] for part in parts), np.float32)
    for part in parts:
        mono[: part.shape[1]] += part[0]
    return mono


def test_in_a_mix_every_note_is_as_late_as_its_own_program():
    piano, strings = tune(33, programs=(0,), duration_s=16.0), tune(34, programs=(STRINGS,), duration_s=16.0)
    in_time = mixed(sound(piano, delay_s=0.4), sound(strings, delay_s=0.4))
    with_late_strings = mixed(sound(piano, delay_s=0.4), sound(strings, delay_s=0.4 + 0.09))
    notes = piano.notes + strings.notes

    expected = delay(in_time, SAMPLE_RATE, notes, lateness_s={})
    found = delay(with_late_strings, SAMPLE_RATE, notes, lateness_s={STRINGS: 0.09})

    assert expected.delay_s == pytest.approx(0.4, abs=WITHIN_S)
    assert found.delay_s == pytest.approx(expected.delay_s, abs=0.003)


@pytest.mark.parametrize("wrong_s", [-0.03, 0.03])
def test_a_part_that_is_30_ms_less_or_more_late_than_known_does_not_move_a_mix_by_20_ms(wrong_s):
    piano, strings = tune(35, programs=(0,), duration_s=16.0), tune(36, programs=(STRINGS,), duration_s=16.0)
    notes = piano.notes + strings.notes
    as_known, otherwise = (
        mixed(sound(piano, delay_s=0.4), sound(strings, delay_s=0.4 + late_s)) for late_s in (0.06, 0.06 + wrong_s)
    )

    expected = delay(as_known, SAMPLE_RATE, notes, lateness_s={STRINGS: 0.06})
    found = delay(otherwise, SAMPLE_RATE, notes, lateness_s={STRINGS: 0.06})

    assert abs(found.delay_s - expected.delay_s) < WITHIN_S


@pytest.mark.parametrize("swell_s", [0.05, 0.1, 0.2, 0.3])
def test_a_linear_swell_is_found_by_its_beginning_however_long_it_is(swell_s):
    score = tune(37, programs=(STRINGS,), duration_s=20.0, beat_s=0.5)
    found = delay(swelling(score, swell_s, 1, delay_s=0.3), SAMPLE_RATE, score.notes, lateness_s={})

    assert 0.3 < found.delay_s < 0.34  # of a swell of 0.3 s the middle is 0.15 s late


@pytest.mark.parametrize("beat_s", [0.15, 0.2, 0.3])
def test_repeated_chords_are_aligned_like_changing_ones_and_not_a_beat_off(beat_s):
    rng = np.random.default_rng(38)
    onsets_s = (np.arange(128) * beat_s + rng.normal(0.05, 0.004, size=128)).tolist()
    found_s = []
    for repetitions in (1, 16):
        chords = [rng.choice(np.arange(45, 80), size=3, replace=False).tolist() for _ in range(128 // repetitions)]
        notes = tuple(
            note(onset_s, onset_s + 0.8 * beat_s, pitch)
            for number, onset_s in enumerate(onsets_s)
            for pitch in chords[number // repetitions]
        )
        score = Score(notes, onsets_s[-1] + beat_s)
        found_s.append(aligned(score, sound(score, delay_s=0.7)).delay_s)

    assert found_s == pytest.approx([0.7, 0.7], abs=0.025)  # these tones take 10 ms to be there
    assert found_s[1] == pytest.approx(found_s[0], abs=0.01)


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


@pytest.mark.slow
def test_planted_delays_of_renderings_are_found_within_20_ms(installed_font):
    rng = np.random.default_rng(1)
    errors_s, without_table_s = [], []
    for number, program in enumerate(SOLISTS):
        for score in (solo(71_000, number, program), compose(71_000, number)):
            performance = vary(score, seed=71_000, variant=number % 2)
            samples = synthesizer.synthesize(performance, installed_font, sample_rate=16_000).mix.mean(axis=0)
            size = int(rng.integers(16_000))
            shifted = np.pad(samples, (size, 0))
            errors_s.append(delay(shifted, 16_000, performance.score.notes).delay_s - size / 16_000)
            found = delay(shifted, 16_000, performance.score.notes, lateness_s={})
            without_table_s.append(found.delay_s - size / 16_000)

    assert np.mean(np.abs(errors_s) <= WITHIN_S) >= 0.95
    assert np.mean(np.abs(errors_s)) < 0.8 * np.mean(np.abs(without_table_s))
