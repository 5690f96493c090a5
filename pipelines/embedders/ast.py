"""Embeddings of the Audio Spectrogram Transformer (Gong et al. 2021), trained on AudioSet.

    embedder = load("MIT/ast-finetuned-audioset-10-10-0.4593")  # or a folder, or name@revision
    embedder.embed([waveform, ...])  # float32 (N, 768)

The embedding is transformers' `pooler_output`: the mean of the two special tokens after the last layer. Row i
depends on waveform i only, to the last bit: the model always runs on slices of one size (`SLICE_CLIPS`). Other
processors, and GPUs, give other last bits: torch chooses its kernels by them. The facts name the device.

On CPU the bits do not depend on the number of threads either (measured with 1, 2, 4). In worker processes call
`torch.set_num_threads(1)`: one model per process with one thread each beats threads that fight for the cores.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import digest_of, file_sha256
from tutti.pipelines import embedders
from tutti.pipelines.embedders.ast_files import DEFAULT_MODEL, load_weights, read_front_end, wanted, weights_sha256
from tutti.pipelines.embedders.slices import Inputs, Slices
from tutti.train.features.fbank import (
    FRAME_SAMPLES,
    HOP_SAMPLES,
    SAMPLE_RATE,
    FbankConfig,
    check_waveform,
    features,
    num_frames,
)
from tutti.train.models._positions import POSITIONS, grid_of, resize_positions
from tutti.train.pretrained import weights_folder

CODE_VERSION = 1  # names the vectors in manifests: raise it when they become others. The cache sees that by itself

# Frames from which on a clip gets the whole position grid: AST was trained on clips of 10 s, padded to 10.24 s.
TRAINED_FRAMES = num_frames(10 * SAMPLE_RATE)
# Clips that go through the model at once, always. On CPU larger slices are no faster (measured), on a GPU they
# are; the last slice is filled up with silence, because another size would choose other kernels.
SLICE_CLIPS = {"cpu": 1, "cuda": 16}

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class AstSettings:
    """Settings by the caller; all of them are in the digest."""

    resize_positions: bool  # short clips through a resized position grid instead of 10.24 s of padding
    precision: Literal["float32", "bfloat16"]  # of matrix products; sums and normalizations stay float32
    device: str  # "cpu" or "cuda": their last bits differ


class AstEmbedder:
    """A loaded model; `load` makes one. Holds weights, so workers load their own.

    Attributes:
        name: "ast".
        dimension: numbers per embedding, 768.
        slice_size: clips through the model at once.
        count: of clips that went through it.
        digest: sha256 over configuration, weights, front end and settings: equal digests, equal embeddings.
        facts: the same in words, for the manifest; nothing of this machine, so no folder.
    """

    name = "ast"

    def __init__(
        self,
        model: torch.nn.Module,
        front_end: FbankConfig,
        settings: AstSettings,
        *,
        facts: Mapping[str, Any],
        label: str,
    ) -> None:
        self._model, self._front_end, self._settings = model, front_end, settings
        self._device = torch.device(settings.device)
        self._positions: dict[int, torch.Tensor] = {}  # patches in time -> resized grid
        self._label = label  # what the user called the model
        self.count = Slices()
        self.facts = dict(facts)
        self.digest = digest_of(self.facts)
        self.dimension = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def embed(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed clips; of a clip longer than 10.24 s only the beginning counts.

        Args:
            waveforms: mono float32 (num_samples,) at 16 kHz in [-1, 1], at least 25 ms each.

        Returns:
            float32 (N, dimension).

        Raises:
            ValueError: a waveform is not such an array.
            IntegrityError: the weights give numbers that are not finite.
        """
        return embedders.embed(self, waveforms)

    @property
    def slice_size(self) -> int:
        """Clips through the model at once."""
        return SLICE_CLIPS[self._device.type]

    def prepare(self, waveform: NDArray[np.float32], label: str = "waveform") -> Inputs:
        """Cut what the model takes; clips whose inputs have as many frames are of one kind.

        Raises:
            ValueError: the waveform is not such an array.
        """
        check_waveform(waveform, label)
        frames = self._input_frames(len(waveform))
        used = FRAME_SAMPLES + (frames - 1) * HOP_SAMPLES
        return Inputs(rows=[waveform[:used].copy()], kind=frames)  # a copy: the whole waveform can go

    def _input_frames(self, num_samples: int) -> int:
        """Choose the frames of a clip's input: whole patches of its own, or the length of training."""
        config: Any = self._model.config
        frames = num_frames(num_samples)
        if not self._settings.resize_positions or frames >= min(TRAINED_FRAMES, self._front_end.max_frames):
            return self._front_end.max_frames
        # Rounded down, as the model itself does: what does not fill a patch is not heard (at most 90 ms).
        steps = max(0, frames - config.patch_size) // config.time_stride
        return int(config.patch_size + steps * config.time_stride)

    def run(self, kind: int, rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Send clips whose inputs have `kind` frames through the model: (len(rows), dimension).

        Raises:
            IntegrityError: the weights give numbers that are not finite.
        """
        filled = rows + [np.zeros(FRAME_SAMPLES, np.float32)] * (self.slice_size - len(rows))
        with torch.inference_mode(), _reproducible(self._device), self._autocast():
            inputs_NTM = features(filled, self._front_end, frames=kind, device=self._device)
            outputs: Any = functional_call(self._model, self._resized(kind), (inputs_NTM,))
            embeddings_ND = outputs.pooler_output[: len(rows)].float().cpu().numpy()
        if not np.isfinite(embeddings_ND).all():
            raise IntegrityError(
                f"{self._label}: its embeddings are not finite: the weights are damaged, fetch them again"
            )
        return embeddings_ND  # type: ignore[no-any-return]

    def vector(self, inputs: Inputs, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the one row of a clip."""
        embedding_D: NDArray[np.float32] = outputs[0]
        return embedding_D

    def _autocast(self) -> torch.autocast:
        enabled = self._settings.precision == "bfloat16"
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=enabled)

    def _resized(self, frames: int) -> dict[str, torch.Tensor]:
        """Resize the parameters that differ for an input of so many frames."""
        if frames == self._front_end.max_frames:
            return {}
        bands, patches = grid_of(self._model.config, frames)
        if patches not in self._positions:
            whole = self._model.get_parameter(POSITIONS)
            self._positions[patches] = resize_positions(whole, bands=bands, patches=patches)
        return {POSITIONS: self._positions[patches]}


