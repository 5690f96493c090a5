"""The typed rows and THE Parquet schema."""

import dataclasses
import hashlib
import io
import json
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import clip, human, stored
from signals import sine

from tutti.datasets.audio import encode, pcm_sha256, to_int16
from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import Label, clip_id
from tutti.datasets.shard import (
    audio_extension,
    content_line,
    open_shard,
    read_shard,
    schema,
    shard_instruments,
    shard_metadata,
    shard_path,
    write_shard,
)
from tutti.datasets.shard_info import canonical_labels

CLASSES = ("cello", "flute", "voice")


def written(rows, *, rows_per_group=64, instruments=CLASSES):
    """The shard's bytes, number of rows and content digest."""
    stream = io.BytesIO()
    count, digest = write_shard(stream, rows, instruments, sample_rate=16_000, rows_per_group=rows_per_group)
    return stream.getvalue(), count, digest


def content_digest(*clips, **options):
    return written([(c, b"fLaC") for c in clips], **options)[2]


def on_disk(folder, rows):
    path = folder / "shard.parquet"
    path.write_bytes(written(rows)[0])
    return path


# --- rows


def test_an_id_is_source_key_and_start_in_milliseconds():
    assert clip_id("audioset", "--PJHxphWEs", 30.0) == "audioset/--PJHxphWEs@30000"
    assert clip_id("irmas", "IRMAS-TrainingData/cel/[cel][cla]0001__1.wav") == (
        "irmas/IRMAS-TrainingData/cel/[cel][cla]0001__1.wav@0"
    )


def test_a_name_has_the_same_id_however_its_accents_are_composed():
    composed = "Canto das três raças-1.wav"

    assert clip_id("irmas", unicodedata.normalize("NFD", composed)) == clip_id("irmas", composed)


def test_rows_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        clip().split = "test"


# --- the schema


def test_the_columns_are_those_of_the_contract():
    fields = schema(CLASSES, 16_000)

    assert [(field.name, str(field.type)) for field in fields] == [
        ("id", "string"),
        ("audio", "struct<bytes: binary, path: string>"),
        ("sample_rate", "int32"),
        ("num_samples", "int64"),
        ("source", "string"),
        ("recording", "string"),
        ("group", "string"),
        ("start_s", "double"),
        ("end_s", "double"),
        ("presence", "fixed_size_list<item: int8>[3]"),
        ("confidence", "fixed_size_list<item: float>[3]"),
        ("label_origin", "fixed_size_list<item: string>[3]"),
        ("quality", "float"),
        ("loudness_lufs", "float"),
        ("gain_db", "float"),
        ("license", "string"),
        ("audio_sha256", "string"),
    ]


def test_hugging_face_reads_the_audio_column_as_audio():
    features = json.loads(schema(CLASSES, 16_000).metadata[b"huggingface"])["info"]["features"]

    assert features["audio"] == {"sampling_rate": 16_000, "_type": "Audio"}
    assert features["presence"] == {
        "feature": {"dtype": "int8", "_type": "Value"},
        "length": 3,
        "_type": "Sequence",
    }
    assert features["confidence"]["feature"] == {"dtype": "float32", "_type": "Value"}
    assert features["id"] == {"dtype": "string", "_type": "Value"}
    assert features["start_s"] == {"dtype": "float64", "_type": "Value"}
    assert features["quality"] == {"dtype": "float32", "_type": "Value"}
    assert len(features) == 17


def test_class_names_and_schema_version_stand_in_the_file(tmp_path):
    path = on_disk(tmp_path, [(clip(), b"fLaC")])

    assert shard_instruments(path) == ["cello", "flute", "voice"]
    assert shard_metadata(pq.read_schema(path)) == {"schema_version": 1, "instruments": ["cello", "flute", "voice"]}


def test_a_shard_is_named_in_the_layout_of_hugging_face():
    assert shard_path("validation", 3, 12) == "data/validation-00003-of-00012.parquet"


# --- writing


