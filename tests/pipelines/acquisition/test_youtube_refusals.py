"""What a hostile or broken site cannot make us do, and what a failure leaves behind (faults 23, 24, 38)."""

import pytest
from server import Answer, Server
from videos import REFUSED, VIDEO, WEBM, folder, get, names, server, site
from youtube_site import plays, watch_url

from tutti.datasets.errors import UsageError
from tutti.pipelines.acquisition.youtube import Access, Failure, is_allowed

__all__ = ["folder", "server", "site"]  # fixtures

# --- what an answer must be


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"_type": "playlist", "id": VIDEO, "entries": []},
         Failure("extractor_bug", "the site answered with a playlist instead of a video")),
        ({"_type": "url", "id": "BBBBBBBBBBB", "ie_key": "Youtube", "url": watch_url("BBBBBBBBBBB")},
         Failure("no_formats", "the site leads to another video, such as a trailer")),
        ({"_type": "url", "ie_key": "Generic", "url": "http://127.0.0.1:1/"},
         Failure("no_formats", "the site leads to another video, such as a trailer")),
        ({"id": VIDEO, "title": "live", "live_status": "is_live", "formats": []},
         Failure("no_formats", "not a finished recording: is_live")),
    ],
)  # fmt: skip
def test_anything_but_this_one_video_is_refused(site, server, folder, result, expected):
    site.video("BBBBBBBBBBB", media=WEBM)
    site.answers(VIDEO, {"result": result})

    assert get(folder) == expected
    assert server.requests == []
    assert site.calls()["BBBBBBBBBBB"] == 0


@pytest.mark.parametrize("body", [b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n",
                                  b"<!DOCTYPE html><p>Are you a robot?", b"short"])  # fmt: skip
def test_a_playlist_or_a_page_in_place_of_audio_is_refused(site, server, folder, body):
    server.script(site.video(VIDEO, media=WEBM), Answer(body=body))

    assert get(folder) == Failure("no_formats", "the media server sent something that is not audio")
    assert names(folder) == []


@pytest.mark.parametrize(
    "target", ["{other}/a.webm", "file:///etc/passwd", "ftp://127.0.0.1/a.webm", "http://169.254.169.254/latest/"]
)
def test_a_redirect_to_a_foreign_host_is_refused_before_it_is_asked(site, server, folder, target):
    with Server() as other:
        address = other.url.replace("127.0.0.1", "localhost")  # up and running, but not listed
        other.script("/a.webm", Answer(body=WEBM))
        path = site.video(VIDEO, media=WEBM)
        server.script(path, Answer(status=302, headers={"Location": target.format(other=address)}))

        assert get(folder) == REFUSED
        assert other.requests == []
    assert server.asked(path) == 1
    assert names(folder) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.webm", "http://localhost:1/a.webm"])
def test_a_media_address_at_a_foreign_host_is_refused(site, folder, url):
    site.answers(VIDEO, plays(url, protocol="https"))

    assert get(folder) == REFUSED


def test_a_redirect_to_a_listed_host_is_followed(site, server, folder):
    server.script("/moved", Answer(body=WEBM))
    server.script(site.video(VIDEO, media=WEBM), Answer(status=302, headers={"Location": "/moved"}))

    assert get(folder).path.read_bytes() == WEBM


def test_loopback_is_a_foreign_host_unless_listed(site, server, folder):
    site.video(VIDEO, media=WEBM)

    assert get(folder, access=Access()) == REFUSED
    assert server.requests == []


def test_googles_captcha_page_is_a_bot_wall(site, server, folder):
    wall = {"Location": "https://www.google.com/sorry/index?continue=x"}
    server.script(site.video(VIDEO, media=WEBM), Answer(status=302, headers=wall))

    assert get(folder) == Failure("bot", "an address was refused: it leads to Google's captcha page")


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://www.youtube.com/watch?v=x", True),
        ("https://rr3---sn-4g5e6nzs.googlevideo.com/videoplayback", True),
        ("http://googlevideo.com/", True),
        ("https://googlevideo.com.evil.org/", False),
        ("https://evilyoutube.com/", False),
        ("https://www.youtube.com@evil.org/", False),
        ("http://127.0.0.1:8080/", True),
        ("http://127.0.0.1:8081/", False),
        ("http://proxy.example/", True),
        ("http://[::1]/", False),
        ("file://www.youtube.com/etc/passwd", False),
        ("https://www.youtube.com:99999/", False),
        ("/relative", False),
    ],
)
def test_hosts_are_compared_as_a_whole(url, allowed):
    assert is_allowed(url, ("127.0.0.1:8080", "proxy.example")) is allowed


# --- what stays behind


def test_a_failed_second_download_leaves_the_first_result_alone(site, server, folder):
    path = site.video(VIDEO, media=WEBM)
    first = get(folder).path
    for answer in (Answer(status=403), Answer(body=WEBM, truncate=500), Answer(body=b"<html>")):
        server.script(path, answer)

        assert isinstance(get(folder), Failure)
        assert first.read_bytes() == WEBM
        assert names(folder) == [first.name]


def test_offline_nothing_is_asked(site, server, folder, monkeypatch):
    site.video(VIDEO, media=WEBM)
    monkeypatch.setenv("TUTTI_OFFLINE", "1")

    with pytest.raises(UsageError, match="TUTTI_OFFLINE"):
        get(folder)
    assert site.calls() == {}
    assert server.requests == []
