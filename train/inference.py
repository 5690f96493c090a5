"""A trained network on whole clips: consecutive chunks, then one probability per clip and class.

Shapes: N clips, K chunks of all clips, C classes, B windows, W frames, M mel bands.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.data import LogMelSplit, chunks
from train.features import Standardization
from train.metrics import Floats

_CHUNKS_AT_ONCE = 64


class Tagger(nn.Module):
    """A network behind its standardization: log-mel in dB (B, W, M) to logits (B, C).

    The statistics are of the training split; they belong to the run's config, not to the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, statistics: Standardization) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(statistics.mean), persistent=False)
        self.register_buffer("std", torch.tensor(statistics.std), persistent=False)

    def forward(self, logmel_BWM: Tensor) -> Tensor:
        """Logits (B, C)."""
        logits_BC: Tensor = self.network((logmel_BWM - self.mean) / self.std)
        return logits_BC


def chunk_logits(tagger: Tagger, split: LogMelSplit, window_frames: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Logits (K, C) of every chunk, and the clip (K,) that each belongs to; in eval mode."""
    clips_K, first_K = chunks(split, window_frames)
    device = split.frames.device
    tagger.eval()
    with torch.inference_mode():
        logits = [
            tagger(
                split.windows(
                    torch.from_numpy(clips_K[i : i + _CHUNKS_AT_ONCE]).to(device),
                    torch.from_numpy(first_K[i : i + _CHUNKS_AT_ONCE]).to(device),
                    window_frames,
                )
            )
            for i in range(0, len(clips_K), _CHUNKS_AT_ONCE)
        ]
    return torch.cat(logits), clips_K


def probabilities(logits_KC: Tensor) -> Floats:
    """Sigmoid in float64, so that no two different logits fall together near 0 or 1."""
    values: Floats = torch.sigmoid(logits_KC.double()).cpu().numpy()
    return values


def pool_chunks(probability_KC: Floats, clips_K: NDArray[np.int64], pooling: Literal["max", "mean"]) -> Floats:
    """One probability per clip (N, C) from its chunks, which stand in clip order, each clip at least once.

    `max` at one threshold is the union of the chunks' predictions (Lumen 2023); `mean` is the
    protocol of the NSynth paper's code.
    """
    starts_N = np.flatnonzero(np.diff(clips_K, prepend=-1))
    if pooling == "max":
        return np.maximum.reduceat(probability_KC, starts_N, axis=0)
    counts_N1 = np.diff(starts_N, append=len(clips_K))[:, None]
    mean: Floats = np.add.reduceat(probability_KC, starts_N, axis=0) / counts_N1
    return mean


def clip_probabilities(
    tagger: Tagger, split: LogMelSplit, window_frames: int, pooling: Literal["max", "mean"]
) -> Floats:
    """Probability (N, C) of every clip of a split."""
    logits_KC, clips_K = chunk_logits(tagger, split, window_frames)
    return pool_chunks(probabilities(logits_KC), clips_K, pooling)
