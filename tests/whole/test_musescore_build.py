"""Pairs of MIDI and audio become a dataset: bad ones go with a reason, good ones are cut where their notes sound."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, built
from midi_files import midi, note, sound, tempo, tune, write_pair
from rows import clip
from signals import silence

from tutti.datasets.audio import decode
from tutti.datasets.manifest import read_manifest
from tutti.datasets.record import Clip, Defect, Media, Recording, Rejected
from tutti.datasets.shard import (
    NOTES_TYPE,
    content_digest,
    content_line,
    notes_digest,
    read_shard,
    schema,
    write_shard,
)
from tutti.datasets.source import has_notes
from tutti.pipelines.acquisition.origins import Origins
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.fetch import fetch
from tutti.pipelines.stages.prepare import PrepareConfig, prepare
from tutti.pipelines.stages.select import without_defects

CLASSES = ("flute", "piano", "violin")
GOOD = {"good0": 0.05, "good1": 0.3, "good2": 1.1}  # id -> seconds that its audio lies late
SAMPLE_RATE = 16_000


def write_corpus(root: Path) -> Path:
    """Three good pairs, and one of everything that can be wrong."""
    for number, (key, delay_s) in enumerate(GOOD.items()):
        score = tune(number, programs=(0, 40))
        write_pair(root, key, score, sound(score, delay_s=delay_s))
    write_pair(root, "swapped", tune(7), sound(tune(8)))
    write_pair(root, "silent", tune(9), silence(13.0, sample_rate=22_050))
    for key in ("truncated", "empty", "no_mp3", "no_mid"):
        write_pair(root, key, tune(10), sound(tune(10)))
    (root / "mid" / "truncated.mid").write_bytes((root / "mid" / "truncated.mid").read_bytes()[:-20])
    (root / "mid" / "empty.mid").write_bytes(midi([tempo(500_000, 960)]))
    (root / "mp3" / "no_mp3.mp3").unlink()
    (root / "mid" / "no_mid.mid").unlink()
    return root


def build(root: Path, output: Path, cache: Path, *flags: str) -> dict:
    return built(
        "--dataset", "musescore", "--data-from", str(root), "--embedder", "none", "--output", str(output),
        "--cache-dir", str(cache), *flags,
    )  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def output(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("musescore")
    build(corpus, folder / "out", folder / "cache")
    return folder / "out"


@pytest.fixture(scope="module")
def rows(output):
    return {row["id"]: row for row in read_manifest(output).clip_rows()}


def verified(output: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipelines.verify", str(output)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


# --- the build


def test_each_bad_pair_is_rejected_with_its_reason_and_each_good_one_kept(rows):
    found = {row["id"]: row.get("reason", row["status"]) for row in rows.values()}

    assert found == {
        "musescore/good0@0": "kept", "musescore/good0@10000": "kept",
        "musescore/good1@0": "kept", "musescore/good1@10000": "kept",
        "musescore/good2@0": "kept", "musescore/good2@10000": "kept",
        "musescore/swapped@0": "misaligned", "musescore/swapped@10000": "misaligned",
        "musescore/silent@0": "silent", "musescore/silent@10000": "silent",
        "musescore/truncated@0": "bad_score",
        "musescore/empty@0": "no_notes",
        "musescore/no_mp3@0": "orphan",
        "musescore/no_mid@0": "orphan",
    }  # fmt: skip


def test_a_misaligned_row_says_how_little_it_fits(rows):
    row = rows["musescore/swapped@0"]

    assert (row["stage"], row["status"]) == ("prepare", "rejected")
    assert -0.15 < row["value"] < 0.15
    assert row["detail"].startswith("correlates by 0.0")


@pytest.mark.parametrize("key", GOOD)
def test_the_delay_is_measured_and_recorded_once_a_recording(rows, key):
    first, second = (rows[f"musescore/{key}@{start}"]["alignment"] for start in (0, 10_000))

    assert first == second
    assert first["delay_s"] == pytest.approx(GOOD[key], abs=0.02)
    assert first["score"] > 0.3


def test_clips_are_cut_where_their_notes_sound(output):
    """The last note of a tune begins at the same time in its clip's audio as in its notes."""
    manifest = read_manifest(output)
    rows = {row["id"]: row for split in ("train", "validation", "test") for path in manifest.shard_paths(split)
            for row in read_shard(path)}  # fmt: skip
    for key in GOOD:
        row = rows[f"musescore/{key}@0"]
        samples = decode(row["audio"]["bytes"], key).waveform[0]
        first_s = row["notes"][0]["onset_s"]
        loud = np.flatnonzero(np.abs(samples) > 0.1 * np.abs(samples).max())
        assert loud[0] / SAMPLE_RATE == pytest.approx(first_s, abs=0.03)


