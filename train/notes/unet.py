"""U-net from CQT to pianoroll (Hung, Chen, Yang 2019): four residual blocks down, four up, skips between.

A residual block has three convolutions (one of them on the shortcut), two batch norms, two leaky
ReLUs. Instrument and pitch roll are no heads of their own but sums over the pianoroll of logits, so
that what is learned of pitches serves the instruments and the other way around.

Its output has a pitch and a time axis, so it is none of the clip-level models of train/models.
Shapes: B windows, D channels, I instruments, P pitches, F frames.
"""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutti.train.features import Standardization
from tutti.train.model import Listener
from tutti.train.notes.losses import RollLogits

_SLOPE = 0.01  # of the leaky ReLU below 0: torch's default; the paper gives none


@dataclass(frozen=True)
class UnetConfig:
    """Sizes; the defaults are the paper's code's."""

    first_channels: int = 32  # of the first block; doubled from block to block: 32, 64, 128, 256
    num_blocks: int = 4  # down, and as many up
    # sum: logits added up, as in the paper, and scaled as in its code. noisy_or: the probability that
    # any cell of the sum sounds, if cells were independent.
    summing: Literal["sum", "noisy_or"] = "sum"
    instrument_scale: float = 0.01  # of 88 summed logits
    pitch_scale: float = 0.1  # of the summed logits of 9 instruments
    # What the untrained network says of every cell: few cells sound, and beginning at one half would
    # cost the first epochs. 0: begin at one half, as the paper's code.
    prior: float = 0.01

    def __post_init__(self) -> None:
        if min(self.first_channels, self.num_blocks) < 1:
            raise ValueError(f"first_channels and num_blocks must be at least 1, got {self}")
        if not 0 <= self.prior < 1:
            raise ValueError(f"prior must lie in [0, 1), got {self.prior}")


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut.

    Args:
        num_in: channels that come in.
        num_out: channels that go out.
        stride: 2 halves both axes, rounding up; 1 leaves them.
        up: the stride multiplies instead.
    """

    def __init__(self, num_in: int, num_out: int, *, stride: int, up: bool) -> None:
        super().__init__()
        self.up = up and stride > 1
        kind = nn.ConvTranspose2d if self.up else nn.Conv2d
        self.first = kind(num_in, num_out, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(num_out)
        self.second = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(num_out)
        self.shortcut = kind(num_in, num_out, 3, stride=stride, padding=1)

    def forward(self, maps_BDPF: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Compute maps of the stride's size; on the way up of `size`, which rounded up is twice that of the maps."""
        options = {"output_size": size} if self.up else {}
        inner = functional.leaky_relu(self.first_norm(self.first(maps_BDPF, **options)), _SLOPE)
        inner = self.second_norm(self.second(inner))
        return functional.leaky_relu(inner + self.shortcut(maps_BDPF, **options), _SLOPE)


class Unet(nn.Module):
    """Maps (B, 1, P, F), standardized, to logits of a pianoroll (B, I, P, F).

    The first block down and the last one up work at full size: a semitone is one bin, and what
    tells neighbors apart must not be halved away.
    """

    def __init__(self, config: UnetConfig, num_instruments: int) -> None:
        super().__init__()
        widths = [config.first_channels * 2**block for block in range(config.num_blocks)]
        strides = [1] + [2] * (config.num_blocks - 1)
        self.down = nn.ModuleList(
            ResidualBlock(before, after, stride=stride, up=False)
            for before, after, stride in zip([1, *widths], widths, strides, strict=False)
        )
        # On the way up a block takes what came up and, from the second on, what the way down left at that size.
        taken = [widths[-1], *(2 * width for width in widths[-2::-1])]
        given = [*widths[-2::-1], widths[0]]
        self.up = nn.ModuleList(
            ResidualBlock(before, after, stride=stride, up=True)
            for before, after, stride in zip(taken, given, strides[::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], num_instruments, 1)
        if config.prior:
            nn.init.constant_(cast(Tensor, self.head.bias), math.log(config.prior / (1 - config.prior)))

    def forward(self, cqt_B1PF: Tensor) -> Tensor:
        """Compute logits."""
        left: list[Tensor] = []
        maps = cqt_B1PF
        for block in self.down:
            maps = block(maps)
            left.append(maps)
        left.pop()
        for block in list(self.up)[:-1]:
            skip = left.pop()
            maps = torch.cat([block(maps, (skip.shape[-2], skip.shape[-1])), skip], dim=1)
        logits: Tensor = self.head(self.up[-1](maps))
        return logits


class NotesTagger(Listener):
    """A U-net behind standardization, and the sums of its pianoroll.

    Args:
        network: the U-net.
        config: how to sum.
        pitched_I: which instruments the pitch roll is summed over.
        statistics: of every CQT bin over the training split.
        bf16: run the network under autocast.
    """

    pitched: Tensor

    def __init__(
        self, network: nn.Module, config: UnetConfig, pitched_I: Tensor, statistics: Standardization, *, bf16: bool
    ) -> None:
        super().__init__(network, statistics, bf16=bf16)
        self.config = config
        self.register_buffer("pitched", pitched_I, persistent=False)

    def forward(self, cqt_BFQ: Tensor) -> RollLogits:
        """Compute logits, float32, of CQT frames as the front end gives them."""
        heard_B1PF = ((cqt_BFQ - self.mean) / self.std).transpose(1, 2).unsqueeze(1)
        with torch.autocast(cqt_BFQ.device.type, torch.bfloat16, enabled=self.bf16):
            roll_BIPF = self.network(heard_B1PF)
        roll_BIPF = roll_BIPF.float()
        pitched_BIPF = roll_BIPF[:, self.pitched]
        if self.config.summing == "noisy_or":
            return RollLogits(roll_BIPF, any_logit(roll_BIPF, dim=2), any_logit(pitched_BIPF, dim=1))
        return RollLogits(
            roll_BIPF,
            self.config.instrument_scale * roll_BIPF.sum(dim=2),
            self.config.pitch_scale * pitched_BIPF.sum(dim=1),
        )


def any_logit(logits: Tensor, dim: int) -> Tensor:
    """Compute the logit of the probability that at least one of independent events happens.

    None happens with probability exp(-n), n the sum of softplus(logit); the logit of the rest is log(exp(n) - 1).
    """
    none = functional.softplus(logits).sum(dim=dim).clamp(min=1e-7)  # log has no finite value at 0
    return none + torch.log(-torch.expm1(-none))
