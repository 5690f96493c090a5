"""Constant-Q transform: one bin per semitone, frames at a fixed hop; the MuseScore paper's input.

    cqt = Cqt()                          88 bins from A0, hop 512 at 16 kHz: 10 s make 313 frames
    magnitude_BFQ = cqt(waveform_BT)

Every wavelet is one Hann-windowed sine of the same number of periods. They are laid out in blocks of
a hop, so that all bins of all frames are one matrix product, and sums of its shifted columns: no
frames are copied, no octave is resampled, and the same code runs on every device.

Shapes: B clips, T samples, F frames, Q bins, H samples of a hop.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutti.train.features.spectrum import num_frames


@dataclass(frozen=True)
class CqtConfig:
    """Bins and frames of a CQT. The defaults are the MuseScore paper's (Hung, Chen, Yang 2019)."""

    sample_rate: int = 16_000
    hop_length: int = 512
    num_bins: int = 88  # the piano's keys
    min_frequency_hz: float = 27.5  # A0, MIDI note 21
    bins_per_octave: int = 12
    scale: Literal["magnitude", "db"] = "magnitude"  # magnitude: the paper's, and librosa's
    floor_db: float = -60.0  # db: what lies lower; 16-bit noise is some -70 dB in the lowest bins

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.hop_length, self.num_bins, self.bins_per_octave) < 1:
            raise ValueError(f"sizes must be at least 1, got {self}")
        if self.min_frequency_hz <= 0:
            raise ValueError(f"min_frequency_hz must be above 0, got {self.min_frequency_hz}")
        # Beyond the center lies half of the Hann window's main lobe: two periods of its length.
        highest = self.frequency_hz(self.num_bins - 1) * (1 + 2 / self.num_periods)
        if highest > self.sample_rate / 2:
            raise ValueError(
                f"the highest bin reaches {highest:.0f} Hz, above {self.sample_rate / 2:g}: fewer bins or a higher rate"
            )

    @property
    def num_periods(self) -> float:
        """Periods of the sine in a wavelet: frequency over bandwidth, so that neighbors meet half-way."""
        ratio = math.pow(2.0, 2 / self.bins_per_octave)
        return (ratio + 1) / (ratio - 1)

    def frequency_hz(self, index: int) -> float:
        """Compute the center of a bin, in Hz."""
        return float(self.min_frequency_hz * 2.0 ** (index / self.bins_per_octave))

    def length(self, index: int) -> float:
        """Compute the samples of a bin's wavelet, not rounded."""
        return self.num_periods * self.sample_rate / self.frequency_hz(index)

    def num_frames(self, num_samples: int) -> int:
        """Count the frames of a signal: one at every multiple of the hop that lies inside it."""
        return num_frames(num_samples, self.hop_length)

    @property
    def silence(self) -> float:
        """The value of digital silence, in the unit of the scale."""
        return self.floor_db if self.scale == "db" else 0.0

    @property
    def hop_s(self) -> float:
        """Seconds from frame to frame."""
        return self.hop_length / self.sample_rate


def wavelet(config: CqtConfig, index: int, time_H: Tensor) -> Tensor:
    """Compute cosine and sine (H, 2) of one bin at samples relative to the frame's center; float64.

    Scaled as librosa scales it: a sine of amplitude 1 has magnitude sqrt(length) / 2. librosa halves
    the rate from octave to octave; at an octave's own rate its windows last an odd number of samples
    and are centered half a sample late, which is done here too: it is 1 % of the magnitudes.
    """
    octave = (config.num_bins - 1 - index) // config.bins_per_octave  # 0: the highest
    step = 1 << octave  # samples of the waveform in one at the octave's rate
    length = step * (2 * math.floor(config.length(index) / step / 2) + 1)
    from_center_H = time_H - step / 2
    inside_H = from_center_H.abs() < length / 2
    window_H = torch.where(inside_H, 0.5 + 0.5 * torch.cos(2 * math.pi / length * from_center_H), 0.0)
    angle_H = 2 * math.pi * config.frequency_hz(index) / config.sample_rate * time_H
    # The samples of a Hann window add up to half its length.
    scale = math.sqrt(config.length(index)) / (length / 2)
    return torch.stack([angle_H.cos(), angle_H.sin()], dim=1) * (window_H * scale)[:, None]


def reach(config: CqtConfig, index: int) -> float:
    """Bound the samples from a frame's center that a bin's wavelet covers, rounding included."""
    octave = (config.num_bins - 1 - index) // config.bins_per_octave
    return config.length(index) / 2 + (1 << octave)


class Cqt(nn.Module):
    """Waveforms (B, T) to magnitudes or decibels (B, F, Q), low bins first; frame f is centered on sample f * hop.

    `abs(librosa.cqt(...))` with its defaults, to 0.7 % of the clip's greatest magnitude (0.6 % of it
    all, root mean square): librosa drops the smallest hundredth of every wavelet's spectrum, which is
    not done here (in cells 40 dB below the greatest, up to 34 dB). In the first and last third of a second
    its resamplers ring, and it is 2 % for notes, 7 % for noise; where the
    hop divides the length librosa has one frame more, centered on the end.
    """

    basis: Tensor

    def __init__(self, config: CqtConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CqtConfig()
        hop = config.hop_length
        # Blocks before and after a frame's center that the longest wavelet, the lowest bin's, reaches into.
        self.reach = math.ceil(reach(config, 0) / hop)
        self.widths: list[int] = []  # of each block: how many bins, the lowest ones, reach into it
        columns: list[Tensor] = []
        for block in range(-self.reach, self.reach):
            nearest = block * hop if block >= 0 else -(block + 1) * hop
            width = sum(reach(config, index) > nearest for index in range(config.num_bins))
            time_H = torch.arange(block * hop, (block + 1) * hop, dtype=torch.float64)
            columns += [wavelet(config, index, time_H) for index in range(width)]
            self.widths.append(width)
        self.register_buffer("basis", torch.cat(columns, dim=1).float(), persistent=False)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Transform float waveforms (B, T), T >= 1; float32 under autocast too."""
        config = self.config
        frames = config.num_frames(waveform_BT.shape[-1])
        with torch.autocast(waveform_BT.device.type, enabled=False):
            before, after = self.reach, frames + self.reach - 1
            padding = (before * config.hop_length, after * config.hop_length - waveform_BT.shape[-1])
            blocks_BRH = functional.pad(waveform_BT.float(), padding).reshape(len(waveform_BT), -1, config.hop_length)
            products = torch.split(blocks_BRH @ self.basis, [2 * width for width in self.widths], dim=-1)
            total_BFQ2 = products[before].new_zeros(len(waveform_BT), frames, 2 * config.num_bins)
            for block, (product, width) in enumerate(zip(products, self.widths, strict=True)):
                total_BFQ2[..., : 2 * width] += product[:, block : block + frames]
            power_BFQ: Tensor = total_BFQ2.reshape(*total_BFQ2.shape[:2], -1, 2).square().sum(dim=-1)
        if config.scale == "db":
            return 10 * power_BFQ.clamp(min=10 ** (config.floor_db / 10)).log10()
        # The root has no finite gradient at 0: 1e-12 is -120 dB.
        return (power_BFQ + 1e-12).sqrt()
