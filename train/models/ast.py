"""Audio Spectrogram Transformer (Gong et al. 2021) on log-mel: without training, as embedder, or fine-tuned.

Published AudioSet weights: MIT/ast-finetuned-audioset-10-10-0.4593. They hear Kaldi filter banks of 128 bands with
(dB - mean) / (2 std), mean -4.2677 and std 4.5690, 100 frames a second; any number of frames from 16 on goes in,
the grid of positions is resized to it. `mode=zero_shot` answers AudioSet's own logits for our instruments (Lumen
2023: F1 .51 to .54 on IRMAS) and learns nothing: `train.evaluate --zero-shot` scores it. `mode=fine_tune` puts a head
on the embedding, `model.embed` is the embedding.

Shapes: B clips, F frames, M mel bands, P patches, T patches in time, D features, C classes.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS
from tutti.train.heads import HeadOptions, make_head
from tutti.train.models._audioset import audioset_outputs
from tutti.train.models._parts import Headed
from tutti.train.models._positions import POSITIONS, grid_of, resize_positions
from tutti.train.pretrained import Wanted, from_pretrained, transformers

INPUT = "logmel"

Mode = Literal["fine_tune", "zero_shot"]

NUM_AUDIOSET_CLASSES = 527
_TOKEN_STD = 0.02  # of tokens and positions at random, as in the paper's vision transformer (Touvron et al. 2021)


@dataclass(frozen=True)
class Config(HeadOptions):
    """Use of the model, its weights, and its sizes where there are none."""

    mode: Mode = "fine_tune"
    instruments: str = ",".join(IRMAS_INSTRUMENTS)  # zero_shot only: what the classes are, in their order
    added_mids: bool = False  # zero_shot only: also AudioSet's neighboring classes; the largest logit counts
    weights: str = ""  # folder, hub name or run; empty: random, of these sizes
    hidden_size: int = 768  # sizes of AST-B
    num_layers: int = 12
    num_heads: int = 12
    max_frames: int = 1024  # that the grid of positions is made for
    dropout: float = 0.0  # inside the transformer

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.hidden_size, self.num_layers, self.num_heads) < 1 or self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size must be a multiple of num_heads, all at least 1, got {self}")
        if self.max_frames < 16 or not 0 <= self.dropout < 1:
            raise ValueError(f"needs max_frames >= 16 and 0 <= dropout < 1, got {self}")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")


TINY = Config(
    hidden_size=48, num_layers=2, num_heads=4, max_frames=64, head_widths="64", head_dropout=0.0
)  # fmt: skip


class Transformer(nn.Module):
    """Log-mel (B, F, M) to features (B, T, D), one time step every ten frames, or T = 1 if `over_time` is off."""

    def __init__(self, net: Any, over_time: bool) -> None:
        super().__init__()
        self.net, self._over_time = net, over_time
        self.num_features = int(self.net.config.hidden_size)

    def forward(self, logmel_BFM: Tensor) -> Tensor:
        """Compute features: the mean of the two special tokens, or each time step's patches averaged over bands."""
        bands, patches = grid_of(self.net.config, logmel_BFM.shape[1])
        if patches < 1:
            raise ValueError(f"AST needs at least {self.net.config.patch_size} frames, got {logmel_BFM.shape[1]}")
        outputs: Any = functional_call(self.net, self._resized(bands, patches), (logmel_BFM,))
        if not self._over_time:
            pooled_BD: Tensor = outputs.pooler_output
            return pooled_BD.unsqueeze(1)
        grid_BPD: Tensor = outputs.last_hidden_state[:, 2:]
        return grid_BPD.reshape(len(grid_BPD), bands, patches, -1).mean(dim=1)

    def _resized(self, bands: int, patches: int) -> dict[str, Tensor]:
        whole_1PD = self.net.get_parameter(POSITIONS)
        if whole_1PD.shape[1] == 2 + bands * patches:
            return {}
        return {POSITIONS: resize_positions(whole_1PD, bands=bands, patches=patches)}


class AudioSetHead(nn.Module):
    """The model's own classifier, of whose 527 logits each of our classes takes the largest of a few."""

    def __init__(self, classifier: nn.Module, outputs: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.classifier, self.outputs = classifier, outputs

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Compute logits (B, C)."""
        logits_BA: Tensor = self.classifier(features_BTD.mean(dim=1))
        return torch.stack([logits_BA[:, list(columns)].amax(dim=1) for columns in self.outputs], dim=1)


def build(config: Config, n_mels: int, num_classes: int) -> nn.Module:
    """Make a network with random or published weights; the head of `fine_tune` is random.

    Raises:
        UsageError: the weights are not to be had or do not fit, or an instrument has no AudioSet class.
        ValueError: sizes that do not go together.
    """
    library = transformers()
    model_class = library.ASTForAudioClassification
    if config.weights:
        whole: Any = from_pretrained(model_class, Wanted(config.weights))
        if whole.config.num_mel_bins != n_mels:
            raise ValueError(f"weights {config.weights} hear {whole.config.num_mel_bins} mel bands, got {n_mels}")
    else:
        sizes = library.ASTConfig(
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=4 * config.hidden_size,
            max_length=config.max_frames,
            num_mel_bins=n_mels,
            num_labels=NUM_AUDIOSET_CLASSES,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
        whole = model_class(sizes)
        for name in ("cls_token", "distillation_token", "position_embeddings"):  # the library's zeros learn badly
            nn.init.trunc_normal_(getattr(whole.audio_spectrogram_transformer.embeddings, name), std=_TOKEN_STD)
    net = whole.audio_spectrogram_transformer
    if config.mode == "fine_tune":
        backbone = Transformer(net, config.over_time)
        return Headed(backbone, make_head(config, backbone.num_features, num_classes))
    instruments = tuple(name.strip() for name in config.instruments.split(","))
    if len(instruments) != num_classes:
        raise ValueError(f"{num_classes} classes, but instruments names {len(instruments)}: {config.instruments}")
    outputs = audioset_outputs(instruments, config.added_mids, whole.config.id2label if config.weights else None)
    return Headed(Transformer(net, over_time=False), AudioSetHead(whole.classifier, outputs))