def load(
    model: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    resize_positions: bool = False,
    precision: Precision = "auto",
    local_only: bool | None = None,
) -> AstEmbedder:
    """Load AST from the Hugging Face hub or a local folder.

    Args:
        model: a hub name, `name@revision` (branch, tag or commit), or a folder with config.json, model.safetensors
            and, unless its values are AudioSet's, preprocessor_config.json.
        device: "cpu", "cuda", or "auto": a GPU if there is one.
        resize_positions: clips shorter than 10 s through a position grid of their own length: 4 times as fast for
            clips of 3 s (measured), but not what the model was trained on.
        precision: of matrix products; "auto": bfloat16 on a GPU, float32 on CPU.
        local_only: never ask the hub, only its cache; None: as TUTTI_OFFLINE and HF_HUB_OFFLINE say.

    Raises:
        UsageError: the model is not to be had, is no AST, or the device is missing; says what to do.
        IntegrityError: a file is damaged, or the weights do not fit the configuration.
        TryLaterError: the hub fails.
    """
    chosen = _device(device)
    precise = precision if precision != "auto" else ("float32" if chosen == "cpu" else "bfloat16")
    settings = AstSettings(resize_positions, precise, chosen)
    folder = weights_folder(wanted(model), offline=local_only)
    front_end = read_front_end(folder)
    facts = {
        "config_sha256": file_sha256(folder / "config.json"),
        "weights_sha256": weights_sha256(folder / "model.safetensors"),
        "front_end": asdict(front_end),
        "settings": asdict(settings),
        "code_version": CODE_VERSION,
    }
    return AstEmbedder(load_weights(folder).to(chosen), front_end, settings, facts=facts, label=model)


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in SLICE_CLIPS:
        raise UsageError(f"device {device!r}: expected auto, {', '.join(SLICE_CLIPS)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda': torch sees no GPU; use auto or cpu, or install a CUDA build of torch")
    return device


@contextlib.contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Forbid the choice of kernels by stopwatch, and TF32, while the block runs on a GPU."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
