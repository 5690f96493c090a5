"""Audio in tars too large to keep: a tar is read once, its wanted members become blobs, the rest has reasons."""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from downloads import put, sums_of
from rows import clip
from server import Answer, Server

from tutti.datasets.errors import BlockedError
from tutti.datasets.record import Media, Published, Recording, Rejected
from tutti.pipelines.acquisition import http_stream
from tutti.pipelines.acquisition.origins import Origins, with_sums
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.rows import TarJob
from tutti.pipelines.stages.fetch_tars import by_tar, fetch_tar, lies_in_tar, tar_job

URL = "https://cdn.freesound.org/mtg-jamendo/raw_30s/audio/raw_30s_audio-00.tar"
PATH = "/cdn.freesound.org/mtg-jamendo/raw_30s/audio/raw_30s_audio-00.tar"
FILES = {f"00/{number}00.mp3": bytes([number]) * 60_000 for number in range(1, 6)}
WANTED = ("00/200.mp3", "00/400.mp3")
TAG: dict[str, Any] = {"etag": '"v1"', "ranges": "honour"}
GONE, PENDING = "gone", "pending"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar_of(files: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


TAR = tar_of(FILES)
DIGESTS = {name: sha256(content) for name, content in FILES.items()}


def job(
    names: Sequence[str] = WANTED, digests: Mapping[str, str] = DIGESTS, archive: str | None = sha256(TAR)
) -> TarJob:
    """What a corpus wants of the tar: a recording of one clip per member."""
    recordings = [
        Recording(
            Media(URL, name, published=Published(digests.get(name), archive)),
            (clip(f"mtg_jamendo/{name}@0", audio=None),),
        )
        for name in names
    ]
    return tar_job((URL, recordings))


def outcome(rows: list[Recording | Rejected]) -> dict[str, tuple[str, ...]]:
    """Member -> how it was had, or reason and status."""
    found = {}
    for row in rows:
        if isinstance(row, Rejected):
            found[row.clip.id.partition("/")[2].partition("@")[0]] = (row.reason, row.status)
        else:
            assert row.media.member is None
            found[row.media.url.removeprefix(f"{URL}/")] = (str(row.clips[0].acquired),)
    return found


def assert_held(cache: Cache, names: Sequence[str]) -> None:
    """The cache holds these members, and nothing else as large."""
    blobs = {path.name for path in (cache.root / "blobs").rglob("*") if path.is_file()}
    assert blobs == {DIGESTS[name] for name in names}
    assert all(cache.read_blob(DIGESTS[name]) == FILES[name] for name in names)


# --- a mirror


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    put(tmp_path / "mirror", PATH[1:], TAR)
    return tmp_path / "mirror"


def from_mirror(mirror: Path, cache: Cache, wanted: TarJob | None = None) -> dict[str, tuple[str, ...]]:
    return outcome(fetch_tar(wanted or job(), origins=with_sums(Origins(str(mirror)), cache), cache=cache))


def test_only_wanted_members_of_a_mirrors_tar_become_blobs(mirror: Path, cache: Cache) -> None:
    assert from_mirror(mirror, cache) == dict.fromkeys(WANTED, ("mirror",))
    assert_held(cache, WANTED)


def test_members_that_are_in_the_cache_are_not_looked_for_again(mirror: Path, cache: Cache) -> None:
    from_mirror(mirror, cache)
    (mirror / PATH[1:]).unlink()
    assert from_mirror(mirror, cache) == dict.fromkeys(WANTED, ("mirror",))
    assert from_mirror(mirror, cache, job(("00/100.mp3",))) == {"00/100.mp3": ("not_in_mirror", GONE)}


def test_a_member_that_the_tar_lacks_is_named_and_the_others_come(mirror: Path, cache: Cache) -> None:
    (row,) = [
        row
        for row in fetch_tar(job((*WANTED, "00/900.mp3")), origins=Origins(str(mirror)), cache=cache)
        if isinstance(row, Rejected)
    ]
    assert (row.stage, row.reason, row.status) == ("fetch", "not_in_archive", "rejected")
    assert row.detail == f"{URL} has no member 00/900.mp3"
    assert_held(cache, WANTED)


def test_a_tar_of_a_mirror_that_ends_early_loses_what_comes_after(mirror: Path, cache: Cache) -> None:
    put(mirror, PATH[1:], TAR[:150_000])
    assert from_mirror(mirror, cache) == {"00/200.mp3": ("mirror",), "00/400.mp3": ("archive_cut", GONE)}
    assert_held(cache, ["00/200.mp3"])


def test_a_member_with_other_bytes_than_published_is_refused(mirror: Path, cache: Cache) -> None:
    put(mirror, PATH[1:], tar_of({**FILES, "00/200.mp3": b"x" * 60_000}))
    assert from_mirror(mirror, cache) == {"00/200.mp3": ("checksum", "rejected"), "00/400.mp3": ("mirror",)}
    assert_held(cache, ["00/400.mp3"])


def test_of_members_of_one_name_the_one_with_the_published_digest_is_meant(mirror: Path, cache: Cache) -> None:
    twice = [("00/200.mp3", b"other"), *FILES.items(), ("00/400.mp3", b"other")]
    put(mirror, PATH[1:], tar_of(twice))
    assert from_mirror(mirror, cache) == dict.fromkeys(WANTED, ("mirror",))


def test_a_member_of_no_plain_kind_is_not_there(mirror: Path, cache: Cache) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("00/200.mp3")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        info = tarfile.TarInfo("00/400.mp3")
        info.size = 60_000
        tar.addfile(info, io.BytesIO(FILES["00/400.mp3"]))
    put(mirror, PATH[1:], out.getvalue())
    assert from_mirror(mirror, cache) == {"00/200.mp3": ("not_in_archive", "rejected"), "00/400.mp3": ("mirror",)}


def test_what_is_no_tar_is_one_that_ends_early(mirror: Path, cache: Cache) -> None:
    put(mirror, PATH[1:], b"<html>" * 1000)
    assert from_mirror(mirror, cache) == dict.fromkeys(WANTED, ("archive_cut", GONE))


# --- members that have no published digest


def test_a_member_without_a_digest_is_worth_what_its_tar_is(mirror: Path, cache: Cache) -> None:
    assert from_mirror(mirror, cache, job(digests={})) == dict.fromkeys(WANTED, ("mirror",))
    (mirror / PATH[1:]).unlink()  # they are remembered
    assert from_mirror(mirror, cache, job(digests={})) == dict.fromkeys(WANTED, ("mirror",))


def test_a_member_without_a_digest_of_a_tar_with_another_is_refused(mirror: Path, cache: Cache) -> None:
    wanted = job(digests={"00/400.mp3": DIGESTS["00/400.mp3"]}, archive="f" * 64)
    assert from_mirror(mirror, cache, wanted) == {"00/200.mp3": ("checksum", "rejected"), "00/400.mp3": ("mirror",)}


def test_the_mirrors_own_list_replaces_what_was_published_of_the_tar(mirror: Path, cache: Cache) -> None:
    put(mirror, "SHA256SUMS", sums_of({PATH[1:]: sha256(TAR)}))
    assert from_mirror(mirror, cache, job(digests={}, archive="f" * 64)) == dict.fromkeys(WANTED, ("mirror",))


def test_a_member_without_a_digest_that_stands_twice_is_refused(mirror: Path, cache: Cache) -> None:
    content = tar_of([*FILES.items(), ("00/200.mp3", b"other"), ("00/200.mp3", b"third")])
    put(mirror, PATH[1:], content)
    wanted = job(digests={}, archive=sha256(content))
    assert from_mirror(mirror, cache, wanted) == {
        "00/200.mp3": ("damaged_member", "rejected"),
        "00/400.mp3": ("mirror",),
    }


# --- a server


@pytest.fixture
def from_server(server: Server, cache: Cache, waits: list[float]) -> Any:
    """Fetch as from the publisher, by way of a mirror's server whose failures may pass."""

    def run(wanted: TarJob | None = None) -> dict[str, tuple[str, ...]]:
        server.requests.clear()
        server.num_bytes.clear()
        return outcome(fetch_tar(wanted or job(), origins=with_sums(Origins(server.url), cache), cache=cache))

    return run


def asked(server: Server) -> list[str | None]:
    return [request.headers.get("range") for request in server.requests if request.path == PATH]


def test_a_tar_on_a_server_is_never_on_the_disk(server: Server, from_server: Any, cache: Cache) -> None:
    server.script(PATH, Answer(body=TAR))
    assert from_server() == dict.fromkeys(WANTED, ("mirror",))
    assert_held(cache, WANTED)
    assert asked(server) == [None]


def test_of_a_tar_that_has_all_that_is_wanted_at_its_head_the_tail_is_not_read(
    server: Server, from_server: Any, tmp_path: Path
) -> None:
    (tmp_path / "long.tar").write_bytes(tar_of({**FILES, "00/900.mp3": bytes(20_000_000)}))
    server.script(PATH, Answer(body=tmp_path / "long.tar"))
    assert from_server() == dict.fromkeys(WANTED, ("mirror",))
    assert server.num_bytes[PATH] < 10_000_000


def test_members_between_are_passed_over_by_ranges_where_the_server_has_them(
    server: Server, from_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_stream, "SKIP_BYTES", 1_000_000)  # four times what is received at once
    long = {name: content * 50 for name, content in FILES.items()}
    server.script(PATH, Answer(body=tar_of(long), **TAG))
    digests = {name: sha256(content) for name, content in long.items()}
    assert from_server(job(digests=digests)) == dict.fromkeys(WANTED, ("mirror",))
    end = 512 + 3_000_320  # of the first member with its header
    assert asked(server) == [None, f"bytes={end - 1}-", f"bytes={3 * end - 1}-"]


def test_an_interrupted_stream_goes_on_with_what_is_missing(server: Server, from_server: Any, cache: Cache) -> None:
    server.script(PATH, Answer(body=TAR, truncate=150_000, **TAG), Answer(status=500))
    assert from_server() == {"00/200.mp3": ("mirror",), "00/400.mp3": ("timeout", PENDING)}
    assert_held(cache, ["00/200.mp3"])

    server.script(PATH, Answer(body=TAR, **TAG))
    assert from_server() == dict.fromkeys(WANTED, ("mirror",))
    assert asked(server)[0] == f"bytes={60_928 * 3}-", "the third member was seen, so the fourth header comes next"


def test_without_ranges_an_interrupted_stream_is_read_again_up_to_what_is_missing(
    server: Server, from_server: Any, cache: Cache
) -> None:
    server.script(PATH, Answer(body=TAR, truncate=150_000), Answer(status=500))
    assert from_server() == {"00/200.mp3": ("mirror",), "00/400.mp3": ("timeout", PENDING)}
    server.script(PATH, Answer(body=TAR))
    assert from_server() == dict.fromkeys(WANTED, ("mirror",))
    assert asked(server) == [None]


def test_more_members_of_a_tar_that_was_seen_are_asked_for_by_their_place(
    server: Server, from_server: Any, cache: Cache
) -> None:
    server.script(PATH, Answer(body=TAR, **TAG))
    from_server(job(("00/500.mp3",)))
    assert from_server(job(("00/300.mp3", "00/500.mp3"))) == {"00/300.mp3": ("mirror",), "00/500.mp3": ("mirror",)}
    assert asked(server) == [f"bytes={60_928 * 2 + 512}-"]


def test_a_member_that_a_tar_lacks_is_not_asked_for_again(server: Server, from_server: Any, cache: Cache) -> None:
    server.script(PATH, Answer(body=TAR, **TAG))
    for asks in (True, False):
        assert from_server(job((*WANTED, "00/900.mp3")))["00/900.mp3"] == ("not_in_archive", "rejected")
        assert bool(asked(server)) == asks


def test_another_tar_in_the_place_of_the_one_that_was_seen_is_read_anew(
    server: Server, from_server: Any, cache: Cache
) -> None:
    server.script(PATH, Answer(body=TAR, truncate=150_000, **TAG), Answer(status=500))
    from_server()
    other = tar_of({"00/000.mp3": b"new", **FILES})
    server.script(PATH, Answer(body=other, etag='"v2"', ranges="honour"))
    assert from_server() == dict.fromkeys(WANTED, ("mirror",))


def test_a_tar_that_ends_early_though_all_of_it_came_keeps_what_came(
    server: Server, from_server: Any, cache: Cache
) -> None:
    server.script(PATH, Answer(body=TAR[:150_000], **TAG))
    assert from_server() == {"00/200.mp3": ("mirror",), "00/400.mp3": ("archive_cut", GONE)}
    server.script(PATH, Answer(body=TAR, etag='"v2"', ranges="honour"))
    assert from_server() == dict.fromkeys(WANTED, ("mirror",))


def test_a_tar_that_the_server_lacks_is_gone(server: Server, from_server: Any, cache: Cache) -> None:
    assert from_server() == dict.fromkeys(WANTED, ("not_in_mirror", GONE))


def test_a_slow_server_is_waited_for(server: Server, from_server: Any, cache: Cache) -> None:
    server.script(PATH, Answer(body=TAR, throttle=1_000_000.0))
    assert from_server() == dict.fromkeys(WANTED, ("mirror",))


def test_wrong_bytes_on_the_way_cost_the_member_alone(server: Server, from_server: Any, cache: Cache) -> None:
    damaged = bytearray(TAR)
    damaged[60_928 + 512 + 1000] ^= 1
    server.script(PATH, Answer(body=bytes(damaged), **TAG))
    assert from_server() == {"00/200.mp3": ("checksum", "rejected"), "00/400.mp3": ("mirror",)}
    server.script(PATH, Answer(body=TAR, **TAG))
    assert from_server() == dict.fromkeys(WANTED, ("mirror",))


def test_members_without_a_digest_are_taken_from_a_tar_that_was_read_whole(
    server: Server, from_server: Any, cache: Cache
) -> None:
    server.script(PATH, Answer(body=TAR, truncate=150_000, **TAG), Answer(body=TAR, **TAG))
    assert from_server(job(digests={})) == dict.fromkeys(WANTED, ("mirror",))
    assert asked(server) == [None, "bytes=150000-"]
    cached = Cache(cache.root.parent / "another")
    server.script(PATH, Answer(body=TAR[:-1] + b"x", **TAG))
    rows = fetch_tar(job(digests={}), origins=Origins(server.url), cache=cached)
    assert outcome(rows) == dict.fromkeys(WANTED, ("checksum", "rejected"))


# --- the publisher, and the user's own files


def test_what_the_publisher_does_not_give_is_asked_for_again(server: Server, cache: Cache, waits: list[float]) -> None:
    url = f"{server.url}/audio-00.tar"
    wanted = [replace(row, media=replace(row.media, url=url)) for row in job().recordings]
    there = tar_job((url, wanted))

    def fetched() -> list[tuple[str, ...]]:
        return [
            (row.reason, row.status) if isinstance(row, Rejected) else (str(row.clips[0].acquired),)
            for row in fetch_tar(there, origins=Origins(), cache=cache)
        ]

    assert fetched() == [("no_archive", PENDING)] * 2
    server.script("/audio-00.tar", Answer(body=TAR[:150_000]))
    assert fetched() == [("full",), ("archive_cut", PENDING)]
    server.script("/audio-00.tar", Answer(disconnect=True))
    assert fetched() == [("full",), ("timeout", PENDING)]
    server.script("/audio-00.tar", Answer(body=TAR))
    assert fetched() == [("full",)] * 2


def test_where_the_publishers_own_server_fails_its_other_addresses_are_asked(
    server: Server, cache: Cache, waits: list[float]
) -> None:
    url, slow = f"{server.url}/audio-00.tar", f"{server.url}/slow/audio-00.tar"

    def fetched() -> dict[str, tuple[str, ...]]:
        recordings = []
        for row in job().recordings:
            published = replace(row.media.published or Published(), mirrors=(slow,))
            recordings.append(replace(row, media=replace(row.media, url=url, published=published)))
        rows = fetch_tar(tar_job((url, recordings)), origins=Origins(), cache=cache)
        return {
            name: (row.reason, row.status) if isinstance(row, Rejected) else (str(row.clips[0].acquired),)
            for name, row in zip(WANTED, rows, strict=True)
        }

    server.script("/audio-00.tar", Answer(body=TAR[:150_000]))
    server.script("/slow/audio-00.tar", Answer(status=500))
    assert fetched() == {"00/200.mp3": ("full",), "00/400.mp3": ("archive_cut", PENDING)}, "the first failure is told"
    server.script("/audio-00.tar", Answer(status=403))
    with pytest.raises(BlockedError):
        fetched()
    server.script("/slow/audio-00.tar", Answer(body=TAR))
    assert fetched() == dict.fromkeys(WANTED, ("full",))


def test_without_a_network_what_is_missing_is_pending(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_OFFLINE", "1")
    assert outcome(fetch_tar(job(), origins=Origins(), cache=cache)) == dict.fromkeys(WANTED, ("offline", PENDING))


@pytest.mark.parametrize("layout", ["unpacked", "tar"])
def test_the_users_own_files_come_first(tmp_path: Path, mirror: Path, cache: Cache, layout: str) -> None:
    own = tmp_path / "own"
    if layout == "tar":
        put(own, "raw_30s_audio-00.tar", TAR[:150_000])
    else:
        put(own, "00/200.mp3", FILES["00/200.mp3"])
        put(own, "00/400.mp3", b"damaged")
    origins = Origins(str(mirror), own_roots=(str(own),))
    assert outcome(fetch_tar(job(), origins=origins, cache=cache)) == {
        "00/200.mp3": ("own",), "00/400.mp3": ("mirror",),
    }  # fmt: skip


def test_recordings_are_gathered_by_the_tar_that_they_lie_in() -> None:
    first, second = job().recordings
    assert by_tar(first) == (URL, first)
    assert tar_job((URL, [second, first])) == TarJob(URL, (first, second))
    assert tar_job((URL, [second, first])).id == "raw_30s_audio-00.tar"
    assert lies_in_tar(first)
    assert not lies_in_tar(replace(first, media=Media("https://www.youtube.com/watch?v=-abc_DEF123")))
