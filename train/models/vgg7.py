"""Seven blocks of convolution, as a VGG: the network of the musical-mixtures paper, after Won et al. 2020.

    python -m train.run --recipe jamendo_pretrain ...                  tags of whole tracks
    python -m train.run --recipe mixtures_transfer --weights RUN ...   fifteen outputs of mixtures

A block is a 3 x 3 convolution, batch norm, ReLU and 2 x 2 max pooling. Seven of them leave one of 128 mel bands, and of
the 250 frames of four seconds at a hop of 256 two steps, whose maximum is the embedding. Odd sizes are rounded up, so
that shorter windows fit, too: the paper's own rounding is not known, that of Won et al. is down (one step).

Shapes: B clips, F frames, M mel bands, D channels, T time steps, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutti.train.heads import whole_numbers
from tutti.train.models._parts import Headed, channels_last, initialize

INPUT = "logmel"


@dataclass(frozen=True)
class Config:
    """Sizes; the paper gives the last width, the others are those of the network that it adopts."""

    widths: str = "128,128,256,256,256,256,512"  # channels of each block; Won et al. 2020, "short-chunk CNN"
    hidden_features: int = 512  # between the two dense layers
    dropout: float = 0.5  # before the last of them; Won et al. 2020
    weights: str = ""  # folder of a run of this model, for its backbone; empty: random

    def __post_init__(self) -> None:
        sizes = whole_numbers(self.widths)
        if not sizes or min(*sizes, self.hidden_features) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"needs widths and hidden_features >= 1 and 0 <= dropout < 1, got {self}")


TINY = Config(widths="8,8,16,16,16,32,32", hidden_features=32, dropout=0.0)


class Vgg(nn.Module):
    """Log-mel (B, F, M) to features (B, 1, D); any F and M."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = (1, *whole_numbers(config.widths))
        self.blocks = nn.Sequential(*(_block(size, sizes[i + 1]) for i, size in enumerate(sizes[:-1])))
        self.num_features = sizes[-1]
        initialize(self)

    def forward(self, logmel_BFM: Tensor) -> Tensor:
        """Compute features (B, 1, D): the maximum over what is left of time and bands."""
        maps_BDTM: Tensor = self.blocks(logmel_BFM.unsqueeze(1).contiguous(memory_format=torch.channels_last))
        return maps_BDTM.amax(dim=(2, 3)).unsqueeze(1)


def _block(num_in: int, num_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(num_out),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
    )


def _head(config: Config, num_features: int, num_classes: int) -> nn.Module:
    hidden = config.hidden_features
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_features, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(hidden, num_classes),
    )


def build(config: Config, n_mels: int, num_classes: int) -> nn.Module:
    """Make a network with random weights; those of `weights` are loaded by `tagger.build_network`."""
    backbone = Vgg(config)
    return channels_last(Headed(backbone, _head(config, backbone.num_features, num_classes)))
