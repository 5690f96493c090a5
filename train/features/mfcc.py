"""Mel-frequency cepstral coefficients. Shapes: B clips, T samples, F frames, M mel bands, K coefficients."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from tutti.train.features.logmel import LUMEN_DB, LogMel, LogMelConfig
from tutti.train.features.torchaudio_import import torchaudio


@dataclass(frozen=True)
class MfccConfig:
    """Log-mel and how much of its cosine transform is kept."""

    # librosa's defaults but for the sample rate: 128 bands, 2048 / 512
    logmel: LogMelConfig = field(default_factory=lambda: replace(LUMEN_DB, n_fft=2048, hop_length=512, top_db=80.0))
    num_coefficients: int = 10  # Lumen 2023, "Analysis of classical features"

    def __post_init__(self) -> None:
        if not 1 <= self.num_coefficients <= self.logmel.n_mels:
            raise ValueError(f"num_coefficients must lie in [1, n_mels={self.logmel.n_mels}]: {self.num_coefficients}")
        if self.logmel.scale != "db":
            raise ValueError("cepstral coefficients are of decibels; set the log-mel's scale to db")


def cosine_transform(num_bands: int, num_coefficients: int) -> Tensor:
    """Make an orthonormal DCT-II (M, K); coefficient 0 is sqrt(M) times the mean."""
    matrix_MK: Tensor = torchaudio().functional.create_dct(num_coefficients, num_bands, norm="ortho")
    return matrix_MK


class Mfcc(nn.Module):
    """Waveforms (B, T) to coefficients (B, F, K) of the decibels per mel band."""

    transform: Tensor

    def __init__(self, config: MfccConfig | None = None) -> None:
        super().__init__()
        self.config = config or MfccConfig()
        self.logmel = LogMel(self.config.logmel)
        transform = cosine_transform(self.config.logmel.n_mels, self.config.num_coefficients)
        self.register_buffer("transform", transform, persistent=False)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Compute coefficients (B, F, K), K from the coarsest on."""
        with torch.autocast(waveform_BT.device.type, enabled=False):
            coefficients_BFK: Tensor = self.logmel(waveform_BT) @ self.transform
        return coefficients_BFK