def test_rows_tell_number_and_digest_of_their_notes_and_origin_score(rows, output):
    row = rows["musescore/good0@0"]
    notes = [n for n in tune(0, programs=(0, 40)).notes if n.onset_s < 10.0]

    assert row["num_notes"] == len(notes)
    assert {origin for _, _, origin in row["labels"].values()} == {"score"}
    assert row["labels"]["piano"] == row["labels"]["violin"] == [1, None, "score"]
    assert row["labels"]["flute"] == [0, None, "score"]
    shard = next(
        r for path in (output / "current" / "data").iterdir() for r in read_shard(path) if r["id"] == row["id"]
    )
    assert [n["onset_s"] for n in shard["notes"]] == sorted(n["onset_s"] for n in shard["notes"])
    assert len(shard["notes"]) == len(notes)


def test_verify_finds_nothing_wrong(output):
    result = verified(output)

    assert (result.returncode, result.stderr) == (0, "")


def test_verify_finds_a_shard_whose_notes_were_changed(output, tmp_path):
    version = shutil.copytree(output, tmp_path / "out", symlinks=True)
    path = next(path for path in (version / "current" / "data").iterdir() if pq.read_metadata(path).num_rows)
    table = pq.read_table(path)
    notes = table.column("notes").to_pylist()
    notes[0][0]["pitch"] += 1
    pq.write_table(table.set_column(table.schema.get_field_index("notes"), "notes", pa.array(notes, NOTES_TYPE)), path)

    result = verified(version)

    assert result.returncode == 3
    assert path.name in result.stdout + result.stderr


@pytest.mark.slow
def test_a_second_build_computes_nothing(corpus, output):
    summary = build(corpus, output.parent / "again", output.parent / "cache")

    assert summary["work"]["prepare"]["computed"] == 0
    assert summary["root_digest"] == read_manifest(output).root_digest


@pytest.mark.slow
def test_one_worker_and_two_give_the_same_root_digest(corpus, output, tmp_path):
    flags = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")

    summary = build(corpus, tmp_path / "out", tmp_path / "cache", *flags)

    assert summary["root_digest"] == read_manifest(output).root_digest


