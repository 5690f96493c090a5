"""The coarse fingerprint: near for the same audio in another encoding, far for other audio."""

import io

import numpy as np
import pytest
import signals
import soundfile

from tutti.datasets.audio import to_int16
from tutti.datasets.manifest import read_manifest
from tutti.datasets.shard import read_shard
from tutti.datasets.sketch import MAX_DISTANCE, distance, sketch

RATE = 16_000


def melody(seed):
    """Ten seconds of plucked notes, int16."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(4_000) / RATE
    decay = np.exp(-8 * time_s)
    notes = [
        sum(np.sin(2 * np.pi * hz * k * time_s) / k for k in range(1, 8)) * decay for hz in rng.uniform(110, 880, 40)
    ]
    return to_int16((0.2 * np.concatenate(notes)).astype(np.float32))


def coded(samples, **encoding):
    stream = io.BytesIO()
    soundfile.write(stream, samples.astype(np.float32) / 32_768, RATE, **encoding)
    decoded, _ = soundfile.read(io.BytesIO(stream.getvalue()), dtype="float32")
    return to_int16(decoded)


@pytest.mark.parametrize("encoding", [{"format": "MP3"}, {"format": "OGG", "subtype": "VORBIS"}], ids=["mp3", "ogg"])
@pytest.mark.parametrize("seed", range(5))
def test_another_encoding_of_the_same_audio_is_near(encoding, seed):
    samples = melody(seed)

    assert distance(sketch(samples, RATE), sketch(coded(samples, **encoding), RATE)) <= MAX_DISTANCE


@pytest.mark.parametrize(
    "change", [lambda x: x // 4, lambda x: -x, lambda x: x[160:]], ids=["quieter", "turned", "10 ms"]
)
def test_level_polarity_and_a_small_shift_hardly_matter(change):
    samples = melody(0)

    assert distance(sketch(samples, RATE), sketch(change(samples), RATE)) <= MAX_DISTANCE


def test_other_audio_is_far():
    sketches = [sketch(melody(seed), RATE) for seed in range(30)]

    assert min(distance(a, b) for i, a in enumerate(sketches) for b in sketches[:i]) > MAX_DISTANCE


@pytest.mark.slow
def test_no_two_of_the_real_clips_are_near(mirror_build):
    sketches = [row["audio"]["sketch"] for row in read_manifest(mirror_build).clip_rows() if row["status"] == "kept"]

    assert len(sketches) == 319
    assert min(distance(a, b) for i, a in enumerate(sketches) for b in sketches[:i]) > MAX_DISTANCE


@pytest.mark.slow
def test_real_clips_as_mp3_at_64_kbit_are_near(mirror_build):
    distances = []
    for path in sorted((mirror_build / "current" / "data").glob("train-*.parquet")):
        for row in list(read_shard(path, ["audio"]))[::4]:
            samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
            smaller = coded(samples, format="MP3", bitrate_mode="CONSTANT", compression_level=0.6)
            distances.append(distance(sketch(samples, RATE), sketch(smaller, RATE)))

    assert len(distances) > 50
    assert np.mean(np.array(distances) <= MAX_DISTANCE) >= 0.98


@pytest.mark.parametrize("samples", [np.zeros(RATE, np.int16), np.zeros(0, np.int16), np.ones(100, np.int16)])
def test_silence_and_less_than_a_frame_have_the_sketch_of_nothing(samples):
    assert sketch(samples, RATE) == "0" * 16


def test_a_sketch_is_the_same_on_every_call():
    samples = to_int16(signals.sine(3.0, frequency_hz=440, sample_rate=RATE)[0])

    assert sketch(samples, RATE) == sketch(samples.copy(), RATE)
    assert len(sketch(samples, RATE)) == 16


@pytest.mark.parametrize("sample_rate", [4_000, 8_000, 22_050, 48_000])
def test_other_sample_rates_have_sketches_too(sample_rate):
    samples = melody(0)

    assert len(sketch(samples, sample_rate)) == 16
    assert distance(sketch(samples, sample_rate), sketch(samples // 2, sample_rate)) <= MAX_DISTANCE
