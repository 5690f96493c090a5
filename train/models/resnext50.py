"""ResNeXt-50 32x4d (Xie et al. 2017) on spectrogram images; one of the backbones of Lumen 2023.

Names of parameters are timm's, so that its ImageNet weights load: timm/resnext50_32x4d.tv_in1k.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from tutti.train.heads import HeadOptions, make_head, whole_numbers
from tutti.train.models._parts import Headed, channels_last, check_channels, initialize, pool_maps
from tutti.train.pretrained import load_backbone

INPUT = "image"

_EXPANSION = 4  # of a block's output over its 1 x 1 reduction in ResNet-50, of which ResNeXt keeps the output


@dataclass(frozen=True)
class Config(HeadOptions):
    """Sizes as in table 1 of the paper, weights and head."""

    blocks: str = "3,4,6,3"  # per stage
    stem: int = 64  # channels of the first layer; the stages have 4, 8, 16, 32 times as many
    groups: int = 32  # "cardinality" C
    group_width: int = 4  # channels per group in the first stage; doubles with every stage
    zero_init_residual: bool = False  # blocks begin as the identity; Lumen 2023, code: on
    weights: str = ""  # folder, hub name or run; empty: random

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.stem, self.groups, self.group_width, *whole_numbers(self.blocks)) < 1 or not self.blocks:
            raise ValueError(f"sizes must be at least 1, got {self}")


TINY = Config(blocks="1,1", stem=8, groups=4, group_width=2, head_widths="16", head_dropout=0.0)


class Bottleneck(nn.Module):
    """1 x 1 reduction, grouped 3 x 3, 1 x 1 expansion, and a shortcut."""

    downsample: nn.Module | None

    def __init__(self, num_in: int, inner: int, num_out: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(num_in, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, num_out, 1, bias=False), nn.BatchNorm2d(num_out)
        self.downsample = None
        if stride != 1 or num_in != num_out:
            self.downsample = nn.Sequential(nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out))

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Compute feature maps, smaller by the stride."""
        shortcut = maps_BDHW if self.downsample is None else self.downsample(maps_BDHW)
        hidden = F.relu(self.bn1(self.conv1(maps_BDHW)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return F.relu(self.bn3(self.conv3(hidden)) + shortcut)


class ResNext(nn.Module):
    """Images (B, I, H, W) to features (B, T, D); a time step is 32 pixels with four stages."""

    def __init__(self, config: Config, num_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_channels, config.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem)
        self._over_time = config.over_time
        self._stages = []
        size = config.stem
        for stage, count in enumerate(whole_numbers(config.blocks)):
            num_out = config.stem * _EXPANSION * 2**stage
            layer = nn.Sequential(*_blocks(config, size, num_out, stage, count))
            self._stages.append(f"layer{stage + 1}")
            self.add_module(self._stages[-1], layer)
            size = num_out
        self.num_features = size
        initialize(self)
        if config.zero_init_residual:
            for module in self.modules():
                if isinstance(module, Bottleneck):
                    nn.init.zeros_(module.bn3.weight)

    def forward(self, image_BIHW: Tensor) -> Tensor:
        """Compute features (B, T, D)."""
        maps = F.max_pool2d(F.relu(self.bn1(self.conv1(image_BIHW))), 3, 2, 1)
        for name in self._stages:
            maps = self.get_submodule(name)(maps)
        return pool_maps(maps, self._over_time)


def _blocks(config: Config, num_in: int, num_out: int, stage: int, count: int) -> Iterator[Bottleneck]:
    inner = config.groups * config.group_width * 2**stage
    for index in range(count):
        stride = 2 if index == 0 and stage > 0 else 1
        yield Bottleneck(num_in if index == 0 else num_out, inner, num_out, stride=stride, groups=config.groups)


def build(config: Config, num_channels: int, num_classes: int) -> nn.Module:
    """Make a network with random or published weights; its head is random.

    Raises:
        UsageError: the weights are not to be had, or do not fit.
    """
    check_channels(num_channels)
    backbone = ResNext(config, num_channels)
    if config.weights:
        load_backbone(backbone, config.weights)
    return channels_last(Headed(backbone, make_head(config, backbone.num_features, num_classes)))
