"""Archives are read member by member: names are keys, damage has a name."""

import io
import stat
import tarfile
import zipfile

import pytest

from tutti.datasets import archive
from tutti.datasets.archive import open_archive, repair_name
from tutti.datasets.errors import IntegrityError

MEMBERS = {"train/b.wav": b"second" * 100, "train/a.wav": b"first" * 100, "labels.csv": b"key,label\n"}


def zip_bytes(members, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name) if isinstance(name, str) else name, content, compression)
    return out.getvalue()


def tar_bytes(members, others=(), format=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as file:
        for info in others:
            file.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def opened(folder, content, label="upstream.zip"):
    path = folder / "0123abcd"  # in the cache its name is a digest
    path.write_bytes(content)
    return open_archive(path, label)


def without_utf8_flag(name):
    """A zip whose member has a UTF-8 name that claims to be cp437, as many tools write it."""
    stand_in = "x" * len(name.encode())
    return zip_bytes({stand_in: b"data"}).replace(stand_in.encode(), name.encode())


@pytest.mark.parametrize(
    "content", [zip_bytes(MEMBERS), zip_bytes(MEMBERS, zipfile.ZIP_STORED), tar_bytes(MEMBERS)],
    ids=["zip", "stored zip", "tar"],
)  # fmt: skip
def test_zip_and_tar_give_the_same_members_in_the_order_of_the_archive(tmp_path, content):
    files = opened(tmp_path, content)

    assert list(files.names()) == ["train/b.wav", "train/a.wav", "labels.csv"]
    assert {name: files.read(name) for name in files.names()} == MEMBERS


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_is_read(tmp_path, format):
    name = "openmic-2018/audio/000/" + "long" * 20 + ".ogg"

    assert opened(tmp_path, tar_bytes({name: b"data"}, format=format)).read(name) == b"data"


@pytest.mark.parametrize("content", [zip_bytes({}), tar_bytes({})], ids=["zip", "tar"])
def test_an_empty_archive_has_no_members(tmp_path, content):
    assert list(opened(tmp_path, content).names()) == []


@pytest.mark.parametrize("name", ["Canto das três raças-1.wav", "[Speak No Evil] #&', …-2.wav", "Дорога.txt"])
def test_a_utf8_name_without_the_flag_is_read_as_utf8(tmp_path, name):
    files = opened(tmp_path, without_utf8_flag(name))

    assert list(files.names()) == [name]
    assert files.read(name) == b"data"


def test_a_name_with_the_utf8_flag_is_taken_as_it_is(tmp_path):
    assert list(opened(tmp_path, zip_bytes({"três.wav": b""})).names()) == ["três.wav"]


def test_a_name_that_is_no_utf8_stays_cp437():
    info = zipfile.ZipInfo("três.wav")  # as zipfile decodes b"tr\x88s.wav"

    assert repair_name(info) == "três.wav"


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tmp_path):  # OpenMIC: its npz is a zip
    npz = zip_bytes({"X.npy": b"features"}, zipfile.ZIP_STORED)

    files = opened(tmp_path, tar_bytes({"a.ogg": b"audio", "openmic-2018.npz": npz}), "openmic.tar")

    assert list(files.names()) == ["a.ogg", "openmic-2018.npz"]
    assert files.read("openmic-2018.npz") == npz


