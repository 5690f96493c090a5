"""ConvNeXt small or base (Liu et al. 2022) on spectrogram images: the best model of Lumen 2023, small before base.

Published ImageNet weights: facebook/convnext-small-224, facebook/convnext-base-224.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from tutti.train.heads import HeadOptions, make_head
from tutti.train.models._parts import Headed, channels_last, check_channels, pool_maps
from tutti.train.pretrained import Wanted, from_pretrained, transformers

INPUT = "image"

# Channels and blocks of the four stages: table 9 of the paper; micro is ours, for tests.
SIZES = {
    "small": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "base": ((128, 256, 512, 1024), (3, 3, 27, 3)),
    "micro": ((8, 16, 24, 32), (1, 1, 2, 1)),
}


@dataclass(frozen=True)
class Config(HeadOptions):
    """Size, weights and head."""

    size: Literal["small", "base", "micro"] = "small"
    weights: str = ""  # folder, hub name or run; empty: random
    drop_path: float = 0.0  # share of residual branches left out in training; the paper: .4 small, .5 base

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {self.size!r}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in [0, 1), got {self.drop_path}")


TINY = Config(size="micro", head_widths="64", head_dropout=0.0)


class ConvNext(nn.Module):
    """Images (B, I, H, W), at least 32 x 32, to features (B, T, D); a time step is 32 pixels."""

    def __init__(self, config: Config, num_channels: int) -> None:
        super().__init__()
        library = transformers()
        widths, depths = SIZES[config.size]
        options: dict[str, Any] = {"hidden_sizes": list(widths), "depths": list(depths)}
        options |= {"num_channels": num_channels, "drop_path_rate": config.drop_path}
        self.net = (
            from_pretrained(library.ConvNextModel, Wanted(config.weights), **options)
            if config.weights
            else library.ConvNextModel(library.ConvNextConfig(**options))
        )
        self.num_features, self._over_time = widths[-1], config.over_time

    def forward(self, image_BIHW: Tensor) -> Tensor:
        """Compute features (B, T, D)."""
        maps_BDHW = self.net(pixel_values=image_BIHW).last_hidden_state
        features_BTD: Tensor = self.net.layernorm(pool_maps(maps_BDHW, self._over_time))
        return features_BTD


def build(config: Config, num_channels: int, num_classes: int) -> nn.Module:
    """Make a network with random or published weights; its head is random.

    Raises:
        UsageError: the weights are not to be had, or do not fit.
    """
    check_channels(num_channels)
    backbone = ConvNext(config, num_channels)
    return channels_last(Headed(backbone, make_head(config, backbone.num_features, num_classes)))
