"""A section of a long video through ffmpeg, which tells neither a status code nor that it stopped early.

So the media's address is probed first, through the gated requests of the session, and the extent of
what ffmpeg wrote is measured afterwards.
"""

import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from yt_dlp.networking import Request

from tutti.datasets.errors import UsageError
from tutti.datasets.record import Seconds
from tutti.pipelines.acquisition.reasons import Failure
from tutti.pipelines.acquisition.youtube_media import Downloaded, format_of, kind_of
from tutti.pipelines.acquisition.youtube_session import MAX_DOWNLOAD_S, SOCKET_TIMEOUT_S, Session

PADDING_S: Seconds = 5.0  # each side of a section: decoders settle, and containers cut at clusters
MISSING_S: Seconds = 0.1  # of a section's end that may be missing: clean's own tolerance
OPUS_HZ = 48_000  # always, RFC 7845; YouTube's packets hold 20 ms
ROUNDED_S: Seconds = 1.0  # the site states whole seconds


def fetch_section(
    session: Session,
    found: dict[str, Any],
    temporary: Path,
    span: tuple[Seconds, Seconds],
    duration_s: Seconds,
    proxy: str | None,
) -> Downloaded | Failure:
    """Fetch the part of a video around `span`, with PADDING_S on each side.

    Args:
        session: carries the requests.
        found: the extractor's answer, no format chosen yet.
        temporary: folder of the result.
        span: start and end of what is needed.
        duration_s: of the whole video, as the site says.
        proxy: address for ffmpeg, which knows http proxies only.

    Raises:
        UsageError: ffmpeg is missing.
    """
    ffmpeg = find_ffmpeg()
    info = session.process_ie_result(found, download=False)
    address, kind = _probe(session, info)
    if kind is None:
        return Failure("no_formats", "the media server sent something that is not audio")
    low_s, high_s = max(0.0, span[0] - PADDING_S), min(span[1] + PADDING_S, duration_s)
    seek = ("-ss", f"{low_s:.3f}") if low_s else ()  # a seek to 0 drops a packet that begins before, as Opus does
    path = temporary / "section.webm"
    # Bound to one demuxer and to http: a playlist in disguise opens nothing. The address is the one
    # after all redirects. -copyts keeps the video's own time, so that the first packet says where we are.
    command = [
        ffmpeg, "-nostdin", "-loglevel", "quiet", "-protocol_whitelist", "http,https,tcp,tls,crypto,httpproxy",
        "-rw_timeout", str(round(SOCKET_TIMEOUT_S * 1e6)), "-user_agent", info["http_headers"]["User-Agent"],
        "-f", kind[1], "-copyts", *seek, "-i", address,
        "-map", "0:a:0", "-c", "copy", "-to", f"{high_s:.3f}", "-f", "matroska", str(path),
    ]  # fmt: skip
    try:
        ended = subprocess.run(command, env=_environment(proxy), timeout=MAX_DOWNLOAD_S, check=False)
    except subprocess.TimeoutExpired:
        return Failure("timeout", f"the section was not whole after {MAX_DOWNLOAD_S:.0f} s")
    extent = _extent(path) if ended.returncode == 0 else None
    if extent is None:
        _probe(session, info)  # the status that ffmpeg keeps to itself
        return Failure("timeout", f"ffmpeg could not read the section (it exited with {ended.returncode})")
    needed_s = min(span[1], duration_s - ROUNDED_S) - MISSING_S
    if extent[0] > span[0] or extent[1] < needed_s:
        have = f"{extent[0]:.3f} to {extent[1]:.3f} s"
        return Failure("timeout", f"the section holds {have}, needed are {span[0]:.3f} to {needed_s:.3f} s")
    return Downloaded(path, "section", extent[0], duration_s, format_of(info))


def _probe(session: Session, info: dict[str, Any]) -> tuple[str, tuple[str, str] | None]:
    """Resolve the media's address after redirects, and detect its kind; an error status raises."""
    headers = {**info["http_headers"], "Range": "bytes=0-15", "Accept-Encoding": "identity"}
    with session.urlopen(Request(info["url"], headers=headers)) as response:
        return response.url, kind_of(response.read(16))


def can_use_proxy(proxy: str | None) -> bool:
    """Whether ffmpeg can use the user's proxy; it knows http proxies only."""
    return proxy is None or proxy.startswith("http://")


def _environment(proxy: str | None) -> dict[str, str]:
    # By environment: other users see a command line. ffmpeg reads the lower-case name for https too.
    return dict(os.environ) if proxy is None else {**os.environ, "http_proxy": proxy, "https_proxy": proxy}


def find_ffmpeg() -> str:
    """Find ffmpeg on PATH.

    Raises:
        UsageError: it is not on PATH.
    """
    path = shutil.which("ffmpeg")
    if path is None:
        raise UsageError(
            "ffmpeg is not on PATH, and long videos are to be fetched by section; "
            "install ffmpeg, or leave sections off: whole videos do not need it"
        )
    return path


def _extent(path: Path) -> tuple[Seconds, Seconds] | None:
    """Find where in the video the first decoded sample lies, and where the last packet ends; None: no packet.

    Only packets are read, of a file that our own ffmpeg wrote.
    """
    try:
        with av.open(str(path), format="matroska") as container:
            packets = [packet for packet in container.demux(audio=0) if packet.pts is not None]
            if not packets:
                return None
            context, last = container.streams.audio[0].codec_context, packets[-1]
            first_s, last_s = (float(Fraction(packet.pts or 0) * packet.time_base) for packet in (packets[0], last))
            start, tick_s = container.streams.audio[0].start_time, container.streams.audio[0].time_base
            if context.name == "aac" and start is not None and tick_s is not None:
                first_s = float(start * tick_s)  # later than its packet where the muxer wrote a CodecDelay
            return begin_s(first_s, context.name, context.extradata, context.sample_rate), last_s
    except av.error.FFmpegError:
        return None


def begin_s(first_s: Seconds, codec: str, extradata: bytes | None, sample_rate: int) -> Seconds:
    """Compute the exact time of the first decoded sample from a first packet's time in Matroska.

    Matroska rounds to milliseconds, but packets are equally long, so the packet's number is certain.
    An Opus decoder drops the pre-skip (RFC 7845, 5.1) wherever it starts, and muxers differ in whether
    they count it in the time; both readings are within half a packet of the one between them.
    """
    if codec == "opus":
        step, delay_s = Fraction(960, OPUS_HZ), int.from_bytes((extradata or b"")[10:12], "little") / OPUS_HZ
    elif codec == "aac":
        step, delay_s = Fraction(1024, sample_rate), 0.0
    else:
        return first_s
    return float(max(0, round((first_s + 1.5 * delay_s) / step)) * step)
