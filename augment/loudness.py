"""Integrated loudness of a batch of mono clips, ITU-R BS.1770-4, as pyloudnorm measures it.

Of whole gating blocks, as the standard says; pyloudnorm also counts a last block of which up to half is missing. The
two agree within 2e-6 LU where the length is a multiple of 100 ms, and differ by up to 0.83 LU in clips under a second
whose length is none.

Shapes: B clips, T samples, J gating blocks.
"""

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from tutti.augment.biquad import BUTTERWORTH_Q, high_pass, high_shelf
from tutti.augment.levels import ratio_from_db, rms
from tutti.augment.linear_filter import LinearFilter, biquad, in_series, linear_filter
from tutti.datasets.audio import LOUDNESS_BLOCK_S, MIN_LOUDNESS_LUFS
from tutti.datasets.record import Decibels, Lufs

_HOP_SHARE = 0.25  # of a block: they overlap by 75 %
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_OFFSET_LUFS = -0.691  # BS.1770-4 eq. 2


@functools.lru_cache(maxsize=8)
def k_weighting(sample_rate: int, device: torch.device) -> LinearFilter:
    """Build the head's shelf and the high-pass, as pyloudnorm's cookbook filters, at any sample rate."""
    of = functools.partial(torch.tensor, dtype=torch.float64, device=device)
    shelf = high_shelf(of([1_500.0]), of([BUTTERWORTH_Q]), of([4.0]), sample_rate)
    return in_series(biquad(shelf), biquad(high_pass(of([38.0]), of([0.5]), sample_rate)))


def loudness_lufs(waveform_BT: Tensor, sample_rate: int) -> Tensor:
    """Measure integrated loudness (B,), float32; -inf where nothing passes the gates.

    A clip shorter than a gating block of 0.4 s is measured as one block.
    """
    weighted_BT = linear_filter(waveform_BT, k_weighting(sample_rate, waveform_BT.device))
    power_BJ = _block_powers(weighted_BT, sample_rate)
    loudness_BJ = _loudness(power_BJ)
    loud_BJ = loudness_BJ >= _ABSOLUTE_GATE_LUFS
    threshold_B1 = _loudness(_mean_where(power_BJ, loud_BJ))[:, None] + _RELATIVE_GATE_LU
    gated_BJ = loud_BJ & (loudness_BJ > threshold_B1)
    return _loudness(_mean_where(power_BJ, gated_BJ))


def _block_powers(weighted_BT: Tensor, sample_rate: int) -> Tensor:
    """Compute the mean square of every gating block (B, J)."""
    num_samples = weighted_BT.shape[1]
    if num_samples < LOUDNESS_BLOCK_S * sample_rate:
        return rms(weighted_BT).square()
    hop = LOUDNESS_BLOCK_S * _HOP_SHARE * sample_rate
    block = LOUDNESS_BLOCK_S * sample_rate
    if hop.is_integer():  # as at every common rate: sum quarters of blocks once
        quarters = weighted_BT[:, : num_samples - num_samples % int(hop)].reshape(len(weighted_BT), -1, int(hop))
        energy = torch.linalg.vector_norm(quarters, dim=2).square()
        return functional.avg_pool1d(energy[:, None], 4, 1)[:, 0] * (4 / block)
    count = math.floor((num_samples - block) / hop) + 1
    spans = [(int(index * hop), int(index * hop + block)) for index in range(count)]
    return torch.stack([rms(weighted_BT[:, start:end])[:, 0].square() for start, end in spans], dim=1)


def _loudness(power: Tensor) -> Tensor:
    return _OFFSET_LUFS + 10 * torch.log10(power)


def _mean_where(power_BJ: Tensor, chosen_BJ: Tensor) -> Tensor:
    """Average the chosen blocks, (B,); 0 where there are none."""
    return (power_BJ * chosen_BJ).sum(1) / chosen_BJ.sum(1).clamp(min=1)


def normalized(waveform_BT: Tensor, sample_rate: int, target_lufs: Lufs, max_gain_db: Decibels) -> Tensor:
    """Scale waveforms to one loudness; unchanged where it cannot be measured. May pass full scale."""
    return waveform_BT * loudness_gain(waveform_BT, sample_rate, target_lufs, max_gain_db)


def loudness_gain(waveform_BT: Tensor, sample_rate: int, target_lufs: Lufs, max_gain_db: Decibels) -> Tensor:
    """Compute the factor (B, 1) to the target loudness; 1 where a loudness cannot be measured."""
    loudness_B = loudness_lufs(waveform_BT, sample_rate)
    gain_db_B = (target_lufs - loudness_B).clamp(max=max_gain_db)
    return ratio_from_db(torch.where(loudness_B >= MIN_LOUDNESS_LUFS, gain_db_B, 0.0))
