"""Resident or streamed: what fits in memory is read once, what does not is read epoch by epoch.

Both tiers hand out the same windows in the same order (train/clips.py), so the choice may differ from
machine to machine.
"""

from pathlib import Path
from typing import Literal, TypeAlias

import psutil
import torch

Tier: TypeAlias = Literal["resident", "streaming"]

# Of the memory that is free when a split is opened. The rest is for weights, activations and the next split.
RESIDENT_SHARE = 0.5

_CGROUP = Path("/sys/fs/cgroup")  # version 2: a container's own limit, which psutil does not see


def choose_tier(wanted: Literal["auto", Tier], num_bytes: int, free_bytes: int) -> Tier:
    """Choose the tier of a split of so many bytes; `auto`: resident where a share of the free memory holds it."""
    if wanted != "auto":
        return wanted
    return "resident" if num_bytes <= RESIDENT_SHARE * free_bytes else "streaming"


def free_bytes(device: torch.device) -> int:
    """Measure the free memory of a GPU, or of this machine for everything else."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    limit = _container_limit(_CGROUP)
    return free if limit is None else min(free, limit)


def _container_limit(folder: Path) -> int | None:
    """Read how many bytes a container may still take; None: no limit is known."""
    try:
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no version 2, or "max"
        return None
    return max(0, limit - used)
