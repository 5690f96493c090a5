"""Spans of a file: the same samples as a cut of the whole, in memory for the spans alone."""

import io
import tracemalloc

import av
import numpy as np
import pytest
import signals
from hypothesis import given, settings
from hypothesis import strategies as st
from test_audio import FORMATS, written

from tutti.datasets import audio
from tutti.datasets.decode_error import DecodeError
from tutti.datasets.decoder import decode_spans
from tutti.datasets.decoding import block as limits


@pytest.fixture(scope="module")
def files():
    """Every format: four stereo seconds of noise, and the whole of it decoded."""
    made = {name: written(name, signals.noise(4.0, sample_rate=FORMATS[name][4], num_channels=2)) for name in FORMATS}
    return {name: (data, audio.decode(data, name)) for name, data in made.items()}


def a_span():
    end_s = st.one_of(st.none(), st.floats(0.0, 6.0))
    return st.tuples(st.floats(0.0, 5.0), end_s)


@pytest.mark.parametrize("name", FORMATS)
@given(spans=st.lists(a_span(), max_size=4), block=st.sampled_from([1_000, 7_777, 65_536, 1 << 22]))
@settings(max_examples=15, deadline=None)
def test_spans_are_the_same_samples_as_excerpts_of_the_whole_file(files, name, spans, block):
    data, whole = files[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "BLOCK_SAMPLES", block)  # spans across many blocks, and within one
        stream, waveforms = decode_spans(data, name, spans)

    assert stream.num_samples == whole.waveform.shape[1]
    assert (stream.num_channels, stream.duration_s) == (2, whole.duration_s)
    assert (stream.sample_rate, stream.codec, stream.complete) == (whole.sample_rate, whole.codec, True)
    for (start_s, end_s), waveform in zip(spans, waveforms, strict=True):
        assert np.array_equal(waveform, audio.excerpt(whole, start_s, end_s))


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_add_up_to_what_one_read_of_the_whole_file_gives(files, name, monkeypatch):
    data, whole = files[name]
    monkeypatch.setattr(limits, "BLOCK_SAMPLES", 5_000)

    _, (waveform,) = decode_spans(data, name, [(0.0, None)])

    assert np.array_equal(waveform, whole.waveform)


def test_a_span_that_begins_before_the_file_holds_what_there_is():
    waveform = signals.noise(1.0, sample_rate=16_000)

    _, (found, none) = decode_spans(
        signals.encoded(waveform, sample_rate=16_000, subtype="FLOAT"), "a", [(-0.5, 0.25), (-0.5, -0.1)]
    )

    assert np.array_equal(found, waveform[:, :4_000])
    assert none.shape == (1, 0)


@pytest.mark.parametrize("position", [5, 43_000])
def test_a_sample_that_is_not_finite_is_an_error_wherever_it_lies(position, monkeypatch):
    monkeypatch.setattr(limits, "BLOCK_SAMPLES", 4_096)
    waveform = signals.sine(1.0)
    waveform[0, position] = np.nan

    with pytest.raises(DecodeError, match=r"^a\.wav: holds samples that are not finite"):
        decode_spans(signals.encoded(waveform, subtype="FLOAT"), "a.wav", [(0.4, 0.5)])


HALF_HOUR_S = 1_800


def half_an_hour(container):
    """Stereo Opus: one encoded minute, its packets again and again."""
    minute = signals.webm(signals.noise(60.0, sample_rate=48_000, num_channels=2, amplitude=0.01))
    out = io.BytesIO()
    with av.open(io.BytesIO(minute)) as source, av.open(out, "w", format=container) as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        packets = [packet for packet in source.demux(source.streams.audio[0]) if packet.size]
        step = packets[2].pts - packets[1].pts  # the first is shorter by what the decoder skips
        contents = [bytes(packet) for packet in packets]
        for number in range(len(contents) * HALF_HOUR_S // 60):
            packet = av.Packet(contents[number % len(contents)])
            packet.stream, packet.time_base = stream, packets[0].time_base
            packet.pts, packet.duration = number * step, step
            packet.dts = packet.pts
            target.mux(packet)
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(("container", "used"), [("ogg", "libsndfile"), ("webm", "pyav")])
def test_ten_seconds_out_of_half_an_hour_take_memory_for_seconds_not_for_half_an_hour(container, used):
    data = half_an_hour(container)
    tracemalloc.start()  # numpy reports its arrays to it
    try:
        stream, (waveform,) = decode_spans(data, "long", [(900.0, 910.0)])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert stream.decoder == used
    assert stream.duration_s == pytest.approx(HALF_HOUR_S, abs=1.0)
    assert waveform.shape == (2, 480_000)
    assert peak_bytes < 80 * 2**20  # some blocks of 16 MiB at once; all samples would be 659 MiB


# --- complete


def test_a_webm_or_mp4_cut_anywhere_after_its_header_is_incomplete_or_undecodable():
    found = {}
    for kind, make in (("webm", signals.webm), ("m4a", signals.m4a)):
        rate = 48_000 if kind == "webm" else 44_100
        data = make(signals.noise(2.0, sample_rate=rate), sample_rate=rate)
        assert audio.decode(data, kind).complete
        for share in (0.3, 0.6, 0.95):
            try:
                found[kind, share] = audio.decode(data[: int(len(data) * share)], kind).complete
            except DecodeError:
                found[kind, share] = False

    assert set(found.values()) == {False}
    assert len(found) == 6


def test_a_webm_written_as_a_stream_is_complete():
    data = signals.webm(signals.noise(1.0, sample_rate=48_000))
    at = data.index(b"\x18\x53\x80\x67") + 4

    assert audio.decode(data[:at] + b"\x01" + b"\xff" * 7 + data[at + 8 :], "live.webm").complete


def test_a_flac_that_promises_more_samples_than_it_holds_is_incomplete():
    data = bytearray(signals.encoded(signals.noise(1.0), kind="FLAC"))
    data[22:26] = (2**31 - 1).to_bytes(4, "big")  # STREAMINFO: total samples, the lower 32 of 36 bits

    stream, _ = decode_spans(bytes(data), "claims.flac", [])

    assert (stream.num_samples, stream.complete) == (44_100, False)
