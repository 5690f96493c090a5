"""Stems and mixes of songs in rows and shards: what sounds when, and what a window is labelled."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.support.rows import clip
from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Sounding, Track
from tutti.datasets.shard import content_digest, read_shard, schema, write_shard
from tutti.datasets.shard_tracks import TRACK_TYPE, sounding_of_row, track_of_row
from tutti.datasets.tracks import presence_between, track_digest, track_entry, track_of_entry
from tutti.pipelines.export.card import _features

CLASSES = ("cello", "drums", "voice")
CELLO = Sounding("S01", ((0.0, 2.0), (4.0, 6.5)), ("cello",))
VOICE = Sounding("S02", ((1.0, 3.0),), ("voice",), ("drums",))  # drums bleed into it, perhaps
STEM = Track("Band_Song", "S01", "cello", "bowed_string", "The Band", "theband", "Album", bleed=True)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (0.0, 1.0, [PRESENT, ABSENT, ABSENT]),
        (1.0, 2.0, [PRESENT, UNKNOWN, PRESENT]),
        (2.0, 3.0, [ABSENT, UNKNOWN, PRESENT]),
        (3.0, 4.0, [ABSENT, ABSENT, ABSENT]),
        (2.5, 4.5, [PRESENT, UNKNOWN, PRESENT]),
        (6.5, 9.0, [ABSENT, ABSENT, ABSENT]),
    ],
)
def test_a_window_is_labelled_by_the_stems_that_sound_in_it(start_s: float, end_s: float, expected: list[int]) -> None:
    assert presence_between((CELLO, VOICE), start_s, end_s, CLASSES) == expected


def test_a_stem_that_sounds_for_a_moment_only_may_be_passed_over() -> None:
    assert presence_between((VOICE,), 2.75, 4.0, CLASSES, min_overlap_s=0.25) == [ABSENT, ABSENT, ABSENT]
    assert presence_between((VOICE,), 2.5, 4.0, CLASSES, min_overlap_s=0.25) == [ABSENT, UNKNOWN, PRESENT]


def test_an_entry_of_a_manifest_says_what_is_known_and_reads_back() -> None:
    assert track_entry(Track("Band_Song", None)) == {"song": "Band_Song"}
    assert track_of_entry(track_entry(STEM)) == STEM
    assert track_of_entry({"song": "Band_Song"}) == Track("Band_Song", None)


def test_the_digest_of_a_track_knows_every_part_of_it() -> None:
    others = [
        (replace(STEM, song="Band_Other"), (CELLO,)),
        (replace(STEM, bleed=False), (CELLO,)),
        (STEM, (replace(CELLO, spans=((0.0, 2.0),)),)),
        (STEM, (replace(CELLO, present=("voice",)),)),
        (STEM, (replace(CELLO, unknown=("voice",)),)),
        (STEM, (CELLO, VOICE)),
        (STEM, ()),
    ]
    assert len({track_digest(STEM, (CELLO,)), *(track_digest(*other) for other in others)}) == len(others) + 1


def written(path: Path, **changes: Any) -> Path:
    row = replace(clip("medleydb/Band_Song/S01@0", split="train"), track=STEM, sounding=(CELLO,), **changes)
    other = clip("irmas/x@0", split="train")
    stream = io.BytesIO()
    assert row.audio is not None
    rows = [(other, b"fLaC"), (row, b"fLaC")]
    write_shard(stream, rows, CLASSES, sample_rate=row.audio.sample_rate, rows_per_group=4, tracks=True)
    path.write_bytes(stream.getvalue())
    return path


def test_a_shard_gives_back_track_and_sounding_and_null_for_clips_of_no_song(tmp_path: Path) -> None:
    other, row = read_shard(written(tmp_path / "one.parquet"))
    assert (track_of_row(row), sounding_of_row(row)) == (STEM, (CELLO,))
    assert (track_of_row(other), sounding_of_row(other)) == (None, None)


def test_a_shard_without_the_columns_takes_no_stem() -> None:
    row = replace(clip("medleydb/Band_Song/S01@0"), track=STEM)
    assert row.audio is not None
    with pytest.raises(ValueError, match="must say TRACKS"):
        write_shard(io.BytesIO(), [(row, b"")], CLASSES, sample_rate=row.audio.sample_rate, rows_per_group=4)


@pytest.mark.parametrize(
    "sounding",
    [
        [{"stem": "S01", "spans": [{"start_s": 2.0, "end_s": 1.0}], "present": [], "unknown": []}],
        [{"stem": "", "spans": [{"start_s": 0, "end_s": 2}, {"start_s": 1, "end_s": 3}], "present": [], "unknown": []}],
        [{"stem": "S01", "spans": [{"start_s": float("nan"), "end_s": 1.0}], "present": [], "unknown": []}],
        [{"stem": "S01", "spans": [{"start_s": -1.0, "end_s": 1.0}], "present": [], "unknown": []}],
        [{"stem": "S01", "spans": [{"start_s": None, "end_s": 1.0}], "present": [], "unknown": []}],
        [{"stem": "S01", "spans": None, "present": [], "unknown": []}],
        [{"stem": "S01", "spans": [], "present": [None], "unknown": []}],
        [{"stem": None, "spans": [], "present": [], "unknown": []}],
        [None],
        None,
    ],
)  # fmt: skip
def test_a_shard_whose_songs_are_no_songs_is_refused_by_name(tmp_path: Path, sounding: Any) -> None:
    path = written(tmp_path / "one.parquet")
    table = pq.read_table(path)
    values = [table.column("sounding")[0].as_py(), sounding]
    index = table.schema.get_field_index("sounding")
    changed = table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))
    pq.write_table(changed, path)
    with pytest.raises(IntegrityError, match=r"clip medleydb/Band_Song/S01@0: its song, expected"):
        list(read_shard(path))


def test_a_track_without_a_song_is_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "one.parquet")
    table = pq.read_table(path)
    index = table.schema.get_field_index("track")
    nameless = pa.array([None, {"song": None, "stem": "S01"}], TRACK_TYPE)
    pq.write_table(table.set_column(index, table.schema.field(index), nameless), path)
    with pytest.raises(IntegrityError, match=r"clip medleydb/Band_Song/S01@0: its song, expected a song"):
        list(read_shard(path))


def test_the_content_of_a_shard_covers_what_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutti.datasets.shard.check_audio", lambda *_: None)  # there is none in these rows
    one = content_digest(written(tmp_path / "one.parquet"))
    two = content_digest(written(tmp_path / "two.parquet", fingerprint="other"))
    assert one == two
    stream = io.BytesIO()
    row = replace(clip("medleydb/Band_Song/S01@0", split="train"), track=STEM, sounding=(VOICE,))
    assert row.audio is not None
    rows = [(clip("irmas/x@0", split="train"), b"fLaC"), (row, b"fLaC")]
    _, digest = write_shard(stream, rows, CLASSES, sample_rate=row.audio.sample_rate, rows_per_group=4, tracks=True)
    assert digest != one


def test_hugging_face_reads_the_columns_from_the_shard_and_from_the_card() -> None:
    features = pytest.importorskip("datasets").Features  # Hugging Face's

    table_schema = schema(CLASSES, 16_000, notes=True, tracks=True)
    stated = json.loads(table_schema.metadata[b"huggingface"])["info"]["features"]
    of_shard = features.from_dict(stated)
    of_card = features._from_yaml_list(yaml.safe_load("\n".join(_features(table_schema, 16_000))))
    assert of_shard == of_card
    assert of_shard.arrow_schema.field("track").type == table_schema.field("track").type
    assert of_shard.arrow_schema.field("sounding").type == table_schema.field("sounding").type
