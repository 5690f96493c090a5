"""ATT: dense layers and attention on VGGish embeddings (Gururani et al. 2019), the OpenMIC BiLSTM paper's baseline.

Sizes follow the authors' public code: three layers of 128 units with batch norm, and dropout .6.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from tutti.train.heads import DecisionAttention
from tutti.train.models._parts import Headed

INPUT = "vggish"


@dataclass(frozen=True)
class Config:
    """Sizes of the network."""

    width: int = 128  # units of every dense layer
    num_layers: int = 3
    dropout: float = 0.6
    weights: str = ""  # folder of a run of this model, for its backbone; empty: random

    def __post_init__(self) -> None:
        if min(self.width, self.num_layers) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"needs width >= 1, num_layers >= 1 and 0 <= dropout < 1, got {self}")


TINY = Config(width=16, num_layers=1, dropout=0.0)


class Dense(nn.Module):
    """Series (B, T, D) to series (B, T, width), every step by itself."""

    def __init__(self, config: Config, num_features: int) -> None:
        super().__init__()
        sizes = [num_features] + [config.width] * config.num_layers
        self.linears = nn.ModuleList(nn.Linear(size, config.width) for size in sizes[:-1])
        self.norms = nn.ModuleList(nn.BatchNorm1d(config.width) for _ in self.linears)
        self.dropout = config.dropout

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Compute features (B, T, width)."""
        for linear, norm in zip(self.linears, self.norms, strict=True):
            hidden_BDT = F.relu(norm(linear(features_BTD).transpose(1, 2)))
            features_BTD = F.dropout(hidden_BDT, self.dropout, self.training).transpose(1, 2)
        return features_BTD


def build(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Make a freshly initialized network; any number of seconds."""
    return Headed(Dense(config, num_features), DecisionAttention(config.width, num_classes))
