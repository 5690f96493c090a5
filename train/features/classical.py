"""The 28 classical features of a clip (Lumen 2023): input of its support vector machines.

The paper names groups ("28 features", "various types of entropies"); this list is its code's. Where
that takes one spectrum of the whole clip, here the spectral ones are means over frames, so that a
clip's length does not change what they mean.

Shapes: B clips, T samples, F frames, N FFT bins, Q features.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tutti.train.features.mfcc import Mfcc, MfccConfig
from tutti.train.features.spectrum import PowerSpectrum, centered_frames

_NUM_MFCC, _NUM_CONTRAST = 10, 7

CLASSICAL_FEATURES: tuple[str, ...] = (
    *(f"mfcc_{index}" for index in range(_NUM_MFCC)),
    "zero_crossing_rate",  # crossings per sample, in [0, 1]
    "rms",  # of full scale
    "rolloff_hz",
    "centroid_hz",
    "bandwidth_hz",
    *(f"contrast_{index}_db" for index in range(_NUM_CONTRAST)),  # below 200 Hz, then six octaves
    "flatness",  # geometric by arithmetic mean of power, in [0, 1]
    "permutation_entropy",  # of the order of three neighboring samples, in [0, 1]
    "spectral_entropy",  # of the clip's mean power spectrum, in [0, 1]
    "svd_entropy",  # of three lagged copies' singular values, in [0, 1]
    "hjorth_mobility",  # Hjorth 1970
    "hjorth_complexity",
)

_TINY = 1e-10  # librosa's amin: a silent frame has power 0


@dataclass(frozen=True)
class ClassicalConfig:
    """Frames and thresholds; librosa's defaults but for the sample rate."""

    sample_rate: int = 16_000  # Hz
    n_fft: int = 2048
    hop_length: int = 512
    rolloff: float = 0.85  # share of the magnitude below the roll-off frequency
    contrast_min_hz: float = 200.0  # upper edge of the lowest band; each next one is an octave
    contrast_quantile: float = 0.02  # share of a band's bins that makes its peak and its valley
    mfcc: MfccConfig = field(default_factory=MfccConfig)

    def __post_init__(self) -> None:
        if self.mfcc.num_coefficients != _NUM_MFCC or self.mfcc.logmel.sample_rate != self.sample_rate:
            raise ValueError(f"needs {_NUM_MFCC} cepstral coefficients at {self.sample_rate} Hz, got {self.mfcc}")
        if not (0 < self.rolloff < 1 and 0 < self.contrast_quantile <= 0.5 and self.contrast_min_hz > 0):
            raise ValueError(f"rolloff, contrast_quantile or contrast_min_hz out of range: {self}")
        if self.contrast_min_hz * 2 ** (_NUM_CONTRAST - 2) >= self.sample_rate / 2:
            raise ValueError(
                f"the highest contrast band begins above {self.sample_rate / 2:g} Hz, half the sample rate"
            )


