"""Notes of one instrument, one after the other."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from tutti.augment.batch import Batch
from tutti.augment.levels import SILENT, peak
from tutti.augment.mixing import NOBODY, same_instruments, targets_with
from tutti.augment.transform import Parameters, Transform
from tutti.datasets.record import Decibels


@dataclass(frozen=True)
class ConcatSameInstrument(Transform):
    """Join silence-trimmed clips of the same instrument up to the old length (NSynth pre-training paper).

    Plucked notes end early; joined, they fill the window and change, as in music. What the clips do
    not fill starts over. The paper then takes the first second: crop afterwards.
    """

    num: int = 4  # clips at most, the example among them; NSynth's notes last about a second when trimmed to 40 dB
    trim_db: Decibels = 40.0  # below the peak is silence at both ends; the paper leaves it open

    def __post_init__(self) -> None:
        if self.num < 1 or self.trim_db <= 0:
            raise ValueError(f"expected num >= 1 and trim_db > 0, got {self.num} and {self.trim_db}")

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw partners (B, num - 1): indices into the pool; -1 where no other clip holds just that."""
        own_BC, pool_PC = batch.presence.cpu(), batch.source.presence.cpu()
        return {"partners": same_instruments(own_BC, pool_PC, self.num - 1, generator)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Join the waveforms; silence stays silent."""
        partners_BK = parameters["partners"]
        first_P, length_P = sounding(batch.source.signal, self.trim_db)
        own_first_B, own_length_B = sounding(batch.signal, self.trim_db)
        nobody_BK, clip_BK = partners_BK == NOBODY, partners_BK.clamp(min=0)
        first_BK = torch.cat([own_first_B[:, None], first_P[clip_BK]], 1)
        length_BK = torch.cat([own_length_B[:, None], length_P[clip_BK].masked_fill(nobody_BK, 0)], 1)
        ends_BK = length_BK.cumsum(1)
        steps_T = torch.arange(batch.signal.shape[1], device=batch.device)
        place_BT = steps_T % ends_BK[:, -1:].clamp(min=1)
        part_BT = torch.searchsorted(ends_BK, place_BT, right=True).clamp(max=ends_BK.shape[1] - 1)
        within_BT = place_BT - functional.pad(ends_BK, (1, 0)).gather(1, part_BT) + first_BK.gather(1, part_BT)
        joined = batch.signal.gather(1, within_BT.clamp(max=batch.signal.shape[1] - 1))
        clip_BT = functional.pad(clip_BK, (1, 0)).gather(1, part_BT)
        theirs = batch.source.signal[clip_BT, within_BT.clamp(max=batch.source.signal.shape[1] - 1)]
        signal = torch.where(part_BT == 0, joined, theirs)
        return Batch(signal, targets_with(batch, partners_BK), batch.sample_rate, batch.pool)


def sounding(waveform_BT: Tensor, trim_db: Decibels) -> tuple[Tensor, Tensor]:
    """Find first sample and length (B,) int64 without the silence at both ends; a silent clip is whole."""
    loud_BT = waveform_BT.abs() >= (peak(waveform_BT) * 10 ** (-trim_db / 20)).clamp(min=SILENT)
    silent_B = ~loud_BT.any(1)
    first_B = loud_BT.int().argmax(1)
    last_B = waveform_BT.shape[1] - 1 - loud_BT.flip(1).int().argmax(1)
    length_B = torch.where(silent_B, waveform_BT.shape[1], last_B - first_B + 1)
    return first_B, length_B
