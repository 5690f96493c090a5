"""Classifier heads: what stands between a backbone's features and the logits, one file for all models.

    head = make_head(HeadOptions(head="fluffy", head_widths="128"), num_features=768, num_classes=11)
    logits_BC = head(features_BTD)

Every head takes a series of feature vectors; a backbone that has pooled already answers T = 1.

Shapes: B clips, T time steps, D features, C classes, H heads (one per class), K units of a hidden layer.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HeadKind: TypeAlias = Literal["deep", "attention", "decision_attention", "fluffy", "fluffy_attention"]


@dataclass(frozen=True)
class HeadOptions:
    """Choice of a model's head; models with a choice inherit these fields into their Config."""

    head: HeadKind = "deep"
    head_widths: str = "128"  # of the hidden layers, comma-separated ("128,64"); empty: one linear layer. Lumen 2023
    head_dropout: float = 0.2  # before every layer but the first; Lumen 2023, code

    def __post_init__(self) -> None:
        if self.head not in get_args(HeadKind):
            raise ValueError(f"head must be one of {', '.join(get_args(HeadKind))}, got {self.head!r}")
        if any(width < 1 for width in whole_numbers(self.head_widths)):
            raise ValueError(f"head_widths must be at least 1 each, got {self.head_widths!r}")
        if not 0 <= self.head_dropout < 1:
            raise ValueError(f"head_dropout must lie in [0, 1), got {self.head_dropout}")

    @property
    def over_time(self) -> bool:
        """Whether the head weighs time steps itself, so that the backbone must not pool them."""
        return self.head not in ("deep", "fluffy")


def whole_numbers(text: str) -> tuple[int, ...]:
    """Parse the numbers of a text such as "128,64"; none of an empty one.

    Raises:
        ValueError: a part is no whole number.
    """
    return tuple(int(part) for part in text.split(",") if part.strip())


def make_head(options: HeadOptions, num_features: int, num_classes: int) -> nn.Module:
    """Make a freshly initialized head: features (B, T, D) to logits (B, C)."""
    widths, dropout = whole_numbers(options.head_widths), options.head_dropout
    if options.head == "deep":
        return Deep(num_features, num_classes, widths, dropout)
    if options.head == "attention":
        return Attention(num_features, num_classes, widths, dropout)
    if options.head == "decision_attention":
        return DecisionAttention(num_features, num_classes)
    return Fluffy(num_features, num_classes, widths, dropout, attention=options.head == "fluffy_attention")


class Deep(nn.Module):
    """Mean over time, then linear, layer norm, ReLU per hidden layer, and a last linear layer (Lumen 2023)."""

    def __init__(self, num_features: int, num_classes: int, widths: tuple[int, ...] = (), dropout: float = 0.0) -> None:
        super().__init__()
        sizes = (num_features, *widths, num_classes)
        self.linears = nn.ModuleList(nn.Linear(size, sizes[i + 1]) for i, size in enumerate(sizes[:-1]))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.dropout = dropout

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Compute logits (B, C)."""
        return self.classify(features_BTD.mean(dim=1))

    def classify(self, features_BD: Tensor) -> Tensor:
        """Compute logits (B, C) of one feature vector per clip."""
        hidden_BK = features_BD
        for index, norm in enumerate(self.norms):
            hidden_BK = F.relu(norm(self.linears[index](hidden_BK)))
            hidden_BK = F.dropout(hidden_BK, self.dropout, self.training)
        logits_BC: Tensor = self.linears[-1](hidden_BK)
        return logits_BC


class Attention(Deep):
    """Learnable pooling over time, w tanh(W x) / sqrt(D) under a softmax, then `Deep` (Lumen 2023)."""

    def __init__(self, num_features: int, num_classes: int, widths: tuple[int, ...] = (), dropout: float = 0.0) -> None:
        super().__init__(num_features, num_classes, widths, dropout)
        self.hidden = nn.Linear(num_features, num_features)
        self.score = nn.Linear(num_features, 1, bias=False)  # a bias would cancel in the softmax

    def attention(self, features_BTD: Tensor) -> Tensor:
        """Compute the weight of each step: (B, T), of sum 1 over time."""
        scores_BT = self.score(torch.tanh(self.hidden(features_BTD))).squeeze(-1)
        return torch.softmax(scores_BT / math.sqrt(features_BTD.shape[-1]), dim=1)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Compute logits (B, C)."""
        return self.classify(torch.einsum("bt,btd->bd", self.attention(features_BTD), features_BTD))


