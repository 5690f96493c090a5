"""Wav2Vec 2.0's convolutions on raw waveforms, without its transformer, and attentive Fluffy heads (Lumen 2023).

Published weights: facebook/wav2vec2-base (a `model.safetensors` is needed, whole: 380 MB, of which 17 are used).
They expect 16 kHz.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tutti.train.heads import HeadKind, HeadOptions, make_head, whole_numbers
from tutti.train.models._parts import Headed
from tutti.train.pretrained import Wanted, from_pretrained, transformers

INPUT = "waveform"


@dataclass(frozen=True)
class Config(HeadOptions):
    """Sizes of Baevski et al. 2020: one frame every 20 ms at 16 kHz."""

    widths: str = "512,512,512,512,512,512,512"  # channels of the layers
    kernels: str = "10,3,3,3,3,2,2"  # samples
    strides: str = "5,2,2,2,2,2,2"
    head: HeadKind = "fluffy_attention"
    weights: str = ""  # folder, hub name or run; empty: random

    def __post_init__(self) -> None:
        super().__post_init__()
        lists = [whole_numbers(text) for text in (self.widths, self.kernels, self.strides)]
        if len({len(numbers) for numbers in lists}) != 1 or min(map(min, lists), default=0) < 1:
            raise ValueError(f"widths, kernels and strides must be equally many numbers from 1 on, got {self}")


TINY = Config(widths="8,16,16", kernels="10,8,4", strides="5,4,4", head_widths="8", head_dropout=0.0)


class Wav2VecConv(nn.Module):
    """Waveforms (B, T) to features (B, F, D), one frame for every product-of-strides samples."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        library = transformers()
        if config.weights:
            whole: Any = from_pretrained(library.Wav2Vec2Model, Wanted(config.weights))
            self.net, self.num_features = whole.feature_extractor, int(whole.config.conv_dim[-1])
            return
        widths = whole_numbers(config.widths)
        sizes = library.Wav2Vec2Config(
            conv_dim=widths,
            conv_kernel=whole_numbers(config.kernels),
            conv_stride=whole_numbers(config.strides),
        )
        self.net = library.models.wav2vec2.modeling_wav2vec2.Wav2Vec2FeatureEncoder(sizes)
        self.num_features = widths[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv1d):  # as the whole model initializes them
                nn.init.kaiming_normal_(module.weight)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Compute features (B, F, D) of clips scaled to mean 0, variance 1, as the weights were trained."""
        mean_B1, variance_B1 = waveform_BT.mean(1, keepdim=True), waveform_BT.var(1, keepdim=True, unbiased=False)
        scaled_BT = (waveform_BT - mean_B1) / (variance_B1 + 1e-7).sqrt()
        features_BDF: Tensor = self.net(scaled_BT)
        return features_BDF.transpose(1, 2)


def build(config: Config, sample_rate: int, num_classes: int) -> nn.Module:
    """Make a network with random or published weights; its head is random.

    Raises:
        UsageError: the weights are not to be had, or do not fit.
        ValueError: published weights at another sample rate than theirs.
    """
    if config.weights and sample_rate != 16_000:
        raise ValueError(f"published weights hear 16000 Hz, got {sample_rate}")
    backbone = Wav2VecConv(config)
    return Headed(backbone, make_head(config, backbone.num_features, num_classes))
