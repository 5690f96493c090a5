"""SincNet + thin ResNet + LDE pooling on raw waveforms: the NSynth pre-training paper (Zhong et al. 2023).

    python -m train.run --recipe nsynth_pretrain ...   head=pretrain, 1,006 classes
    python -m train.run --recipe irmas_finetune ...    head=finetune, weights=RUN of the former

Sizes: {3,4,6,3} is ResNet34, {3,3,4,3} ResNet28, {2,2,2,2} ResNet18; `shared` makes them ShaResNets (Boulch 2018):
the second convolution of all blocks of a stage is one and the same, each block keeps batch norms of its own. With
the fine-tuning head and 11 classes these have 836 k, 753 k and 519 k weights, as the paper says, and the unshared
ResNet34 1.3 M; the 512 units of the pre-training head are not counted there.

Shapes: B clips, T samples, K taps, N filters, F frames, D features of a map, C classes.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.datasets.mel_bank import hz_to_mel, mel_to_hz
from tutti.train.heads import whole_numbers
from tutti.train.models._parts import Headed, initialize
from tutti.train.pretrained import load_backbone

INPUT = "waveform"

HeadKind = Literal["finetune", "pretrain"]


@dataclass(frozen=True)
class Config:
    """Sizes; defaults from the paper's public code where the paper is silent."""

    blocks: str = "3,4,6,3"  # residual blocks per stage
    width: int = 16  # channels of the first stage; every stage doubles them
    shared: bool = False  # ShaResNet
    num_filters: int = 128
    kernel_ms: float = 50.0  # 801 taps at 16 kHz
    stride_ms: float = 12.0
    min_low_hz: float = 5.0  # below it no filter begins
    min_band_hz: float = 5.0  # narrower than it no filter gets
    num_centers: int = 8  # of the learned dictionary
    head: HeadKind = "finetune"
    hidden_features: int = 512  # of the pre-training head
    dropout: float = 0.15  # of the fine-tuning head
    weights: str = ""  # folder of a run of this model, for its backbone; empty: random

    def __post_init__(self) -> None:
        sizes = (self.width, self.num_filters, self.num_centers, self.hidden_features, *whole_numbers(self.blocks))
        if min(sizes) < 1 or not self.blocks:
            raise ValueError(f"sizes must be at least 1, got {self}")
        if not min(self.kernel_ms, self.stride_ms) > 0 or min(self.min_low_hz, self.min_band_hz) <= 0:
            raise ValueError(f"kernel_ms, stride_ms, min_low_hz and min_band_hz must be above 0, got {self}")
        if not 0 <= self.dropout < 1 or self.head not in get_args(HeadKind):
            raise ValueError(f"needs 0 <= dropout < 1 and head one of {', '.join(get_args(HeadKind))}, got {self}")


TINY = Config(blocks="1,1", width=4, num_filters=16, kernel_ms=10.0, stride_ms=5.0, num_centers=4, dropout=0.0)


class SincFilters(nn.Module):
    """A bank of band-pass filters, of which only the two cutoff frequencies are learned (Ravanelli 2018).

    Kernels are the paper's equation 1 under a Hamming window, scaled to a peak of one, as in its code: the gain of a
    band is the higher the narrower it is, and a batch norm follows.
    """

    time_s: Tensor
    window: Tensor

    def __init__(self, config: Config, sample_rate: int) -> None:
        super().__init__()
        self.min_low_hz, self.min_band_hz, self.max_hz = config.min_low_hz, config.min_band_hz, sample_rate / 2
        num_taps = int(config.kernel_ms * sample_rate / 1000) | 1  # odd: symmetric around a tap
        self.stride = max(1, int(config.stride_ms * sample_rate / 1000))
        highest_hz = self.max_hz - (config.min_low_hz + config.min_band_hz)
        if highest_hz <= config.min_low_hz:
            raise ValueError(f"sample rate {sample_rate} Hz leaves no band above min_low_hz={config.min_low_hz:g}")
        edges_mel = torch.linspace(
            hz_to_mel(config.min_low_hz), hz_to_mel(highest_hz), config.num_filters + 1, dtype=torch.float64
        )
        edges_hz = torch.from_numpy(mel_to_hz(edges_mel.numpy())).float()
        # Offsets above the minima: filter n begins at min_low + |low[n]| and is min_band + |band[n]| wide.
        self.low_hz = nn.Parameter(edges_hz[:-1].clone())
        self.band_hz = nn.Parameter(edges_hz.diff())
        centered = torch.arange(num_taps, dtype=torch.float64) - num_taps // 2
        self.register_buffer("time_s", (centered / sample_rate).float(), persistent=False)
        self.register_buffer("window", torch.hamming_window(num_taps, periodic=False), persistent=False)

    def cutoffs_hz(self) -> tuple[Tensor, Tensor]:
        """Compute the lower and upper cutoff (N,) of every filter, in Hz."""
        low_N = (self.min_low_hz + self.low_hz.abs()).clamp(max=self.max_hz - self.min_band_hz)
        return low_N, (low_N + self.min_band_hz + self.band_hz.abs()).clamp(max=self.max_hz)

    def kernels(self) -> Tensor:
        """Compute impulse responses (N, K)."""
        low_N1, high_N1 = (cutoff[:, None] for cutoff in self.cutoffs_hz())
        bands_NK = _low_pass(high_N1, self.time_s) - _low_pass(low_N1, self.time_s)
        return bands_NK * self.window / (2 * (high_N1 - low_N1))

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Filter waveforms (B, T) to (B, F, N), one frame every stride; zeros beyond both ends."""
        padding = len(self.window) // 2
        bands_BNF = F.conv1d(waveform_BT[:, None], self.kernels()[:, None], stride=self.stride, padding=padding)
        return bands_BNF.transpose(1, 2)


def _low_pass(cutoff_hz: Tensor, time_s: Tensor) -> Tensor:
    return 2 * cutoff_hz * torch.sinc(2 * cutoff_hz * time_s)  # torch.sinc(x) = sin(pi x) / (pi x)


class Stage(nn.Module):
    """Residual blocks of two 3 x 3 convolutions between two halvings; with `shared` one second convolution for all."""

    def __init__(self, num_in: int, num_out: int, num_blocks: int, *, stride: int, shared: bool) -> None:
        super().__init__()
        sizes = [num_in] + [num_out] * (num_blocks - 1)
        self.first = nn.ModuleList(_conv(size, num_out, stride if i == 0 else 1) for i, size in enumerate(sizes))
        self.second = nn.ModuleList(_conv(num_out, num_out, 1) for _ in range(1 if shared else num_blocks))
        self.first_norms = nn.ModuleList(nn.BatchNorm2d(num_out) for _ in sizes)
        self.second_norms = nn.ModuleList(nn.BatchNorm2d(num_out) for _ in sizes)
        self.shortcut = nn.Identity() if stride == 1 and num_in == num_out else _projection(num_in, num_out, stride)

    def forward(self, maps_BDFN: Tensor) -> Tensor:
        """Compute maps (B, D', F / stride, N / stride)."""
        for index, first in enumerate(self.first):
            shortcut = self.shortcut(maps_BDFN) if index == 0 else maps_BDFN
            hidden = F.relu(self.first_norms[index](first(maps_BDFN)))
            hidden = self.second[index % len(self.second)](hidden)
            maps_BDFN = F.relu(self.second_norms[index](hidden) + shortcut)
        return maps_BDFN


def _conv(num_in: int, num_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, 3, stride, 1, bias=False)


def _projection(num_in: int, num_out: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out))


