"""The user's own archives and label files: found by name or content, and whose checksum counts."""

import hashlib
import os
import unicodedata

import pytest

from tutti.datasets.errors import IntegrityError
from tutti.datasets.source import RemoteFile
from tutti.pipelines.acquisition.own_audio import find_file
from tutti.pipelines.acquisition.own_index import index_of, listed_sum, parse_sums, sums_of

URL = "https://zenodo.org/records/7/files/Training.zip"
BODY, OTHER = b"PK the archive", b"PK another archive"
MD5, SHA256 = hashlib.md5(BODY).hexdigest(), hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def fresh_index():
    index_of.cache_clear()


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def own(root, expected_sha256=None, **pins):
    """(path below the root, verified_by) of the user's copy."""
    file = find_file((str(root),), RemoteFile("train", URL, **pins), expected_sha256)
    return file and (os.path.relpath(file.path, root), file.verified_by)


@pytest.mark.parametrize("path", ["Training.zip", "a/b/Training.zip", "zenodo.org/records/7/files/Training.zip"])
@pytest.mark.parametrize(
    ("pins", "verified_by"),
    [({"md5": MD5}, "md5"), ({"sha256": SHA256}, "sha256"), ({"md5": MD5, "sha256": SHA256}, "sha256"),
     ({}, "first use"), ({"expected_sha256": SHA256, "md5": "0" * 32}, "sha256")],
)  # fmt: skip
def test_an_archive_is_found_by_its_name(tmp_path, path, pins, verified_by):
    put(tmp_path / path, BODY)

    assert own(tmp_path, **pins) == (path, verified_by)


def test_the_place_of_a_mirror_comes_before_others_of_the_same_name(tmp_path):
    put(tmp_path / "Training.zip", OTHER)
    put(tmp_path / "zenodo.org" / "records" / "7" / "files" / "Training.zip", BODY)

    assert own(tmp_path) == ("zenodo.org/records/7/files/Training.zip", "first use")


def test_of_files_of_one_name_the_one_with_the_pinned_checksum_is_taken(tmp_path):
    put(tmp_path / "Training.zip", OTHER)
    put(tmp_path / "b" / "Training.zip", BODY)

    assert own(tmp_path, md5=MD5) == ("b/Training.zip", "md5")


@pytest.mark.parametrize(
    ("url", "name", "same_type"),
    [
        (URL, "Training (1).zip", True), (URL, "x/download.ZIP", True), (URL, "Training.tgz", False),
        ("https://h/open-mic.tgz", "open-mic (2).tar.gz", True), ("https://h/a.csv", "b.csv", True),
        ("https://h/a.csv", "b.json", False),
    ],
)  # fmt: skip
def test_a_renamed_file_is_found_by_its_checksum_among_files_of_its_type(tmp_path, url, name, same_type):
    put(tmp_path / name, BODY)
    put(tmp_path / "other.zip", OTHER)

    file = find_file((str(tmp_path),), RemoteFile("x", url, md5=MD5))

    assert (file and file.path) == (tmp_path / name if same_type else None)


def test_a_broken_download_beside_a_whole_one_that_the_browser_renamed_does_no_harm(tmp_path):
    put(tmp_path / "Training.zip", BODY[:5])
    put(tmp_path / "Training (1).zip", BODY)

    assert own(tmp_path, md5=MD5) == ("Training (1).zip", "md5")


def test_a_file_of_the_name_with_another_checksum_is_an_integrity_error(tmp_path):
    put(tmp_path / "Training.zip", OTHER)

    with pytest.raises(IntegrityError) as caught:
        own(tmp_path, md5=MD5)

    message = str(caught.value)
    other_md5 = hashlib.md5(OTHER).hexdigest()
    assert message.startswith(f"--data-from: {tmp_path}/Training.zip: md5 is {other_md5}, expected {MD5}")
    assert "fetch it again, move it away, or, if you trust it, list it in a SHA256SUMS" in message


def test_what_is_known_of_a_found_file_comes_with_it(tmp_path):
    put(tmp_path / "Training.zip", BODY)

    file = find_file((str(tmp_path),), RemoteFile("train", URL))

    assert (file.sha256, file.md5, file.num_bytes) == (SHA256, MD5, 14)


def test_nothing_of_the_name_or_checksum_is_none(tmp_path):
    put(tmp_path / "other.zip", OTHER)

    assert own(tmp_path, md5=MD5) is None
    assert own(tmp_path) is None
    assert find_file((), RemoteFile("x", URL)) is None


def test_the_sums_of_a_folder_replace_the_pins(tmp_path):
    put(tmp_path / "a" / "Training.zip", OTHER)
    put(tmp_path / "SHA256SUMS", f"{hashlib.sha256(OTHER).hexdigest()}  a/Training.zip\n".encode())

    assert own(tmp_path, md5=MD5) == ("a/Training.zip", "own")


def test_a_file_that_is_not_what_the_sums_of_its_folder_say_is_an_integrity_error(tmp_path):
    put(tmp_path / "Training.zip", BODY)
    put(tmp_path / "SHA256SUMS", f"{'0' * 64}  Training.zip\n".encode())

    with pytest.raises(IntegrityError, match=rf"sha256 is {SHA256}, expected 0{{64}} by .*/SHA256SUMS"):
        own(tmp_path)


def test_a_file_that_changed_is_hashed_again(tmp_path):
    put(tmp_path / "Training.zip", BODY)
    assert own(tmp_path, md5=MD5) == ("Training.zip", "md5")
    put(tmp_path / "Training.zip", OTHER)

    with pytest.raises(IntegrityError):
        own(tmp_path, md5=MD5)


def test_sums_are_read_as_sha256sum_writes_them():
    zeros, ones = "0" * 64, "1" * 64
    content = f"{zeros}  a b.zip\r\n{ones} *./dir/é.csv\n".encode() + b"2" * 64 + b"  \xff.wav\n"

    assert parse_sums(content, "SHA256SUMS") == {"a b.zip": zeros, "dir/é.csv": ones, "\udcff.wav": "2" * 64}
    assert parse_sums(b"", "SHA256SUMS") == {}


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff# made by hand\r\n{'1' * 64}  a.wav\r\n# end\r\n\r\n".encode(),
        f"{'1' * 64}  a.wav\r".encode(),
        f"{'1' * 64} *a.wav".encode(),
    ],
    ids=["mark, comments and blank lines at the end", "CR", "no end of line"],
)
def test_sums_are_read_in_any_editors_form(content):
    assert parse_sums(content, "SHA256SUMS") == {"a.wav": "1" * 64}


def test_sums_in_utf16_are_named():
    with pytest.raises(IntegrityError, match=r"^root/SHA256SUMS: is UTF-16, not UTF-8; save it as UTF-8"):
        parse_sums(f"{'1' * 64}  a.wav\n".encode("utf-16"), "root/SHA256SUMS")


def test_sums_find_a_name_in_any_unicode_form(tmp_path):
    name = "Pi\u00e8ce.csv"
    put(tmp_path / unicodedata.normalize("NFD", name), BODY)
    put(tmp_path / "SHA256SUMS", f"{SHA256}  {name}\n".encode())
    sums_of.cache_clear()

    assert listed_sum(str(tmp_path), unicodedata.normalize("NFD", name)) == SHA256
    assert listed_sum(str(tmp_path), "Piece.csv") is None


def test_a_line_that_is_no_sum_is_named():
    with pytest.raises(IntegrityError, match=r"root/SHA256SUMS:2: expected '<sha256>  <path>', got 'abc  file'"):
        parse_sums(b"0" * 64 + b"  a\nabc  file\n", "root/SHA256SUMS")
