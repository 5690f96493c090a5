"""Label curation in a whole build: embeddings, label quality, pseudo-labels, near-duplicates, human corrections."""

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import built, once, run_build
from sklearn.metrics import roc_auc_score
from tiny_ast import write_tiny_ast

from tutti.datasets.manifest import Manifest, read_manifest
from tutti.datasets.sample import SampleSize, write_sample_mirror
from tutti.pipelines.verify.check import verify

# Songs enough for every corpus to be judged.
SIZE = SampleSize(
    train_songs_per_class=5, train_parts=2, test_songs=6, test_excerpts=1, openmic_tracks=24, videos_per_class=3,
    foreign_rows=4, slakh_songs=0, own_songs=0, jamendo_tracks=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def mirror(session_folder: Path) -> Path:
    return once(session_folder, "curation-mirror", lambda root: write_sample_mirror(root, size=SIZE))


@pytest.fixture(scope="module")
def curated(session_folder: Path, mirror: Path) -> Manifest:
    def make(output: Path) -> None:
        built(*arguments(mirror, output, session_folder / "curation-cache"))

    return read_manifest(once(session_folder, "curation-build", make))


def arguments(mirror: Path, output: Path, cache: Path, *flags: str, embedder: str = "logmel") -> list[str]:
    places = ["--output", str(output), "--cache-dir", str(cache)]
    return ["--dataset", "ultimate", "--mirror", str(mirror), "--embedder", embedder, *places, *flags]


def report_of(manifest: Manifest) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(manifest.folder / "report" / "curation.parquet").to_pylist()
    return rows


# --- what a build with curation records


def test_a_build_from_nothing_with_two_workers_gives_the_same_version(curated, mirror, tmp_path):
    flags = ("--direct-running-mode", "multi_processing", "--direct-num-workers", "2")
    again = built(*arguments(mirror, tmp_path / "out", tmp_path / "cache", *flags), env={"PYTHONHASHSEED": "1"})

    assert again["version"] == curated.version
    assert again["clips"]["rejected"]["label_outlier"] > 0
    report = Path("current", "report", "curation.parquet")
    assert (tmp_path / "out" / report).read_bytes() == (curated.folder / "report" / "curation.parquet").read_bytes()
    assert list(verify(curated)) == []


def test_every_judged_clip_keeps_its_quality_whether_it_stays_or_goes(curated):
    rows = {row["id"]: row for row in curated.clip_rows()}
    judged = [row for row in report_of(curated) if row["quality"] is not None]

    assert len(judged) > 100
    for row in judged:
        assert rows[row["id"]]["quality"] == pytest.approx(row["quality"], abs=1e-6)
    going = [row for row in rows.values() if row.get("reason") == "label_outlier"]
    assert going
    for row in going:
        assert (row["stage"], row["value"]) == ("curate", row["quality"])
        assert row["detail"].startswith("given ")
        assert ", suggested " in row["detail"]


def test_only_clips_that_can_but_train_are_dropped(curated):
    partitions = {row["id"]: (row["source"], row["partition"]) for row in report_of(curated)}
    going = [row["id"] for row in curated.clip_rows() if row.get("reason") == "label_outlier"]

    assert {partitions[clip_id] for clip_id in going} <= {
        ("irmas", "train"), ("openmic2018", "train"), ("audioset", "balanced_train"), ("audioset", "unbalanced_train"),
    }  # fmt: skip


def test_the_manifest_says_who_judged_and_how_well(curated):
    curation = curated.content["curation"]

    assert (curation["embedder"]["name"], curation["embedder"]["dimension"]) == ("logmel", 371)
    single = curation["outliers"]["audioset+irmas/single"]
    assert single["accuracy"] > 5 * single["chance"]
    doubted = {row["id"] for row in report_of(curated) if row["doubted"]}
    gone = {row["id"] for row in curated.clip_rows() if row.get("reason") == "label_outlier"}
    copies = {row["id"] for row in curated.clip_rows() if str(row.get("reason")).startswith("duplicate")}
    assert single["sources"]["irmas"]["doubted"] == sum(clip_id.startswith("irmas/") for clip_id in doubted) > 0
    assert gone == doubted - copies
    assert curation["guitars"]["accuracy"] >= 0.75
    assert curation["guitars"]["coverage"] >= 0.5


def test_guitars_of_unknown_kind_gain_pseudo_labels_with_their_model_and_confidence(curated):
    origin = curated.content["curation"]["guitars"]["origin"]
    told = [
        (name, label)
        for row in curated.clip_rows() if row["status"] == "kept"
        for name, label in row["labels"].items()
        if label[2].startswith("pseudo:")
    ]  # fmt: skip

    assert told
    assert {label[2] for _, label in told} == {origin}
    assert {name for name, _ in told} <= {"acoustic_guitar", "electric_guitar"}
    assert all(label[1] is None or label[1] >= 0.65 for _, label in told)


def test_the_report_ranks_each_source_from_its_worst_clip_on(curated):
    rows = [row for row in report_of(curated) if row["source"] == "irmas" and row["rank"] is not None]
    ranked = sorted(rows, key=lambda row: row["rank"])

    assert [row["rank"] for row in ranked] == list(range(len(ranked)))
    assert all(a["quality"] <= b["quality"] for a, b in itertools.pairwise(ranked))
    drops = json.loads((curated.folder / "report" / "curation.json").read_text())["drops"]["irmas"]
    assert sum(all_ for _, all_ in drops.values()) >= len(rows)


def test_without_an_embedder_labels_stay_as_given(sample_build):
    manifest = read_manifest(sample_build)

    assert manifest.content["curation"]["embedder"] == {"name": "none"}
    assert not (manifest.folder / "report").exists()
    assert not any(row.get("quality") for row in manifest.clip_rows())


# --- AST


@pytest.mark.slow
def test_a_build_with_ast_weights_from_a_folder_is_the_same_twice_and_names_no_place(
    curated, mirror, session_folder, tmp_path
):
    weights = write_tiny_ast(tmp_path / "some place" / "weights")
    settings = ("outliers.min_auroc=0.01", "curate.guitars=false")  # random weights hear nothing; the path matters
    loose = ("--limit", "34", *(part for setting in settings for part in ("--set", setting)))
    one = built(*arguments(mirror, tmp_path / "a", session_folder / "curation-cache", *loose, embedder=str(weights)))
    two = built(*arguments(mirror, tmp_path / "b", tmp_path / "cb", *loose, embedder=str(weights)))
    manifest = read_manifest(tmp_path / "a")

    assert one["version"] == two["version"]
    embedder = manifest.content["curation"]["embedder"]
    assert (embedder["name"], embedder["dimension"]) == ("ast", 64)
    assert "some place" not in (manifest.folder / "manifest" / "manifest.json").read_text()


@pytest.mark.slow
def test_labels_that_an_embedder_cannot_judge_stay_as_given_and_the_manifest_says_so(
    curated, mirror, session_folder, tmp_path
):
    weights = write_tiny_ast(tmp_path / "weights")
    cache = session_folder / "curation-cache"  # of `curated`: the clips are prepared
    asked = ("--set", "outliers.min_auroc=0.95")  # even random weights tell some instruments apart
    built(*arguments(mirror, tmp_path / "out", cache, *asked, embedder=str(weights)))
    manifest = read_manifest(tmp_path / "out")

    assert "near chance" in manifest.content["curation"]["outliers"]["audioset+irmas/single"]["skipped"]
    assert not any(row.get("reason") == "label_outlier" for row in manifest.clip_rows())


def test_without_network_or_weights_the_recipes_embedder_is_not_replaced(mirror, tmp_path):
    env = {"TUTTI_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = arguments(mirror, tmp_path / "out", tmp_path / "cache")
    at = command.index("--embedder")
    result = run_build(*command[:at], *command[at + 2 :], env=env)

    assert result.returncode == 2
    assert "MIT/ast-finetuned-audioset-10-10-0.4593" in result.stderr
    assert "hf download" in result.stderr
    assert "--embedder logmel" in result.stderr
    assert not (tmp_path / "out" / "current").exists()


# --- near-duplicates


def test_a_quieter_copy_of_another_recording_is_joined_with_it_and_reported(tmp_path):
    data, rng = tmp_path / "mine", np.random.default_rng(0)
    data.mkdir()
    names = [f"song{number}" for number in range(6)]
    for name in names:
        notes = [np.sin(2 * np.pi * hz * np.arange(8_000) / 16_000) for hz in rng.uniform(110, 1_760, 20)]
        envelope = np.tile(np.exp(-np.arange(8_000) / 3_000), 20)
        soundfile.write(data / f"{name}.wav", 0.5 * np.concatenate(notes) * envelope, 16_000)
    samples, rate = soundfile.read(data / "song0.wav")
    soundfile.write(data / "copy.mp3", 0.4 * np.concatenate([np.zeros(800), samples]), rate)  # 50 ms later
    with (data / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "group", "flute", "cello"])
        writer.writerows([f"{name}.wav", name, 1, 0] for name in names)
        writer.writerow(["copy.mp3", "elsewhere", 0, 1])
    built(
        "--dataset", "folder", "--data-from", str(data), "--embedder", "logmel",
        "--output", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip
    manifest = read_manifest(tmp_path / "out")
    rows = {Path(row["recording"]).name: row for row in manifest.clip_rows()}
    leaks = manifest.content["curation"]["near_duplicates"]

    assert rows["copy.mp3"]["group"] == rows["song0.wav"]["group"]
    assert rows["copy.mp3"]["split"] == rows["song0.wav"]["split"]
    assert len({row["group"] for row in rows.values()}) == 6
    assert (leaks["pairs"], leaks["conflicts"]) == (1, 1)


# --- human corrections


def test_a_corrected_label_is_a_humans_and_its_clip_is_never_dropped(curated, mirror, session_folder, tmp_path):
    going = next(
        row for row in curated.clip_rows() if row.get("reason") == "label_outlier" and row["source"] == "irmas"
    )
    (given,) = (name for name, label in going["labels"].items() if label[0] == 1)
    text = f"id,instrument,presence,note\n{going['id']},{given},1,it is one\nirmas/nowhere@0,{given},0,\n"
    (tmp_path / "overrides.csv").write_text(text)
    flags = ("--overrides", str(tmp_path / "overrides.csv"))
    built(*arguments(mirror, tmp_path / "out", session_folder / "curation-cache", *flags))
    manifest = read_manifest(tmp_path / "out")
    row = next(row for row in manifest.clip_rows() if row["id"] == going["id"])

    assert row["status"] == "kept"
    assert row["labels"][given] == [1, None, "human"]
    assert manifest.content["curation"]["overrides"] == {"labels": 2, "clips_not_there": ["irmas/nowhere@0"]}
    assert len(manifest.content["recipe"]["clean"]["overrides"]) == 2


def test_an_override_for_an_unknown_class_names_the_line(mirror, tmp_path):
    (tmp_path / "overrides.csv").write_text("id,instrument,presence,note\nirmas/a@0,celo,1,\n")
    flags = ("--overrides", str(tmp_path / "overrides.csv"))
    result = run_build(*arguments(mirror, tmp_path / "out", tmp_path / "cache", *flags))

    assert result.returncode == 2
    assert "overrides.csv:2: no class 'celo' (did you mean 'cello'?)" in result.stderr


# --- real recordings


@pytest.fixture(scope="module")
def real(session_folder: Path, shared: Path) -> Manifest:
    def make(output: Path) -> None:
        built(*arguments(shared / "mirror", output, session_folder / "mirror-cache"))

    return read_manifest(once(session_folder, "curated-mirror-build", make))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["irmas", "audioset"])
def test_of_the_wrong_labels_planted_among_real_recordings_half_go_and_one_right_one_at_most(real, shared, source):
    wrong = json.loads((shared / "mirror" / "TRUTH.json").read_text(encoding="utf-8"))[f"{source}_mislabelled"]
    rows = [row for row in report_of(real) if row["source"] == source and row["quality"] is not None]
    rows = [row for row in rows if row["partition"] != "test"]
    planted = np.array([row["id"].split("/", 1)[1].rpartition("@")[0] in wrong for row in rows])
    dropped = np.array([row["doubted"] for row in rows])

    assert planted.sum() == len(wrong)
    assert roc_auc_score(~planted, [row["quality"] for row in rows]) >= 0.98
    assert dropped[planted].mean() >= 0.6
    assert dropped[~planted].sum() <= 1


@pytest.mark.slow
def test_of_real_guitars_seven_in_ten_get_a_kind_and_of_these_85_percent_the_right_one(real, shared):
    truth = json.loads((shared / "mirror" / "TRUTH.json").read_text(encoding="utf-8"))["guitars"]
    kinds = {"gac": "acoustic_guitar", "gel": "electric_guitar"}
    report = real.content["curation"]["guitars"]

    assert report["accuracy"] >= 0.85  # of IRMAS and AudioSet, by song, out of fold
    assert report["coverage"] >= 0.7
    rows = {row["recording"]: row for row in real.clip_rows()}
    right = told = 0
    for key, codes in truth.items():
        labels = rows[key]["labels"]
        pseudo = {n for n, label in labels.items() if label[2].startswith("pseudo:") and label[0] == 1}
        told += bool(pseudo)
        right += bool(pseudo & {kinds[code] for code in codes if code in kinds})
    assert told >= 0.7 * len(truth)
    assert right >= 0.85 * told


@pytest.mark.slow
def test_distinct_real_recordings_are_no_near_duplicates(real):
    # The two planted copies are equal to the sample, so they were found before.
    assert real.content["curation"]["near_duplicates"]["pairs"] == 2
