"""Recursive filters on batches, exactly and without a loop over samples.

A filter is a state space: s[n+1] = A s[n] + B x[n], y[n] = C s[n] + D x[n]. The signal is cut into
blocks of L samples. Within a block the output is a product with the (L, L) Toeplitz matrix of the
impulse response, plus what the state at its beginning adds; the states at the beginnings of all blocks
follow the same recursion with A^L and are found the same way, group by group. Nothing is cut off and
nothing wraps, as it would with an FFT, and it costs a quarter of scipy's sosfilt per clip.

Shapes: R filters (one per example, or 1 for all), B examples, T samples, S states, L samples of a
block, M blocks, G blocks of a group, K filters in series.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 32  # L: 16 to 48 cost about the same on a CPU; 32 halves the number of blocks
_GROUP = 20  # G: 40 costs twice as much on a CPU


@dataclass(frozen=True)
class LinearFilter:
    """State spaces of R filters, float64: powers of A near the unit circle must not lose digits."""

    A_RSS: Tensor
    B_RS: Tensor
    C_RS: Tensor
    D_R: Tensor


def biquad(coefficients_R5: Tensor) -> LinearFilter:
    """Build second-order sections from (b0, b1, b2, a1, a2) with a0 = 1.

    Transposed direct form II, but for the second state, from which a1 / 2 times the first is taken off:
    at low frequencies the two nearly cancel, which would cost float32 three digits.
    """
    b0, b1, b2, a1, a2 = coefficients_R5.double().unbind(1)
    one, zero, half = torch.ones_like(b0), torch.zeros_like(b0), a1 / 2
    A_RSS = torch.stack([torch.stack([-half, one], 1), torch.stack([half.square() - a2, -half], 1)], 1)
    first = b1 - a1 * b0
    B_RS = torch.stack([first, b2 - a2 * b0 - half * first], 1)
    return LinearFilter(A_RSS, B_RS, torch.stack([one, zero], 1), b0)


def in_series(first: LinearFilter, second: LinearFilter) -> LinearFilter:
    """Combine two filters, one after the other, into one."""
    corner = second.B_RS[:, :, None] * first.C_RS[:, None, :]
    upper = torch.cat([first.A_RSS, torch.zeros_like(corner).transpose(1, 2)], 2)
    return LinearFilter(
        torch.cat([upper, torch.cat([corner, second.A_RSS], 2)], 1),
        torch.cat([first.B_RS, second.B_RS * first.D_R[:, None]], 1),
        torch.cat([second.D_R[:, None] * first.C_RS, second.C_RS], 1),
        first.D_R * second.D_R,
    )


def linear_filter(waveform_BT: Tensor, system: LinearFilter) -> Tensor:
    """Filter waveforms (B, T) from rest; float32, (B, T)."""
    count, num_samples = waveform_BT.shape
    padded = functional.pad(waveform_BT, (0, -num_samples % _BLOCK)) if num_samples % _BLOCK else waveform_BT
    blocks_BML = padded.reshape(count, -1, _BLOCK)
    toeplitz_RLL, observe_RSL, control_RSL, step_RSS = _block_matrices(system)
    gained_BSM = torch.bmm(_each(control_RSL, count), blocks_BML.transpose(1, 2))
    states_BMS = _states(gained_BSM.transpose(1, 2), step_RSS)
    output_BML = torch.bmm(blocks_BML, _each(toeplitz_RLL, count))
    output_BML.baddbmm_(states_BMS, _each(observe_RSL, count))
    return output_BML.view(count, -1)[:, :num_samples]


def _each(matrix_R: Tensor, count: int) -> Tensor:
    return matrix_R.float().expand(count, -1, -1)


def _block_matrices(system: LinearFilter) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute block input -> output (R, L, L), state -> output (R, S, L), input -> state (R, S, L), A^L."""
    reached_RLS = _powers(system.A_RSS, system.B_RS, _BLOCK)  # A^n B
    observed_RLS = _powers(system.A_RSS.transpose(1, 2), system.C_RS, _BLOCK)  # C A^n
    response_RL = (reached_RLS * system.C_RS[:, None]).sum(2)
    impulse_RL = torch.cat([system.D_R[:, None], response_RL[:, :-1]], 1)
    steps = torch.arange(_BLOCK, device=impulse_RL.device)
    lag_LL = steps - steps[:, None]  # output minus input position
    toeplitz_RLL = torch.where(lag_LL >= 0, impulse_RL[:, lag_LL.clamp(min=0)], 0.0)
    control_RSL = reached_RLS.flip(1).transpose(1, 2)
    step_RSS = torch.linalg.matrix_power(system.A_RSS, _BLOCK)
    return toeplitz_RLL, observed_RLS.transpose(1, 2), control_RSL.contiguous(), step_RSS


def _powers(matrix_RSS: Tensor, vector_RS: Tensor, count: int) -> Tensor:
    """Compute vector, A vector, A^2 vector, ...: (R, count, S)."""
    powers_RNS, step_RSS = vector_RS[:, None], matrix_RSS.transpose(1, 2)
    while powers_RNS.shape[1] < count:  # all that there are, once more by as many steps
        powers_RNS = torch.cat([powers_RNS, powers_RNS @ step_RSS], dim=1)
        step_RSS = step_RSS @ step_RSS
    return powers_RNS[:, :count]


def _states(gained_BMS: Tensor, step_RSS: Tensor) -> Tensor:
    """Compute the states (B, M, S) before every block of s[m+1] = step s[m] + gained[m], from rest."""
    count, num_blocks, size = gained_BMS.shape
    powers = [torch.eye(size, dtype=step_RSS.dtype, device=step_RSS.device).expand_as(step_RSS)]
    for _ in range(_GROUP):
        powers.append(step_RSS @ powers[-1])
    powers_RPSS = torch.stack(powers, 1)  # P = G + 1
    steps = torch.arange(_GROUP + 1, device=step_RSS.device)
    lag_PG = steps[:, None] - 1 - steps[:-1]  # what block j gained reaches state i through step^(i-1-j)
    within = torch.where((lag_PG >= 0)[..., None, None], powers_RPSS[:, lag_PG.clamp(min=0)], 0.0)
    within = within.permute(0, 2, 4, 1, 3).reshape(len(step_RSS), _GROUP * size, (_GROUP + 1) * size)
    groups = functional.pad(gained_BMS, (0, 0, 0, -num_blocks % _GROUP)).reshape(count, -1, _GROUP * size)
    found = torch.bmm(groups, _each(within, count))
    whole_step = _each(powers_RPSS[:, -1], count)
    state_BS1 = found.new_zeros(count, size, 1)
    starts = []
    for gained_BS in found[..., -size:].unbind(1):
        starts.append(state_BS1[..., 0])
        state_BS1 = torch.baddbmm(gained_BS[..., None], whole_step, state_BS1)
    carried = powers_RPSS[:, :-1].permute(0, 3, 1, 2).reshape(len(step_RSS), size, _GROUP * size)
    states = torch.baddbmm(found[..., :-size], torch.stack(starts, 1), _each(carried, count))
    return states.reshape(count, -1, size)[:, :num_blocks]
