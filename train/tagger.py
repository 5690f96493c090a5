"""The network that tags clips, behind its front end: built, checked before anything is trained, and run.

Shapes: B windows, K chunks of all clips, C classes, W frames, M mel bands, T samples.
"""

from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutti.datasets.errors import UsageError
from tutti.train.backbone import load_run_backbone, run_folder
from tutti.train.chunking import Chunking, ChunkPlan, plan_chunks
from tutti.train.clips import AnyClips
from tutti.train.features import (
    IMAGENET,
    ImageConfig,
    LogMelConfig,
    Standardization,
    frames_per_image,
    repeat_channels,
    resize,
    to_image,
)
from tutti.train.front_end import (
    IMAGE_CHANNELS,
    evaluation_unit,
    input_size,
    make_front_end,
)
from tutti.train.model import Input, Listener, input_kind, load_model
from tutti.train.reading.order import in_sequence
from tutti.train.reading.vggish import NUM_FEATURES
from tutti.train.run_recipe import RunRecipe
from tutti.train.tagging_recipe import TaggingRecipe

Recipe = TypeVar("Recipe", bound=RunRecipe)

_CHUNKS_AT_ONCE = 64


class Tagger(Listener):
    """A network behind what its INPUT asks for: front end, standardization, image; to logits (B, C).

    Args:
        network: from the model's input to logits.
        statistics: of log-mel, for models that take it, also as an image; None for all others.
        kind: the input of the network.
        front_end: from waveforms to log-mel or features; None: none.
        image: size of the images.
        features: of the log-mel that images are made of.
        bf16: run the network under autocast.
    """

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
        super().__init__(network, statistics or Standardization((0.0,), (1.0,)), bf16=bf16)
        self.front_end, self.kind = front_end, kind
        self._image, self._features = image or ImageConfig(), features or LogMelConfig()

    def featurize(self, window: Tensor) -> Tensor:
        """Apply the front end to waveforms (B, T); frames and embeddings (B, L, D) pass as they are."""
        if self.front_end is None or window.ndim != 2:
            return window
        features: Tensor = self.front_end(window)
        return features

    def prepare(self, features: Tensor) -> Tensor:
        """Standardize features, and make images of them for image models."""
        if self.kind not in ("logmel", "image"):
            return features
        if self.kind == "logmel":
            return (features - self.mean) / self.std
        if features.ndim == 4:  # three views, in [0, 1]
            mean_3, std_3 = (torch.tensor(part, device=features.device)[:, None, None] for part in IMAGENET)
            return (resize(features, self._image.height, self._image.width) - mean_3) / std_3
        wanted = frames_per_image(self._image, self._features)
        if wanted is not None and features.shape[1] < wanted:  # black before it is standardized
            features = functional.pad(features, (0, 0, 0, wanted - features.shape[1]), value=self._image.fill)
        image_B1HW = to_image((features - self.mean) / self.std, self._image, self._features)
        return repeat_channels(image_B1HW, IMAGE_CHANNELS)

    def forward(self, features: Tensor) -> Tensor:
        """Compute logits (B, C), float32, of features from `featurize`."""
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.bf16):
            logits_BC: Tensor = self.network(self.prepare(features))
        return logits_BC.float()


def make_tagger(recipe: TaggingRecipe, network: nn.Module, statistics: Standardization | None) -> Tagger:
    """Put a network behind the recipe's front end.

    Raises:
        UsageError: sizes that do not fit together.
    """
    return Tagger(
        network,
        statistics,
        kind=input_kind(recipe.model),
        front_end=make_front_end(recipe),
        image=recipe.image,
        features=recipe.features,
        bf16=recipe.compute.precision == "bf16",
    )


def chunk_logits(tagger: Tagger, clips: AnyClips, cut: Chunking) -> tuple[Tensor, ChunkPlan]:
    """Compute logits (K, C) of every chunk of whole clips, in eval mode; also what the chunks are."""
    plan = plan_chunks(clips.lengths.cpu().numpy(), cut)
    tagger.eval()
    draws = in_sequence(plan.clips, plan.first, _CHUNKS_AT_ONCE)
    with torch.inference_mode():
        logits = [tagger(tagger.featurize(window)) for _, window in clips.batches(draws, cut.length, cut.last)]
    return torch.cat(logits), plan


def without_weights(recipe: Recipe) -> Recipe:
    """Take random weights for the same network: nothing published is asked for."""
    if not getattr(recipe.model_config, "weights", ""):
        return recipe
    return replace(recipe, model_config=replace(recipe.model_config, weights=""))


def build_network(recipe: TaggingRecipe, num_classes: int) -> nn.Module:
    """Build the network alone, with the backbone of a run where `weights` names one; the caller seeds torch.

    Raises:
        UsageError: the weights are not to be had, or do not fit.
        IntegrityError: they are damaged.
    """
    run = run_folder(getattr(recipe.model_config, "weights", ""))
    plain = recipe if run is None else without_weights(recipe)
    network = load_model(recipe.model).build(plain.model_config, input_size(recipe), num_classes)
    if run is not None:
        load_run_backbone(network, run, recipe.model, recipe.model_config)
    return network


def build_tagger(recipe: TaggingRecipe, num_classes: int, statistics: Standardization | None) -> Tagger:
    """Build a fresh network behind its front end; the caller seeds torch.

    Raises:
        UsageError: the recipe's sizes do not fit together, or its published weights are not to be had.
    """
    try:
        network = build_network(recipe, num_classes)
        if recipe.compute.channels_last:
            network = cast(Any, network).to(memory_format=torch.channels_last)
        tagger = make_tagger(recipe, network, statistics).eval()
        for duration_s in {recipe.window_s, recipe.chunk_s or recipe.window_s}:
            _try_one_window(tagger, recipe, duration_s)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"recipe {recipe.name}: model {recipe.model} cannot take windows of {recipe.window_frames} frames x "
            f"{recipe.features.n_mels} mel bands, {recipe.window_s:g} s ({error})"
        ) from error
    plain = without_weights(recipe)
    if plain is not recipe:
        with torch.random.fork_rng(devices=[]):
            _check_sizes(network, build_network(plain, num_classes), recipe)
    return tagger


def _try_one_window(tagger: Tagger, recipe: TaggingRecipe, duration_s: float) -> None:
    """Run the network on one window: too short a one fails here, not after the first epoch."""
    unit = evaluation_unit(recipe)
    sizes = {"samples": (), "frames": (recipe.features.n_mels,), "seconds": (NUM_FEATURES,)}[unit]
    with torch.inference_mode():
        tagger(tagger.featurize(torch.zeros(1, recipe.length_in(unit, duration_s), *sizes)))


def _check_sizes(published: nn.Module, plain: nn.Module, recipe: TaggingRecipe) -> None:
    """Check that the config alone tells how large the network is: a run is loaded without the published files."""
    sizes = [{name: value.shape for name, value in network.state_dict().items()} for network in (published, plain)]
    wrong = [name for name in sizes[0].keys() | sizes[1].keys() if sizes[0].get(name) != sizes[1].get(name)]
    if wrong:
        raise UsageError(
            f"recipe {recipe.name}: weights {recipe.model_config.weights} have other sizes than model_config says, "
            f"such as {min(wrong)}; --set model_config.FIELD to theirs, or the run could not be loaded"
        )
