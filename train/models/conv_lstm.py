"""ConvLSTM (Lumen 2023): the spectral convolution shortens the series, an LSTM with attention reads it."""

from dataclasses import dataclass

from torch import nn

from tutti.train.heads import HeadKind, HeadOptions, make_head, whole_numbers
from tutti.train.models._parts import Headed
from tutti.train.models._spectral import SpectralConv
from tutti.train.models.lstm import Recurrent

INPUT = "logmel"


@dataclass(frozen=True)
class Config(HeadOptions):
    """Sizes as in the paper's code, and the head."""

    widths: str = "32,64,128"  # channels of the convolutions
    hidden_size: int = 64
    num_layers: int = 2
    bidirectional: bool = False
    head: HeadKind = "attention"
    head_widths: str = ""
    weights: str = ""  # folder of a run of this model, for its backbone; empty: random

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.hidden_size, self.num_layers, *whole_numbers(self.widths)) < 1 or not self.widths:
            raise ValueError(f"sizes must be at least 1, got {self}")


TINY = Config(widths="8,16", hidden_size=16, num_layers=1, head_dropout=0.0)


def build(config: Config, n_mels: int, num_classes: int) -> nn.Module:
    """Make a freshly initialized network; it takes any number of mel bands."""
    convolution = SpectralConv(whole_numbers(config.widths))
    recurrent = Recurrent(convolution.num_features, config.hidden_size, config.num_layers, config.bidirectional)
    head = make_head(config, recurrent.num_features, num_classes)
    return Headed(nn.Sequential(convolution, recurrent), head)
