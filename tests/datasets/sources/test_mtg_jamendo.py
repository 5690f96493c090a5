"""MTG-Jamendo: tables, tags and clips, in miniature and as published."""

import csv
import gzip
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.hierarchy import OUTPUTS
from tutti.datasets.record import ABSENT, PRESENT, Clip, Label, Published, Recording
from tutti.datasets.source import LocalFile, remotes_of
from tutti.datasets.sources import mtg_jamendo
from tutti.datasets.sources.mtg_jamendo import (
    SOUNDS,
    Config,
    parse_digests,
    parse_licenses,
    parse_table,
    remotes,
    spans_of,
)

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
ROW = "track_0000382\tartist_000020\talbum_000046\t82/382.mp3\t211.1\tinstrument---voice"
PIANO = "track_1000200\tartist_000400\talbum_005000\t00/1000200.mp3\t32.0\tinstrument---piano\tinstrument---bass\n"
FLUTE = "track_1000237\tartist_000401\talbum_005000\t37/1000237.mp3\t32.0\tinstrument---flute\n"
DRUMS = "track_1090200\tartist_000999\talbum_009999\t00/1090200.mp3\t32.0\tinstrument---drums\n"
DIGEST = hashlib.sha256(b"mp3").hexdigest()
TABLES = {
    "split0-train": HEADER + PIANO,
    "split0-validation": HEADER + FLUTE,
    "split0-test": HEADER + DRUMS,
    "all": HEADER + PIANO + FLUTE + DRUMS,
    "audio-tracks": f"{DIGEST} 00/1000200.mp3\n",
    "audio-tars": f"{'b' * 64} raw_30s_audio-00.tar\n",
    "audio-low-tracks": f"{DIGEST} 00/1000200.low.mp3\n",
    "audio-low-tars": "",
    "licenses": (
        "00/1000200.mp3\nNight by Somebody from Jamendo: http://www.jamendo.com/track/1000200\n"
        "Available under a Creative Commons license: http://creativecommons.org/licenses/by-nc/3.0/\n\n"
    ),
}

