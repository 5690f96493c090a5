"""The front end of AST: Kaldi log-mel filter banks of clips, on CPU or GPU.

    features([waveform, ...], FbankConfig(), frames=1024, device=device)      clips of any length, normalized
    KaldiFbank(KALDI)(waveform_BT)                                            a module in the place of LogMel

    waveform -> frames of 25 ms every 10 ms -> minus their mean -> pre-emphasis -> Hann window
    -> power spectrum -> mel triangles -> log -> zeros up to the model's length -> normalization

On a CPU it is `torchaudio.compliance.kaldi.fbank`, clip by clip, as the model's authors used it; a batch would take .9
of its time where memory is at hand, twice it where it must be asked for. On a GPU some forty kernels a clip would be
slow: there the same steps are done for a batch, with its filters. Both give the numbers of transformers'
`ASTFeatureExtractor`.

Shapes: N clips, S samples, T frames, W samples of a frame, F frequencies, M mel bands; in the module B clips,
T samples, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from tutti.train.features.logmel import LogMelConfig
from tutti.train.features.standardization import Standardization
from tutti.train.features.torchaudio_import import torchaudio

SAMPLE_RATE = 16_000  # Hz, what AST was trained on
FRAME_SAMPLES = 400  # 25 ms, Kaldi's default
HOP_SAMPLES = 160  # 10 ms, Kaldi's default
FFT_SAMPLES = 512  # Kaldi pads a frame to the next power of two
PREEMPHASIS = 0.97  # Kaldi's default
LOW_HZ, HIGH_HZ = 20.0, SAMPLE_RATE / 2  # Kaldi's defaults: from 20 Hz to Nyquist
AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974  # of AudioSet's log-mel values; AST's preprocessor_config.json
FLOOR = 1.1920928955078125e-07  # float32 epsilon, Kaldi's floor of a mel energy before the logarithm


@dataclass(frozen=True)
class FbankConfig:
    """Settings that differ between AST checkpoints; the defaults are those of the AudioSet one."""

    num_mels: int = 128
    max_frames: int = 1024  # 10.24 s
    normalize: bool = True
    mean: float = AUDIOSET_MEAN
    std: float = AUDIOSET_STD


def num_frames(num_samples: int) -> int:
    """Count the frames that lie wholly within a waveform."""
    return max(0, 1 + (num_samples - FRAME_SAMPLES) // HOP_SAMPLES)


def features(
    waveforms: Sequence[NDArray[np.float32]], config: FbankConfig, *, frames: int, device: torch.device
) -> torch.Tensor:
    """Compute normalized log-mel values of clips, all of one length.

    Args:
        waveforms: mono float32 (num_samples,) at 16 kHz in [-1, 1], at least one frame (25 ms) each.
        config: of the model's preprocessor.
        frames: length of the result; a longer clip is cut, a shorter one gets zeros before the normalization.
        device: where to compute.

    Returns:
        float32 (N, frames, num_mels) on the device; row i depends on waveform i only.

    Raises:
        ValueError: a waveform is not such an array, or is shorter than a frame.
    """
    check(waveforms)
    num_samples = FRAME_SAMPLES + (frames - 1) * HOP_SAMPLES
    heard = [torch.from_numpy(np.ascontiguousarray(waveform[:num_samples], np.float32)) for waveform in waveforms]
    result_NTM = torch.zeros((len(heard), frames, config.num_mels), device=device)
    if device.type == "cpu":
        for row_TM, clip_S in zip(result_NTM, heard, strict=True):
            row_TM[: num_frames(len(clip_S))] = log_mel(clip_S[None], config.num_mels)[0]
    elif heard:
        # Always as many frames as asked for: cut to the longest clip of the batch, another clip's length would choose
        # the kernels of the matrix product and with them the last bits.
        batch_NS = torch.stack([functional.pad(clip_S, (0, num_samples - len(clip_S))) for clip_S in heard])
        batch_NTM = log_mel(batch_NS.to(device), config.num_mels)
        for row_TM, batch_TM, clip_S in zip(result_NTM, batch_NTM, heard, strict=True):
            count = num_frames(len(clip_S))  # the others reach into our padding
            row_TM[:count] = batch_TM[:count]
    return (result_NTM - config.mean) / (2 * config.std) if config.normalize else result_NTM


def log_mel(batch_NS: torch.Tensor, num_mels: int) -> torch.Tensor:
    """Compute the natural logarithm of the mel energies of each frame: float32 (N, S) -> (N, T, num_mels)."""
    if batch_NS.device.type == "cpu":
        return _by_clip(batch_NS, num_mels)
    return _by_batch(batch_NS, hann_window().to(batch_NS.device), mel_filters(num_mels).to(batch_NS.device))


def _by_clip(batch_NS: torch.Tensor, num_mels: int) -> torch.Tensor:
    fbank = kaldi().fbank
    return torch.stack(
        [
            fbank(clip_1S, num_mel_bins=num_mels, sample_frequency=float(SAMPLE_RATE), window_type="hanning")
            for clip_1S in torch.split(batch_NS, 1)
        ]
    )


def kaldi() -> Any:
    """Import torchaudio's port of Kaldi."""
    torchaudio()
    return import_module("torchaudio.compliance.kaldi")


