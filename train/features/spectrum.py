"""Power spectra of short windows, as one matrix product or as an FFT.

Shapes: B clips, T samples, F frames, W samples of a frame, N FFT bins.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutti.train.features.torchaudio_import import torchaudio


def num_frames(num_samples: int, hop_length: int) -> int:
    """Count the frames of a signal: one at every multiple of the hop that lies inside it."""
    return -(-num_samples // hop_length)


def centered_frames(waveform_BT: Tensor, length: int, hop_length: int) -> Tensor:
    """Cut frames (B, F, W), a view; frame f is centered on sample f * hop; zeros beyond both ends."""
    padded_BT = functional.pad(waveform_BT, (length // 2, (length + 1) // 2))
    return padded_BT.unfold(1, length, hop_length)[:, : num_frames(waveform_BT.shape[-1], hop_length)]


def windowed_dft(window_W: Tensor) -> Tensor:
    """Compute a DFT matrix (W, 2 N): cosines, then sines, of the N = W / 2 + 1 bins, under the window; float64."""
    length = len(window_W)
    # The product is reduced modulo the length while it is an integer: cos(2 pi 10^6) loses digits.
    turns_WN = torch.arange(length)[:, None] * torch.arange(length // 2 + 1) % length
    angle_WN = turns_WN.double() * (2 * math.pi / length)
    return torch.cat([angle_WN.cos(), angle_WN.sin()], dim=1) * window_W.double()[:, None]


class PowerSpectrum(nn.Module):
    """Waveforms (B, T) to the squared magnitude of every FFT bin (B, F, N), Hann window.

    Args:
        n_fft: length of window and transform, samples; even.
        hop_length: samples from frame to frame.
        amplitude_of_sine: True: a full-scale sine on a bin has power 1; False: the bare transform,
            as librosa's.
        method: "matrix": frames x windowed DFT basis: one graph of plain products, which compiles
            and captures. "fft": torchaudio's, six times faster on a CPU (0.18 against 1.15 ms for 3 s, 512/256,
            one core). "auto": fft on a CPU, matrix elsewhere. They agree to 1e-6 of the loudest bin.

    Raises:
        ValueError: odd or empty sizes.
    """

    window: Tensor
    basis: Tensor

    def __init__(
        self,
        n_fft: int,
        hop_length: int,
        *,
        amplitude_of_sine: bool = False,
        method: Literal["auto", "matrix", "fft"] = "auto",
    ) -> None:
        super().__init__()
        if n_fft < 2 or n_fft % 2 or hop_length < 1:
            raise ValueError(f"expected an even n_fft and hop_length >= 1, got {n_fft} and {hop_length}")
        self.n_fft, self.hop_length, self.method = n_fft, hop_length, method
        window_W = torch.hann_window(n_fft, dtype=torch.float64)
        if amplitude_of_sine:
            # A sine of amplitude 1 on a bin has magnitude sum(window) / 2 there.
            window_W = window_W / (window_W.sum() / 2)
        basis = windowed_dft(window_W) if method != "fft" else torch.empty(0)
        self.register_buffer("window", window_W.float(), persistent=False)
        self.register_buffer("basis", basis.float(), persistent=False)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Convert float waveforms (B, T), T >= 1, to power (B, F, N); float32 under autocast too."""
        on_cpu = waveform_BT.device.type == "cpu"
        # bf16 has 8 bits: 80 dB below the loudest bin only its rounding would be left.
        with torch.autocast(waveform_BT.device.type, enabled=False):
            if self.method == "fft" or (self.method == "auto" and on_cpu):
                return self._by_fft(waveform_BT.float())
            frames_BFW = centered_frames(waveform_BT.float(), self.n_fft, self.hop_length)
            real_BFN, imaginary_BFN = (frames_BFW @ self.basis).chunk(2, dim=-1)
            return real_BFN.square() + imaginary_BFN.square()

    def _by_fft(self, waveform_BT: Tensor) -> Tensor:
        spectrum_BNF: Tensor = torchaudio().functional.spectrogram(
            waveform_BT,
            pad=0,
            window=self.window,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.n_fft,
            power=None,  # its powers take a root and square it again: three quarters more time
            normalized=False,
            pad_mode="constant",
        )[..., : num_frames(waveform_BT.shape[-1], self.hop_length)]
        return (spectrum_BNF.real.square() + spectrum_BNF.imag.square()).transpose(1, 2)