def test_what_is_written_is_what_is_read(tmp_path):
    samples = to_int16(sine(0.1, sample_rate=16_000)[0])
    file = encode(samples, 16_000, "flac")
    one = clip(
        "openmic2018/000046_3840@0",
        labels={"cello": Label(1, "crowd", 0.75), "voice": Label(0, "crowd", 0.25)},
        audio=stored(num_samples=1_600, pcm_sha256=pcm_sha256(samples), loudness_lufs=-14.5, gain_db=2.25),
        group="openmic2018/artist 7",
        license="CC-BY-4.0",
        start_s=0.5,
        end_s=10.5,
        quality=0.5,
    )

    assert list(read_shard(on_disk(tmp_path, [(one, file)]))) == [
        {
            "id": "openmic2018/000046_3840@0",
            "audio": {"bytes": file, "path": f"{pcm_sha256(samples)[:16]}.flac"},
            "sample_rate": 16_000,
            "num_samples": 1_600,
            "source": "openmic2018",
            "recording": "000046_3840",
            "group": "openmic2018/artist 7",
            "start_s": 0.5,
            "end_s": 10.5,
            "presence": [1, -1, 0],
            "confidence": [0.75, None, 0.25],
            "label_origin": ["crowd", None, "crowd"],
            "quality": 0.5,
            "loudness_lufs": -14.5,
            "gain_db": 2.25,
            "license": "CC-BY-4.0",
            "audio_sha256": pcm_sha256(samples),
        }
    ]


def test_a_class_that_nobody_annotated_is_minus_one(tmp_path):
    row = next(read_shard(on_disk(tmp_path, [(clip(labels={}), b"fLaC")])))

    assert row["presence"] == [-1, -1, -1]
    assert row["confidence"] == [None, None, None]
    assert row["label_origin"] == [None, None, None]


def test_a_label_outside_the_classes_is_left_out(tmp_path):
    row = next(read_shard(on_disk(tmp_path, [(clip(labels=human(banjo=1, flute=1)), b"fLaC")])))

    assert row["presence"] == [-1, 1, -1]


def test_only_the_columns_asked_for_are_read(tmp_path):
    assert list(read_shard(on_disk(tmp_path, [(clip(), b"fLaC")]), columns=["id", "source"])) == [
        {"id": "irmas/song@0", "source": "irmas"}
    ]


def test_a_shard_without_rows_is_readable_and_has_the_schema(tmp_path):
    path = on_disk(tmp_path, [])

    assert list(read_shard(path)) == []
    assert open_shard(path).metadata.num_rows == 0
    assert open_shard(path).schema_arrow.equals(schema(CLASSES, 16_000))
    assert shard_instruments(path) == ["cello", "flute", "voice"]


@pytest.mark.parametrize("ids", [("a/b@0", "a/a@0"), ("a/a@0", "a/a@0")], ids=["unsorted", "repeated"])
def test_rows_must_be_sorted_by_id_each_once(ids):
    with pytest.raises(ValueError, match=rf"^{ids[1]}: rows must be sorted by id, each once, but it follows {ids[0]}"):
        written([(clip(id), b"fLaC") for id in ids])


def test_a_clip_without_stored_audio_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="a/a@0: has no stored audio"):
        written([(clip("a/a@0", audio=None), b"fLaC")])


def test_a_clip_of_another_rate_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="a/a@0: expected stored audio at 16000 Hz, got 22050"):
        written([(clip("a/a@0", audio=stored(sample_rate=22_050)), b"fLaC")])


def test_the_same_rows_give_the_same_bytes():
    rows = [(clip(f"a/{n}@0", labels=human(cello=n % 2)), bytes([n]) * 100) for n in range(9)]

    assert written(iter(rows)) == written(iter(rows))


def test_audio_is_neither_compressed_nor_dictionary_encoded_nor_counted(tmp_path):
    path = on_disk(tmp_path, [(clip(f"a/{n}@0"), b"fLaC" * 100) for n in range(3)])

    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert columns["audio.bytes"].compression == "UNCOMPRESSED"
    assert "RLE_DICTIONARY" not in columns["audio.bytes"].encodings
    assert columns["audio.bytes"].statistics is None
    assert columns["id"].statistics.min == "a/0@0"


def test_row_groups_have_the_wanted_size(tmp_path):
    content, count, _ = written([(clip(f"a/{n}@0"), b"fLaC") for n in range(5)], rows_per_group=2)

    groups = pq.ParquetFile(io.BytesIO(content)).metadata
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [2, 2, 1]
    assert count == 5


