"""Strings of others in Markdown: they are shown, whatever they hold, and do nothing.

A licence, a title or a class may come from a manifest of unknown origin, and the card is shown by web sites. Ordinary
text stays as it is, byte for byte. https://spec.commonmark.org/0.31.2/#backslash-escapes
"""

import re
import urllib.parse

from tutti.datasets.printable import printable

# What begins HTML, a link, a picture, code or emphasis; the backslash itself, or it would undo the next one's.
_ACTIVE = re.compile(r"[\\`*\[\]~$]|!(?=\[)|(?<![^\W_])_|_(?![^\W_])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_FIRST = re.compile(r"^(?=[#>+=-])|^(?<!\d)(\d{1,9})(?=[.)](?:\s|$))")
_WEB = re.compile(r"https?://[^\s\x00-\x1f]+", re.IGNORECASE)
_URL_SAFE = "/:?#@!$&'*+,;=~%-._"  # all that a URL may hold but brackets and parentheses, which end a link


def inline(text: str) -> str:
    """Escape text within a line, or as a cell of a table."""
    visible = printable(" ".join(text.split()))
    escaped = _ENTITY.sub("&amp;", _ACTIVE.sub(r"\\\g<0>", visible))
    return escaped.replace("<", "&lt;")


def line(text: str) -> str:
    """Escape text that begins a line or a point of a list, where more has a meaning."""
    escaped = inline(text)
    return _FIRST.sub(lambda found: f"{found[1]}\\" if found[1] else "\\", escaped, count=1)


def link(text: str, url: str) -> str:
    """Link text to a page of the web; where the address is none, return the text alone."""
    address = web_address(url)
    return inline(text) if address is None else f"[{inline(text)}]({address})"


def web_address(url: str) -> str | None:
    """Escape an address of the web so that nothing in it ends a link; None for every other scheme.

    Such as scripts, data and files.
    """
    return urllib.parse.quote(url, safe=_URL_SAFE) if _WEB.fullmatch(url) else None
