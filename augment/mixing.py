"""Whom to mix with whom, and the sum: what sum-with-N, concatenation and mixup share.

Partners are indices into `batch.source`, drawn from labels alone, so that a data path may draw them over
a whole split and then gather only those clips as the pool.

Shapes: B examples, P clips of the pool, C classes, K partners, T samples.
"""

import torch
from torch import Generator, Tensor

from tutti.augment.batch import Batch
from tutti.augment.labels import Targets, targets_or
from tutti.augment.levels import peak, row_blocks
from tutti.datasets.record import PRESENT

NOBODY = -1  # in place of a partner's index
MIN_PEAK = 1e-3  # -60 dB: a clip softer than this is not made louder still


def other_instruments(presence_BC: Tensor, pool_PC: Tensor, count_B: Tensor, generator: Generator) -> Tensor:
    """Draw partners (B, K) that add `count` further instruments to each example; K = the greatest count.

    An instrument is drawn evenly among those not yet known to sound, then a clip of it evenly among
    those that hold nothing which sounds already (Lumen 2023). NOBODY where no clip is left.

    Args:
        presence_BC: 1 present, 0 absent, -1 unknown; unknown does not hinder a partner.
        pool_PC: the same of the pool.
        count_B: instruments to add.
        generator: of the batch.
    """
    plays_PC = (pool_PC == PRESENT).float()
    heard_BC = (presence_BC == PRESENT).float()
    partners_BK = torch.full((len(presence_BC), int(count_B.max()) if len(count_B) else 0), NOBODY)
    for k in range(partners_BK.shape[1]):
        fits_BP = heard_BC @ plays_PC.T == 0
        offered_BC = fits_BP.float() @ plays_PC > 0
        instrument_B = _evenly_among(offered_BC, generator)
        chosen_BP = fits_BP & (plays_PC.T[instrument_B] > 0)
        clip_B = _evenly_among(chosen_BP, generator)
        wanted_B = (k < count_B) & offered_BC.any(1)
        partners_BK[:, k] = torch.where(wanted_B, clip_B, NOBODY)
        heard_BC = torch.where(wanted_B[:, None], torch.maximum(heard_BC, plays_PC[clip_B]), heard_BC)
    return partners_BK


def same_instruments(presence_BC: Tensor, pool_PC: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw partners (B, count) known to hold just the example's instruments; NOBODY where there is none."""
    plays_PC, heard_BC = (pool_PC == PRESENT).float(), (presence_BC == PRESENT).float()
    common_BP = heard_BC @ plays_PC.T
    fits_BP = (common_BP == plays_PC.sum(1)) & (common_BP == heard_BC.sum(1)[:, None]) & (common_BP > 0)
    drawn = [_evenly_among(fits_BP, generator) for _ in range(count)]
    partners_BK = torch.stack(drawn, 1) if drawn else torch.empty(len(presence_BC), 0, dtype=torch.int64)
    return torch.where(fits_BP.any(1)[:, None], partners_BK, NOBODY)


def anybody(batch: Batch, count: int, generator: Generator) -> Tensor:
    """Draw partners (B, count) of the pool, whatever they hold."""
    return torch.randint(len(batch.source), (len(batch), count), generator=generator)


def _evenly_among(allowed: Tensor, generator: Generator) -> Tensor:
    """Draw an allowed column of each row; any column where none is allowed."""
    return (torch.rand(allowed.shape, generator=generator) + allowed).argmax(dim=1)


def peak_scale(waveform_BT: Tensor) -> Tensor:
    """Compute the factor (B, 1) to a peak of 1, librosa's `normalize`."""
    return 1 / peak(waveform_BT).clamp(min=MIN_PEAK)


def summed(batch: Batch, partners_BK: Tensor) -> Batch:
    """Average each clip and its partners, each at a peak of 1, and combine their labels by OR."""
    pool = batch.source
    number_B1 = 1.0 + (partners_BK != NOBODY).sum(1, keepdim=True)
    pool_scale_P1 = peak_scale(pool.signal)
    own_scale_B1 = pool_scale_P1 if pool is batch else peak_scale(batch.signal)
    mixed_BT = batch.signal * (own_scale_B1 / number_B1)
    for partner_B in partners_BK.unbind(1):
        clip_B = partner_B.clamp(min=0)
        weight_B1 = torch.where(partner_B == NOBODY, 0.0, pool_scale_P1[clip_B, 0])[:, None] / number_B1
        for rows in row_blocks(mixed_BT):
            mixed_BT[rows].addcmul_(pool.signal.index_select(0, clip_B[rows]), weight_B1[rows])
    return Batch(mixed_BT, targets_with(batch, partners_BK), batch.sample_rate, batch.pool)


def targets_with(batch: Batch, partners_BK: Tensor) -> Targets:
    """Combine each example's labels and its partners' by OR."""
    pool, joint = batch.source.targets, batch.targets
    for partner_B in partners_BK.unbind(1):
        clip_B, nobody_B1 = partner_B.clamp(min=0), (partner_B == NOBODY)[:, None]
        # A partner that is not there holds nothing, for certain.
        target_BC = torch.where(nobody_B1, 0.0, pool.target[clip_B])
        joint = targets_or(joint, Targets(target_BC, pool.mask[clip_B] | nobody_B1))
    return joint
