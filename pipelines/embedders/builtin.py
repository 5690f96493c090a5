"""The built-in trained embedder: a small convolutional net that learned to tell General MIDI's programs apart.

    embedder = load()
    embedder.embed([waveform, ...])  # float32 (N, dimension)

Trained on renderings only (`python -m pipelines.render.train_embedder`), so it needs no download. A clip is heard
in excerpts of 3 s, every 1.5 s; the net's part of the embedding is their mean. Behind it stand the statistics of
`logmel.py`, each against its spread over renderings: on real recordings the two together tell instruments apart
better than either (out of fold and across corpora, on labels as given). Weights and their recipe lie beside this
file, `builtin.safetensors` and `builtin.json`.

Row i depends on waveform i only, to the last bit, and on no processor: the net runs in whole numbers (`exact_net.py`),
always on slices of one size, which excerpts of several clips share.
Shapes: B excerpts, F frames, M mel bands, D numbers of an embedding.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import digest_of, file_sha256
from tutti.pipelines import embedders
from tutti.pipelines.embedders.exact_net import CENTER_DB, RANGE_DB, SCALE_DB, ExactNet, net_input
from tutti.pipelines.embedders.front_end import CONFIG, EXCERPT_SAMPLES, unit_power
from tutti.pipelines.embedders.logmel import LogMelEmbedder, embed_waveform
from tutti.pipelines.embedders.slices import Inputs, Slices

CODE_VERSION = 2  # names the vectors in manifests: raise it when they become others. The cache sees that by itself
FOLDER = Path(__file__).parent
WEIGHTS, RECIPE = "builtin.safetensors", "builtin.json"
HOP_SAMPLES = EXCERPT_SAMPLES // 2
MAX_EXCERPTS = 12  # of a clip, spread over it: 19.5 s without gaps
SLICE_EXCERPTS = 4  # through the net at once, always


class TimbreNet(nn.Module):
    """Depthwise-separable convolutions over log-mel; frequencies are kept apart to the end, time is pooled.

    Args:
        num_programs: of General MIDI, one is the loudest.
        num_instruments: each sounds or not.
        dimension: of the embedding.
    """

    def __init__(self, num_programs: int, num_instruments: int, dimension: int = 192) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.blocks = nn.Sequential(
            _Separable(24, 48, 2),
            _Separable(48, 96, 1),
            _Separable(96, 96, 1),
            _Separable(96, 192, 2),
            _Separable(192, 192, 1),
            _Separable(192, 192, 1),
            _Separable(192, 256, 2),
            _Separable(256, 256, 1),
        )
        rest = CONFIG.n_mels // 16
        self.project = nn.Linear(2 * 256 * rest, dimension)
        self.norm = nn.BatchNorm1d(dimension)
        self.program = nn.Linear(dimension, num_programs)
        self.instruments = nn.Linear(dimension, num_instruments)

    def embed(self, logmel_BFM: Tensor) -> Tensor:
        """Compute embeddings (B, D) of log-mel in dB."""
        features = self.blocks(self.stem(leveled(logmel_BFM)[:, None]))
        pooled = torch.cat([features.mean(2), features.amax(2)], dim=1).flatten(1)
        embedding: Tensor = self.norm(self.project(pooled))
        return embedding

    def forward(self, logmel_BFM: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits of the loudest program (B, P) and of each instrument (B, I)."""
        hidden = torch.relu(self.embed(logmel_BFM))
        return self.program(hidden), self.instruments(hidden)


class _Separable(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.is_residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.depthwise(x)))
        y = self.norm2(self.pointwise(y))
        return torch.relu(x + y if self.is_residual else y)


def leveled(logmel_BFM: Tensor) -> Tensor:
    """Relate levels to each excerpt's power, floored, centered: loudness does not matter."""
    power_B11 = (10 ** (logmel_BFM / 10)).sum(dim=2).mean(dim=1)[:, None, None].clamp(min=1e-10)
    relative_BFM = logmel_BFM - 10 * torch.log10(power_B11)
    return (relative_BFM.clamp(min=-RANGE_DB) - CENTER_DB) / SCALE_DB


