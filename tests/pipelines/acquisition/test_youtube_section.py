"""Sections of long videos through ffmpeg, whose silence about failures is made good (faults 5, 15, 23, 24)."""

import os

import numpy as np
import pytest
from ffmpeg import find_ffmpeg
from server import Answer
from signals import m4a, noise, webm
from videos import REFUSED, VIDEO, WEBM, folder, get, names, server, site

from tutti.datasets import audio
from tutti.pipelines.acquisition.youtube import Access, Failure

__all__ = ["folder", "server", "site"]  # fixtures


@pytest.fixture(autouse=True)
def ffmpeg_on_path(tmp_path, monkeypatch):
    """The binary of `make setup` under the name that is looked for; skips where there is none."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").symlink_to(find_ffmpeg())
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


# --- sections

LONG = noise(40.0, sample_rate=48_000)


@pytest.mark.parametrize("span", [(0.0, 2.0), (20.5, 30.5), (33.0, 40.0)])
@pytest.mark.parametrize("extension", ["webm", "m4a"])
def test_a_section_lies_where_it_says_to_the_sample(site, server, folder, extension, span):
    rate = {"webm": 48_000, "m4a": 44_100}[extension]
    media = {"webm": webm, "m4a": m4a}[extension](LONG[:, : 40 * rate], sample_rate=rate)
    server.script(site.video(VIDEO, media=media, extension=extension, duration=40.0),
                  Answer(body=media, ranges="honour"))  # fmt: skip

    found = get(folder, access=Access(media_hosts=("127.0.0.1",), section_above_s=39.0), span=span)

    assert (found.method, found.duration_s) == ("section", 40.0)
    assert 0.0 <= found.offset_s <= span[0]
    whole, section = audio.decode(media, "whole"), audio.decode(found.path.read_bytes(), "section")
    settled_s = 0.5  # a decoder that starts elsewhere has settled by then
    low, start = (round((span[0] - begin_s + settled_s) * rate) for begin_s in (found.offset_s, 0.0))
    np.testing.assert_array_equal(section.waveform[:, low : low + rate], whole.waveform[:, start : start + rate])
    assert section.duration_s < 25.0


def test_a_video_that_is_not_long_is_fetched_whole(site, server, folder):
    site.video(VIDEO, media=WEBM, duration=1.0)

    assert get(folder, access=Access(media_hosts=("127.0.0.1",), section_above_s=1.0), span=(0.0, 1.0)).method == "full"


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "http_403"), (404, "no_formats"), (429, "http_429"), (503, "http_5xx")]
)
def test_a_section_keeps_the_status_that_ffmpeg_hides(site, server, folder, status, reason):
    server.script(site.video(VIDEO, media=WEBM, duration=40.0), Answer(status=status))
    access = Access(media_hosts=("127.0.0.1",), section_above_s=10.0)

    assert get(folder, access=access, span=(10.0, 20.0)) == Failure(
        reason, f"HTTP status {status} from the media server"
    )
    assert names(folder) == []


def test_a_section_that_ffmpeg_ends_early_is_a_timeout_though_it_exits_with_0(site, server, folder):
    media = webm(LONG, sample_rate=48_000)
    path = site.video(VIDEO, media=media, duration=40.0)
    server.script(path, Answer(body=media, truncate=len(media) // 2))
    access = Access(media_hosts=("127.0.0.1",), section_above_s=10.0)

    failure = get(folder, access=access, span=(15.0, 25.0))

    assert failure.reason == "timeout"
    assert failure.detail.startswith("the section holds ")
    assert names(folder) == []


def test_a_section_of_a_playlist_or_at_a_foreign_host_is_refused(site, server, folder):
    path = site.video(VIDEO, media=WEBM, duration=40.0)
    access = Access(media_hosts=("127.0.0.1",), section_above_s=10.0)
    server.script(path, Answer(body=b"#EXTM3U\nfile:///etc/passwd\n"))
    assert get(folder, access=access, span=(10.0, 20.0)).reason == "no_formats"

    server.script(path, Answer(status=302, headers={"Location": "http://localhost:1/"}))
    assert get(folder, access=access, span=(10.0, 20.0)) == REFUSED
