"""One video through the real yt-dlp, its pages scripted, its media from loopback (faults 14, 17, 42)."""

import hashlib
import pickle

import psutil
import pytest
import yt_dlp
from server import Answer, Server
from videos import ACCESS, M4A, NAME, VIDEO, WEBM, folder, get, names, run_python, server, site
from youtube_site import fails, plays, watch_url

from tutti.datasets.errors import StorageError
from tutti.pipelines.acquisition import youtube_session
from tutti.pipelines.acquisition.youtube import Access, Downloaded, Failure, download_video

__all__ = ["folder", "server", "site"]  # fixtures

# --- what works


def test_a_video_comes_as_the_server_holds_it(site, folder):
    site.video(VIDEO, media=WEBM, duration=1.0)

    found = get(folder)

    assert found == Downloaded(folder / f"{NAME}.webm", "full", 0.0, 1.0, "251/webm/opus")
    assert found.path.read_bytes() == WEBM
    assert names(folder) == [f"{NAME}.webm"]


def test_m4a_is_audio_too(site, folder):
    site.video(VIDEO, media=M4A, extension="m4a")

    found = get(folder)

    assert found == Downloaded(folder / f"{NAME}.m4a", "full", 0.0, None, "140/m4a/mp4a.40.2")
    assert found.path.read_bytes() == M4A


def test_the_best_audio_over_plain_http_is_chosen_and_never_a_playlist_of_fragments(site, server, folder):
    server.script("/good.webm", Answer(body=WEBM))
    reply = plays(f"{server.url}/poor.webm", f"{server.url}/good.webm", f"{server.url}/list.m3u8", duration=1.0)
    for entry, bits in zip(reply["formats"], (48, 128, 256), strict=True):
        entry.update(abr=bits, format_id=f"a{bits}", ext="webm")
    reply["formats"].append({**reply["formats"][1], "format_id": "video", "vcodec": "vp9", "height": 720, "abr": 500})
    site.answers(VIDEO, reply)

    assert get(folder).format == "a128/webm/opus"
    assert [request.path for request in server.requests] == ["/good.webm"]


def test_a_body_that_breaks_off_once_is_completed(site, server, folder):
    path = site.video(VIDEO, media=WEBM)
    server.script(path, Answer(body=WEBM, truncate=500), Answer(body=WEBM))

    assert get(folder).path.read_bytes() == WEBM


@pytest.mark.parametrize("video", ["-abcdefghij", "_----------", "--no-plugin", "aaaaaaaaaaA"])
def test_hostile_ids_are_ids_and_make_distinct_files(site, folder, video):
    site.video(VIDEO, media=M4A)
    site.video(video, media=WEBM)

    other, found = get(folder), get(folder, video)

    assert found.path.read_bytes() == WEBM
    assert found.path.name.lower() != other.path.name.lower()
    assert not found.path.name.startswith("-")
    assert site.calls()[video] == 1


def test_only_full_watch_urls_are_asked_for(site, folder):
    with pytest.raises(ValueError, match="expected a full watch URL"):
        download_video("-abcdefghij", folder, ACCESS)


def test_access_and_answers_travel_to_workers(site, folder):
    site.video(VIDEO, media=WEBM)

    for value in (ACCESS, get(folder), Failure("geo", "there")):
        assert pickle.loads(pickle.dumps(value)) == value


# --- reasons, through the whole of yt-dlp


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (fails("Private video. Sign in if you've been granted access to this video"), "private"),
        (fails("Video unavailable. This video has been removed by the uploader"), "removed"),
        (fails("The YouTube account associated with this video has been terminated."), "terminated"),
        (fails("Video unavailable. This video is no longer available due to a copyright claim by X"), "copyright"),
        (fails("Not here", error="geo", countries=["DE"]), "geo"),
        (fails("Sign in to confirm your age. Use --cookies"), "age"),
        (fails("This video is available to this channel's members on level: Gold"), "members"),
        (fails("Sign in to confirm you\u2019re not a bot. Use --cookies-from-browser"), "bot"),
        (fails("Sign in to confirm you're not a bot. Use --cookies-from-browser"), "bot"),
        (fails("This content isn't available, try again later. The session has been rate-limited by YouTube"),
         "rate_limited"),
        (fails("Premieres in 2 hours"), "no_formats"),
        (fails("Cannot parse data", error="ExtractorError"), "extractor_bug"),
        (fails("'NoneType' object is not subscriptable", error="crash"), "extractor_bug"),
        ({"formats": [], "duration": 1.0}, "no_formats"),
        (plays("http://127.0.0.1:1/list.m3u8", protocol="m3u8_native"), "no_formats"),
        ({"result": None}, "extractor_bug"),
    ],
)  # fmt: skip
def test_a_video_that_cannot_be_had_has_its_reason(site, server, folder, reply, reason):
    site.answers(VIDEO, reply)

    failure = get(folder)

    assert isinstance(failure, Failure)
    assert failure.reason == reason
    assert names(folder) == []
    assert server.requests == []


def test_the_detail_is_what_youtube_says_and_nothing_of_yt_dlp(site, folder):
    site.fails(VIDEO, "Private video. Sign in if you\u2019ve been granted access")

    assert get(folder) == Failure("private", "Private video. Sign in if you\u2019ve been granted access")


