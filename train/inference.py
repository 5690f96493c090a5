"""A network behind its front end, and whole clips: chunks, then one probability per clip and class.

Shapes: N clips, K chunks of all clips, C classes, B windows, W frames, M mel bands, T samples.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from train import chunking
from train.chunking import ChunkPlan, ClipPooling, plan_chunks
from train.clips import AnyClips
from train.features import (
    IMAGENET,
    ImageConfig,
    LogMelConfig,
    Standardization,
    frames_per_image,
    repeat_channels,
    resize,
    to_image,
)
from train.front_end import IMAGE_CHANNELS, evaluation_chunking, make_front_end
from train.model import Input, input_of
from train.reading.order import in_sequence
from train.recipe import TrainRecipe
from train.scoring.metrics import Floats

_CHUNKS_AT_ONCE = 64

POOLINGS: Mapping[str, ClipPooling] = {"max": "max", "mean": "mean_probabilities", "mean_logits": "mean_logits"}


@contextmanager
def processor_threads(recipe: TrainRecipe) -> Iterator[None]:
    """Set the recipe's number of threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.compute.threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Tagger(nn.Module):
    """A network behind what its INPUT asks for: front end, standardization, image; to logits (B, C).

    The statistics are of the training split; they belong to the run's config, not to the weights.

    Args:
        network: from the model's input to logits.
        statistics: of log-mel, for models that take it, also as an image; None for all others.
        kind: the input of the network.
        front_end: from waveforms to log-mel or features; None: none.
        image: size of the images.
        features: of the log-mel that images are made of.
        bf16: run the network under autocast.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        statistics: Standardization | None,
        *,
        kind: Input = "logmel",
        front_end: nn.Module | None = None,
        image: ImageConfig | None = None,
        features: LogMelConfig | None = None,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.front_end, self.kind, self.bf16 = network, front_end, kind, bf16
        self._image, self._features = image or ImageConfig(), features or LogMelConfig()
        self.statistics = statistics or Standardization((0.0,), (1.0,))
        self.register_buffer("mean", torch.tensor(self.statistics.mean), persistent=False)
        self.register_buffer("std", torch.tensor(self.statistics.std), persistent=False)

    @property
    def device(self) -> torch.device:
        """The device on which it runs."""
        return self.mean.device

    def hear(self, window: Tensor) -> Tensor:
        """Apply the front end to waveforms (B, T); frames and embeddings (B, L, D) pass as they are."""
        if self.front_end is None or window.ndim != 2:
            return window
        heard: Tensor = self.front_end(window)
        return heard

    def prepare(self, heard: Tensor) -> Tensor:
        """Standardize features, and make images of them for image models."""
        if self.kind not in ("logmel", "image"):
            return heard
        if self.kind == "logmel":
            return (heard - self.mean) / self.std
        if heard.ndim == 4:  # three views, in [0, 1]
            mean_3, std_3 = (torch.tensor(part, device=heard.device)[:, None, None] for part in IMAGENET)
            return (resize(heard, self._image.height, self._image.width) - mean_3) / std_3
        wanted = frames_per_image(self._image, self._features)
        if wanted is not None and heard.shape[1] < wanted:  # black before it is standardized
            heard = functional.pad(heard, (0, 0, 0, wanted - heard.shape[1]), value=self._image.fill)
        image_B1HW = to_image((heard - self.mean) / self.std, self._image, self._features)
        return repeat_channels(image_B1HW, IMAGE_CHANNELS)

    def forward(self, heard: Tensor) -> Tensor:
        """Compute logits (B, C), float32, of features from `hear`."""
        with torch.autocast(heard.device.type, torch.bfloat16, enabled=self.bf16):
            logits_BC: Tensor = self.network(self.prepare(heard))
        return logits_BC.float()


def make_tagger(recipe: TrainRecipe, network: nn.Module, statistics: Standardization | None) -> Tagger:
    """Put a network behind the recipe's front end.

    Raises:
        UsageError: sizes that do not fit together.
    """
    return Tagger(
        network,
        statistics,
        kind=input_of(recipe.model),
        front_end=make_front_end(recipe),
        image=recipe.image,
        features=recipe.features,
        bf16=recipe.compute.precision == "bf16",
    )


def chunk_logits(tagger: Tagger, clips: AnyClips, recipe: TrainRecipe) -> tuple[Tensor, ChunkPlan]:
    """Compute logits (K, C) of every chunk in eval mode; return them with the plan of chunks."""
    cut = evaluation_chunking(recipe)
    plan = plan_chunks(clips.lengths.cpu().numpy(), cut)
    tagger.eval()
    draws = in_sequence(plan.clips, plan.first, _CHUNKS_AT_ONCE)
    with torch.inference_mode():
        logits = [tagger(tagger.hear(window)) for _, window in clips.batches(draws, cut.length, cut.last)]
    return torch.cat(logits), plan


def probabilities(logits_KC: Tensor) -> Floats:
    """Apply the sigmoid in float64, so that no two different logits fall together near 0 or 1."""
    values: Floats = torch.sigmoid(logits_KC.double()).cpu().numpy()
    return values


def pool_logits(
    logits_KC: Tensor, clips_K: NDArray[np.int64], pooling: Literal["max", "mean", "mean_logits"]
) -> Floats:
    """Pool one probability per clip (N, C) from its chunks, which are in clip order, each clip at least once."""
    return chunking.clip_probabilities(logits_KC, clips_K, POOLINGS[pooling])


def clip_probabilities(tagger: Tagger, clips: AnyClips, recipe: TrainRecipe) -> Floats:
    """Compute the probability (N, C) of every clip of a split."""
    logits_KC, plan = chunk_logits(tagger, clips, recipe)
    return pool_logits(logits_KC, plan.clips, recipe.pooling)
