"""The built-in net in whole numbers: the same bits on every processor, whatever kernels torch chooses there.

    levels_FM = net_input(excerpt_T)               (150, 80), from samples, by `exact.py`
    ExactNet(timbre_net).embed(levels_BFM)         (B, D)

Weights and activations are rounded to whole multiples of powers of two, so that every product, and every sum of them,
is a whole number that float32 (below 2**24) or float64 (below 2**53) holds exactly: then no order of additions and no
fused multiplication rounds, and what is left is arithmetic of single elements. On real recordings embeddings differ
from those of the net in float32 by 1 % of an element's spread (root mean square).
Shapes: B excerpts, T samples, F frames, M mel bands, C channels, D numbers of an embedding.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import rfft
from torch import Tensor, nn
from torch.nn import functional

from tutti.datasets.mel_bank import mel_bank
from tutti.pipelines.embedders.exact import Array, banded, constant, log10, squares_of
from tutti.pipelines.embedders.front_end import CONFIG

RANGE_DB = 70.0  # below an excerpt's power: what is quieter is all the same
CENTER_DB, SCALE_DB = -50.0, 15.0  # of the values that go into the net: about standard
SPATIAL_BITS, POINTWISE_BITS = 10, 9  # of activations; weights get what is left of 24
POOLED_BITS = 20
_DOUBLE_BITS, _SINGLE_BITS = 52, 24


def net_input(excerpt_T: Array) -> Array:
    """Compute mel levels (F, M) against the excerpt's power, floored and centered, as `TimbreNet` takes them."""
    half = CONFIG.n_fft // 2
    frames_FS = np.lib.stride_tricks.sliding_window_view(np.pad(excerpt_T, half), CONFIG.n_fft)
    used_FS = frames_FS[: len(excerpt_T) : CONFIG.hop_length]
    power_FM = _bands()(squares_of(rfft(used_FS * _window(), axis=1)))
    heard_FM = np.maximum(power_FM, np.float32(10 ** (CONFIG.floor_db / 10)))
    total = np.maximum(heard_FM.sum(axis=1).mean(keepdims=True), np.float32(1e-10))
    relative_FM = 10 * log10(heard_FM) - 10 * log10(total)
    levels_FM: Array = (np.maximum(relative_FM, np.float32(-RANGE_DB)) - np.float32(CENTER_DB)) / np.float32(SCALE_DB)
    return levels_FM


@cache
def _window() -> Array:
    window = np.hanning(CONFIG.n_fft + 1)[:-1]
    return constant(window / (window.sum() / 2))  # a sine of amplitude 1 has power 1


@cache
def _bands() -> Callable[[Array], Array]:
    filters_FM = mel_bank(
        n_fft=CONFIG.n_fft,
        sample_rate=CONFIG.sample_rate,
        num_bands=CONFIG.n_mels,
        low_hz=CONFIG.min_frequency_hz,
        high_hz=CONFIG.max_frequency_hz,
    )
    return banded(constant(filters_FM.T))


class ExactNet:
    """A trained net in whole numbers, for embeddings alone.

    Args:
        net: a `TimbreNet` of builtin.py.
    """

    def __init__(self, net: Any) -> None:
        self._stem = _Convolution(net.stem[0], net.stem[1], SPATIAL_BITS)
        self._blocks = [
            (
                _Convolution(block.depthwise, block.norm1, SPATIAL_BITS),
                _Convolution(block.pointwise, block.norm2, POINTWISE_BITS),
                bool(block.is_residual),
            )
            for block in net.blocks
        ]
        weight_DN, self._bias_D = _folded(net.project.weight, net.norm, net.project.bias)
        whole_DN, self._unit_D = _whole(weight_DN, _DOUBLE_BITS - POOLED_BITS)
        self._weight_ND = torch.from_numpy(np.ascontiguousarray(whole_DN.T))

    def embed(self, levels_BFM: Array) -> Array:
        """Compute embeddings (B, D) of `net_input`s."""
        with torch.inference_mode():
            maps_BCFM = torch.relu(self._stem(torch.from_numpy(levels_BFM)[:, None]))
            for depthwise, pointwise, is_residual in self._blocks:
                moved = pointwise(torch.relu(depthwise(maps_BCFM)))
                maps_BCFM = torch.relu(maps_BCFM + moved if is_residual else moved)
        maps = maps_BCFM.numpy()
        mean_BCM = maps.sum(axis=2, dtype=np.float64) / maps.shape[2]
        pooled_BN = np.concatenate([mean_BCM, maps.max(axis=2)], axis=1).reshape(len(maps), -1)
        unit_B1 = _unit(pooled_BN.max(axis=1, keepdims=True), POOLED_BITS)
        # Whole numbers: any BLAS gives these bits. Torch's has as many threads as the caller lets it have.
        product_BD = (torch.from_numpy(np.rint(pooled_BN / unit_B1)) @ self._weight_ND).numpy()
        embedding: Array = (product_BD * unit_B1 * self._unit_D + self._bias_D).astype(np.float32)
        return embedding


class _Convolution:
    """A convolution with the normalization behind it."""

    def __init__(self, convolution: Any, norm: Any, bits: int) -> None:
        weight, bias_C = _folded(convolution.weight, norm)
        whole, unit_C = _whole(weight, _SINGLE_BITS - bits)
        self._bits, self._bias_C11 = bits, torch.from_numpy(bias_C.astype(np.float32))[:, None, None]
        self._weight = torch.from_numpy(whole.astype(np.float32))
        self._unit_C11 = torch.from_numpy(unit_C.astype(np.float32))[:, None, None]
        self._options = {name: getattr(convolution, name) for name in ("stride", "padding", "groups")}

    def __call__(self, maps_BCFM: Tensor) -> Tensor:
        most_B111 = maps_BCFM.abs().amax(dim=(1, 2, 3), keepdim=True).numpy()
        unit_B111 = torch.from_numpy(_unit(most_B111, self._bits))
        whole = functional.conv2d(torch.round(maps_BCFM / unit_B111), self._weight, **self._options)
        return whole * (unit_B111 * self._unit_C11) + self._bias_C11


def _folded(weight: Tensor, norm: nn.Module, bias: Tensor | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Multiply a batch normalization into the weights before it: float64 weights, and biases (C,)."""
    names = ("weight", "bias", "running_mean", "running_var")
    gain, shift, mean, variance = (getattr(norm, name).detach().numpy().astype(np.float64) for name in names)
    scale_C = gain / np.sqrt(variance + norm.eps)
    values = weight.detach().numpy().astype(np.float64)
    before_C = 0.0 if bias is None else bias.detach().numpy().astype(np.float64)
    return values * scale_C.reshape(-1, *[1] * (values.ndim - 1)), (before_C - mean) * scale_C + shift


def _whole(weight: NDArray[Any], bits: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Round weights to whole multiples of a unit per output channel, with magnitudes of a sum of at most 2**bits.

    Returns:
        The whole numbers, and units (C,), powers of two.
    """
    size = weight[0].size
    _, exponent_C = np.frexp(np.abs(weight).reshape(len(weight), -1).sum(axis=1) / (2.0**bits - size))
    unit_C = np.ldexp(1.0, exponent_C)
    return np.rint(weight / unit_C.reshape(-1, *[1] * (weight.ndim - 1))), unit_C


def _unit(most: NDArray[Any], bits: int) -> NDArray[Any]:
    """Choose powers of two of which numbers up to `most` are at most 2**bits."""
    _, exponent = np.frexp(most)
    unit: NDArray[Any] = np.ldexp(np.ones_like(most), exponent - bits)
    return unit
