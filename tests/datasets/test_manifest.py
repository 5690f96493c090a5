"""The manifest: canonical rows, digests of contents, and what a reader does with damage."""

import hashlib
import random

import pytest
from rows import clip, human, stored
from whole_manifest import manifest_content

from tutti.datasets.clip_line import encode
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import (
    bucket_of,
    canonical_json,
    clip_row,
    clips_path,
    digest_of,
    file_sha256,
    manifest_path,
    read_clip_rows,
    read_manifest,
    root_digest,
    split_digest,
    version_folder,
)
from tutti.datasets.record import Label, Rejected
from tutti.datasets.shard_info import ShardInfo

CLASSES = ("cello", "flute", "voice")


def kept(id="irmas/a@0", split="train", pcm="a" * 64, **labels):
    return clip_row(clip(id, split=split, labels=human(**labels), audio=stored(pcm_sha256=pcm)), CLASSES)


def version_on_disk(folder, **changes):
    shard = ShardInfo("data/train-00000-of-00001.parquet", "train", 2, 9, "5" * 64, "c" * 64)
    content = manifest_content([shard], CLASSES, ["x"], root_digest="1234" * 16, **changes)
    path = manifest_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(canonical_json(content) + "\n", encoding="utf-8")
    return folder


# --- canonical JSON


def test_canonical_json_depends_on_the_value_only():
    assert canonical_json({"b": [1, 2.5, None], "a": {"é": True}}) == '{"a":{"é":true},"b":[1,2.5,null]}'
    assert canonical_json({"a": {"é": True}, "b": (1, 2.5, None)}) == '{"a":{"é":true},"b":[1,2.5,null]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_numbers_that_json_lacks(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json([value])