@pytest.mark.parametrize(
    ("status", "media", "page"),
    [
        (403, "http_403", "http_403"),
        (404, "no_formats", "extractor_bug"),
        (429, "http_429", "http_429"),
        (500, "http_5xx", "http_5xx"),
        (503, "http_5xx", "http_5xx"),
    ],
)
def test_a_status_keeps_its_reason_on_media_and_on_pages(site, server, folder, status, media, page):
    path = site.video(VIDEO, media=WEBM)
    server.script(path, Answer(status=status))
    site.answers("BBBBBBBBBBB", {"page": f"{server.url}{path}"})

    assert get(folder) == Failure(media, f"HTTP status {status} from the media server")
    assert get(folder, "BBBBBBBBBBB") == Failure(page, f"HTTP status {status} from the site")
    assert names(folder) == []


def test_a_body_that_always_breaks_off_is_a_timeout_and_no_file(site, server, folder):
    path = site.video(VIDEO, media=WEBM)
    server.script(path, Answer(body=WEBM, truncate=500))

    assert get(folder) == Failure("timeout", "the body broke off")
    assert server.asked(path) == 2
    assert names(folder) == []


def test_a_body_shorter_than_the_site_said_is_a_timeout(site, server, folder):
    server.script("/short.webm", Answer(body=WEBM))
    site.answers(VIDEO, plays(f"{server.url}/short.webm", filesize=len(WEBM) + 1))

    assert get(folder) == Failure("timeout", f"the body broke off: {len(WEBM)} of {len(WEBM) + 1} bytes")


def test_a_file_that_is_too_large_is_not_fetched(site, server, folder):
    path = site.video(VIDEO, media=WEBM)
    server.script(path, Answer(body=b"", headers={"Content-Length": str(3 << 30)}))

    assert get(folder).reason == "no_formats"


def test_a_server_that_says_nothing_is_a_timeout(site, server, folder):
    path = site.video(VIDEO, media=WEBM)
    server.script(path, Answer(body=WEBM, delay_s=1.0))
    hasty = Access(media_hosts=("127.0.0.1",), options=(("socket_timeout", "0.2"), ("retries", "0")))

    assert get(folder, access=hasty) == Failure("timeout", "the time limit passed")


def test_a_server_that_drips_is_a_timeout(site, server, folder, monkeypatch):
    path = site.video(VIDEO, media=WEBM)
    server.script(path, Answer(body=WEBM * 100, throttle=20_000))
    monkeypatch.setattr(youtube_session, "MAX_DOWNLOAD_S", 0.3)

    assert get(folder) == Failure("timeout", "not whole after 0 s")


def test_a_server_that_is_not_there_is_a_timeout(site, folder):
    with Server() as gone:
        address = gone.url
    site.answers(VIDEO, plays(f"{address}/a.webm?sig=S3CRET"))

    assert get(folder) == Failure("timeout", "connection refused")


def test_a_missing_javascript_runtime_is_extractor_setup(site, folder):
    site.answers(VIDEO, {**plays("https://rr1.googlevideo.com/a.m3u8", protocol="m3u8_native"), "warnings": [
        "n challenge solving failed: Some formats may be missing. Ensure you have a supported JavaScript runtime"]},
    )  # fmt: skip

    failure = get(folder)

    assert failure.reason == "extractor_setup"
    assert failure.detail.startswith("Requested format is not available")


def test_a_disk_that_cannot_be_written_is_no_reason_of_the_video(site, folder):
    script = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests")
from tutti.pipelines.acquisition.youtube import Access, download_video
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
print(download_video({watch_url(VIDEO)!r}, Path({str(folder)!r}), Access(media_hosts=("127.0.0.1",))))
"""
    site.video(VIDEO, media=WEBM)

    result = run_python(script, site)

    assert f"{StorageError.__name__}: videos: cannot write a download (File too large)" in result.stderr
    assert names(folder) == []


# --- plugins, processes


def test_a_plugin_on_pythonpath_replaces_the_extractor_in_another_process(site, folder):
    site.video(VIDEO, media=WEBM)
    script = f"""
from pathlib import Path
from tutti.pipelines.acquisition.youtube import Access, download_video
print(download_video({watch_url(VIDEO)!r}, Path({str(folder)!r}), Access(media_hosts=("127.0.0.1",))).method)
"""

    result = run_python(script, site)

    assert (result.stdout, result.stderr) == ("full\n", "")
    assert hashlib.sha256((folder / f"{NAME}.webm").read_bytes()).digest() == hashlib.sha256(WEBM).digest()
    assert site.calls() == {VIDEO: 1}


def test_answers_come_in_turn(site, server, folder):
    server.script("/a.webm", Answer(body=WEBM))
    site.answers(VIDEO, fails("Sign in to confirm you're not a bot"), plays(f"{server.url}/a.webm"))

    assert [type(get(folder)) for _ in range(3)] == [Failure, Downloaded, Downloaded]


@pytest.mark.slow
def test_200_downloads_do_not_grow_the_process(site, server, folder):
    server.script("/all.webm", Answer(body=WEBM))
    site.every("C.{10}", plays(f"{server.url}/all.webm", duration=1.0))
    site.every("D.{10}", fails("Private video"))

    def rounds(count):
        for number in range(count):
            for kind in "CD":
                found = get(folder, f"{kind}{number % 25:010d}")
                assert isinstance(found, Downloaded if kind == "C" else Failure)
        return psutil.Process().memory_info().rss

    settled = rounds(25)  # caches of modules and of the allocator are full
    open_files = psutil.Process().num_fds()  # this process may have run other tests before

    assert rounds(100) - settled < 5_000_000  # 100 sessions of 20 kB would be 2 MB; one leaked TLS context is 0.5 MB
    assert psutil.Process().num_fds() < open_files + 20


def test_the_tested_yt_dlp_is_the_real_one():
    assert yt_dlp.YoutubeDL.__module__ == "yt_dlp.YoutubeDL"
