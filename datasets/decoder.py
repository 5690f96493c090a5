"""Decoding of a file's bytes to blocks of samples, in order, with memory for one block.

What memory does not suffice for is a MemoryError, never a DecodeError: it says nothing about the bytes.

One pinned decoder per format: libsndfile for WAV, FLAC, MP3 and Ogg, PyAV for WebM and MP4.
Lossy files are decoded from their beginning: their seeks are not sample-exact. Nothing but the
given bytes is ever read, whatever they name.

The bytes may be hostile and the decoders are C: builds run this in a child process
(`pipelines/decoding/sandbox.py`). Waveforms are float32 (num_channels, num_samples).
"""

import heapq
import io
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn, TypeAlias, cast

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.record import Seconds

Waveform = NDArray[np.float32]
Span: TypeAlias = tuple[Seconds, Seconds | None]  # start and end; None: the end of the file

# Above any real recording; a header that claims more is damaged or hostile.
MAX_CHANNELS = 32
SAMPLE_RATES_HZ = (4_000, 768_000)
MAX_DURATION_S = 24 * 3600  # YouTube takes no video longer than 12 h
# 16 MiB of float32, 43 s of stereo at 48 kHz: most files are one block, which is then never copied.
BLOCK_SAMPLES = 1 << 22
NO_PROTOCOL = {"protocol_whitelist": "none", "enable_drefs": "0", "use_absolute_path": "0"}


@dataclass(frozen=True)
class Stream:
    """Facts of a file that was decoded to its end."""

    sample_rate: int
    num_channels: int
    num_samples: int  # per channel
    codec: str  # "WAV/PCM_16", "OGG/VORBIS", "matroska/opus", ...
    decoder: str  # "libsndfile" or "pyav"
    complete: bool  # False: the container ends before its own end mark

    @property
    def duration_s(self) -> Seconds:
        """Decoded length."""
        return float(self.num_samples / self.sample_rate)


@dataclass(frozen=True)
class _Block:
    waveform: Waveform
    sample_rate: int
    codec: str
    decoder: str
    num_claimed: int | None  # samples per channel that the header promises, where that binds


def decode_spans(data: bytes, name: str, spans: Sequence[Span]) -> tuple[Stream, list[Waveform]]:
    """Decode a complete file from memory and keep the samples of some spans of it.

    Args:
        data: the file; its format is told from its first bytes, never from its name.
        name: what errors call it.
        spans: from sample round(start * rate) up to round(end * rate), or what there is of them.

    Returns:
        The facts of the whole file, and a waveform (num_channels, num_samples) for each span.

    Raises:
        DecodeError: unknown format, damaged content, no samples, or samples that are not finite.
    """
    found: dict[int, Waveform] = {}
    stream = each_span(data, name, spans, lambda place, waveform, _: found.__setitem__(place, waveform))
    return stream, [found[place] for place in range(len(spans))]


def each_span(data: bytes, name: str, spans: Sequence[Span], take: Callable[[int, Waveform, Stream], object]) -> Stream:
    """Decode spans and hand each to `take` as soon as the decoder has passed its end.

    At any time the blocks from the beginning of the first span that is not over are in memory: however many spans
    there are, no more than the file as a whole.

    Args:
        data: as above.
        name: as above.
        spans: as above.
        take: gets the place of a span in `spans`, its waveform, and the facts of the file as far as it is decoded; in
            the order of the spans' ends. The file may still turn out to be damaged.

    Raises:
        DecodeError: as above; what was taken before is to be thrown away.
    """
    waiting: list[_Wanted] = []  # those that begin last first
    begun: list[_Wanted] = []  # a heap
    kept = _Kept()
    position = 0
    for block in _blocks(data, name):
        _check_block(block, position, name)
        if position == 0:
            ranges = (sample_range(span, block.sample_rate, sys.maxsize) for span in spans)
            wanted = (_Wanted(end, start, place) for place, (start, end) in enumerate(ranges))
            waiting = sorted(wanted, key=lambda span: span.start, reverse=True)
        kept.blocks.append((position, block.waveform))
        position += block.waveform.shape[1]
        so_far = Stream(
            block.sample_rate, block.waveform.shape[0], position, block.codec, block.decoder, complete=False
        )
        while waiting and waiting[-1].start < position:
            heapq.heappush(begun, waiting.pop())
        over = []
        while begun and begun[0].end <= position:
            over.append(heapq.heappop(begun))
        kept.give(over, begun, so_far, take)
    if position == 0:
        raise DecodeError(f"{name}: holds no samples")
    kept.give(sorted(begun + waiting), [], so_far, take)
    return replace(so_far, complete=_is_complete(data) and position >= (block.num_claimed or 0))


