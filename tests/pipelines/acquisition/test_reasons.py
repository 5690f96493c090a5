"""The reason of a failure: by exception type and status first, by what YouTube shows second (faults 13, 14, 17)."""

import errno
import http.client
import io

import pytest
from yt_dlp.cookies import CookieLoadError
from yt_dlp.networking.common import Response
from yt_dlp.networking.exceptions import (
    CertificateVerifyError,
    HTTPError,
    IncompleteRead,
    NoSupportingHandlers,
    ProxyError,
    TransportError,
)
from yt_dlp.utils import (
    ContentTooShortError,
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnavailableVideoError,
    UnsupportedError,
)

from tutti.datasets.errors import StorageError
from tutti.pipelines.acquisition import reasons
from tutti.pipelines.acquisition.reasons import Failure, classify

SHOWN = [
    ("private", "Private video. Sign in if you've been granted access to this video"),
    ("private", "Private video. Sign in if you\u2019ve been granted access to this video. Use --cookies-from-browser"),
    ("private", "This video is private"),
    ("removed", "Video unavailable"),
    ("removed", "Video unavailable. This video has been removed by the uploader"),
    ("removed", "This video has been removed by the uploader"),
    ("removed", "This video has been removed for violating YouTube's Terms of Service"),
    ("removed", "Video unavailable. This video isn\u2019t available anymore"),
    ("removed", "Video unavailable. This video is not available"),
    ("removed", "This video is unavailable"),
    ("removed", "Video unavailable. This video does not exist."),
    (
        "terminated",
        "Video unavailable. This video is no longer available because the YouTube account associated with this "
        "video has been terminated.",
    ),
    (
        "terminated",
        "This video is no longer available because the YouTube account associated with this video has been terminated "
        "because we received multiple third-party notifications of copyright infringement.",
    ),
    ("terminated", "This video is no longer available because the uploader has closed their YouTube account."),
    ("copyright", "Video unavailable. This video is no longer available due to a copyright claim by SME"),
    ("copyright", "This video contains content from UMG, who has blocked it on copyright grounds"),
    ("geo", "This video contains content from UMG, who has blocked it in your country on copyright grounds"),
    ("geo", "The uploader has not made this video available in your country"),
    ("geo", "Video unavailable. This video is not available in your country"),
    ("age", "Sign in to confirm your age. This video may be inappropriate for some users."),
    ("age", "This video is age-restricted and only available on YouTube"),
    ("members", "This video is available to this channel's members on level: Gold (or any higher level)."),
    ("members", "Join this channel to get access to members-only content like this video"),
    ("members", "This video requires payment to watch"),
    ("members", "This video is only available to Music Premium members"),
    ("bot", "Sign in to confirm you're not a bot. Use --cookies-from-browser or --cookies for the authentication."),
    ("bot", "Sign in to confirm you\u2019re not a bot. This helps protect our community."),
    ("bot", "All player responses are invalid. Your IP is likely being blocked by Youtube"),
    ("bot", "Something went wrong. YouTube is requiring a captcha challenge before playback"),
    ("rate_limited", "The current session has been rate-limited by YouTube for up to an hour."),
    (
        "rate_limited",
        "Video unavailable. This content isn\u2019t available, try again later. The current session has been "
        "rate-limited by YouTube for up to an hour.",
    ),
    ("rate_limited", "This content isn't available, try again later"),
    ("no_formats", "Premieres in 3 days"),
    ("no_formats", "This live event will begin in 5 hours."),
    ("no_formats", "This live stream recording is not available."),
    ("no_formats", "We're processing this video. Check back later."),
    ("no_formats", "This video is DRM protected"),
    ("no_formats", "Requested format is not available. Use --list-formats for a list of available formats"),
    ("no_formats", "Only images are available for download. use --list-formats to see them"),
    ("no_formats", "Video unavailable. Playback on other websites has been disabled by the video owner"),
    ("extractor_setup", "No supported JavaScript runtime could be found"),
    ("extractor_setup", "nsig extraction failed: Some formats may be missing"),
    ("extractor_setup", "Signature solving failed: Some formats may be missing"),
    ("extractor_setup", "web client https formats require a GVS PO Token which was not provided"),
    ("extractor_bug", "Unable to extract yt initial data"),
    ("extractor_bug", "Failed to extract any player response"),
    ("extractor_bug", "Video unavailable. A sentence that nobody has seen yet"),
    ("extractor_bug", "The page needs to be reloaded."),
]


