"""A phase vocoder with a rate per example, and resampling with a ratio per example.

The vocoder (Flanagan and Golden 1966, Portnoff 1976) reads the frames of a short-time spectrum at
another speed than it writes them: magnitudes are interpolated, phases advance by what they advance
between the two frames at hand. Reading and writing use one hop, so that multiples of 2 pi cancel and no
unwrapping is needed. Attacks smear over a frame.

Shapes: B examples, T samples, F frames read, G frames written, N bins.
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tutti.augment.levels import fast_length, row_blocks

FRAME_S = 0.064  # 1,024 samples at 16 kHz: resolves two partials 60 Hz apart
HOPS_PER_FRAME = 4  # squared Hann windows at 75 % overlap add up to a constant
_LEAD = HOPS_PER_FRAME // 2  # hops from the beginning of a frame to its center
_NO_PHASE = 1e-4  # magnitude of a bin below which it has no phase: a sine 128 dB below full scale


def frame_length(sample_rate: int) -> int:
    """Choose the samples of a frame: the power of two nearest to `FRAME_S`."""
    return int(2 ** round(math.log2(FRAME_S * sample_rate)))


def stretched(waveform_BN: Tensor, rate_B: Tensor, num_samples: int, sample_rate: int, max_rate: float) -> Tensor:
    """Play waveforms `rate` times as fast at the same pitch; (B, num_samples).

    What is needed beyond the end of the input is its beginning, as where a short clip is repeated. No
    rate may pass `max_rate`, which fixes how much is read: nothing waits for numbers from the device.
    """
    size = frame_length(sample_rate)
    return _by_rows(
        lambda part_BN, rates_B: _stretched(part_BN, rates_B, num_samples, size, max_rate),
        waveform_BN,
        rate_B.double().clamp(max=max_rate),
    )


def _by_rows(function: Callable[[Tensor, Tensor], Tensor], waveform_BN: Tensor, number_B: Tensor) -> Tensor:
    """Apply a function of waveforms, and of a number for each, to blocks of rows."""
    return torch.cat([function(waveform_BN[rows], number_B[rows]) for rows in row_blocks(waveform_BN)])


@functools.lru_cache(maxsize=8)
def _window(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size).to(device)


@functools.lru_cache(maxsize=8)
def _envelope(count: int, size: int, device: torch.device) -> Tensor:
    """Sum `count` overlapping squared windows: constant but for both ends."""
    squared = _window(size, device).square().expand(1, count, size)
    return _overlapped(squared, size // HOPS_PER_FRAME).clamp(min=1e-3)  # nothing is read at the very ends


def _stretched(waveform_BN: Tensor, rate_B: Tensor, num_samples: int, size: int, max_rate: float) -> Tensor:
    hop = size // HOPS_PER_FRAME
    num_written = -(-num_samples // hop) + 1  # frame g is centered on sample g * hop
    # Read frames lie wholly inside, so that the first is centered half a frame later; before it the
    # sound is taken as steady. Frames that are half empty would turn the bins against each other.
    position_BG = (torch.arange(num_written, device=rate_B.device) * rate_B[:, None] - _LEAD).clamp(min=0)
    before_BG = position_BG.long()
    share_BG1 = (position_BG - before_BG).float()[..., None]
    spectrum_BFN = _spectrum(waveform_BN, max(int((num_written - 1) * max_rate) - _LEAD, 0) + 2, size)
    real_BFN, imag_BFN = spectrum_BFN.real.contiguous(), spectrum_BFN.imag.contiguous()  # apart: ten times as fast
    magnitude_BFN = (real_BFN.square() + imag_BFN.square()).sqrt_()
    turn_BFN = _turn(real_BFN, imag_BFN)
    row_B1 = torch.arange(len(waveform_BN), device=rate_B.device)[:, None]
    low_BGN, high_BGN = _take(magnitude_BFN, row_B1, before_BG), _take(magnitude_BFN, row_B1, before_BG + 1)
    written_BGN = torch.lerp(low_BGN, high_BGN, share_BG1)
    turned_BG = torch.cat([torch.zeros_like(before_BG[:, :1]), before_BG[:, :-1] + 1], dim=1)
    turns_BGN = _take(turn_BFN, row_B1, turned_BG)
    for _ in range(_LEAD):  # back from the first frame read to the first one written
        turns_BGN[:, 0] *= turn_BFN[:, 1].conj()
    phase_BGN = turns_BGN.cumprod(dim=1)
    frames = torch.fft.irfft(phase_BGN.mul_(written_BGN), size) * _window(size, rate_B.device)
    whole_BN = _overlapped(frames, hop) / _envelope(num_written, size, rate_B.device)
    return whole_BN[:, size // 2 : size // 2 + num_samples]


def _turn(real_BFN: Tensor, imag_BFN: Tensor) -> Tensor:
    """Compute each frame's phase advance over the frame before, as complex numbers of magnitude 1.

    Frame 0 is ahead of phase 0. A bin that holds nothing but rounding has phase 0, so that what
    sounds after a silence begins with its own phase, in all bins together.
    """
    shifted_re = real_BFN + _NO_PHASE
    scale = (shifted_re.square() + imag_BFN.square()).rsqrt_()
    unit_re, unit_im = shifted_re.mul_(scale), scale.mul_(imag_BFN)
    before_re, before_im = (functional.pad(part[:, :-1], (0, 0, 1, 0)) for part in (unit_re, unit_im))
    before_re[:, 0] = 1.0
    turn_re = (unit_re * before_re).addcmul_(unit_im, before_im)
    turn_im = (unit_im * before_re).addcmul_(unit_re, before_im, value=-1)
    return torch.complex(turn_re, turn_im)


def _spectrum(waveform_BN: Tensor, num_frames: int, size: int) -> Tensor:
    """Compute spectra (B, F, N) of frames at multiples of the hop; the waveform starts over where it ends."""
    hop = size // HOPS_PER_FRAME
    needed = (num_frames - 1) * hop + size
    repeats = -(-needed // waveform_BN.shape[1])
    longer_BN = torch.cat([waveform_BN] * repeats, dim=1)[:, :needed] if repeats > 1 else waveform_BN[:, :needed]
    spectrum_BFN: Tensor = torch.fft.rfft(longer_BN.unfold(1, size, hop) * _window(size, waveform_BN.device))
    return spectrum_BFN


def _take(frames_BFN: Tensor, row_B1: Tensor, frame_BG: Tensor) -> Tensor:
    """Select frames (B, G, N) by number, per row."""
    _, num_frames, num_bins = frames_BFN.shape
    index = (row_B1 * num_frames + frame_BG).reshape(-1)
    return frames_BFN.reshape(-1, num_bins).index_select(0, index).view(*frame_BG.shape, num_bins)


def _overlapped(frames_BGN: Tensor, hop: int) -> Tensor:
    """Add up frames at multiples of the hop: every quarter of a frame falls on a hop of its own."""
    rows, count, _ = frames_BGN.shape
    total = frames_BGN.new_zeros(rows, count + HOPS_PER_FRAME - 1, hop)
    for quarter in range(HOPS_PER_FRAME):
        total[:, quarter : quarter + count] += frames_BGN[..., quarter * hop : (quarter + 1) * hop]
    return total.view(rows, -1)


def resampled(waveform_BT: Tensor, ratio_B: Tensor, num_samples: int) -> Tensor:
    """Read waveforms at `ratio` times the speed, band-limited, starting over at the end; (B, num_samples).

    The spectrum above what the new speed can hold is taken off and the waveform doubled in rate by an FFT,
    between whose samples a cubic B-spline then reads: errors of -70 dB at 3 kHz of 16, -43 at 6.
    """
    return _by_rows(lambda part_BT, ratios_B: _resampled(part_BT, ratios_B, num_samples), waveform_BT, ratio_B.double())


def _resampled(waveform_BT: Tensor, ratio_B: Tensor, num_samples: int) -> Tensor:
    length = fast_length(waveform_BT.shape[1])
    spectrum_BN = torch.fft.rfft(waveform_BT, length)
    share_N = torch.linspace(0, 1, spectrum_BN.shape[1], device=waveform_BT.device)  # of half the sample rate
    spectrum_BN.masked_fill_(share_N * ratio_B.float()[:, None] >= 1, 0.0)
    # The B-spline's own low-pass taken off beforehand; twice, because twice the samples share the sum.
    spectrum_BN *= 2 * 3 / (2 + torch.cos(share_N * (math.pi / 2)))
    dense_BN = torch.fft.irfft(spectrum_BN, 2 * length)[:, : 2 * waveform_BT.shape[1]]
    num_dense = dense_BN.shape[1]
    steps_T = torch.arange(num_samples, device=waveform_BT.device, dtype=torch.float64)
    position_BT = steps_T * (2 * ratio_B)[:, None]
    before_BT = position_BT.long()
    share_BT = (position_BT - before_BT).float()
    wrapped_BN = torch.cat([dense_BN[:, -1:], dense_BN, dense_BN[:, :2]], dim=1)  # sample k lies at k + 1
    before_BT = before_BT % num_dense
    neighbors = [wrapped_BN.gather(1, before_BT + offset) for offset in range(4)]
    return _cubic_spline(neighbors, share_BT)


def _cubic_spline(weights: Sequence[Tensor], share: Tensor) -> Tensor:
    """Evaluate the uniform cubic B-spline of four weights, `share` of the way from the second to the third."""
    a, b, c, d = weights
    constant = (a + 4 * b + c) / 6
    first = (c - a) / 2
    second = (a + c) / 2 - b
    third = (d - a) / 6 + (b - c) / 2
    return ((third * share + second) * share + first) * share + constant
