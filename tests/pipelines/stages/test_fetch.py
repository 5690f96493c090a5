"""The audio of one recording: the user's own file, else YouTube with its ledger, budget and breaker."""

import hashlib
import time

import pytest
from downloads import put
from killer import no_decoder_lives
from rows import clip
from server import Answer, Server
from signals import encoded, sine, webm
from youtube_site import Site, fails, plays, watch_url

from tutti.datasets.errors import TryLaterError
from tutti.datasets.record import Media, Recording, Rejected
from tutti.pipelines.acquisition.ledger import Attempt, Ledger
from tutti.pipelines.acquisition.origins import Origins
from tutti.pipelines.acquisition.youtube import Access
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages import fetch as fetch_stage
from tutti.pipelines.stages.fetch import fetch

VIDEO = "-abc_DEF123"
FULL = webm(sine(6.0, sample_rate=48_000))
ACCESS = Access(media_hosts=("127.0.0.1",), options=(("retries", "0"),))
DAY_S = 86_400.0


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def site(tmp_path, monkeypatch):
    with Server() as server:
        site = Site(tmp_path / "site", server)
        site.enter(monkeypatch)
        yield site


def recording(video=VIDEO, start_s=2.0, end_s=5.0):
    one = clip(f"audioset/{video}@{round(start_s * 1000)}", audio=None, start_s=start_s, end_s=end_s)
    return Recording(Media(watch_url(video)), (one,))


def ask(cache, video=VIDEO, **fields):
    origins = Origins(access=ACCESS, videos_per_hour=float("inf"), **fields)
    return fetch(recording(video), origins=origins, cache=cache)


def states(rows):
    return [(row.stage, row.status, row.reason) for row in rows if isinstance(row, Rejected)]


def ledger(cache):
    return Ledger(cache.root / "ledger" / "youtube")


def sighted(cache, reason, age_s):
    ledger(cache).record(Attempt(f"youtube/{VIDEO}", time.time() - age_s, "failed", reason))


# --- YouTube


def test_a_video_comes_whole_into_the_cache_and_into_the_ledger(site, cache):
    site.video(VIDEO, media=FULL, duration=6.0)

    (row,) = ask(cache)

    sha256 = hashlib.sha256(FULL).hexdigest()
    assert (row.media.sha256, row.media.offset_s, row.clips[0].acquired) == (sha256, 0.0, "full")
    assert cache.read_blob(sha256) == FULL
    (attempt,) = ledger(cache).attempts(f"youtube/{VIDEO}")
    assert (attempt.outcome, attempt.sha256, attempt.num_bytes, attempt.method) == (
        "fetched",
        sha256,
        len(FULL),
        "full",
    )
    assert attempt.duration_s == pytest.approx(6.0, abs=0.05)


def test_a_video_in_the_cache_is_not_asked_for_again(site, cache):
    site.video(VIDEO, media=FULL)
    first = ask(cache)

    assert ask(cache) == first
    assert site.calls() == {VIDEO: 1}


def test_a_video_that_the_ledger_has_but_the_cache_lost_is_fetched_again(site, cache):
    site.video(VIDEO, media=FULL)
    (row,) = ask(cache)
    cache.blob_path(row.media.sha256).unlink()

    assert ask(cache) == [row]
    assert site.calls() == {VIDEO: 2}


def test_a_video_that_went_after_it_was_fetched_is_still_here(site, cache):
    site.video(VIDEO, media=FULL)
    (row,) = ask(cache)
    for age_s in (3 * DAY_S, 0):
        sighted(cache, "removed", age_s)

    assert ask(cache) == [row]


def test_a_video_whose_decoder_is_killed_is_pending_for_that_and_the_ledger_holds_nothing_against_it(site, cache):
    site.video(VIDEO, media=FULL)

    with no_decoder_lives():
        rows = ask(cache)

    assert states(rows) == [("fetch", "pending", "decoder_killed")]
    assert ledger(cache).attempts(f"youtube/{VIDEO}") == []
    (row,) = ask(cache)
    assert row.media.sha256 == hashlib.sha256(FULL).hexdigest()


def test_an_own_file_whose_decoder_is_killed_is_neither_passed_over_nor_looked_for_elsewhere(site, cache, tmp_path):
    site.video(VIDEO, media=FULL)
    own = tmp_path / "own"
    put(own, f"www.youtube.com/watch/{VIDEO}.webm", FULL)

    with no_decoder_lives():
        rows = ask(cache, own_roots=(str(own),))

    assert states(rows) == [("fetch", "pending", "decoder_killed")]
    assert site.calls() == {}
    (row,) = ask(cache, own_roots=(str(own),))
    assert row.clips[0].acquired == "own"


@pytest.mark.parametrize("reason", ["bot", "http_403", "timeout", "no_formats", "extractor_bug"])
def test_a_transient_failure_is_pending_and_asked_for_in_the_next_run(site, cache, reason):
    sighted(cache, reason, age_s=1)
    site.video(VIDEO, media=FULL)

    assert [type(row) for row in ask(cache)] == [Recording]


