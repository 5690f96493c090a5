"""Texts of strangers in what we write: a card, Croissant, the page for relabelling, tables, pictures."""

import csv
import io
import json
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.csv_cells import plain_cell, safe_cell, safe_row
from tutti.datasets.shard_info import ShardInfo
from tutti.pipelines.curation.overrides import Override, overrides_csv, read_overrides
from tutti.pipelines.export.card import Counts, dataset_card, readme
from tutti.pipelines.export.formats.croissant import croissant_json, describe
from tutti.pipelines.export.markdown import inline, web_address
from tutti.pipelines.relabel.page import page
from tutti.train.scoring.pictures import activity, save

markdown_it = pytest.importorskip("markdown_it", reason="needs a Markdown parser: markdown-it-py")

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![seen](https://tracker.example/1.png)",
    "\\[click](https://evil.example)",
    "[a]: https://evil.example",
    "<https://evil.example>",
    "a\n---\nlicense: mit\n",
    "a\r\n\r\n# A heading\r\n\r\n<b>bold</b>",
    "cell | cell \\| cell",
    "`code` ``` **strong** ~~gone~~ $x$",
    "&lt;b&gt; &#60;b&#62;",
    "{{ 7*7 }} ${7*7} {% raw %}",
    "\x1b[2J\u202egpj.exe",
    "<!-- not seen -->",
    "# heading",
    "1. point",
    "- point",
]
SHARDS = [ShardInfo("data/train-00000-of-00001.parquet", "train", 1, 100, "aa" * 32, "")]


def content(text: str, url: str = "https://example.org/a") -> dict[str, Any]:
    """A manifest in which a stranger chose every text."""
    source = {"title": text, "homepage": url, "license": text, "license_url": url, "citation": text}
    return {
        "schema_version": 2,
        "dataset": text,
        "root_digest": "0123456789abcdef" * 4,
        "instruments": ["cello", text],
        "recipe": {"prepare": {"sample_rate": 16_000}},
        "sources": {"folder": source},
    }


def counts(text: str) -> Counts:
    return Counts({"train": 1}, {text: 1}, {"folder": 1}, {text: 2})


class Page(HTMLParser):
    """Tags, what leads elsewhere, and the words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: set[str] = set()
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets |= {value or "" for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        self.words += data


def shown(markdown: str) -> Page:
    """As a web site shows it that lets HTML through: GitHub's Markdown."""
    return Page(markdown_it.MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown))


# --- the card


@pytest.mark.parametrize("text", HOSTILE)
def test_a_strangers_text_is_shown_on_the_card_and_does_nothing(text: str) -> None:
    card = shown(readme(content(text), counts(text), usage=""))

    ordinary = shown(readme(content("Plain words"), counts("Plain words"), usage=""))
    assert card.tags == ordinary.tags
    assert card.targets == {"https://example.org/a"}
    printed = " ".join(text.split()).replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert card.words.count(printed) >= 7  # dataset, class, licence (kept, left out, of the corpus), title, citation


@given(st.text(st.characters(exclude_characters="|")))
def test_any_text_is_a_cell_without_markup(text: str) -> None:
    table = shown(f"| a | b |\n| --- | --- |\n| {inline(text)} | end |")
    assert table.tags == {"table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "file:///etc/passwd", "//evil.example", "x"],
)
def test_only_pages_of_the_web_are_linked(url: str) -> None:
    assert web_address(url) is None
    assert shown(readme(content("Title", url), counts("Title"), usage="")).targets == set()
    assert describe(content("Title", url), counts("Title"), SHARDS)["isBasedOn"] == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/a_(b)?c=d&e#f", "https://example.org/a_%28b%29?c=d&e#f"),
        ('https://example.org/"onclick="x', "https://example.org/%22onclick=%22x"),
        ("https://example.org/a) [b](javascript:c", None),
        ("https://creativecommons.org/licenses/by/4.0/", "https://creativecommons.org/licenses/by/4.0/"),
    ],
)
def test_an_address_ends_neither_its_link_nor_its_attribute(url: str, expected: str | None) -> None:
    assert web_address(url) == expected