class DecisionAttention(nn.Module):
    """Every step gives a probability per class; the clip's is their average under a learned weight per class.

    The probabilistic attention of Kong et al. 2018 (arXiv:1711.00927), which the OpenMIC BiLSTM paper uses, with a
    softmax over time. Answers the logit of the averaged probability, so that every loss takes it as any other's.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.decision = nn.Linear(num_features, num_classes)
        self.weight = nn.Linear(num_features, num_classes, bias=False)  # a bias would cancel in the softmax

    def attention(self, features_BTD: Tensor) -> Tensor:
        """Compute the weight of each step for each class: (B, C, T), of sum 1 over time."""
        return torch.softmax(self.weight(features_BTD), dim=1).transpose(1, 2)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Compute logits (B, C)."""
        steps_BTC = self.decision(features_BTD).float()
        weights_BTC = torch.log_softmax(self.weight(features_BTD).float(), dim=1)
        # log p and log (1 - p) as sums in the log domain: no clamping, so a gradient at any confidence.
        present_BC = torch.logsumexp(weights_BTC + F.logsigmoid(steps_BTC), dim=1)
        absent_BC = torch.logsumexp(weights_BTC + F.logsigmoid(-steps_BTC), dim=1)
        return present_BC - absent_BC


class Fluffy(nn.Module):
    """One small head per class on a shared backbone, all of them in one batched product per layer (Lumen 2023).

    Each head keeps weights of its own, which are stacked in every forward pass: so a head can be frozen without
    its weights moving (optimizers move a slice whose gradient is zero: momentum, weight decay), and a new one
    leaves the names and bits of the others alone.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        widths: tuple[int, ...] = (),
        dropout: float = 0.0,
        *,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self._new_head = partial(Attention if attention else Deep, num_features, 1, widths, dropout)
        self.with_attention, self.dropout = attention, dropout
        self.heads = nn.ModuleList(self._new_head() for _ in range(num_classes))

    def attention(self, features_BTD: Tensor) -> Tensor:
        """Compute the weight of each step for each head: (B, H, T), of sum 1 over time.

        Raises:
            ValueError: these heads take the mean over time.
        """
        if not self.with_attention:
            raise ValueError("these heads take the mean over time; choose head=fluffy_attention")
        hidden_HDE, bias_HE = self._stacked("hidden.weight"), self._stacked("hidden.bias")
        score_HE = self._stacked("score.weight").squeeze(1)
        # One matrix for all heads: (B T, D) x (D, H E).
        flat_BTX = F.linear(features_BTD, hidden_HDE.flatten(0, 1), bias_HE.flatten())
        hidden_BTHE = flat_BTX.reshape(*flat_BTX.shape[:2], *bias_HE.shape)
        scores_BHT = torch.einsum("bthe,he->bht", torch.tanh(hidden_BTHE), score_HE)
        return torch.softmax(scores_BHT / math.sqrt(features_BTD.shape[-1]), dim=2)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Compute logits (B, H)."""
        if self.with_attention:
            hidden_HBK = torch.einsum("bht,btd->hbd", self.attention(features_BTD), features_BTD)
        else:
            hidden_HBK = features_BTD.mean(dim=1).expand(len(self.heads), -1, -1)
        last = len(self._first.linears) - 1
        for index in range(last + 1):
            weight_HKJ = self._stacked(f"linears.{index}.weight")
            bias_H1K = self._stacked(f"linears.{index}.bias").unsqueeze(1)
            hidden_HBK = torch.baddbmm(bias_H1K, hidden_HBK, weight_HKJ.transpose(1, 2))
            if index < last:
                hidden_HBK = F.layer_norm(hidden_HBK, hidden_HBK.shape[-1:])
                scale_H1K = self._stacked(f"norms.{index}.weight").unsqueeze(1)
                shift_H1K = self._stacked(f"norms.{index}.bias").unsqueeze(1)
                hidden_HBK = F.relu(torch.addcmul(shift_H1K, hidden_HBK, scale_H1K))
                hidden_HBK = F.dropout(hidden_HBK, self.dropout, self.training)
        return hidden_HBK.squeeze(-1).t()

    @property
    def _first(self) -> Deep:
        return cast(Deep, self.heads[0])

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([head.get_parameter(name) for head in self.heads])

    def freeze_heads(self, heads: Iterable[int]) -> None:
        """Keep these heads as they are from now on."""
        for head in heads:
            self.heads[head].requires_grad_(False)

    def add_head(self) -> None:
        """Append a head for one more class, initialized from torch's generator; freeze all others.

        To keep the logits of the other classes, freeze the backbone too, and keep it in eval mode: batch norm
        moves its statistics otherwise.
        """
        self.freeze_heads(range(len(self.heads)))
        like = next(self._first.parameters())
        self.heads.append(self._new_head().to(device=like.device, dtype=like.dtype))
