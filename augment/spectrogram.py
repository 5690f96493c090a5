"""Shared parts of transforms of spectrograms. Shapes: B examples, F frames, M mel bands."""

import torch
from torch import Tensor


def filled(logmel_BFM: Tensor, masked: Tensor, fill: float | None) -> Tensor:
    """Replace what is masked by a number, or by each example's own minimum."""
    value = logmel_BFM.amin(dim=(1, 2), keepdim=True) if fill is None else torch.full_like(logmel_BFM[:, :1, :1], fill)
    return torch.where(masked, value, logmel_BFM)
