"""Spectral convolution with attentive Fluffy heads ("Good boy", Lumen 2023: F1 .35 trained from scratch)."""

from dataclasses import dataclass

from torch import nn

from tutti.train.heads import HeadKind, HeadOptions, make_head, whole_numbers
from tutti.train.models._parts import Headed
from tutti.train.models._spectral import SpectralConv

INPUT = "logmel"


@dataclass(frozen=True)
class Config(HeadOptions):
    """Channels and head."""

    widths: str = "32,64,128"  # of the blocks; Lumen 2023, code
    head: HeadKind = "fluffy_attention"
    head_widths: str = "64"
    weights: str = ""  # folder of a run of this model, for its backbone; empty: random

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(whole_numbers(self.widths), default=0) < 1:
            raise ValueError(f"widths must be at least 1 each, got {self.widths!r}")


TINY = Config(widths="8,16", head_widths="8", head_dropout=0.0)


def build(config: Config, n_mels: int, num_classes: int) -> nn.Module:
    """Make a freshly initialized network; it takes any number of mel bands."""
    backbone = SpectralConv(whole_numbers(config.widths))
    return Headed(backbone, make_head(config, backbone.num_features, num_classes))
