"""OpenMIC-2018: tables, label modes and archive, in miniature and as published."""

import gzip
import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, Label, Recording
from tutti.datasets.source import LocalFile
from tutti.datasets.sources import openmic2018
from tutti.datasets.sources.openmic2018 import (
    Config,
    Track,
    group_of,
    labels_of,
    merge_partitions,
    parse_labels,
    parse_metadata,
    parse_partition,
)

KEY, OTHER = "000046_3840", "000083_0"
LABELS = "sample_key,instrument,relevance,num_responses\n000046_3840,guitar,0.9078051444492664,3\n"
METADATA = (
    "track_id,artist_id,license_title,license_url,track_information,sample_key,start_time\n"
    '46,7,Attribution,https://creativecommons.org/licenses/by/4.0/,"<p>two\nlines, ""quoted""</p>",000046_3840,3.84\n'
)
TREE = {
    "audio/000/000046_3840.ogg": "",
    "audio/000/000083_0.ogg": "",
    "openmic-2018-aggregated-labels.csv": LABELS,
    "openmic-2018-metadata.csv": METADATA,
    "partitions/split01_train.csv": "000046_3840\n",
    "partitions/split01_test.csv": "000083_0\n",
}

Read = Callable[..., list[Recording]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read an archive: TREE with some members changed, or left out where None."""

    def run(changes: Mapping[str, str | None] | None = None, config: Config | None = None) -> list[Recording]:
        members = {name: text for name, text in {**TREE, **(changes or {})}.items() if text is not None}
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tar"
        with tarfile.open(path, "w") as archive:
            for name, text in members.items():
                info = tarfile.TarInfo(f"openmic-2018/{name}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        return list(openmic2018.read(local_file(path), config or Config()))

    return run


def local_file(path: Path) -> dict[str, LocalFile]:
    (remote,) = openmic2018.REMOTES
    return {"archive": LocalFile("openmic2018", remote, path, "e" * 64, path.stat().st_size, "mirror")}


# Labels


def test_half_relevance_is_present_and_below_is_absent_and_the_rest_is_unknown() -> None:
    assert labels_of({"piano": 0.5, "voice": 0.49999, "flute": 1.0}, Config()) == {
        "piano": Label(PRESENT, "crowd", 0.5),
        "voice": Label(ABSENT, "crowd", 0.49999),
        "flute": Label(PRESENT, "crowd", 1.0),
    }


def test_confidence_is_the_relevance_to_six_decimals() -> None:
    assert labels_of({"guitar": 0.9078051444492664}, Config())["guitar"].confidence == 0.907805


def test_lumen_mode_asks_for_more_than_four_fifths_and_states_all_twenty() -> None:
    labels = labels_of({"piano": 0.8, "voice": 0.81}, Config(mode="lumen"))
    assert labels.keys() == set(openmic2018.INSTRUMENTS)
    assert labels["piano"] == Label(ABSENT, "crowd", 0.8)
    assert labels["voice"] == Label(PRESENT, "crowd", 0.81)
    assert labels["flute"] == Label(ABSENT, "weak")  # nobody was asked


def test_thresholds_are_switches() -> None:
    assert labels_of({"piano": 0.6}, Config(min_relevance=0.7))["piano"].presence == ABSENT
    assert labels_of({"piano": 0.6}, Config(mode="lumen", lumen_relevance=0.5))["piano"].presence == PRESENT


@pytest.mark.parametrize("wrong", [{"mode": "binary"}, {"min_relevance": 1.5}, {"lumen_relevance": float("nan")}])
def test_a_switch_out_of_range_is_a_usage_error_that_names_it(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Config(**wrong)  # type: ignore[arg-type]


def test_group_is_the_artist_where_known_and_else_the_track() -> None:
    assert group_of(KEY, Track(artist_id="7", license="")) == "openmic2018/artist:7"
    assert group_of(KEY, Track(artist_id="", license="")) == "openmic2018/track:46"
    assert group_of(KEY, None) == "openmic2018/track:46"


# Tables


def test_metadata_may_hold_commas_quotes_and_line_ends() -> None:
    assert parse_metadata(METADATA, "m.csv") == {KEY: Track("7", "https://creativecommons.org/licenses/by/4.0/")}


def test_licence_title_stands_in_for_a_missing_url() -> None:
    text = METADATA.replace("https://creativecommons.org/licenses/by/4.0/", "")
    assert parse_metadata(text, "m.csv")[KEY].license == "Attribution"


def test_crlf_tables_read_like_lf_tables() -> None:
    assert parse_labels(LABELS.replace("\n", "\r\n"), "l.csv") == parse_labels(LABELS, "l.csv")
    assert parse_partition(f"{KEY}\r\n{OTHER}\r\n", "p.csv") == (KEY, OTHER)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("000083_0,piano,0.9\n", r"^l\.csv:3: 3 fields instead of 4"),
        ("000083_0,piano,0.9,3,x\n", r"^l\.csv:3: 5 fields instead of 4"),
        ("83_0,piano,0.9,3\n", r"^l\.csv:3: '83_0' is not a sample key"),
        ("000083_0,tuba,0.9,3\n", r"^l\.csv:3: unknown instrument 'tuba'"),
        ("000083_0,piano,1.01,3\n", r"^l\.csv:3: relevance '1\.01' is no number in \[0, 1\]"),
        ("000083_0,piano,-0.1,3\n", r"^l\.csv:3: relevance '-0\.1'"),
        ("000083_0,piano,nan,3\n", r"^l\.csv:3: relevance 'nan'"),
        ("000083_0,piano,,3\n", r"^l\.csv:3: relevance ''"),
        ("000046_3840,guitar,0.1,3\n", r"^l\.csv:3: guitar of 000046_3840 stands twice"),
        ('000083_0,"piano\n\n",0.9,3\n', r"^l\.csv:5: unknown instrument"),  # the line where the row ends
        ('000083_0,"piano,0.9,3\n', r"^l\.csv:3: unexpected end of data"),
    ],
)
def test_a_damaged_label_row_is_an_error_that_names_line_and_remedy(row: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=f"{message}.*; download the archive again$"):
        parse_labels(LABELS + row, "l.csv")


@pytest.mark.parametrize("text", ["", "sample_key,instrument\n", "000046_3840,guitar,0.9,3\n"])
def test_label_table_without_its_header_is_an_error(text: str) -> None:
    with pytest.raises(IntegrityError, match=r"^l\.csv:1: header is "):
        parse_labels(text, "l.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^m\.csv:1: lacks column sample_key, artist_id"),
        ("sample_key,artist_id,license_title\n", r"^m\.csv:1: lacks column license_url"),
        (METADATA + "83,8\n", r"^m\.csv:4: 2 fields instead of 7"),
        (METADATA + "83,8,,,,83,0\n", r"^m\.csv:4: '83' is not a sample key"),
        (METADATA + "46,8,,,,000046_3840,0\n", r"^m\.csv:4: 000046_3840 stands twice"),
    ],
)
def test_damaged_metadata_is_an_error_that_counts_the_lines_of_quoted_fields(text: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        parse_metadata(text, "m.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample_key\n000046_3840\n", r"^p\.csv:1: 'sample_key' is not a sample key"),
        ("000046_3840\n\n", r"^p\.csv:2: '' is not a sample key"),
        ("000046_3840\n000046_3840\n", r"^p\.csv:2: 000046_3840 stands twice"),
    ],
)
def test_a_damaged_partition_is_an_error(text: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        parse_partition(text, "p.csv")


def test_a_key_in_both_partitions_is_an_error() -> None:
    with pytest.raises(IntegrityError, match="000046_3840 is in both train and test"):
        merge_partitions({"train": (KEY,), "test": (OTHER, KEY)})


# Archive


def test_clip_carries_artist_licence_labels_and_the_promised_ten_seconds(read: Read) -> None:
    recording = next(r for r in read() if r.clips[0].recording == KEY)
    (clip,) = recording.clips
    assert clip.id == "openmic2018/000046_3840@0"
    assert (clip.group, clip.partition) == ("openmic2018/artist:7", "train")
    assert clip.license == "https://creativecommons.org/licenses/by/4.0/"
    assert (clip.start_s, clip.end_s, clip.declared_s) == (0.0, None, 10.0)
    assert clip.labels == {"guitar": Label(PRESENT, "crowd", 0.907805)}
    assert recording.media.member == "openmic-2018/audio/000/000046_3840.ogg"
    assert recording.media.url == "https://zenodo.org/records/1432913/files/openmic-2018-v1.0.0.tgz"
    assert recording.media.sha256 == "e" * 64


def test_clip_without_labels_or_metadata_is_a_row_with_nothing_known(read: Read) -> None:
    (clip,) = next(r for r in read() if r.clips[0].recording == OTHER).clips
    assert (clip.labels, clip.license, clip.group) == ({}, "unknown", "openmic2018/track:83")


def test_the_pickled_npz_is_never_opened(read: Read) -> None:
    assert read({"openmic-2018.npz": "no zip at all"}) == read()


def test_finder_files_are_passed_over(read: Read) -> None:
    assert read({"audio/000/._000046_3840.ogg": "x", "audio/.DS_Store": "x"}) == read()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partitions/split01_test.csv": ""}, r"member 'openmic-2018/audio/000/000083_0\.ogg' is in neither partition"),
        (
            {"openmic-2018-aggregated-labels.csv": LABELS + "000099_0,piano,0.9,3\n"},
            r"^openmic-2018-aggregated-labels\.csv:3: 000099_0 is in neither partition",
        ),
        ({"partitions/split01_test.csv": f"{KEY}\n{OTHER}\n"}, "is in both train and test"),
        ({"audio/001/000046_3840.ogg": ""}, r"audio/001/000046_3840\.ogg: audio is named"),
        ({"audio/000/46.ogg": ""}, r"audio/000/46\.ogg: audio is named"),
        ({"openmic-2018-metadata.csv": None}, "has no member 'openmic-2018/openmic-2018-metadata.csv'"),
    ],
)
def test_parts_that_do_not_fit_together_are_an_error(read: Read, changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read(changes)


# As published


def test_official_partitions_hold_14915_and_5085_keys_and_share_none(shared: Path) -> None:
    keys = {
        name: parse_partition((shared / "labels" / f"split01_{name}.csv").read_text(), f"split01_{name}.csv")
        for name in openmic2018.PARTITIONS
    }
    assert Counter(merge_partitions(keys).values()) == {"train": 14_915, "test": 5_085}


def test_instruments_are_those_of_the_official_class_map_in_its_order(shared: Path) -> None:
    class_map = json.loads((shared / "labels" / "class-map.json").read_text())
    assert list(openmic2018.INSTRUMENTS) == sorted(class_map, key=class_map.__getitem__)


def test_mirror_of_real_recordings_holds_what_was_planted(shared: Path, tmp_path: Path) -> None:
    place = shared / "mirror" / openmic2018.REMOTES[0].url.partition("://")[2]
    with gzip.open(place) as packed, (tmp_path / "plain.tar").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    clips = [clip for r in openmic2018.read(local_file(tmp_path / "plain.tar"), Config()) for clip in r.clips]
    truth = json.loads((shared / "mirror" / "TRUTH.json").read_text())
    assert Counter(clip.partition for clip in clips) == {"train": 68, "test": 22}
    assert {clip.recording for clip in clips} == truth["openmic_instruments"].keys()
    assert sum(len(clip.labels) for clip in clips) == 199
    by_side = {side: {clip.group for clip in clips if clip.partition == side} for side in openmic2018.PARTITIONS}
    assert by_side["train"].isdisjoint(by_side["test"])
    assert all(group.startswith("openmic2018/artist:") for groups in by_side.values() for group in groups)
