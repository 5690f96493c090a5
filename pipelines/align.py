"""How much later than its score a recording begins, and whether it is a recording of that score at all.

Encoders put silence before the music, synthesizers take their time, and a file may be of another
piece. Two comparisons of what the audio does at each semitone with what the score asks for:

1. Levels against sounding notes (with their harmonics), correlated over all delays: the best delay
   roughly, and as its correlation the `score` of the pair. Long notes and every pitch count, so soft
   attacks do no harm, and another piece in the same rhythm does not pass.
2. Rises of the level against the onsets, correlated near that delay: the delay to a few milliseconds,
   between frames by a parabola through the peak.

Where a score has percussion only there is no pitch to compare: 2 alone gives both, on all bands together.

What is measured is when the sound of the notes begins: a pad that swells for 0.2 s is that much late.

Measured on 8 MP3 pairs and 40 renderings of 24 programs with FluidR3: scores of 0.30 to 0.77, and of at most
0.06 where the pieces are swapped (0.10 for a score of percussion only). Delays of the MP3s, shifted by known
amounts, are right within 8 ms, those of the renderings within 20 ms but for four soloists with soft attacks.

Shapes: T samples, F frames, P semitones, N notes, D delays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.record import DRUMS, Alignment, Note, Seconds

Array = NDArray[np.float32]

PITCHES = np.arange(21, 109)  # of a piano: where scores write and energy shows


@dataclass(frozen=True)
class AlignConfig:
    """How the delay is looked for."""

    lowest_delay_s: Seconds = -0.25  # a decoder that trims, or a file that was cut into
    highest_delay_s: Seconds = 2.0  # MP3 encoders add 0.03 s, renderers up to a bar's rest
    window_s: Seconds = 0.096  # 10 Hz apart: semitones from D3 on; lower ones are told by their harmonics
    hop_s: Seconds = 0.008
    level_compression: float = 100.0  # log(1 + compression * amplitude): what is 40 dB below full scale counts
    rise_compression: float = 10_000.0  # 80 dB: the very beginning of a soft attack is a rise
    decay_s: Seconds = 1.0  # of a note to 1 / e: between a banjo's 0.3 s and an organ, which does not decay
    refine_s: Seconds = 0.15  # around the rough delay: more than a slow attack, less than a beat
    rise_s: Seconds = 0.016  # from which to which frame energy must rise
    trend_s: Seconds = 0.5  # rises are taken relative to their mean over this time
    onset_width_s: Seconds = 0.012  # standard deviation: how exactly players and synthesizers keep an onset
    measured_s: Seconds = 120.0  # of the beginning: more adds time, no precision


# Semitones above a note's pitch, and what its harmonics 1 to 4 weigh.
_HARMONICS = ((0, 1.0), (12, 0.6), (19, 0.4), (24, 0.3))
_BLOCK_FRAMES = 1_024  # transformed at once: 8 MiB
# An onset shows before it is at the middle of the window: median over 40 renderings with 24 programs.
_BIAS_S = -0.009


def delay(samples_T: Array, sample_rate: int, notes: Sequence[Note], config: AlignConfig | None = None) -> Alignment:
    """How much later the recording is than its score.

    Args:
        samples_T: mono; its beginning is enough.
        sample_rate: in Hz; at least 8,000, or most semitones are missing.
        notes: of the score, in its seconds.
        config: the search; None: the default.

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
    lags_D = np.arange(round(config.lowest_delay_s / config.hop_s), round(config.highest_delay_s / config.hop_s) + 1)
    onsets_D = np.zeros(len(lags_D))
    if pitched:
        onsets_D += _correlation(rises_FP, _onsets(pitched, num_frames, config), lags_D)
        levels_FP = np.log1p(config.level_compression * amplitude_FP)
        levels_FP /= levels_FP.std(axis=0) + 0.1 * levels_FP.std() + 1e-9  # quiet bands count, empty ones do not
        rough_D = _correlation(_contrast(levels_FP), _contrast(_roll(pitched, num_frames, config)), lags_D)
    if struck:
        all_bands_F1 = rises_FP.sum(axis=1, keepdims=True)
        onsets_D += _correlation(all_bands_F1, _onsets(struck, num_frames, config)[:, :1], lags_D)
    if not pitched:
        rough_D = onsets_D
    best = int(np.argmax(rough_D))
    reach = round(config.refine_s / config.hop_s)
    first = max(best - reach, 0)
    near_D = onsets_D[first : best + reach + 1]
    peak = int(np.argmax(near_D))
    delay_s = (lags_D[first + peak] + _between(near_D, peak)) * config.hop_s - _BIAS_S
    return Alignment(round(float(delay_s), 4), round(float(rough_D[best]), 4))