class DictionaryEncoding(nn.Module):
    """LDE pooling (Cai et al. 2018): mean residual to each of a few learned centers, nearer ones counting more."""

    def __init__(self, num_centers: int, num_features: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.empty(num_centers, num_features).uniform_(-1, 1))
        self.sharpness = nn.Parameter(torch.ones(num_centers))

    def forward(self, features_BFD: Tensor) -> Tensor:
        """Encode features (B, F, D) to (B, centers * D)."""
        residual_BFSD = features_BFD.unsqueeze(2) - self.centers
        distance_BFS = residual_BFSD.square().sum(dim=3)
        weight_BFS = torch.softmax(-self.sharpness.square() * distance_BFS, dim=2)
        weight_BFS = weight_BFS / (weight_BFS.sum(dim=1, keepdim=True) + 1e-9)  # a center that nothing is near
        return torch.einsum("bfs,bfsd->bsd", weight_BFS, residual_BFSD).flatten(1)


class SincResNet(nn.Module):
    """Waveforms (B, T) to features (B, 1, centers * D)."""

    def __init__(self, config: Config, sample_rate: int) -> None:
        super().__init__()
        self.filters = SincFilters(config, sample_rate)
        self.norm = nn.BatchNorm2d(1)
        self.stem = nn.Conv2d(1, config.width, 7, padding=3, bias=False)
        self.stem_norm = nn.BatchNorm2d(config.width)
        stages, size = [], config.width
        for index, count in enumerate(whole_numbers(config.blocks)):
            num_out = config.width * 2**index
            stages.append(Stage(size, num_out, count, stride=1 if index == 0 else 2, shared=config.shared))
            size = num_out
        self.stages = nn.Sequential(*stages)
        initialize(self)
        self.pool = DictionaryEncoding(config.num_centers, size)
        self.num_features = config.num_centers * size

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Compute features (B, 1, centers * D)."""
        maps_B1FN = self.norm(self.filters(waveform_BT).unsqueeze(1))
        maps_BDFN = self.stages(F.relu(self.stem_norm(self.stem(maps_B1FN))))
        pooled_BP: Tensor = self.pool(maps_BDFN.mean(dim=3).transpose(1, 2))
        return pooled_BP.unsqueeze(1)


def _head(config: Config, num_features: int, num_classes: int) -> nn.Module:
    if config.head == "pretrain":
        hidden = config.hidden_features
        layers = [nn.Linear(num_features, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, num_classes)]
    else:
        layers = [nn.ReLU(), nn.BatchNorm1d(num_features), nn.Dropout(config.dropout)]
        layers.append(nn.Linear(num_features, num_classes))
    return nn.Sequential(nn.Flatten(), *layers)


def build(config: Config, sample_rate: int, num_classes: int) -> nn.Module:
    """Make a network, with the backbone of an earlier run if `weights` names one; its head is random.

    Raises:
        UsageError: the weights are not to be had, or do not fit.
        ValueError: the sample rate is too low for the filters.
    """
    backbone = SincResNet(config, sample_rate)
    if config.weights:
        load_backbone(backbone, config.weights)
    return Headed(backbone, _head(config, backbone.num_features, num_classes))