def test_a_digest_is_the_sha256_of_the_canonical_json():
    assert digest_of({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()


def test_a_file_digest_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")

    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_clip_lies_in_the_bucket_of_its_id():
    assert bucket_of("irmas/a@0") == hashlib.sha256(b"irmas/a@0").hexdigest()[:2]
    assert clips_path("0a") == "manifest/clips/0a.jsonl"


# --- clip rows


def test_the_row_of_a_kept_clip():
    row = clip_row(
        clip(
            "irmas/song@0",
            labels={"voice": Label(1, "crowd", 0.75), "cello": Label(0, "human"), "banjo": Label(1, "human")},
            end_s=3.0,
            split="train",
            license="CC-BY-4.0",
            quality=0.5,
        ),
        CLASSES,
    )

    assert row == {
        "id": "irmas/song@0",
        "source": "irmas",
        "recording": "song",
        "group": "irmas/song",
        "partition": "train",
        "start_s": 0.0,
        "end_s": 3.0,
        "license": "CC-BY-4.0",
        "quality": 0.5,
        "labels": {"cello": [0, None, "human"], "voice": [1, 0.75, "crowd"]},
        "audio": {
            "pcm_sha256": "a" * 64,
            "sketch": "0" * 16,
            "native_sha256": "c" * 32,
            "source_sha256": "d" * 32,
            "sample_rate": 16_000,
            "num_samples": 160_000,
            "native_sample_rate": 44_100,
            "codec": "WAV/PCM_16",
            "decoder": "libsndfile",
            "loudness_lufs": -12.0,
            "gain_db": 3.5,
            "true_peak_dbtp": -1.5,
            "silence_share": 0.0,
        },
        "status": "kept",
        "split": "train",
    }


def test_the_row_of_a_rejected_clip_says_where_and_why():
    rejected = Rejected(clip(audio=None), stage="clean", reason="silent", value=0.93, detail="quiet")

    row = clip_row(rejected, CLASSES)

    assert row == {
        "id": "irmas/song@0",
        "source": "irmas",
        "recording": "song",
        "group": "irmas/song",
        "partition": "train",
        "start_s": 0.0,
        "license": "unknown",
        "labels": {},
        "status": "rejected",
        "stage": "clean",
        "reason": "silent",
        "value": 0.93,
        "detail": "quiet",
    }


def test_the_row_of_a_clip_that_is_gone_has_neither_value_nor_detail():
    row = clip_row(Rejected(clip(audio=None), stage="download", reason="not_in_mirror", status="gone"), CLASSES)

    assert (row["status"], row["stage"], row["reason"]) == ("gone", "download", "not_in_mirror")
    assert not {"value", "detail", "split", "audio"} & row.keys()


# --- digests


def test_the_root_digest_is_over_sorted_id_split_pcm_and_labels_of_the_kept_rows():
    rejected = clip_row(Rejected(clip("irmas/c@0"), stage="clean", reason="silent"), CLASSES)

    lines = b'["irmas/a@0","test","11",{"cello":[1,null,"human"]}]\n["irmas/b@0","train","22",{}]\n'
    assert root_digest([kept("irmas/b@0", "train", "22"), rejected, kept("irmas/a@0", "test", "11", cello=1)]) == (
        hashlib.sha256(lines).hexdigest()
    )


def test_the_split_digest_is_over_id_and_split_whatever_the_audio():
    lines = b'["irmas/a@0","test"]\n["irmas/b@0","train"]\n'

    assert split_digest([kept("irmas/b@0", "train", "22"), kept("irmas/a@0", "test", "11", cello=1)]) == (
        hashlib.sha256(lines).hexdigest()
    )


def test_neither_digest_depends_on_the_order_of_rows():
    rows = [kept(f"irmas/{number}@0", cello=number % 2) for number in range(20)]
    shuffled = random.Random(0).sample(rows, 20)

    assert root_digest(shuffled) == root_digest(rows)
    assert split_digest(shuffled) == split_digest(rows)


@pytest.mark.parametrize(
    "other",
    [kept(split="test", cello=1), kept(cello=0), kept(cello=1, flute=0), kept(pcm="b" * 64, cello=1)],
    ids=["split", "presence", "one more label", "audio"],
)
def test_the_root_digest_depends_on_split_labels_and_pcm(other):
    assert root_digest([other]) != root_digest([kept(cello=1)])


def test_the_root_digest_covers_the_notes_of_a_clip_that_has_some():
    without, with_notes, other = kept(cello=1), *({**kept(cello=1), "notes_sha256": digest * 32} for digest in "ab")

    assert len({root_digest([row]) for row in (without, with_notes, other)}) == 3


def test_the_root_digest_does_not_depend_on_what_was_rejected_or_how_it_was_decoded():
    other = {**kept(cello=1), "audio": {**kept(cello=1)["audio"], "codec": "FLAC/PCM_16", "gain_db": 9.0}}
    rejected = clip_row(Rejected(clip("irmas/c@0"), stage="clean", reason="silent"), CLASSES)

    assert root_digest([other, rejected]) == root_digest([kept(cello=1)])


# --- reading


def test_a_damaged_line_is_an_integrity_error_that_names_file_and_line(tmp_path):
    path = tmp_path / "7f.jsonl"
    path.write_text(encode(kept()) + '\n{"id":"x/b@0","sta\n')

    with pytest.raises(IntegrityError, match=r"7f\.jsonl:2: not a JSON line"):
        list(read_clip_rows(path))


def test_a_line_that_is_no_utf8_is_an_integrity_error_that_names_file_and_line(tmp_path):
    path = tmp_path / "7f.jsonl"
    path.write_bytes(encode(kept()).encode() + b'\n{"id":"x/b@0\xff","status":"kept"}\n')

    with pytest.raises(IntegrityError, match=r"7f\.jsonl:2: "):
        list(read_clip_rows(path))


@pytest.mark.parametrize("line", ["[1]", '"text"', "{}", '{"id":"a"}', '{"status":"kept"}', "not JSON"])
def test_a_line_that_is_no_clip_row_is_an_integrity_error_that_names_file_and_line(tmp_path, line):
    path = tmp_path / "00.jsonl"
    path.write_text(line + "\n")

    with pytest.raises(IntegrityError, match=r"00\.jsonl:1: "):
        list(read_clip_rows(path))


def test_an_id_with_a_line_separator_does_not_break_its_line(tmp_path):
    path = tmp_path / "00.jsonl"
    rows = [kept("irmas/a\u2028b\x85c@0"), kept("irmas/d@0")]
    path.write_text("".join(encode(row) + "\n" for row in rows), encoding="utf-8")

    assert list(read_clip_rows(path)) == rows


def test_a_manifest_reads_its_clip_rows_from_the_files_that_it_lists(tmp_path):
    files = []
    for bucket in ("00", "7f", "80"):
        path = tmp_path / clips_path(bucket)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(encode(kept(f"x/{bucket}@0")) + "\n")
        files.append({"path": clips_path(bucket), "num_rows": 1, "sha256": file_sha256(path)})
    folder = version_on_disk(tmp_path, clips=files[:2])

    assert [row["id"] for row in read_manifest(folder).clip_rows()] == ["x/00@0", "x/7f@0"]
    (tmp_path / clips_path("7f")).write_text(encode(kept("x/other@0")) + "\n")
    with pytest.raises(IntegrityError, match=r"7f\.jsonl: its sha256 is not the manifest's"):
        list(read_manifest(folder).clip_rows())


@pytest.mark.parametrize("given", [".", "versions/0123456789ab", "current"])
def test_an_output_root_and_a_version_folder_mean_the_same(tmp_path, given):
    folder = version_on_disk(tmp_path / "versions" / "0123456789ab")
    (tmp_path / "current").symlink_to("versions/0123456789ab")

    assert version_folder(tmp_path / given) == folder.resolve()
    assert read_manifest(tmp_path / given).root_digest == "1234" * 16


@pytest.mark.parametrize("given", ["", "not-there"])
def test_a_folder_without_a_dataset_is_a_usage_error_that_names_the_remedy(tmp_path, given):
    with pytest.raises(UsageError, match=r"no dataset here .*build one with pipelines\.build"):
        read_manifest(tmp_path / given)


def test_a_build_that_did_not_finish_is_no_dataset(tmp_path):  # manifest.json is written last
    (tmp_path / "manifest" / "clips").mkdir(parents=True)
    (tmp_path / "manifest" / "clips" / "00.jsonl").write_text("")

    with pytest.raises(UsageError, match="no dataset here"):
        version_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"3"])
