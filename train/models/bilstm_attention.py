"""BiLSTM with attention on VGGish embeddings: the OpenMIC BiLSTM paper (partial labels, 2020).

Clips may be joined to longer ones, as the paper's augmentation does: any number of seconds.

Shapes: B clips, T seconds, D features, H units per direction.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.train.heads import DecisionAttention
from tutti.train.models._parts import Headed

INPUT = "vggish"


@dataclass(frozen=True)
class Config:
    """Sizes as in the paper."""

    hidden_size: int = 64  # per direction
    dropout: float = 0.2  # of the inputs
    recurrent_dropout: float = 0.2  # of the state that goes from step to step
    weights: str = ""  # folder of a run of this model, for its backbone; empty: random

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or not 0 <= self.dropout < 1 or not 0 <= self.recurrent_dropout < 1:
            raise ValueError(f"needs hidden_size >= 1 and 0 <= dropouts < 1, got {self}")


TINY = Config(hidden_size=16, dropout=0.0, recurrent_dropout=0.1)


class BiLstm(nn.Module):
    """Series (B, T, D) to series (B, T, 2 H).

    Dropout is Gal and Ghahramani's (2016), as in the paper's TensorFlow: one mask per clip for all its steps, for
    inputs and for the recurrent state. torch's own LSTM, which computes everything else, lacks the latter: there
    the steps are taken one by one. Both ways have the same weights and give the same numbers.
    """

    def __init__(self, config: Config, num_features: int) -> None:
        super().__init__()
        self.dropout, self.recurrent_dropout = config.dropout, config.recurrent_dropout
        self.lstm = nn.LSTM(num_features, config.hidden_size, batch_first=True, bidirectional=True)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Compute features (B, T, 2 H), forward beside backward."""
        inputs_BTD = features_BTD * self._mask(features_BTD[:, :1], self.dropout)
        if self.training and self.recurrent_dropout > 0:
            forward_BTH = self.stepwise(inputs_BTD, "")
            backward_BTH = self.stepwise(inputs_BTD.flip(1), "_reverse").flip(1)
            return torch.cat((forward_BTH, backward_BTH), dim=2)
        outputs_BTH: Tensor = self.lstm(inputs_BTD)[0]
        return outputs_BTH

    def stepwise(self, inputs_BTD: Tensor, direction: str) -> Tensor:
        """Run one direction ("" or "_reverse") step by step, with a mask on the recurrent state: (B, T, H)."""
        weight_4HD, weight_4HH = self._weights(("weight_ih_l0", "weight_hh_l0"), direction)
        bias_4H, recurrent_bias_4H = self._weights(("bias_ih_l0", "bias_hh_l0"), direction)
        gates_BT4H = F.linear(inputs_BTD, weight_4HD, bias_4H + recurrent_bias_4H)
        state_BH = cell_BH = gates_BT4H.new_zeros(len(inputs_BTD), self.lstm.hidden_size)
        mask_BH = self._mask(state_BH, self.recurrent_dropout)
        states = []
        for gates_B4H in gates_BT4H.unbind(dim=1):
            gates = (gates_B4H + F.linear(state_BH * mask_BH, weight_4HH)).chunk(4, dim=1)
            entry, keep, out = (torch.sigmoid(gates[index]) for index in (0, 1, 3))
            cell_BH = keep * cell_BH + entry * torch.tanh(gates[2])
            state_BH = out * torch.tanh(cell_BH)
            states.append(state_BH)
        return torch.stack(states, dim=1)

    def _mask(self, like: Tensor, dropout: float) -> Tensor:
        return F.dropout(torch.ones_like(like), dropout, self.training)

    def _weights(self, names: Iterable[str], direction: str) -> tuple[Tensor, ...]:
        return tuple(self.lstm.get_parameter(name + direction) for name in names)


def build(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Make a freshly initialized network; any number of seconds."""
    return Headed(BiLstm(config, num_features), DecisionAttention(2 * config.hidden_size, num_classes))