Read = Callable[..., list[Recording]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read TABLES with some of them changed."""

    def run(config: Config | None = None, changes: Mapping[str, str] | None = None) -> list[Recording]:
        chosen = config or Config()
        files = {}
        for remote in remotes(chosen):
            path = tmp_path / remote.name
            path.write_text({**TABLES, **(changes or {})}[remote.name], newline="")
            files[remote.name] = LocalFile("mtg_jamendo", remote, path, "0" * 64, path.stat().st_size, "mirror")
        return list(mtg_jamendo.read(files, chosen))

    return run


def clips_of(recordings: list[Recording]) -> list[Clip]:
    return [clip for recording in recordings for clip in recording.clips]


def test_a_track_is_a_member_of_the_tar_of_its_last_two_digits(read: Read) -> None:
    recording = read()[0]
    assert recording.media.url == "https://cdn.freesound.org/mtg-jamendo/raw_30s/audio/raw_30s_audio-00.tar"
    assert recording.media.member == "00/1000200.mp3"
    assert recording.media.sha256 is None
    slow = "https://essentia.upf.edu/documentation/datasets/mtg-jamendo/raw_30s/audio/raw_30s_audio-00.tar"
    assert recording.media.published == Published(DIGEST, "b" * 64, (slow,))


def test_low_quality_has_other_tars_and_other_names(read: Read) -> None:
    recording = read(Config(quality="audio-low"))[0]
    assert recording.media.url == "https://cdn.freesound.org/mtg-jamendo/raw_30s/audio-low/raw_30s_audio-low-00.tar"
    assert recording.media.member == "00/1000200.low.mp3"
    assert recording.media.published is not None
    assert recording.media.published.member_sha256 == DIGEST
    assert recording.media.published.archive_sha256 is None


def test_tags_that_are_not_given_are_unknown(read: Read) -> None:
    clip = read()[0].clips[0]
    assert clip.labels == {"bass": Label(PRESENT, "weak"), "piano": Label(PRESENT, "weak")}
    assert clip.hierarchy == {"key": Label(PRESENT, "weak"), "piano": Label(PRESENT, "weak")}


def test_tags_that_are_not_given_can_be_assumed_absent_but_for_what_the_others_may_hide(read: Read) -> None:
    clip = read(Config(missing="absent"))[0].clips[0]
    assert clip.labels["flute"] == Label(ABSENT, "weak")
    assert clip.labels["piano"] == Label(PRESENT, "weak")
    assert "cello" not in clip.labels, "a bass may be a double bass, so bowed strings are unknown"
    assert clip.hierarchy is not None
    assert "bowed_string" not in clip.hierarchy
    assert clip.hierarchy["brass"] == Label(ABSENT, "weak")


def test_partitions_are_those_of_the_split_and_groups_are_artists(read: Read) -> None:
    found = [(clip.id, clip.partition, clip.group) for clip in clips_of(read())]
    assert found == [
        ("mtg_jamendo/track_1000200@0", "train", "mtg_jamendo/artist:000400"),
        ("mtg_jamendo/track_1000237@0", "validation", "mtg_jamendo/artist:000401"),
        ("mtg_jamendo/track_1090200@0", "test", "mtg_jamendo/artist:000999"),
    ]
    assert {clip.partition for clip in clips_of(read(Config(split=None)))} == {"all"}


def test_only_the_tables_of_the_split_and_the_quality_are_downloaded() -> None:
    assert [file.name for file in remotes_of("mtg_jamendo", Config(split=3))] == [
        "split3-train", "split3-validation", "split3-test", "audio-tracks", "audio-tars", "licenses",
    ]  # fmt: skip
    assert [file.name for file in remotes(Config(split=None, quality="audio-low", licenses=False))] == [
        "all", "audio-low-tracks", "audio-low-tars",
    ]  # fmt: skip


def test_a_track_keeps_its_own_licence_where_the_list_is_read(read: Read) -> None:
    assert [clip.license for clip in clips_of(read(Config(licenses=False)))] == ["unknown"] * 3
    assert [clip.license for clip in clips_of(read())] == [
        "http://creativecommons.org/licenses/by-nc/3.0/", "unknown", "unknown",
    ]  # fmt: skip


def test_a_list_of_licences_may_hold_what_is_none() -> None:
    assert parse_licenses("") == {}
    assert (
        parse_licenses("# comment\n\n../1.mp3\nhttp://creativecommons.org/licenses/by/3.0/\n\n00/100.mp3\nnone") == {}
    )


def test_rows_with_many_tags_are_kept_unless_the_recipe_says_how_many_are_too_many(read: Read) -> None:
    assert read()[0].clips[0].defect is None
    defect = read(Config(max_tags=1))[0].clips[0].defect
    assert defect is not None
    assert (defect.reason, defect.value) == ("tag_dump", 2)


def test_a_track_is_one_clip_without_its_last_half_second() -> None:
    assert spans_of(211.1, Config()) == [(0.0, 210.6)]
    assert spans_of(3966.0, Config()) == [(0.0, 600.0)]
    assert spans_of(3966.0, Config(max_s=120.0)) == [(0.0, 120.0)]
    assert spans_of(1.2, Config()) == [(0.0, 1.2)]


def test_short_clips_lie_evenly_over_a_track_and_do_not_overlap() -> None:
    assert spans_of(32.5, Config(clip_s=10.0)) == [(0.333, 10.333), (11.0, 21.0), (21.666, 31.666)]
    assert spans_of(100.5, Config(clip_s=10.0, max_clips=2)) == [(20.0, 30.0), (70.0, 80.0)]
    assert spans_of(8.0, Config(clip_s=10.0)) == [(0.0, 7.5)]


def test_clips_of_one_track_have_its_tags_and_its_group(read: Read) -> None:
    clips = read(Config(clip_s=10.0))[0].clips
    assert [clip.id for clip in clips] == [
        "mtg_jamendo/track_1000200@250", "mtg_jamendo/track_1000200@10750", "mtg_jamendo/track_1000200@21250",
    ]  # fmt: skip
    assert {clip.group for clip in clips} == {"mtg_jamendo/artist:000400"}
    assert all(clip.labels == clips[0].labels and clip.declared_s == 10.0 for clip in clips)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (ROW.replace("track_0000382", "track_382"), "expected track_N"),
        (ROW.replace("\t211.1", ""), "expected track_N"),
        (ROW.replace("211.1", "nan"), "expected track_N"),
        (ROW.replace("211.1", "0.0"), "no time of a track"),
        (ROW.replace("211.1", "999999.0"), "no time of a track"),
        (ROW.replace("82/382", "83/382"), "not '82/382.mp3'"),
        (ROW.replace("82/382.mp3", "../382.mp3"), "not '82/382.mp3'"),
        (ROW.replace("instrument---voice", "genre---rock"), "unknown tag 'genre---rock'"),
        (ROW.replace("instrument---voice", "voice"), "unknown tag 'voice'"),
        (f"{ROW}\tinstrument---theremin", "unknown tag 'instrument---theremin'"),
        (f"{ROW}\tinstrument---voice", "stands twice"),
        (f"{ROW}\t", "expected track_N"),
        (ROW.removesuffix("\tinstrument---voice"), "expected track_N"),
        ("", "expected track_N"),
    ],
)
def test_a_damaged_row_is_named_with_file_and_line(changed: str, problem: str) -> None:
    with pytest.raises(IntegrityError, match=f"^table.tsv:2: .*{problem}"):
        list(parse_table(f"{HEADER}{changed}\n", "table.tsv"))


def test_another_header_and_a_repeated_track_are_refused() -> None:
    with pytest.raises(IntegrityError, match=r"^table.tsv:1: header is 'TRACK_ID,TAGS'"):
        list(parse_table("TRACK_ID,TAGS\n", "table.tsv"))
    with pytest.raises(IntegrityError, match=r"^table.tsv:3: track_0000382 stands twice"):
        list(parse_table(f"{HEADER}{ROW}\n{ROW}\n", "table.tsv"))


def test_a_table_may_end_its_lines_in_either_way() -> None:
    (unix,) = parse_table(f"{HEADER}{ROW}", "table.tsv")
    (windows,) = parse_table(f"{HEADER}{ROW}\n".replace("\n", "\r\n"), "table.tsv")
    assert unix == windows == (2, mtg_jamendo.TrackRow(382, "000020", 211.1, ("voice",)))


def test_an_artist_in_two_parts_of_a_split_is_refused(read: Read) -> None:
    moved = FLUTE.replace("artist_000401", "artist_000400")
    with pytest.raises(IntegrityError, match=r"split-0/.*validation.tsv:2: artist_000400 is in train too"):
        read(changes={"split0-validation": HEADER + moved})


def test_a_list_of_digests_is_read_strictly() -> None:
    assert parse_digests("", "list.txt") == {}
    with pytest.raises(IntegrityError, match=r"^list.txt:2: expected '<sha256> <name>'"):
        parse_digests(f"{DIGEST} 00/1.mp3\n{DIGEST[:-1]} 00/2.mp3\n", "list.txt")
    with pytest.raises(IntegrityError, match=r"^list.txt:2: 00/1.mp3 has another digest"):
        parse_digests(f"{DIGEST} 00/1.mp3\n{'a' * 64} 00/1.mp3\n", "list.txt")


@pytest.mark.parametrize(
    "changes",
    [{"split": 5}, {"split": -1}, {"quality": "wav"}, {"clip_s": 0.0}, {"max_s": float("nan")}, {"max_tags": 0},
     {"max_clips": 0}, {"missing": "maybe"}],
)  # fmt: skip
def test_a_configuration_that_means_nothing_is_refused(changes: Mapping[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^mtg_jamendo: {next(iter(changes))}="):
        Config(**changes)  # type: ignore[arg-type]


# --- the real tables


@pytest.fixture(scope="module")
def labels(shared: Path) -> Path:
    folder = shared / "multitrack" / "labels" / "mtg-jamendo"
    if not folder.is_dir():
        pytest.skip("the real tables of MTG-Jamendo are not here")
    return folder


def table(labels: Path, name: str) -> list[mtg_jamendo.TrackRow]:
    text = gzip.decompress((labels / f"{name}.tsv.gz").read_bytes()).decode()
    return [row for _, row in parse_table(text, name)]


def test_the_published_table_has_the_counts_that_are_known_of_it(labels: Path) -> None:
    rows = table(labels, "autotagging_instrument")
    assert len(rows) == 25_135
    assert len({row.artist for row in rows}) == 2_006
    assert round(sum(row.duration_s for row in rows) / 3600) == 1_636
    assert sum(len(row.tags) == 1 for row in rows) == 10_839
    assert sum(len(row.tags) >= 20 for row in rows) == 222
    counts = Counter(tag for row in rows for tag in row.tags)
    with (labels / "stats_instrument.tsv").open() as stream:
        assert counts == {row["tag"]: int(row["tracks"]) for row in csv.DictReader(stream, delimiter="\t")}
    assert set(counts) == set(SOUNDS)


def test_the_pinned_digest_is_that_of_the_published_table(labels: Path) -> None:
    content = gzip.decompress((labels / "autotagging_instrument.tsv.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == remotes(Config(split=None))[0].sha256


@pytest.mark.parametrize("split", range(5))
def test_the_official_splits_have_the_counts_that_are_known_of_them_and_share_no_artist(
    labels: Path, split: int
) -> None:
    known = {
        0: (14395, 5466, 5115), 1: (14943, 4960, 5073), 2: (14702, 5066, 5208), 3: (14875, 5068, 5033),
        4: (14829, 5159, 4988),
    }  # fmt: skip
    artist_of = {row.track: row.artist for row in table(labels, "autotagging_instrument")}
    parts: dict[str, list[int]] = {part: [] for part in mtg_jamendo.PARTS}
    if split == 0:
        for part in parts:
            rows = table(labels, f"split-0.autotagging_instrument-{part}")
            assert all("ukulele" not in row.tags for row in rows)
            parts[part] = [row.track for row in rows]
    else:
        text = gzip.decompress((labels / "splits_1-4_instrument_ids.tsv.gz").read_bytes()).decode()
        for row in csv.DictReader(text.splitlines(), delimiter="\t"):
            if int(row["SPLIT"]) == split:
                parts[row["PART"]].append(int(row["TRACK_ID"]))
    assert tuple(map(len, parts.values())) == known[split]
    artists = [{artist_of[track] for track in tracks} for tracks in parts.values()]
    assert sum(map(len, artists)) == len(set.union(*artists))


def test_sounds_of_the_tags_equal_the_published_mapping(shared: Path) -> None:
    path = shared / "multitrack" / "mapping.csv"
    if not path.is_file():
        pytest.skip("the mapping of names is not here")
    with path.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["corpus"] == "mtg-jamendo"]
    assert {row["name"] for row in rows} == set(SOUNDS)
    for row in rows:
        sound = SOUNDS[row["name"]]
        told = (row["family"] or None, row["instrument15"] or None, row["project_instrument"] or None)
        assert (sound.family, sound.specific, sound.instrument) == told, row["name"]
        assert sound.masked == masked(row["note"]), row["name"]


def masked(note: str) -> set[str]:
    """The outputs that a note of the mapping masks: `mask=a,b; ...`, `mask=all`, `mask=all except a,b`."""
    if not note.startswith("mask="):
        return set()
    named = note.removeprefix("mask=").partition(";")[0]
    every, _, but = named.partition(" except ")
    return set(OUTPUTS) - set(but.split(",")) if every == "all" else set(named.split(","))