def test_links_devices_and_folders_of_a_tar_are_no_members(tmp_path):
    others = []
    for number, kind in enumerate(
        [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    ):
        info = tarfile.TarInfo(f"odd{number}")
        info.type, info.linkname = kind, "/etc/passwd"
        others.append(info)

    assert list(opened(tmp_path, tar_bytes({"a.wav": b"data"}, others)).names()) == ["a.wav"]


def test_folders_of_a_zip_are_no_members(tmp_path):
    assert list(opened(tmp_path, zip_bytes({"train/": b"", "train/a.wav": b"data"})).names()) == ["train/a.wav"]


def test_links_of_a_zip_are_no_members(tmp_path):
    link = zipfile.ZipInfo("link.wav")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16

    assert list(opened(tmp_path, zip_bytes({link: b"/etc/passwd", "a.wav": b"data"})).names()) == ["a.wav"]


@pytest.mark.parametrize("content", [zip_bytes(MEMBERS), tar_bytes(MEMBERS)], ids=["zip", "tar"])
def test_an_absent_member_is_an_error_that_names_archive_and_member(tmp_path, content):
    with pytest.raises(IntegrityError, match=r"^upstream\.zip: has no member 'c\.wav'$"):
        opened(tmp_path, content).read("c.wav")


def test_a_wrong_crc_is_an_error_that_names_archive_and_member(tmp_path):
    content = zip_bytes(MEMBERS, zipfile.ZIP_STORED).replace(b"firstfirst", b"firstFirst", 1)

    files = opened(tmp_path, content)

    assert files.read("train/b.wav") == MEMBERS["train/b.wav"]  # the others are as good as ever
    with pytest.raises(IntegrityError, match=r"^upstream\.zip: member 'train/a\.wav' is damaged \(bad CRC-32"):
        files.read("train/a.wav")


def test_an_encrypted_member_is_an_error_that_names_it(tmp_path):
    content = bytearray(zip_bytes({"a.wav": b"data"}, zipfile.ZIP_STORED))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(header) + flags] |= 1

    with pytest.raises(IntegrityError, match=r"member 'a\.wav' is damaged .*encrypted"):
        opened(tmp_path, bytes(content)).read("a.wav")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"<html><title>403 Forbidden</title></html>" * 100,
        bytes(range(256)) * 10,
        zip_bytes(MEMBERS)[:-30],
        tar_bytes({"a.wav": bytes(5_000)})[:3_000],
    ],
    ids=["empty", "two bytes", "html", "anything", "zip without its end", "tar cut in a member"],
)
def test_what_is_no_whole_archive_is_an_error_that_names_it_and_the_remedy(tmp_path, content):
    with pytest.raises(IntegrityError, match=r"^upstream\.zip: not a readable zip or tar archive .*download it again$"):
        opened(tmp_path, content)


def test_a_tar_cut_after_it_was_opened_is_an_error_that_names_the_member(tmp_path):
    files = opened(tmp_path, tar_bytes({"a.wav": bytes(5_000)}), "openmic.tar")
    with (tmp_path / "0123abcd").open("r+b") as stream:
        stream.truncate(1_000)

    with pytest.raises(IntegrityError, match=r"^openmic\.tar: ends inside member 'a\.wav'$"):
        files.read("a.wav")


def test_a_tar_that_ends_early_is_an_error_that_names_where(tmp_path):
    content = tar_bytes({"song/S00.wav": bytes(5_000), "song/S01.wav": bytes(5_000)})[:9_000]
    with pytest.raises(IntegrityError, match=r"unexpected end of data, in or after member 'song/S01\.wav'"):
        opened(tmp_path, content, "slakh.tar")


@pytest.mark.parametrize("damage", [lambda content: content[:5_632], lambda content: content[:5_632] + b"x" * 2_048])
def test_a_tar_without_an_end_mark_may_lack_members_and_is_refused(tmp_path, damage):
    content = damage(tar_bytes({"song/S00.wav": bytes(5_120), "song/S01.wav": bytes(5_000)}, format=tarfile.GNU_FORMAT))
    with pytest.raises(IntegrityError, match=r"neither a member nor the end mark follows member 'song/S00\.wav'"):
        opened(tmp_path, content, "slakh.tar")


@pytest.mark.parametrize("content", [zip_bytes(MEMBERS), tar_bytes(MEMBERS)], ids=["zip", "tar"])
def test_a_member_that_claims_too_much_is_refused_before_it_is_read(tmp_path, content, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 599)

    files = opened(tmp_path, content)

    assert len(files.read("train/a.wav")) == 500
    with pytest.raises(IntegrityError, match=r"member 'train/b\.wav' claims 600 bytes, above 599$"):
        files.read("train/b.wav")


def test_every_damaged_byte_of_a_zip_is_harmless_or_an_integrity_error(tmp_path):
    whole = zip_bytes({"é.wav": b"some data" * 9})
    surprises = {}
    for position, byte in enumerate(whole):
        for value in {0x00, 0xFF, byte ^ 0x01, byte ^ 0x80} - {byte}:
            try:
                files = opened(tmp_path, whole[:position] + bytes([value]) + whole[position + 1 :])
                found = [files.read(name) for name in files.names()]
            except IntegrityError:
                continue
            except Exception as error:
                surprises[position, value] = repr(error)[:60]
            else:
                if found not in ([b"some data" * 9], []):  # its name or date changed, or the number of members
                    surprises[position, value] = "other content"

    assert surprises == {}
