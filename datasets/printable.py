r"""Strings for people: sizes, and words of others, in which all that would act on a terminal is written out.

`\x1b[2J` clears a screen, U+202E shows `gpj.exe` as `exe.jpg`, a line break forges a line of a log.
"""

import re

# By category (UAX #44): Cc control, Cf format (bidi controls, zero width, tags), Cs surrogates, Co private use,
# Zl and Zp line separators are what `str.isprintable` refuses, besides spaces, which are fine, and code points that
# this Python does not know yet. Listed here: what shows nothing though its category is a letter or a mark.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0" + "".join(map(chr, range(0xE0000, 0xE1000)))
)
_SUSPECT = re.compile(r"[^\x20-\x7e\xa1-\xac\xae-\u033f]")  # the rest of ASCII and Latin is as it seems


def printable(text: str) -> str:
    r"""Write out as `\x1b`, `\n`, `\u202e` what is no visible character or space; all else stays.

    A backslash stays too, so this is for eyes: nobody can read the original back.
    """
    return _SUSPECT.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    char = found[0]
    is_space = char in "\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
    if is_space or (char.isprintable() and char not in _INVISIBLE):
        return char
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def in_unicode(name: str) -> str:
    r"""Write out the bytes of a file's name that are no UTF-8 (PEP 383: half surrogates), as `\xe9`; all else stays.

    What is answered can be encoded, so it can stand in manifests, JSON and tables.
    """
    return name if name.isascii() else _HALF.sub(_byte, name)


_HALF = re.compile("[\ud800-\udfff]")


def _byte(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def readable(num_bytes: int) -> str:
    """Write a size in powers of ten."""
    for exponent, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if num_bytes >= 10**exponent:
            return f"{num_bytes / 10**exponent:.1f} {unit}"
    return f"{num_bytes} B"
