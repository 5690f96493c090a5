"""A build of NSynth, from the sample's archives alone, by the NSynth pre-training paper's protocol."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import signals
from conftest import built
from nsynth_notes import build_once
from rows import clip, stored

from tutti.datasets.audio import Decoded
from tutti.datasets.manifest import ClipRow, read_manifest
from tutti.datasets.record import Rejected
from tutti.datasets.sample import nsynth as sample
from tutti.pipelines.decoding.config import PrepareConfig
from tutti.pipelines.decoding.normalize import store_audio
from tutti.pipelines.stages.clean import CleanConfig, clean

PLAIN = ("--set", "select.exclude=", "--set", "clean.min_mean_amplitude=0")


@pytest.fixture(scope="module")
def version(session_folder: Path) -> Path:
    return build_once(session_folder)


def rows_of(version: Path) -> dict[str, ClipRow]:
    return {row["recording"]: row for row in read_manifest(version).clip_rows()}


def instruments_of(rows: dict[str, ClipRow]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for note, row in rows.items():
        if row["status"] == "kept":
            found[row["split"]].add(note.rsplit("-", 2)[0])
    return found


def test_train_and_valid_are_divided_note_by_note_and_every_instrument_is_in_both_parts(version: Path) -> None:
    rows = rows_of(version)
    assert Counter((row["partition"], row.get("split")) for row in rows.values()) == {
        ("merged", "train"): 81,
        ("merged", "validation"): 18,  # one of each instrument: of five or six notes that is more than 4 %
        ("merged", None): 2,
        ("test", "test"): 9,
        ("test", None): 2,
    }
    instruments = instruments_of(rows)
    assert len(instruments["train"]) == 18
    assert instruments["validation"] == instruments["train"] > instruments["test"]
    assert {row["group"] for row in rows.values()} == {f"nsynth/{note}" for note in rows}


def test_what_is_left_out_leaves_a_row_with_its_reason(version: Path) -> None:
    rows = rows_of(version)
    left_out = {note: row["reason"] for note, row in rows.items() if row["status"] != "kept"}
    assert left_out == {
        **dict.fromkeys((*sample.NOISES, sample.NO_PIANO_KEY), "excluded"),
        sample.NEAR_SILENT: "silent",
    }
    near_silent = rows[sample.NEAR_SILENT]
    assert near_silent["stage"] == "clean"
    assert near_silent["value"] == pytest.approx(2e-4, abs=1e-5)
    assert near_silent["detail"].startswith("near-silent: mean amplitude 0.0002")


def test_a_short_note_is_kept_however_much_silence_follows_it(version: Path) -> None:
    shares = {note: row["audio"]["silence_share"] for note, row in rows_of(version).items() if row["status"] == "kept"}
    short = {note.rsplit("-", 2)[0] for note, share in shares.items() if share > 0.8}  # Lumen 2023 would drop these
    assert short == {"guitar_acoustic_000", "keyboard_acoustic_000", "mallet_acoustic_001"}


def test_each_note_names_its_one_of_1006_instruments_and_leaves_the_others_to_training(version: Path) -> None:
    manifest = read_manifest(version)
    assert len(manifest.instruments) == 1006
    row = rows_of(version)["organ_electronic_000-048-050"]
    assert row["labels"] == {"instrument_0384": [1, None, "human"]}
    assert len(json.dumps(row)) < 2_000  # bytes; with 1,005 absent ones 17 kB more


def test_notes_are_as_loud_as_everything_else(version: Path) -> None:
    kept = [row["audio"] for row in rows_of(version).values() if row["status"] == "kept"]
    assert all(audio["num_samples"] == 64_000 for audio in kept)
    free = [audio["loudness_lufs"] for audio in kept if audio["true_peak_dbtp"] < -1.1]  # no guard held them back
    assert len(free) > 10
    assert free == pytest.approx([-12.0] * len(free), abs=0.05)


@pytest.mark.slow
def test_the_official_split_keeps_instruments_apart_and_defects_may_be_kept(
    version: Path, session_folder: Path, tmp_path: Path
) -> None:
    switches = (*PLAIN, "--set", "nsynth.split=official", "--set", "nsynth.labels=families")
    places = ("--mirror", str(session_folder / "nsynth-mirror"), "--cache-dir", str(session_folder / "nsynth-cache"))
    summary = built("--dataset", "nsynth", *places, *switches, "--output", str(tmp_path / "out"))
    rows = rows_of(tmp_path / "out")
    instruments = instruments_of(rows)
    assert not instruments["train"] & (instruments["validation"] | instruments["test"])
    assert rows[sample.NO_PIANO_KEY]["split"] == "train"
    # One noise under two names: the second is a duplicate. What cannot be measured cannot be normalized.
    assert summary["clips"]["rejected"] == {"duplicate": 1, "silent": 1}
    assert rows[sample.NEAR_SILENT]["detail"] == "no measurable loudness"
    assert read_manifest(tmp_path / "out").instruments == [
        "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
    ]  # fmt: skip


# --- the near-silent filter


@pytest.mark.parametrize(
    ("mean", "threshold", "expected"),
    [
        (0.000499, 5e-4, "silent"),
        (0.0005, 5e-4, "kept"),
        (0.0, 0.0, "kept"),  # off
        (None, 5e-4, "kept"),  # not measured
    ],
)
def test_a_clip_below_the_mean_amplitude_is_silent(mean: float | None, threshold: float, expected: str) -> None:
    config = CleanConfig(min_mean_amplitude=threshold)
    row = clean(clip(audio=stored(mean_amplitude=mean)), config=config)
    assert (row.reason if isinstance(row, Rejected) else "kept") == expected


def test_the_mean_amplitude_is_measured_before_the_level_is_changed() -> None:
    tone = signals.sine(1.0, amplitude=0.01, sample_rate=16_000, num_channels=2)
    facts, _ = store_audio(tone, Decoded(tone, 16_000, "WAV/PCM_16", "libsndfile", True), PrepareConfig())
    assert facts["mean_amplitude"] == pytest.approx(0.02 / np.pi, rel=1e-3)
    assert facts["gain_db"] > 20


# --- the sample


def test_the_samples_notes_do_not_depend_on_how_many_there_are_nor_on_their_order() -> None:
    few, more = (sample.plan_notes(0, count) for count in (2, 4))
    assert {part: len(jobs) for part, jobs in more.items()} == {"train": 98, "valid": 36, "test": 14}
    assert few["train"][0] == more["train"][0]
    assert sample.render_note(few["train"][0]) == sample.render_note(more["train"][0])
    assert {job.name for job in more["valid"]} & {job.name for job in more["test"]} == set()
    other = sample.plan_notes(1, 2)["train"][0]
    assert sample.render_note(other)[0] == sample.render_note(few["train"][0])[0]
    assert sample.render_note(other)[1] != sample.render_note(few["train"][0])[1]