@pytest.mark.slow
def test_a_frozen_build_measures_the_same_delays(corpus, output, tmp_path):
    summary = built(
        "--frozen", str(output), "--data-from", str(corpus), "--output", str(tmp_path / "out"),
        "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip

    assert summary["frozen"]["level"] == "EXACT"


@pytest.mark.slow
def test_every_real_pair_is_kept_as_far_as_its_audio_goes(shared, tmp_path):
    if not (shared / "musescore").is_dir():
        pytest.skip("needs the shared pairs of MIDI and audio")
    build(shared / "musescore", tmp_path / "out", tmp_path / "cache")
    rows = list(read_manifest(tmp_path / "out").clip_rows())

    assert len({row["recording"] for row in rows if row["status"] == "kept"}) == 8
    # Their audio is an excerpt; what the score goes on with was not recorded.
    assert {row["reason"] for row in rows if row["status"] != "kept"} == {"truncated"}
    assert max(abs(row["alignment"]["delay_s"]) for row in rows if "alignment" in row) < 0.02


# --- prepare


@pytest.fixture
def recording_of(tmp_path):
    """A pair in a cache, and the cache."""

    def make(score, waveform, *clips):
        write_pair(tmp_path, "a", score, waveform)
        cache = Cache(tmp_path / "cache")
        blob = cache.put_blob((tmp_path / "mp3" / "a.mp3").read_bytes())
        return Recording(Media("musescore:mp3/a.mp3", sha256=blob), clips, score.notes), cache

    return make


def test_audio_that_lost_its_beginning_begins_with_silence(recording_of):
    score = tune(0)
    lost_s = 0.15
    waveform = sound(score)[:, round(lost_s * 22_050) :]
    recording, cache = recording_of(score, waveform, clip("musescore/a@0", audio=None, end_s=10.0, declared_s=10.0))

    (row,) = prepare(recording, config=PrepareConfig(), cache=cache)

    samples = decode(cache.read_blob(row.audio.blob), "a").waveform[0]
    assert row.alignment.delay_s == pytest.approx(-lost_s, abs=0.02)
    assert row.audio.num_samples == 10 * SAMPLE_RATE
    assert np.abs(samples[: round(0.1 * SAMPLE_RATE)]).max() < 1e-3


def test_another_score_makes_prepare_measure_anew(recording_of):
    score = tune(0)
    one = clip("musescore/a@0", audio=None, end_s=10.0, declared_s=10.0)
    recording, cache = recording_of(score, sound(score, delay_s=0.2), one)
    (before,) = prepare(recording, config=PrepareConfig(), cache=cache)
    late = tuple(replace(n, onset_s=n.onset_s + 0.1, offset_s=n.offset_s + 0.1) for n in score.notes)

    (after,) = prepare(replace(recording, score=late), config=PrepareConfig(), cache=cache)

    assert after.alignment.delay_s == pytest.approx(before.alignment.delay_s - 0.1, abs=0.002)


def test_the_least_correlation_can_be_set(recording_of):
    one = clip("musescore/a@0", audio=None, end_s=10.0)
    recording, cache = recording_of(tune(7), sound(tune(8)), one)

    (strict,) = prepare(recording, config=PrepareConfig(), cache=cache)
    (lenient,) = prepare(recording, config=PrepareConfig(min_alignment=-1.0), cache=cache)

    assert (strict.reason, strict.status) == ("misaligned", "rejected")
    assert isinstance(lenient, Clip)
    assert lenient.alignment.score == strict.value


def test_recordings_without_a_score_are_cut_as_before(recording_of):
    recording, cache = recording_of(tune(0), sound(tune(0), delay_s=0.5), clip("a/b@0", audio=None, end_s=2.0))

    (row,) = prepare(replace(recording, score=()), config=PrepareConfig(), cache=cache)

    assert row.alignment is None


# --- fetch


def test_a_defective_clip_is_rejected_before_anything_is_fetched():
    bad = clip("musescore/a@0", audio=None, defect=Defect("pitch_range", 12.0, "too low"))
    recording = Recording(Media("musescore:mp3/nowhere.mp3"), (bad,))

    assert list(without_defects(recording)) == [Rejected(bad, "select", "pitch_range", 12.0, "too low")]


def test_the_other_clips_of_its_recording_are_fetched(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"audio")
    bad = clip("musescore/a@0", audio=None, defect=Defect("pitch_range"))
    good = clip("musescore/a@10000", audio=None)
    recording = Recording(Media("musescore:a.mp3"), (bad, good), tune(0).notes)
    origins = Origins(local_roots=(("musescore", str(tmp_path)),))

    rejected, sound = without_defects(recording)
    (fetched,) = fetch(sound, origins=origins, cache=Cache(tmp_path / "cache"))

    assert rejected.clip == bad
    assert fetched.clips == (replace(good, acquired="own"),)
    assert fetched.score == tune(0).notes


# --- shards


def test_notes_are_one_more_column_and_clips_without_a_score_have_none(tmp_path):
    with_notes = clip("a/1@0", notes=(note(0.0, 0.5, 69, 73),))
    path = tmp_path / "shard.parquet"
    with path.open("wb") as stream:
        rows = [(with_notes, b"fLaC"), (clip("a/2@0"), b"fLaC")]
        write_shard(stream, rows, CLASSES, sample_rate=16_000, rows_per_group=4, notes=True)

    assert [row["notes"] for row in read_shard(path)] == [
        [{"onset_s": 0.0, "offset_s": 0.5, "pitch": 69, "program": 73, "instrument": "flute", "velocity": 64}],
        None,
    ]
    assert pq.read_schema(path).names == [*schema(CLASSES, 16_000).names, "notes"]


def test_a_shard_without_the_column_refuses_notes():
    rows = [(clip("a/1@0", notes=()), b"fLaC")]
    with pytest.raises(ValueError, match="a/1@0: has notes and the shard no column for them"):
        write_shard(io.BytesIO(), rows, CLASSES, sample_rate=16_000, rows_per_group=64)


def test_the_content_digest_covers_notes_where_there_are_any():
    silent, one = clip("a/1@0", notes=()), clip("a/1@0", notes=(note(0.0, 0.5),))

    assert json.loads(content_line(clip("a/1@0"), CLASSES)) == ["a/1@0", "a" * 64, []]
    assert json.loads(content_line(one, CLASSES)) == ["a/1@0", "a" * 64, [], notes_digest(one.notes)]
    assert len({content_line(c, CLASSES) for c in (clip("a/1@0"), silent, one)}) == 3


def test_notes_that_differ_below_a_microsecond_are_the_same():
    assert notes_digest([note(0.1 + 0.2, 1.0)]) == notes_digest([note(0.3, 1.0)])
    assert notes_digest([note(0.3, 1.0)]) != notes_digest([note(0.3, 1.0, velocity=65)])


def test_the_content_digest_of_a_shard_is_that_of_its_rows(output):
    for info in read_manifest(output).shards():
        assert content_digest(output / "current" / info.path) == info.content_sha256


def test_sources_say_whether_they_have_notes():
    assert has_notes(["irmas", "musescore"])
    assert not has_notes(["irmas", "openmic2018"])
    assert not has_notes(["a source of other code"])
