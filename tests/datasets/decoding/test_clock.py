"""Time is the container's: every excerpt is where ffmpeg finds it, whatever lies before it."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import signals
from ffmpeg import run_ffmpeg
from rows import clip

from tutti.datasets.decoder import decode_spans
from tutti.datasets.record import Media, Recording
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.prepare import PrepareConfig, prepare

DURATION_S = 6.0
# Muxer of ffmpeg, codec, rate, and whether ffmpeg's own seek is exact (else it decodes from the beginning).
WRITTEN = [
    ("wav", "pcm_s16le", 44_100, True),
    ("wav", "pcm_f32le", 44_100, True),
    ("w64", "pcm_s24le", 44_100, True),
    ("aiff", "pcm_s16be", 44_100, True),
    ("au", "pcm_s16be", 44_100, True),
    ("caf", "pcm_s16be", 44_100, True),
    ("flac", "flac", 44_100, True),
    ("mp3", "libmp3lame", 44_100, False),
    ("ogg", "libvorbis", 44_100, False),
    ("ogg", "libopus", 48_000, False),
    ("ogg", "flac", 44_100, False),
    ("ipod", "aac", 44_100, False),
    ("ipod", "alac", 44_100, True),
    ("mov", "pcm_s16le", 44_100, True),
    ("mov", "alac", 44_100, True),
    ("webm", "libopus", 48_000, False),
    ("webm", "libvorbis", 44_100, False),
    ("matroska", "flac", 44_100, False),
    ("matroska", "pcm_s16le", 44_100, False),
    ("mpegts", "aac", 44_100, False),
    ("adts", "aac", 44_100, False),
    ("tta", "tta", 44_100, False),
]
CLOCKED = [row for row in WRITTEN if row[0] in ("ipod", "webm", "matroska", "mpegts") or row[:2] == ("mov", "alac")]
LOSSY = ("libopus", "libvorbis", "aac", "libmp3lame")
IDS = [f"{container}-{codec}" for container, codec, *_ in WRITTEN]
CLOCKED_IDS = [f"{container}-{codec}" for container, codec, *_ in CLOCKED]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    """A file of each kind, made once: a function of (container, codec, rate, further options)."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "source.wav").write_bytes(signals.encoded(signals.noise(DURATION_S, num_channels=2)))

    def make(container: str, codec: str, rate: int, *options: str) -> Path:
        path = folder / f"{codec}{len(options)}.{container}"
        if not path.exists():
            given = ("-i", folder / "source.wav", *options, "-ar", rate, "-c:a", codec, "-strict", "-2")
            run_ffmpeg(*given, "-f", container, path)
        return path

    return make


def found_by_ffmpeg(path: Path, start_s: float, exact: bool) -> np.ndarray:
    """One second from `start_s` on, as ffmpeg reads it: (num_channels, num_samples)."""
    seek = ("-ss", start_s)
    given = (*seek, "-i", path) if exact else ("-i", path, *seek)
    raw = run_ffmpeg(*given, "-t", 1, "-map", "0:a:0", "-f", "f32le", "pipe:1")
    return np.frombuffer(raw, np.float32).reshape(-1, 2).T


def lag(ours: np.ndarray, theirs: np.ndarray) -> int:
    """By how many samples ours is later, up to 100; the two must be alike."""
    length, most = min(ours.shape[1], theirs.shape[1]), 100
    middle = ours[0, most : length - most]
    found = np.correlate(theirs[0, :length], middle)
    assert found.max() > 0.95 * float(np.dot(middle, middle))  # the first frame behind a gap lacks what overlaps it
    return most - int(np.argmax(found))


def without(path: Path, container: str, first_s: float, last_s: float) -> bytes:
    """Copy a file, but for the packets that begin in [first_s, last_s): what a live recording leaves out."""
    out = io.BytesIO()
    with av.open(str(path)) as source, av.open(out, "w", format=container) as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        begin_s = (source.start_time or 0) / 1_000_000
        for packet in source.demux(source.streams.audio[0]):
            if packet.pts is not None and not first_s <= packet.pts * packet.time_base - begin_s < last_s:
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()


@pytest.mark.parametrize(("container", "codec", "rate", "exact"), WRITTEN, ids=IDS)
def test_an_excerpt_is_the_one_that_ffmpeg_finds_to_the_sample(written, container, codec, rate, exact):
    path = written(container, codec, rate)

    stream, (excerpt,) = decode_spans(path.read_bytes(), path.name, [(2.5, 3.5)])

    theirs = found_by_ffmpeg(path, 2.5, exact)
    assert stream.complete
    assert (stream.gap_s, stream.damaged_s) == (0.0, 0.0)
    assert excerpt.shape == (2, rate)
    skipped = 2_048 if codec in LOSSY and exact else 0  # a decoder that begins there has to settle
    np.testing.assert_allclose(excerpt[:, skipped:], theirs[:, skipped:rate], atol=5e-5)