class ClassicalFeatures(nn.Module):
    """Waveforms (B, T), T >= 4, to features (B, 28), in the order and units of `CLASSICAL_FEATURES`.

    Finite for silence, too: a ratio of nothing to nothing is 0.
    """

    frequencies: Tensor

    def __init__(self, config: ClassicalConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ClassicalConfig()
        self.mfcc = Mfcc(config.mfcc)
        self.spectrum = PowerSpectrum(config.n_fft, config.hop_length, method="fft")
        bins_hz = torch.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1, dtype=torch.float64)
        self.register_buffer("frequencies", bins_hz.float(), persistent=False)
        edges_hz = [0.0, *(config.contrast_min_hz * 2**octave for octave in range(_NUM_CONTRAST - 1))]
        edges = torch.searchsorted(bins_hz, torch.tensor(edges_hz, dtype=torch.float64)).tolist()
        self.bands = list(zip(edges, [*edges[1:], len(bins_hz)], strict=True))

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Compute features (B, 28), float32."""
        config = self.config
        waveform_BT = waveform_BT.float()
        power_BFN = self.spectrum(waveform_BT)
        magnitude_BFN = power_BFN.sqrt()
        shapes = spectral_shape(magnitude_BFN, self.frequencies, config.rolloff).mean(dim=2)
        contrast_B7 = torch.stack(
            [contrast_db(magnitude_BFN[..., a:b], config.contrast_quantile).mean(dim=1) for a, b in self.bands], dim=1
        )
        frames_BFW = centered_frames(waveform_BT, config.n_fft, config.hop_length)
        flatness_B = flatness(power_BFN).mean(dim=1)
        rms_B = frames_BFW.square().mean(dim=2).sqrt().mean(dim=1)
        columns = [
            self.mfcc(waveform_BT).mean(dim=1),
            torch.stack([zero_crossing_rate(waveform_BT), rms_B, *shapes], dim=1),
            contrast_B7,
            torch.stack(
                [
                    flatness_B,
                    permutation_entropy(waveform_BT),
                    entropy(power_BFN.mean(dim=1)),
                    svd_entropy(waveform_BT),
                    *hjorth(waveform_BT),
                ],
                dim=1,
            ),
        ]
        return torch.cat(columns, dim=1)


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    return torch.where(bottom > 0, top / torch.where(bottom > 0, bottom, 1.0), 0.0)


def spectral_shape(magnitude_BFN: Tensor, frequencies_N: Tensor, rolloff: float) -> Tensor:
    """Compute roll-off, centroid and bandwidth (3, B, F) in Hz; 0 for a silent frame."""
    total_BF = magnitude_BFN.sum(dim=2)
    share_BFN = _ratio(magnitude_BFN, total_BF.unsqueeze(2))
    reached_BFN = magnitude_BFN.cumsum(dim=2) >= rolloff * total_BF.unsqueeze(2)
    rolloff_BF = frequencies_N[reached_BFN.int().argmax(dim=2)]
    centroid_BF = share_BFN @ frequencies_N
    spread_BFN = (frequencies_N - centroid_BF.unsqueeze(2)).square()
    return torch.stack([rolloff_BF, centroid_BF, (share_BFN * spread_BFN).sum(dim=2).sqrt()])


def contrast_db(magnitude_BFN: Tensor, quantile: float) -> Tensor:
    """Compute peak over valley of one band (B, F), dB of magnitude: means of its loudest and faintest bins.

    Jiang et al. 2002.
    """
    count = max(1, round(quantile * magnitude_BFN.shape[2]))
    ordered_BFN = magnitude_BFN.sort(dim=2).values
    valley_BF = ordered_BFN[..., :count].mean(dim=2).clamp(min=_TINY)
    peak_BF = ordered_BFN[..., -count:].mean(dim=2).clamp(min=_TINY)
    return 10 * torch.log10(peak_BF / valley_BF)


def flatness(power_BFN: Tensor) -> Tensor:
    """Divide the geometric by the arithmetic mean of the bins (B, F): 1 for a flat spectrum, also for silence."""
    floored_BFN = power_BFN.clamp(min=_TINY)
    flatness_BF: Tensor = floored_BFN.log().mean(dim=2).exp() / floored_BFN.mean(dim=2)
    return flatness_BF


def zero_crossing_rate(waveform_BT: Tensor) -> Tensor:
    """Compute the share of samples (B,) whose sign differs from the one before; 0 counts as positive."""
    negative_BT = waveform_BT < 0
    return (negative_BT[:, 1:] != negative_BT[:, :-1]).float().mean(dim=1)


def entropy(weights_BN: Tensor) -> Tensor:
    """Compute the Shannon entropy (B,) of weights, as a share of the greatest that N allow; 0 where all are 0."""
    share_BN = _ratio(weights_BN, weights_BN.sum(dim=1, keepdim=True))
    nats_B: Tensor = -torch.special.xlogy(share_BN, share_BN).sum(dim=1)
    return nats_B / math.log(weights_BN.shape[1])


def permutation_entropy(waveform_BT: Tensor) -> Tensor:
    """Compute the entropy (B,) of the order of three neighboring samples, one of 3! (Bandt, Pompe 2002).

    Of equal samples the earlier one comes first.
    """
    first, second, third = waveform_BT[:, :-2], waveform_BT[:, 1:-1], waveform_BT[:, 2:]
    code_BT = 4 * (first <= second).int() + 2 * (second <= third).int() + (first <= third).int()
    # a <= b <= c < a and a > b > c >= a cannot be: of eight codes six occur.
    counts_B6 = torch.stack([(code_BT == code).sum(dim=1) for code in (0, 2, 3, 4, 5, 7)], dim=1)
    return entropy(counts_B6.float())


def svd_entropy(waveform_BT: Tensor) -> Tensor:
    """Compute the entropy (B,) of the singular values of the signal beside itself one and two samples later."""
    lags_B3T = torch.stack([waveform_BT[:, :-2], waveform_BT[:, 1:-1], waveform_BT[:, 2:]], dim=1).double()
    values_B3 = torch.linalg.eigvalsh(lags_B3T @ lags_B3T.transpose(1, 2)).clamp(min=0).sqrt()
    return entropy(values_B3).float()


def hjorth(waveform_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mobility and complexity (B,) each: mean frequency in radians per sample, and how it spreads."""
    slope_BT = waveform_BT.diff(dim=1)
    variances = [signal.var(dim=1, correction=0) for signal in (waveform_BT, slope_BT, slope_BT.diff(dim=1))]
    mobility_B = _ratio(variances[1], variances[0]).sqrt()
    return mobility_B, _ratio(_ratio(variances[2], variances[1]).sqrt(), mobility_B)
