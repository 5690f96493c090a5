"""AudioSet: rows, classes, selection and labels, in miniature and as published."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, Clip, Label, Media, Recording
from tutti.datasets.source import LocalFile
from tutti.datasets.sources import audioset, irmas
from tutti.datasets.sources.audioset import (
    ADDED_MIDS,
    CORE_MIDS,
    Config,
    Segment,
    instruments_of,
    labels_of,
    mids_in_force,
    parse_class_index,
    parse_ontology,
    parse_segment,
    parse_segments,
)

CELLO, PIANO, ORGAN, MUSIC, HAMMOND = "/m/01xqw", "/m/05r5c", "/m/013y1f", "/m/04rlf", "/m/03gvt"
GUITAR, ACOUSTIC, ELECTRIC, BASS_GUITAR = "/m/0342h", "/m/042v_gx", "/m/02sgy", "/m/018vs"
CHILDREN = {ORGAN: (HAMMOND,), HAMMOND: ("/m/below",), GUITAR: (ACOUSTIC, ELECTRIC, BASS_GUITAR)}
KNOWN = [CELLO, PIANO, ORGAN, MUSIC, HAMMOND, GUITAR, ACOUSTIC, ELECTRIC, BASS_GUITAR]
HEADER = "# Segments csv created Sun Mar  5 10:54:25 2017\n# num_ytids=1\n# YTID, start_seconds, end_seconds, labels\n"

Read = Callable[..., list[Recording]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read segment files that hold the rows given, and no others."""

    def run(config: Config | None = None, **rows: str) -> list[Recording]:
        index = "".join(f'{number},{mid},"a, name"\n' for number, mid in enumerate(KNOWN))
        nodes = [{"id": mid, "child_ids": list(below)} for mid, below in CHILDREN.items()]
        content = {"labels": f"index,mid,display_name\n{index}", "ontology": json.dumps(nodes)}
        files = {}
        for remote in audioset.REMOTES:
            path = tmp_path / remote.name
            path.write_text(content.get(remote.name, HEADER + rows.get(remote.name, "")))
            files[remote.name] = LocalFile("audioset", remote, path, "0" * 64, path.stat().st_size, "mirror")
        return list(audioset.read(files, config or Config()))

    return run


# Rows


def test_row_is_id_start_end_and_quoted_classes() -> None:
    row = '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n'
    assert parse_segment(row, "a.csv:4") == Segment("--PJHxphWEs", 30.0, 40.0, ("/m/09x0r", "/t/dd00088"))


