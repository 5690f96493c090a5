"""Mixtures as sound: chunks of stems, each through effects of its own, added up and set to one loudness.

    mixer = Mixer(audio, stems, sampler, level, config)
    window_BT, presence_BC = mixer.batch([(epoch, index), ...])

Effects are drawn for each mixture by itself. On a processor it is also worked on by itself, so that it is the same
in any batch and on any thread. On a GPU a whole batch is worked on at once: the same batch gives the same mixtures; in
a batch of another size stems whose key or tempo moves may have other phases (the vocoder's), and the rest other last
bits.
Shapes: B mixtures, N stems of one, K stems of all, T samples, C classes, E effects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutti.augment.batch import Batch, batch_of
from tutti.augment.chain import Chain, Effect
from tutti.augment.draw import generator_for
from tutti.augment.levels import peak, ratio_from_db
from tutti.augment.loudness import loudness_gain
from tutti.augment.transform import Parameters
from tutti.augment.transforms.gain import Gain
from tutti.augment.transforms.high_shelf import HighShelf
from tutti.augment.transforms.low_shelf import LowShelf
from tutti.augment.transforms.peaking import Peaking
from tutti.augment.transforms.pitch_shift import PitchShift
from tutti.augment.transforms.time_stretch import TimeStretch
from tutti.datasets.record import Decibels, Lufs
from tutti.train.stems.audio import StemAudio
from tutti.train.stems.config import MixingConfig
from tutti.train.stems.plan import Mix, Sampler

_MOVING = (4, 5)  # effects that leave key or tempo: not in a musical mixture
_BELOW = 1 - 1e-6  # so that no rounding passes the peak


@dataclass(frozen=True)
class Level:
    """Loudness of a mixture; as that of any clip in training."""

    sample_rate: int  # Hz
    target_lufs: Lufs
    max_gain_db: Decibels


def effects_of(config: MixingConfig) -> Chain:
    """Build the effects of one stem, in an order of its own."""
    return Chain(
        (
            Effect(Gain(), config.p_gain),
            Effect(HighShelf(), config.p_high_shelf),
            Effect(LowShelf(), config.p_low_shelf),
            Effect(Peaking(), config.p_peaking),
            Effect(PitchShift(), config.p_pitch_shift),
            Effect(TimeStretch(), config.p_time_stretch),
        ),
        order="random",
    )


class Mixer:
    """Makes the mixtures that a sampler draws.

    Args:
        audio: samples of the split.
        sampler: of the split's stems.
        gain_db_S: of each stem before anything else.
        level: of the mixtures.
        device: where they appear.
        with_effects: off: stems as they are.
    """

    def __init__(
        self,
        audio: StemAudio,
        sampler: Sampler,
        gain_db_S: Tensor,
        level: Level,
        device: torch.device,
        *,
        with_effects: bool = True,
    ) -> None:
        self.audio, self.sampler, self.level, self.device = audio, sampler, level, device
        self._effects = effects_of(sampler.config) if with_effects else None
        self._gains_S1 = ratio_from_db(gain_db_S)

    def batch(self, numbers: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Make mixtures: (B, T) float32 and their presence (B, C) int8, both on the device.

        Args:
            numbers: epoch and index of each.
        """
        mixes = [self.sampler.draw(epoch, index) for epoch, index in numbers]
        apart = [[place] for place in range(len(mixes))] if self.device.type == "cpu" else [[*range(len(mixes))]]
        parts = [self._mixed([mixes[place] for place in part], [numbers[place] for place in part]) for part in apart]
        presence_BC = torch.from_numpy(np.stack([mix.presence for mix in mixes]))
        return torch.cat(parts), presence_BC.to(self.device, non_blocking=True)

    def _mixed(self, mixes: Sequence[Mix], numbers: Sequence[tuple[int, int]]) -> Tensor:
        """Read, vary and add up the stems of mixtures (B, T) that are worked on together."""
        stems = np.concatenate([mix.stems for mix in mixes])
        first = np.concatenate([mix.first for mix in mixes])
        rows = self.sampler.stems.rows[stems]
        chunk_KT = self.audio.windows(rows, first, self.sampler.num_samples).to(self.device, non_blocking=True)
        chunk_KT = chunk_KT * self._gains_S1[torch.from_numpy(stems)].to(self.device)
        if self._effects is not None:
            chunk_KT = self._varied(self._effects, chunk_KT, mixes, numbers)
        sizes = [len(mix.stems) for mix in mixes]
        mixture_BT = _added_up(chunk_KT, sizes)
        # One gain: to the loudness of training, or less where that would pass full scale.
        level, most = self.level, self.sampler.config.max_peak
        gain_B1 = loudness_gain(mixture_BT, level.sample_rate, level.target_lufs, level.max_gain_db)
        return mixture_BT * torch.minimum(gain_B1, most * _BELOW / peak(mixture_BT).clamp(min=1e-9))

    def _varied(
        self, effects: Chain, chunk_KT: Tensor, mixes: Sequence[Mix], numbers: Sequence[tuple[int, int]]
    ) -> Tensor:
        drawn = [self._parameters(effects, mix, number) for mix, number in zip(mixes, numbers, strict=True)]
        parameters = {name: torch.cat([part[name] for part in drawn]) for name in drawn[0]}
        return effects.run(_batch(chunk_KT, self.level.sample_rate), parameters).signal

    def _parameters(self, effects: Chain, mix: Mix, number: tuple[int, int]) -> Parameters:
        """Draw the effects of one mixture's stems; those that move key or tempo are never on in a musical one."""
        generator = generator_for(self.sampler.seed, *number)
        parameters = dict(effects.draw(_batch(torch.empty(len(mix.stems), 1), self.level.sample_rate), generator))
        if mix.musical:
            parameters["step"][:, list(_MOVING)] = -1
        return parameters


def _batch(signal: Tensor, sample_rate: int) -> Batch:
    return batch_of(signal, torch.zeros(len(signal), 1, dtype=torch.int8), sample_rate=sample_rate)


def _added_up(chunk_KT: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sum the rows of each mixture (B, T), whatever their number, in their order."""
    if len(sizes) == 1:
        return chunk_KT.sum(0, keepdim=True)
    padded_BNT = chunk_KT.new_zeros(len(sizes), max(sizes), chunk_KT.shape[1])
    mixture_K = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    place_K = torch.cat([torch.arange(size) for size in sizes])
    padded_BNT[mixture_K.to(chunk_KT.device), place_K.to(chunk_KT.device)] = chunk_KT
    return padded_BNT.sum(1)
