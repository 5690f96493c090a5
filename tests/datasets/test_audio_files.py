"""One list of suffixes: each is of a file that the pinned decoders read, and is found wherever audio is looked for."""

import numpy as np
import pytest
import signals

from tutti.datasets.audio import decode
from tutti.datasets.audio_files import AUDIO_SUFFIXES, is_audio_name
from tutti.datasets.decoding.formats import FORMATS
from tutti.pipelines.acquisition.own_index import index_of

WAVEFORM = signals.sine(1.0, sample_rate=48_000)


def encoded(kind, subtype):
    return signals.encoded(WAVEFORM, sample_rate=48_000, kind=kind, subtype=subtype)


def muxed(container, codec):
    return signals.muxed(WAVEFORM, 48_000, container=container, codec=codec, tags={})


ENCODED = {
    ".webm": lambda: signals.webm(WAVEFORM),
    ".m4a": lambda: signals.m4a(WAVEFORM, sample_rate=48_000),
    ".opus": lambda: encoded("OGG", "OPUS"),
    ".ogg": lambda: encoded("OGG", "VORBIS"),
    ".mp3": lambda: encoded("MP3", "MPEG_LAYER_III"),
    ".flac": lambda: encoded("FLAC", "PCM_16"),
    ".wav": lambda: encoded("WAV", "PCM_16"),
    ".mp4": lambda: signals.m4a(WAVEFORM, sample_rate=48_000),
    ".mka": lambda: muxed("matroska", "libopus"),
    ".mkv": lambda: muxed("matroska", "flac"),
    ".oga": lambda: encoded("OGG", "VORBIS"),
    ".mp2": lambda: muxed("mp2", "mp2"),
    ".aif": lambda: encoded("AIFF", "PCM_16"),
    ".aiff": lambda: encoded("AIFF", "PCM_24"),
    ".aifc": lambda: encoded("AIFF", "FLOAT"),
    ".au": lambda: encoded("AU", "PCM_16"),
    ".caf": lambda: encoded("CAF", "PCM_16"),
    ".w64": lambda: encoded("W64", "PCM_16"),
    ".aac": lambda: muxed("adts", "aac"),
    ".mov": lambda: muxed("mov", "alac"),
    ".3gp": lambda: muxed("3gp", "aac"),
    ".tta": lambda: muxed("tta", "tta"),
    ".wma": lambda: muxed("asf", "wmav2"),
}


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_a_file_of_every_suffix_is_decoded(suffix):
    found = decode(ENCODED[suffix](), f"a{suffix}")

    assert found.sample_rate == 48_000
    assert found.duration_s == pytest.approx(1.0, abs=0.06)  # lossy codecs pad
    middle = found.waveform[0, 12_000:36_000]  # codecs overshoot at the edges
    assert np.sqrt(np.mean(np.square(middle))) == pytest.approx(0.5 / np.sqrt(2), abs=0.02)


def test_the_table_of_formats_lists_every_suffix_once():
    assert sorted(" ".join(row.suffixes for row in FORMATS).split()) == sorted(AUDIO_SUFFIXES)


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_a_video_of_every_suffix_is_found_in_a_folder_of_ones_own(tmp_path, suffix):
    (tmp_path / f"-abc_DEF123{suffix}").touch()

    assert index_of((str(tmp_path),)).videos == (f"-abc_DEF123/0/-abc_DEF123{suffix}",)


@pytest.mark.parametrize(
    ("name", "is_audio"),
    [("a.FLAC", True), ("a.b.ogg", True), ("ogg", False), (".wav", False), ("a.mid", False), ("._a.wav", False)],
)
def test_the_suffix_tells_whether_a_file_may_hold_audio(name, is_audio):
    assert is_audio_name(name) is is_audio
