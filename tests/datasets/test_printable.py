r"""`printable`: what a stranger's string may do on a terminal is to be read."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.printable import printable

ACTS = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # UAX #44: control, format, surrogate, private use, line separators


@pytest.mark.parametrize(
    "text",
    [
        "",
        "piano/IRMAS-TrainingData 01.wav",
        "Dvořák, Für Elise, œuvre, naïve café",
        "e\u0301 in two characters",
        "尺八 日本語　全角スペース",
        "Балалайка, ελληνικά, עברית, العربية, हिन्दी",
        "🎹 🎻 ✂️ 𝄞",
        "100 % <b>not</b> & \\x1b [as typed]",
        "a\u00a0non-breaking space",
    ],
)
def test_text_of_any_language_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),  # CSI in one character
        ("done\r\nerror: forged", r"done\r\nerror: forged"),
        ("a\tb\x00c\x7f", r"a\tb\x00c\x7f"),
        ("gpj.\u202eexe\u2066\u200f", r"gpj.\u202eexe\u2066\u200f"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("\udcff.wav", r"\udcff.wav"),  # a byte of a file name that is no UTF-8
        ("pi\u200bano \ufeffsoft\xadhyphen", r"pi\u200bano \ufeffsoft\xadhyphen"),
        ("hidden\U000e0041\U000e0100", r"hidden\U000e0041\U000e0100"),
        ("\u3164\u115f", r"\u3164\u115f"),  # letters by name, blank to see
        ("\ufff9\uffff\U0010ffff", r"\ufff9\uffff\U0010ffff"),
    ],
)
def test_what_acts_or_hides_is_written_out(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_nothing_that_acts_on_a_terminal_is_left(text):
    shown = printable(text)

    assert [char for char in shown if unicodedata.category(char) in ACTS] == []
    assert len(shown.splitlines()) <= 1
    shown.encode()  # no lone surrogates
    assert printable(shown) == shown


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"], max_codepoint=0x33F)))
def test_letters_digits_marks_and_signs_stay(text):
    assert printable(text) == text


def test_every_single_character_is_shown_or_written_out():
    for code in range(0x110000):
        char = chr(code)
        acts = unicodedata.category(char) in ACTS
        assert (printable(char) == char) <= (not acts), hex(code)
