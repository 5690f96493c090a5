"""The convolutions of Lumen 2023's own models: short on time, shorter on frequency.

Shapes: B clips, F frames, M mel bands, D channels.
"""

from torch import Tensor, nn


class SpectralConv(nn.Module):
    """Log-mel (B, F, M) to a series (B, F / 2**n, D), n the number of blocks: each is pooled 2 frames x 4 bands.

    A block is a 5 x 5 convolution, batch norm, leaky ReLU and max pooling; what is left of the bands is averaged.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (1, *widths)
        self.blocks = nn.Sequential(*(_block(size, sizes[i + 1]) for i, size in enumerate(sizes[:-1])))
        self.num_features = sizes[-1]

    def forward(self, logmel_BFM: Tensor) -> Tensor:
        """Compute features (B, F', D); any F and M."""
        maps_BDFM: Tensor = self.blocks(logmel_BFM.unsqueeze(1))
        return maps_BDFM.mean(dim=3).transpose(1, 2)


def _block(num_in: int, num_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 5, padding=2, bias=False),
        nn.BatchNorm2d(num_out),
        nn.LeakyReLU(),
        nn.MaxPool2d(2, (2, 4), ceil_mode=True),
    )
