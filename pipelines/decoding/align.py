"""Alignment of a recording with its score: the delay, and whether it is a recording of that score at all.

Encoders put silence before the music, synthesizers take their time, and a file may be of another
piece. Two comparisons of what the audio does at each semitone with what the score asks for:

1. Levels against sounding notes (with their harmonics), correlated over all delays: the best delay
   roughly, and as its correlation the `score` of the pair. Long notes and every pitch count, so soft
   attacks do no harm, and another piece in the same rhythm does not pass.
2. Rises of the level against the onsets, correlated near that delay: the delay to a few milliseconds. An attack
   that takes its time makes a broad hump whose middle says little, so its steep beginning is taken: where it
   reaches half its height. What a soft attack still comes late by is known for each General MIDI program
   (`datasets/scores/attacks.py`), and its notes are expected that much later.

Where a score has percussion only there is no pitch to compare: 2 alone gives both, on all bands together.

Measured on 112 pairs a soundfont that nothing was tuned on, solos of all kinds and mixes, with planted delays
(`benchmarks/alignment.py`): within 20 ms are 98 to 99 % with four soundfonts; 97 to 99 % where the table knows others
only; 92 to 96 % without it; 93 % with an FM synthesizer's sounds, of which the table knows nothing. What is left are
solos of string ensembles and pads. Of these right pairs 1 % score less than 0.15 (guitar harmonics, a whistle out of
tune), of swapped ones none more. 8 real MP3 pairs, shifted by known amounts: all within 15 ms, scores of 0.32 to
0.48, and of at most 0.06 where they are swapped.

Shapes: T samples, F frames, P semitones, N notes, D delays.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.record import DRUMS, Alignment, Note, Seconds
from tutti.datasets.scores.attacks import LATENESS_S

Array = NDArray[np.float32]

PITCHES = np.arange(21, 109)  # of a piano: where scores write and energy shows


@dataclass(frozen=True)
class AlignConfig:
    """Parameters of the search for the delay."""

    lowest_delay_s: Seconds = -0.25  # a decoder that trims, or a file that was cut into
    highest_delay_s: Seconds = 2.0  # MP3 encoders add 0.03 s, renderers up to a bar's rest
    window_s: Seconds = 0.096  # 10 Hz apart: semitones from D3 on; lower ones are told by their harmonics
    hop_s: Seconds = 0.008
    level_compression: float = 100.0  # log(1 + compression * amplitude): what is 40 dB below full scale counts
    rise_compression: float = 10_000.0  # 80 dB: the very beginning of a soft attack is a rise
    decay_s: Seconds = 1.0  # of a note to 1 / e: between a banjo's 0.3 s and an organ, which does not decay
    # From the rough delay to where onsets are looked for. Levels come late where notes swell: up to 0.35 s (pads,
    # church organ, with four soundfonts); they are never early.
    refine_before_s: Seconds = 0.4
    refine_after_s: Seconds = 0.1
    rise_s: Seconds = 0.016  # from which to which frame energy must rise
    trend_s: Seconds = 0.5  # rises are taken relative to their mean over this time
    onset_width_s: Seconds = 0.012  # standard deviation: how exactly players and synthesizers keep an onset
    # A key that was down shortly before says little by its next onset, for the first one may still ring, ...
    repeat_s: Seconds = 0.3
    repeat_weight: float = 0.3
    # ... and where it was let go only now, that onset's foot is hidden: by 0.02 s in repeated chords of a piano.
    masked_s: Seconds = 0.1
    masked_late_s: Seconds = 0.02
    measured_s: Seconds = 120.0  # of the beginning: more adds time, no precision


# Semitones above a note's pitch, and what its harmonics 1 to 4 weigh.
_HARMONICS = ((0, 1.0), (12, 0.6), (19, 0.4), (24, 0.3))
_BLOCK_FRAMES = 1_024  # transformed at once: 8 MiB
_FOOT = 0.5  # of a hump's height: lower is noise, higher varies with the attack
# A piano's onset shows that much before it is there, at the foot of its hump: half a window, less what the bells and
# rises smear. Median over four soundfonts, see benchmarks/alignment.py.
_LEAD_S = 0.037


def delay(
    samples_T: Array,
    sample_rate: int,
    notes: Sequence[Note],
    config: AlignConfig | None = None,
    lateness_s: Mapping[int, Seconds] = LATENESS_S,
) -> Alignment:
    """Measure how much later a recording is than its score.

    Args:
        samples_T: mono; its beginning is enough.
        sample_rate: in Hz; at least 8,000, or most semitones are missing.
        notes: of the score, in its seconds.
        config: the search; None: the default.
        lateness_s: by program, how much later than a piano's a note is heard to begin; left out: 0.

    Returns:
        The delay, and the correlation of the pair at that delay: about 0 for another piece or silence.
    """
    config = config or AlignConfig()
    samples_T = samples_T[: round((config.measured_s + config.highest_delay_s) * sample_rate)]
    amplitude_FP = semitone_amplitude(samples_T, sample_rate, config)
    num_frames = len(amplitude_FP)
    rises_FP = _rises(np.log1p(config.rise_compression * amplitude_FP), config)
    pitched = [note for note in notes if note.program != DRUMS and note.onset_s < config.measured_s]
    struck = [note for note in notes if note.program == DRUMS and note.onset_s < config.measured_s]
    first_lag = round((config.lowest_delay_s - _LEAD_S) / config.hop_s) - 1
    lags_D = np.arange(first_lag, round(config.highest_delay_s / config.hop_s) + 1)
    onsets_D = np.zeros(len(lags_D))
    if pitched:
        onsets_D += _correlation(rises_FP, _onsets(pitched, lateness_s, num_frames, config), lags_D)
        levels_FP = np.log1p(config.level_compression * amplitude_FP)
        levels_FP /= levels_FP.std(axis=0) + 0.1 * levels_FP.std() + 1e-9  # quiet bands count, empty ones do not
        rough_D = _correlation(_contrast(levels_FP), _contrast(_roll(pitched, num_frames, config)), lags_D)
    if struck:
        all_bands_F1 = rises_FP.sum(axis=1, keepdims=True)
        expected_F1 = _onsets(struck, lateness_s, num_frames, config)[:, :1]
        onsets_D += _correlation(all_bands_F1, expected_F1, lags_D)
    if not pitched:
        rough_D = onsets_D
    best = int(np.argmax(rough_D))
    first = max(best - round(config.refine_before_s / config.hop_s), 0)
    peak = first + int(np.argmax(onsets_D[first : best + round(config.refine_after_s / config.hop_s) + 1]))
    delay_s = (lags_D[0] + _foot(onsets_D, peak)) * config.hop_s + _LEAD_S
    return Alignment(round(float(delay_s), 4), round(float(rough_D[best]), 4))


def semitone_amplitude(samples_T: Array, sample_rate: int, config: AlignConfig) -> Array:
    """Compute amplitude (F, P) around each semitone, in [0, 1]; frame f is centred on f * hop."""
    size, hop = round(config.window_s * sample_rate), round(config.hop_s * sample_rate)
    padded = np.pad(samples_T, (size // 2, size))
    frames_FT = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(samples_T) + 1 : hop]
    window_T = np.hanning(size).astype(np.float32)
    window_T *= 2 / window_T.sum()  # a sine of amplitude 1 has amplitude 1
    bands_BP = _bands(size, sample_rate)
    parts = [
        np.abs(np.fft.rfft(frames_FT[first : first + _BLOCK_FRAMES] * window_T, axis=1)).astype(np.float32) @ bands_BP
        for first in range(0, len(frames_FT), _BLOCK_FRAMES)
    ]
    return np.concatenate(parts)


def _bands(size: int, sample_rate: int) -> Array:
    """Compute triangles (B, P) of a semitone to either side, and never narrower than a bin."""
    frequencies_B1 = np.arange(size // 2 + 1)[:, None] * sample_rate / size
    centers_P = 440.0 * 2 ** ((PITCHES - 69) / 12)
    widths_P = np.maximum(centers_P * (2 ** (1 / 12) - 1), sample_rate / size)
    bands = np.maximum(0, 1 - np.abs(frequencies_B1 - centers_P) / widths_P)
    normalized: Array = (bands / np.maximum(bands.sum(axis=0), 1e-9)).astype(np.float32)
    return normalized


def _rises(levels_FP: Array, config: AlignConfig) -> Array:
    """Compute (F, P): how much the level rises around each frame, above what is usual there."""
    reach = max(1, round(config.rise_s / config.hop_s / 2))
    rises = np.zeros_like(levels_FP)
    rises[reach:-reach] = np.maximum(levels_FP[2 * reach :] - levels_FP[: -2 * reach], 0)
    half = round(config.trend_s / config.hop_s / 2)
    sums = np.cumsum(np.pad(rises, ((half + 1, half), (0, 0)), mode="edge"), axis=0, dtype=np.float64)
    trend = (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)
    centered: Array = (rises - trend).astype(np.float32)
    return centered


def _roll(notes: Sequence[Note], num_frames: int, config: AlignConfig) -> Array:
    """Compute (F, P): what sounds in each frame by the score, harmonics included."""
    roll = np.zeros((num_frames, len(PITCHES)), np.float32)
    for note in notes:
        first, last = round(note.onset_s / config.hop_s), round(note.offset_s / config.hop_s)
        last = min(max(last, first + 1), num_frames)
        level = np.exp(-np.arange(max(0, last - first)) * config.hop_s / config.decay_s)
        for row, weight in _rows(note.pitch):
            part = roll[first:last, row]
            np.maximum(part, weight * level, out=part)
    return roll


def _onsets(notes: Sequence[Note], lateness_s: Mapping[int, Seconds], num_frames: int, config: AlignConfig) -> Array:
    """Compute (F, P): a bell around the audible time of each onset, harmonics included; drums in the first row."""
    reach = round(4 * config.onset_width_s / config.hop_s)
    onsets = np.zeros((num_frames + 2 * reach, len(PITCHES)), np.float32)
    for note, pause_s in _pauses(notes):
        late_s = lateness_s.get(note.program, 0.0)
        if note.program == DRUMS:
            rows = [(0, 1.0)]
        else:
            late_s += config.masked_late_s if pause_s < config.masked_s else 0.0
            share = config.repeat_weight if pause_s < config.repeat_s else 1.0
            rows = [(row, share * weight) for row, weight in _rows(note.pitch)]
        frame = max(0.0, note.onset_s + late_s) / config.hop_s
        first = round(frame)
        if first >= num_frames:
            continue
        distance = (np.arange(first - reach, first + reach + 1) - frame) * config.hop_s / config.onset_width_s
        bell = np.exp(-0.5 * distance**2)
        for row, weight in rows:
            part = onsets[first : first + 2 * reach + 1, row]  # `reach` frames were put in front
            np.maximum(part, weight * bell, out=part)
    return onsets[reach : reach + num_frames]


def _pauses(notes: Sequence[Note]) -> Iterator[tuple[Note, Seconds]]:
    """Yield notes by their onsets, each with the time since its pitch last sounded; below 0 where it still does."""
    ends_s: dict[int, Seconds] = {}
    for note in sorted(notes, key=lambda note: note.onset_s):
        end_s = ends_s.get(note.pitch, -np.inf)
        yield note, note.onset_s - end_s
        ends_s[note.pitch] = max(end_s, note.offset_s)


def _rows(pitch: int) -> list[tuple[int, float]]:
    places = ((pitch + above - int(PITCHES[0]), weight) for above, weight in _HARMONICS)
    return [(row, weight) for row, weight in places if 0 <= row < len(PITCHES)]


def _contrast(values_FP: Array) -> Array:
    """Subtract the means of each semitone and each frame: loudness and timbre say nothing of the score."""
    values = values_FP - values_FP.mean(axis=0)
    contrast: Array = values - values.mean(axis=1, keepdims=True)
    return contrast


def _correlation(heard_FP: Array, expected_FP: Array, lags_D: NDArray[np.int64]) -> NDArray[np.float64]:
    """Correlate (D,), normalized, the recording `lag` frames later with what the score expects."""
    size = 1 << (len(heard_FP) + max(len(heard_FP), int(np.abs(lags_D).max()))).bit_length()  # nothing wraps around
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    for row in np.flatnonzero(expected_FP.any(axis=0)):
        spectrum += np.fft.rfft(heard_FP[:, row], size) * np.conj(np.fft.rfft(expected_FP[:, row], size))
    norm = float(np.linalg.norm(heard_FP)) * float(np.linalg.norm(expected_FP))
    correlation: NDArray[np.float64] = np.fft.irfft(spectrum, size)[lags_D % size] / max(norm, 1e-12)
    return correlation


def _foot(values_D: NDArray[np.float64], peak: int) -> float:
    """Interpolate the index at which the values on their way to a peak pass half its height."""
    height = _FOOT * values_D[peak]
    below = peak
    while below > 0 and values_D[below] > height:
        below -= 1
    if below == peak or values_D[below] > height:
        return float(below)
    return float(below + (height - values_D[below]) / (values_D[below + 1] - values_D[below]))
