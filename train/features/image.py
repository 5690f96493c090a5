"""Spectrograms as images: the sizes that vision models take (Lumen 2023, "Convolutional neural networks").

Row 0 is the lowest band, column 0 the first frame.
Shapes: B clips, T samples, F frames, M mel bands, K channels, H rows, W columns.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutti.datasets.record import Decibels, Seconds
from tutti.train.features.chroma import Chroma, ChromaConfig
from tutti.train.features.logmel import LUMEN_DB, LogMel, LogMelConfig
from tutti.train.features.scalogram import Scalogram, ScalogramConfig

# What Lumen 2023 tried, in its order:
#   resize          the whole clip, stretched to the model's size
#   pad             padded to 20 s (a 3 s clip is 85 % black), then resized
#   chunks          3 s at a time, then resized
#   resize_height   as many frames as the image has columns; only the rows are stretched
#   native          no resizing: n_mels is the height, or the model pools any size
Sizing: TypeAlias = Literal["resize", "pad", "chunks", "resize_height", "native"]


@dataclass(frozen=True)
class ImageConfig:
    """Conversion of a spectrogram to an image."""

    sizing: Sizing = "chunks"
    height: int = 384  # Lumen 2023's best run; 224 is what its models were pre-trained on
    width: int = 384
    padded_s: Seconds = 20.0  # IRMAS' longest test clip
    chunk_s: Seconds = 3.0  # IRMAS' training clips
    fill: float = -100.0  # black: the log-mel's floor; 0 for power
    # logmel: the same picture in all three channels (Lumen 2023's best); rgb: mel, chroma and scalogram
    channels: Literal["logmel", "rgb"] = "logmel"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or min(self.padded_s, self.chunk_s) <= 0:
            raise ValueError(f"sizes must be above 0, got {self}")


def frames_per_image(config: ImageConfig, features: LogMelConfig) -> int | None:
    """Count the frames that one image shows: the length to chunk clips by. None: a whole clip, however long."""
    if config.sizing in ("resize", "native"):
        return None
    if config.sizing == "resize_height":
        return config.width
    seconds = config.padded_s if config.sizing == "pad" else config.chunk_s
    return features.num_frames(round(seconds * features.sample_rate))


def to_image(spectrogram_BFM: Tensor, config: ImageConfig, features: LogMelConfig) -> Tensor:
    """Convert spectrograms (B, F, M) to images (B, 1, H, W).

    Shorter ones than `frames_per_image` end in `fill`.

    Raises:
        ValueError: longer than that.
    """
    wanted, found = frames_per_image(config, features), spectrogram_BFM.shape[1]
    if wanted is not None:
        if found > wanted:
            raise ValueError(f"{found} frames, an image with sizing {config.sizing!r} shows {wanted}; chunk first")
        spectrogram_BFM = functional.pad(spectrogram_BFM, (0, 0, 0, wanted - found), value=config.fill)
    image_B1MF = spectrogram_BFM.transpose(1, 2).unsqueeze(1)
    if config.sizing == "native":
        return image_B1MF
    width = image_B1MF.shape[3] if config.sizing == "resize_height" else config.width
    return resize(image_B1MF, config.height, width)


def resize(image_BKHW: Tensor, height: int, width: int) -> Tensor:
    """Resize bilinearly; smoothed first where it shrinks."""
    if image_BKHW.shape[2:] == (height, width):
        return image_BKHW
    return functional.interpolate(
        image_BKHW, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )


def repeat_channels(image_B1HW: Tensor, num_channels: int = 3) -> Tensor:
    """Show the same picture in every channel (Lumen 2023's best): a view (B, K, H, W)."""
    return image_B1HW.expand(-1, num_channels, -1, -1)


# Mean and deviation of ImageNet's red, green and blue in [0, 1]: what published vision weights were trained on.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_HOP, _FLOOR_DB = LUMEN_DB.hop_length, -80.0


@dataclass(frozen=True)
class ThreeChannelsConfig:
    """Three views of one clip; all with the same hop, so that their columns are the same moments."""

    # Relative to a full-scale sine and with peak-1 bands: nearly all of it lies in [floor, 0] dB.
    logmel: LogMelConfig = field(
        default_factory=lambda: replace(LUMEN_DB, reference="sine", mel_norm="none", floor_db=_FLOOR_DB)
    )
    chroma: ChromaConfig = field(default_factory=lambda: ChromaConfig(hop_length=_HOP))
    # Quadrature: in decibels the zeros of a plain cosine would be black columns in a steady tone.
    scalogram: ScalogramConfig = field(default_factory=lambda: ScalogramConfig(hop_length=_HOP, quadrature=True))
    scalogram_floor_db: Decibels = _FLOOR_DB  # relative to a full-scale sine

    def __post_init__(self) -> None:
        parts = (self.logmel, self.chroma, self.scalogram)
        if len({(part.sample_rate, part.hop_length) for part in parts}) > 1:
            raise ValueError("log-mel, chroma and scalogram need one sample rate and one hop_length")
        if self.logmel.scale != "db":
            raise ValueError("the mel channel is in decibels; set the log-mel's scale to db")


class ThreeChannels(nn.Module):
    """Waveforms (B, T) to images (B, 3, M, F): mel, chroma, scalogram (Lumen 2023's red, green, blue).

    Each channel is scaled to [0, 1] by constants: floor to 0 and full scale to 1. Chroma and
    scalogram are stretched to the height of the mel channel.
    """

    def __init__(self, config: ThreeChannelsConfig | None = None) -> None:
        super().__init__()
        self.config = config or ThreeChannelsConfig()
        self.logmel = LogMel(self.config.logmel)
        self.chroma = Chroma(self.config.chroma)
        self.scalogram = Scalogram(self.config.scalogram)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Compute images (B, 3, M, F)."""
        config = self.config
        mel_BFM = 1 - self.logmel(waveform_BT) / config.logmel.floor_db
        floor = 10 ** (config.scalogram_floor_db / 20)
        level_BFS = 20 * torch.log10(self.scalogram(waveform_BT).clamp(min=floor))
        planes = (mel_BFM, self.chroma(waveform_BT), 1 - level_BFS / config.scalogram_floor_db)
        images = [plane_BFM.transpose(1, 2).unsqueeze(1) for plane_BFM in planes]
        height, width = images[0].shape[2:]
        return torch.cat([resize(image_B1HW, height, width) for image_B1HW in images], dim=1)
