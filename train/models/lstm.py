"""LSTM with Bahdanau attention on log-mel (Lumen 2023's first deep model: F1 .2 on 130 x 128)."""

from dataclasses import dataclass

from torch import Tensor, nn

from tutti.train.heads import HeadKind, HeadOptions, make_head
from tutti.train.models._parts import Headed

INPUT = "logmel"


@dataclass(frozen=True)
class Config(HeadOptions):
    """Sizes as in the paper's code, and the head."""

    hidden_size: int = 64
    num_layers: int = 2
    bidirectional: bool = False
    head: HeadKind = "attention"  # additive over time: Bahdanau et al. 2015
    head_widths: str = ""
    weights: str = ""  # folder of a run of this model, for its backbone; empty: random

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.hidden_size, self.num_layers) < 1:
            raise ValueError(f"hidden_size and num_layers must be at least 1, got {self}")


TINY = Config(hidden_size=16, num_layers=1, head_dropout=0.0)


class Recurrent(nn.Module):
    """A series (B, T, D) to the LSTM's outputs (B, T, hidden), both directions side by side."""

    def __init__(self, num_features: int, hidden_size: int, num_layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(num_features, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional)
        self.num_features = hidden_size * (2 if bidirectional else 1)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Compute features (B, T, hidden)."""
        outputs_BTH: Tensor = self.lstm(features_BTD)[0]
        return outputs_BTH


def build(config: Config, n_mels: int, num_classes: int) -> nn.Module:
    """Make a freshly initialized network."""
    backbone = Recurrent(n_mels, config.hidden_size, config.num_layers, config.bidirectional)
    return Headed(backbone, make_head(config, backbone.num_features, num_classes))
