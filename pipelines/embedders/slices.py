"""Slices: rows of many clips through a model, a constant number at once.

    for clip, rows in in_slices(parts, 16, run):      # as soon as all rows of a clip are there

A model on a GPU takes hardly longer for 16 rows than for one, and another number of rows may choose other kernels that
round otherwise. So the size never changes, rows of several clips share a slice, and only the last slice of a batch is
filled up. What else is in a slice, and where a row lies in it, changes no bit of it: tests hold that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Inputs:
    """Inputs of an embedder's model that were prepared from one clip, and features that need no model."""

    rows: Sequence[Array] = ()  # of the model
    kind: int = 0  # only rows of one kind, so of one shape of the model's input, share a slice
    measured: Array = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass
class Slices:
    """Counts of what went through a model."""

    slices: int = 0
    rows: int = 0
    wasted: int = 0  # rows that only filled a slice up


def in_slices(
    parts: Iterable[Inputs], size: int, run: Callable[[int, list[Array]], Array], count: Slices
) -> Iterator[tuple[int, Array]]:
    """Run the rows of clips through a model.

    Args:
        parts: clips, read no further than the next slice needs.
        size: rows of a slice.
        run: (kind, at most `size` rows) -> (rows, numbers); fills the slice up itself.
        count: what goes through is added to it.

    Yields:
        The index of a clip in `parts`, and the model's outputs for its rows, in their order; a clip as soon as it is
        complete.
    """
    waiting: dict[int, list[tuple[int, Array]]] = {}  # kind -> (clip, row)
    outputs: dict[int, list[Array]] = {}
    missing: dict[int, int] = {}

    def flush(kind: int) -> Iterator[tuple[int, Array]]:
        members = waiting.pop(kind)
        count.slices, count.rows = count.slices + 1, count.rows + len(members)
        count.wasted += size - len(members)
        for (clip, _), output in zip(members, run(kind, [row for _, row in members]), strict=True):
            outputs[clip].append(output)
            missing[clip] -= 1
            if not missing[clip]:
                del missing[clip]
                yield clip, np.stack(outputs.pop(clip))

    for clip, inputs in enumerate(parts):
        if len(inputs.rows) == 0:
            yield clip, np.zeros((0, 0), np.float32)
            continue
        outputs[clip], missing[clip] = [], len(inputs.rows)
        for row in inputs.rows:
            waiting.setdefault(inputs.kind, []).append((clip, row))
            if len(waiting[inputs.kind]) == size:
                yield from flush(inputs.kind)
    for kind in sorted(waiting):
        yield from flush(kind)
