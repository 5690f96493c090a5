"""Text files that a user made, in any editor and on any system: labels, corrections, exclusions, checksums.

    text = read_text(path, "overrides.csv")          UTF-8, with or without a byte order mark; else it says what it is
    for line, cells in table_rows(text, name): ...   CSV, its cells in Unicode NFC
    for line, entry in entries(text): ...            one entry a line

Lines end with LF, CRLF or CR. Blank lines and comments, which begin with `#`, are passed over; so are a spreadsheet's
empty rows and, in a list, what stands behind ` # `.
"""

import codecs
import csv
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from tutti.datasets.errors import TuttiError, UsageError
from tutti.datasets.os_errors import words

MAX_BYTES = 256 << 20  # of a table: three million rows
HEAD_BYTES = 4096  # looked at for a format that is no text
MARK = "\ufeff"  # byte order mark

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_FORMATS = (
    (b"PK\x03\x04", "a spreadsheet or a zip"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet (.xls)"),
    (b"{\\rtf", "a document (.rtf)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF"),
)
_LINE_END = re.compile(r"\r\n|\r|\n")  # not `splitlines`: a name may hold U+2028 or a form feed
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_COMMENT = re.compile(r"\s+#(?:\s.*)?$", re.DOTALL)


def read_text(path: Path, name: str) -> str:
    """Read a text file of a user.

    Args:
        path: the file; a pipe (`<(...)`) may be one.
        name: for errors.

    Raises:
        UsageError: it cannot be read, or is not UTF-8; the message says what it is.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({words(error)}); name a text file in UTF-8") from error
    except ValueError as error:  # a NUL in its name
        raise UsageError(f"{name}: cannot be read ({error}); name a text file in UTF-8") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name}: has more than {MAX_BYTES:,} bytes; is this the file that is meant?")
    return decode_text(data, name)


def decode_text(data: bytes, name: str, *, bytes_pass: bool = False, error: type[TuttiError] = UsageError) -> str:
    """Decode the bytes of a text file of a user; a byte order mark is removed.

    Args:
        data: of the file.
        name: for errors.
        bytes_pass: a name in it may hold bytes that are no UTF-8; they become half surrogates (PEP 383).
        error: to raise.

    Raises:
        TuttiError: of type `error`: it is UTF-16, Latin-1, or no text; the message says which, and what to do.
    """
    if (problem := problem_of(data, bytes_pass=bytes_pass)) is not None:
        raise error(f"{name}: {problem}")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def problem_of(data: bytes, *, bytes_pass: bool = False) -> str | None:
    """Describe what a file is that is no text in UTF-8, and the remedy; None: it is such a text."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _other_encoding(encoding)
    head = data[:HEAD_BYTES]
    for magic, kind in _FORMATS:
        if head.startswith(magic):
            return f"is {kind}, not a text; export it as text, CSV in UTF-8"
    if (wide := _wide_encoding(head)) is not None:
        return _other_encoding(wide)
    if bytes_pass:
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return _not_utf8(data[error.start], line)
    return None


def refuse_bytes(cell: str, name: str, line: int, *, error: type[TuttiError] = UsageError) -> None:
    """Refuse text with bytes that are no UTF-8, where it is no name of a file.

    Args:
        cell: the text.
        name: of its file, for errors.
        line: of the file.
        error: to raise.

    Raises:
        TuttiError: of type `error`: names the byte, and the letter that it is in other encodings.
    """
    if cell.isascii():
        return
    found = next((character for character in cell if "\udc80" <= character <= "\udcff"), None)
    if found is not None:
        raise error(f"{name}: {_not_utf8(ord(found) - 0xDC00, line)}")


def _not_utf8(byte: int, line: int) -> str:
    letter = bytes([byte]).decode("cp1252", "replace")
    shown = f" ({letter!r} in Latin-1 or Windows-1252)" if letter.isprintable() and letter != "\ufffd" else ""
    how = "for instance with `iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW`"
    return f"is not UTF-8: byte {byte:02x} in line {line}{shown}; save it as UTF-8, {how}"


def _other_encoding(encoding: str) -> str:
    how = f"for instance with `iconv -f {encoding} -t UTF-8 FILE > NEW`, or in a spreadsheet as 'CSV UTF-8'"
    return f"is {encoding}, not UTF-8; save it as UTF-8, {how}"


def _wide_encoding(head: bytes) -> str | None:
    """Detect UTF-16 and UTF-32 without a mark: of most letters every second byte, or three of four, is 0."""
    if len(head) < 4 or head.count(0) * 5 < len(head):
        return None
    for width, encoding in ((4, "UTF-32"), (2, "UTF-16")):
        columns = [head[index::width] for index in range(width)]
        empty = sum(column.count(0) >= 0.7 * len(column) for column in columns)
        if empty == width - 1:
            return encoding
    return None


# --- tables


class _Lines:
    """Lines of a table for `csv.reader`, without comments between its rows; counts all."""

    def __init__(self, text: str, is_comment: Callable[[str], bool]) -> None:
        self.number = 0  # of the line that was read last
        self.begins = True  # whether the next line begins a row
        self._lines = (found[0] for found in _LINE.finditer(text))  # with their ends, which a quoted cell may hold
        self._is_comment = is_comment

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        """Return the next line that is no comment."""
        for line in self._lines:
            self.number += 1
            if self.begins:
                line = line.removeprefix(MARK)  # within, where files were put one behind the other
                if self._is_comment(line):
                    continue
                self.begins = False
            return line
        raise StopIteration


def table_rows(
    text: str, name: str, *, is_comment: Callable[[str], bool] = lambda line: line.lstrip().startswith("#")
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of the rows of a CSV that are not empty; the last line of a long one.

    Cells are stripped of blanks, and in Unicode NFC.

    Args:
        text: of the table.
        name: for errors.
        is_comment: whether a line that begins a row is none.

    Raises:
        UsageError: its quotes are not in pairs.
    """
    lines = _Lines(text, is_comment)
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    while True:
        lines.begins = True
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UsageError(
                f"{name}:{lines.number}: {error}; check the quotes of this line: are the quotes in pairs?"
            ) from error
        if cells is None:
            return
        stripped = [nfc(cell.strip()) for cell in cells]
        if any(stripped):
            yield lines.number, stripped


# --- lists


def entries(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of the entries of a list, in Unicode NFC, without comments and blanks around.

    ` # ` begins a comment, ` #` alone does not: `Take #3.wav` is a name.
    """
    for number, line in enumerate(lines_of(text), start=1):
        entry = line.strip().strip(MARK).strip()
        if not entry.startswith("#") and (entry := _COMMENT.sub("", entry)):
            yield number, nfc(entry)


def nfc(text: str) -> str:
    """Compose accents (Unicode NFC): a Mac stores `é` as two characters, other systems as one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def lines_of(text: str) -> list[str]:
    """Split a text into lines, without their ends, each of which counts once; the last may have none."""
    lines = _LINE_END.split(text)
    return lines[:-1] if lines and not lines[-1] else lines
