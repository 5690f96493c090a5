"""Cells of a CSV table that no spreadsheet takes for a formula, and the way back.

    writer.writerow(safe_row(["=1+1", -3.5, "cello"]))      '=1+1,-3.5,cello
    plain_cell("'=1+1")                                     =1+1

A text that begins like a formula gets an apostrophe in front, as OWASP advises: a spreadsheet then shows it as
text. Numbers stay numbers. A text that has apostrophes already gets one more, so that every text can be read back.
https://owasp.org/www-community/attacks/CSV_Injection
"""

import re
from collections.abc import Iterable
from typing import Any

# What a spreadsheet calculates, also behind blanks that it takes off, or in full width; tab and return begin a cell.
_FORMULA = re.compile(r"'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")


def safe_cell(value: Any) -> Any:
    """Put an apostrophe before text that begins like a spreadsheet formula; return all else as it is."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def safe_row(cells: Iterable[Any]) -> list[Any]:
    """Apply `safe_cell` to the cells of a row."""
    return [safe_cell(cell) for cell in cells]


def plain_cell(text: str) -> str:
    """Undo `safe_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
