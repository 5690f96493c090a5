"""Human corrections: what the CSV may say, what it does to labels, and errors that name the line."""

import json
import pickle

import pytest
from rows import human

from tutti.datasets.errors import UsageError
from tutti.datasets.record import Label
from tutti.pipelines.curation.overrides import (
    Override,
    apply_overrides,
    ordered_overrides,
    overrides_csv,
    read_overrides,
    unmatched_ids,
)
from tutti.pipelines.recipe import as_json

HEADER = "id,instrument,presence,note\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "overrides.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# --- reading


def test_one_zero_and_nothing_mean_present_absent_and_unknown(written):
    path = written(HEADER + "a/x@0,cello,1,\na/x@0,flute,0,a recorder\na/x@0,voice,,\n")

    assert read_overrides(path) == (
        Override("a/x@0", "cello", 1, ""),
        Override("a/x@0", "flute", 0, "a recorder"),
        Override("a/x@0", "voice", -1, ""),
    )


def test_the_order_of_the_lines_does_not_matter(written):
    path = written(HEADER + "b/x@0,flute,1,\na/x@0,voice,0,\na/x@0,cello,1,\n")

    assert [(row.id, row.instrument) for row in read_overrides(path)] == [
        ("a/x@0", "cello"),
        ("a/x@0", "voice"),
        ("b/x@0", "flute"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "id,instrument,presence\na/x@0,cello,1\n",
        HEADER + "a/x@0,cello,1\n",
        HEADER + "\n , ,,\na/x@0 , cello,1 ,\n\n",
        b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + b"a/x@0,cello,1,\r\n",
    ],
    ids=["no note column", "no note cell", "blank lines and spaces", "as a spreadsheet saves it"],
)
def test_harmless_variants_are_read_alike(written, text):
    assert read_overrides(written(text)) == (Override("a/x@0", "cello", 1),)


def test_an_id_with_comma_quote_bracket_and_decomposed_accent_is_read(written):
    path = written(HEADER + '"irmas/[cel] Cafe\u0301, ""live"".wav@0",cello,1,"first, loud"\n')

    assert read_overrides(path) == (Override('irmas/[cel] Café, "live".wav@0', "cello", 1, "first, loud"),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", ":1: expected the header id,instrument,presence,note, got nothing"),
        ("id;instrument;presence;note\n", ":1: expected the header id,instrument,presence,note, got id;instrument"),
        (HEADER + "a/x@0,cello,1,\na/x@0,cello,2,\n", ":3: presence '2'; expected 1 (present), 0 (absent)"),
        (HEADER + "a/x@0,cello\n", ":2: expected 4 cells, got 2"),
        (HEADER + "a/x@0,cello,1,loud, and high\n", ":2: expected 4 cells, got 5; put a cell that holds a comma"),
        (HEADER + "song.wav,cello,1,\n", ":2: 'song.wav' is no id of a clip; expected source/key@start_ms"),
        (HEADER + "a/x@0,,1,\n", ":2: the instrument is missing"),
        (HEADER + "a/x@0,celo,1,\n", ":2: no class 'celo' (did you mean 'cello'?); known: cello, flute"),
        (HEADER + "a/x@0,cello,1,\nb/x@0,cello,1,\na/x@0,cello,0,\n", ":4: cello of a/x@0 stands in line 2 already"),
        (HEADER + 'a/x@0,cello,1,"two\nlines"\na/x@0,flute,x,\n', ":4: presence 'x'"),
        (HEADER + 'a/x@0,cello,1,"open\n', "are the quotes in pairs?"),
        (HEADER.encode() + b"a/x@0,cello,1,\xff\n", "not a readable UTF-8 file"),
    ],
)
def test_an_error_names_the_line_and_the_remedy(written, text, complaint):
    with pytest.raises(UsageError) as raised:
        read_overrides(written(text), ("cello", "flute"))

    assert complaint in str(raised.value)
    assert "overrides.csv" in str(raised.value)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv: not a readable UTF-8 file"):
        read_overrides(tmp_path / "none.csv")


# --- writing


def test_what_is_written_is_read_back_and_sorted(written):
    rows = (
        Override('b/[x], "y"@1500', "flute", -1, "a, b"),
        Override("a/x@0", "cello", 1, "two\nlines"),
        Override("a/x@0", "voice", 0),
    )

    text = overrides_csv(rows)

    assert text == (
        'id,instrument,presence,note\na/x@0,cello,1,two lines\na/x@0,voice,0,\n"b/[x], ""y""@1500",flute,,"a, b"\n'
    )
    assert overrides_csv(read_overrides(written(text))) == text


# --- applying


def test_a_correction_replaces_the_label_with_one_of_human_origin():
    given = {"cello": Label(1, "weak", 0.7), "flute": Label(0, "crowd", 0.2), "piano": Label(1, "crowd", 0.9)}
    rows = ordered_overrides(
        [Override("a/x@0", "cello", 0), Override("a/x@0", "voice", 1), Override("a/x@0", "flute", -1)]
    )

    assert apply_overrides("a/x@0", given, rows) == {
        "piano": Label(1, "crowd", 0.9),
        "cello": Label(0, "human", None),
        "voice": Label(1, "human", None),
    }
    assert given["cello"] == Label(1, "weak", 0.7)


def test_only_the_clip_of_exactly_that_id_is_corrected():
    rows = ordered_overrides(Override(clip_id, "cello", 0) for clip_id in ("a/x@10", "a/x@0", "a/y@0", "a@0"))
    given = human(cello=1)

    corrected = [
        clip_id for clip_id in ("a/x@0", "a/x@1", "a/x@10", "a/x@100", "a/y@0", "b/x@0", "")
        if apply_overrides(clip_id, given, rows) != given
    ]  # fmt: skip

    assert corrected == ["a/x@0", "a/x@10", "a/y@0"]


def test_without_corrections_labels_stay_as_they_are():
    assert apply_overrides("a/x@0", human(cello=1), ()) == human(cello=1)


def test_two_corrections_of_one_label_are_refused():
    with pytest.raises(UsageError, match="a/x@0: two overrides for cello; keep one"):
        ordered_overrides([Override("a/x@0", "cello", 1), Override("b/x@0", "cello", 1), Override("a/x@0", "cello", 1)])


def test_ids_that_no_clip_has_are_found():
    rows = [Override("b/gone@0", "cello", 1), Override("a/x@0", "cello", 1), Override("b/gone@0", "flute", 1)]

    assert unmatched_ids(rows, iter(["a/x@0", "a/y@0"])) == ("b/gone@0",)


# --- in a recipe


def test_overrides_stand_in_a_recipe_a_manifest_and_a_worker():
    rows = (Override("a/x@0", "cello", 0, "a viola"),)

    assert json.dumps(as_json(rows)) == '[{"id": "a/x@0", "instrument": "cello", "presence": 0, "note": "a viola"}]'
    assert pickle.loads(pickle.dumps(rows)) == rows
    assert {rows: "hashable"}[(Override("a/x@0", "cello", 0, "a viola"),)] == "hashable"
