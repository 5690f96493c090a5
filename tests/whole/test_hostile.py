"""Hostile media end as rejected clips with a reason, in bounded time and memory; nothing else is touched."""

import ast
import http.server
import io
import os
import threading
import time
import zipfile

import av
import hostile
import numpy as np
import psutil
import pytest
import signals
from conftest import ROOT
from rows import clip
from test_imports import FILES

from tutti.datasets import audio
from tutti.datasets.archive import open_archive
from tutti.datasets.decode_error import DecodeError
from tutti.datasets.record import Clip, Media, Recording
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding import sandbox
from tutti.pipelines.stages.clean import CleanConfig, clean
from tutti.pipelines.stages.prepare import PrepareConfig, prepare

MP3 = signals.encoded(signals.noise(1.0), kind="MP3", subtype="MPEG_LAYER_III")
OGG = signals.encoded(signals.noise(4.0), kind="OGG", subtype="VORBIS")
WEBM = signals.webm(signals.noise(4.0, sample_rate=48_000))
M4A = signals.m4a(signals.noise(4.0))
FLAC = signals.encoded(signals.noise(4.0), kind="FLAC")
WAV = signals.encoded(signals.noise(4.0))
PLAYLIST = hostile.playlist("file:///etc/passwd")

# name -> (file, the reason of its row after prepare and clean, what its detail holds)
MEDIA = {
    "empty": (b"", "undecodable", "Format not recognised"),
    "truncated wav": (WAV[: len(WAV) // 2], "truncated", ""),
    "truncated ogg": (OGG[:-100], "truncated", ""),
    "truncated webm": (WEBM[: len(WEBM) * 2 // 3], "truncated", ""),
    "truncated m4a": (M4A[: len(M4A) // 2], "undecodable", "Invalid data"),
    "truncated flac": (FLAC[:3_000], "undecodable", ""),
    "wav that claims 2^31 frames": (
        signals.wav_header(num_bytes=0xFFFFFFFE, riff_bytes=0xFFFFFFFF) + bytes(3_200), "too_short", "",
    ),
    "rf64 that claims 2^61 frames": (hostile.rf64(1 << 62, 1 << 61), "too_short", ""),
    "flac that claims 2^31 frames": (FLAC[:22] + b"\x7f\xff\xff\xff" + FLAC[26:], "truncated", ""),
    "65,535 channels": (signals.wav_header(num_channels=65_535) + bytes(3_200), "undecodable", "Too many channels"),
    "rate 0": (signals.wav_header(sample_rate=0) + bytes(3_200), "undecodable", ""),
    "rate 4 GHz": (signals.wav_header(sample_rate=4_000_000_000) + bytes(3_200), "undecodable", ""),
    "NaN": (hostile.not_finite(np.nan), "undecodable", "not finite"),
    "infinity": (hostile.not_finite(np.inf), "undecodable", "not finite"),
    "ima adpcm, blocks of 0 bytes": (hostile.ima_adpcm(block_align=0), "undecodable", ""),
    "ima adpcm, blocks of 1 byte": (hostile.ima_adpcm(block_align=1), "undecodable", ""),
    "ima adpcm, blocks of 64 KiB": (hostile.ima_adpcm(block_align=65_535), "undecodable", ""),
    "ima adpcm, 0 samples a block": (hostile.ima_adpcm(samples_per_block=0), "undecodable", ""),
    "ima adpcm, 65,535 samples a block": (hostile.ima_adpcm(samples_per_block=65_535), "undecodable", ""),
    "ima adpcm, 255 channels": (hostile.ima_adpcm(channels=255), "undecodable", ""),
    "png renamed": (b"\x89PNG\r\n\x1a\n" + bytes(500), "undecodable", "Format not recognised"),
    "id3 that claims 256 MiB": (hostile.id3((1 << 28) - 1) + MP3, "undecodable", "Format not recognised"),
    "hls playlist": (PLAYLIST, "undecodable", "Format not recognised"),
    "hls playlist behind an mp4 brand": (b"\0\0\0\x18ftypM4A \0\0\0\0" + PLAYLIST, "undecodable", "Invalid data"),
    "hls playlist behind an ebml magic": (b"\x1a\x45\xdf\xa3" + PLAYLIST, "undecodable", "Invalid data"),
    "concat list": (b"ffconcat version 1.0\nfile /etc/passwd\n", "undecodable", "Format not recognised"),
    "sdp": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n", "undecodable", "Format not recognised"),
    "m4a whose samples lie elsewhere": (
        hostile.m4a_with_external_data("/etc/passwd"), "undecodable", "no decodable audio",
    ),
}  # fmt: skip


UNBELIEVABLE = {
    "flac that claims 2^36 frames": (FLAC[:21] + b"\xff" * 5 + FLAC[26:], 4 * 44_100),
    "webm that claims 2^55 bytes": (hostile.webm_that_claims(b"\x18\x53\x80\x67", 1 << 55), 48_000),
}


def judged(cache: Cache, data: bytes, name: str):
    """The row of a file of one clip after prepare and clean."""
    recording = Recording(Media(f"https://host/{name}", sha256=cache.put_blob(data)), (clip("a/b@0", audio=None),))
    (row,) = prepare(recording, config=PrepareConfig(), cache=cache)
    return clean(row, config=CleanConfig()) if isinstance(row, Clip) else row


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", MEDIA)
def test_hostile_media_are_rejected_with_a_reason_in_bounded_time_and_memory(cache, name):
    data, reason, detail = MEDIA[name]
    assert isinstance(judged(cache, signals.encoded(signals.noise(2.0)), "good"), Clip)  # the child is warm
    start_s = time.monotonic()

    row = judged(cache, data, name)

    assert (row.reason, detail in row.detail) == (reason, True)
    assert time.monotonic() - start_s < 5.0
    assert all(child.memory_info().rss < 400 * 2**20 for child in psutil.Process().children())
    assert isinstance(judged(cache, signals.encoded(signals.noise(2.0, seed=7)), "sibling"), Clip)


@pytest.mark.parametrize("name", UNBELIEVABLE)
def test_a_size_that_cannot_be_believed_costs_nothing_where_all_sound_is_there(cache, name):
    data, num_samples = UNBELIEVABLE[name]

    assert judged(cache, data, name).audio.native_num_samples == num_samples


def test_a_large_tag_does_not_make_sound_audio_undecodable(cache):
    row = judged(cache, hostile.id3(5_000_000) + bytes(5_000_000) + MP3, "cover.mp3")

    assert (row.audio.codec, row.audio.native_num_samples) == ("MP3/MPEG_LAYER_III", 44_100)


@pytest.mark.parametrize("element", [b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\x63\xa2"], ids=["T", "C", "P"])
def test_a_webm_element_that_claims_everything_takes_no_memory_for_it(cache, element):
    data = hostile.webm_that_claims(element, 1 << 55)
    try:
        found = sandbox.probe(data, "a.webm").duration_s
    except DecodeError as error:
        found = str(error)

    assert found == 1.0 or "a.webm: " in found
    assert all(child.memory_info().rss < 400 * 2**20 for child in psutil.Process().children())


# --- what media name is never opened


@pytest.fixture
def visits():
    """Requests that a real server on the loopback interface gets; its address is the first entry."""
    found = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # the name that the library asks for
            found.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.append(f"http://127.0.0.1:{server.server_port}/stolen.ts")
    yield found
    server.shutdown()
    server.server_close()


def test_a_playlist_reaches_no_server_under_any_disguise(visits):
    (address,) = visits
    content = hostile.playlist(address)
    disguises = [content, b"\0\0\0\x18ftypM4A \0\0\0\0" + content, b"\x1a\x45\xdf\xa3" + content, b"RIFF" + content]
    for data in disguises:
        for decode in (audio.decode, sandbox.probe):
            with pytest.raises(DecodeError):
                decode(data, "song.m4a")

    assert visits == [address]


def test_samples_that_lie_in_another_file_are_never_looked_for():
    data = hostile.m4a_with_external_data("/etc/passwd")
    asked = []

    def io_open(url, *_):
        asked.append(url)
        raise PermissionError

    # The demuxer would open it if it were let: the file is hostile indeed.
    careless = {"enable_drefs": "1", "use_absolute_path": "1"}
    with (
        pytest.raises(PermissionError),
        av.open(io.BytesIO(data), format="mp4", container_options=careless, io_open=io_open) as container,
    ):
        list(container.decode(audio=0))
    assert asked == ["passwd"]

    with pytest.raises(DecodeError, match=r"^a\.m4a: holds no decodable audio"):
        audio.decode(data, "a.m4a")


# --- nothing that we read can hold code


class Payload:
    """Unpickled, it creates a file."""

    def __init__(self, canary):
        self._canary = canary

    def __reduce__(self):
        return (os.mkdir, (str(self._canary),))


def test_a_pickle_in_an_npz_is_never_executed(tmp_path):
    canary = tmp_path / "canary"
    features, packed = io.BytesIO(), io.BytesIO()
    np.savez(features, X=np.zeros(3), sample_key=np.array([Payload(canary)], dtype=object))
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("openmic-2018.npz", features.getvalue())
    path = tmp_path / "archive"
    path.write_bytes(packed.getvalue())

    member = io.BytesIO(open_archive(path, "openmic.zip").read("openmic-2018.npz"))
    with np.load(member) as arrays:
        assert arrays["X"].tolist() == [0.0, 0.0, 0.0]
        with pytest.raises(ValueError, match="allow_pickle=False"):
            arrays["sample_key"]
    assert not canary.exists()

    features.seek(0)
    with np.load(features, allow_pickle=True) as arrays:
        arrays["sample_key"]
    assert canary.exists()  # the payload works where it is let


UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def unpicklings(source):
    """Every way in which a file of ours could execute what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"imports {name}" for name in names if name.split(".")[0] in UNPICKLERS]
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            if keywords.get("allow_pickle", False) is not False:
                found.append("allow_pickle")
            if ast.unparse(node.func) == "torch.load" and keywords.get("weights_only") is not True:
                found.append("torch.load without weights_only=True")
            if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                found.append(node.func.id)
    return found


def test_none_of_our_packages_can_unpickle_or_execute_what_it_reads():
    found = {str(path): unpicklings((ROOT / path).read_text(encoding="utf-8")) for path in FILES}

    assert {path: ways for path, ways in found.items() if ways} == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "np.load(f, allow_pickle=True)", "torch.load(f)", "eval(text)",
     "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=flag)"],
)  # fmt: skip
def test_a_way_to_execute_data_is_found(source):
    assert len(unpicklings(source)) == 1