def raised(error: Exception) -> Exception:
    """The error as yt-dlp hands it on: wrapped while it is being handled."""
    try:
        try:
            raise error
        except Exception as inner:
            raise DownloadError(f"ERROR: {inner}", getattr(inner, "exc_info", None)) from None
    except DownloadError as outer:
        outer.__suppress_context__ = False
        return outer


def shown(text: str) -> Exception:
    return raised(ExtractorError(text, expected=True, video_id="AAAAAAAAAAA", ie="youtube"))


def status(number: int) -> HTTPError:
    return HTTPError(Response(io.BytesIO(b""), "https://rr1.googlevideo.com/videoplayback?sig=S3CRET", {}, number))


def on_a_page(number: int) -> Exception:
    cause = status(number)
    return raised(ExtractorError(f"Unable to download API page: {cause}", cause=cause, expected=True))


def test_the_vocabulary_is_the_one_of_the_ledger():
    assert {"private", "removed", "terminated", "copyright"} == reasons.PERMANENT
    assert {"geo", "age", "members"} == reasons.VANTAGE
    assert {
        "bot", "rate_limited", "http_403", "http_429", "http_5xx", "timeout", "no_formats", "extractor_setup",
        "extractor_bug",
    } == reasons.TRANSIENT  # fmt: skip
    assert len(reasons.REASONS) == 16
    assert {"bot", "rate_limited", "http_429"} == reasons.WALLS


def test_a_word_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="reason 'gone' is not one of age, bot"):
        Failure("gone", "")


@pytest.mark.parametrize(("reason", "text"), SHOWN)
def test_what_youtube_shows_has_its_reason(reason, text):
    assert classify(shown(text)).reason == reason
    assert classify(ExtractorError(text, expected=True)).reason == reason  # without the wrapper, too


def test_every_reason_that_a_text_can_have_is_tried_here():
    assert {reason for reason, _ in SHOWN} == reasons.REASONS - {"http_403", "http_429", "http_5xx", "timeout"}


@pytest.mark.parametrize(
    ("number", "media", "page"),
    [
        (400, "no_formats", "extractor_bug"),
        (403, "http_403", "http_403"),
        (404, "no_formats", "extractor_bug"),
        (410, "no_formats", "extractor_bug"),
        (429, "http_429", "http_429"),
        (500, "http_5xx", "http_5xx"),
        (503, "http_5xx", "http_5xx"),
    ],
)
def test_a_status_has_its_reason_on_media_and_on_pages(number, media, page):
    assert classify(raised(status(number))) == Failure(media, f"HTTP status {number} from the media server")
    assert classify(on_a_page(number)) == Failure(page, f"HTTP status {number} from the site")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("HTTP Error 503: Service Unavailable", Failure("http_5xx", "HTTP status 503 from the media server")),
        ("5000 bytes read, 3000 more expected", Failure("timeout", "the body broke off")),
        ("('Connection aborted.', ConnectionResetError(104))", Failure("timeout", "connection reset")),
    ],
)
def test_the_downloader_gives_up_with_a_text_only(message, expected):
    assert classify(DownloadError(f"ERROR: \r[download] Got error: {message}. Giving up after 3 retries")) == expected


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (TransportError("[Errno -2] Name or service not known"), "host name not found"),
        (TransportError(cause=ConnectionRefusedError(111, "Connection refused")), "connection refused"),
        (TransportError(cause=TimeoutError("The read operation timed out")), "the time limit passed"),
        (ProxyError("Cannot connect to proxy http://user:pass@10.0.0.1"), "the proxy failed"),
        (IncompleteRead(10, 20), "the body broke off"),
        (ContentTooShortError(10, 20), "the body broke off"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset"),
        (TimeoutError("timed out"), "the time limit passed"),
        (http.client.IncompleteRead(b""), "the body broke off"),
    ],
)
def test_a_broken_connection_is_a_timeout_in_words_without_addresses(error, detail):
    wrapped = raised(ExtractorError("A network error has occurred.", cause=error, expected=True))

    assert classify(wrapped).reason == "timeout"
    assert classify(raised(error)) == Failure("timeout", detail)


