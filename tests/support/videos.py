"""What tests of one video share: a scripted site, its media, and a short way to ask for one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from server import Server
from signals import m4a, sine, webm
from youtube_site import PLUGINS, Site, watch_url

from tutti.pipelines.acquisition.youtube import Access, Failure, download_video

ROOT = Path(__file__).resolve().parents[2]
VIDEO = "AAAAAAAAAAA"
WEBM = webm(sine(1.0, sample_rate=48_000))
M4A = m4a(sine(1.0))
ACCESS = Access(media_hosts=("127.0.0.1",), options=(("retries", "1"),))
NAME = "ab64f852873ecc9ad99cd9b70232b4f4"  # sha256 of ["https://www.youtube.com/watch?v=AAAAAAAAAAA", null]
REFUSED = Failure(
    "extractor_bug",
    "an address was refused: it leads to a host that is neither YouTube's nor listed as a media host",
)


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture
def site(tmp_path, server, monkeypatch):
    monkeypatch.delenv("TUTTI_OFFLINE", raising=False)
    fake = Site(tmp_path / "site", server)
    fake.enter(monkeypatch)
    return fake


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "100% videos"  # yt-dlp's templates know "%"


def get(folder, video=VIDEO, access=ACCESS, span=None):
    return download_video(watch_url(video), folder, access, span)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run_python(script, site):
    environment = {**os.environ, **site.environment(), "PYTHONPATH": f"{ROOT}{os.pathsep}{PLUGINS}"}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
