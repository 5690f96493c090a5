"""Every recipe end to end in its tiny form, on a song-disjoint split of synthesized clips."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signals
import torch
from dataset_fixture import SAMPLE_RATE, Example, learnable_dataset, timbre, write_dataset
from materials import material_of

from tutti.datasets.audio import to_int16
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import read_manifest
from tutti.datasets.sources.openmic2018 import INSTRUMENTS as OPENMIC
from tutti.train import predict
from tutti.train.evaluate import evaluate, main
from tutti.train.front_end import evaluation_chunking
from tutti.train.reading.mono import load_mono
from tutti.train.recipe import load_recipe, recipe_names
from tutti.train.run import train
from tutti.train.runs.saved import load_run
from tutti.train.scoring.strong_sum import strong_sum
from tutti.train.tagger import Tagger, build_tagger, chunk_logits

CPU = torch.device("cpu")
# The slow ones: AST's library takes seconds to load; the others go the same way as lumen_convnext_fluffy.
SLOW = (
    "ast_finetune", "lumen_convnext", "lumen_convnext_base", "lumen_convnext_fluffy_irmas", "lumen_convnext_rgb",
    "lumen_convnext_sum2",
)  # fmt: skip
# Recipes for other data than clips of several instruments have tests of their own.
OWN_DATA = (
    "openmic_bilstm", "nsynth_pretrain", "musescore_multitask", "musescore_multitask_small", "jamendo_pretrain",
    "mixtures_transfer",
)  # fmt: skip
HEARING_AUDIO = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in recipe_names()
    if name not in OWN_DATA
]
# Enough for what these clips hold; on the built-in sample the toys of published weights take 30.
EPOCHS = {"logmel_cnn": 4, "irmas_finetune": 6}


pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_dataset(tmp_path_factory.mktemp("data"), num_train=48, num_others=20)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Summaries of the runs that have been asked for."""
    return {"": {"folder": tmp_path_factory.mktemp("runs"), "data": data}}