def test_an_unreadable_manifest_is_an_integrity_error_that_names_it(tmp_path, content):
    manifest_path(tmp_path).parent.mkdir()
    manifest_path(tmp_path).write_bytes(content)

    with pytest.raises(IntegrityError, match=r"manifest\.json: not a manifest"):
        read_manifest(tmp_path)


def test_a_manifest_of_another_schema_is_an_integrity_error(tmp_path):
    with pytest.raises(IntegrityError, match=r"manifest\.json: schema version 3, this code reads 2"):
        read_manifest(version_on_disk(tmp_path, schema_version=3))


def test_the_version_is_the_beginning_of_the_manifests_sha256(tmp_path):
    manifest = read_manifest(version_on_disk(tmp_path))

    assert manifest.version == hashlib.sha256(manifest_path(tmp_path).read_bytes()).hexdigest()[:12]
    assert manifest.instruments == ["cello", "flute", "voice"]


def test_shards_of_a_split_are_those_that_the_manifest_lists(tmp_path):
    manifest = read_manifest(version_on_disk(tmp_path))

    assert manifest.shard_paths("train") == [tmp_path / "data" / "train-00000-of-00001.parquet"]
    assert manifest.shards()[0].num_rows == 2


def test_an_unknown_split_is_a_usage_error_that_lists_the_others(tmp_path):
    with pytest.raises(UsageError, match="no split 'valid'; it has train"):
        read_manifest(version_on_disk(tmp_path)).shard_paths("valid")
