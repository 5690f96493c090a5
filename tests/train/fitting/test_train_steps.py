"""Training on augmented waveforms: the same whatever happens in between, and the switches of optimization."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from dataset_fixture import learnable_dataset
from materials import material_of
from safetensors.torch import load_file
from torch import Tensor

from tutti.datasets.errors import TuttiError, UsageError
from tutti.datasets.manifest import read_manifest
from tutti.train import run as train_run
from tutti.train.fitting.checkpoints import load_checkpoint
from tutti.train.fitting.loop import examples, groups_of
from tutti.train.fitting.optimize import freeze
from tutti.train.front_end import clips_to_learn_from, share_of_songs
from tutti.train.recipe import load_recipe
from tutti.train.runs.saved import load_run
from tutti.train.tagger import build_tagger

CPU = torch.device("cpu")
FILES = ("model.safetensors", "config.json", "metrics.json", "checkpoint.safetensors")

SMALL = ["epochs=3", "batch_size=8", "window_s=0.8", "features.n_mels=32", "model_config.width=4"]
# Everything that has a state of its own: dropout, mixing, masks, the average, the backbone's unfreezing, momentum.
RICH = [
    *SMALL, "augment=lumen_best frequency_mask(max_bins=4)@0.5", "ema_decay=0.8", "head_epochs=1", "optimizer=sgd",
    "learning_rate=0.05",
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable_dataset(tmp_path_factory.mktemp("data"), num_train=32, num_others=12)


def train(data: Path, output: Path, *overrides: str, **how: Any) -> dict[str, Any]:
    recipe = load_recipe("logmel_cnn", overrides)
    return train_run.train(recipe, read_manifest(data), output=output, **how)


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    torch.set_num_threads(1)
    train(data, folder, *RICH)
    return folder


@pytest.mark.parametrize("stop_after", [1, 3, 6, 10])  # of 12 steps, 4 an epoch
def test_a_run_killed_at_any_step_and_resumed_equals_the_uninterrupted_one(
    stop_after: int, uninterrupted: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint = train_run.checkpoints.save_checkpoint
    written = []

    def stop(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        written.append(arguments[-1])
        if len(written) == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_run.checkpoints, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "stopped", *RICH, checkpoint_steps=1)
    monkeypatch.undo()
    torch.rand(7)  # whatever else draws random numbers
    train(data, tmp_path / "stopped", *RICH)
    for name in FILES:
        assert (tmp_path / "stopped" / name).read_bytes() == (uninterrupted / name).read_bytes(), name


def test_a_checkpoint_within_an_epoch_tells_how_far_it_went(data: Path, tmp_path: Path) -> None:
    stopped: list[int] = []

    def note(*arguments: Any) -> None:
        stopped.append(len(arguments[-1].step_losses))

    original = train_run.checkpoints.save_checkpoint
    train_run.checkpoints.save_checkpoint = note  # type: ignore[assignment]
    try:
        train(data, tmp_path / "run", *SMALL, "epochs=1", checkpoint_steps=2)
    finally:
        train_run.checkpoints.save_checkpoint = original
    assert stopped == [2, 0]  # after two of four steps, and after the epoch


def test_augmentation_and_seed_decide_the_weights(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "plain", *RICH, "augment=")
    train(data, tmp_path / "seeded", *RICH, "seed=1")
    weights = (uninterrupted / "model.safetensors").read_bytes()
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() != weights
    assert (tmp_path / "seeded" / "model.safetensors").read_bytes() != weights


def test_windows_of_an_epoch_are_a_function_of_seed_and_epoch_and_cover_what_they_say(data: Path) -> None:
    recipe = load_recipe("irmas_finetune", ["window_s=0.5", "batch_size=5"])
    material = material_of(recipe, data)
    statistics = material.statistics
    assert statistics is None  # waveforms are not standardized
    clips = clips_to_learn_from(material.train, recipe)
    first, again, later = (examples(material.train, clips, recipe, epoch) for epoch in (3, 3, 4))
    assert np.array_equal(first.clips, again.clips)
    assert np.array_equal(first.first, again.first)
    assert not np.array_equal(first.clips, later.clips)
    lengths = material.train.lengths.numpy()
    assert len(first.clips) == sum(-(-lengths[clip] // 8000) for clip in clips)  # every half second of every clip
    assert set(first.first.tolist()) <= {0, 8000, 16000, 24000, 32000}
    sizes = {len(first.clips[first.step(step)]) for step in range(first.num_steps)}
    assert max(sizes) <= 5
    assert max(sizes) - min(sizes) <= 1
    random = examples(material.train, clips, replace(recipe, windows="random"), 3)
    assert sorted(random.clips) == sorted(clips)
    assert random.first.any()
    assert not examples(material.train, clips, replace(recipe, windows="first"), 3).first.any()


def test_windows_beyond_the_end_repeat_the_clip_or_are_silent(data: Path) -> None:
    recipe = load_recipe("irmas_finetune")
    train_clips = material_of(recipe, data).train
    clip = torch.tensor([0])
    length = int(train_clips.lengths[0])
    once = train_clips.windows(clip, torch.tensor([0]), length)[0]
    assert once.abs().max() <= 1.5
    repeated = train_clips.windows(clip, torch.tensor([0]), length + 100)[0]
    assert torch.equal(repeated[length:], once[:100])
    silent = train_clips.windows(clip, torch.tensor([0]), length + 100, "zero")[0]
    assert torch.equal(silent[:length], once)
    assert not silent[length:].any()


def state_after(data: Path, folder: Path, *overrides: str) -> dict[str, Tensor]:
    train(data, folder, *SMALL, *overrides)
    return load_file(folder / "checkpoint.safetensors")


def test_a_frozen_backbone_moves_after_its_epochs_and_its_batch_norms_always(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("logmel_cnn", [*SMALL, "epochs=1", "head_epochs=1", "select_by=last"])
    train_run.seed_weights(0)
    statistics = material_of(recipe, data).statistics
    before = build_tagger(recipe, 4, statistics).network.state_dict()
    after = state_after(data, tmp_path / "frozen", "epochs=1", "head_epochs=1")
    assert torch.equal(after["model.blocks.0.0.weight"], before["blocks.0.0.weight"])
    assert not torch.equal(after["model.blocks.0.1.weight"], before["blocks.0.1.weight"])
    assert not torch.equal(after["model.head.weight"], before["head.weight"])
    later = state_after(data, tmp_path / "unfrozen", "epochs=2", "head_epochs=1", "unfreeze=blocks.4.")
    assert torch.equal(later["model.blocks.0.0.weight"], before["blocks.0.0.weight"])  # never trained
    assert not torch.equal(later["model.blocks.4.0.weight"], before["blocks.4.0.weight"])


def test_the_moving_average_is_what_is_kept(data: Path, tmp_path: Path) -> None:
    state = state_after(data, tmp_path / "ema", "ema_decay=0.9", "select_by=last")
    kept = load_file(tmp_path / "ema" / "model.safetensors")
    assert torch.equal(kept["head.weight"], state["average.head.weight"])
    assert not torch.equal(kept["head.weight"], state["model.head.weight"])


def test_gradients_are_clipped_to_the_recipes_norm(data: Path, tmp_path: Path) -> None:
    loose = state_after(data, tmp_path / "a", "epochs=1", "optimizer=sgd")
    tight = state_after(data, tmp_path / "b", "epochs=1", "optimizer=sgd", "max_gradient_norm=1e-6", "weight_decay=0")
    train_run.seed_weights(0)
    recipe = load_recipe("logmel_cnn", SMALL)
    statistics = material_of(recipe, data).statistics
    start = build_tagger(recipe, 4, statistics).network.state_dict()["head.weight"]
    assert (tight["model.head.weight"] - start).norm() < 1e-6
    assert (loose["model.head.weight"] - start).norm() > 1e-3


@pytest.mark.parametrize("switch", ["precision=bf16", "channels_last=on"])
def test_a_switch_for_speed_learns_nearly_the_same(switch: str, data: Path, tmp_path: Path) -> None:
    plain = train(data, tmp_path / "plain", *SMALL, "epochs=1", "select_by=last")
    switched = train(data, tmp_path / "switched", *SMALL, "epochs=1", "select_by=last", switch)
    losses = [
        json.loads((Path(summary["output"]) / "metrics.json").read_text())["history"][0]["train_loss"]
        for summary in (plain, switched)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert load_run(tmp_path / "switched", CPU).recipe.compute != load_run(tmp_path / "plain", CPU).recipe.compute


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(data: Path, tmp_path: Path) -> None:
    small = ("epochs=1", "model_config.dropout=0", "model_config.num_blocks=2")  # a compiled dropout draws other masks
    plain = state_after(data, tmp_path / "plain", *small)
    compiled = state_after(data, tmp_path / "compiled", *small, "compile=on")
    assert plain.keys() == compiled.keys()
    assert torch.allclose(compiled["model.head.weight"], plain["model.head.weight"], atol=1e-3)


@pytest.mark.parametrize(
    "overrides", [["loss.kind=focal"], ["loss.family_weight=0.8"], ["families=lumen", "loss.family_weight=0.3"]]
)
def test_another_loss_learns_something_else(overrides: list[str], data: Path, tmp_path: Path) -> None:
    plain = state_after(data, tmp_path / "plain", "epochs=1")
    other = state_after(data, tmp_path / "other", "epochs=1", *overrides)
    assert not torch.equal(plain["model.head.weight"], other["model.head.weight"])


def test_heads_of_a_fluffy_that_were_frozen_stay_frozen() -> None:
    recipe = load_recipe("lumen_convnext_fluffy", tiny=True)
    network = build_tagger(recipe, 3, None).network
    network.head.freeze_heads([1])  # type: ignore[union-attr,operator]
    freeze(network, groups_of(network, recipe), backbone_frozen=False)
    frozen = {name.split(".")[2] for name, weight in network.named_parameters() if not weight.requires_grad}
    assert frozen == {"1"}


def test_a_share_of_the_songs_grows_by_adding_songs() -> None:
    clips = np.arange(20)
    groups = tuple(f"song {index // 2}" for index in range(20))
    tenth, half, whole = (share_of_songs(clips, groups, share, seed=3) for share in (0.1, 0.5, 1.0))
    assert (len(tenth), len(half), len(whole)) == (2, 10, 20)
    assert set(tenth) < set(half)
    assert len({groups[clip] for clip in half}) == 5


def test_a_model_that_is_fitted_at_once_refuses_augmentation(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("svm", ["augment=time_shift"], tiny=True)
    with pytest.raises(TuttiError, match=r"multilabel_svm is fitted at once, on clips as they are; set augment="):
        train_run.train(recipe, read_manifest(data), output=tmp_path / "svm")


def test_several_seeds_give_mean_and_deviation_in_one_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [part for override in (*SMALL, "epochs=1") for part in ("--set", override)]
    arguments = ["--data", str(data), "--recipe", "logmel_cnn", "--seeds", "2", "--output", str(tmp_path), *overrides]
    assert train_run.main(arguments) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out.splitlines()[-1])
    values = [run["test"]["model"]["map"] for run in summary["runs"]]
    assert summary["test"]["map"]["mean"] == pytest.approx(sum(values) / 2, abs=1e-6)
    assert summary["test"]["map"]["deviation"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=2e-6)
    assert values[0] != values[1]
    assert "test over 2 seeds: " in captured.err
    assert (tmp_path / "seed-0" / "metrics.json").is_file()
    assert (tmp_path / "seed-1" / "metrics.json").is_file()


def test_seeds_and_seed_together_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_run.main(["--data", str(data), "--recipe", "logmel_cnn", "--seeds", "2", "--seed", "1"]) == 2
    assert "--seeds N trains seeds 0 to N - 1" in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_refused(data: Path, uninterrupted: Path) -> None:
    recipe = load_recipe("logmel_cnn", [*SMALL, "model_config.width=8"])
    statistics = material_of(recipe, data).statistics
    with pytest.raises(TuttiError, match="does not fit the recipe's model"):
        load_checkpoint(uninterrupted, build_tagger(recipe, 4, statistics).network, None)


# Layer norms and no dropout: what two processes see apart, one sees together.
SHARED = ["epochs=2", "window_s=0.8", "batch_size=8", "select_by=last"]


def torchrun(num_processes: int, data: Path, output: Path) -> dict[str, Any]:
    flags = [part for override in SHARED for part in ("--set", override)]
    result = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}",
            "-m", "train.run", "--data", str(data), "--recipe", "lumen_convnext_fluffy", "--tiny",
            "--output", str(output), *flags,
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1  # one process speaks
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(data: Path, tmp_path: Path) -> None:
    alone = load_recipe("lumen_convnext_fluffy", SHARED, tiny=True)
    train_run.train(alone, read_manifest(data), output=tmp_path / "one")
    torchrun(2, data, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(two[name], value, atol=2e-3) for name, value in one.items())
    losses = [
        [row["train_loss"] for row in json.loads((tmp_path / name / "metrics.json").read_text())["history"]]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_more_processes_than_examples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from tutti.train.fitting import distributed

    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(UsageError, match="4 processes share batches of 3"):
        distributed.own_rows(3)
