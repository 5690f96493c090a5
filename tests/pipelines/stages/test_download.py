"""Download from a folder mirror: verified, stored once, and honest about what is missing."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace

import pytest
from downloads import BODY, MD5, PATH, SHA256, URL, VIDEO, VIDEO_STEM, fetched, get, put, remote, stored_files, sums_of
from rows import clip

from tutti.datasets.archive import open_archive
from tutti.datasets.audio_files import AUDIO_SUFFIXES
from tutti.datasets.bounded import CHUNK_BYTES
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import Media, Recording, Rejected
from tutti.datasets.source import RemoteFile, load_source
from tutti.pipelines.acquisition.origins import Origins, mirror_path, mirror_sums, with_sums
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.download import download
from tutti.pipelines.stages.fetch import fetch


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    return folder


def sums(mirror, cache):
    return mirror_sums(with_sums(Origins(str(mirror)), cache), cache)


def tgz(content=b"audio" * 1_000):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        info = tarfile.TarInfo("a.ogg")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


# --- where a mirror holds a URL


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (URL, PATH),
        (URL + "?download=1", PATH),
        ("http://download.magenta.tensorflow.org/a/b.tar.gz#part", "download.magenta.tensorflow.org/a/b.tar.gz"),
        ("https://www.youtube.com/watch?v=--PJHxphWEs", "www.youtube.com/watch/--PJHxphWEs"),
        ("https://www.youtube.com/watch?t=3&v=_abc&list=x", "www.youtube.com/watch/_abc"),
        ("https://example.org/page?v=2", "example.org/page"),
    ],
)
def test_a_mirror_holds_a_url_at_host_and_path(url, path):
    assert mirror_path(url) == path


# --- from a folder


def test_a_file_of_a_folder_mirror_comes_into_the_cache(mirror, cache):
    put(mirror, PATH, BODY)

    file = get(remote(), mirror, cache)

    assert (file.source, file.remote.name, file.sha256, file.size_bytes) == ("irmas", "labels", SHA256, 14)
    assert file.verified_by == "first use"
    assert file.path == cache.blob_path(SHA256)
    assert file.path.read_bytes() == BODY


def test_a_missing_file_is_a_usage_error_that_names_the_expected_path(mirror, cache):
    with pytest.raises(UsageError) as caught:
        get(remote(), mirror, cache)

    assert str(caught.value) == (
        f"irmas: the mirror lacks {PATH}; put the file there (from {URL}), "
        "pass it with --data-from, or build without --mirror"
    )


def test_a_source_whose_mirror_lacks_an_archive_says_which(mirror, cache):
    with pytest.raises(UsageError, match=r"^irmas: the mirror lacks zenodo\.org/records/1290750/files/IRMAS-Tr"):
        download("irmas", configs={"irmas": None}, origins=with_sums(Origins(str(mirror)), cache), cache=cache)


def test_all_files_of_a_source_come_under_their_names(mirror, cache):
    remotes = load_source("irmas").REMOTES
    for number, file in enumerate(remotes):
        put(mirror, mirror_path(file.url), b"%d" % number)
    put(
        mirror,
        "SHA256SUMS",
        sums_of({mirror_path(file.url): hashlib.sha256(b"%d" % n).hexdigest() for n, file in enumerate(remotes)}),
    )

    found = download("irmas", configs={"irmas": None}, origins=with_sums(Origins(str(mirror)), cache), cache=cache)

    assert found.source == "irmas"
    assert [file.remote.name for file in found.files] == [file.name for file in remotes]
    assert [file.path.read_bytes() for file in found.files] == [b"%d" % number for number in range(len(remotes))]


# --- checksums


@pytest.mark.parametrize(
    ("pins", "verified_by"),
    [({"sha256": SHA256}, "sha256"), ({"md5": MD5}, "md5"), ({"sha256": SHA256, "md5": MD5}, "sha256")],
)
def test_a_pinned_checksum_verifies_and_is_recorded(mirror, cache, pins, verified_by):
    put(mirror, PATH, BODY)

    assert get(remote(**pins), mirror, cache).verified_by == verified_by


@pytest.mark.parametrize("pins", [{"sha256": SHA256}, {"md5": MD5}])
def test_a_wrong_checksum_poisons_nothing_and_the_next_run_fetches_again(mirror, cache, pins):
    put(mirror, PATH, b"tampered")
    with pytest.raises(IntegrityError, match=rf"^{URL}: .* is \w+, expected {next(iter(pins.values()))}"):
        get(remote(**pins), mirror, cache)
    assert stored_files(cache) == []

    put(mirror, PATH, BODY)

    assert get(remote(**pins), mirror, cache).sha256 == SHA256


def test_the_sums_of_a_mirror_replace_the_pins_and_that_is_recorded(mirror, cache):
    put(mirror, PATH, b"a miniature")
    miniature = hashlib.sha256(b"a miniature").hexdigest()
    put(mirror, "SHA256SUMS", sums_of({PATH: miniature}))

    file = get(remote(md5=MD5, sha256=SHA256), mirror, cache)

    assert (file.sha256, file.verified_by) == (miniature, "mirror")


def test_a_file_that_the_sums_do_not_list_keeps_its_pins(mirror, cache):
    put(mirror, PATH, BODY)
    put(mirror, "SHA256SUMS", sums_of({"zenodo.org/other": "0" * 64}))

    assert get(remote(md5=MD5), mirror, cache).verified_by == "md5"


def test_a_file_that_is_not_what_the_sums_list_is_an_integrity_error(mirror, cache):
    put(mirror, PATH, BODY)
    put(mirror, "SHA256SUMS", sums_of({PATH: "0" * 64}))

    with pytest.raises(IntegrityError, match=f"sha256 is {SHA256}, expected {'0' * 64}"):
        get(remote(md5=MD5), mirror, cache)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("0123  short", "'0123  short'"),
        ("0" * 64, f"'{'0' * 64}'"),
        ("g" * 64 + "  path", f"'{'g' * 64}  path'"),
        ("<html>", "'<html>'"),
    ],
)
def test_a_damaged_line_of_the_sums_is_an_integrity_error_that_names_it(mirror, cache, line, shown):
    (mirror / "SHA256SUMS").write_text(f"{SHA256}  {PATH}\n{line}\n")

    with pytest.raises(IntegrityError) as caught:
        sums(mirror, cache)

    assert str(caught.value) == f"{mirror}/SHA256SUMS:2: expected '<sha256>  <path>', got {shown}"


def test_sums_that_are_no_text_are_an_integrity_error_that_names_them(mirror, cache):
    (mirror / "SHA256SUMS").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(IntegrityError, match="SHA256SUMS"):
        sums(mirror, cache)


def test_sums_of_binary_mode_are_read_like_those_of_text_mode(mirror, cache):
    (mirror / "SHA256SUMS").write_text(f"{SHA256} *{PATH}\n{SHA256}  with blanks in it.csv\n")

    assert sums(mirror, cache) == {PATH: SHA256, "with blanks in it.csv": SHA256}


def test_sums_that_change_while_a_build_runs_end_it(mirror, cache):
    put(mirror, "SHA256SUMS", sums_of({PATH: SHA256}))
    origins = with_sums(Origins(str(mirror)), cache)
    put(mirror, "SHA256SUMS", sums_of({PATH: "0" * 64}))

    with pytest.raises(IntegrityError, match="SHA256SUMS: changed while the build ran; run it again"):
        mirror_sums(origins, cache)


def test_without_a_mirror_there_are_no_sums(cache):
    assert mirror_sums(Origins(), cache) == {}


# --- gzipped tars


def test_a_tgz_becomes_a_plain_tar(mirror, cache):
    put(mirror, "zenodo.org/openmic.tgz", tgz())

    file = get(RemoteFile("audio", "https://zenodo.org/openmic.tgz"), mirror, cache)

    assert file.sha256 == hashlib.sha256(tgz()).hexdigest()  # of what was published
    assert file.path.read_bytes() == gzip.decompress(tgz())
    assert open_archive(file.path, "openmic.tgz").read("a.ogg") == b"audio" * 1_000


DAMAGED_TGZ = {
    "cut": tgz()[:-20],
    "header only": tgz()[:15],
    "no gzip": b"not gzip",
    "damaged": tgz()[:30] + b"\xff\xff" + tgz()[32:],
    "wrong crc": tgz()[:-8] + bytes(8),
}


@pytest.mark.parametrize("content", DAMAGED_TGZ.values(), ids=DAMAGED_TGZ)
def test_a_damaged_tgz_is_an_integrity_error_that_names_it_and_leaves_no_tar(mirror, cache, content):
    put(mirror, "zenodo.org/openmic.tgz", content)

    with pytest.raises(IntegrityError, match=r"^https://.*/openmic\.tgz: not a readable \.tgz .*fetch it again"):
        get(RemoteFile("audio", "https://zenodo.org/openmic.tgz"), mirror, cache)

    assert not list(cache.root.rglob("*.tar"))


# --- what is in the cache already


def test_a_file_without_any_checksum_is_read_from_a_folder_each_time(mirror, cache):
    put(mirror, PATH, b"old")
    get(remote(), mirror, cache)
    put(mirror, PATH, BODY)

    assert get(remote(), mirror, cache).sha256 == SHA256


def test_a_pinned_file_whose_blob_was_deleted_is_fetched_again(mirror, cache):
    put(mirror, PATH, BODY)
    get(remote(md5=MD5), mirror, cache).path.unlink()

    assert get(remote(md5=MD5), mirror, cache).path.read_bytes() == BODY


# --- videos


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_the_suffix_of_a_video_is_found_in_a_folder(mirror, cache, suffix):
    put(mirror, f"{VIDEO_STEM}{suffix}", BODY)

    (recording,) = fetched(mirror, cache)

    assert recording.media == Media(VIDEO.url, sha256=SHA256)
    assert len(recording.clips) == 2
    assert cache.read_blob(SHA256) == BODY


def test_a_video_that_the_mirror_lacks_is_gone_with_all_its_clips(mirror, cache):
    rows = fetched(mirror, cache)

    assert [(row.clip.id, row.stage, row.reason, row.status) for row in rows] == [
        ("audioset/-abc_DEF123@0", "fetch", "not_in_mirror", "gone"),
        ("audioset/-abc_DEF123@9", "fetch", "not_in_mirror", "gone"),
    ]
    assert rows[0].detail == "www.youtube.com/watch/-abc_DEF123.*"


def test_a_video_with_a_wrong_checksum_rejects_its_clips_and_is_not_stored(mirror, cache):
    put(mirror, f"{VIDEO_STEM}.webm", b"tampered")
    put(mirror, "SHA256SUMS", sums_of({f"{VIDEO_STEM}.webm": SHA256}))

    rows = fetched(mirror, cache)

    assert [(row.stage, row.reason, row.status) for row in rows] == [("fetch", "checksum", "rejected")] * 2
    assert f"expected {SHA256}" in rows[0].detail
    assert isinstance(rows[0], Rejected)
    assert stored_files(cache) == []


def test_a_recording_in_an_archive_needs_no_fetching(cache):
    recording = Recording(Media(URL, "a.wav", SHA256), (clip(),))

    assert fetch(recording, origins=Origins(), cache=cache) == [recording]


def test_a_file_of_ones_own_is_read_from_its_folder(tmp_path, cache):
    put(tmp_path / "mine", "band/a:b.wav", BODY)
    origins = Origins(local_roots=(("folder", str(tmp_path / "mine")),))

    (recording,) = fetched(origins, cache, Media("folder:band/a:b.wav"))

    assert recording.media.sha256 == SHA256


def test_large_files_come_in_pieces(mirror, cache):
    content = bytes(range(256)) * (3 * CHUNK_BYTES // 256) + b"end"
    put(mirror, PATH, content)

    assert get(remote(), mirror, cache).path.read_bytes() == content


def test_an_optional_file_that_no_origin_has_is_left_out(tmp_path, monkeypatch):
    put(tmp_path / "mirror", PATH, BODY)
    lacking = RemoteFile("licenses", f"{URL}.txt", optional=True)
    cache = Cache(tmp_path / "cache")

    def files_with(*remotes):
        monkeypatch.setattr("tutti.pipelines.stages.download.remotes_of", lambda *_: (remote(), *remotes))
        found = download("irmas", configs={"irmas": None}, origins=Origins(str(tmp_path / "mirror")), cache=cache)
        return [file.remote.name for file in found.files]

    assert files_with(lacking) == ["labels"]
    with pytest.raises(UsageError, match="the mirror lacks"):
        files_with(replace(lacking, optional=False))
