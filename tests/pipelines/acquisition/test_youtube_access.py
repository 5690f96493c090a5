"""Cookies, proxy and options of a user, and what yt-dlp needs of the machine (faults 16, 17)."""

import pytest
from server import Answer, Server
from videos import NAME, VIDEO, WEBM, folder, get, names, server, site
from youtube_site import plays

from tutti.datasets.errors import UsageError
from tutti.pipelines.acquisition.youtube import Access, Downloaded, preflight

__all__ = ["folder", "server", "site"]  # fixtures

# --- the user's own access


def cookies_file(tmp_path):
    path = tmp_path / "my-cookies.txt"
    path.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tSID\tS3CRET\n")
    return path


def test_cookies_are_sent_from_a_copy_and_the_file_stays_as_it_was(site, server, folder, tmp_path):
    cookies = cookies_file(tmp_path)
    before = cookies.read_bytes(), cookies.stat().st_mtime_ns
    path = site.video(VIDEO, media=WEBM)
    server.script(path, Answer(body=WEBM, headers={"Set-Cookie": "SID=CHANGED; Path=/"}))

    get(folder, access=Access(cookies=str(cookies), media_hosts=("127.0.0.1",)))

    assert server.requests[0].headers["cookie"] == "SID=S3CRET"
    assert (cookies.read_bytes(), cookies.stat().st_mtime_ns) == before
    assert names(folder) == [f"{NAME}.webm"]


@pytest.mark.parametrize("line", ["SID=S3CRET without tabs", "127.0.0.1\tFALSE\t/\tFALSE\tnever\tSID\tS3CRET"])
def test_a_line_that_is_no_cookie_is_a_usage_error_that_does_not_show_it(site, folder, tmp_path, capfd, line):
    cookies = tmp_path / "my-cookies.txt"
    cookies.write_text(f"# Netscape HTTP Cookie File\n\n{line}\n")
    access = Access(cookies=str(cookies))

    for attempt in (lambda: preflight(access), lambda: get(folder, access=access)):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert str(caught.value) == (
            "the cookies file: line 3 is not a cookie in Netscape format (seven fields with tabs between); "
            "export the file again"
        )
    assert "S3CRET" not in "".join(capfd.readouterr())


def test_neither_cookies_nor_proxy_show_in_messages(site, folder, tmp_path, capfd):
    with Server() as gone:
        proxy = gone.url.replace("//", "//me:S3CRET@")
    site.answers(VIDEO, plays("http://rr1.googlevideo.com/a.webm"))
    access = Access(proxy=proxy, cookies=str(cookies_file(tmp_path)), options=(("password", "S3CRET"),))
    failure = get(folder, access=access)

    assert failure.reason == "timeout"
    for text in (repr(failure), repr(access), *capfd.readouterr()):
        assert "S3CRET" not in text
        assert "my-cookies" not in text


def test_a_proxy_carries_the_requests(site, server, folder):
    server.script("http://rr1.googlevideo.com/a.webm", Answer(body=WEBM))
    server.script("/a.webm", Answer(body=WEBM))
    site.answers(VIDEO, plays("http://rr1.googlevideo.com/a.webm"))

    assert get(folder, access=Access(proxy=server.url)).path.read_bytes() == WEBM
    assert server.requests[0].headers["host"] == "rr1.googlevideo.com"


def test_a_missing_cookies_file_is_a_usage_error_before_any_request(site, server, folder, tmp_path):
    access = Access(cookies=str(tmp_path / "none.txt"))

    for attempt in (lambda: preflight(access), lambda: get(folder, access=access)):
        with pytest.raises(UsageError, match="the cookies file cannot be read; check the path"):
            attempt()
    assert site.calls() == {}


@pytest.mark.parametrize("key", ["outtmpl", "paths", "format", "external_downloader", "enable_file_urls", "logger"])
def test_options_that_would_break_a_promise_are_refused_by_name(key):
    with pytest.raises(UsageError, match=f"yt-dlp option {key}: cannot be set here; possible are client_certificate"):
        Access(options=((key, "x"),))


def test_options_reach_yt_dlp_as_json_or_text(site, server, folder):
    path = site.video(VIDEO, media=WEBM)
    access = Access(
        media_hosts=("127.0.0.1",), options=(("http_headers", '{"X-Odd": "1"}'), ("geo_bypass_country", "DE"))
    )

    assert isinstance(get(folder, access=access), Downloaded)
    assert server.requests[0].headers["x-odd"] == "1"
    assert server.asked(path) == 1


# --- what yt-dlp needs


def test_preflight_names_a_missing_javascript_runtime_and_the_least_versions(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert preflight(Access())[0] == (
        "YouTube: no JavaScript runtime on PATH that yt-dlp can use (at least deno 2.3.0, node 22.0.0, bun 1.2.11, "
        "quickjs 2023.12.9); install one of them, or most videos will fail as extractor_setup"
    )


@pytest.mark.parametrize(("version", "is_enough"), [("v22.1.0", True), ("v20.20.2", False)])
def test_preflight_takes_any_runtime_that_is_new_enough(tmp_path, monkeypatch, version, is_enough):
    node = tmp_path / "node"
    node.write_text(f"#!/bin/sh\necho {version}\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert any("JavaScript runtime" in message for message in preflight(Access())) is not is_enough


def test_preflight_refuses_sections_without_ffmpeg_before_any_download(site, folder, tmp_path, monkeypatch):
    site.answers(VIDEO, plays("http://127.0.0.1:1/a.webm", duration=100.0))
    monkeypatch.setenv("PATH", str(tmp_path))
    access = Access(section_above_s=10.0)

    for attempt in (lambda: preflight(access), lambda: get(folder, access=access, span=(30.0, 40.0))):
        with pytest.raises(UsageError, match=r"ffmpeg is not on PATH.*install ffmpeg, or leave sections off"):
            attempt()
    assert names(folder) == []
