"""EfficientNetV2-S (Tan and Le 2021) on spectrogram images; one of the backbones of Lumen 2023.

Names of parameters are timm's, so that its ImageNet weights load: timm/tf_efficientnetv2_s.in1k.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from tutti.train.heads import HeadOptions, make_head
from tutti.train.models._parts import (
    Headed,
    SameConv2d,
    SqueezeExcite,
    channels_last,
    check_channels,
    initialize,
    pool_maps,
    round_channels,
)
from tutti.train.pretrained import load_backbone

INPUT = "image"

_EPSILON = 1e-3  # of the batch norms, as in the weights' TensorFlow


class Stage(NamedTuple):
    """A row of table 4 of the paper."""

    fused: bool
    expansion: int
    stride: int
    channels: int
    layers: int


STAGES = (
    Stage(True, 1, 1, 24, 2),
    Stage(True, 4, 2, 48, 4),
    Stage(True, 4, 2, 64, 4),
    Stage(False, 4, 2, 128, 6),
    Stage(False, 6, 1, 160, 9),
    Stage(False, 6, 2, 256, 15),
)
_STEM, _FEATURES, _SQUEEZE = 24, 1280, 0.25


@dataclass(frozen=True)
class Config(HeadOptions):
    """Scale, weights and head."""

    width: float = 1.0  # of all layers
    depth: float = 1.0  # of all stages
    num_stages: int = 6  # of the table's 6; fewer for tests
    weights: str = ""  # folder, hub name or run; empty: random

    def __post_init__(self) -> None:
        super().__post_init__()
        if not min(self.width, self.depth) > 0 or not 1 <= self.num_stages <= len(STAGES):
            raise ValueError(f"needs width, depth > 0 and num_stages from 1 to {len(STAGES)}, got {self}")


TINY = Config(width=0.25, depth=0.2, num_stages=4, head_widths="16", head_dropout=0.0)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


class Plain(nn.Module):
    """3 x 3 convolution and shortcut: the fused block that does not expand."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.has_shortcut = stride == 1 and num_in == num_out
        self.conv, self.bn1 = SameConv2d(num_in, num_out, 3, stride, bias=False), _norm(num_out)

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Compute feature maps, smaller by the stride."""
        hidden: Tensor = F.silu(self.bn1(self.conv(maps_BDHW)))
        return hidden + maps_BDHW if self.has_shortcut else hidden


class Fused(nn.Module):
    """3 x 3 expansion, 1 x 1 projection, shortcut."""

    def __init__(self, num_in: int, inner: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.has_shortcut = stride == 1 and num_in == num_out
        self.conv_exp, self.bn1 = SameConv2d(num_in, inner, 3, stride, bias=False), _norm(inner)
        self.conv_pwl, self.bn2 = nn.Conv2d(inner, num_out, 1, bias=False), _norm(num_out)

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Compute feature maps, smaller by the stride."""
        hidden: Tensor = self.bn2(self.conv_pwl(F.silu(self.bn1(self.conv_exp(maps_BDHW)))))
        return hidden + maps_BDHW if self.has_shortcut else hidden


class Inverted(nn.Module):
    """1 x 1 expansion, depthwise 3 x 3, squeeze and excitation, 1 x 1 projection, shortcut."""

    def __init__(self, num_in: int, inner: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.has_shortcut = stride == 1 and num_in == num_out
        self.conv_pw, self.bn1 = nn.Conv2d(num_in, inner, 1, bias=False), _norm(inner)
        self.conv_dw, self.bn2 = SameConv2d(inner, inner, 3, stride, groups=inner, bias=False), _norm(inner)
        self.se = SqueezeExcite(inner, max(1, round(num_in * _SQUEEZE)), nn.SiLU(), nn.Sigmoid())
        self.conv_pwl, self.bn3 = nn.Conv2d(inner, num_out, 1, bias=False), _norm(num_out)

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Compute feature maps, smaller by the stride."""
        inner = F.silu(self.bn1(self.conv_pw(maps_BDHW)))
        inner = self.se(F.silu(self.bn2(self.conv_dw(inner))))
        projected: Tensor = self.bn3(self.conv_pwl(inner))
        return projected + maps_BDHW if self.has_shortcut else projected


def _block(stage: Stage, num_in: int, num_out: int, stride: int) -> nn.Module:
    if stage.fused and stage.expansion == 1:
        return Plain(num_in, num_out, stride)
    kind = Fused if stage.fused else Inverted
    return kind(num_in, num_in * stage.expansion, num_out, stride)


class EfficientNet(nn.Module):
    """Images (B, I, H, W) to features (B, T, 1280); a time step is 32 pixels."""

    num_features = _FEATURES

    def __init__(self, config: Config, num_channels: int) -> None:
        super().__init__()
        self._over_time = config.over_time
        size = round_channels(_STEM * config.width)
        self.conv_stem, self.bn1 = SameConv2d(num_channels, size, 3, 2, bias=False), _norm(size)
        stages = []
        for stage in STAGES[: config.num_stages]:
            blocks: list[nn.Module] = []
            num_out = round_channels(stage.channels * config.width)
            for index in range(max(1, round(stage.layers * config.depth))):
                blocks.append(_block(stage, size, num_out, stage.stride if index == 0 else 1))
                size = num_out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = nn.Conv2d(size, _FEATURES, 1, bias=False), _norm(_FEATURES)
        initialize(self)

    def forward(self, image_BIHW: Tensor) -> Tensor:
        """Compute features (B, T, D)."""
        maps_BDHW = self.blocks(F.silu(self.bn1(self.conv_stem(image_BIHW))))
        return pool_maps(F.silu(self.bn2(self.conv_head(maps_BDHW))), self._over_time)


def build(config: Config, num_channels: int, num_classes: int) -> nn.Module:
    """Make a network with random or published weights; its head is random.

    Raises:
        UsageError: the weights are not to be had, or do not fit.
    """
    check_channels(num_channels)
    backbone = EfficientNet(config, num_channels)
    if config.weights:
        load_backbone(backbone, config.weights)
    return channels_last(Headed(backbone, make_head(config, backbone.num_features, num_classes)))
