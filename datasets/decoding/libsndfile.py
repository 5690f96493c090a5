"""libsndfile: WAV in its forms, AIFF, AU, CAF, FLAC, MP3, Ogg with Vorbis, Opus or FLAC, and what else it knows.

It tells no positions: its blocks follow each other without gaps.
"""

import io
from collections.abc import Iterator

import soundfile

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.decoding import block as limits
from tutti.datasets.decoding.block import MAX_CHANNELS, Block, RefusedError


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """Reads on and on: after every read of a seekable file soundfile seeks, which is not exact in MP3 and Ogg."""

    def seekable(self) -> bool:
        return False


def libsndfile_blocks(data: bytes, name: str) -> Iterator[Block]:
    """Decode a file block by block; none where it holds no samples.

    Raises:
        RefusedError: it passes a limit of ours.
        DecodeError: libsndfile does not read it, or not further.
        MemoryError: memory does not suffice.
    """
    try:
        with _Forward(io.BytesIO(data)) as file:
            if file.channels > MAX_CHANNELS:
                raise RefusedError(f"{name}: claims {file.channels} channels")
            rate, codec = int(file.samplerate), f"{file.format}/{file.subtype}"
            left = int(file.frames)  # of a FLAC of unknown length the highest number that there is
            while left > 0:
                wanted = min(left, limits.BLOCK_SAMPLES // file.channels)
                samples = file.read(wanted, dtype="float32", always_2d=True)
                if len(samples):
                    yield Block(samples.T, rate, codec, "libsndfile")
                if len(samples) < wanted:
                    return
                left -= wanted
    except soundfile.LibsndfileError as error:
        if "malloc" in error.error_string:
            raise MemoryError(error.error_string) from error
        raise DecodeError(f"{name}: {error.error_string}") from error  # str(error) holds an address in memory
    except (soundfile.SoundFileError, ValueError) as error:
        raise DecodeError(f"{name}: {error}") from error