def hann_window() -> torch.Tensor:
    """Compute the window of a frame (W,): Hann, symmetric."""
    return torch.hann_window(FRAME_SAMPLES, periodic=False)


def _by_batch(batch_NS: torch.Tensor, window_W: torch.Tensor, filters_FM: torch.Tensor) -> torch.Tensor:
    frames_NTW = batch_NS.unfold(1, FRAME_SAMPLES, HOP_SAMPLES)
    frames_NTW = frames_NTW - frames_NTW.mean(dim=2, keepdim=True)
    before_NTW = torch.cat((frames_NTW[..., :1], frames_NTW[..., :-1]), dim=2)  # the first sample stands for its own
    windowed_NTW = (frames_NTW - PREEMPHASIS * before_NTW) * window_W
    spectrum_NTF = torch.fft.rfft(windowed_NTW, n=FFT_SAMPLES)
    power_NTF = torch.view_as_real(spectrum_NTF).square().sum(dim=-1)
    return torch.matmul(power_NTF, filters_FM).clamp(min=FLOOR).log()


# What AST was trained on: the same two numbers for all bands.
AUDIOSET_STATISTICS = Standardization(mean=(AUDIOSET_MEAN,) * 128, std=(2 * AUDIOSET_STD,) * 128)


class KaldiFbank(nn.Module):
    """Waveforms (B, T) to filter banks (B, F, M), not normalized: what `features` gives, without its padding.

    Window and filters are buffers: they move with the module and are no weights.

    Args:
        config: a LogMelConfig of kind "kaldi".
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", hann_window(), persistent=False)
        self.register_buffer("filters", mel_filters(config.n_mels), persistent=False)

    def forward(self, waveform_BT: torch.Tensor) -> torch.Tensor:
        """Compute natural logarithms (B, F, M), F = config.num_frames(T); a clip below one frame ends in silence."""
        with torch.autocast(waveform_BT.device.type, enabled=False):
            missing = max(0, FRAME_SAMPLES - waveform_BT.shape[1])
            padded_BT = functional.pad(waveform_BT.float(), (0, missing))
            if padded_BT.device.type == "cpu":
                return _by_clip(padded_BT, self.config.n_mels)
            return _by_batch(padded_BT, self.window, self.filters)


def mel_filters(num_mels: int) -> torch.Tensor:
    """Make Kaldi's triangles, straight on the mel scale: float32 (FFT_SAMPLES // 2 + 1, num_mels)."""
    filters_MF, _ = kaldi().get_mel_banks(
        num_mels,
        FFT_SAMPLES,
        float(SAMPLE_RATE),
        LOW_HZ,
        HIGH_HZ,
        vtln_low=100.0,
        vtln_high=-500.0,
        vtln_warp_factor=1.0,
    )
    return functional.pad(filters_MF, (0, 1)).T.contiguous()  # a column for Nyquist, where the highest band ends


def check(waveforms: Sequence[NDArray[np.float32]]) -> None:
    """Refuse what is not mono float samples of at least one frame; the message names the waveform.

    Raises:
        ValueError: a waveform is not.
    """
    for index, waveform in enumerate(waveforms):
        check_waveform(waveform, f"waveform {index}")


def check_waveform(waveform: NDArray[np.float32], label: str) -> None:
    """Refuse what is not mono float samples of at least one frame; the message begins with the label.

    Raises:
        ValueError: it is not.
    """
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            f"{label}: expected mono float samples (num_samples,) in [-1, 1], "
            f"got {waveform.dtype} {waveform.shape}; mix the channels, divide integers by their full scale"
        )
    if len(waveform) < FRAME_SAMPLES:
        raise ValueError(
            f"{label}: {len(waveform)} samples are less than a frame of {FRAME_SAMPLES} "
            "(25 ms at 16 kHz); leave such clips out"
        )
    if not np.isfinite(waveform).all():
        raise ValueError(f"{label}: holds a sample that is not a finite number; decode it again")
