"""Containers, codecs and faults against ffmpeg: how many samples, where they lie, and what is said of the file."""

from pathlib import Path

import numpy as np
import pytest
import signals
from ffmpeg import run_ffmpeg

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.decoder import decode_spans, each_span

WAVEFORM = signals.noise(6.0, num_channels=2)
FAULTS = {
    "whole": lambda data: data,
    "cut at 60 %": lambda data: data[: len(data) * 6 // 10],
    "a tag behind": lambda data: data + b"TAG" + bytes(125),
    "400 bytes of zeros in the middle": lambda data: data[: len(data) // 2] + bytes(400) + data[len(data) // 2 + 400 :],
    "3,000 bytes lost in the middle": lambda data: data[: len(data) // 2] + data[len(data) // 2 + 3_000 :],
}
# complete: all is there. truncated: breaks off. damaged: a part within is lost, the rest is in its place.
# unnoticed: the format has nothing that would show it, and ffmpeg notices nothing either. refused: not readable.
C, T, D, U, R = "complete", "truncated", "damaged", "unnoticed", "refused"
VERDICTS = {
    ("wav", "pcm_s16le"): (C, T, C, U, T),
    ("wav", "pcm_f32le"): (C, T, C, U, T),
    ("wav", "pcm_mulaw"): (C, T, C, U, T),
    ("w64", "pcm_s16le"): (C, T, C, U, T),
    ("aiff", "pcm_s24be"): (C, T, C, U, T),
    ("au", "pcm_s16be"): (C, T, C, U, T),
    ("caf", "pcm_s16be"): (C, T, C, U, T),
    ("flac", "flac"): (C, T, C, D, D),
    ("mp3", "libmp3lame"): (C, T, C, D, D),
    ("ogg", "libvorbis"): (C, T, C, D, D),
    ("ogg", "libopus"): (C, T, C, D, D),
    ("webm", "libopus"): (C, T, C, D, D),
    ("webm", "libvorbis"): (C, T, C, D, D),
    ("matroska", "flac"): (C, T, C, D, D),
    ("ipod", "aac"): (C, R, C, D, R),  # its table of samples is at the end
    ("mp4", "alac"): (C, R, C, D, R),
}
CASES = [(*key, fault, verdict) for key, row in VERDICTS.items() for fault, verdict in zip(FAULTS, row, strict=True)]
# Sample counts that differ from ffmpeg's, each with its reason; all others are equal.
EXPLAINED = {
    ("ipod", "aac", "whole"): "FFmpeg 9 cuts the last packet to the edit list, the FFmpeg 8 of PyAV plays all of it",
    ("ipod", "aac", "a tag behind"): "likewise",
    ("flac", "flac", "cut at 60 %"): "silence stands for the frame that is cut in two",
    ("au", "pcm_s16be", "a tag behind"): "ffmpeg plays the tag",
    ("mp3", "libmp3lame", "cut at 60 %"): "ffmpeg plays the beginning of a frame of which the end is missing",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "source.wav").write_bytes(signals.encoded(WAVEFORM))

    def make(container: str, codec: str) -> bytes:
        path = folder / f"{codec}.{container}"
        if not path.exists():
            rate = 48_000 if codec == "libopus" else 44_100
            run_ffmpeg("-i", folder / "source.wav", "-ar", rate, "-c:a", codec, "-strict", "-2", "-f", container, path)
        return path.read_bytes()

    return make


def counted_by_ffmpeg(data: bytes, path: Path) -> int:
    path.write_bytes(data)
    return len(run_ffmpeg("-i", path, "-map", "0:a:0", "-f", "f32le", "pipe:1")) // 8


@pytest.mark.parametrize(("container", "codec", "fault", "verdict"), CASES)
def test_every_fault_is_noticed_and_costs_what_it_touches(written, tmp_path, container, codec, fault, verdict):
    data = FAULTS[fault](written(container, codec))
    name = f"a.{container}"
    if verdict == R:
        with pytest.raises(DecodeError, match=r"^a\."):
            decode_spans(data, name, [(0.0, None)])
        return

    stream, (found,) = decode_spans(data, name, [(0.0, None)])

    told = T if not stream.complete else D if stream.damaged_s else C
    assert told == {U: C}.get(verdict, verdict)
    if verdict != D and (container, codec, fault) not in EXPLAINED:
        assert stream.num_samples == counted_by_ffmpeg(data, tmp_path / name)
    if verdict == D:
        assert 0 < stream.damaged_s < 5.5
        assert stream.num_samples == pytest.approx(
            decode_spans(written(container, codec), name, [])[0].num_samples, abs=500
        )
        assert found.shape[1] == stream.num_samples


@pytest.mark.parametrize(("container", "codec"), [key for key, row in VERDICTS.items() if D in row])
def test_behind_what_is_damaged_all_is_in_its_place_and_clips_there_are_well(written, container, codec):
    whole = written(container, codec)
    damaged = FAULTS["400 bytes of zeros in the middle"](whole)
    late = (5.2, 5.8)
    _, (expected,) = decode_spans(whole, "a", [late])
    kept, facts = {}, {}

    def take(place, waveform, so_far):
        kept[place], facts[place] = waveform, so_far

    each_span(damaged, "a", [(0.2, 0.8), late], take)

    middle = expected[0, 2_000:-2_000]
    found = np.correlate(kept[1][0], middle)
    tick = 48 if container in ("webm", "matroska") else 0  # timestamps of a millisecond
    assert abs(int(np.argmax(found)) - 2_000) <= tick
    assert found.max() > 0.9 * float(np.dot(middle, middle))
    # A wrong checksum of a Matroska cluster, which lasts five seconds, does not say which block it is.
    assert (facts[0].damaged_s, facts[0].complete) == (0.6 if container == "matroska" else 0.0, True)
