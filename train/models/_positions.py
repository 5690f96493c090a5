"""The grid of positions of an AST, for inputs of any length. B bands, T steps, P patches, D features."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

POSITIONS = "embeddings.position_embeddings"  # the name of the weights


def grid_of(config: Any, num_frames: int) -> tuple[int, int]:
    """Count the patches of an input: bands, and steps in time."""
    bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    return bands, (num_frames - config.patch_size) // config.time_stride + 1


def resize_positions(whole_1PD: Tensor, *, bands: int, patches: int) -> Tensor:
    """Resize position embeddings to another number of patches in time: bilinear, the two special tokens as they are.

    Args:
        whole_1PD: (1, 2 + bands * old patches, D): special tokens, then the grid, band by band.
        bands: rows of the grid, 12.
        patches: new columns of the grid.

    Returns:
        (1, 2 + bands * patches, D).
    """
    special_12D, grid_1PD = whole_1PD[:, :2], whole_1PD[:, 2:]
    grid_1DBT = grid_1PD.transpose(1, 2).reshape(1, whole_1PD.shape[2], bands, -1)
    resized_1DBT = functional.interpolate(
        grid_1DBT.float(), size=(bands, patches), mode="bilinear", align_corners=False
    )
    return torch.cat((special_12D, resized_1DBT.flatten(2).transpose(1, 2)), dim=1)
