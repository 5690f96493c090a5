"""MobileNetV3-Large (Howard et al. 2019) on spectrogram images; a backbone of Lumen 2023, and of its MobNet.

Names of parameters are timm's, so that its ImageNet weights load: timm/mobilenetv3_large_100.ra_in1k.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from tutti.train.heads import HeadOptions, make_head
from tutti.train.models._parts import (
    Headed,
    SqueezeExcite,
    channels_last,
    check_channels,
    initialize,
    pool_maps,
    round_channels,
)
from tutti.train.pretrained import load_backbone

INPUT = "image"


class Row(NamedTuple):
    """A block of table 1 of the paper."""

    kernel: int
    expanded: int  # channels inside the block, at width 1
    out: int
    squeeze: bool
    hard_swish: bool  # else ReLU
    stride: int


STAGES = (
    (Row(3, 16, 16, False, False, 1),),
    (Row(3, 64, 24, False, False, 2), Row(3, 72, 24, False, False, 1)),
    (Row(5, 72, 40, True, False, 2), Row(5, 120, 40, True, False, 1), Row(5, 120, 40, True, False, 1)),
    (
        Row(3, 240, 80, False, True, 2),
        Row(3, 200, 80, False, True, 1),
        Row(3, 184, 80, False, True, 1),
        Row(3, 184, 80, False, True, 1),
    ),
    (Row(3, 480, 112, True, True, 1), Row(3, 672, 112, True, True, 1)),
    (Row(5, 672, 160, True, True, 2), Row(5, 960, 160, True, True, 1), Row(5, 960, 160, True, True, 1)),
)
_STEM, _LAST, _FEATURES = 16, 960, 1280


@dataclass(frozen=True)
class Config(HeadOptions):
    """Width, weights and head."""

    width: float = 1.0  # of all layers; the paper has .35 to 1.25
    num_stages: int = 6  # of the table's 6; fewer for tests
    weights: str = ""  # folder, hub name or run; empty: random

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.width > 0 or not 1 <= self.num_stages <= len(STAGES):
            raise ValueError(f"needs width > 0 and num_stages from 1 to {len(STAGES)}, got {self}")


TINY = Config(width=0.25, num_stages=3, head_widths="16", head_dropout=0.0)


class Block(nn.Module):
    """1 x 1 expansion, depthwise convolution, squeeze and excitation, 1 x 1 projection, shortcut."""

    def __init__(self, num_in: int, inner: int, num_out: int, row: Row) -> None:
        super().__init__()
        self.has_shortcut = row.stride == 1 and num_in == num_out
        self.act = nn.Hardswish() if row.hard_swish else nn.ReLU()
        self.conv_pw, self.bn1 = nn.Conv2d(num_in, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv_dw = nn.Conv2d(inner, inner, row.kernel, row.stride, row.kernel // 2, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.se = _squeeze(inner) if row.squeeze else nn.Identity()
        self.conv_pwl, self.bn3 = nn.Conv2d(inner, num_out, 1, bias=False), nn.BatchNorm2d(num_out)

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Compute feature maps, smaller by the stride."""
        inner = self.act(self.bn1(self.conv_pw(maps_BDHW)))
        inner = self.se(self.act(self.bn2(self.conv_dw(inner))))
        projected: Tensor = self.bn3(self.conv_pwl(inner))
        return projected + maps_BDHW if self.has_shortcut else projected


class Separable(nn.Module):
    """The first block, which does not expand: depthwise convolution, 1 x 1 projection, shortcut."""

    def __init__(self, num_in: int, num_out: int, row: Row) -> None:
        super().__init__()
        self.has_shortcut = num_in == num_out
        self.conv_dw = nn.Conv2d(num_in, num_in, row.kernel, 1, row.kernel // 2, groups=num_in, bias=False)
        self.bn1 = nn.BatchNorm2d(num_in)
        self.conv_pw, self.bn2 = nn.Conv2d(num_in, num_out, 1, bias=False), nn.BatchNorm2d(num_out)

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Compute feature maps of the same size."""
        hidden: Tensor = self.bn2(self.conv_pw(F.relu(self.bn1(self.conv_dw(maps_BDHW)))))
        return hidden + maps_BDHW if self.has_shortcut else hidden


class Last(nn.Module):
    """1 x 1 convolution after the blocks."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv, self.bn1 = nn.Conv2d(num_in, num_out, 1, bias=False), nn.BatchNorm2d(num_out)

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Compute feature maps of the same size."""
        return F.hardswish(self.bn1(self.conv(maps_BDHW)))


class MobileNet(nn.Module):
    """Images (B, I, H, W) to features (B, T, 1280); a time step is 32 pixels."""

    num_features = _FEATURES

    def __init__(self, config: Config, num_channels: int) -> None:
        super().__init__()
        self._over_time = config.over_time
        size = round_channels(_STEM * config.width)
        self.conv_stem = nn.Conv2d(num_channels, size, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(size)
        stages: list[nn.Sequential] = []
        for rows in STAGES[: config.num_stages]:
            blocks: list[nn.Module] = []
            for row in rows:
                inner, num_out = round_channels(row.expanded * config.width), round_channels(row.out * config.width)
                is_first = not stages and not blocks
                blocks.append(Separable(size, num_out, row) if is_first else Block(size, inner, num_out, row))
                size = num_out
            stages.append(nn.Sequential(*blocks))
        last = round_channels(_LAST * config.width)
        self.blocks = nn.Sequential(*stages, nn.Sequential(Last(size, last)))
        self.conv_head = nn.Conv2d(last, _FEATURES, 1)
        initialize(self)

    def forward(self, image_BIHW: Tensor) -> Tensor:
        """Compute features (B, T, D)."""
        maps_BDHW = self.blocks(F.hardswish(self.bn1(self.conv_stem(image_BIHW))))
        pooled_BD1T = pool_maps(maps_BDHW, self._over_time).transpose(1, 2).unsqueeze(2)
        return F.hardswish(self.conv_head(pooled_BD1T)).squeeze(2).transpose(1, 2)


def build(config: Config, num_channels: int, num_classes: int) -> nn.Module:
    """Make a network with random or published weights; its head is random.

    Raises:
        UsageError: the weights are not to be had, or do not fit.
    """
    backbone = make_backbone(config, num_channels)
    return channels_last(Headed(backbone, make_head(config, backbone.num_features, num_classes)))


def make_backbone(config: Config, num_channels: int) -> MobileNet:
    """Make the network without a head."""
    check_channels(num_channels)
    backbone = MobileNet(config, num_channels)
    if config.weights:
        load_backbone(backbone, config.weights)
    return backbone


def _squeeze(channels: int) -> SqueezeExcite:
    return SqueezeExcite(channels, round_channels(channels / 4), nn.ReLU(), nn.Hardsigmoid())
