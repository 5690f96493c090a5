"""The audio of a shard's row, decoded within bounds: what the row says is known before memory is taken.

samples = verified_audio(where, row["audio"]["bytes"], row["sample_rate"], row["num_samples"], row["audio_sha256"])
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tutti.datasets.errors import IntegrityError

_FORMATS = {b"fLaC": "FLAC", b"RIFF": "WAV"}  # what write_shard is given; libsndfile would try many more


def decode_audio(where: str, audio: Any, sample_rate: int, num_samples: int) -> NDArray[np.int16]:
    """Decode all samples (num_samples,) of a clip.

    Args:
        where: shard and clip, for the message.
        audio: the complete audio file, anything with a buffer.
        sample_rate: in Hz, as the row says.
        num_samples: as the row says.

    Raises:
        IntegrityError: the audio is damaged, or not what the row says.
    """
    samples = np.empty(num_samples, np.int16)
    decode_into(where, audio, sample_rate, num_samples, 0, samples)
    return samples


def verified_audio(where: str, audio: Any, sample_rate: int, num_samples: int, sha256: str) -> NDArray[np.int16]:
    """Decode all samples (num_samples,) of a clip, and compare them with their digest.

    Args:
        where: shard and clip, for the message.
        audio: the complete audio file, anything with a buffer.
        sample_rate: in Hz, as the row says.
        num_samples: as the row says.
        sha256: of the samples, as the row says.

    Raises:
        IntegrityError: the audio is damaged, or not what the row says.
    """
    samples = decode_audio(where, audio, sample_rate, num_samples)
    if pcm_sha256(samples) != sha256:
        raise IntegrityError(f"{where}: its audio is not what its digest says; run pipelines.verify")
    return samples


def pcm_sha256(samples: NDArray[np.int16]) -> str:
    """Digest 16-bit PCM, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(samples, "<i2").tobytes()).hexdigest()


def decode_into(
    where: str, audio: Any, sample_rate: int, num_samples: int, first: int, part: NDArray[np.int16]
) -> None:
    """Fill `part` with a clip's samples from `first` on; the others are not decoded.

    Of `audio`, a buffer or an open binary file, of which then no more is read than that takes.

    Raises:
        IntegrityError: the audio is damaged, or not what the row says.
    """
    with _decoding(where), _open(audio) as file:
        if (file.channels, file.samplerate, file.frames) != (1, sample_rate, num_samples):
            shape = (file.frames,) if file.channels == 1 else (file.frames, file.channels)
            raise IntegrityError(
                f"{where}: audio of shape {shape} at {file.samplerate} Hz, its row says "
                f"{num_samples} samples at {sample_rate} Hz; run pipelines.verify"
            )
        if first:
            file.seek(first)
        if len(file.read(dtype="int16", out=part)) != len(part):
            raise IntegrityError(f"{where}: ends before sample {first + len(part)}; run pipelines.verify")


def _open(audio: Any) -> soundfile.SoundFile:
    stream = audio if isinstance(audio, io.RawIOBase) else io.BytesIO(memoryview(audio))
    head = stream.read(4) or b""
    if head not in _FORMATS:
        raise ValueError("neither FLAC nor WAV")
    stream.seek(0)
    file = soundfile.SoundFile(stream)
    if file.format != _FORMATS[head] or file.subtype != "PCM_16":
        raise ValueError(f"{file.format}, {file.subtype}, expected 16-bit PCM")
    return file


@contextlib.contextmanager
def _decoding(where: str) -> Iterator[None]:
    try:
        yield
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise IntegrityError(f"{where}: audio cannot be decoded ({error}); run pipelines.verify") from error