def test_a_country_is_geo_whatever_its_text():
    assert classify(raised(GeoRestrictedError("Not for you", countries=["DE"]))) == Failure("geo", "Not for you")


@pytest.mark.parametrize(
    "error",
    [
        CertificateVerifyError("certificate verify failed"),
        NoSupportingHandlers([], []),
        CookieLoadError("failed to load /home/me/cookies.txt"),
    ],
)
def test_what_this_machine_lacks_is_extractor_setup_and_names_no_path(error):
    failure = classify(raised(error))

    assert failure.reason == "extractor_setup"
    assert "/home" not in failure.detail


@pytest.mark.parametrize("error", [TypeError("'NoneType' object"), UnsupportedError("ftp://x"), KeyError("formats")])
def test_everything_unexpected_is_extractor_bug(error):
    assert classify(raised(error)).reason == "extractor_bug"


def test_the_stated_cause_counts_and_not_what_was_being_handled():
    error = ExtractorError("Private video", expected=True)
    error.__context__ = status(403)  # an extractor that raised it while it handled this one

    assert classify(error).reason == "private"
    assert classify(raised(error)).reason == "private"


@pytest.mark.parametrize(
    "wrap", [raised, lambda error: raised(ExtractorError("x", cause=error)), lambda error: _unavailable(error)]
)
def test_a_full_disk_is_never_a_reason_of_a_video(wrap):
    with pytest.raises(StorageError, match=r"videos: cannot write a download \(No space left on device\); free space"):
        classify(wrap(OSError(errno.ENOSPC, "No space left on device")))


def _unavailable(error: OSError) -> Exception:
    try:
        try:
            raise error
        except OSError as inner:
            raise UnavailableVideoError(inner)  # noqa: B904 - as yt-dlp does
    except UnavailableVideoError as outer:
        return outer


@pytest.mark.parametrize(
    ("warning", "reason"),
    [
        ("[youtube] AAAAAAAAAAA: n challenge solving failed: Some formats may be missing.", "extractor_setup"),
        ("[youtube] Unable to download API page: HTTP Error 429: Too Many Requests", "http_429"),
        ("[youtube] Unable to download API page: HTTP Error 502: Bad Gateway", "http_5xx"),
        ("[youtube] AAAAAAAAAAA: Some formats are possibly damaged.", "no_formats"),
        ("[youtube] Private video", "no_formats"),  # a warning never makes a video count as gone
    ],
)
def test_an_error_that_says_little_is_told_by_the_warnings_before_it(warning, reason):
    assert classify(shown("Requested format is not available"), [warning]).reason == reason


def test_an_error_that_says_enough_is_not_told_by_warnings():
    assert classify(shown("Private video"), ["HTTP Error 429: Too Many Requests"]).reason == "private"


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        (
            "\x1b[0;31mERROR:\x1b[0m [youtube] AAAAAAAAAAA: Private video. Use --cookies-from-browser or --cookies "
            "for the authentication. See  https://github.com/yt-dlp/yt-dlp/wiki/FAQ",
            "Private video.",
        ),
        ("Odd\n\tanswer of https://rr1.googlevideo.com/play?sig=S3CRET&ip=1.2.3.4 here", "Odd answer of ... here"),
        ("Odd host='rr1.googlevideo.com' url: /videoplayback?sig=S3CRET", "Odd ... ..."),
        ("Odd client 192.0.2.7:80 at 0x7f0011223344", "Odd client ... at ..."),
        ("Odd headers Cookie: SID=S3CRET; HSID=S3CRET", "Odd headers ..."),
        ("Odd; please report this issue on  https://github.com/yt-dlp/yt-dlp/issues", "Odd"),
        ("x" * 300, "x" * 197 + "..."),
    ],
)  # fmt: skip
def test_a_detail_is_one_short_line_without_colors_addresses_or_secrets(message, detail):
    assert classify(ExtractorError(message, expected=True)).detail == detail
