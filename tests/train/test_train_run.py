"""Training end to end on a tiny dataset version: what is written, and that it is always the same."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from dataset_fixture import INSTRUMENTS, Example, learnable_dataset, mixture, write_dataset
from safetensors.torch import load_file

from tutti.datasets.errors import IntegrityError, TuttiError, UsageError
from tutti.datasets.manifest import read_manifest
from tutti.train import run as train_run
from tutti.train.evaluate import evaluate
from tutti.train.recipe import load_recipe
from tutti.train.runs.saved import load_run

CPU = torch.device("cpu")

TINY = ["epochs=4", "batch_size=8", "window_s=0.8", "learning_rate=5e-3", "features.n_mels=32", "model_config.width=8"]


pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_dataset(tmp_path_factory.mktemp("data"))


def train(data: Path, output: Path, *overrides: str) -> dict[str, Any]:
    recipe = load_recipe("logmel_cnn", [*TINY, *overrides])
    return train_run.train(recipe, read_manifest(data), output=output)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    torch.set_num_threads(1)  # as the tests that compare with it
    train(data, folder)
    return folder


def test_the_model_beats_the_best_constant_predictor(finished: Path) -> None:
    test = json.loads((finished / "metrics.json").read_text())["splits"]["test"]
    for figure in ("macro_f1", "micro_f1", "map", "lrap", "hamming_score"):
        assert test["model"][figure] > test["constant"][figure] + 0.1, figure


def test_a_run_folder_holds_all_that_its_description_names(finished: Path, data: Path) -> None:
    manifest = read_manifest(data)
    config = json.loads((finished / "config.json").read_text())
    metrics = json.loads((finished / "metrics.json").read_text())
    assert sorted(path.name for path in finished.iterdir()) == [
        ".lock",
        "checkpoint.safetensors",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "tensorboard",
    ]
    assert config["data"] == {
        "dataset": "fixture",
        "version": manifest.version,
        "root_digest": manifest.root_digest,
    }
    assert config["instruments"] == ["cello", "flute", "piano", "voice"]
    assert config["sample_rate"] == 16_000
    assert config["recipe"]["epochs"] == 4
    assert len(config["standardization"]["mean_db"]) == 32
    assert len(set(config["thresholds"].values())) == 1  # one for all classes
    assert [row["epoch"] for row in metrics["history"]] == [1, 2, 3, 4]
    assert metrics["best_epoch"] in (1, 2, 3, 4)
    assert sorted(metrics["splits"]) == ["test", "validation"]
    assert list((finished / "tensorboard").glob("events.out.tfevents.*"))
    weights = load_file(finished / "model.safetensors")
    assert weights["head.weight"].shape == (4, 128)


def test_the_same_seed_twice_gives_the_same_bytes(finished: Path, data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "again")
    for name in ("model.safetensors", "config.json", "metrics.json", "checkpoint.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes(), name


def test_another_seed_gives_other_weights(finished: Path, data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "other", "seed=1")
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (finished / "model.safetensors").read_bytes()


def test_a_run_stopped_after_an_epoch_and_resumed_equals_the_uninterrupted_one(
    finished: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint = train_run.checkpoints.save_checkpoint

    def stop_after_second_epoch(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        if arguments[-1].finished_epochs == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "stopped"
    monkeypatch.setattr(train_run.checkpoints, "save_checkpoint", stop_after_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(data, folder)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "checkpoint.safetensors", "tensorboard"]
    with pytest.raises(UsageError, match="no finished run here"):
        load_run(folder, CPU)

    monkeypatch.undo()
    summary = train(data, folder)
    assert summary["epochs"] == 4
    for name in ("model.safetensors", "config.json", "metrics.json", "checkpoint.safetensors"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def test_evaluating_the_run_gives_the_figures_of_its_own_report(finished: Path, data: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    result = evaluate(load_run(finished, CPU), read_manifest(data), "test")
    assert {name: result[name] for name in metrics["splits"]["test"]} == metrics["splits"]["test"]


def test_evaluating_on_other_classes_is_refused(finished: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    other = write_dataset(tmp_path, [mixture("test", 0, rng)], instruments=("banjo", "cello"))
    with pytest.raises(UsageError, match=r"classes banjo, cello; the run was trained for cello, flute"):
        evaluate(load_run(finished, CPU), read_manifest(other), "test")


def test_weights_that_were_touched_are_refused(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "touched"
    shutil.copytree(finished, folder)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"not the weights that config\.json names"):
        load_run(folder, CPU)


def test_a_damaged_checkpoint_is_refused(finished: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    (folder / "metrics.json").unlink()  # it was stopped before its end
    (folder / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(IntegrityError, match="not a checkpoint"):
        train(data, folder)


def relabelled(example: Example, presence: dict[str, int]) -> Example:
    return Example(example.id, example.split, example.samples, presence)


def test_clips_and_classes_of_which_nothing_is_known_change_nothing(tmp_path: Path) -> None:
    """Piano is known nowhere; a third of the clips know nothing at all."""
    rng = np.random.default_rng(0)
    clips = [mixture(split, number, rng, duration_s=0.8) for split in ("train", "validation") for number in range(9)]
    unknown = [
        relabelled(clip, {} if index % 3 == 2 else {k: v for k, v in clip.presence.items() if k != "piano"})
        for index, clip in enumerate(clips)
    ]
    summary = train(write_dataset(tmp_path / "data", unknown), tmp_path / "run", "epochs=1")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert sorted(metrics["splits"]) == ["validation"]  # no test split, no report of it
    piano = metrics["splits"]["validation"]["per_class"]["piano"]
    assert (piano["known"], piano["support"], piano["f1"], piano["average_precision"]) == (0, 0, None, None)
    assert 0 <= summary["validation"]["model"]["macro_f1"] <= 1
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert all(bool(torch.isfinite(tensor.float()).all()) for tensor in weights.values())


def test_validation_without_a_known_label_keeps_the_last_epoch_and_threshold_one_half(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [mixture("train", number, rng, duration_s=0.8) for number in range(8)]
    clips += [relabelled(mixture("validation", 0, rng, duration_s=0.8), {})]
    summary = train(write_dataset(tmp_path / "data", clips), tmp_path / "run", "epochs=2")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert summary["best_epoch"] == 2
    assert set(config["thresholds"].values()) == {0.5}
    assert summary["validation"]["model"]["macro_f1"] is None


def test_a_train_split_without_a_known_label_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [relabelled(mixture(split, 0, rng, duration_s=0.8), {}) for split in ("train", "validation")]
    with pytest.raises(UsageError, match="no clip of split 'train' has a known label"):
        train(write_dataset(tmp_path / "data", clips), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_classes_that_are_never_absent_are_warned_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    clips = [mixture(split, number, rng, duration_s=0.8) for split in ("train", "validation") for number in range(6)]
    clips = [relabelled(clip, {k: v for k, v in clip.presence.items() if v or k == "voice"}) for clip in clips]
    train(write_dataset(tmp_path / "data", clips), tmp_path / "run", "epochs=1")
    assert "warning: cello, flute, piano: never known to be absent in split 'train'" in capsys.readouterr().err


def test_a_recipe_whose_sizes_do_not_fit_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    for override, message in (
        ("features.n_mels=16", "at least 32 mel bands"),
        ("features.n_mels=300", "no FFT bin"),
        ("window_s=0.1", "cannot take windows of 7 frames"),
    ):
        with pytest.raises(UsageError, match=message):
            train(data, tmp_path / "run", override)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_explodes_ends_the_run_with_the_remedy(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TuttiError, match="epoch 1: the loss is not finite; try --set learning_rate="):
        train(data, tmp_path / "run", "learning_rate=1e30", "max_gradient_norm=1e30", "weight_decay=0.9")


def command(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_commands_train_and_evaluate(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = [part for override in (*TINY, "epochs=1") for part in ("--set", override)]
    trained = command("train.run", "--data", data, "--recipe", "logmel-cnn", "--output", run, "--seed", "3", *overrides)
    assert trained.returncode == 0, trained.stderr
    summary = json.loads(trained.stdout.splitlines()[-1])
    assert summary["output"] == str(run)
    assert summary["test"]["model"].keys() == summary["test"]["constant"].keys()
    assert "epoch 1/1" in trained.stderr
    assert json.loads((run / "config.json").read_text())["recipe"]["seed"] == 3

    evaluated = command("train.evaluate", "--run", run, "--data", data, "--split", "test")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["model"]["map"] == summary["test"]["model"]["map"]
    assert "best constant" in evaluated.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "logmel_cn", "--data", "."], "unknown recipe 'logmel_cn' (did you mean 'logmel_cnn'?)"),
        (["--recipe", "logmel_cnn", "--data", "."], "no dataset here"),
        (["--recipe", "logmel_cnn", "--dat", "."], "unknown flag --dat (did you mean '--data'?)"),
        (["--recipe", "logmel_cnn"], "the following arguments are required: --data"),
        (["--recipe", "logmel_cnn", "--data", ".", "--seed", "-1"], "seed must be at least 0"),
    ],
)
def test_a_wrong_argument_exits_2_with_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_run.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_damaged_data_exit_3(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    (broken / "data" / "train-00000-of-00004.parquet").write_bytes(b"PAR1")
    arguments = ["--recipe", "logmel_cnn", "--data", str(broken), "--output", str(tmp_path / "run")]
    assert train_run.main(arguments) == 3
    assert "train-00000-of-00004.parquet" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_output_the_folder_is_named_after_recipe_and_data(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("logmel_cnn", [*TINY, "epochs=1"])
    first = train_run.train(recipe, read_manifest(data), output=None)["output"]
    assert first.startswith("runs/logmel_cnn-")
    assert train_run.train(recipe, read_manifest(data), output=None)["output"] == first
    assert len(INSTRUMENTS) == len(json.loads((tmp_path / first / "config.json").read_text())["thresholds"])


def test_training_without_torchaudio_is_one_line_that_names_it(data: Path, tmp_path: Path) -> None:
    missing = tmp_path / "packages" / "torchaudio"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'torchaudio'\")\n")
    command = [sys.executable, "-m", "train.run", "--recipe", "logmel_cnn", "--tiny", "--data", str(data)]

    result = subprocess.run(
        [*command, "--output", str(tmp_path / "run")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(missing.parent)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert (result.returncode, result.stderr) == (
        1, "error: No module named 'torchaudio'; install what is missing with `make setup`, then run it again\n",
    )  # fmt: skip
    assert not (tmp_path / "run" / "config.json").exists()