def test_a_row_group_ends_early_where_its_audio_is_long(monkeypatch):
    monkeypatch.setattr("tutti.datasets.shard.MAX_GROUP_BYTES", 250)
    sizes = [100, 100, 100, 100, 300, 100]

    content, count, _ = written([(clip(f"a/{n}@0"), bytes(size)) for n, size in enumerate(sizes)], rows_per_group=4)

    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    assert count == 6
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [3, 2, 1]


@pytest.mark.parametrize(("audio", "extension"), [(b"fLaC\0", "flac"), (b"RIFF\0", "wav")])
def test_the_extension_is_told_from_the_first_bytes(audio, extension):
    assert audio_extension(audio) == extension


# --- the content digest


def test_the_content_digest_is_over_id_pcm_and_canonical_labels():
    one = clip(
        "a/é@0", audio=stored(pcm_sha256="ab"), labels={"voice": Label(0, "weak"), "cello": Label(1, "crowd", 0.9)}
    )

    line = '["a/é@0","ab",[["cello",1,0.9,"crowd"],["voice",0,null,"weak"]]]\n'.encode()
    assert content_line(one, CLASSES) == line
    assert content_digest(one) == hashlib.sha256(line).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        clip(labels=human(cello=0)),
        clip(labels=human(cello=1, flute=0)),
        clip(labels={"cello": Label(1, "weak")}),
        clip(labels={"cello": Label(1, "human", 0.9)}),
        clip(labels=human(cello=1), audio=stored(pcm_sha256="f" * 64)),
        clip("irmas/song@1", labels=human(cello=1)),
    ],
    ids=["presence", "one more label", "origin", "confidence", "audio", "id"],
)
def test_the_content_digest_depends_on_labels_audio_and_id(other):
    assert content_digest(other) != content_digest(clip(labels=human(cello=1)))


@pytest.mark.parametrize(
    "other",
    [
        clip(labels=human(cello=1), audio=stored(blob="9" * 64)),
        clip(labels=human(cello=1), license="CC0-1.0", quality=0.3),
        clip(labels=human(banjo=1, cello=1)),
        clip(labels={"cello": Label(1, "human", None)}),
    ],
    ids=["container", "licence and quality", "a label outside the classes", "the same"],
)
def test_the_content_digest_depends_on_nothing_else(other):
    assert content_digest(other) == content_digest(clip(labels=human(cello=1)))


def test_the_content_digest_does_not_depend_on_the_row_group_size():
    rows = [(clip(f"a/{n}@0"), b"fLaC") for n in range(9)]

    small, large = written(rows, rows_per_group=2), written(rows, rows_per_group=64)

    assert small[0] != large[0]
    assert small[2] == large[2]


def test_canonical_labels_are_sorted_known_and_rounded():
    labels = {"voice": Label(1, "pseudo:1a2b", 1 / 3), "banjo": Label(1, "human"), "cello": Label(0, "crowd", 0.0)}

    assert canonical_labels(labels, CLASSES) == [["cello", 0, 0.0, "crowd"], ["voice", 1, 0.333333, "pseudo:1a2b"]]


# --- what is no shard


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all" * 10], ids=["empty", "magic only", "text"])
def test_what_is_no_parquet_file_is_an_integrity_error_that_names_it(tmp_path, content):
    path = tmp_path / "x.parquet"
    path.write_bytes(content)

    with pytest.raises(IntegrityError, match=r"x\.parquet: not a readable shard .*run pipelines\.verify"):
        open_shard(path)


def test_a_shard_that_is_cut_is_an_integrity_error(tmp_path):
    path = on_disk(tmp_path, [(clip(), b"fLaC" * 100)])
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(IntegrityError, match="not a readable shard"):
        open_shard(path)


def test_a_shard_that_is_not_there_is_an_integrity_error(tmp_path):
    with pytest.raises(IntegrityError, match=r"x\.parquet: not a readable shard"):
        open_shard(tmp_path / "x.parquet")


@pytest.mark.parametrize("metadata", [None, {"tutti": '{"schema_version": 2, "instruments": []}'}])
def test_a_parquet_file_of_another_schema_is_an_integrity_error(tmp_path, metadata):
    table = pa.table({"id": ["a"]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "x.parquet")

    with pytest.raises(IntegrityError, match=r"x\.parquet: schema version (None|2), this code reads 1"):
        open_shard(tmp_path / "x.parquet")
