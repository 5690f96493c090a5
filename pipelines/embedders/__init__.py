"""Embedders: one file each, what turns the samples of a clip into one vector."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """The interface of an embedder. Row i of its result depends on waveform i only, to the last bit."""

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

    def embed(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed mono waveforms (num_samples,) at 16 kHz as (len(waveforms), dimension)."""