def trained(name: str, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if name not in runs:
        epochs = min(EPOCHS.get(name, 10), load_recipe(name).epochs)
        recipe = load_recipe(name, [f"epochs={epochs}"], tiny=True)
        folder = runs[""]["folder"] / name
        runs[name] = train(recipe, read_manifest(runs[""]["data"]), output=folder)
    return runs[name]


@pytest.mark.parametrize("name", HEARING_AUDIO)
def test_a_recipe_in_its_tiny_form_beats_the_best_constant_predictor(
    name: str, runs: dict[str, dict[str, Any]]
) -> None:
    test = trained(name, runs)["test"]
    for figure in ("micro_f1", "macro_f1", "map"):
        assert test["model"][figure] > test["constant"][figure] + 0.01, figure


@pytest.mark.parametrize("name", HEARING_AUDIO)
def test_its_run_is_loaded_without_anything_else_and_says_the_same(name: str, runs: dict[str, dict[str, Any]]) -> None:
    output = Path(trained(name, runs)["output"])
    report = json.loads((output / "metrics.json").read_text())["splits"]["test"]
    again = evaluate(load_run(output, CPU), read_manifest(runs[""]["data"]), "test")
    assert {key: again[key] for key in report} == report


@pytest.mark.parametrize("name", ["irmas_finetune", "svm"])  # waveforms, features
def test_its_run_hears_files(name: str, runs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    run = load_run(Path(trained(name, runs)["output"]), CPU)
    rng, results = np.random.default_rng(3), {}
    for name in ("cello", "voice"):
        path = tmp_path / f"{name}.wav"
        path.write_bytes(signals.encoded(timbre(name, 1.0, rng), sample_rate=SAMPLE_RATE))
        results[name] = predict.predict_file(path, run)
    assert results["cello"]["probabilities"]["cello"] > results["voice"]["probabilities"]["cello"]
    assert results["voice"]["probabilities"]["voice"] > results["cello"]["probabilities"]["voice"]
    assert results["cello"]["chunks"][-1]["end_s"] == 1.0


def test_a_run_on_images_hears_a_file_as_its_network_does(runs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    run = load_run(Path(trained("lumen_convnext_fluffy", runs)["output"]), CPU)
    path = tmp_path / "flute.wav"
    path.write_bytes(signals.encoded(timbre("flute", 0.8, np.random.default_rng(3)), sample_rate=SAMPLE_RATE))
    waveform_BT = torch.from_numpy(load_mono(path, run.recipe))[None]
    with torch.inference_mode():
        expected = torch.sigmoid(run.tagger(run.tagger.featurize(waveform_BT)))[0].tolist()
    found = predict.predict_file(path, run)["probabilities"]
    assert [found[name] for name in run.data.instruments] == pytest.approx(
        expected, abs=1e-2
    )  # frames are 16-bit floats
    assert max(expected) - min(expected) > 0.05


def test_a_report_holds_the_figures_of_the_papers(runs: dict[str, dict[str, Any]]) -> None:
    output = Path(trained("svm", runs)["output"])
    report = json.loads((output / "metrics.json").read_text())["splits"]["test"]
    assert set(report["model"]) == {
        "micro_precision", "micro_recall", "micro_f1", "macro_precision", "macro_recall", "macro_f1",
        "macro_f1_harmonic", "lrap", "map", "roc_auc", "hamming_score", "predominant_accuracy", "loss",
    }  # fmt: skip
    assert report["model_at_half"]["micro_f1"] == report["model"]["micro_f1"]  # this recipe's threshold is .5
    assert [row["threshold"] for row in report["sweep"]][:3] == [0.0, 0.02, 0.04]
    assert len(report["sweep"]) == 41
    assert all(0.5 < row["roc_auc"] <= 1 for row in report["per_class"].values())


def test_intervals_over_songs_are_given_on_request(
    runs: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    output = trained("svm", runs)["output"]
    arguments = ["--run", output, "--data", str(runs[""]["data"]), "--split", "test", "--no-pictures", "--hot-copy=off"]
    assert main(arguments) == 0
    assert "intervals" not in json.loads(capsys.readouterr().out)
    assert main([*arguments, "--intervals", "--resamples", "50"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    interval = report["intervals"]["micro_f1"]
    assert interval["low"] <= interval["estimate"] <= interval["high"]
    assert interval["estimate"] == report["model"]["micro_f1"]
    assert interval["num_resamples"] == 50
    assert "95 % of resampled songs" in captured.err


def test_thresholds_may_be_fixed_on_strong_sums(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("irmas_finetune", ["epochs=1", "thresholds_on=strong_sum"], tiny=True)
    train(recipe, read_manifest(data), output=tmp_path / "run")
    tagger = load_run(tmp_path / "run", CPU).tagger
    clips = material_of(recipe, data).validation
    presence, probability = strong_sum(tagger, clips, recipe)
    assert presence.shape == probability.shape == (20, 4)
    assert (presence == 1).sum() > 1.5 * (clips.known_labels == 1).sum()  # far more plays than in single clips
    assert np.array_equal(strong_sum(tagger, clips, recipe)[1], probability)


def test_a_run_does_not_ask_for_published_weights_when_it_is_loaded(data: Path, tmp_path: Path) -> None:
    """A backbone from another run, as fine-tuning takes it; then that run is gone."""
    first = load_recipe("irmas_finetune", ["epochs=1"], tiny=True)
    train(first, read_manifest(data), output=tmp_path / "first")
    second = replace(first, model_config=replace(first.model_config, weights=str(tmp_path / "first")))
    train(second, read_manifest(data), output=tmp_path / "second")
    before = evaluate(load_run(tmp_path / "second", CPU), read_manifest(data), "test")
    (tmp_path / "first").rename(tmp_path / "gone")
    assert evaluate(load_run(tmp_path / "second", CPU), read_manifest(data), "test") == before
    with pytest.raises(UsageError, match="first"):  # training anew needs them
        train(second, read_manifest(data), output=tmp_path / "third")


def test_images_are_standardized_by_band_and_padded_with_black(data: Path) -> None:
    recipe = load_recipe("lumen_convnext", ["image.sizing=pad"], tiny=True)
    material = material_of(recipe, data)
    statistics = material.statistics
    assert statistics is not None
    tagger = build_tagger(recipe, 4, statistics)
    window = material.validation.windows(torch.tensor([0]), torch.tensor([0]), 80)
    image = tagger.prepare(window)
    assert image.shape == (1, 3, 64, 64)
    assert torch.equal(image[:, 0], image[:, 2])
    black = (recipe.image.fill - torch.tensor(statistics.mean)) / torch.tensor(statistics.std)
    assert image[0, 0, :, -1].mean() == pytest.approx(float(black.mean()), abs=0.05)  # 3 s of 20 at most


def test_waveforms_are_heard_at_full_scale_one_without_standardization(data: Path) -> None:
    recipe = load_recipe("irmas_finetune", tiny=True)
    material = material_of(recipe, data)
    statistics = material.statistics
    heard: list[torch.Tensor] = []

    class Listener(torch.nn.Module):
        def forward(self, waveform_BT: torch.Tensor) -> torch.Tensor:
            heard.append(waveform_BT)
            return waveform_BT[:, :4]

    tagger = Tagger(Listener(), statistics, kind="waveform")
    chunk_logits(tagger, material.validation, evaluation_chunking(recipe))
    window = torch.cat([part.flatten() for part in heard])
    clip = material.validation.values[: int(material.validation.lengths[0])]
    assert torch.equal(heard[0][0], clip[: heard[0].shape[1]].float() / 32768)
    assert 0.05 < window.abs().max() <= 1.0


def openmic_dataset(folder: Path, keys: Sequence[str], instruments: Sequence[str] = OPENMIC) -> Path:
    """Clips of which the embeddings tell the labels; a third of the labels unknown."""
    rng = np.random.default_rng(0)
    truth, mask = np.full((len(keys), 20), 0.5), np.zeros((len(keys), 20), bool)
    numbers = rng.integers(100, 156, (len(keys), 10, 128))
    examples, rows = [], []
    for row, key in enumerate(keys):
        split = "train" if row < 0.6 * len(keys) else "validation" if row < 0.8 * len(keys) else "test"
        presence = {}
        for column, name in enumerate(OPENMIC):
            if rng.uniform() < 1 / 3:
                continue
            present = bool(rng.uniform() < 0.5)
            truth[row, column], mask[row, column] = (0.75 if present else 0.25), True
            numbers[row, :, 6 * column : 6 * column + 6] += 60 if present else -60
            presence[name] = int(present)
            rows.append([key, name, truth[row, column], 3])
        samples = to_int16(signals.noise(0.1, sample_rate=SAMPLE_RATE)[0])
        examples.append(Example(f"openmic2018/{key}@0", split, samples, presence))
    folder.mkdir()
    np.savez(folder / "openmic-2018.npz", X=numbers, Y_true=truth, Y_mask=mask)
    with (folder / "openmic-2018-aggregated-labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["sample_key", "instrument", "relevance", "num_responses"], *rows])
    return write_dataset(folder / "data", examples, instruments)


def test_the_openmic_recipe_learns_from_embeddings_with_labels_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"{number:06d}_0" for number in range(100)]
    manifest = read_manifest(openmic_dataset(tmp_path / "openmic", keys))
    recipe = load_recipe("openmic_bilstm", [f"vggish={tmp_path / 'openmic'}"], tiny=True)
    summary = train(recipe, manifest, output=tmp_path / "run")
    for figure in ("micro_f1", "macro_f1", "map"):
        assert summary["test"]["model"][figure] > summary["test"]["constant"][figure] + 0.1, figure
    assert predict.main(["--run", str(tmp_path / "run"), "song.wav"]) == 2
    error = capsys.readouterr().err
    assert "its model hears the VGGish embeddings that OpenMIC ships" in error  # why
    assert "train a recipe that hears audio, such as logmel_cnn" in error  # what to do


def test_the_openmic_recipe_says_what_it_needs(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("openmic_bilstm", tiny=True)
    with pytest.raises(UsageError, match=r"hears VGGish embeddings; --set vggish=FOLDER"):
        train(recipe, read_manifest(data), output=tmp_path / "run")
    with pytest.raises(UsageError, match=r"fixture/train/000@0: no clip of OpenMIC"):
        train(replace(recipe, vggish="somewhere"), read_manifest(data), output=tmp_path / "run")


def test_published_weights_of_other_sizes_than_the_config_says_are_refused(tmp_path: Path) -> None:
    from tutti.train.tagger import _check_sizes

    recipe = load_recipe("irmas_finetune", tiny=True)
    small, large = (
        build_tagger(replace(recipe, model_config=replace(recipe.model_config, width=width)), 4, None).network
        for width in (4, 8)
    )
    with pytest.raises(UsageError, match="have other sizes than model_config says"):
        _check_sizes(large, small, recipe)
    _check_sizes(small, small, recipe)


def test_a_run_of_an_older_schema_is_refused(runs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    output = Path(trained("svm", runs)["output"])
    for name in ("config.json", "metrics.json", "model.safetensors"):
        (tmp_path / name).write_bytes((output / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"schema_version": 1}))
    with pytest.raises(IntegrityError, match="schema version 1, this code reads 2"):
        load_run(tmp_path, CPU)