def test_a_removed_video_is_pending_and_gone_only_at_the_second_sighting_a_day_later(site, cache):
    site.fails(VIDEO, "Video unavailable. This video has been removed by the uploader")
    assert states(ask(cache)) == [("fetch", "pending", "removed")]
    assert states(ask(cache)) == [("fetch", "pending", "removed")]  # within the day: not even asked
    assert site.calls() == {VIDEO: 1}

    sighted(cache, "removed", age_s=0)
    assert states(ask(cache)) == [("fetch", "pending", "removed")]
    old = Cache(cache.root.parent / "old")
    sighted(old, "removed", age_s=DAY_S + 60)
    assert states(ask(old)) == [("fetch", "gone", "removed")]
    assert states(ask(old)) == [("fetch", "gone", "removed")]
    assert site.calls() == {VIDEO: 2}


def test_what_is_gone_is_asked_for_again_where_the_user_says_so(site, cache):
    for age_s in (3 * DAY_S, DAY_S):
        sighted(cache, "private", age_s)
    site.video(VIDEO, media=FULL)
    assert states(ask(cache)) == [("fetch", "gone", "private")]

    assert [type(row) for row in ask(cache, retry=frozenset({"private"}))] == [Recording]


def test_a_file_that_is_shorter_than_the_video_is_no_success(site, cache):
    site.video(VIDEO, media=FULL, duration=60.0)

    assert states(ask(cache)) == [("fetch", "pending", "timeout")]
    assert ledger(cache).availability(f"youtube/{VIDEO}").detail == "only 6.0 s of 60.0 s arrived"


def test_a_file_that_no_decoder_reads_is_no_success(site, cache):
    site.video(VIDEO, media=FULL[:200] + bytes(len(FULL) - 200))

    assert states(ask(cache)) == [("fetch", "pending", "no_formats")]
    assert list((cache.root / "blobs").rglob("*")) == []


def test_nothing_is_asked_offline(site, cache, monkeypatch):
    monkeypatch.setenv("TUTTI_OFFLINE", "1")
    site.video(VIDEO, media=FULL)

    assert states(ask(cache)) == [("fetch", "pending", "offline")]
    assert site.calls() == {}


def test_repeated_walls_stop_everything_and_make_nothing_gone(site, cache):
    site.every(".*", fails("Sign in to confirm you\u2019re not a bot. Use --cookies"))
    videos = [f"{number:011d}" for number in range(10)]

    found = [states(ask(cache, video)) for video in videos[:5]]
    with pytest.raises(TryLaterError, match="youtube") as caught:
        ask(cache, videos[5])

    assert found == [[("fetch", "pending", "bot")]] * 5
    assert caught.value.exit_code == 75
    assert sum(site.calls().values()) == 5
    assert {state.status for state in ledger(cache).all()} == {"pending"}


def test_new_cookies_get_a_new_chance(site, cache, tmp_path):
    site.every("[0-9]*", fails("Sign in to confirm you're not a bot"))
    for number in range(5):
        ask(cache, f"{number:011d}")
    with pytest.raises(TryLaterError):
        ask(cache)
    site.video(VIDEO, media=FULL)
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n")
    access = Access(cookies=str(cookies), media_hosts=ACCESS.media_hosts)
    origins = Origins(access=access, videos_per_hour=float("inf"))

    assert [type(row) for row in fetch(recording(), origins=origins, cache=cache)] == [Recording]


def test_a_breakdown_between_the_line_and_the_file_is_made_good(site, cache, monkeypatch):
    site.video(VIDEO, media=FULL)
    with monkeypatch.context() as patch:
        patch.setattr(Cache, "receive_file", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ask(cache)

    (row,) = ask(cache)

    assert cache.read_blob(row.media.sha256) == FULL


# --- the user's own files


def test_a_whole_video_of_ones_own_is_used_before_the_network(site, cache, tmp_path):
    put(tmp_path / "mine", f"www.youtube.com/watch/{VIDEO}.webm", FULL)

    (row,) = ask(cache, own_roots=(str(tmp_path / "mine"),))

    assert (row.media.offset_s, row.clips[0].acquired) == (0.0, "own")
    assert cache.read_blob(row.media.sha256) == FULL
    assert site.calls() == {}


@pytest.mark.parametrize("name", [f"Y{VIDEO}.wav", f"{VIDEO}_2.wav", f"{VIDEO}_2.0_5.0.wav", f"{VIDEO}_2000_5000.wav"])
def test_a_ready_cut_clip_begins_where_its_segment_begins(site, cache, tmp_path, name):
    put(tmp_path / "mine", f"audio/{name}", encoded(sine(3.0)))

    (row,) = ask(cache, own_roots=(str(tmp_path / "mine"),))

    assert (row.media.offset_s, row.clips[0].acquired) == (2.0, "own")


def test_a_file_of_ones_own_that_is_broken_or_too_short_does_not_count(site, cache, tmp_path):
    put(tmp_path / "mine", f"{VIDEO}.wav", encoded(sine(1.0)))
    put(tmp_path / "mine", f"{VIDEO}_2_5.wav", b"RIFF nothing")
    site.video(VIDEO, media=FULL)

    (row,) = ask(cache, own_roots=(str(tmp_path / "mine"),))

    assert row.clips[0].acquired == "full"


def test_a_stopped_budget_holds_the_next_video_back(site, cache, monkeypatch):
    site.every(".*", plays(site.server.url + "/all.webm"))
    site.server.script("/all.webm", Answer(body=FULL))
    waited = []
    monkeypatch.setattr(fetch_stage.Budget, "wait", lambda self: waited.append(self.per_hour))

    fetch(recording(), origins=Origins(access=ACCESS, videos_per_hour=30.0), cache=cache)

    assert waited == [30.0]
