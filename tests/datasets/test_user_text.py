"""Text files of a user, in any editor's bytes: read alike where they are UTF-8, named where they are not."""

import os
from pathlib import Path

import pytest

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.user_text import decode_text, entries, read_text, refuse_bytes, table_rows

LIST = "# why: a takedown\n\na.wav\nÄ b.wav\n  c.wav  # asked for by mail\nTake #3.wav\n"
WANTED = ["a.wav", "Ä b.wav", "c.wav", "Take #3.wav"]


def listed(text: str) -> list[str]:
    return [entry for _, entry in entries(text)]


@pytest.mark.parametrize(
    "data",
    [
        LIST.encode(),
        LIST.encode("utf-8-sig"),
        LIST.replace("\n", "\r\n").encode(),
        LIST.replace("\n", "\r").encode(),
        LIST.rstrip("\n").encode(),
        LIST.replace("Ä", "A\u0308").encode(),
        LIST.replace("\n", "\n\ufeff").encode(),
        LIST.replace("  # asked", "\t# asked").encode(),
    ],
    ids=["plain", "byte order mark", "CRLF", "CR", "no end of line", "NFD", "marks within, of joined files", "tab"],
)
def test_a_list_is_the_same_however_it_was_saved(data):
    assert listed(decode_text(data, "list.txt")) == WANTED


def test_a_line_keeps_its_number_and_what_is_no_end_of_a_line():
    text = "a\u2028b.wav\r\n\r\n# x\rd\x0c.wav\n"

    assert list(entries(text)) == [(1, "a\u2028b.wav"), (4, "d\x0c.wav")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("a.wav\n".encode("utf-16"), "is UTF-16, not UTF-8; save it as UTF-8, for instance with `iconv -f UTF-16"),
        ("\ufeffa.wav\n".encode("utf-16-be"), "is UTF-16, not UTF-8"),
        ("a.wav\nb.wav\n".encode("utf-16-le"), "is UTF-16, not UTF-8"),
        ("a.wav\nb.wav\n".encode("utf-16-be"), "is UTF-16, not UTF-8"),
        ("a.wav\n".encode("utf-32"), "is UTF-32, not UTF-8"),
        ("a.wav\nb.wav\n".encode("utf-32-be"), "is UTF-32, not UTF-8"),
        (
            "a.wav\ncafé.wav\n".encode("latin-1"),
            "is not UTF-8: byte e9 in line 2 ('é' in Latin-1 or Windows-1252); save",
        ),
        (b"a.wav\n\x81.wav", "is not UTF-8: byte 81 in line 2; save it as UTF-8"),
        (b"PK\x03\x04\x14\0\6\0", "is a spreadsheet or a zip, not a text; export it as text, CSV in UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old spreadsheet (.xls), not a text"),
        (rb"{\rtf1 a.wav}", "is a document (.rtf), not a text"),
    ],
)
def test_what_is_no_utf8_is_named_with_a_remedy(data, said):
    with pytest.raises(UsageError) as caught:
        decode_text(data, "list.txt")

    assert str(caught.value).startswith(f"list.txt: {said}")
    with pytest.raises(IntegrityError):
        decode_text(data, "list.txt", error=IntegrityError)


def test_a_name_may_pass_with_bytes_that_are_no_utf8_and_other_text_may_not():
    (name,) = listed(decode_text(b"caf\xe9.wav\n", "list.txt", bytes_pass=True))

    assert os.fsencode(name) == b"caf\xe9.wav"
    refuse_bytes("café \ud7ff", "list.txt", 7)
    with pytest.raises(UsageError, match=r"^list\.txt: is not UTF-8: byte e9 in line 7 \('é' in Latin-1"):
        refuse_bytes(name, "list.txt", 7)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_has_no_comments_and_no_empty_rows_but_what_is_quoted_stays(end):
    lines = ['# it\'s "mine", a, "b" c', "id,note", "", " # x", 'a, "two', '# lines"', ",,", "Ae\u0301,", "# end"]

    assert list(table_rows(end.join(lines), "t.csv")) == [
        (2, ["id", "note"]), (6, ["a", f"two{end}# lines"]), (8, ["Aé", ""]),
    ]  # fmt: skip


def test_an_open_quote_is_named_with_its_line():
    with pytest.raises(UsageError, match=r"^t\.csv:3: .*are the quotes in pairs\?"):
        list(table_rows('id\n# "\n"a\n', "t.csv"))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path, Path("a\0b")):
        with pytest.raises(UsageError, match=r"^--exclude X: cannot be read"):
            read_text(path, "--exclude X")
