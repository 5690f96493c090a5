"""The front end of AST: Kaldi log-mel filter banks of many clips at once, in torch, on CPU or GPU.

    features([waveform, ...], FbankConfig(), frames=1024, device=device)      clips of any length, normalized
    KaldiFbank(KALDI)(waveform_BT)                                            a module in the place of LogMel

    waveform -> frames of 25 ms every 10 ms -> minus their mean -> pre-emphasis -> Hann window
    -> power spectrum -> mel triangles -> log -> zeros up to the model's length -> normalization

The same numbers as transformers' `ASTFeatureExtractor`, which does one clip after the other, and in
whose two branches (torchaudio, numpy) the model's authors' `torchaudio.compliance.kaldi.fbank` lives on.

Shapes: N clips, S samples, T frames, W samples of a frame, F frequencies, M mel bands; in the module B clips,
T samples, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from tutti.datasets.mel_bank import mel_bank
from tutti.train.features.logmel import LogMelConfig
from tutti.train.features.standardization import Standardization

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
    # Always as many frames as asked for: cut to the longest clip of the batch, another clip's length would choose
    # the kernels of the matrix product and with them the last bits.
    batch_NS = np.zeros((len(waveforms), FRAME_SAMPLES + (frames - 1) * HOP_SAMPLES), np.float32)
    for row_S, waveform in zip(batch_NS, waveforms, strict=True):
        heard = waveform[: len(row_S)]
        row_S[: len(heard)] = heard
    result_NTM = log_mel(torch.from_numpy(batch_NS).to(device), config.num_mels)
    for row_TM, waveform in zip(result_NTM, waveforms, strict=True):
        row_TM[num_frames(len(waveform)) :] = 0  # frames that reach into our padding
    return (result_NTM - config.mean) / (2 * config.std) if config.normalize else result_NTM


def log_mel(batch_NS: torch.Tensor, num_mels: int) -> torch.Tensor:
    """Compute the natural logarithm of the mel energies of each frame: float32 (N, S) -> (N, T, num_mels)."""
    filters_FM = torch.from_numpy(mel_filters(num_mels))
    return _log_mel(batch_NS, hann_window().to(batch_NS.device), filters_FM.to(batch_NS.device))


def hann_window() -> torch.Tensor:
    """Compute the window of a frame (W,): Hann, symmetric."""
    return torch.hann_window(FRAME_SAMPLES, periodic=False, dtype=torch.float64).float()


def _log_mel(batch_NS: torch.Tensor, window_W: torch.Tensor, filters_FM: torch.Tensor) -> torch.Tensor:
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
        self.register_buffer("filters", torch.from_numpy(mel_filters(config.n_mels)), persistent=False)

    def forward(self, waveform_BT: torch.Tensor) -> torch.Tensor:
        """Compute natural logarithms (B, F, M), F = config.num_frames(T); a clip below one frame ends in silence."""
        with torch.autocast(waveform_BT.device.type, enabled=False):
            missing = max(0, FRAME_SAMPLES - waveform_BT.shape[1])
            return _log_mel(functional.pad(waveform_BT.float(), (0, missing)), self.window, self.filters)


@lru_cache(maxsize=4)
def mel_filters(num_mels: int) -> NDArray[np.float32]:
    """Compute Kaldi's triangles, straight on the mel scale: float32 (FFT_SAMPLES // 2 + 1, num_mels)."""
    filters_FM = mel_bank(
        n_fft=FFT_SAMPLES, sample_rate=SAMPLE_RATE, num_bands=num_mels, low_hz=LOW_HZ, high_hz=HIGH_HZ, scale="kaldi"
    )
    return filters_FM.astype(np.float32)


def check(waveforms: Sequence[NDArray[np.float32]]) -> None:
    """Refuse what is not mono float samples of at least one frame; the message names the waveform.

    Raises:
        ValueError: a waveform is not.
    """
    for index, waveform in enumerate(waveforms):
        if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
            raise ValueError(
                f"waveform {index}: expected mono float samples (num_samples,) in [-1, 1], "
                f"got {waveform.dtype} {waveform.shape}; mix the channels, divide integers by their full scale"
            )
        if len(waveform) < FRAME_SAMPLES:
            raise ValueError(
                f"waveform {index}: {len(waveform)} samples are less than a frame of {FRAME_SAMPLES} "
                "(25 ms at 16 kHz); leave such clips out"
            )
        if not np.isfinite(waveform).all():
            raise ValueError(f"waveform {index}: holds a sample that is not a finite number; decode it again")