def semitone_amplitude(samples_T: Array, sample_rate: int, config: AlignConfig) -> Array:
    """(F, P): amplitude around each semitone, in [0, 1]; frame f is centred on f * hop."""
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
    """(B, P): triangles of a semitone to either side, and never narrower than a bin."""
    frequencies_B1 = np.arange(size // 2 + 1)[:, None] * sample_rate / size
    centers_P = 440.0 * 2 ** ((PITCHES - 69) / 12)
    widths_P = np.maximum(centers_P * (2 ** (1 / 12) - 1), sample_rate / size)
    bands = np.maximum(0, 1 - np.abs(frequencies_B1 - centers_P) / widths_P)
    normalized: Array = (bands / np.maximum(bands.sum(axis=0), 1e-9)).astype(np.float32)
    return normalized


def _rises(levels_FP: Array, config: AlignConfig) -> Array:
    """(F, P): how much the level rises around each frame, above what is usual there."""
    reach = max(1, round(config.rise_s / config.hop_s / 2))
    rises = np.zeros_like(levels_FP)
    rises[reach:-reach] = np.maximum(levels_FP[2 * reach :] - levels_FP[: -2 * reach], 0)
    half = round(config.trend_s / config.hop_s / 2)
    sums = np.cumsum(np.pad(rises, ((half + 1, half), (0, 0)), mode="edge"), axis=0, dtype=np.float64)
    trend = (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)
    centered: Array = (rises - trend).astype(np.float32)
    return centered


def _roll(notes: Sequence[Note], num_frames: int, config: AlignConfig) -> Array:
    """(F, P): what sounds in each frame by the score, harmonics included."""
    roll = np.zeros((num_frames, len(PITCHES)), np.float32)
    for note in notes:
        first, last = round(note.onset_s / config.hop_s), round(note.offset_s / config.hop_s)
        last = min(max(last, first + 1), num_frames)
        level = np.exp(-np.arange(max(0, last - first)) * config.hop_s / config.decay_s)
        for row, weight in _rows(note.pitch):
            part = roll[first:last, row]
            np.maximum(part, weight * level, out=part)
    return roll


def _onsets(notes: Sequence[Note], num_frames: int, config: AlignConfig) -> Array:
    """(F, P): a bell around each onset, harmonics included."""
    reach = round(4 * config.onset_width_s / config.hop_s)
    onsets = np.zeros((num_frames + 2 * reach, len(PITCHES)), np.float32)
    for note in notes:
        frame = note.onset_s / config.hop_s
        first = round(frame)
        if first >= num_frames:
            continue
        distance = (np.arange(first - reach, first + reach + 1) - frame) * config.hop_s / config.onset_width_s
        bell = np.exp(-0.5 * distance**2)
        for row, weight in _rows(note.pitch) if note.program != DRUMS else [(0, 1.0)]:
            part = onsets[first : first + 2 * reach + 1, row]  # `reach` frames were put in front
            np.maximum(part, weight * bell, out=part)
    return onsets[reach : reach + num_frames]


def _rows(pitch: int) -> list[tuple[int, float]]:
    places = ((pitch + above - int(PITCHES[0]), weight) for above, weight in _HARMONICS)
    return [(row, weight) for row, weight in places if 0 <= row < len(PITCHES)]


def _contrast(values_FP: Array) -> Array:
    """Without what is usual at each semitone, and in each frame: loudness and timbre say nothing of the score."""
    values = values_FP - values_FP.mean(axis=0)
    contrast: Array = values - values.mean(axis=1, keepdims=True)
    return contrast


def _correlation(heard_FP: Array, expected_FP: Array, lags_D: NDArray[np.int64]) -> NDArray[np.float64]:
    """(D,): normalized correlation of what is heard `lag` frames later with what is expected."""
    size = 1 << (len(heard_FP) + max(len(heard_FP), int(np.abs(lags_D).max()))).bit_length()  # nothing wraps around
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    for row in np.flatnonzero(expected_FP.any(axis=0)):
        spectrum += np.fft.rfft(heard_FP[:, row], size) * np.conj(np.fft.rfft(expected_FP[:, row], size))
    norm = float(np.linalg.norm(heard_FP)) * float(np.linalg.norm(expected_FP))
    correlation: NDArray[np.float64] = np.fft.irfft(spectrum, size)[lags_D % size] / max(norm, 1e-12)
    return correlation


def _between(values_D: NDArray[np.float64], peak: int) -> float:
    """How far beside index `peak` a parabola through it and its neighbors has its vertex."""
    if not 0 < peak < len(values_D) - 1:
        return 0.0
    before, at, after = values_D[peak - 1 : peak + 2]
    curvature = before - 2 * at + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0
