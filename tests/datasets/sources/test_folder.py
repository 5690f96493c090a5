"""The user's own folder: what its CSV may hold, and what each slip in it says."""

import dataclasses
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tutti.datasets.errors import UsageError
from tutti.datasets.record import ABSENT, PRESENT, Clip, Label, Media, Recording
from tutti.datasets.sources import folder
from tutti.datasets.sources.folder import Config, class_columns, instruments

Read = Callable[..., list[Recording]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with some files; the reader never opens them."""
    root = tmp_path / "music"
    for name in ("a.wav", "b.wav", "takes/c.flac", "Ä ü ß.ogg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def read(root: Path) -> Read:
    """Read the folder with a CSV of the text or bytes given."""

    def run(table: str | bytes, **config: str) -> list[Recording]:
        (root / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
        return list(folder.read({}, Config(root=str(root), **config)))

    return run


def clips(recordings: list[Recording]) -> list[Clip]:
    return [clip for recording in recordings for clip in recording.clips]


# What it may hold


def test_a_path_and_one_class_are_enough(read: Read) -> None:
    assert read("path,cello\ntakes/c.flac,1\n") == [
        Recording(
            Media("folder:takes/c.flac", None, None),
            (
                Clip(
                    id="folder/takes/c.flac@0",
                    source="folder",
                    recording="takes/c.flac",
                    group="folder/takes/c.flac",
                    partition="all",
                    labels={"cello": Label(PRESENT, "human")},
                ),
            ),
        )
    ]


def test_every_column_finds_its_field(read: Read) -> None:
    table = "path,group,split,license,start_s,end_s,piano\na.wav,session 1,test,CC0-1.0,2.5,12.75,0\n"
    (clip,) = clips(read(table, license="ignored"))
    assert clip.id == "folder/a.wav@2500"
    assert (clip.group, clip.partition, clip.license) == ("folder/session 1", "test", "CC0-1.0")
    assert (clip.start_s, clip.end_s, clip.declared_s) == (2.5, 12.75, 10.25)
    assert clip.labels == {"piano": Label(ABSENT, "human")}


def test_an_empty_cell_is_unknown_and_takes_the_default(read: Read) -> None:
    (clip,) = clips(read("path,group,split,license,start_s,end_s,piano\na.wav,,,,,,\n", license="CC-BY-4.0"))
    assert (clip.labels, clip.group, clip.partition, clip.license) == ({}, "folder/a.wav", "all", "CC-BY-4.0")
    assert (clip.start_s, clip.end_s, clip.declared_s) == (0.0, None, None)


def test_excerpts_of_one_file_are_clips_of_one_recording(read: Read) -> None:
    (recording,) = read("path,start_s,end_s,piano\na.wav,0,10,1\na.wav,10,20,0\n")
    assert [clip.id for clip in recording.clips] == ["folder/a.wav@0", "folder/a.wav@10000"]
    assert {clip.group for clip in recording.clips} == {"folder/a.wav"}


def test_spreadsheet_output_reads_like_plain_csv(read: Read) -> None:
    plain = "path,cello\na.wav,1\nb.wav,0\n"
    spreadsheet = b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode()  # byte order mark, CRLF
    assert read(spreadsheet) == read(plain)
    assert read('"path", "cello"\n"a.wav",1\n\nb.wav, 0\n') == read(plain)


def test_decomposed_accents_give_the_same_id_but_the_name_on_disk(read: Read, root: Path) -> None:
    decomposed, composed = unicodedata.normalize("NFD", "Ä.wav"), unicodedata.normalize("NFC", "Ä.wav")
    (root / decomposed).touch()
    (recording,) = read(f"path,cello\n{decomposed},1\n")
    assert recording.media.url == f"folder:{decomposed}"
    assert recording.clips[0].id == f"folder/{composed}@0"
    assert recording.clips[0].group == f"folder/{composed}"


def test_non_ascii_paths_and_groups_are_welcome(read: Read) -> None:
    (clip,) = clips(read("path,group,cello\nÄ ü ß.ogg,Lied №1,1\n"))
    assert (clip.recording, clip.group) == ("Ä ü ß.ogg", "folder/Lied №1")


def test_a_path_has_one_spelling(read: Read) -> None:
    assert [clip.recording for clip in clips(read("path,cello\n./takes//c.flac,1\n"))] == ["takes/c.flac"]


def test_a_link_within_the_folder_is_a_file_of_the_folder(read: Read, root: Path) -> None:
    (root / "link.wav").symlink_to(root / "a.wav")
    assert len(read("path,cello\nlink.wav,1\n")) == 1


def test_instruments_are_the_class_columns_in_the_order_of_the_csv(read: Read, root: Path) -> None:
    read("violin,path,theremin,split,cello\n1,a.wav,1,,\n")
    assert instruments(Config(root=str(root))) == ("violin", "theremin", "cello")


def test_the_csv_may_have_another_name(root: Path) -> None:
    (root / "mine.csv").write_text("path,cello\na.wav,1\n")
    assert len(list(folder.read({}, Config(root=str(root), csv="mine.csv")))) == 1


def test_root_stays_out_of_rows_and_recipes(read: Read, root: Path) -> None:
    assert str(root) not in repr(read("path,cello\na.wav,1\n"))
    (local,) = [field.name for field in dataclasses.fields(Config) if field.metadata.get("local")]
    assert local == "root"


@pytest.mark.parametrize("own", ["theremin", "viola", "mandola", "bassoon", "bass_clarinet", "xylophone", "pipe_organ"])
def test_an_instrument_that_the_taxonomy_lacks_is_a_class_of_the_user_s_own(own: str) -> None:
    assert class_columns(("path", own), "labels.csv") == (own,)


@pytest.mark.parametrize(
    ("own", "near"),
    [("lute", "flute"), ("clavinet", "clarinet"), ("chello", "cello"), ("electric_guitars", "electric_guitar")],
)
def test_a_class_near_a_known_one_is_a_class_with_a_remark(read: Read, root: Path, own: str, near: str) -> None:
    (clip,) = clips(read(f"path,{own},piano,theremin\na.wav,1,0,0\n"))
    assert clip.labels[own] == Label(PRESENT, "human")
    assert list(folder.remarks(Config(root=str(root)))) == [
        f"labels.csv: {own!r} is a class of your own; if {near!r} is meant, rename the column"
    ]


# What it may be named


@pytest.mark.parametrize(("written", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_name_is_found_in_any_unicode_form(read: Read, root: Path, written: str, on_disk: str) -> None:
    name = unicodedata.normalize(on_disk, "Pièce à 4/Übung ō.wav")
    (root / name).parent.mkdir()
    (root / name).touch()
    (recording,) = read(f"path,cello\n{unicodedata.normalize(written, name)},1\n")
    assert recording.media.url == f"folder:{name}"
    assert recording.clips[0].id == "folder/Pièce à 4/Übung ō.wav@0"


def test_a_name_of_bytes_that_are_no_utf8_is_found_as_it_stands_and_written_out(read: Read, root: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    (root / name).touch()
    for table in (b"path,cello\ncaf\xe9.wav,1\nb.wav,\n", rb"path,cello" + b"\n" + rb"caf\xe9.wav,1" + b"\nb.wav,\n"):
        first, second = read(table)
        assert first.media.url == f"folder:{name}"
        assert first.clips[0].id == r"folder/caf\xe9.wav@0"
        assert (first.clips[0].recording, first.clips[0].group) == (r"caf\xe9.wav", r"folder/caf\xe9.wav")
        assert second.clips[0].id == "folder/b.wav@0"


def test_a_windows_path_is_found(read: Read) -> None:
    assert [clip.recording for clip in clips(read("path,cello\r\ntakes\\c.flac,1\r\n"))] == ["takes/c.flac"]


def test_a_comment_is_passed_over_but_a_file_whose_name_begins_so_is_a_file(read: Read, root: Path) -> None:
    (root / "#1 hit.wav").touch()
    table = '# made by hand, "2026"\npath,cello\n\n# a.wav,1\n#1 hit.wav,1\n ,\nb.wav,0\n'
    assert [clip.recording for clip in clips(read(table))] == ["#1 hit.wav", "b.wav"]


def test_files_that_are_not_there_are_counted_and_the_first_ten_named(read: Read) -> None:
    rows = [f"gone{number:02}.wav,1" for number in range(12)]
    with pytest.raises(UsageError) as caught:
        read("\n".join(["path,cello", "a.wav,1", *rows, "A.WAV,1"]))
    said = str(caught.value)
    assert said.startswith("labels.csv:3: 13 of 14 rows name files that are not in the folder: line 3 'gone00.wav', ")
    assert said.endswith("line 12 'gone09.wav' and 3 more; correct the paths or remove the rows")


def test_a_missing_file_whose_capitals_differ_is_suggested(read: Read) -> None:
    with pytest.raises(UsageError, match=r"labels\.csv:2: 'A\.WAV' \(there is 'a\.wav'\) is not in the folder"):
        read("path,cello\nA.WAV,1\n")


# What a slip says


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("licence", "license"),
        ("splits", "split"),
        ("start", "start_s"),
    ],
)
def test_a_column_that_is_nearly_one_of_ours_is_a_slip(slip: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"^labels\.csv:1: unknown column '{slip}'; did you mean '{meant}'\?"):
        class_columns(("path", "piano", slip), "labels.csv")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"^labels\.csv:1: is empty"),
        ("\n\n", r"^labels\.csv:1: is empty"),
        ("path,cello\n", r"^labels\.csv:2: has no rows"),
        ("file,cello\na.wav,1\n", r"^labels\.csv:1: has no column 'path' among: file, cello"),
        ("path;cello\na.wav;1\n", r"^labels\.csv:1: has no column 'path' .* separate columns by commas"),
        ("path,group\na.wav,g\n", r"^labels\.csv:1: has no class column"),
        ("path,cello,cello\na.wav,1,0\n", r"^labels\.csv:1: column 'cello' stands twice"),
        ("path,Cello\na.wav,1\n", r"^labels\.csv:1: column 'Cello': use small letters"),
        ("path,cello,\na.wav,1,\n", r"^labels\.csv:1: column '': use small letters"),
        ("path,cello\na.wav,1\nb.wav\n", r"^labels\.csv:3: has 1 cells, the header 2"),
        ("path,cello\na.wav,1,1\n", r"^labels\.csv:2: has 3 cells, the header 2"),
        ("path,cello\na.wav,yes\n", r"^labels\.csv:2: column 'cello' holds 'yes'; use 1, 0, or leave it empty"),
        ("path,cello\na.wav,0.5\n", r"^labels\.csv:2: column 'cello' holds '0\.5'"),
        ('path,group,cello\na.wav,"two\nlines",2\n', r"^labels\.csv:3: column 'cello' holds '2'"),
        ('path,cello\n"a.wav,1\n', r"^labels\.csv:2: unexpected end of data"),
        ("path,cello\n,1\n", r"^labels\.csv:2: path is empty"),
        (".,cello\n", r"^labels\.csv:1: has no column 'path'"),
        ("path,cello\n.,1\n", r"^labels\.csv:2: path is empty"),
        ("path,cello\n/etc/passwd,1\n", r"^labels\.csv:2: path '/etc/passwd' leads out of the folder"),
        ("path,cello\n../a.wav,1\n", r"^labels\.csv:2: path '\.\./a\.wav' leads out of the folder"),
        ("path,cello\ntakes/../a.wav,1\n", r"^labels\.csv:2: path 'takes/\.\./a\.wav' leads out"),
        ("path,cello\na.wav,1\nmissing.wav,1\n", r"^labels\.csv:3: 'missing\.wav' is not in the folder"),
        ("path,cello\ntakes,1\n", r"^labels\.csv:2: 'takes' is not in the folder"),
        ("path,cello\na\0.wav,1\n", r"^labels\.csv:2: 'a\\x00\.wav' is not in the folder"),
        ("path,cello\na.wav,1\na.wav,0\n", r"^labels\.csv:3: a\.wav stands twice from 0\.0 s on"),
        ("path,cello\na.wav,1\n./a.wav,0\n", r"^labels\.csv:3: a\.wav stands twice"),
        ("path,start_s,group,cello\na.wav,0,x,1\na.wav,5,y,1\n", r"^labels\.csv:3: a\.wav is in two groups"),
        ("path,split,cello\na.wav,dev,1\n", r"^labels\.csv:2: split 'dev'; use train, validation, test"),
        ("path,start_s,cello\na.wav,-1,1\n", r"^labels\.csv:2: start_s '-1' is no time in seconds"),
        ("path,end_s,cello\na.wav,nan,1\n", r"^labels\.csv:2: end_s 'nan' is no time in seconds"),
        ("path,start_s,end_s,cello\na.wav,5,5,1\n", r"^labels\.csv:2: end_s 5\.0 is not after start_s 5\.0"),
        ("path,cello\nä.wav,1\n".encode("latin-1"), r"^labels\.csv: is not UTF-8: byte e4 in line 2 \('ä' in Latin-1"),
        ("path,group,cello\na.wav,für,1\n".encode("latin-1"), r"^labels\.csv: is not UTF-8: byte fc in line 2"),
        ("path,cello\na.wav,1\n".encode("utf-16"), r"^labels\.csv: is UTF-16, not UTF-8; save it as UTF-8"),
    ],
)
def test_a_bad_csv_is_a_usage_error_that_names_line_and_remedy(read: Read, table: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(table)


def test_a_link_out_of_the_folder_is_refused(read: Read, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").touch()
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    (root / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    for path in ("link.wav", "elsewhere/secret.wav"):
        with pytest.raises(UsageError, match=r"^labels\.csv:2: .* is a link out of the folder"):
            read(f"path,cello\n{path},1\n")


def test_two_unicode_forms_of_one_name_cannot_both_be_clips(read: Read, root: Path) -> None:
    for form in ("NFC", "NFD"):
        (root / unicodedata.normalize(form, "ä.wav")).touch()
    table = "path,cello\n" + "".join(f"{unicodedata.normalize(form, 'ä.wav')},1\n" for form in ("NFC", "NFD"))
    with pytest.raises(UsageError, match=r"^labels\.csv:3: .* stands twice"):
        read(table)


def test_without_root_folder_or_csv_the_message_says_what_to_pass(root: Path) -> None:
    with pytest.raises(UsageError, match=r"pass --data-from DIR, where DIR holds your audio and its labels\.csv"):
        list(folder.read({}, Config()))
    with pytest.raises(UsageError, match="is not a folder; pass --data-from DIR"):
        list(folder.read({}, Config(root=str(root / "nowhere"))))
    with pytest.raises(UsageError, match=r"^labels\.csv: cannot be read in .*No such file"):
        instruments(Config(root=str(root)))
