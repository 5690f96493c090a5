"""Several processes that train one model: torchrun's environment, one process per device.

    torchrun --nproc-per-node 8 -m train.run --data build/ultimate --recipe lumen_convnext_fluffy

Every batch is shared out: process r takes its examples r, r + world, ... The gradient is that of
the whole batch. All processes validate, the first one writes.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import distributed

from tutti.datasets.environment import whole_number
from tutti.datasets.errors import TuttiError, UsageError

Answer = TypeVar("Answer")


def rank() -> int:
    """Return the number of this process; 0 where there is one alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Count the processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the group that torchrun asks for, if it does."""
    if whole_number("WORLD_SIZE", 1) < 2:
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        local = whole_number("LOCAL_RANK", 0)
        if local >= torch.cuda.device_count():
            raise UsageError(f"{torch.cuda.device_count()} GPUs for process {local}; start at most one process per GPU")
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def own_rows(num_examples: int) -> torch.Tensor | None:
    """Select the indices of this process's examples; None: all.

    Raises:
        UsageError: fewer examples than processes.
    """
    if world_size() == 1:
        return None
    if num_examples < world_size():
        raise UsageError(f"{world_size()} processes share batches of {num_examples}; use fewer or a larger batch_size")
    return torch.arange(rank(), num_examples, world_size())


def say(line: str) -> None:
    """Print a line on stderr, once for all processes."""
    if rank() == 0:
        print(line, file=sys.stderr, flush=True)


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        distributed.barrier()


def from_first(ask: Callable[[], Answer]) -> Answer:
    """Call a function in the first process and return its answer in all of them.

    Raises:
        TuttiError: it raised this.
    """
    if world_size() == 1:
        return ask()
    told: list[Any] = [None]
    if rank() == 0:
        try:
            told = [ask()]
        except TuttiError as error:
            told = [error]
    distributed.broadcast_object_list(told)
    if isinstance(told[0], TuttiError):
        raise told[0]
    return cast(Answer, told[0])
