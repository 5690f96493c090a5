"""PyAV (FFmpeg's libraries): Matroska, MP4, and whatever libsndfile refuses, by a list of demuxers.

No demuxer outside of DEMUXERS is used and no protocol at all: a playlist or a reference opens nothing.
Of several tracks the default one is decoded. A packet that cannot be decoded is lost, and the next one goes on.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NoReturn, cast

import av
import numpy as np

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.decoding import block as limits
from tutti.datasets.decoding.block import MAX_CHANNELS, SOUND, Block, RefusedError, Waveform
from tutti.datasets.decoding.timeline import Frame, Silence, placed

# By their names in FFmpeg; of those with several names one is enough.
DEMUXERS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3", "flac", "flv", "loas",
    "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "ogg", "tak", "tta", "voc", "w64", "wav", "wv", "xwma",
)  # fmt: skip
DECLARED = {"ape", "asf", "avi", "dsf", "tak", "tta", "wv"}  # headers that say how long the sound is
SLACK_S = Fraction(1, 2)  # some count in packets, or the picture
NO_PROTOCOL = {"protocol_whitelist": "none", "enable_drefs": "0", "use_absolute_path": "0"}
CHECKED = {"flac", "mp3", "mp3float", "mp2", "mp2float", "mp1", "mp1float"}  # codecs whose frames have checksums
# Highest magnitude of FFmpeg's sample formats; "u8" is offset by it.
_SCALES = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31, "s64": 1 << 63}


class PyavBlocks:
    """Blocks of a file, and whether it could be read to its end."""

    def __init__(self, data: bytes, name: str, demuxer: str | None) -> None:
        """Hold a file.

        Args:
            data: the file.
            name: what errors call it.
            demuxer: one of DEMUXERS; None: told from the content.
        """
        self.data, self.name, self.demuxer = data, name, demuxer
        self.complete = True
        self.num_channels = 1  # of the latest frame

    def __iter__(self) -> Iterator[Block]:
        """Decode block by block; channels may change from one to the next.

        Raises:
            RefusedError: it passes a limit of ours.
            DecodeError: it cannot be opened, or holds no audio.
            MemoryError: memory does not suffice.
        """
        options = NO_PROTOCOL | {"format_whitelist": ",".join(DEMUXERS)}
        begun = False
        try:
            with av.open(
                io.BytesIO(self.data),
                "r",
                self.demuxer,
                container_options=options,
                metadata_errors="replace",
                io_open=_refuse,
            ) as container:
                for block in self._blocks(container):
                    begun = True
                    yield block
        except av.error.MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            if not begun:
                raise DecodeError(f"{self.name}: {error}") from error
            self.complete = False

    def _blocks(self, container: Any) -> Iterator[Block]:
        stream = _default(container, self.name)
        format_name = self.demuxer or container.format.name.split(",")[0]
        codec = f"{format_name}/{stream.codec_context.name}"
        pieces: list[Waveform] = []  # of one kind and of as many channels
        rate = size = num_samples = 0
        kind, silences = SOUND, list[Silence]()

        def block() -> Block:
            return Block(np.concatenate(pieces, axis=1), rate, codec, "pyav", kind)

        for piece in placed(self._frames(container, stream), _begin_s(container, stream)):
            if isinstance(piece, Silence):
                silences.append(piece)
                continue
            if rate and piece.sample_rate != rate:
                raise RefusedError(
                    f"{self.name}: changes from {rate} to {piece.sample_rate} Hz; convert it to one rate"
                )
            if pieces and (silences or piece.kind != kind or len(piece.waveform) != len(pieces[0])):
                yield block()
                pieces, size = [], 0
            rate, kind = piece.sample_rate, piece.kind  # the decoder's, not the header's: HE-AAC declares half of it
            pieces.append(piece.waveform)
            for silence in silences:
                num_samples += silence.num_samples
                yield block().silence(silence.num_samples, silence.kind)
            silences.clear()
            size += piece.waveform.size
            num_samples += piece.waveform.shape[1]
            if size >= limits.BLOCK_SAMPLES:
                yield block()
                pieces, size = [], 0
        if pieces:
            yield block()
        if format_name in DECLARED and stream.duration is not None and rate:
            num_samples += sum(silence.num_samples for silence in silences)
            self.complete = self.complete and num_samples >= (stream.duration * stream.time_base - SLACK_S) * rate
        if not rate:
            raise DecodeError(f"{self.name}: holds no decodable audio")
        for silence in silences:
            last = Block(np.empty((self.num_channels, 0), np.float32), rate, codec, "pyav")
            yield last.silence(silence.num_samples, silence.kind)

    def _frames(self, container: Any, stream: Any) -> Iterator[Frame]:
        lost_s, end_s, rate, tick_s = None, None, 0, Fraction(0)
        any_length = stream.codec_context.name.startswith("pcm_")  # the last packet of a stream is called corrupt
        for packet in container.demux(stream):
            frames, failed = [], packet.is_corrupt and not any_length
            try:
                if not failed:
                    frames = packet.decode()
            except av.error.MemoryError:
                raise
            except av.error.FFmpegError:
                failed = True
            if failed:
                duration_s = (packet.duration or 0) * (packet.time_base or Fraction(0))
                lost_s = (lost_s or Fraction(0)) + duration_s
                end_s = None if packet.pts is None else packet.pts * packet.time_base + duration_s
            for frame in frames:
                tick_s = tick_s or cast(Fraction, frame.time_base)  # one for all frames of a stream; slow to read
                samples = samples_of(frame)
                rate, self.num_channels = frame.sample_rate, len(samples)
                if self.num_channels > MAX_CHANNELS:
                    raise RefusedError(f"{self.name}: claims {self.num_channels} channels")
                yield Frame(samples, rate, frame.pts, tick_s, lost_s)
                lost_s = None
        if lost_s is not None and rate:  # up to the end
            ticks = None if end_s is None else 1
            yield Frame(np.empty((self.num_channels, 0), np.float32), rate, ticks, end_s or Fraction(0), lost_s)


def _refuse(url: str, *_: Any) -> NoReturn:
    raise PermissionError("media may not name other files")


def _default(container: Any, name: str) -> Any:
    """Choose the track that is marked as default, else the first, of those whose codec is known."""
    if not container.streams.audio:
        raise DecodeError(f"{name}: holds no audio stream")
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not known:
        raise DecodeError(f"{name}: holds audio of a codec that nobody knows")
    marked = [stream for stream in known if stream.disposition & av.stream.Disposition.default]
    chosen = (marked or known)[0]
    chosen.codec_context.thread_count = 1
    if chosen.codec_context.name in CHECKED:
        chosen.codec_context.options = {"err_detect": "crccheck+explode"}
    return chosen


def _begin_s(container: Any, chosen: Any) -> Fraction | None:
    """Find when the earliest other stream of sound or pictures begins; None: there is none, or it says nothing."""
    begins = [
        stream.start_time * stream.time_base
        for stream in container.streams
        if stream.index != chosen.index
        and stream.type in ("audio", "video")
        and not stream.disposition & av.stream.Disposition.attached_pic
        and stream.start_time is not None
    ]
    return min(begins, default=None)


def samples_of(frame: Any) -> Waveform:
    """Convert a decoded frame to float32 (num_channels, num_samples) in [-1, 1]."""
    samples, name = frame.to_ndarray(), frame.format.name
    if name == "fltp":  # most lossy codecs
        return cast(Waveform, samples)
    kind = name.removesuffix("p")
    if kind == name:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if kind == "flt":
        return cast(Waveform, samples)
    if kind == "dbl":
        return cast(Waveform, samples.astype(np.float32))
    scale = np.float32(_SCALES[kind])
    converted = samples.astype(np.float32)
    return cast(Waveform, (converted - scale if kind == "u8" else converted) / scale)
