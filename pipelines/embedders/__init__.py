"""Embedders: one file each, what turns the samples of a clip into one vector."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tutti.pipelines.embedders.slices import Array, Inputs, Slices, in_slices


class Embedder(Protocol):
    """The interface of an embedder: `prepare` a clip, `run` its rows through the model, make a `vector`.

    The vector of a clip depends on its waveform only, to the last bit: not on what else is in a slice.
    """

    @property
    def name(self) -> str:
        """The name for people and manifests."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def digest(self) -> str:
        """sha256 of what decides the output: weights, or the code's version and its parameters."""

    @property
    def facts(self) -> Mapping[str, object]:
        """The facts that go into the manifest."""

    @property
    def slice_size(self) -> int:
        """Rows that go through the model at once, always."""

    @property
    def count(self) -> Slices:
        """Rows that went through the model so far, and those that filled slices up."""

    def prepare(self, waveform: NDArray[np.float32], label: str = "waveform") -> Inputs:
        """Prepare a mono waveform (num_samples,) at 16 kHz; in any thread.

        Raises:
            ValueError: it is no such array; the message begins with the label.
        """

    def run(self, kind: int, rows: list[Array]) -> Array:
        """Send rows of one kind, at most `slice_size`, through the model; one call at a time."""

    def vector(self, inputs: Inputs, outputs: Array) -> Array:
        """Make the embedding (dimension,) of the model's outputs (rows, numbers)."""


def embed(embedder: Embedder, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Embed mono waveforms (num_samples,) at 16 kHz as (len(waveforms), dimension).

    Raises:
        ValueError: a waveform is no such array; the message names it by its place.
    """
    result_ND = np.empty((len(waveforms), embedder.dimension), np.float32)
    inputs = (embedder.prepare(waveform, f"waveform {index}") for index, waveform in enumerate(waveforms))
    for index, vector in embed_each(embedder, inputs):
        result_ND[index] = vector
    return result_ND


def embed_each(embedder: Embedder, inputs: Iterable[Inputs]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Embed clips as they come; yields the place of a clip and its embedding, as soon as its last slice ran."""
    waiting: dict[int, Inputs] = {}

    def parts() -> Iterator[Inputs]:
        for index, one in enumerate(inputs):
            waiting[index] = one
            yield one

    for index, outputs in in_slices(parts(), embedder.slice_size, embedder.run, embedder.count):
        yield index, embedder.vector(waiting.pop(index), outputs)