@pytest.mark.parametrize(
    "text", [*HOSTILE, '"\n---\nx: y', "\x85\u2028\ufeff", "emoji \U0001f3bb", "!!python/object:x"]
)
def test_the_front_matter_stays_the_same_yaml_whatever_a_dataset_is_called(text: str) -> None:
    card = dataset_card(content(text), counts(text), SHARDS, usage="")

    matter = yaml.safe_load(card.split("\n---\n", 1)[0])
    assert matter["pretty_name"] == text
    expected = yaml.safe_load(dataset_card(content("x"), counts("x"), SHARDS, usage="").split("\n---\n", 1)[0])
    assert {**matter, "pretty_name": "x"} == expected


def test_ordinary_text_stays_as_it_is() -> None:
    for text in (
        "J. J. Bosch, J. Janer: A comparison of sound segregation (2012), pp. 559-564.",
        "CC-BY-NC-SA-3.0",
        "https://creativecommons.org/licenses/by/4.0/",
        "Drums & bass, 50 % of R&B, electric_guitar = 3 > 2",
        "Zoë's «Étude» #2",
    ):
        assert inline(text) == text


# --- Croissant


@pytest.mark.parametrize("text", HOSTILE)
def test_croissant_ends_no_script_and_reads_back_as_it_was(text: str) -> None:
    written = croissant_json(content(text), counts(text), SHARDS)

    assert not [part for part in ("</", "<!", "<?", "<script") if part in written.lower()]
    assert json.loads(written)["name"] == text
    (license_url,) = json.loads(written)["license"]
    assert license_url.startswith(("https://spdx.org/licenses/", "https://example.org/"))
    assert not set(license_url) & set(" <>\"'\n\r\t\\|`")


# --- the page for relabelling


@pytest.mark.parametrize("text", [*HOSTILE, "</script><script>alert(1)</script>", "<!--<script>", "__SAMPLE__"])
def test_ids_labels_and_names_are_data_on_the_page(text: str) -> None:
    clip = {"id": text, "audio": "audio/001.flac", "labels": {text: 1}}
    sample = {"dataset": text, "version": "0" * 12, "instruments": [text], "clips": [clip]}

    written = Page(page(sample))

    assert written.tags == Page(page({**sample, "dataset": "x", "instruments": ["x"], "clips": []})).tags
    assert written.targets == {"data:,"}
    data = written.words[written.words.index('{"clips":') :].partition("\n")[0]
    assert json.loads(data)["clips"] == [clip]
    assert json.loads(data)["instruments"][0]["name"] == text


# --- tables


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"), ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("\n=1", "'\n=1"), (" =1", "' =1"), ("\uff1d1", "'\uff1d1"),
        ("'=1", "''=1"), ("cello", "cello"), ("'tis", "'tis"), ("a=1", "a=1"), ("", ""),
    ],
)  # fmt: skip
def test_text_that_begins_like_a_formula_gets_an_apostrophe(text: str, written: str) -> None:
    assert safe_cell(text) == written
    assert plain_cell(written) == text


@given(st.text(alphabet="'=+-@ \t\r\nax\uff1d"))
def test_every_text_can_be_read_back(text: str) -> None:
    assert plain_cell(safe_cell(text)) == text


def test_numbers_stay_numbers() -> None:
    assert safe_row([-3.5, -1, None, "-1"]) == [-3.5, -1, None, "'-1"]


def test_corrections_come_back_as_they_were(tmp_path: Path) -> None:
    overrides = (
        Override("-x/song@0", "cello", 1, "=HYPERLINK(1)"),
        Override("=cmd|x@0", "flute", 0, "+1 for this"),
        Override("'=y@0", "voice", -1, "plain"),
    )
    path = tmp_path / "overrides.csv"
    path.write_text(overrides_csv(overrides), encoding="utf-8")

    assert set(read_overrides(path)) == set(overrides)
    cells = [cell for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"))) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


# --- pictures


@pytest.mark.parametrize("name", ["$\\frac{", "a$b$c", "$$", "x\x1b[2J\ny", "\\$"])
def test_a_files_name_is_no_formula_on_a_picture(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        figure = activity([(0.0, 1.0)], [[0.5, 0.7]], [0.5, 0.5], ["cello", name], name)  # type: ignore[arg-type]
        save(figure, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