class _Wanted(NamedTuple):
    """A span in samples, sorted by its end."""

    end: int
    start: int
    place: int  # in the list of spans


class _Kept:
    """Blocks that spans which are not over still need."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, Waveform]] = []  # (first sample, samples)

    def give(
        self,
        over: Sequence[_Wanted],
        begun: Sequence[_Wanted],
        so_far: Stream,
        take: Callable[[int, Waveform, Stream], object],
    ) -> None:
        """Pass on spans that are over, and free the blocks that neither they nor those begun need any more."""
        first_needed = min((span.start for span in begun), default=so_far.num_samples)
        needed = list(itertools.accumulate((span.start for span in reversed(over)), min, initial=first_needed))
        for span, needed_after in zip(over, reversed(needed[:-1]), strict=True):
            waveform = self._cut(span, so_far.num_channels)
            self._drop(needed_after)
            take(span.place, waveform, so_far)
        self._drop(first_needed)

    def _drop(self, needed: int) -> None:
        self.blocks = [(first, samples) for first, samples in self.blocks if first + samples.shape[1] > needed]

    def _cut(self, span: _Wanted, num_channels: int) -> Waveform:
        largest = max((samples.size for _, samples in self.blocks), default=0)
        pieces = [
            samples[:, max(span.start - first, 0) : span.end - first]
            for first, samples in self.blocks
            if span.start < first + samples.shape[1] and span.end > first
        ]
        if len(pieces) == 1:
            return pieces[0] if 2 * pieces[0].size > largest else pieces[0].copy()  # let go of the block
        return np.concatenate(pieces, axis=1) if pieces else np.empty((num_channels, 0), np.float32)


def sample_range(span: Span, sample_rate: int, num_samples: int) -> tuple[int, int]:
    """Convert a span to its first sample and the one after its last; a negative start becomes 0."""
    start_s, end_s = span
    end = num_samples if end_s is None else round(end_s * sample_rate)
    return max(round(start_s * sample_rate), 0), max(end, 0)


def _cut(blocks: Sequence[tuple[int, Waveform]], start: int, end: int, num_channels: int) -> Waveform:
    pieces = [
        waveform[:, max(start - first, 0) : end - first]
        for first, waveform in blocks
        if start < first + waveform.shape[1] and end > first
    ]
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces, axis=1) if pieces else np.empty((num_channels, 0), np.float32)


def _check_block(block: _Block, position: int, name: str) -> None:
    low, high = SAMPLE_RATES_HZ
    if not low <= block.sample_rate <= high:
        raise DecodeError(f"{name}: sample rate {block.sample_rate} Hz is outside {low} to {high}")
    if position + block.waveform.shape[1] > MAX_DURATION_S * block.sample_rate:
        raise DecodeError(f"{name}: is longer than {MAX_DURATION_S // 3600} h")
    if not np.isfinite(block.waveform).all():
        raise DecodeError(f"{name}: holds samples that are not finite")


def _blocks(data: bytes, name: str) -> Iterator[_Block]:
    """Decode a file block by block, at least one; channels, rate and codec of the first hold for all."""
    demuxer = _pyav_demuxer(data)
    return _soundfile_blocks(data, name) if demuxer is None else _pyav_blocks(data, name, demuxer)


def _pyav_demuxer(data: bytes) -> str | None:
    if data[:4] == b"\x1a\x45\xdf\xa3":  # EBML: Matroska, WebM
        return "matroska"
    if data[4:8] == b"ftyp":  # ISO base media: MP4, M4A
        return "mp4"
    return None


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """Reads on and on: after every read of a seekable file soundfile seeks, which is not exact in MP3 and Ogg."""

    def seekable(self) -> bool:
        return False


def _soundfile_blocks(data: bytes, name: str) -> Iterator[_Block]:
    try:
        with _Forward(io.BytesIO(data)) as file:
            if file.channels > MAX_CHANNELS:
                raise DecodeError(f"{name}: claims {file.channels} channels")
            left, rate = int(file.frames), int(file.samplerate)
            if left > MAX_DURATION_S * max(rate, SAMPLE_RATES_HZ[0]):
                raise DecodeError(f"{name}: claims {left} samples, more than {MAX_DURATION_S // 3600} h")
            codec = f"{file.format}/{file.subtype}"
            claimed = left if file.format == "FLAC" else None  # libsndfile corrects a WAV's; an MP3's is a guess
            while True:
                wanted = min(left, BLOCK_SAMPLES // file.channels)
                samples = file.read(wanted, dtype="float32", always_2d=True)
                yield _Block(samples.T, rate, codec, "libsndfile", claimed)
                left -= wanted
                if left <= 0 or len(samples) < wanted:
                    return
    except soundfile.LibsndfileError as error:
        if "malloc" in error.error_string:
            raise MemoryError(error.error_string) from error
        raise DecodeError(f"{name}: {error.error_string}") from error  # str(error) holds an address in memory
    except (soundfile.SoundFileError, ValueError) as error:
        raise DecodeError(f"{name}: {error}") from error


def _refuse(url: str, *_: Any) -> NoReturn:
    raise PermissionError("media may not name other files")


def _pyav_blocks(data: bytes, name: str, demuxer: str) -> Iterator[_Block]:
    try:
        with av.open(
            io.BytesIO(data), "r", demuxer, container_options=NO_PROTOCOL, metadata_errors="replace", io_open=_refuse
        ) as container:
            if not container.streams.audio:
                raise DecodeError(f"{name}: holds no audio stream")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise DecodeError(f"{name}: holds audio of a codec that nobody knows")
            codec = f"{demuxer}/{stream.codec_context.name}"
            planar = av.AudioResampler(format="fltp")  # sample format only: same rate and layout
            frames: list[Waveform] = []
            rate = size = 0
            for frame in (out for each in container.decode(stream) for out in planar.resample(each)):
                rate = rate or frame.sample_rate  # the decoder's, not the header's: HE-AAC declares half of it
                frames.append(cast(Waveform, frame.to_ndarray()))
                size += frames[-1].size
                if len(frames[-1]) > MAX_CHANNELS:
                    break
                if size >= BLOCK_SAMPLES:
                    yield _Block(np.concatenate(frames, axis=1), rate, codec, "pyav", None)
                    frames, size = frames[:0], 0
            if not rate or (frames and len(frames[-1]) > MAX_CHANNELS):
                raise DecodeError(f"{name}: holds no decodable audio")
            if frames:
                yield _Block(np.concatenate(frames, axis=1), rate, codec, "pyav", None)
    except av.error.MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodeError(f"{name}: {error}") from error


def _is_complete(data: bytes) -> bool:
    """Whether a file reaches its own end, where its container tells; the decoders do not complain."""
    if data[:4] == b"OggS":
        page = data.rfind(b"OggS")
        header = data[page : page + 27]
        if len(header) < 27:
            return False
        num_segments = header[26]
        lacing = data[page + 27 : page + 27 + num_segments]
        end = page + 27 + num_segments + sum(lacing)
        return bool(header[5] & 0x04) and len(lacing) == num_segments and end <= len(data)  # RFC 3533: end of stream
    if data[:4] == b"RIFF":
        declared = int.from_bytes(data[4:8], "little")
        return declared in (0, 0xFFFFFFFF) or declared + 8 <= len(data) + 1  # 0 and -1: written as a stream
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska_end(data) <= len(data)
    if data[4:8] == b"ftyp":
        return _mp4_end(data) <= len(data)
    return True


def _matroska_end(data: bytes) -> int:
    """Compute the byte where the first segment claims to end; RFC 8794: a size of all ones means unknown."""
    position = 0
    while position + 12 <= len(data):
        segment = data[position : position + 4] == b"\x18\x53\x80\x67"
        position += 4  # the EBML header's and the segment's id have four bytes
        length = 9 - data[position].bit_length()
        size = int.from_bytes(data[position : position + length], "big") & ((1 << 7 * length) - 1)
        position += length
        if length > 8 or size == (1 << 7 * length) - 1:
            return 0
        if segment:
            return position + size
        position += size
    return 0


def _mp4_end(data: bytes) -> int:
    """Compute the byte where the last top-level box claims to end; ISO 14496-12: size 0 is the rest, 1 a long size."""
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:
            return len(data)
        position += size
    return position
