"""Parts that several models are made of.

Shapes: B clips, I image channels, H frequency, W time, D features, T time steps, C classes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Headed(nn.Module):
    """A backbone, from the model's input to features (B, T, D), and a head, from those to logits (B, C)."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def embed(self, inputs: Tensor) -> Tensor:
        """Compute one feature vector per clip: (B, D)."""
        features_BTD: Tensor = self.backbone(inputs)
        return features_BTD.mean(dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits (B, C)."""
        logits_BC: Tensor = self.head(self.backbone(inputs))
        return logits_BC


def pool_maps(maps_BDHW: Tensor, over_time: bool) -> Tensor:
    """Average feature maps over frequency to (B, T, D), and over time too unless the head does that."""
    return maps_BDHW.mean(dim=2).transpose(1, 2) if over_time else maps_BDHW.mean(dim=(2, 3)).unsqueeze(1)


def check_channels(input_size: int) -> None:
    """Refuse what is no image.

    Raises:
        ValueError: neither 1 nor 3 channels.
    """
    if input_size not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, got {input_size}")


def channels_last(model: nn.Module) -> nn.Module:
    """Move weights to the memory order in which convolutions are fastest, on CPU and on tensor cores."""
    moved: Any = model
    return moved.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of the divisor that is not more than a tenth below (Howard et al. 2019's code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class SameConv2d(nn.Conv2d):
    """Convolution whose output has ceil(size / stride) pixels, padded as TensorFlow does: the odd one behind.

    The published MobileNet and EfficientNet weights that were trained with TensorFlow expect it.
    """

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Convolve to feature maps (B, D, H / stride, W / stride), rounded up."""
        paddings: list[int] = []
        for axis in (1, 0):  # F.pad begins with the last dimension
            size, stride, kernel = maps_BDHW.shape[2 + axis], self.stride[axis], self.kernel_size[axis]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            paddings += [total // 2, total - total // 2]
        return F.conv2d(F.pad(maps_BDHW, paddings), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class SqueezeExcite(nn.Module):
    """Scales every channel by what the whole map says of it (Hu et al. 2018)."""

    def __init__(self, channels: int, hidden: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, hidden, 1)
        self.conv_expand = nn.Conv2d(hidden, channels, 1)
        self.act, self.gate = activation, gate

    def forward(self, maps_BDHW: Tensor) -> Tensor:
        """Scale the channels of feature maps."""
        squeezed_BD11 = maps_BDHW.mean(dim=(2, 3), keepdim=True)
        scale_BD11: Tensor = self.gate(self.conv_expand(self.act(self.conv_reduce(squeezed_BD11))))
        return maps_BDHW * scale_BD11


def initialize(model: nn.Module) -> None:
    """Initialize weights as He et al. 2015: convolutions by fan-out, batch norms at identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
