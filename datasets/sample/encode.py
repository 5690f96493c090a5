"""Files from samples, and archives from files: the same input gives the same bytes.

Encoders and containers like to write dates, random serial numbers and their own version; here
they are told not to, or corrected afterwards.
"""

import gzip
import io
import struct
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias, cast

import av
import av.codec.context
import soundfile

from tutti.datasets.sample.dsp import SAMPLE_RATE
from tutti.datasets.sample.room import Pcm

Member: TypeAlias = tuple[str, bytes]  # name within the archive, content

_WRITE_BLOCK = 8192  # frames; libsndfile's Vorbis encoder crashes on one long write
_ZIP_DATE = (2014, 9, 1, 0, 0, 0)  # IRMAS was published in September 2014
_TAR_TIME = 1_540_000_000  # OpenMIC-2018: October 2018
_UTF8_NAME = 0x800  # general purpose bit 11 of a zip entry
_OPUS_RATE = 48_000
_BIT_RATE = 96_000
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def wav_bytes(pcm: Pcm) -> bytes:
    """Encode a 16-bit WAV file with the plain 44-byte header."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.astype("<i2").tobytes())
    return stream.getvalue()


def ogg_bytes(pcm: Pcm, serial: int) -> bytes:
    """Encode an Ogg Vorbis file; libsndfile draws the stream's serial number, `serial` replaces it."""
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", SAMPLE_RATE, pcm.shape[1], format="OGG", subtype="VORBIS") as file:
        for start in range(0, len(pcm), _WRITE_BLOCK):
            file.write(pcm[start : start + _WRITE_BLOCK])
    return _with_serial(stream.getvalue(), serial)


def _with_serial(ogg: bytes, serial: int) -> bytes:
    """Replace a stream's serial number (RFC 3533, section 6: page header)."""
    pages = bytearray(ogg)
    position = 0
    while position < len(pages):
        num_segments = pages[position + 26]
        lacing = pages[position + 27 : position + 27 + num_segments]
        end = position + 27 + num_segments + sum(lacing)
        struct.pack_into("<I", pages, position + 14, serial)
        struct.pack_into("<I", pages, position + 22, 0)  # the checksum counts as 0 while it is computed
        struct.pack_into("<I", pages, position + 22, _ogg_crc(bytes(pages[position:end])))
        position = end
    return bytes(pages)


def _ogg_crc(page: bytes) -> int:
    """Compute Ogg's CRC-32: zlib's polynomial with the bits the other way round, and no inversion."""
    reflected = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


def video_bytes(pcm: Pcm, extension: str) -> bytes:
    """Encode the audio of a video as YouTube serves it: "webm" (Opus, 48 kHz) or "m4a" (AAC, 44.1 kHz)."""
    container, codec, rate, options = {
        "webm": ("webm", "libopus", _OPUS_RATE, {"compression_level": "3"}),
        "m4a": ("mp4", "aac", SAMPLE_RATE, {"aac_coder": "fast"}),
    }[extension]
    stream = io.BytesIO()
    with av.open(stream, "w", format=container, options={"fflags": "+bitexact"}) as output:
        track = cast(av.AudioStream, output.add_stream(codec, rate=rate, layout="stereo", options=options))
        track.bit_rate = _BIT_RATE
        track.codec_context.flags |= av.codec.context.Flags.bitexact
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*track.encode(frame), *track.encode(None)]:
            output.mux(packet)
    return stream.getvalue()


class _UnflaggedName(zipfile.ZipInfo):
    """A member whose name is UTF-8 but not declared so, as older zip tools write it."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile's own hook
        return self.filename.encode(), self.flag_bits & ~_UTF8_NAME


def write_zip(path: Path, members: Iterable[Member], *, declare_utf8: bool = True) -> None:
    """Write a deflated zip with fixed dates and permissions; `declare_utf8` False leaves bit 11 clear."""
    info_type = zipfile.ZipInfo if declare_utf8 else _UnflaggedName
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            info = info_type(name, _ZIP_DATE)
            info.create_system = 3  # Unix, wherever this runs
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED, compresslevel=1)


def write_tgz(path: Path, members: Iterable[Member]) -> None:
    """Write a gzipped tar with fixed dates and owners."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), _TAR_TIME
            archive.addfile(info, io.BytesIO(content))