def test_header_and_empty_lines_are_passed_over_but_counted() -> None:
    lines = [*HEADER.splitlines(keepends=True), "\n", '_bcdefghijk, 0.000, 1.500, "/m/x"\r\n']
    assert list(parse_segments(lines, "a.csv")) == [(5, Segment("_bcdefghijk", 0.0, 1.5, ("/m/x",)))]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("abcdefghijk, 0.000, 10.000\n", "3 fields instead of id, start, end, classes"),
        ("abcdefghijk, 0.000, 10.000, /m/a,/m/b\n", "5 fields"),
        ('abcdefghijk 0.000 10.000 "/m/a"\n', "1 fields"),
        ('abcdefghij, 0.000, 10.000, "/m/a"\n', "'abcdefghij' is not an 11-character YouTube id"),
        ('abcdefghij/, 0.000, 10.000, "/m/a"\n', "is not an 11-character YouTube id"),
        ('abcdefghijk, 10.000, 10.000, "/m/a"\n', "'10.000' to '10.000' is no time span"),
        ('abcdefghijk, 10.000, 0.000, "/m/a"\n', "'10.000' to '0.000' is no time span"),
        ('abcdefghijk, -1.000, 9.000, "/m/a"\n', "'-1.000' to '9.000' is no time span"),
        ('abcdefghijk, nan, 9.000, "/m/a"\n', "'nan' to '9.000' is no time span"),
        ('abcdefghijk, 0.000, inf, "/m/a"\n', "'0.000' to 'inf' is no time span"),
        ('abcdefghijk, 0.000, 10.000, ""\n', "'' is no list of classes"),
        ('abcdefghijk, 0.000, 10.000, "/m/a,"\n', "'/m/a,' is no list of classes"),
        ('abcdefghijk, 0.000, 10.000, "/m/a\n', "unexpected end of data"),  # and the next row is safe
        ("<html><body>403</body></html>\n", "1 fields"),
    ],
)
def test_a_damaged_row_is_an_error_that_names_file_line_and_remedy(row: str, message: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_segment(row, "balanced_train_segments.csv:17")
    assert str(caught.value).startswith("balanced_train_segments.csv:17: ")
    assert message in str(caught.value)
    assert str(caught.value).endswith("; download the file again")


IDS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", min_size=11, max_size=11)


@given(IDS, st.integers(0, 36_000_000), st.integers(1, 10_000), st.lists(st.sampled_from(KNOWN), min_size=1))
def test_every_row_survives_writing_and_reading(youtube_id: str, start_ms: int, span_ms: int, mids: list[str]) -> None:
    start_s, end_s = start_ms / 1000, (start_ms + span_ms) / 1000
    row = f'{youtube_id}, {start_s:.3f}, {end_s:.3f}, "{",".join(mids)}"\n'
    assert parse_segment(row, "a.csv:1") == Segment(youtube_id, start_s, end_s, tuple(mids))


def test_damaged_side_files_are_errors_that_name_them() -> None:
    with pytest.raises(IntegrityError, match=r"^c\.csv:1: header is ''"):
        parse_class_index("", "c.csv")
    with pytest.raises(IntegrityError, match=r"^c\.csv:2: 2 fields instead of 3"):
        parse_class_index("index,mid,display_name\n0,/m/a\n", "c.csv")
    with pytest.raises(IntegrityError, match=r"^o\.json: is no list of nodes"):
        parse_ontology("<html>", "o.json")
    with pytest.raises(IntegrityError, match=r"^o\.json: is no list of nodes"):
        parse_ontology('[{"id": "/m/a"}]', "o.json")


# Classes


def test_by_default_the_eleven_core_classes_are_in_force() -> None:
    assert mids_in_force(Config(), {}) == CORE_MIDS
    assert sorted(CORE_MIDS.values()) == sorted(set(audioset.INSTRUMENTS) - {"guitar"})


def test_added_mids_are_a_switch() -> None:
    assert mids_in_force(Config(added_mids=True), {}) == CORE_MIDS | ADDED_MIDS
    assert set(ADDED_MIDS.values()) <= set(CORE_MIDS.values())


def test_ontology_closure_adds_all_that_lies_below_a_class() -> None:
    table = mids_in_force(Config(ontology_closure=True), CHILDREN)
    assert table == {**CORE_MIDS, HAMMOND: "organ", "/m/below": "organ"}


def test_ontology_closure_never_makes_a_bass_guitar_a_guitar() -> None:
    table = mids_in_force(Config(ontology_closure=True, generic_guitar=True), CHILDREN)
    assert instruments_of([BASS_GUITAR], table) == ()
    assert instruments_of([GUITAR], table) == ("guitar",)


def test_a_circle_in_the_ontology_ends() -> None:
    circle = {ORGAN: (HAMMOND,), HAMMOND: (ORGAN,)}
    assert mids_in_force(Config(ontology_closure=True), circle) == {**CORE_MIDS, HAMMOND: "organ"}


def test_generic_guitar_counts_only_where_no_kind_is_named() -> None:
    table = mids_in_force(Config(generic_guitar=True), {})
    assert instruments_of([GUITAR, MUSIC], table) == ("guitar",)
    assert instruments_of([GUITAR, ELECTRIC], table) == ("electric_guitar",)
    assert instruments_of([GUITAR, ELECTRIC], CORE_MIDS) == ("electric_guitar",)


def test_labels_are_positives_only_unless_the_others_are_assumed_absent() -> None:
    assert labels_of(("cello",), "unknown") == {"cello": Label(PRESENT, "weak")}
    labels = labels_of(("cello",), "absent")
    assert labels.keys() == set(CORE_MIDS.values())
    assert [name for name, label in labels.items() if label == Label(PRESENT, "weak")] == ["cello"]
    assert sum(label == Label(ABSENT, "weak") for label in labels.values()) == 10


def test_a_guitar_of_unnamed_kind_leaves_both_kinds_unknown() -> None:
    labels = labels_of(("guitar",), "absent")
    assert labels["guitar"] == Label(PRESENT, "weak")
    assert labels.keys().isdisjoint({"acoustic_guitar", "electric_guitar"})


# Selection


def test_a_segment_of_one_instrument_becomes_a_clip_of_its_video(read: Read) -> None:
    assert read(balanced=f'-yRxm8LgP4M, 20.500, 26.500, "{MUSIC},{CELLO}"\n') == [
        Recording(
            Media("https://www.youtube.com/watch?v=-yRxm8LgP4M", None, None),
            (
                Clip(
                    id="audioset/-yRxm8LgP4M@20500",
                    source="audioset",
                    recording="-yRxm8LgP4M",
                    group="audioset/-yRxm8LgP4M",
                    partition="balanced_train",
                    labels={"cello": Label(PRESENT, "weak")},
                    license="LicenseRef-YouTube-uploader",
                    start_s=20.5,
                    end_s=26.5,
                    declared_s=6.0,
                ),
            ),
        )
    ]


ROWS = (
    f'aaaaaaaaaaa, 0.000, 10.000, "{CELLO}"\n'
    f'bbbbbbbbbbb, 0.000, 10.000, "{CELLO},{PIANO}"\n'
    f'ccccccccccc, 0.000, 10.000, "{MUSIC}"\n'
    f'ddddddddddd, 0.000, 10.000, "{GUITAR}"\n'
    f'eeeeeeeeeee, 0.000, 10.000, "{HAMMOND}"\n'
    f'fffffffffff, 0.000, 10.000, "{GUITAR},{CELLO}"\n'
    f'ggggggggggg, 0.000, 10.000, "{GUITAR},{ACOUSTIC}"\n'
)


@pytest.mark.parametrize(
    ("config", "selected"),
    [
        (Config(), "afg"),
        (Config(selection="any"), "abfg"),
        (Config(generic_guitar=True), "adg"),
        (Config(selection="any", generic_guitar=True), "abdfg"),
        (Config(ontology_closure=True), "aefg"),
        (Config(added_mids=True), "aefg"),
    ],
)
def test_switches_decide_which_segments_are_read(read: Read, config: Config, selected: str) -> None:
    assert "".join(recording.clips[0].recording[0] for recording in read(config, eval=ROWS)) == selected


def test_a_byte_order_mark_that_an_editor_put_first_is_no_part_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "eval_segments.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEADER.encode() + b'aaaaaaaaaaa, 0.000, 10.000, "/m/x"\r\n')
    file = LocalFile("audioset", audioset.REMOTES[0], path, "", 0, "own")
    assert [segment.youtube_id for _, segment in audioset._read_segments(file)] == ["aaaaaaaaaaa"]


def test_every_file_is_its_own_partition(read: Read) -> None:
    rows = {name: f'{name[0] * 11}, 0.000, 10.000, "{CELLO}"\n' for name in ("balanced", "unbalanced", "eval")}
    partitions = {r.clips[0].recording[0]: r.clips[0].partition for r in read(**rows)}
    assert partitions == {"b": "balanced_train", "u": "unbalanced_train", "e": "eval"}


def test_ids_that_differ_in_case_only_are_two_clips(read: Read) -> None:
    rows = f'AAAAAAAAAAA, 0.000, 10.000, "{CELLO}"\naaaaaaaaaaa, 0.000, 10.000, "{CELLO}"\n'
    assert len(read(balanced=rows)) == 2


def test_rows_in_any_order_give_the_same_recordings(read: Read) -> None:
    backwards = "".join(reversed(ROWS.splitlines(keepends=True)))
    assert read(balanced=backwards)[::-1] == read(balanced=ROWS)


def test_a_segment_that_is_listed_twice_is_an_error(read: Read) -> None:
    row = f'aaaaaaaaaaa, 0.000, 10.000, "{CELLO}"\n'
    with pytest.raises(IntegrityError, match=r"^eval_segments\.csv:4: audioset/aaaaaaaaaaa@0 is listed for the second"):
        read(balanced=row, eval=row)


def test_a_class_that_is_not_in_use_is_an_error(read: Read) -> None:
    with pytest.raises(
        IntegrityError, match=r"^eval_segments\.csv:4: /m/01xq is no class of class_labels_indices\.csv"
    ):
        read(eval='aaaaaaaaaaa, 0.000, 10.000, "/m/01xq"\n')


def test_a_file_that_is_not_text_is_an_error(read: Read) -> None:
    with pytest.raises(IntegrityError, match=r"^eval_segments\.csv: is not plain text"):
        read(eval="\u00e9")


@pytest.mark.parametrize("wrong", [{"selection": "two"}, {"others": ""}])
def test_an_unknown_switch_value_is_a_usage_error_that_names_it(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Config(**wrong)  # type: ignore[arg-type]


# As published


def published(shared: Path) -> list[Segment]:
    with (shared / "labels" / "balanced_train_segments.csv").open(encoding="ascii") as stream:
        return [segment for _, segment in parse_segments(stream, "balanced_train_segments.csv")]


def test_all_balanced_rows_parse(shared: Path) -> None:
    segments = published(shared)
    index = (shared / "labels" / "class_labels_indices.csv").read_text()
    known = parse_class_index(index, "class_labels_indices.csv")
    assert len(segments) == len({segment.youtube_id for segment in segments}) == 22_160
    assert len(known) == 527
    assert {mid for segment in segments for mid in segment.mids} == known
    assert sum(segment.youtube_id.startswith("-") for segment in segments) == 459
    assert sum(segment.youtube_id.startswith("_") for segment in segments) == 322
    assert sum(segment.end_s - segment.start_s < 10.0 for segment in segments) == 345


def test_core_classes_of_the_balanced_set_count_as_published(shared: Path) -> None:
    present = [instruments_of(segment.mids, mids_in_force(Config(), {})) for segment in published(shared)]
    assert Counter(map(len, present)) == {0: 21_011, 1: 1_069, 2: 78, 3: 2}
    assert Counter(name for names in present for name in names) == {
        "cello": 67,
        "clarinet": 63,
        "flute": 62,
        "acoustic_guitar": 60,
        "electric_guitar": 65,
        "organ": 119,
        "piano": 87,
        "saxophone": 63,
        "trumpet": 64,
        "violin": 64,
        "voice": 517,
    }


def test_the_official_ontology_closes_the_eleven_classes(shared: Path) -> None:
    children = parse_ontology((shared / "labels" / "audioset_ontology.json").read_text(), "ontology.json")
    table = mids_in_force(Config(ontology_closure=True), children)
    assert len(children) == 632
    assert Counter(table.values()) == {
        "voice": 10,
        "piano": 4,
        "organ": 3,
        "saxophone": 3,
        "violin": 2,
        "cello": 1,
        "clarinet": 1,
        "flute": 1,
        "acoustic_guitar": 1,
        "electric_guitar": 1,
        "trumpet": 1,
    }


def test_every_class_of_the_tables_exists_in_the_official_index(shared: Path) -> None:
    index = (shared / "labels" / "class_labels_indices.csv").read_text()
    known = parse_class_index(index, "class_labels_indices.csv")
    assert known >= CORE_MIDS.keys() | ADDED_MIDS.keys() | {audioset.GENERIC_GUITAR_MID}


def test_mirror_of_real_recordings_holds_what_was_planted(shared: Path) -> None:
    mirror = shared / "mirror"
    files = {
        remote.name: LocalFile("audioset", remote, mirror / remote.url.partition("://")[2], "0" * 64, 0, "mirror")
        for remote in audioset.REMOTES
    }
    clips = {clip.recording: clip for r in audioset.read(files, Config()) for clip in r.clips}
    truth = json.loads((mirror / "TRUTH.json").read_text())
    assert len(clips) == 84
    assert {*truth["gone"], *truth["audioset_mislabelled"]} <= clips.keys()
    for youtube_id, planted in truth["audioset_mislabelled"].items():
        assert clips[youtube_id].labels == {irmas.CODES[planted["labelled"]]: Label(PRESENT, "weak")}
    assert all(len(clip.labels) == 1 for clip in clips.values())
