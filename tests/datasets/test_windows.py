"""Many clips of one file: each is answered when it is done, under limits of its own, with memory for one of them."""

import hashlib
import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import signals
from rows import clip

from tutti.datasets import audio
from tutti.datasets.decoder import decode_spans, each_span
from tutti.datasets.decoding import block as limits
from tutti.datasets.record import Clip, Media, Recording
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding import sandbox
from tutti.pipelines.stages.prepare import PrepareConfig, prepare

SAMPLE_RATE = 16_000


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def windows(cache, data, starts_s, length_s):
    clips = tuple(
        clip(f"a/b@{number}", audio=None, start_s=start_s, end_s=start_s + length_s)
        for number, start_s in enumerate(starts_s)
    )
    return Recording(Media("https://host/long.wav", sha256=cache.put_blob(data)), clips)


def peak_bytes():
    (child,) = sandbox._idle
    status = Path(f"/proc/{child._process.pid}/status").read_text()
    return int(status.split("VmPeak:")[1].split()[0]) << 10


# --- in the decoder


@pytest.mark.parametrize("seed", range(5))
def test_spans_of_any_order_and_overlap_hold_the_samples_that_a_whole_decoding_has_there(seed, monkeypatch):
    monkeypatch.setattr(limits, "BLOCK_SAMPLES", 10_000)  # 15 blocks
    data = signals.encoded(signals.noise(4.6, sample_rate=SAMPLE_RATE, num_channels=2), sample_rate=SAMPLE_RATE)
    whole = audio.decode(data, "a").waveform
    rng = random.Random(seed)
    times_s = [rng.uniform(-0.5, 5.5) for _ in range(200)]
    spans = [(start, rng.choice([None, start, start + rng.uniform(-0.1, 3.0)])) for start in times_s]

    stream, found = decode_spans(data, "a", spans)

    assert stream.num_samples == whole.shape[1] == 73_600
    for (start_s, end_s), waveform in zip(spans, found, strict=True):
        first = max(round(start_s * SAMPLE_RATE), 0)
        end = whole.shape[1] if end_s is None else max(round(end_s * SAMPLE_RATE), 0)
        assert waveform.shape[0] == 2
        np.testing.assert_array_equal(waveform, whole[:, first:end])


def test_a_span_is_given_away_when_its_end_is_decoded_and_no_block_is_kept_for_it(monkeypatch):
    monkeypatch.setattr(limits, "BLOCK_SAMPLES", SAMPLE_RATE)  # a second
    data = signals.encoded(signals.noise(10.0, sample_rate=SAMPLE_RATE), sample_rate=SAMPLE_RATE)
    decoded_s = []

    def take(place, waveform, so_far):
        decoded_s.append((place, so_far.duration_s))

    each_span(data, "a", [(8.0, 9.0), (0.0, 1.5), (0.5, 1.0), (9.5, None), (20.0, 21.0)], take)

    assert decoded_s == [(2, 1.0), (1, 2.0), (0, 9.0), (4, 10.0), (3, 10.0)]


def test_a_file_that_breaks_off_keeps_the_clips_before_that_place():
    samples = audio.to_int16(signals.noise(100.0, sample_rate=96_000)[0])
    data = audio.encode(samples, 96_000, "flac")
    cut = {}

    stream = each_span(
        data[: len(data) * 9 // 10],  # the decoder finds out in the third block
        "a",
        [(0.0, 1.0), (85.0, 89.0), (89.0, 91.0), (95.0, None)],
        lambda place, waveform, heard: cut.__setitem__(place, (waveform.shape[1], heard.complete)),
    )

    assert stream.num_samples == pytest.approx(90 * 96_000, abs=96_000 // 10)
    assert not stream.complete
    assert (cut[0], cut[1], cut[2][1], cut[3]) == ((96_000, True), (4 * 96_000, True), False, (0, False))


# --- through the sandbox


def test_memory_of_decoder_does_not_grow_with_the_number_of_clips(cache):
    data = signals.encoded(signals.noise(40.0, sample_rate=SAMPLE_RATE), sample_rate=SAMPLE_RATE)
    peaks = []
    for count in (20, 200):
        sandbox.close()
        recording = windows(cache, data, np.linspace(0.0, 30.0, count).round(3).tolist(), 10.0)

        rows = list(prepare(recording, config=PrepareConfig(), cache=cache))

        assert len({row.audio.pcm_sha256 for row in rows}) == count
        peaks.append(peak_bytes())

    assert peaks[1] - peaks[0] < 8 * 2**20  # the samples of all are 128 MB, their files 60 MB


def test_windows_are_what_they_would_be_alone_even_with_little_memory_and_small_limits(cache, monkeypatch):
    data = signals.encoded(signals.noise(30.0, sample_rate=SAMPLE_RATE, num_channels=2), sample_rate=SAMPLE_RATE)
    starts_s = [number / 8 for number in range(200)]
    sandbox.close()
    sandbox.probe(data[:10_000])
    memory_bytes = peak_bytes() + 64 * 2**20
    sandbox.close()
    stream = sandbox.stream
    limits = sandbox.Limits(memory_bytes=memory_bytes, cpu_s=10.0, output_bytes=1 << 20)
    monkeypatch.setattr(sandbox, "stream", lambda *request, **more: stream(*request, **more, limits=limits))

    together = list(prepare(windows(cache, data, starts_s, 4.0), config=PrepareConfig(), cache=cache))

    sandbox.close()
    monkeypatch.undo()
    waveform = audio.decode(data, "a").waveform
    for start_s, row in itertools.islice(zip(starts_s, together, strict=True), 0, None, 40):
        first = round(start_s * SAMPLE_RATE)
        alone = signals.encoded(waveform[:, first : first + 4 * SAMPLE_RATE], sample_rate=SAMPLE_RATE)
        (expected,) = prepare(windows(cache, alone, [0.0], 4.0), config=PrepareConfig(), cache=cache)
        assert replace(row.audio, source_sha256="") == replace(expected.audio, source_sha256="")
    assert sum(cache.blob_path(row.audio.blob).stat().st_size for row in together) > 20 * limits.output_bytes


@pytest.mark.slow
def test_clips_that_are_together_larger_than_any_answer_may_be_are_all_prepared(cache):
    rng = np.random.default_rng(0)
    samples = rng.integers(-3_000, 3_000, 60 * 48_000, np.int16)
    starts_s = [number / 6 for number in range(290)]
    config = PrepareConfig(sample_rate=48_000, audio_format="wav")  # large files of little work

    rows = list(
        prepare(windows(cache, audio.encode(samples, 48_000, "wav"), starts_s, 10.0), config=config, cache=cache)
    )

    assert [type(row) for row in rows] == [Clip] * 290
    assert sum(cache.blob_path(row.audio.blob).stat().st_size for row in rows) > sandbox.DEFAULT_LIMITS.output_bytes
    first = round(starts_s[77] * 48_000)
    native = samples[first : first + 480_000]
    assert rows[77].audio.native_sha256 == hashlib.sha256(native.tobytes()).hexdigest()
