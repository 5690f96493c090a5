"""MobNet (Lumen 2023): one MobileNetV3-Large of its own for every class, each with a head that knows that class only.

An instrument is added by training one more network; the others stay as they are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutti.train.heads import make_head
from tutti.train.models._parts import channels_last
from tutti.train.models.mobilenetv3_large import TINY as TINY_NETWORK
from tutti.train.models.mobilenetv3_large import Config as NetworkConfig
from tutti.train.models.mobilenetv3_large import make_backbone

INPUT = "image"


@dataclass(frozen=True)
class Config(NetworkConfig):
    """Settings of one network; all are alike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in ("deep", "attention"):
            raise ValueError(f"every class has a head of its own here: head is deep or attention, not {self.head!r}")


TINY = Config(
    width=TINY_NETWORK.width, num_stages=TINY_NETWORK.num_stages, head_widths="16", head_dropout=0.0
)  # fmt: skip


class MobNet(nn.Module):
    """Images (B, I, H, W) to logits (B, C); class c is the affair of backbone c and head c."""

    def __init__(self, config: Config, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self._config, self._num_channels = config, num_channels
        self.backbones, self.head = nn.ModuleList(), nn.ModuleList()
        for _ in range(num_classes):
            self._append()

    def _append(self) -> None:
        backbone = make_backbone(self._config, self._num_channels)
        self.backbones.append(channels_last(backbone))
        self.head.append(make_head(self._config, backbone.num_features, 1))

    def forward(self, image_BIHW: Tensor) -> Tensor:
        """Compute logits (B, C)."""
        pairs = zip(self.backbones, self.head, strict=True)
        return torch.cat([head(backbone(image_BIHW)) for backbone, head in pairs], dim=1)

    def add_class(self) -> None:
        """Append a network for one more class, initialized from torch's generator; freeze all others.

        Frozen networks move no more only in eval mode: batch norm follows the data otherwise.
        """
        self.requires_grad_(False)
        like = next(self.parameters())
        self._append()
        self.to(device=like.device, dtype=like.dtype)


def build(config: Config, num_channels: int, num_classes: int) -> nn.Module:
    """Make as many networks as classes; `weights` are those of one backbone, put into each.

    Raises:
        UsageError: the weights are not to be had, or do not fit.
    """
    return MobNet(config, num_channels, num_classes)