@pytest.mark.parametrize(("container", "codec", "rate", "exact"), CLOCKED, ids=CLOCKED_IDS)
def test_a_gap_in_the_timestamps_is_silence_and_what_follows_keeps_its_time(written, container, codec, rate, exact):
    path = written(container, codec, rate)
    holed = without(path, container, 2.0, 3.5)

    _, (whole,) = decode_spans(path.read_bytes(), path.name, [(4.5, 5.5)])
    stream, (gap, behind) = decode_spans(holed, path.name, [(2.3, 3.3), (4.5, 5.5)])

    assert not np.any(gap)
    tick_s = 0.001 if container in ("webm", "matroska") else 0.0  # of its timestamps
    assert abs(lag(behind, whole)) <= round(tick_s / 2 * rate) + 2
    copy = path.with_suffix(f".holed.{container}")
    copy.write_bytes(holed)
    assert abs(lag(behind, found_by_ffmpeg(copy, 4.5, exact=False))) <= round(tick_s / 2 * rate)
    assert stream.gap_s == pytest.approx(1.5, abs=0.11)  # packets of up to 93 ms
    assert (stream.damaged_s, stream.complete) == (0.0, True)


def test_the_gap_of_each_clip_is_recorded(written, tmp_path):
    cache = Cache(tmp_path / "cache")
    holed = without(written("webm", "libopus", 48_000), "webm", 2.0, 3.5)
    clips = [clip(f"a/b@{start}", audio=None, start_s=float(start), end_s=start + 2.5) for start in (0, 1, 4)]
    recording = Recording(Media("https://host/a.webm", sha256=cache.put_blob(holed)), tuple(clips))

    rows = list(prepare(recording, config=PrepareConfig(), cache=cache))

    assert [round(row.audio.gap_s, 1) for row in rows] == [0.5, 1.5, 0.0]


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("matroska", "flac"), ("matroska", "libopus"), ("mov", "alac")]
)
def test_sound_that_begins_later_than_the_picture_is_padded(tmp_path, container, codec):
    (tmp_path / "source.wav").write_bytes(signals.encoded(signals.noise(3.0, sample_rate=48_000), sample_rate=48_000))
    path = tmp_path / f"late.{container}"
    picture = ("-f", "lavfi", "-i", "color=c=black:s=16x16:r=10:d=5")
    sound = (
        "-itsoffset",
        2,
        "-i",
        tmp_path / "source.wav",
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c:v",
        "mpeg4",
        "-c:a",
        codec,
    )
    run_ffmpeg(*picture, *sound, "-f", container, path)

    stream, (before, behind) = decode_spans(path.read_bytes(), path.name, [(0.0, 1.9), (3.0, 4.0)])

    theirs = np.frombuffer(
        run_ffmpeg("-i", path, "-ss", 3, "-t", 1, "-map", "0:a:0", "-f", "f32le", "pipe:1"), np.float32
    )
    assert not np.any(before)
    np.testing.assert_allclose(behind[0], theirs[:48_000], atol=5e-5)
    assert stream.gap_s == pytest.approx(2.0, abs=0.03)


def test_the_track_that_is_marked_as_default_is_read(tmp_path):
    for name, hertz in (("first", 300), ("second", 900)):
        (tmp_path / f"{name}.wav").write_bytes(signals.encoded(signals.sine(1.0, frequency_hz=hertz)))
    path = tmp_path / "two.mka"
    given = ("-i", tmp_path / "first.wav", "-i", tmp_path / "second.wav", "-map", "0", "-map", "1", "-c:a", "flac")
    run_ffmpeg(*given, "-disposition:a:0", "0", "-disposition:a:1", "default", path)

    _, (waveform,) = decode_spans(path.read_bytes(), path.name, [(0.0, None)])

    assert np.argmax(np.abs(np.fft.rfft(waveform[0]))) == 900  # bins of 1 Hz


def test_channels_that_change_within_a_stream_are_mixed_down_part_by_part(tmp_path):
    parts = []
    for name, channels in (("mono", 1), ("stereo", 2)):
        (tmp_path / f"{name}.wav").write_bytes(
            signals.encoded(signals.sine(1.0, amplitude=0.25 * channels, num_channels=channels))
        )
        parts.append(tmp_path / f"{name}.ts")
        run_ffmpeg("-i", tmp_path / f"{name}.wav", "-c:a", "mp2", "-f", "mpegts", parts[-1])
    joined = b"".join(part.read_bytes() for part in parts)

    stream, (waveform,) = decode_spans(joined, "joined.ts", [(0.0, None)])

    assert stream.duration_s == pytest.approx(2.0, abs=0.1)
    assert len(waveform) == 1
    levels = [np.abs(waveform[0, first : first + 22_050]).max() for first in (11_025, 55_125)]
    assert levels == pytest.approx([0.25, 0.5], abs=0.03)
