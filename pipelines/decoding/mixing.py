"""Mixes that upstream lacks: the sum of a song's stems, each as loud as it was."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from tutti.datasets.audio import Decoded
from tutti.datasets.record import Decibels
from tutti.pipelines.decoding.config import PrepareConfig
from tutti.pipelines.decoding.normalize import store_audio


def sum_of_stems(
    stems: Iterable[tuple[bytes, Decibels]], config: PrepareConfig, *, stem: bool = False
) -> tuple[dict[str, Any], bytes]:
    """Add up prepared stems and normalize the sum: facts of `StoredAudio`, and the file.

    Shorter stems are silent at their end. One stem and the sum are in memory at a time.

    Args:
        stems: (audio file of a prepared stem, the gain in dB that was applied to it), at the rate of `config`.
        config: of the sum.
        stem: whether the sum is a stem itself, of which it is measured when it sounds.
    """
    total: NDArray[np.float32] = np.zeros(0, np.float32)
    for file, gain_db in stems:
        samples, _ = sf.read(io.BytesIO(file), dtype="float32")
        samples *= np.float32(10 ** (-gain_db / 20))
        if samples.size > total.size:
            total = np.pad(total, (0, samples.size - total.size))
        total[: samples.size] += samples
    origin = Decoded(total[None, :], config.sample_rate, "sum", "libsndfile", complete=True)
    return store_audio(total[None, :], origin, config, stem=stem)