class BuiltinEmbedder:
    """The net with its weights.

    Attributes:
        name: "builtin".
        dimension: numbers per embedding.
        slice_size: excerpts through the net at once.
        count: of excerpts that went through it.
        digest: sha256 of code versions, recipe, weights and front end: equal digests, equal embeddings.
        facts: for the manifest.
    """

    name = "builtin"

    def __init__(
        self, net: TimbreNet, center: Sequence[float], scale: Sequence[float], facts: Mapping[str, Any]
    ) -> None:
        self._net, self._logmel = ExactNet(net), LogMelEmbedder()
        self.slice_size, self.count = SLICE_EXCERPTS, Slices()
        self._center, self._scale = np.array(center, np.float32), np.array(scale, np.float32)
        self.facts = dict(facts)
        self.digest = digest_of([self.facts, self._logmel.digest])
        self.dimension = int(net.project.out_features) + self._logmel.dimension

    def embed(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed clips: (N, D).

        Args:
            waveforms: mono float32 (num_samples,) at 16 kHz, of any length above 0.

        Raises:
            ValueError: a waveform is no such array, or holds values that are no numbers.
        """
        return embedders.embed(self, waveforms)

    def prepare(self, waveform: NDArray[np.float32], label: str = "waveform") -> Inputs:
        """Cut excerpts, and compute their mel levels and the statistics of `logmel.py`.

        Raises:
            ValueError: the waveform is no such array, or holds values that are no numbers.
        """
        measured = embed_waveform(waveform, label)
        rows = [net_input(excerpt) for excerpt in excerpts_of(waveform)]
        return Inputs(rows=rows, measured=(measured - self._center) / self._scale)

    def run(self, kind: int, rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Send excerpts through the net: (len(rows), net's dimension)."""
        filled = np.zeros((self.slice_size, *rows[0].shape), np.float32)
        filled[: len(rows)] = rows
        with _one_thread():
            return self._net.embed(filled)[: len(rows)]

    def vector(self, inputs: Inputs, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average the net's answers over excerpts, and append the statistics."""
        mean = outputs.mean(axis=0, dtype=np.float64).astype(np.float32)
        return np.concatenate([mean, inputs.measured])


def excerpts_of(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut excerpts (B, T) of 3 s at one power each; a short clip is repeated, silent excerpts are left out."""
    if len(waveform) < EXCERPT_SAMPLES:
        waveform = np.resize(waveform, EXCERPT_SAMPLES)
    latest = len(waveform) - EXCERPT_SAMPLES
    count = min(MAX_EXCERPTS, 1 + -(-latest // HOP_SAMPLES))
    starts = [round(latest * index / max(1, count - 1)) for index in range(count)]
    cut = [waveform[start : start + EXCERPT_SAMPLES] for start in starts]
    powers = [float(np.mean(np.square(part, dtype=np.float64))) for part in cut]
    loud = [part for part, power in zip(cut, powers, strict=True) if power > 1e-4 * max(powers)]  # above -40 dB
    return np.stack([unit_power(part) for part in (loud or cut)])


class _one_thread:  # noqa: N801  (used as a function)
    """One thread: nets this small gain nothing by more, and the order of sums stays the same."""

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *exception: object) -> None:
        torch.set_num_threads(self._before)


@functools.lru_cache(maxsize=1)
def load(folder: Path = FOLDER) -> BuiltinEmbedder:
    """Load the embedder from its weights and their recipe.

    Raises:
        UsageError: the weights are not there.
        IntegrityError: they are not those that the recipe describes.
    """
    try:
        recipe = json.loads((folder / RECIPE).read_bytes())
        content = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise UsageError(f"--embedder builtin: {name} is missing; restore it from the repository") from error
    found = file_sha256(folder / WEIGHTS)
    if found != recipe["sha256"]:
        raise IntegrityError(f"{WEIGHTS}: sha256 is {found}, its recipe says {recipe['sha256']}; restore both files")
    net = TimbreNet(len(recipe["programs"]), len(recipe["instruments"]), recipe["dimension"])
    net.load_state_dict(load_safetensors(content))
    facts = {
        "code_version": CODE_VERSION,
        "weights": found,
        "recipe": file_sha256(folder / RECIPE),
        "settings": {"device": "cpu", "precision": "float32"},  # as AST's: also where there is a GPU
    }
    statistics = recipe["logmel"]
    return BuiltinEmbedder(net, statistics["center"], statistics["scale"], facts)
