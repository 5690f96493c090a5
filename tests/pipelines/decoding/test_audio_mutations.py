"""Thousands of ways to damage an audio file: the decoder's process answers, and that with facts or a DecodeError.

`TUTTI_AUDIO_MUTATIONS=30000` sets how many; the same seed gives the same ones.
"""

import math
import os
import random
import struct

import signals
from audio_mutations import mutated
from hostile import ima_adpcm, m4a_with_external_data, not_finite, rf64

from tutti.datasets.decode_error import DecodeError
from tutti.pipelines.decoding import sandbox
from tutti.pipelines.decoding.sandbox import Limits

COUNT = int(os.environ.get("TUTTI_AUDIO_MUTATIONS", "400"))
LIMITS = Limits(memory_bytes=2 << 30, cpu_s=20.0)
LIBSNDFILE = {
    "wav": ("WAV", "PCM_16"), "wavex": ("WAVEX", "FLOAT"), "rf64": ("RF64", "PCM_24"), "w64": ("W64", "PCM_16"),
    "alaw": ("WAV", "ALAW"), "gsm": ("WAV", "GSM610"), "g721": ("WAV", "G721_32"), "ms": ("WAV", "MS_ADPCM"),
    "aiff": ("AIFF", "PCM_16"), "au": ("AU", "ULAW"), "caf": ("CAF", "PCM_16"), "alac": ("CAF", "ALAC_16"),
    "flac": ("FLAC", "PCM_16"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"), "voc": ("VOC", "PCM_16"), "nist": ("NIST", "PCM_16"),
}  # fmt: skip
PYAV = {
    "webm": ("webm", "libopus"),"mkv": ("matroska", "flac"),
    "m4a": ("ipod", "aac"), "m4a alac": ("ipod", "alac"), "mov": ("mov", "pcm_s16le"), "mp4 opus": ("mp4", "libopus"),
    "adts": ("adts", "aac"), "oga": ("ogg", "flac"),
}  # fmt: skip


def files():
    """A third of a second in every format, and files that are odd from the beginning."""
    made = {}
    for name, (kind, subtype) in LIBSNDFILE.items():
        rate = 8_000 if name in ("gsm", "g721") else 48_000 if name == "opus" else 44_100
        num_channels = 1 if name in ("gsm", "g721") else 2
        noise = signals.noise(0.3, sample_rate=rate, num_channels=num_channels)
        made[name] = signals.encoded(noise, sample_rate=rate, kind=kind, subtype=subtype)
    noise = signals.noise(0.3, sample_rate=48_000, num_channels=2)
    for name, (container, codec) in PYAV.items():
        made[name] = signals.muxed(noise, 48_000, container=container, codec=codec, tags={"title": "a"})
    made["open wav"] = signals.wav_header(num_bytes=0) + made["wav"][44:]
    made["open flac"] = made["flac"][:21] + bytes([made["flac"][21] & 0xF0]) + bytes(4) + made["flac"][26:]
    made["two oggs"] = made["vorbis"] + made["opus"]
    made["tagged mp3"] = b"ID3\x03\0\0\0\0\0\x10" + bytes(16) + made["mp3"] + b"TAG" + bytes(125)
    made["other data"] = m4a_with_external_data("/etc/passwd")
    made |= {"ima": ima_adpcm(), "nan": not_finite(math.nan), "claims": rf64(1 << 40, 1 << 38)}
    made["tall rate"] = made["wav"][:24] + struct.pack("<I", 700_000) + made["wav"][28:]
    return made


def prepared(data):
    """The facts of the file and of its clips, as a build asks for them; a DecodeError is its text."""
    spans = [[0.0, 0.1], [0.05, None]]
    try:
        answer, clips = sandbox.stream(
            "prepare", {"name": "it", "config": {}, "spans": spans}, [data], lambda part, _: part["facts"], 2, LIMITS
        )
    except DecodeError as error:
        return str(error)
    return answer, clips


def test_a_mutated_file_is_decoded_or_is_a_decode_error_of_one_line():
    rng, originals = random.Random(0), files()
    outcomes = set()
    for number in range(COUNT):
        name = sorted(originals)[number % len(originals)]
        found = prepared(mutated(originals[name], rng, [originals["wav"], originals["vorbis"], originals["mp3"]]))
        outcomes.add(type(found))
        if isinstance(found, str):
            assert found.startswith("it: "), found
            assert found.isprintable(), found
            continue
        answer, clips = found
        assert math.isfinite(answer["duration_s"]), name
        assert answer["complete"] in (True, False), name
        for facts in clips:
            assert 1 <= facts["num_channels"] <= 32, name
            assert 4_000 <= facts["native_sample_rate"] <= 768_000, name
            assert 0 <= facts["damaged_s"] <= answer["duration_s"] + 0.1, name
            assert 0 <= facts["gap_s"] <= answer["duration_s"] + 0.1, name
            assert facts["num_samples"] > 0, name
    assert outcomes == {str, tuple}
